"""What the tests of copies have in common: configurations, and what loops visit."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from math import prod

import pytest

from zeropoint.compiler.copies import Loop
from zeropoint.compiler.emit import Emitter
from zeropoint.compiler.program import Program
from zeropoint_hw.config import AcceleratorConfig, PEKind

CONFIG = AcceleratorConfig(requantizers=4)
CONFIGS = {
    "8x8": replace(CONFIG, requantizers=2),
    "1x1": AcceleratorConfig(lanes=1, columns=1),
    "4x8-fold": AcceleratorConfig(lanes=4, columns=8, pe=PEKind.FOLD),
    "8x4": AcceleratorConfig(lanes=8, columns=4),
}
everywhere = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
DTYPES = ("int8", "uint8")


def array_cycles(emitter: Emitter | Program, lanes: int = 8) -> int:
    return sum(
        prod((i.groups, i.rows, i.columns, i.taps_y, i.taps_x, -(-i.run // lanes))) for i in emitter.instructions
    )


def offsets(loops: Sequence[Loop]) -> list[tuple[int, int]]:
    """Return what is read and written in each turn, from the first."""
    return [
        (
            sum(n * loop.read for n, loop in zip(turn, loops, strict=True)),
            sum(n * loop.write for n, loop in zip(turn, loops, strict=True)),
        )
        for turn in product(*(range(loop.count) for loop in loops))
    ]
