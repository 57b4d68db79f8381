"""A SPI flash, read as a stream of bytes."""

from amaranth import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out


class SpiSignature(wiring.Signature):
    """The pins of a SPI flash, seen from its reader; ``clock`` is low between bits (mode 0).

    Members
    -------
    select : Out(1)
        The flash is selected; on the pin, which is called CS, that is a low level.
    clock, data_out : Out(1)
        The clock, and what the flash samples at its rising edge.
    data_in : In(1)
        What the flash changes at its falling edge.
    """

    def __init__(self) -> None:
        super().__init__({"select": Out(1), "clock": Out(1), "data_out": Out(1), "data_in": In(1)})


#: Commands: wake up from deep power-down, in which a configured FPGA leaves its flash; and read, as slow as any flash
#: can, from an address of 24 bits.
WAKE, READ = 0xAB, 0x03


class FlashReader(wiring.Component):
    """Reads bytes from any address on, one after the other, a bit in two clock cycles.

    The flash is woken once after reset. While nobody takes a byte, its clock stands still.

    Members
    -------
    pins : Out(SpiSignature())
        The flash.
    start : In(1)
        The bytes from ``address`` on are wanted, and none of those that were wanted before.
    address : In(24)
        Held still until the first of them comes.
    stop : In(1)
        No more bytes are wanted.
    o : Out(stream.Signature(8))
        The bytes.
    """

    #: Cycles for which the flash is left alone when it has been woken: 40 µs at 50 MHz; and between commands.
    WAKE_CYCLES, REST_CYCLES = 2048, 8

    def __init__(self) -> None:
        super().__init__(
            {
                "pins": Out(SpiSignature()),
                "start": In(1),
                "address": In(24),
                "stop": In(1),
                "o": Out(stream.Signature(8)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pins, byte = self.pins, self.o.payload
        # What is sent, from the highest bit on; bits that are left of it, or of a byte.
        out, left = Signal(32), Signal(range(33))
        pause = Signal(range(self.WAKE_CYCLES), init=self.REST_CYCLES)
        waking, wanted = Signal(init=1), Signal()
        # A bit's second half, at the end of which both sides look at what the other one has sent.
        second = Signal()
        m.d.comb += [pins.clock.eq(second), pins.data_out.eq(out[-1])]
        with m.If(self.start):
            m.d.sync += wanted.eq(1)
        with m.FSM():
            with m.State("REST"):
                m.d.sync += [second.eq(0), self.o.valid.eq(0)]
                with m.If(pause != 0):
                    m.d.sync += pause.eq(pause - 1)
                with m.Elif(waking):
                    m.d.sync += [out.eq(WAKE << 24), left.eq(8)]
                    m.next = "SEND"
                with m.Elif(wanted):
                    m.d.sync += [out.eq(Cat(self.address, Const(READ, 8))), left.eq(32), wanted.eq(0)]
                    m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += pins.select.eq(1)
                m.d.sync += second.eq(~second)
                with m.If(second):
                    m.d.sync += [out.eq(out << 1), left.eq(left - 1)]
                    with m.If(left == 1):
                        m.d.sync += left.eq(8)
                        m.next = "RECEIVE"
                        with m.If(waking):
                            m.d.sync += [waking.eq(0), pause.eq(self.WAKE_CYCLES - 1)]
                            m.next = "REST"
            with m.State("RECEIVE"):
                m.d.comb += pins.select.eq(1)
                with m.If(~self.o.valid | self.o.ready):
                    m.d.sync += [second.eq(~second), self.o.valid.eq(0)]
                    with m.If(second):
                        m.d.sync += [byte.eq(Cat(pins.data_in, byte)), left.eq(left - 1)]
                        with m.If(left == 1):
                            m.d.sync += [left.eq(8), self.o.valid.eq(1)]
                with m.If(wanted | self.stop):
                    m.d.sync += [pause.eq(self.REST_CYCLES - 1), second.eq(0), self.o.valid.eq(0)]
                    m.next = "REST"
        return m
