"""The benches of ``zeropoint_sim.bench`` on a component's Verilog: the same ``async`` functions, another simulator.

Benches see ports only, since these are what the Verilog has. They run in this process, and take turns as in Amaranth's
simulator; the simulator's process is asked once for each cycle, and once whenever a bench looks at outputs.
"""

import random
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from amaranth.hdl import Const, Shape, ShapeCastable, Signal, Value, ValueCastable
from amaranth.hdl._ast import Operator, Slice
from amaranth.lib import wiring

from zeropoint_hw.verilog import to_verilog
from zeropoint_sim import verilog_build
from zeropoint_sim.verilog_simulation import VerilogSimulation


class NotInVerilog(Exception):
    """A bench wants something that is no port of the component."""


class Tick:
    """A clock cycle to be awaited, or several."""

    def __init__(self, ctx: "VerilogContext", edge: bool = True) -> None:
        self._ctx = ctx
        self.edge = edge
        self.sampled: tuple[Any, ...] = ()
        self._count = 1
        self._until: Any = None

    def sample(self, *values: Any) -> "Tick":
        """Return this, so that awaiting it gives the values before the clock's edge."""
        self.sampled = (*self.sampled, *values)
        return self

    def repeat(self, count: int) -> "Tick":
        """Return this, so that awaiting it takes ``count`` cycles."""
        self._count = count
        return self

    def until(self, condition: Any) -> "Tick":
        """Return this, so that awaiting it ends with the first cycle in which ``condition`` is not 0."""
        self._until = condition
        return self

    def __await__(self) -> Generator[Any, None, tuple[Any, ...]]:
        if self._until is not None:
            wanted, self.sampled = self.sampled, (*self.sampled, self._until)
            yield self
            while not self._ctx.before_edge(self._until):
                yield self
            return tuple(self._ctx.before_edge(value) for value in wanted)
        for _ in range(self._count):
            yield self
        return (True, False, *(self._ctx.before_edge(value) for value in self.sampled))

    async def __aiter__(self) -> AsyncIterator[tuple[Any, ...]]:
        while True:
            yield await self


class VerilogContext:
    """What benches get instead of Amaranth's simulator context: as far as it goes, it does the same.

    Raises
    ------
    NotInVerilog
        Here, if the component is none; later, if a signal is no port.
    """

    def __init__(self, component: Any) -> None:
        if not isinstance(component, wiring.Component):
            raise NotInVerilog(f"{type(component).__name__} has no signature that gives its Verilog ports")
        self.ports: dict[int, str] = {}
        self.inputs: dict[str, int] = {}
        for path, member, value in component.signature.flatten(component):
            signal = Value.cast(value)
            if isinstance(signal, Signal) and len(signal):
                name = "__".join(map(str, path))
                self.ports[id(signal)] = name
                if member.flow is wiring.In:
                    self.inputs[name] = signal.init & (1 << len(signal)) - 1
        self.changed = dict(self.inputs)
        self.simulation: VerilogSimulation
        self._random = random.Random(0)
        self._settled: dict[str, int] = {}
        self._before: dict[str, int] = {}

    # What benches call.

    def set(self, target: Any, value: Any) -> None:
        """Set an input, or some of its bits."""
        shape = target.shape() if isinstance(target, ValueCastable) else None
        bits = Value.cast(shape.const(value)) if isinstance(shape, ShapeCastable) else Const(int(value), 1 << 16)
        signal, start, width = _place(Value.cast(target))
        if not width:
            return
        number = _constant(bits) & (1 << width) - 1
        port = self._port(signal)
        if port not in self.inputs:
            raise NotInVerilog(f"port '{port}' is no input")
        mask = (1 << width) - 1 << start
        self.inputs[port] = self.changed[port] = self.inputs[port] & ~mask | number << start
        self._settled = {}

    def get(self, value: Any) -> Any:
        """Return the value of a port, or of a part of one, once all inputs have had effect."""
        signal, _, width = _place(Value.cast(value))
        port = self._port(signal) if width else ""
        if width and port not in self._settled:
            # All outputs at once, as others are likely to be wanted too.
            names = [name for name in self.ports.values() if name not in self.inputs]
            self._settled = self._numbers("settle", names) | self.inputs
        return self._value(value, self._settled)

    def tick(self) -> Tick:
        """Return a cycle to be awaited."""
        return Tick(self)

    def delay(self, seconds: float) -> Tick:
        """Return a time to be awaited, shorter than a cycle, in which inputs have effect."""
        return Tick(self, edge=False)

    # What the scheduler calls.

    def before_edge(self, value: Any) -> Any:
        """Return what a value was before the last clock edge, if it was to be sampled."""
        return self._value(value, self._before)

    def cycle(self, sampled: Sequence[Any]) -> None:
        """Spend a clock cycle."""
        places = [_place(Value.cast(value)) for value in sampled]
        names = dict.fromkeys(self._port(signal) for signal, _, width in places if width)
        before = dict(self.inputs)
        self._before = self._numbers("cycle", [name for name in names if name not in self.inputs]) | before
        self._settled = {}

    def _numbers(self, do: str, names: list[str]) -> dict[str, int]:
        changed, self.changed = self.changed, {}
        values = self.simulation.request(do, set=changed, get=names)
        return {name: self._bits(value) for name, value in zip(names, values, strict=True)}

    def _bits(self, value: int | str) -> int:
        """Return a number; bits that are neither 0 nor 1, as before the first clock edge, become random ones."""
        if isinstance(value, int):
            return value
        return int("".join(bit if bit in "01" else str(self._random.getrandbits(1)) for bit in value), 2)

    def _port(self, signal: Signal) -> str:
        if id(signal) not in self.ports:
            raise NotInVerilog(f"signal '{signal.name}' is no port of the component")
        return self.ports[id(signal)]

    def _value(self, value: Any, numbers: dict[str, int]) -> Any:
        signal, start, width = _place(Value.cast(value))
        bits = numbers[self._port(signal)] >> start & (1 << width) - 1 if width else 0
        shape = value.shape() if isinstance(value, ValueCastable) else Value.cast(value).shape()
        if isinstance(shape, ShapeCastable):
            return shape.from_bits(bits)
        return bits - (1 << width) if Shape.cast(shape).signed and bits >> width - 1 else bits


