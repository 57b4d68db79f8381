"""A host on the accelerator's bus, for benches in Amaranth's simulator."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from support.gateware import packed, unpacked
from zeropoint_hw.accelerator import Accelerator
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import LOG_PIECES, PARAMETER_PIECES, Command, LogEntry, Region, Register, address


class Host:
    """Loads, runs and reads an accelerator, one access a cycle."""

    def __init__(self, ctx: Any, accelerator: Accelerator, config: AcceleratorConfig) -> None:
        self._ctx, self._bus, self._config = ctx, accelerator.host, config

    async def write(self, region: Region, accesses: Iterable[tuple[int, int]]) -> None:
        """Write words, pairs of an offset and the data."""
        ctx, bus = self._ctx, self._bus
        for offset, data in accesses:
            ctx.set(bus.address, address(region, int(offset)))
            ctx.set(bus.write_data, int(data) & 0xFFFFFFFF)
            ctx.set(bus.write, 1)
            await ctx.tick()
        ctx.set(bus.write, 0)

    async def read(self, region: Region, offsets: Sequence[int]) -> list[int]:
        """Read words: each is answered ``READ_LATENCY`` cycles later, neither sooner nor in another order."""
        ctx, bus = self._ctx, self._bus
        answers = []
        for cycle in range(len(offsets) + Accelerator.READ_LATENCY):
            answered = cycle >= Accelerator.READ_LATENCY
            assert bool(ctx.get(bus.read_valid)) == answered
            if answered:
                answers.append(ctx.get(bus.read_data))
            ctx.set(bus.read, cycle < len(offsets))
            if cycle < len(offsets):
                ctx.set(bus.address, address(region, int(offsets[cycle])))
            await ctx.tick()
        return answers

    async def load(
        self,
        program: Sequence[int] = (),
        parameters: Sequence[tuple[int, int, int]] = (),
        weights: npt.NDArray[np.uint8] | None = None,
    ) -> None:
        """Write program words, parameters, and weights as bytes ``(words, columns, lanes)``."""
        await self.write(Region.PROGRAM, enumerate(program))
        await self.write(
            Region.PARAMETERS,
            (
                (PARAMETER_PIECES * channel + piece, value)
                for channel, entry in enumerate(parameters)
                for piece, value in enumerate(entry)
            ),
        )
        if weights is not None:
            assert self._config.weight_bits == 8
            width = self._config.piece_bits // 8
            pieces = weights.reshape(-1, width)
            await self.write(Region.WEIGHTS, ((index, packed(piece, 8)) for index, piece in enumerate(pieces)))

    async def write_bytes(self, start: int, data: Sequence[int]) -> None:
        """Write activations; what is left of the last access is written with zeros."""
        count = self._config.host_bytes
        accesses = range(0, len(data), count)
        await self.write(
            Region.ACTIVATIONS, ((start + first, packed(data[first : first + count], 8)) for first in accesses)
        )

    async def read_bytes(self, start: int, length: int) -> bytes:
        """Read activations."""
        count = self._config.host_bytes
        words = await self.read(Region.ACTIVATIONS, range(start, start + length, count))
        return bytes(byte for word in words for byte in unpacked(word, 8, count))[:length]

    async def command(self, command: Command) -> None:
        """Start the accelerator."""
        await self.write(Region.CONTROL, [(Register.STATUS, command)])

    async def wait(self, limit: int) -> int:
        """Read the status in every cycle until it is idle; return how often it was busy."""
        ctx, bus = self._ctx, self._bus
        ctx.set(bus.address, address(Region.CONTROL, Register.STATUS))
        ctx.set(bus.read, 1)
        busy = 0
        while True:
            _, _, valid, status = await ctx.tick().sample(bus.read_valid, bus.read_data)
            if valid and not status:
                break
            busy += bool(valid)
            assert busy <= limit, f"still busy after {limit} cycles"
        ctx.set(bus.read, 0)
        await ctx.tick().repeat(Accelerator.READ_LATENCY)
        return busy

    async def run(self, command: Command = Command.RUN, limit: int = 20_000) -> int:
        """Start the accelerator and wait until it is idle; return the cycles in which it was busy."""
        await self.command(command)
        return await self.wait(limit)

    async def registers(self) -> dict[Register, int]:
        """Return all control registers."""
        return dict(zip(Register, await self.read(Region.CONTROL, list(Register)), strict=True))

    async def log(self, count: int) -> list[tuple[int, ...]]:
        """Return what each of the first ``count`` instructions took, as ``LogEntry`` names the counters."""
        pieces = await self.read(
            Region.LOG, [entry * LOG_PIECES + piece for entry in range(count) for piece in LogEntry]
        )
        totals = np.reshape(pieces, (count, len(LogEntry)))
        return [tuple(row) for row in np.diff(totals, axis=0, prepend=0).tolist()]
