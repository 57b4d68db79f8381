import gc

import numpy as np
import pytest
from amaranth.hdl import Array, Module, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out
from support.engines import need
from support.gateware import refused

from zeropoint.host.transport import Watchdog
from zeropoint_sim.bench import Stalls, collect, drive, engine, get, put, run_bench
from zeropoint_sim.verilog_bench import NotInVerilog


@pytest.fixture(params=["amaranth", "verilator", "icarus"])
def on_every_engine(request):
    """Run the test's benches on each engine in turn."""
    with engine(need(request.param)):
        yield


PAIR = data.StructLayout({"a": signed(8), "b": 4})


class Queue(wiring.Component):
    """A stream through a FIFO; ``fault`` breaks it in a given way."""

    def __init__(self, shape, fault=None):
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})
        self.fault = fault

    def elaborate(self, platform):
        m = Module()
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=len(Value.cast(self.i.payload)), depth=4)
        busy = Signal()
        m.d.sync += busy.eq(self.o.valid & ~self.o.ready & ~busy)
        m.d.comb += [
            fifo.w_data.eq(self.i.payload),
            fifo.w_en.eq(self.i.valid),
            self.i.ready.eq(0 if self.fault == "stuck" else fifo.w_rdy),
            self.o.payload.eq(fifo.r_data),
            self.o.valid.eq(fifo.r_rdy & (~busy if self.fault == "retract" else 1)),
            fifo.r_en.eq(self.o.ready & self.o.valid),
        ]
        return m


class Pipeline(wiring.Component):
    """Two cycles late: the sum of two signals, whether ``valid`` or not."""

    valid: In(1)
    a: In(signed(8))
    b: In(signed(8))
    done: Out(1)
    total: Out(signed(9))

    def elaborate(self, platform):
        m = Module()
        stage = Signal(signed(9))
        valid = Signal()
        m.d.sync += [stage.eq(self.a + self.b), valid.eq(self.valid), self.total.eq(stage), self.done.eq(valid)]
        return m


@pytest.mark.usefixtures("on_every_engine")
@pytest.mark.parametrize("stalls", [((), ()), ((1,), ()), ((), (2, 0.8)), ((3,), (4,))], ids=str)
def test_values_pass_in_order(stalls):
    sending, receiving = (Stalls(*numbers) if numbers else None for numbers in stalls)
    dut = Queue(signed(16))
    values = np.arange(-50, 50, dtype=np.int16)

    async def source(ctx):
        await put(ctx, dut.i, values, sending)

    async def sink(ctx):
        assert await get(ctx, dut.o, len(values), receiving) == values.tolist()

    run_bench(dut, source, sink, deadline=2000)


@pytest.mark.usefixtures("on_every_engine")
def test_structures_pass():
    dut = Queue(PAIR)
    received = []

    async def source(ctx):
        await put(ctx, dut.i, [{"a": np.int8(-3), "b": np.uint8(9)}, {"a": 4, "b": 0}], Stalls(5))

    async def sink(ctx):
        received.extend(await get(ctx, dut.o, 2))

    run_bench(dut, source, sink, deadline=200)
    assert [(int(value.a), int(value.b)) for value in received] == [(-3, 9), (4, 0)]


@pytest.mark.usefixtures("on_every_engine")
def test_pipeline_rows_come_out_whatever_the_gaps():
    dut = Pipeline()
    rows = np.random.default_rng(0).integers(-128, 128, (50, 2))

    async def source(ctx):
        await drive(ctx, dut.valid, (dut.a, dut.b), rows, Stalls(6))

    async def sink(ctx):
        assert await collect(ctx, dut.done, (dut.total,), 50) == [(int(total),) for total in rows.sum(axis=1)]

    run_bench(dut, source, sink, deadline=1000)


def test_combinational_component_needs_no_domain():
    m = Module()
    index, value = Signal(2), Signal(8)
    m.d.comb += value.eq(Array([3, 1, 4, 1])[index])

    async def bench(ctx):
        for expected in (3, 1, 4, 1):
            assert ctx.get(value) == expected
            ctx.set(index, ctx.get(index) + 1)
            await ctx.tick()

    run_bench(m, bench, deadline=10)


@pytest.mark.usefixtures("on_every_engine")
@pytest.mark.parametrize("wait", ["put", "until", "repeat", "for"])
def test_stuck_bench_is_named_and_ends_cleanly(wait, recwarn):
    dut = Queue(8, fault="stuck")

    async def source(ctx):
        if wait == "put":
            await put(ctx, dut.i, [1], Stalls(7))
        elif wait == "until":
            await ctx.tick().until(dut.i.ready)
        elif wait == "repeat":
            await ctx.tick().repeat(10_000)
        else:
            async for _ in ctx.tick():
                pass

    async def done(ctx):
        await ctx.tick()

    with pytest.raises(Watchdog, match=r"^after 100 cycles still waiting: source at test_bench\.py:\d+(, .*)?$"):
        run_bench(dut, source, done, deadline=100)
    gc.collect()
    assert not recwarn.list


@pytest.mark.usefixtures("on_every_engine")
def test_failed_assertion_comes_through_while_others_wait(recwarn):
    dut = Queue(8)

    async def sink(ctx):
        await get(ctx, dut.o, 1)

    async def failing(ctx):
        await ctx.tick().repeat(3)
        raise AssertionError("seen")

    with pytest.raises(AssertionError, match="seen"):
        run_bench(dut, sink, failing, deadline=100)
    gc.collect()
    assert not recwarn.list


