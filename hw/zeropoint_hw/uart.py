"""The asynchronous serial line: 8 data bits, no parity, 1 stop bit.

(amaranth-stdio has such a thing, but what PyPI has by that name is a placeholder.)
"""

from amaranth import Cat, Module, Signal
from amaranth.lib import cdc, stream, wiring
from amaranth.lib.wiring import In, Out


def check_divisor(divisor: int) -> None:
    """Check the clock cycles of a bit.

    Raises
    ------
    TypeError, ValueError
        If they are no integer, too few or too many.
    """
    if not isinstance(divisor, int) or isinstance(divisor, bool):
        raise TypeError(f"divisor must be an integer, not {divisor!r}")
    if not 4 <= divisor <= 1 << 20:
        raise ValueError(f"divisor must be 4 to {1 << 20}, not {divisor!r}")


class UartReceiver(wiring.Component):
    """Bytes from a line.

    Each bit is sampled once, in its middle. A byte comes in the middle of its stop bit; one without a stop bit never
    comes, and what follows is taken up at the next falling edge.

    Parameters
    ----------
    divisor
        Clock cycles of a bit: 4 at least.

    Members
    -------
    rx : In(1)
        The line, which need not be synchronous to the clock.
    data : Out(8)
        A byte.
    valid : Out(1)
        It comes in this cycle.
    active : Out(1)
        A byte is arriving.
    """

    def __init__(self, divisor: int) -> None:
        check_divisor(divisor)
        self._divisor = divisor
        super().__init__({"rx": In(1), "data": Out(8), "valid": Out(1), "active": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        line = Signal(init=1)
        m.submodules.synchronizer = cdc.FFSynchronizer(self.rx, line, init=1)

        timer = Signal(range(self._divisor))
        # Bits enter at the top; a 1 that was set before the first of them is at the bottom when they are complete.
        bits = Signal(9)
        starting = Signal()
        m.d.comb += [self.active.eq(starting | bits.any()), self.data.eq(bits[1:])]
        with m.If(~self.active):
            # What is left of half a bit, since the falling edge came two cycles ago.
            m.d.sync += [starting.eq(~line), timer.eq(max(self._divisor // 2 - 2, 0))]
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Else():
            m.d.sync += [timer.eq(self._divisor - 1), starting.eq(0)]
            with m.If(starting):
                m.d.sync += bits.eq(~line << 8)
            with m.Elif(bits[0]):
                m.d.comb += self.valid.eq(line)
                m.d.sync += bits.eq(0)
            with m.Else():
                m.d.sync += bits.eq(Cat(bits[1:], line))
        return m


class UartTransmitter(wiring.Component):
    """Bytes to a line, one after the other without a pause if they are there.

    Parameters
    ----------
    divisor
        Clock cycles of a bit.

    Members
    -------
    i : In(stream.Signature(8))
        Bytes.
    tx : Out(1)
        The line, 1 where it rests.
    active : Out(1)
        A byte is being sent.
    """

    def __init__(self, divisor: int) -> None:
        check_divisor(divisor)
        self._divisor = divisor
        super().__init__({"i": In(stream.Signature(8)), "tx": Out(1, init=1), "active": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        timer = Signal(range(self._divisor))
        # What is left to send, the stop bit last, which is the only 1 when it is being sent, and stays.
        bits = Signal(10, init=1)
        m.d.comb += [
            self.tx.eq(bits[0]),
            self.i.ready.eq((timer == 0) & (bits == 1)),
            self.active.eq(~self.i.ready),
        ]
        with m.If(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Elif(~self.i.ready):
            m.d.sync += [bits.eq(bits[1:]), timer.eq(self._divisor - 1)]
        with m.Elif(self.i.valid):
            m.d.sync += [bits.eq(Cat(0, self.i.payload, 1)), timer.eq(self._divisor - 1)]
        return m
