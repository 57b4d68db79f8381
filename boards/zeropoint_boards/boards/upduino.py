"""tinyVision.ai UPduino v3: an iCE40UP5K on a small module."""

from typing import Any, ClassVar

from amaranth.build import Attrs
from amaranth_boards.resources import SPIFlashResources, UARTResource
from amaranth_boards.upduino_v3 import UpduinoV3Platform

from zeropoint_boards.board import Board
from zeropoint_boards.boards.icebreaker import ULTRAPLUS
from zeropoint_boards.devices import DEVICES

_ATTRIBUTES = Attrs(IO_STANDARD="SB_LVCMOS")


class _Platform(UpduinoV3Platform):
    # The FPGA's own oscillator may be off by 10 %, which is too much for a serial line.
    default_clk = "clk12"
    resources: ClassVar[list[Any]] = [
        *(each for each in UpduinoV3Platform.resources if not each.name.startswith("spi_flash")),
        # The oscillator's pin leads to the flash as well, over a jumper that is open then.
        *SPIFlashResources(0, cs_n="16", clk="15", cipo="17", copi="14", attrs=_ATTRIBUTES),
        # The module's own USB adapter shares its lines with the flash.
        UARTResource(0, rx="25", tx="23", attrs=_ATTRIBUTES),
    ]


BOARDS = (
    Board(
        name="upduino_v3",
        title="tinyVision.ai UPduino v3",
        platform=_Platform,
        device=DEVICES["iCE40UP5K"],
        flash_offset=1 << 20,
        frequency=18,
        config=ULTRAPLUS,
        buffer_bits=9,
        loading="write the bitstream to the module's flash with iceprog {file}",
        weights_loading="write the weights to the module's flash with iceprog -o {offset} {file}",
        led=("rgb_led", 0, "g"),
        note="The jumper OSC must be closed; a serial adapter of 3.3 V goes to the pins 25 (RX) and 23 (TX).",
    ),
)