def _constant(value: Value) -> int:
    constant = Const.cast(value)
    return int(constant.value)


def _place(value: Value) -> tuple[Signal, int, int]:
    """Return of which signal a value is a part, its first bit there, and how many there are."""
    if isinstance(value, Signal):
        return value, 0, len(value)
    if isinstance(value, Slice):
        signal, start, _ = _place(value.value)
        return signal, start + value.start, len(value)
    if isinstance(value, Operator) and value.operator in ("u", "s"):
        return _place(value.operands[0])
    raise NotInVerilog(f"{value!r} is no part of a port")


def run_benches(
    simulator: str,
    component: Any,
    start: Callable[[VerilogContext], list[Any]],
    stuck: Callable[[], Exception],
    deadline: int,
    trace: Path | None = None,
    make_verilog: Callable[[Any], str] | None = None,
) -> None:
    """Run benches on the Verilog of ``component`` until those that must have returned.

    Parameters
    ----------
    simulator
        One of ``verilog_build.SIMULATORS``.
    component
        What is tested; all that is driven and looked at must be its ports.
    start
        Makes the benches, given their context: objects with ``awaitable``, ``returned`` and ``needed``.
    stuck
        Makes the exception for a run that takes too long.
    deadline
        Cycles after which it does.
    trace
        A VCD file to write.
    make_verilog
        As :func:`zeropoint_sim.bench.engine`.
    """
    ctx = VerilogContext(component)
    text = to_verilog(component, verilog_build.TOP) if make_verilog is None else make_verilog(component)
    built = verilog_build.build(simulator, lambda: text, text.encode(), trace=trace is not None)
    reset = ["rst"] if "rst" in verilog_build.ports(text) else []
    ctx.simulation = VerilogSimulation(built, [*ctx.inputs, *reset], trace)
    try:
        ctx.simulation.trace(True)
        benches = start(ctx)
        waiting = [(bench, bench.__await__()) for bench in benches]
        while any(bench.needed and not bench.returned for bench in benches):
            ticks: list[Tick] = []
            still = []
            for bench, steps in waiting:
                tick = next(steps, None)
                while tick is not None and not tick.edge:
                    tick = next(steps, None)
                if tick is not None:
                    ticks.append(tick)
                    still.append((bench, steps))
            waiting = still
            if any(bench.needed and not bench.returned for bench in benches):
                if ctx.simulation.cycles >= deadline:
                    raise stuck()
                ctx.cycle([value for tick in ticks for value in tick.sampled])
    finally:
        ctx.simulation.close()
