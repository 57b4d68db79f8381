"""An obvious, slow model of the layer program, straight from the loop nest in ``zeropoint_hw.isa``."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from support.gateware import signed_number
from zeropoint.numerics import Rounding, multiply_by_quantized_multiplier, requantize, wrap_int32
from zeropoint_hw.config import AcceleratorConfig, PEKind
from zeropoint_hw.isa import Accumulate, Instruction, Round
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


def output_sums(
    i: Instruction, config: AcceleratorConfig, memory: bytearray, weights: npt.NDArray[np.uint8]
) -> Iterator[tuple[ArrayCycle, npt.NDArray[np.int64]]]:
    """Yield the last cycle of each output, and what its columns bring to the requantizers.

    ``weights`` are bytes ``(words, columns, lanes)``.
    """
    pad = signed_number(i.pad_value, 8 + i.input_unsigned)
    dots: list[npt.NDArray[np.int64]] = []
    activation_sum = 0
    for cycle in array_cycles(i, config.lanes):
        bytes_read = [
            memory[(cycle.address + lane) % (1 << 20)] if hit else None for lane, hit in enumerate(cycle.mask)
        ]
        x = np.array([pad if byte is None else signed_number(byte, 8 + i.input_unsigned) for byte in bytes_read])
        w = weights[cycle.weight_word].astype(np.int64)
        if not i.weights_unsigned:
            w = (w ^ 0x80) - 0x80
        activation_sum += int(x.sum())
        if config.pe is PEKind.MAC:
            x, w = x - i.input_zero_point, w - i.weight_zero_point
        dots.append(w @ x)
        if cycle.last:
            sums = _accumulated(i, np.array(dots))
            if config.pe is PEKind.FOLD:
                sums = sums - i.weight_zero_point * activation_sum
            yield cycle, sums
            dots, activation_sum = [], 0


def execute(
    i: Instruction,
    config: AcceleratorConfig,
    memory: bytearray,
    weights: npt.NDArray[np.uint8],
    parameters: Sequence[tuple[int, int, int]],
) -> None:
    """Execute an instruction on an activation memory; ``parameters`` are bias, multiplier and shift of each channel."""
    rounding = {Round.DOUBLE: Rounding.DOUBLE, Round.SINGLE: Rounding.SINGLE}[i.rounding]
    group_channels = i.beats * config.requantizers
    for at, sums in output_sums(i, config, memory, weights):
        start = i.output_base + at.row * i.output_row_step + at.column * i.output_column_step
        start += at.group * i.output_group_step
        for column in range(min(group_channels, i.output_channels - at.group * group_channels)):
            place = column % config.requantizers if i.parameters_shared else at.group * group_channels + column
            bias, multiplier, shift = parameters[i.parameter_base * config.requantizers + place]
            accumulator, clamp = wrap_int32(sums[column] + bias), (i.clamp_low, i.clamp_high)
            result = requantize(accumulator, multiplier, shift, i.output_zero_point, clamp, rounding)
            memory[start + column] = int(result) & 0xFF


def _accumulated(i: Instruction, dots: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return what the columns make of an output's dot products, in order; for ADD, what their scalers make of that."""
    if i.accumulate is Accumulate.MAX:
        return dots.max(axis=0)
    if i.accumulate is Accumulate.ADD:
        return dots.sum(axis=0)
    first, second = dots
    half, other = (second, first) if i.add_swap else (first, second)
    scaled = multiply_by_quantized_multiplier(half - i.add_zero_point << 20, 1 << 30, 0)
    return scaled + multiply_by_quantized_multiplier(
        other - i.add_other_zero_point << 20, i.add_multiplier, -i.add_shift
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
