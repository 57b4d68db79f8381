"""Colorlight 5A-75B: an ECP5 on a receiver card for LED panels."""

from amaranth_boards.colorlight_5a75b_r7_0 import Colorlight_5A75B_R70Platform

from zeropoint_boards.board import Board
from zeropoint_boards.devices import ecp5

BOARDS = (
    Board(
        name="colorlight_5a75b",
        title="Colorlight 5A-75B v7.0",
        platform=Colorlight_5A75B_R70Platform,
        device=ecp5("25", "CABGA256"),
        flash_offset=1 << 20,
        frequency=75,
        config={"lanes": 4, "columns": 4, "requantizers": 2},
        programmer="colorlight",
        led=None,
        note="A serial adapter of 3.3 V goes to J19: its TX to KEY+, its RX to DATA_LED-. JTAG is at J27 to J34.",
    ),
)