def test_failure_before_others_have_started_ends_cleanly(recwarn):
    async def failing(ctx):
        raise AssertionError("seen")

    async def other(ctx):
        await ctx.tick()

    with pytest.raises(AssertionError, match="seen"):
        run_bench(Queue(8), failing, other, deadline=100)
    gc.collect()
    assert not recwarn.list


def test_background_bench_need_not_end(tmp_path):
    dut = Queue(8)

    async def source(ctx):
        await put(ctx, dut.i, range(20))

    async def sink(ctx):
        await get(ctx, dut.o, 1 << 30)

    run_bench(dut, source, background=[sink], deadline=100, trace=tmp_path / "t.vcd")
    assert b"$enddefinitions" in (tmp_path / "t.vcd").read_bytes()


def test_broken_stream_rule_is_seen():
    dut = Queue(8, fault="retract")

    async def source(ctx):
        await put(ctx, dut.i, [1, 2, 3])

    async def sink(ctx):
        await get(ctx, dut.o, 3, Stalls(8, 0.9))

    with pytest.raises(AssertionError, match="offer 0x1 was taken back or changed"):
        run_bench(dut, source, sink, deadline=1000)


def test_stalls_repeat_with_their_seed(capsys, monkeypatch):
    monkeypatch.setattr(Stalls, "others", 0)

    def pattern(seed):
        stalls = Stalls(seed, 0.3)
        return [stalls.hold() for _ in range(1000)]

    assert pattern(1) == pattern(1) != pattern(2)
    assert 200 < sum(pattern(1)) < 400
    assert capsys.readouterr().out.startswith("Stalls(seed=1, probability=0.3)\n")
    third = pattern(3)
    monkeypatch.setattr(Stalls, "others", 2)
    assert pattern(1) == third
    with pytest.raises(ValueError, match=r"^probability must be at least 0 and below 1, not 1$"):
        Stalls(1, 1)


class Parts(wiring.Component):
    """Parts of a word, a cycle late, and nothing of one without bits."""

    def __init__(self):
        super().__init__(
            {
                "given": In(data.ArrayLayout(signed(5), 3)),
                "pair": In(PAIR),
                "nothing": In(0),
                "later": Out(data.ArrayLayout(signed(5), 3)),
                "sum": Out(signed(9)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.later.eq(self.given)
        m.d.comb += self.sum.eq(self.pair.a + self.pair.b)
        return m


@pytest.mark.usefixtures("on_every_engine")
def test_parts_of_ports_are_set_and_looked_at():
    dut = Parts()

    async def bench(ctx):
        ctx.set(dut.given, [1, -2, 15])
        ctx.set(dut.given[0], -16)
        ctx.set(dut.pair.a, -100)
        ctx.set(dut.pair.b, 15)
        ctx.set(dut.nothing, 0)
        assert ctx.get(dut.nothing) == 0
        # Without a clock edge between.
        assert ctx.get(dut.sum) == -85
        ctx.set(dut.pair, {"a": 127, "b": 1})
        assert ctx.get(dut.sum) == 128
        assert [ctx.get(dut.later[index]) for index in range(3)] == [0, 0, 0]
        _, _, before = await ctx.tick().sample(dut.later[2])
        assert before == 0
        assert [ctx.get(dut.later[index]) for index in range(3)] == [-16, -2, 15]
        assert ctx.get(dut.later.as_value()) == ctx.get(dut.given.as_value()) == (15 << 10 | 30 << 5 | 16)
        ctx.set(dut.given.as_value(), -1)
        (last,) = await ctx.tick().sample(dut.later[2]).until(dut.later[1])
        assert last == 15
        assert ctx.get(dut.later[1]) == -1

    run_bench(dut, bench, deadline=20)


@pytest.mark.usefixtures("on_every_engine")
def test_benches_take_turns_and_a_background_one_need_not_end():
    dut = Pipeline()
    seen = []

    async def first(ctx):
        for value in range(5):
            ctx.set(dut.a, value)
            await ctx.tick()

    async def second(ctx):
        for _ in range(5):
            # The first has had its turn in this cycle.
            seen.append(ctx.get(dut.a))
            await ctx.tick()

    async def always(ctx):
        while True:
            ctx.set(dut.b, 7)
            await ctx.tick()

    run_bench(dut, first, second, deadline=10, background=[always])
    assert seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ["verilator", "icarus"])
def test_what_is_no_port_is_refused_on_verilog(name):
    with engine(need(name)):
        inner = Signal()

        async def look(ctx):
            ctx.get(inner)

        async def force(ctx):
            ctx.set(dut.total, 1)

        async def compute(ctx):
            ctx.get(dut.a + 1)

        for bench, message in (
            (look, "signal 'inner' is no port of the component"),
            (force, "port 'total' is no input"),
            (compute, "is no part of a port"),
        ):
            dut = Pipeline()
            with pytest.raises(NotInVerilog, match=message):
                run_bench(dut, bench, deadline=10)
        with refused(NotInVerilog, "Module has no signature"):
            run_bench(Module(), look, deadline=10)
