"""An obvious, slow model of the layer program, straight from the loop nest in ``zeropoint_hw.isa``."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

import numpy as np
import numpy.typing as npt

from support.codes import decoded, factors, takes_powers
from support.gateware import signed_number
from zeropoint.numerics import Rounding, minifloat, multiply_by_quantized_multiplier, requantize, wrap_int32
from zeropoint.numerics.minifloat import MinifloatFormat
from zeropoint_hw.config import AcceleratorConfig, PEKind, RequantizerKind
from zeropoint_hw.isa import Accumulate, Instruction, Round
from zeropoint_hw.layout import Level

_ROUNDING = {Round.DOUBLE: Rounding.DOUBLE, Round.SINGLE: Rounding.SINGLE, Round.EVEN: Rounding.EVEN}


#: The activation memory: bytes, or activations of 16 bits.
Memory = bytearray | npt.NDArray[np.uint16]


@dataclass(frozen=True)
class ArrayCycle:
    """One turn of the innermost loop."""

    group: int
    row: int
    column: int
    #: Whether it begins a sum, and whether that sum, when the cycle is through, is an output.
    first: bool
    last: bool
    level: Level
    #: Byte address of each lane's activation, not yet reduced to the memory's size.
    addresses: tuple[int, ...]
    #: Which lanes hold activations.
    mask: tuple[bool, ...]
    weight_word: int


def array_cycles(i: Instruction, lanes: int) -> Iterator[ArrayCycle]:
    """Yield the array cycles of an instruction, in order."""
    chunks = -(-i.run // lanes)
    counts = (i.groups, i.rows, i.columns, i.pool_rows, i.pool_columns, i.taps_y, i.taps_x, chunks)
    for indices in product(*map(range, counts)):
        group, row, column, pool_y, pool_x, tap_y, tap_x, chunk = indices
        # The innermost loop that is not at its end moves on.
        moving = [level for level in Level if level < Level.END and indices[7 - level] < counts[7 - level] - 1]
        level = min(moving, default=Level.END)
        down, along = (column, row) if i.swap_axes else (row, column)
        y = i.y_first + down * i.y_row_step + pool_y * i.y_pool_step + tap_y * i.y_tap_step
        base = i.input_base + down * i.input_row_step + pool_y * i.input_pool_step + tap_y * i.input_tap_step
        x = i.x_first + group * i.x_group_step + along * i.x_column_step + pool_x * i.x_pool_step
        x += tap_x * i.x_tap_step + chunk * lanes
        places = []
        for lane in range(lanes):
            # With paired rows, lanes from the run on hold the next kernel row's run.
            second, byte = divmod(lane, i.run) if i.paired_rows else (0, lane)
            in_run = byte + chunk * lanes < i.run and second < 2
            hit = in_run and 0 <= y + second < i.input_rows and 0 <= x + byte < i.row_bytes
            places.append((base + x + lane + (i.pair_step if second else 0), hit))
        taps_before = 0 if i.weights_per_tap else (group * i.taps_y + tap_y) * i.taps_x + tap_x
        yield ArrayCycle(
            group=group,
            row=row,
            column=column,
            first=tap_y == tap_x == chunk == 0,
            last=level >= Level.POOL_X and column >= i.warmup and (column - i.warmup) % i.emit_every == 0,
            level=level,
            addresses=tuple(address for address, _ in places),
            mask=tuple(hit for _, hit in places),
            weight_word=i.weight_base + taps_before * chunks + chunk,
        )


def output_sums(
    i: Instruction, config: AcceleratorConfig, memory: Memory, weights: npt.NDArray[np.uint8]
) -> Iterator[tuple[ArrayCycle, npt.NDArray[np.int64]]]:
    """Yield the last cycle of each output, and what its columns bring to the requantizers.

    ``weights`` are as the weight memory holds them, ``(words, columns, lanes)``.
    """
    width = config.element_bits + i.input_unsigned
    pad = signed_number(i.pad_value, width)
    dots: list[npt.NDArray[np.int64]] = []
    activation_sum = 0
    history = WindowHistory(config, pad)
    for cycle in array_cycles(i, config.lanes):
        if cycle.first:
            dots, activation_sum = [], 0
        places = zip(cycle.addresses, cycle.mask, strict=True)
        bytes_read = [int(memory[address % (1 << 20)]) if hit else None for address, hit in places]
        x = np.array([pad if byte is None else signed_number(byte, width) for byte in bytes_read])
        activation_sum += int(x.sum())
        w = decoded(config, i, weights[cycle.weight_word].astype(np.int64))
        # What each column multiplies by its weights: the lanes' activations, or a channel's latest ones.
        taps = np.tile(x, (config.columns, 1))
        if i.window:
            taps[: config.channels, : config.window_taps] = history.taps(cycle, x)
        taps = factors(config, i, taps)
        if config.pe in (PEKind.MAC, PEKind.MIXED) and not takes_powers(config, i):
            w = w - i.weight_zero_point
        dots.append((taps * w).sum(axis=1))
        if cycle.last:
            sums = _accumulated(i, config, np.array(dots))
            if config.pe is PEKind.FOLD:
                sums = sums - i.weight_zero_point * activation_sum
            yield cycle, sums


class WindowHistory:
    """The words of a row's earlier positions along the column loop."""

    def __init__(self, config: AcceleratorConfig, pad: int) -> None:
        self._count, self._channels, self._pad = config.window_taps, config.channels, pad
        self._words: dict[tuple[int, ...], npt.NDArray[np.int64]] = {}
        self._number = 0

    def taps(self, cycle: ArrayCycle, x: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return ``(channels, window_taps)`` for a cycle's activations, the oldest tap first."""
        self._number = 0 if cycle.first else self._number + 1
        row = cycle.group, cycle.row
        self._words[*row, cycle.column, self._number] = x[: self._channels]
        missing = np.full(self._channels, self._pad)
        columns = range(cycle.column - self._count + 1, cycle.column + 1)
        return np.stack([self._words.get((*row, column, self._number), missing) for column in columns], axis=1)


def execute(
    i: Instruction,
    config: AcceleratorConfig,
    memory: Memory,
    weights: npt.NDArray[np.uint8],
    parameters: Sequence[tuple[int, int, int]],
    tables: Sequence[Sequence[int]] = (),
) -> None:
    """Execute an instruction on an activation memory; ``parameters`` are bias, multiplier and shift of each channel."""
    group_channels = i.beats * config.requantizers
    window: list[list[int]] = []
    for at, sums in output_sums(i, config, memory, weights):
        results = []
        for column in range(min(group_channels, i.output_channels - at.group * group_channels)):
            place = column % config.requantizers if i.parameters_shared else at.group * group_channels + column
            bias, multiplier, shift = parameters[i.parameter_base * config.requantizers + place]
            clamp = i.clamp_low, i.clamp_high
            if config.pe is PEKind.MINIFLOAT:
                form = MinifloatFormat(config.exponent_bits, config.activation_bits - 1 - config.exponent_bits)
                result = int(np.clip(minifloat.requantize(sums[column] + (bias << multiplier), shift, form), *clamp))
            elif config.requantizer is RequantizerKind.SHIFT:
                result = shifted(int(sums[column]) + bias, shift, i.rounding, clamp)
            else:
                accumulator, rounding = wrap_int32(sums[column] + bias), _ROUNDING[i.rounding]
                result = int(requantize(accumulator, multiplier, shift, i.output_zero_point, clamp, rounding))
            if i.table:
                entry = int(tables[i.table - 1][result & 0xFF])
                result = entry if i.input_unsigned else signed_number(entry, 8)
            results.append(result)
        window.append(results)
        if at.level >= Level.COLUMN:
            start = i.output_base + at.group * i.output_group_step + at.row * i.output_row_step
            start += (at.column - i.warmup) // i.emit_every * i.output_column_step
            for column, outputs in enumerate(zip(*window, strict=True)):
                memory[start + column] = max(outputs) & (1 << config.element_bits) - 1
            window = []


def shifted(accumulator: int, shift: int, rounding: Round, clamp: tuple[int, int]) -> int:
    """Return what a requantizer that only shifts makes of a sum: exactly, by definition."""
    real = accumulator * Fraction(2) ** (shift - 1)
    whole, rest, half = int(real // 1), real % 1, Fraction(1, 2)
    assert rounding is not Round.DOUBLE or rest == 0
    ties_up = {Round.SINGLE: True, Round.EVEN: whole % 2 == 1, Round.AWAY: real > 0, Round.DOUBLE: False}[rounding]
    return min(max(whole + (rest > half or (rest == half and ties_up)), clamp[0]), clamp[1])


def _accumulated(i: Instruction, config: AcceleratorConfig, dots: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return what the columns make of an output's dot products, in order; for a pair, what the scalers make of that."""
    if i.accumulate is Accumulate.MAX:
        return dots.max(axis=0)
    if i.accumulate is Accumulate.ADD:
        return dots.sum(axis=0)
    first, other = (dots - np.array([[i.pair_zero_point], [i.pair_other_zero_point]])) * [
        [-1 if i.pair_negate else 1],
        [-1 if i.pair_other_negate else 1],
    ]
    if i.pair_multiply:
        return first * other
    rounding = Rounding.DOUBLE if i.rounding is Round.DOUBLE else Rounding.SINGLE
    left = 20 if config.element_bits == 8 else 15
    scaled = multiply_by_quantized_multiplier(first << left, 1 << 30, 0, rounding)
    return scaled + multiply_by_quantized_multiplier(other << left, i.pair_multiplier, -i.pair_shift, rounding)


def random_loops(rng: np.random.Generator, lanes: int, address_bits: int = 20) -> dict[str, int]:
    """Return the loop fields of a random instruction: a few hundred array cycles at most, any address."""

    def below(limit: int) -> int:
        return int(rng.integers(limit))

    def step(bits: int) -> int:
        # Mostly such as real layers have, sometimes anything.
        return below(1 << bits) if rng.random() < 0.1 else below(3 * lanes)

    fields = {name: 1 + below(3) for name in ("groups", "rows", "columns", "taps_y", "taps_x")}
    fields |= {
        "run": 1 + below(2 * lanes + 2),
        "idle": below(4),
        "weights_per_tap": below(2),
        "swap_axes": below(2),
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
    kind = rng.choice(["plain", "pooled", "skipping", "paired"])
    if kind == "pooled":
        fields |= {
            "pool_rows": 1 + below(3),
            "pool_columns": 1 + below(2),
            "input_pool_step": step(19) * int(rng.choice([-1, 1])),
            "y_pool_step": below(3),
            "x_pool_step": step(17),
        }
    if kind == "skipping":
        # The last position of a row brings an output.
        warmup, emit_every = below(4), 1 + below(3)
        fields |= {"warmup": warmup, "emit_every": emit_every, "columns": warmup + emit_every * below(4) + 1}
    if kind == "paired":
        fields |= {"paired_rows": 1, "run": 1 + below(lanes), "pair_step": below(20) * lanes}
    return fields
