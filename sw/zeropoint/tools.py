"""Other programs: how they are run, and what is said when they fail or are not there."""

import itertools
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from importlib import util
from pathlib import Path

from zeropoint.errors import ZeropointError

#: Bytes of the stack that a YoWASP tool gets, the most that wasmtime allows, and not its default of a quarter: Yosys
#: sorts cells by functions that call themselves as often as there are cells behind each other. The thread that it runs
#: in needs some more.
_STACK, _THREAD_STACK = 2 << 20, 16 << 20

#: Lines of a failed program's output that its error quotes, where none of them says what is wrong.
_QUOTED = 5


def yowasp(tool: str, needed_for: str, extra: str, advice: str = "") -> list[str]:
    """Return the command that runs a YoWASP tool in this Python; arguments are to be added to it.

    These tools do not see /tmp: they are to be given relative names in the folder that they run in.

    Parameters
    ----------
    tool
        The name that its package and its function share, such as ``yosys`` or ``nextpnr-ecp5``.
    needed_for, extra, advice
        What needs the tool, the extra of Zeropoint that installs it, and what else can be done, for the error.

    Raises
    ------
    ZeropointError
        If the tool is not installed.
    """
    package = f"yowasp_{tool.replace('-', '_')}"
    if util.find_spec(package) is None:
        raise ZeropointError(
            f"{needed_for} needs the package yowasp-{tool}; run pip install 'zeropoint[{extra}]'{advice}"
        )
    run = f"""
import sys, threading, wasmtime, {package}
class Config(wasmtime.Config):
    def __init__(self):
        super().__init__()
        self.max_wasm_stack = {_STACK}
wasmtime.Config = Config
threading.stack_size({_THREAD_STACK})
sys.exit({package}.run_{tool.replace("-", "_")}(sys.argv[1:]))
"""
    return [sys.executable, "-c", run]


class TookTooLong(ZeropointError):
    """A command did not end in the time that it was given."""


class Stopped(ZeropointError):
    """A command was ended before its time."""


#: Seconds between looks at whether a command is to be stopped.
_GLANCES = 0.2


def run(
    command: Sequence[str], folder: Path, what: str, limit: float | None = None, stop: threading.Event | None = None
) -> None:
    """Run a command in a folder, without input, and wait for its end; it ends with all its processes if this does.

    Parameters
    ----------
    command, folder
        The command, and the folder that it runs in.
    what
        What it does, for errors.
    limit
        Seconds that it may take.
    stop
        Ends it when it is set: exceptions such as KeyboardInterrupt reach no thread but the first one.

    Raises
    ------
    Stopped
        If ``stop`` was set.
    ZeropointError
        If its exit status is not 0: ``what`` failed, with that status, and which error it printed.
    TookTooLong
        If it takes more than ``limit`` seconds.
    """
    child = subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,
    )
    try:
        output = _output(child, limit, stop)
    except BaseException as error:
        # A compiler has processes of its own, which would go on for minutes.
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise TookTooLong(f"{what} did not end within {limit:g} seconds") from None
        raise
    if child.returncode:
        lines = output.decode(errors="replace").strip().splitlines()
        # A program of Python that runs another one adds to what that says where it was itself.
        before = list(itertools.takewhile(lambda line: not line.startswith("Traceback (most recent"), lines))
        said = [line for line in lines if line.startswith("ERROR: ")] or (before or lines)[-_QUOTED:]
        raise ZeropointError(f"{what} failed with status {child.returncode}: {' | '.join(said)}")


def _output(child: "subprocess.Popen[bytes]", limit: float | None, stop: threading.Event | None) -> bytes:
    """Return what a process prints until its end, or raise TimeoutExpired or Stopped."""
    if stop is None:
        return child.communicate(timeout=limit)[0]
    last = math.inf if limit is None else time.monotonic() + limit
    while not stop.is_set():
        try:
            return child.communicate(timeout=min(_GLANCES, max(0.0, last - time.monotonic())))[0]
        except subprocess.TimeoutExpired:
            if time.monotonic() >= last:
                raise
    raise Stopped("it was stopped")
