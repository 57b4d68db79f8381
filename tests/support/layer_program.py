"""An obvious, slow model of the layer program, straight from the loop nest in ``zeropoint_hw.isa``."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from zeropoint_hw.isa import Instruction
from zeropoint_hw.layout import Level


@dataclass(frozen=True)
class ArrayCycle:
    """One turn of the innermost loop."""

    group: int
    row: int
    column: int
    first: bool
    last: bool
    level: Level
    #: Byte address of lane 0, not yet reduced to the memory's size.
    address: int
    #: Which lanes hold activations.
    mask: tuple[bool, ...]
    weight_word: int


def array_cycles(i: Instruction, lanes: int) -> Iterator[ArrayCycle]:
    """Yield the array cycles of an instruction, in order."""
    chunks = -(-i.run // lanes)
    counts = (i.groups, i.rows, i.columns, i.taps_y, i.taps_x, chunks)
    for indices in product(*map(range, counts)):
        group, row, column, tap_y, tap_x, chunk = indices
        # The innermost loop that is not at its end moves on.
        moving = [level for level in range(6) if indices[5 - level] < counts[5 - level] - 1]
        level = Level(min(moving, default=Level.END))
        y = i.y_first + row * i.y_row_step + tap_y * i.y_tap_step
        x = i.x_first + group * i.x_group_step + column * i.x_column_step + tap_x * i.x_tap_step + chunk * lanes
        taps_before = 0 if i.weights_per_tap else (group * i.taps_y + tap_y) * i.taps_x + tap_x
        yield ArrayCycle(
            group=group,
            row=row,
            column=column,
            first=tap_y == tap_x == chunk == 0,
            last=level >= Level.COLUMN,
            level=level,
            address=i.input_base + row * i.input_row_step + tap_y * i.input_tap_step + x,
            mask=tuple(
                0 <= y < i.input_rows and 0 <= x + lane < i.row_bytes and chunk * lanes + lane < i.run
                for lane in range(lanes)
            ),
            weight_word=i.weight_base + taps_before * chunks + chunk,
        )


def random_loops(rng: np.random.Generator, lanes: int, address_bits: int = 20) -> dict[str, int]:
    """Return the loop fields of a random instruction: a few hundred array cycles at most, any address."""

    def below(limit: int) -> int:
        return int(rng.integers(limit))

    def step(bits: int) -> int:
        # Mostly such as real layers have, sometimes anything.
        return below(1 << bits) if rng.random() < 0.1 else below(3 * lanes)

    counts = {name: 1 + below(3) for name in ("groups", "rows", "columns", "taps_y", "taps_x")}
    return counts | {
        "run": 1 + below(2 * lanes + 2),
        "idle": below(4),
        "weights_per_tap": below(2),
        "input_base": below(1 << address_bits) - (1 << address_bits - 1),
        "input_row_step": step(19) * int(rng.choice([-1, 1])),
        "input_tap_step": step(19) * int(rng.choice([-1, 1])),
        "y_first": below(5) - 3,
        "y_row_step": below(3),
        "y_tap_step": below(3),
        "input_rows": 1 + below(6),
        "x_first": -step(20) if rng.random() < 0.5 else step(18),
        "x_column_step": step(17),
        "x_tap_step": step(17),
        "x_group_step": step(17),
        "row_bytes": step(20),
        "weight_base": below(50),
    }
