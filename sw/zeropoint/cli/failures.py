"""What goes wrong, as one line on stderr and an exit status."""

import os
import sys
import traceback
from collections.abc import Callable
from enum import IntEnum

import click

from zeropoint.errors import ZeropointError

#: The environment variable that asks for tracebacks.
DEBUG = "ZEROPOINT_DEBUG"


class Status(IntEnum):
    """Exit statuses."""

    DONE = 0
    #: The hardware and the golden model differ.
    DIFFERENT = 1
    #: Bad usage, bad input, or a file that cannot be read or written.
    BAD_INPUT = 2
    #: A defect of Zeropoint (EX_SOFTWARE of sysexits.h).
    DEFECT = 70
    #: As a shell reports a program that SIGINT ended.
    INTERRUPTED = 130
    #: As a shell reports a program that SIGPIPE ended.
    NO_READER = 141


def exit_status(run: Callable[[], object]) -> int:
    """Call ``run`` and return the exit status.

    What it raises becomes a line on stderr, and with ``ZEROPOINT_DEBUG`` set a traceback before that.
    """
    try:
        run()
        # What cannot be written shows at the latest when the stream is flushed, which Python does too late.
        sys.stdout.flush()
        return Status.DONE
    except click.exceptions.Exit as end:
        return end.exit_code
    except (KeyboardInterrupt, EOFError, click.Abort):
        return Status.INTERRUPTED
    except BrokenPipeError:
        _abandon_stdout()
        return Status.NO_READER
    except Exception as error:
        if os.environ.get(DEBUG):
            traceback.print_exc()
        status, line = _explain(error)
        print(one_line(f"zeropoint: {line}"), file=sys.stderr)
        if isinstance(error, OSError) or isinstance(error.__cause__, OSError):
            _abandon_stdout()
        return status


def one_line(text: str) -> str:
    """Return ``text`` on one line, without anything that could control a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))


def _explain(error: Exception) -> tuple[Status, str]:
    """Return the exit status for an exception, and what to say."""
    match error:
        case ZeropointError():
            return Status.BAD_INPUT, f"error: {error}"
        case click.ClickException():
            return Status.BAD_INPUT, f"error: {_usage(error)}"
        case MemoryError():
            return Status.BAD_INPUT, "error: there is not enough memory; use a smaller network or fewer inputs"
        case OSError():
            where = f"'{os.fsdecode(error.filename)}'" if isinstance(error.filename, str | bytes) else "a stream"
            return Status.BAD_INPUT, f"error: cannot read or write {where}: {error.strerror or error}"
    kind = type(error).__name__
    hint = f"set {DEBUG}=1 to see where, and report it"
    return Status.DEFECT, f"internal error: {kind}: {error}; this is a defect of Zeropoint: {hint}"


def _usage(error: click.ClickException) -> str:
    """Return click's message, with where to find help."""
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    if context is None:
        return message
    return f"{message}{' See' if message.endswith('?') else '; see'} {context.command_path} --help"


def _abandon_stdout() -> None:
    """Let what is still buffered for stdout go nowhere, instead of failing again when Python ends."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # Stdout is no file, as in tests.
        return
