"""Amaranth's own simulator as an engine: slow, and always there."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.sim import Simulator
from numpy.typing import NDArray

from zeropoint.errors import ZeropointError
from zeropoint.host.transport import bus_words, no_answer, still_busy
from zeropoint_hw.isa import Command
from zeropoint_sim.bus import BusDriver

#: Seconds of simulated time that a clock cycle takes.
PERIOD = 1e-6


class _Bus(BusDriver):
    """The bus, driven by a bench of the simulator."""

    ctx: Any

    def __init__(self, host: Any) -> None:
        super().__init__()
        self._host = host

    def put(self, name: str, value: int) -> None:
        self.ctx.set(getattr(self._host, name), value)

    async def advance(self) -> int | None:
        _, _, valid, data = await self.ctx.tick().sample(self._host.read_valid, self._host.read_data)
        return data if valid else None


_Request = Callable[[_Bus], Awaitable[Any]]


class AmaranthEngine:
    """A :class:`zeropoint.host.transport.Transport` to a component in Amaranth's simulator.

    Parameters
    ----------
    design
        A component with a ``host: In(HostBusSignature())`` in the ``sync`` domain.
    trace
        A VCD file to write. It records from the start; :meth:`trace` can end that.

    Raises
    ------
    zeropoint.errors.ZeropointError
        Here and later, if the VCD file cannot be written.
    """

    name = "amaranth"

    def __init__(self, design: Any, trace: Path | None = None) -> None:
        self._bus = _Bus(design.host)
        self._request: _Request | None = None
        self._answer: Any = None
        self._simulator = Simulator(design)
        self._simulator.add_clock(PERIOD)
        self._simulator.add_testbench(self._bench)
        self._running = True
        self._tracing = ExitStack()
        self._trace = trace
        if trace is not None:
            with self._writing():
                self._tracing.enter_context(self._simulator.write_vcd(str(trace)))

    @property
    def cycles(self) -> int:  # noqa: D102
        return self._bus.cycles

    def write(self, address: int, words: NDArray[np.uint32], stride: int = 1) -> None:  # noqa: D102
        values = bus_words(address, words, stride).tolist()
        self._do(lambda bus: bus.write(address, values, stride))

    def read(self, address: int, count: int, stride: int = 1) -> NDArray[np.uint32]:  # noqa: D102
        bus_words(address, np.broadcast_to(np.uint32(0), count), stride)
        answers = self._do(lambda bus: bus.read(address, count, stride))
        if len(answers) < count:
            raise no_answer(address, count, len(answers))
        return np.array(answers, np.uint32)

    def run(self, command: Command, max_cycles: int) -> None:  # noqa: D102
        if not self._do(lambda bus: bus.run(command, max_cycles)):
            raise still_busy(max_cycles)

    def trace(self, on: bool) -> None:  # noqa: D102
        if not on:
            self._end_trace()

    def close(self) -> None:  # noqa: D102
        if self._running:
            self._request = None
            self._advance(lambda: not self._running)
        self._end_trace()

    def _end_trace(self) -> None:
        with self._writing():
            self._tracing.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ZeropointError(
                f"cannot write the waveform file '{self._trace}': {error.strerror or error}"
            ) from error

    def _do(self, request: _Request) -> Any:
        if not self._running:
            raise RuntimeError("the simulation has ended")
        self._request, self._answer = request, None
        self._advance(lambda: self._request is None)
        return self._answer

    def _advance(self, done: Callable[[], bool]) -> None:
        try:
            # The first step starts the bench, which may have nothing to do yet.
            more = True
            with self._writing():
                while more:
                    self._simulator.advance()
                    more = not done()
        except BaseException:
            # The simulator stopped within a step and must not be advanced again.
            self._running = False
            raise

    async def _bench(self, ctx: Any) -> None:
        """Serve requests until there is none when the simulation is advanced.

        Everything it awaits is awaited once and not iterated over, so that it can be abandoned at any point, and
        between requests no time passes.
        """
        self._bus.ctx = ctx
        while (request := self._request) is not None:
            self._answer = await request(self._bus)
            self._request = None
            await ctx.delay(0)
        self._running = False
