"""A small library for component tests, in Amaranth's simulator or (:func:`engine`) on the component's Verilog.

A test is a few ``async`` benches, each a little story of :func:`put`, :func:`get`, :func:`drive` and :func:`collect`::

    async def source(ctx):
        await put(ctx, dut.i, values, Stalls(seed=1))

    async def sink(ctx):
        assert await get(ctx, dut.o, len(expected), Stalls(seed=2)) == expected

    run_bench(dut, source, sink, deadline=1000)

Values may be NumPy's: they are converted here, because Amaranth refuses NumPy integers.
"""

import random
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.hdl import Module, Signal, Value
from amaranth.sim import Simulator

from zeropoint.host.transport import Watchdog

#: Seconds of simulated time that a clock cycle of a bench takes.
PERIOD = 1e-6

Bench = Callable[[Any], Coroutine[Any, Any, None]]

#: Makes the Verilog of a component, with the ports that ``zeropoint_hw.verilog.to_verilog`` gives it.
MakeVerilog = Callable[[Any], str]

#: What benches run on, and what makes the Verilog there if it is not that function.
_engine: ContextVar[tuple[str, MakeVerilog | None]] = ContextVar("engine", default=("amaranth", None))


class Stalls:
    """Random cycles in which a bench holds back, the same for the same seed.

    The seed is printed when it is first used, which pytest shows where a test fails.

    Parameters
    ----------
    seed
        Seed of the random numbers.
    probability
        The chance, in each cycle, of holding back in that cycle: from 0 to below 1.

    Attributes
    ----------
    seed
        What the random numbers began with: ``seed``, and ``Stalls.others``, by which other ones can be tried.
    """

    others = 0

    def __init__(self, seed: int, probability: float = 0.5) -> None:
        if not 0 <= probability < 1:
            raise ValueError(f"probability must be at least 0 and below 1, not {probability!r}")
        self.seed = seed + self.others
        self.probability = probability
        self._random = random.Random(self.seed)
        self._printed = False

    def __repr__(self) -> str:
        return f"Stalls(seed={self.seed}, probability={self.probability})"

    def hold(self) -> bool:
        """Return whether to hold back in this cycle."""
        if not self._printed:
            self._printed = True
            print(repr(self))
        return self._random.random() < self.probability

    def noise(self, ctx: Any, signals: Iterable[Any]) -> None:
        """Set signals that carry nothing in this cycle to random bits, so that a component that looks is found out."""
        for signal in signals:
            bits = Value.cast(signal).as_unsigned()
            ctx.set(bits, self._random.getrandbits(len(bits)))


def run_bench(
    component: Any,
    *benches: Bench,
    deadline: int,
    background: Sequence[Bench] = (),
    trace: Path | None = None,
) -> None:
    """Simulate ``component`` with a clock in its ``sync`` domain until all ``benches`` have returned.

    Parameters
    ----------
    component
        What is tested: a component or any other elaboratable. It need not have a ``sync`` domain.
    benches
        ``async`` functions of Amaranth's simulator context. In every cycle they take turns in this order.
    deadline
        Clock cycles after which a bench that has not returned is stuck.
    background
        Benches that need not return, such as a sink that is always ready.
    trace
        A VCD file to write.

    Raises
    ------
    Watchdog
        If a bench is stuck; the message names each one and the line at which it waits.
    """
    if not benches:
        raise ValueError("a run needs a bench that ends")
    simulator, make_verilog = _engine.get()
    if simulator != "amaranth":
        _run_on_verilog(simulator, make_verilog, component, benches, deadline, background, trace)
        return
    # The counter makes sure that there is a clock, and numbers the cycles in the waveforms.
    top = Module()
    top.submodules.component = component
    cycle = Signal(32)
    top.d.sync += cycle.eq(cycle + 1)

    simulator = Simulator(top)
    simulator.add_clock(PERIOD)
    started: list[_Started] = []
    for bench in benches:
        simulator.add_testbench(_starter(bench, started))
    for bench in background:
        simulator.add_testbench(_starter(bench, started), background=True)

    async def watchdog(ctx: Any) -> None:
        await ctx.delay(deadline * PERIOD)
        stuck = [bench.where() for bench in started if bench.bench in benches and not bench.returned]
        raise Watchdog(f"after {deadline} cycles still waiting: {'; '.join(stuck)}")

    simulator.add_testbench(watchdog, background=True)
    try:
        with ExitStack() as stack:
            if trace is not None:
                stack.enter_context(simulator.write_vcd(str(trace)))
            simulator.run()
    finally:
        for entry in started:
            entry.close()


@contextmanager
def engine(name: str, make_verilog: MakeVerilog | None = None) -> Iterator[None]:
    """Run benches on another engine than Amaranth's simulator: ``verilator`` or ``icarus``, on the component's Verilog.

    There, benches can only set and look at ports of the component, which must be a ``wiring.Component``; others end in
    :class:`zeropoint_sim.verilog_bench.NotInVerilog`.

    Parameters
    ----------
    name
        ``amaranth``, ``verilator`` or ``icarus``.
    make_verilog
        Makes another Verilog of a component than ``zeropoint_hw.verilog.to_verilog``, such as a netlist's, with the
        same ports and the top module ``verilog_build.TOP``.
    """
    token = _engine.set((name, make_verilog))
    try:
        yield
    finally:
        _engine.reset(token)


