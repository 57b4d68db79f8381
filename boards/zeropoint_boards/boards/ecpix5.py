"""LambdaConcept ECPIX-5: an ECP5, with a USB serial adapter on the board."""

from amaranth_boards.ecpix5 import ECPIX585Platform

from zeropoint_boards.board import Board
from zeropoint_boards.devices import ecp5

BOARDS = (
    Board(
        name="ecpix5",
        title="LambdaConcept ECPIX-5 85F",
        platform=ECPIX585Platform,
        device=ecp5("85", "CABGA554", "8"),
        flash_offset=2 << 20,
        frequency=100,
        config={"lanes": 8, "columns": 8},
        programmer="ecpix5",
        led=("rgb_led", 0, "g"),
    ),
)
