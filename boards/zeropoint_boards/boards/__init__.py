"""The boards, a module for each of a kind. Each has a tuple ``BOARDS``; the ones listed here are offered."""

from importlib import util

from zeropoint.errors import ZeropointError
from zeropoint_boards.board import Board
from zeropoint_boards.synthesis import EXTRA

if util.find_spec("amaranth_boards") is None:
    raise ZeropointError(f"boards need the package amaranth-boards; run pip install 'zeropoint[{EXTRA}]'")

from zeropoint_boards.boards import arty, colorlight, ecpix5, icebreaker, orangecrab, tang, ulx3s, upduino

_MODULES = (icebreaker, upduino, ulx3s, orangecrab, colorlight, ecpix5, tang, arty)

#: By name.
BOARDS: dict[str, Board] = {board.name: board for module in _MODULES for board in module.BOARDS}


def find(name: str) -> Board:
    """Return the board of a name.

    Raises
    ------
    ZeropointError
        If there is none; the message lists those that there are.
    """
    if name not in BOARDS:
        raise ZeropointError(f"there is no board {name!r}; there are {', '.join(BOARDS)}")
    return BOARDS[name]