def _run_on_verilog(
    simulator: str,
    make_verilog: MakeVerilog | None,
    component: Any,
    benches: Sequence[Bench],
    deadline: int,
    background: Sequence[Bench],
    trace: Path | None,
) -> None:
    # Imported here, as few need it.
    from zeropoint_sim.verilog_bench import run_benches

    started: list[_Started] = []

    def start(ctx: Any) -> list[_Started]:
        started.extend(_Started(bench, ctx, bench in benches) for bench in (*benches, *background))
        return started

    def stuck() -> Watchdog:
        waiting = [bench.where() for bench in started if bench.needed and not bench.returned]
        return Watchdog(f"after {deadline} cycles still waiting: {'; '.join(waiting)}")

    try:
        run_benches(simulator, component, start, stuck, deadline, trace, make_verilog)
    finally:
        for entry in started:
            entry.close()


class _Started:
    """A bench that runs, and can be ended from outside.

    The simulator awaits this object, which passes on what the bench awaits. A bench that is abandoned half-way is then
    closed by :meth:`close` and not by the garbage collector, where CPython 3.11 complains of asynchronous generators
    (``ctx.tick().until(…)`` holds one) that are closed while they wait.
    """

    def __init__(self, bench: Bench, ctx: Any, needed: bool = True) -> None:
        self.bench = bench
        #: Whether the run lasts until it has returned.
        self.needed = needed
        self.returned = False
        self._coroutine = bench(ctx)

    def __await__(self) -> Generator[Any, None, None]:
        while True:
            try:
                trigger = self._coroutine.send(None)
            except StopIteration:
                self.returned = True
                return
            yield trigger

    def where(self) -> str:
        """Return the bench's name and the lines at which it waits, outermost first."""
        lines = []
        waiting: Any = self._coroutine
        while (frame := getattr(waiting, "cr_frame", None)) is not None:
            lines.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}")
            waiting = waiting.cr_await
        return f"{self.bench.__name__} at {', '.join(lines)}"

    def close(self) -> None:
        # RuntimeError: the bench awaits an asynchronous generator, see above; it has been closed all the same.
        with suppress(RuntimeError):
            self._coroutine.close()


def _starter(bench: Bench, started: list[_Started]) -> Callable[[Any], Awaitable[None]]:
    async def start(ctx: Any) -> None:
        # Nothing can fail before every bench has started: Python complains of a coroutine that never was.
        await ctx.delay(0)
        entry = _Started(bench, ctx)
        started.append(entry)
        await entry

    return start


async def put(ctx: Any, stream: Any, values: Iterable[Any], stalls: Stalls | None = None) -> None:
    """Send ``values`` into ``stream`` (seen from the component: an input), and leave ``valid`` low.

    As the stream rules ask, ``valid`` never waits for ``ready`` and nothing changes until the transfer. In cycles that
    are held back the payload is noise.
    """
    for value in values:
        while stalls and stalls.hold():
            stalls.noise(ctx, [stream.payload])
            await ctx.tick()
        ctx.set(stream.payload, plain(value))
        ctx.set(stream.valid, 1)
        ready = False
        while not ready:
            _, _, ready = await ctx.tick().sample(stream.ready)
        ctx.set(stream.valid, 0)


async def get(ctx: Any, stream: Any, count: int, stalls: Stalls | None = None) -> list[Any]:
    """Receive ``count`` payloads from ``stream`` (seen from the component: an output), and leave ``ready`` low.

    Raises
    ------
    AssertionError
        If the component breaks the stream rules: takes an offer back, or changes it before it is accepted.
    """
    received: list[Any] = []
    offered = None
    while len(received) < count:
        ready = not (stalls and stalls.hold())
        ctx.set(stream.ready, ready)
        _, _, valid, bits, payload = await ctx.tick().sample(stream.valid, Value.cast(stream.payload), stream.payload)
        assert offered is None or (valid and bits == offered), f"offer {offered:#x} was taken back or changed"
        offered = bits if valid and not ready else None
        if valid and ready:
            received.append(payload)
    ctx.set(stream.ready, 0)
    return received


async def drive(
    ctx: Any, valid: Any, signals: Sequence[Any], rows: Iterable[Sequence[Any]], stalls: Stalls | None = None
) -> None:
    """Give a pipeline without back-pressure one row of ``signals`` a cycle with ``valid`` high, and then leave it low.

    In cycles that are held back ``valid`` is low and the signals are noise.
    """
    for row in rows:
        while stalls and stalls.hold():
            ctx.set(valid, 0)
            stalls.noise(ctx, signals)
            await ctx.tick()
        for signal, value in zip(signals, row, strict=True):
            ctx.set(signal, plain(value))
        ctx.set(valid, 1)
        await ctx.tick()
    ctx.set(valid, 0)


async def collect(ctx: Any, valid: Any, signals: Sequence[Any], count: int) -> list[tuple[Any, ...]]:
    """Return the ``signals`` in each of the next ``count`` cycles in which ``valid`` is high."""
    rows: list[tuple[Any, ...]] = []
    while len(rows) < count:
        _, _, hit, *row = await ctx.tick().sample(valid, *signals)
        if hit:
            rows.append(tuple(row))
    return rows


def plain(value: Any) -> Any:
    """Return ``value`` with NumPy numbers and arrays in it as Python's integers and lists."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return value
