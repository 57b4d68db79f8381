"""The command line: each command parses its options, calls the library and prints.

Modules:

- ``group``: the commands' names; their modules are imported when they are asked for.
- ``failures``: what goes wrong, as one line and an exit status.
- ``options``: arguments and options that several commands have.
- ``terminal``: tables, notes and progress bars.
- ``demo``, ``quantize``, ``info``, ``export``, ``golden``, ``compile``, ``simulate``, ``run``, ``verilog``,
  ``doctor``: a command each; ``simulation`` is what ``demo`` and ``simulate`` share.
"""

import signal
import sys
from io import TextIOWrapper
from typing import NoReturn

from zeropoint.cli.group import zeropoint


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):
        # A sign that is not in the terminal's encoding is no reason to fail.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    zeropoint()


def _terminate(number: int, frame: object) -> NoReturn:
    """End as a shell reports it, after what is half written has been removed."""
    sys.exit(128 + number)
