"""Tables on stdout; notes and progress on stderr."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from zeropoint.cli.failures import one_line
from zeropoint.errors import ZeropointError

#: Seconds that something takes before it shows its progress.
PATIENCE = 1.0

#: The width of a table that goes to a file or a pipe.
_FILE_WIDTH = 160


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise  # noqa: PLE0704  rich calls this while it handles the error, and would exit with status 1.


def _console(stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _FILE_WIDTH
    return _Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def note(text: str) -> None:
    """Say something on stderr that is no result."""
    print(one_line(text), file=sys.stderr)


def say(text: str) -> None:
    """Print a line of the result.

    Raises
    ------
    ZeropointError
        If stdout cannot be written, but BrokenPipeError if nobody reads it; likewise below.
    """
    with _stdout() as stream:
        print(one_line(text), file=stream)


@contextmanager
def _stdout() -> Iterator[TextIO]:
    try:
        yield sys.stdout
        # Python flushes a full disk's stream too late to say so in one line.
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ZeropointError(f"cannot write the standard output: {error.strerror or error}") from error


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], total: Sequence[object] = ()) -> None:
    """Print a table.

    Parameters
    ----------
    title
        Above it.
    columns
        The headings. Columns of numbers are aligned to the right.
    rows
        Values as they are to be shown: integers get separators, floats two decimals, None is a dash.
    total
        A last row, below a line.
    """
    body = [list(row) for row in rows]
    made = Table()
    for index, heading in enumerate(columns):
        numbers = all(isinstance(row[index], int | float | None) for row in body)
        made.add_column(Text(heading), justify="right" if numbers else "left", overflow="fold")
    for row in body:
        made.add_row(*(Text(_cell(value)) for value in row))
    if total:
        made.add_section()
        made.add_row(*(Text(_cell(value)) for value in total))
    with _stdout():
        console = _console(stderr=False)
        # As a title of rich's table it would be wrapped to the table's width.
        console.print(Text(title, style="bold"), soft_wrap=True)
        console.print(made)


def _cell(value: object) -> str:
    match value:
        case None:
            return "–"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.2f}"
    return one_line(str(value))


def percent(part: float) -> str:
    """Return a share of 1 in percent."""
    return f"{100 * part:.1f} %"


@contextmanager
def progress(what: str, total: float = 1.0) -> Iterator[Callable[[float], None]]:
    """Yield a function to be called with how much of ``total`` is done.

    A bar appears on stderr if that is a terminal and what is under way takes more than a second.
    """
    console = _console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    task: Any = bar.add_task(one_line(what), total=total)
    began = time.monotonic()

    def update(done: float) -> None:
        bar.update(task, completed=done)
        if console.is_terminal and not bar.live.is_started and time.monotonic() - began > PATIENCE:
            bar.start()

    try:
        yield update
    finally:
        if bar.live.is_started:
            bar.stop()
