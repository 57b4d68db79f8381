"""tinyVision.ai UPduino v3: an iCE40UP5K on a small module."""

from typing import Any

from amaranth.build import Attrs
from amaranth_boards.resources import UARTResource
from amaranth_boards.upduino_v3 import UpduinoV3Platform

from zeropoint_boards.board import Board
from zeropoint_boards.boards.icebreaker import ULTRAPLUS
from zeropoint_boards.devices import DEVICES


class _Platform(UpduinoV3Platform):
    # The FPGA's own oscillator may be off by 10 %, which is too much for a serial line.
    default_clk = "clk12"


def _platform() -> Any:
    platform = _Platform()
    # The module's own USB adapter shares its lines with the configuration flash.
    platform.add_resources([UARTResource(0, rx="25", tx="23", attrs=Attrs(IO_STANDARD="SB_LVCMOS"))])
    return platform


BOARDS = (
    Board(
        name="upduino_v3",
        title="tinyVision.ai UPduino v3",
        platform=_platform,
        device=DEVICES["iCE40UP5K"],
        frequency=18,
        config=ULTRAPLUS,
        buffer_bits=9,
        loading="write it to the module's flash with iceprog {file}",
        led=("rgb_led", 0, "g"),
        note="The jumper OSC must be closed; a serial adapter of 3.3 V goes to the pins 25 (RX) and 23 (TX).",
    ),
)
