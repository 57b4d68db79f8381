"""Small components behind a host bus, on which the engines are tested."""

from typing import Any

import numpy as np
from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In

from zeropoint_hw.host import HostBusSignature
from zeropoint_hw.isa import IDENTIFICATION, REGION_SHIFT, Command, Region, Register


def _answer(m: Module, host: Any, valid: Value | int, data: Value, latency: int) -> None:
    for stage in range(latency):
        valid_stage, data_stage = Signal(name=f"valid{stage}"), Signal(32, name=f"data{stage}")
        m.d.sync += [valid_stage.eq(valid), data_stage.eq(data)]
        valid, data = valid_stage, data_stage
    m.d.comb += [host.read_valid.eq(valid), host.read_data.eq(data)]


class Toy(wiring.Component):
    """A memory whose words it updates.

    ``Command.RUN`` makes word ``i`` of the activation region ``3 · word + i`` for each ``i`` below ``Register.CYCLES``,
    a register that may be written, two cycles a word; ``Command.STEP`` never ends. Reads are answered ``latency``
    cycles later, or never.
    """

    host: In(HostBusSignature())

    #: Initial contents of the memory.
    INIT = (7, 1 << 31)
    #: No power of two: some addresses are beyond the memory's end, and read 0.
    DEPTH = 48

    def __init__(self, latency: int = 3, silent: bool = False) -> None:
        super().__init__()
        self._latency, self._silent = latency, silent

    def elaborate(self, platform: object) -> Module:
        m = Module()
        host = self.host
        m.submodules.storage = storage = memory.Memory(shape=32, depth=self.DEPTH, init=self.INIT)
        write, read = storage.write_port(), storage.read_port(domain="comb")
        index = Signal(range(self.DEPTH + 1))
        count = Signal(32)
        busy = Signal()
        stuck = Signal()
        phase = Signal()

        region, offset = host.address[REGION_SHIFT:], host.address[:REGION_SHIFT]
        m.d.comb += [
            read.addr.eq(offset),
            write.addr.eq(offset),
            write.data.eq(host.write_data),
            write.en.eq(host.write & (region == Region.ACTIVATIONS)),
        ]
        with m.If(busy):
            m.d.comb += [read.addr.eq(index), write.addr.eq(index), write.data.eq(3 * read.data + index)]
            m.d.sync += phase.eq(~phase)
            with m.If(phase & ~stuck):
                m.d.comb += write.en.eq(1)
                m.d.sync += index.eq(index + 1)
                with m.If(index + 1 == count):
                    m.d.sync += busy.eq(0)
        with m.If(host.write & (region == Region.CONTROL)):
            with m.If(offset == Register.CYCLES):
                m.d.sync += count.eq(host.write_data)
            with m.If(offset == Register.STATUS):
                m.d.sync += [busy.eq(1), index.eq(0), phase.eq(0), stuck.eq(host.write_data == Command.STEP)]

        data = Signal(32)
        m.d.comb += data.eq(read.data)
        with m.If(region == Region.CONTROL), m.Switch(offset):
            with m.Case(Register.IDENTIFICATION):
                m.d.comb += data.eq(IDENTIFICATION)
            with m.Case(Register.STATUS):
                m.d.comb += data.eq(busy)
            with m.Case(Register.CYCLES):
                m.d.comb += data.eq(count)
        _answer(m, host, host.read & (not self._silent), data, self._latency)
        return m


class Slicer(wiring.Component):
    """Cuts and joins a register of hundreds of bits, every way that an accelerator does and at random places.

    A write shifts a word into the register, and pieces of the register into other places of a second one; reads of
    address ``n`` give all bits of both, cut and joined in the ``n``-th of some random ways, added up.
    """

    host: In(HostBusSignature())

    WIDTH = 200
    WAYS = 12

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._rng = np.random.default_rng(seed)

    def _piece(self, value: Value, limit: int) -> Value:
        """Return random neighbouring bits, often from or to a multiple of 32."""
        start, stop = sorted(int(place) for place in self._rng.choice(len(value) + 1, 2, replace=False))
        if self._rng.random() < 0.3:
            start -= start % 32
        if self._rng.random() < 0.3 and stop > start + 32:
            stop -= stop % 32
        return value[start : min(stop, start + limit)]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        host, rng = self.host, self._rng
        wide = Signal(self.WIDTH)
        other = Signal(self.WIDTH)
        with m.If(host.write):
            m.d.sync += wide.eq(Cat(host.write_data, wide))
            # Pieces of one register replace pieces of another; later ones prevail where they meet.
            for _ in range(6):
                piece = self._piece(wide, 90)
                start = int(rng.integers(0, self.WIDTH - len(piece) + 1))
                m.d.sync += other[start : start + len(piece)].eq(piece)
        answers = []
        for _ in range(self.WAYS):
            pieces = [self._piece(wide if rng.random() < 0.5 else other, 120) for _ in range(int(rng.integers(1, 7)))]
            joined = Cat(*pieces, host.address[:1].replicate(int(rng.integers(1, 40))))
            total = sum((joined[place : place + 32] for place in range(0, len(joined), 32)), start=Value.cast(0))
            answers.append(Mux(joined.as_signed() < 0, total, ~total)[:32])
        data = Signal(32)
        with m.Switch(host.address):
            for place, answer in enumerate(answers):
                with m.Case(place):
                    m.d.comb += data.eq(answer)
        _answer(m, host, host.read, data, 1)
        return m
