"""The link's bytes in a bench: a host at the other end of the line, and a bus to speak to."""

from collections.abc import Sequence
from typing import Any

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from zeropoint.host.frames import Answer, Splitter
from zeropoint_hw.host import HostBusSignature
from zeropoint_hw.isa import REGION_SHIFT, Region, Register
from zeropoint_hw.layout import delay


class Bus(wiring.Component):
    """A memory behind a host bus, for all regions, 64 words each; it counts its writes and its runs.

    A write to the status register makes it busy for ``busy_cycles`` cycles; reads are answered five cycles later.
    """

    host: In(HostBusSignature())
    writes: Out(16)
    runs: Out(16)
    last_command: Out(32)
    #: A memory was accessed while it was busy.
    overlap: Out(1)

    def __init__(self, busy_cycles: int = 50) -> None:
        super().__init__()
        self.busy_cycles = busy_cycles

    def elaborate(self, platform: object) -> Module:
        m = Module()
        host = self.host
        m.submodules.storage = storage = memory.Memory(shape=32, depth=8 * 64, init=[])
        write, read = storage.write_port(), storage.read_port()
        place = Cat(host.address[:6], host.address[REGION_SHIFT:])
        status = host.address == Region.CONTROL << REGION_SHIFT | Register.STATUS
        busy = Signal(range(self.busy_cycles + 1))
        m.d.comb += [read.addr.eq(place), write.addr.eq(place), write.data.eq(host.write_data)]
        with m.If(busy != 0):
            m.d.sync += busy.eq(busy - 1)
            with m.If((host.read | host.write) & (host.address[REGION_SHIFT:] != Region.CONTROL)):
                m.d.sync += self.overlap.eq(1)
        with m.If(host.write):
            m.d.sync += self.writes.eq(self.writes + 1)
            with m.If(status):
                m.d.sync += [
                    self.runs.eq(self.runs + 1),
                    busy.eq(self.busy_cycles),
                    self.last_command.eq(host.write_data),
                ]
            with m.Else():
                m.d.comb += write.en.eq(1)
        of_status, was_busy = Signal(), Signal()
        m.d.sync += [of_status.eq(status), was_busy.eq(busy != 0)]
        valid = delay(m, host.read, 5, "valid")
        data = delay(m, Mux(of_status, was_busy, read.data), 4, "data")
        m.d.comb += [host.read_valid.eq(valid), host.read_data.eq(data)]
        return m


class LinkOnBus(wiring.Component):
    """A link and a :class:`Bus`, with the pins of the one and what the other has counted."""

    rx: In(1, init=1)
    hold: In(1)
    unusable: In(1)
    tx: Out(1)
    active: Out(1)
    writes: Out(16)
    runs: Out(16)
    last_command: Out(32)
    overlap: Out(1)

    def __init__(self, link: Any, bus: Bus) -> None:
        super().__init__()
        self._link, self._bus = link, bus

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.link, m.submodules.bus = link, bus = self._link, self._bus
        wiring.connect(m, link.host, bus.host)
        m.d.comb += [getattr(link, name).eq(getattr(self, name)) for name in ("rx", "hold", "unusable")]
        m.d.comb += [getattr(self, name).eq(getattr(link, name)) for name in ("tx", "active")]
        counts = ("writes", "runs", "last_command", "overlap")
        m.d.comb += [getattr(self, name).eq(getattr(bus, name)) for name in counts]
        return m


class Wire:
    """The host's end: sends bytes bit by bit, and gathers what comes back meanwhile.

    Parameters
    ----------
    ctx
        The bench's.
    rx, tx
        The device's pins.
    divisor
        Clock cycles of a bit.
    """

    def __init__(self, ctx: Any, rx: Any, tx: Any, divisor: int) -> None:
        self._ctx, self._rx, self._tx, self._divisor = ctx, rx, tx, divisor
        self._samples: list[int] = []
        self.received = bytearray()
        self._splitter = Splitter()

    async def cycles(self, count: int) -> None:
        """Let time pass, and listen."""
        for _ in range(count):
            _, _, level = await self._ctx.tick().sample(self._tx)
            self._samples.append(level)
            if self._samples[0]:
                self._samples.clear()
            elif len(self._samples) == 9 * self._divisor + self._divisor // 2 + 1:
                middles = self._samples[self._divisor // 2 :: self._divisor]
                assert middles[0] == 0
                assert middles[9] == 1, "no stop bit"
                self.received.append(sum(bit << place for place, bit in enumerate(middles[1:9])))
                self._samples.clear()

    async def send(self, data: Sequence[int] | bytes, stop: int = 1) -> None:
        """Send bytes without a pause; ``stop`` 0 leaves out their stop bits."""
        for byte in data:
            for bit in [0, *(byte >> place & 1 for place in range(8)), stop]:
                self._ctx.set(self._rx, bit)
                await self.cycles(self._divisor)
        self._ctx.set(self._rx, 1)

    async def answers(self, count: int, limit: int = 20_000) -> list[Answer]:
        """Return the next answers, or fewer if there are none for ``limit`` cycles."""
        got: list[Answer] = []
        waited = 0
        while len(got) < count and waited < limit:
            await self.cycles(1)
            waited += 1
            if self.received:
                got += self._splitter.take(bytes(self.received))
                self.received.clear()
        assert not self._splitter.damaged, "the device sent a damaged frame"
        return got
