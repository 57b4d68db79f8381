"""Amaranth's own simulator as an engine: slow, and always there."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.sim import Simulator
from numpy.typing import NDArray

from zeropoint.errors import ZeropointError
from zeropoint.host.transport import ANSWER_LIMIT, bus_words, no_answer, still_busy
from zeropoint_hw.isa import Command, Region, Register, address

#: Seconds of simulated time that a clock cycle takes.
PERIOD = 1e-6

_STATUS = address(Region.CONTROL, Register.STATUS)

_Request = Callable[[Any], Awaitable[Any]]


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
        self._host = design.host
        self._cycles = 0
        self._request: _Request | None = None
        self._answer: Any = None
        # What the bus inputs hold. Setting an input costs an evaluation of the design, so only changes are set.
        self._inputs = {"address": 0, "write": 0, "write_data": 0, "read": 0}
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
        return self._cycles

    def write(self, address: int, words: NDArray[np.uint32], stride: int = 1) -> None:  # noqa: D102
        values = bus_words(address, words, stride).tolist()

        async def request(ctx: Any) -> None:
            for index, value in enumerate(values):
                await self._cycle(ctx, address=address + index * stride, write=1, write_data=value)
            self._set(ctx, write=0)

        self._do(request)

    def read(self, address: int, count: int, stride: int = 1) -> NDArray[np.uint32]:  # noqa: D102
        bus_words(address, np.broadcast_to(np.uint32(0), count), stride)
        answers: list[int] = []

        async def request(ctx: Any) -> None:
            for index in range(count):
                answers.extend(await self._cycle(ctx, address=address + index * stride, read=1))
            await self._drain(ctx, answers, count)

        self._do(request)
        if len(answers) < count:
            raise no_answer(address, count, len(answers))
        return np.array(answers, np.uint32)

    def run(self, command: Command, max_cycles: int) -> None:  # noqa: D102
        async def request(ctx: Any) -> bool:
            await self._cycle(ctx, address=_STATUS, write=1, write_data=int(command))
            self._set(ctx, write=0)
            answers: list[int] = []
            asked, idle = 0, False
            while asked < max_cycles and not idle:
                asked += 1
                answer = await self._cycle(ctx, address=_STATUS, read=1)
                answers += answer
                idle = answer == [0]
            await self._drain(ctx, answers, asked)
            return idle

        if not self._do(request):
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
        while (request := self._request) is not None:
            self._answer = await request(ctx)
            self._request = None
            await ctx.delay(0)
        self._running = False

    def _set(self, ctx: Any, **inputs: int) -> None:
        for name, value in inputs.items():
            if self._inputs[name] != value:
                self._inputs[name] = value
                ctx.set(getattr(self._host, name), value)

    async def _cycle(self, ctx: Any, **inputs: int) -> list[int]:
        """Spend a clock cycle with these bus inputs; return the answer that arrives in it, if one does."""
        self._set(ctx, **inputs)
        _, _, valid, data = await ctx.tick().sample(self._host.read_valid, self._host.read_data)
        self._cycles += 1
        return [data] if valid else []

    async def _drain(self, ctx: Any, answers: list[int], count: int) -> None:
        """Wait until all ``count`` answers have arrived, for as long as that can take."""
        self._set(ctx, read=0)
        waited = 0
        while len(answers) < count and waited < ANSWER_LIMIT:
            answer = await self._cycle(ctx)
            answers += answer
            waited = 0 if answer else waited + 1
