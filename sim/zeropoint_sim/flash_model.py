"""A model of a SPI flash, as a component, so that every engine simulates it along with what reads it."""

from amaranth import Cat, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In

from zeropoint_hw.spi_flash import READ, WAKE, SpiSignature

#: Of its commands and addresses.
_COMMAND_BITS, _HEADER_BITS = 8, 32


class FlashModel(wiring.Component):
    """A flash that holds an image, and is in deep power-down at first, as a configured FPGA leaves it.

    It knows two commands: to wake up, after which nothing may be asked of it for a while, or else it stays asleep; and
    to read. What it does not hold reads as ones, and so does everything as long as it sleeps. It does not notice a
    command that comes too soon after the one before.

    Parameters
    ----------
    image
        Its contents from byte ``offset`` on.
    offset
        Where that is.
    wake_cycles
        Clock cycles that waking up takes; 0, the default, stands for ``WAKE_CYCLES``.

    Members
    -------
    pins : In(SpiSignature())
        Its pins, which its reader drives from the same clock.
    """

    WAKE_CYCLES = 1500
    #: Clock cycles between commands: 50 ns at 100 MHz.
    REST_CYCLES = 5

    def __init__(self, image: bytes, offset: int, wake_cycles: int = 0) -> None:
        self._image, self._offset, self._wake_cycles = image, offset, wake_cycles or self.WAKE_CYCLES
        super().__init__({"pins": In(SpiSignature())})

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        pins = self.pins
        m.submodules.storage = storage = memory.Memory(shape=8, depth=len(self._image), init=list(self._image))
        read = storage.read_port(domain="comb")

        before = Signal()
        m.d.sync += before.eq(pins.clock)
        rising, falling = pins.clock & ~before, ~pins.clock & before
        # What has been sent, the first bit last, and of a read which bit comes next.
        sent, count, bit, address = Signal(_HEADER_BITS), Signal(range(_HEADER_BITS + 1)), Signal(3), Signal(24)
        awake, waking = Signal(), Signal(range(self._wake_cycles + 1))
        rested = Signal(range(self.REST_CYCLES + 1))
        noticed = Signal()
        place, held = Signal(24), Signal()
        m.d.comb += [
            place.eq(address - self._offset),
            held.eq((address >= self._offset) & (place < len(self._image))),
            read.addr.eq(place),
        ]
        byte = read.data
        reading = awake & noticed & (count == _HEADER_BITS) & (sent[24:] == READ)
        with m.If(waking != 0):
            m.d.sync += waking.eq(waking - 1)
            with m.If(waking == 1):
                m.d.sync += awake.eq(1)
            with m.If(pins.select):
                m.d.sync += [waking.eq(0), awake.eq(0)]
        with m.If(~pins.select):
            with m.If(rested != self.REST_CYCLES):
                m.d.sync += rested.eq(rested + 1)
            m.d.sync += [count.eq(0), pins.data_in.eq(1), noticed.eq(rested == self.REST_CYCLES)]
            with m.If(noticed & (count == _COMMAND_BITS) & (sent[:_COMMAND_BITS] == WAKE) & ~awake):
                m.d.sync += waking.eq(self._wake_cycles)
        with m.Else():
            m.d.sync += rested.eq(0)
            with m.If(rising & (count != _HEADER_BITS)):
                m.d.sync += [sent.eq(Cat(pins.data_out, sent)), count.eq(count + 1), bit.eq(7)]
                m.d.sync += address.eq(Cat(pins.data_out, sent[:23]))
            with m.If(falling & reading):
                m.d.sync += [pins.data_in.eq(~held | byte.bit_select(bit, 1)), bit.eq(bit - 1)]
                with m.If(bit == 0):
                    m.d.sync += address.eq(address + 1)
        return m
