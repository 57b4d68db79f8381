"""Running the command line in tests: within this process, or as a process of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner

from zeropoint.cli.group import zeropoint


@dataclass(frozen=True)
class Outcome:
    """What a command gave back."""

    status: int
    stdout: str
    stderr: str

    def error(self) -> str:
        """Return the message of a command that refused its input: one line, status 2, and nothing on stdout."""
        assert self.status == 2, (self.status, self.stdout, self.stderr)
        lines = self.stderr.splitlines()
        assert len(lines) == 1, self.stderr
        assert lines[0].startswith("zeropoint: error: ")
        assert "Traceback" not in self.stderr
        assert self.stdout == ""
        return lines[0]

    def done(self) -> "Outcome":
        """Return this, if the command says that all went well."""
        assert self.status == 0, (self.status, self.stdout, self.stderr)
        return self


def zeropoint_command(*arguments: object) -> Outcome:
    """Run ``zeropoint`` with these arguments in this process."""
    result = CliRunner().invoke(zeropoint, [str(argument) for argument in arguments])
    return Outcome(result.exit_code, result.stdout, result.stderr)


def process(
    *arguments: object, environment: Mapping[str, str] | None = None, folder: Path | None = None, before: str = ""
) -> Outcome:
    """Run ``zeropoint`` with these arguments in a process of its own, in which ``before`` is executed first."""
    script = f"{before}\nfrom zeropoint.cli import main\nmain()\n"
    result = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, **(environment or {})},
    )
    return Outcome(result.returncode, result.stdout, result.stderr)
