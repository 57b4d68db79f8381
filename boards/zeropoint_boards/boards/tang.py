"""Sipeed Tang: Gowin FPGAs, with a USB serial adapter on the board."""

from amaranth_boards.tang_nano_9k import TangNano9kPlatform
from amaranth_boards.tang_primer_20k import TangPrimer20kDockPlatform

from zeropoint_boards.board import Board
from zeropoint_boards.devices import DEVICES

BOARDS = (
    Board(
        name="tang_nano_9k",
        title="Sipeed Tang Nano 9K",
        platform=TangNano9kPlatform,
        device=DEVICES["GW1NR-9C"],
        frequency=27,
        config={"lanes": 2, "columns": 2},
        buffer_bits=11,
        programmer="tangnano9k",
    ),
    Board(
        name="tang_primer_20k",
        title="Sipeed Tang Primer 20K with Dock",
        platform=TangPrimer20kDockPlatform,
        device=DEVICES["GW2A-18C"],
        frequency=54,
        config={"lanes": 4, "columns": 4},
        programmer="tangprimer20k",
    ),
)
