"""Radiona ULX3S: an ECP5, with a USB serial adapter on the board."""

from amaranth_boards.ulx3s import ULX3S_12F_Platform, ULX3S_25F_Platform, ULX3S_85F_Platform

from zeropoint_boards.board import Board
from zeropoint_boards.devices import ecp5

#: 16 multipliers for the array and 12 for the requantizers are all 28.
_SMALL = {"lanes": 4, "columns": 4, "requantizers": 2}

BOARDS = (
    Board(
        name="ulx3s_85f",
        title="Radiona ULX3S 85F",
        platform=ULX3S_85F_Platform,
        device=ecp5("85", "CABGA381"),
        flash_offset=2 << 20,
        frequency=80,
        config={"lanes": 8, "columns": 8},
        programmer="ulx3s",
    ),
    Board(
        name="ulx3s_25f",
        title="Radiona ULX3S 25F",
        platform=ULX3S_25F_Platform,
        device=ecp5("25", "CABGA381"),
        flash_offset=1 << 20,
        frequency=80,
        config=_SMALL,
        programmer="ulx3s",
    ),
    Board(
        name="ulx3s_12f",
        title="Radiona ULX3S 12F",
        platform=ULX3S_12F_Platform,
        device=ecp5("12", "CABGA381"),
        flash_offset=1 << 20,
        frequency=80,
        config=_SMALL,
        programmer="ulx3s",
    ),
)
