"""What the gateware's component tests share: instructions as bits, and bytes packed into words."""

import gc
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from traceback import clear_frames
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from amaranth.hdl import UnusedElaboratable

from zeropoint_hw.isa import Instruction
from zeropoint_sim.bench import run_bench


@contextmanager
def refused(error: type[Exception], match: str) -> Iterator[None]:
    """Expect a component's constructor to raise ``error``, without Amaranth's complaint that it was never used."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedElaboratable)
        with pytest.raises(error, match=match) as raised:
            yield
        # The half-made component goes now, not whenever the garbage collector would find it.
        clear_frames(raised.tb)
        gc.collect()


def instruction_bits(instruction: Instruction) -> int:
    """Return what the instruction register holds for ``instruction``."""
    return packed(instruction.encode(), 32)


def packed(values: Iterable[int], width: int) -> int:
    """Return the ``values`` side by side, ``width`` bits each, the first in the least significant bits."""
    mask = (1 << width) - 1
    return sum((int(value) & mask) << width * place for place, value in enumerate(values))


def unpacked(bits: int, width: int, count: int, signed: bool = False) -> list[int]:
    """Return the ``count`` values of ``width`` bits in ``bits``."""
    values = [bits >> width * place & (1 << width) - 1 for place in range(count)]
    return [signed_number(value, width) for value in values] if signed else values


def signed_number(bits: int, width: int) -> int:
    """Return the two's complement number of ``width`` bits."""
    return (bits & (1 << width) - 1) - (bits >> width - 1 & 1) * (1 << width)


def rows_of(*columns: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the rows of a table given by columns of the same length, as Python's integers."""
    return [tuple(int(value) for value in row) for row in zip(*columns, strict=True)]


def products(dut: Any, latency: int, a: Sequence[int], b: Sequence[int]) -> npt.NDArray[np.int64]:
    """Give a multiplier one pair a cycle, and return its products."""
    got = []

    async def bench(ctx: Any) -> None:
        for cycle, (left, right) in enumerate([*rows_of(a, b), *[(1, 1)] * latency]):
            if cycle >= latency:
                got.append(ctx.get(dut.p))
            ctx.set(dut.a, left)
            ctx.set(dut.b, right)
            await ctx.tick()

    run_bench(dut, bench, deadline=len(a) + 10)
    return np.array(got)
