"""What there is to know of a board."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from zeropoint.errors import ZeropointError
from zeropoint_boards.devices import Device
from zeropoint_boards.plls import Setting
from zeropoint_hw.protocol import divisor


@dataclass(frozen=True)
class Board:
    """A board.

    Attributes
    ----------
    name
        On the command line.
    title
        As its makers call it.
    platform
        Returns its description for Amaranth, which knows its pins and its oscillator.
    device
        Its FPGA.
    frequency
        The clock of an accelerator where the user asks for none, in MHz.
    config
        The fields of ``AcceleratorConfig`` that differ from the defaults, where neither the user nor the network says
        otherwise: an array that fits at this frequency.
    buffer_bits
        log2 of the bytes that the link receives while the accelerator works; 12 keeps the line busy.
    programmer
        What openFPGALoader calls the board; nothing if it does not know it.
    loading, weights_loading
        What to do then with the bitstream ``{file}``, and with an image of weights that goes to the flash from byte
        ``{offset}`` on.
    uart
        The resource with the pins ``rx`` and ``tx`` that lead to the host.
    led
        The resource of a light that shines while the accelerator works, and the name of its pin if it has several;
        none if there is no such light.
    note
        What is to be done on the board before it works, and by what the host reaches it if that is not its USB socket.
    flash_offset
        The first byte behind the bitstream in its SPI flash, where weights may lie; none if they cannot be there.
    """

    name: str
    title: str
    platform: Callable[[], Any]
    device: Device
    frequency: float
    config: Mapping[str, Any] = field(default_factory=dict)
    buffer_bits: int = 12
    programmer: str = ""
    loading: str = ""
    weights_loading: str = ""
    uart: tuple[str, int] = ("uart", 0)
    led: tuple[str, int] | tuple[str, int, str] | None = ("led", 0)
    note: str = ""
    flash_offset: int | None = None

    @property
    def oscillator(self) -> Fraction:
        """The frequency of the board's oscillator, in Hz."""
        return Fraction(self.platform().default_clk_frequency)

    def clocking(self, frequency: float) -> tuple[Fraction, Setting | None]:
        """Return the clock nearest to a frequency in MHz, but not above it, in Hz, and the setting of the PLL.

        There is no setting if it is the oscillator's own.

        Raises
        ------
        ZeropointError
            If the PLL makes no such clock.
        """
        wanted = Fraction(str(frequency)) * 1_000_000
        if wanted == self.oscillator:
            return wanted, None
        setting = self.device.family.pll.setting(self.oscillator, wanted)
        return setting.frequency, setting

    def divisor(self, clock: Fraction, baud: int) -> int:
        """Return the clock cycles of a bit on the line to the host.

        Raises
        ------
        ZeropointError
            If the clock makes no such bits.
        """
        try:
            return divisor(float(clock), baud)
        except ValueError as error:
            raise ZeropointError(f"{self.name}: {error}; choose another --baud or --frequency") from None
