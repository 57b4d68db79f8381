"""The one error that reaches a user as a single line."""

from collections.abc import Iterable


class ZeropointError(Exception):
    """Bad input or bad usage: the message names the file, the tensor or operator, what was expected, what to do.

    The command line prints the message on one line and exits with status 2. Library callers catch it like any
    other exception. Anything else that escapes is a defect of Zeropoint itself.
    """


def quoted_list(names: Iterable[object], limit: int = 8) -> str:
    """Return up to ``limit`` names, comma separated, for use in a message."""
    items = [str(name) for name in names]
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more
