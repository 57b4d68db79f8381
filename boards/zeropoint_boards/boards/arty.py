"""Digilent Arty A7: an Artix-7, with a USB serial adapter on the board."""

from amaranth_boards.arty_a7 import ArtyA7_35Platform

from zeropoint_boards.board import Board
from zeropoint_boards.devices import DEVICES

BOARDS = (
    Board(
        name="arty_a7",
        title="Digilent Arty A7-35T",
        platform=ArtyA7_35Platform,
        device=DEVICES["xc7a35t"],
        frequency=100,
        config={"lanes": 4, "columns": 4},
        programmer="arty_a7_35t",
    ),
)
