"""Figures drawn by matplotlib, as SVG or PNG files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from zeropoint.errors import ZeropointError
from zeropoint.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_METADATA = {".svg": {"Date": None, "Creator": None}, ".png": {"Software": None}}


def check_figure(path: Path) -> None:
    """Raise ZeropointError unless a figure can be drawn to a file: its name ends otherwise, or matplotlib is absent."""
    if path.suffix.lower() not in _METADATA:
        raise ZeropointError(f"cannot plot to '{path}': name a file that ends in .svg or .png")
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise ZeropointError("plots need matplotlib: pip install 'zeropoint[train]'") from error


@contextmanager
def figure(path: Path, width: float, height: float) -> Iterator["Figure"]:
    """Yield an empty figure, in inches, and write it when the block ends without an error.

    The file holds no date, so that the same figure gives the same bytes (with the same matplotlib).

    Raises
    ------
    ZeropointError
        As :func:`check_figure`; and if the file cannot be written.
    """
    check_figure(path)
    import matplotlib
    from matplotlib.figure import Figure

    suffix = path.suffix.lower()
    # Names in the file that would be random; texts as texts.
    with matplotlib.rc_context({"svg.hashsalt": "zeropoint", "svg.fonttype": "none"}):
        drawn = Figure(figsize=(width, height), layout="constrained")
        yield drawn
        with atomic_file(path) as temporary:
            drawn.savefig(temporary, format=suffix[1:], dpi=120, metadata=_METADATA[suffix])
