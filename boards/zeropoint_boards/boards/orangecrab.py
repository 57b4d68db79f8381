"""OrangeCrab: an ECP5 the size of a Feather."""

from typing import Any

from amaranth.build import Attrs
from amaranth_boards.orangecrab_r0_2 import OrangeCrabR0_2_85FPlatform
from amaranth_boards.resources import UARTResource

from zeropoint_boards.board import Board
from zeropoint_boards.devices import ecp5


def _platform() -> Any:
    platform = OrangeCrabR0_2_85FPlatform()
    # As a Feather's RX and TX.
    platform.add_resources([UARTResource(0, rx="0", tx="1", conn=("io", 0), attrs=Attrs(IO_TYPE="LVCMOS33"))])
    return platform


BOARDS = (
    Board(
        name="orangecrab_85f",
        title="OrangeCrab r0.2 85F",
        platform=_platform,
        device=ecp5("85", "CSFBGA285", "8"),
        frequency=96,
        config={"lanes": 8, "columns": 8},
        programmer="orangeCrab",
        led=("rgb_led", 0, "g"),
        note="A serial adapter of 3.3 V goes to the pins 0 (RX) and 1 (TX).",
    ),
)
