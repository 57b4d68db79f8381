"""The serial line's ends, each against the line as it is drawn in textbooks, and against each other."""

import pytest
from amaranth import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.uart import UartReceiver, UartTransmitter
from zeropoint_sim.bench import Stalls, collect, put, run_bench

DATA = [0x00, 0xFF, 0x55, 0xAA, 0x01, 0x80, 0x7E, 0x00, 0x13]


@pytest.mark.parametrize("divisor", [4, 5, 16])
def test_bits_are_sent_without_a_pause(divisor):
    dut = UartTransmitter(divisor)

    async def source(ctx):
        await put(ctx, dut.i, DATA)

    async def line(ctx):
        levels, activity = [], []
        while not levels or len(levels) < 10 * divisor * len(DATA):
            _, _, level, active = await ctx.tick().sample(dut.tx, dut.active)
            if levels or not level:
                levels.append(level)
                activity.append(active)
        bits = [bit for byte in DATA for bit in [0, *(byte >> place & 1 for place in range(8)), 1]]
        assert levels == [bit for bit in bits for _ in range(divisor)]
        # In the last cycle of a stop bit the next byte can be taken.
        assert activity == ([1] * (10 * divisor - 1) + [0]) * len(DATA)
        for _ in range(2 * divisor):
            assert ctx.get(dut.tx)
            assert not ctx.get(dut.active)
            await ctx.tick()

    run_bench(dut, source, line, deadline=20 * divisor * len(DATA))


class Pair(wiring.Component):
    """A transmitter and a receiver whose bits take different times."""

    def __init__(self, sends, hears):
        self.transmitter, self.receiver = UartTransmitter(sends), UartReceiver(hears)
        super().__init__({"i": In(stream.Signature(8)), "data": Out(8), "valid": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.transmitter, m.submodules.receiver = self.transmitter, self.receiver
        wiring.connect(m, wiring.flipped(self.i), self.transmitter.i)
        m.d.comb += self.receiver.rx.eq(self.transmitter.tx)
        m.d.comb += [self.data.eq(self.receiver.data), self.valid.eq(self.receiver.valid)]
        return m


@pytest.mark.parametrize("pauses", [False, True])
@pytest.mark.parametrize(("sends", "hears"), [(4, 4), (7, 7), (100, 100), (50, 51), (100, 97), (100, 104)])
def test_what_is_sent_is_heard_even_if_rates_differ_a_little(sends, hears, pauses):
    dut = Pair(sends, hears)

    async def source(ctx):
        await put(ctx, dut.i, DATA, Stalls(1, 0.9) if pauses else None)

    async def sink(ctx):
        assert [byte for (byte,) in await collect(ctx, dut.valid, [dut.data], len(DATA))] == DATA

    run_bench(dut, source, sink, deadline=100 * sends * len(DATA))


@pytest.mark.parametrize("divisor", [4, 5, 16])
def test_a_bit_is_what_the_line_is_in_its_middle(divisor):
    dut = UartReceiver(divisor)
    # Of two cycles in the middle the first one; of an odd number the one before, where a slow edge is in the middle.
    middle = divisor // 2 - 1
    # All else is wrong, but for the edge that begins a byte and what comes before it.
    right = [{0, middle}, *[{middle}] * 8, set(range(middle, divisor))]

    async def line(ctx):
        ctx.set(dut.rx, 1)
        await ctx.tick().repeat(3)
        for byte in DATA:
            for bit, cycles in zip([0, *(byte >> place & 1 for place in range(8)), 1], right, strict=True):
                for cycle in range(divisor):
                    ctx.set(dut.rx, bit if cycle in cycles else 1 - bit)
                    await ctx.tick()

    async def sink(ctx):
        assert [byte for (byte,) in await collect(ctx, dut.valid, [dut.data], len(DATA))] == DATA

    run_bench(dut, line, sink, deadline=100 * divisor * len(DATA))


def test_a_glitch_is_no_start_bit():
    dut = UartReceiver(16)

    async def bench(ctx):
        ctx.set(dut.rx, 1)
        await ctx.tick().repeat(5)
        ctx.set(dut.rx, 0)
        # Two registers keep what is no clean level away from all else.
        for _ in range(3):
            assert not ctx.get(dut.active)
            await ctx.tick()
        assert ctx.get(dut.active)
        await ctx.tick()
        ctx.set(dut.rx, 1)
        for _ in range(400):
            assert not ctx.get(dut.valid)
            await ctx.tick()
        assert not ctx.get(dut.active)

    run_bench(dut, bench, deadline=500)


def test_what_has_no_stop_bit_is_no_byte():
    dut = UartReceiver(5)

    async def bench(ctx):
        # Its bits and the one in the place of the stop bit are 0, again and again.
        ctx.set(dut.rx, 0)
        busy = 0
        for _ in range(40 * 5):
            await ctx.tick()
            assert not ctx.get(dut.valid)
            busy += ctx.get(dut.active)
        assert busy > 150

    run_bench(dut, bench, deadline=300)
