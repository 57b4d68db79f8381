"""What requantizers are tested with: operands at which rounding, clamp and overflow decide, and what is to come out."""

import numpy as np

from support import coverage
from support.gateware import packed, rows_of
from zeropoint.numerics import INT32_MAX, INT32_MIN, Rounding, requantize, wrap_int32
from zeropoint_hw.isa import Instruction, Round

HALF = 1 << 30
ROUNDINGS = {Rounding.DOUBLE: Round.DOUBLE, Rounding.SINGLE: Round.SINGLE, Rounding.EVEN: Round.EVEN}
#: Output zero point and clamp: int8, uint8, fused activations, and a single value.
OUTPUTS = [
    (0, -128, 127),
    (-128, -128, 127),
    (127, -128, 127),
    (255, 0, 255),
    (0, 0, 255),
    (-7, -7, 90),
    (12, 12, 12),
]


class Vectors:
    """A table of operands: value, bias, multiplier, shift."""

    def __init__(self, biased, multiplier, shift, seed=0):
        columns = np.broadcast_arrays(*(np.asarray(column, np.int64) for column in (biased, multiplier, shift)))
        self.biased, self.multiplier, self.shift = (column.ravel() for column in columns)
        # Every sum is made of two random parts, half of which wrap around.
        self.bias = np.random.default_rng(seed).integers(INT32_MIN, INT32_MAX + 1, self.biased.size)
        self.bias[::4] >>= 16
        self.value = wrap_int32(self.biased - self.bias)

    def __len__(self):
        return self.biased.size

    def where(self, chosen):
        return Vectors(self.biased[chosen], self.multiplier[chosen], self.shift[chosen])

    def packed_parameters(self):
        return [
            packed([bias], 32) | multiplier << 32 | packed([shift], 8) << 63
            for bias, multiplier, shift in rows_of(self.bias, self.multiplier, self.shift)
        ]

    def expected(self, rounding, output):
        """Return what the golden model makes of them, as bytes."""
        zero_point, *clamp = output
        biased = wrap_int32(self.value + self.bias)
        return requantize(biased, self.multiplier, self.shift, zero_point, tuple(clamp), rounding) & 0xFF

    def sample(self, kind, rounding, output):
        """Count them as what a requantizer of this kind has made the right bytes of."""
        zero_point, *clamp = output
        coverage.scaled(kind, self.biased, self.multiplier, self.shift, zero_point, tuple(clamp), rounding)


def extremes():
    """The ends of int32 and of the multiplier, with every shift."""
    values = [INT32_MIN, INT32_MIN + 1, -HALF - 1, -HALF, -2, -1, 0, 1, 2, HALF - 1, HALF, INT32_MAX - 1, INT32_MAX]
    multipliers = [0, 1, (1 << 16) - 1, HALF, HALF + 1, INT32_MAX]
    return Vectors(np.array(values)[:, None, None], np.array(multipliers)[:, None], np.arange(-31, 31), seed=1)


def ties():
    """Products half-way between two results of the second rounding, and beside that; odd values tie in the first."""
    right = np.arange(32)
    quotients = np.array([-300, -129, -128, -127, -2, -1, 0, 1, 2, 126, 127, 128, 254, 255, 256])[:, None, None, None]
    product = (quotients << right) + (1 << right >> 1) + np.array([-1, 0, 1])[:, None]
    biased, shift = np.broadcast_arrays(2 * product + np.array([-1, 0, 1])[:, None, None], -right)
    fits = wrap_int32(biased) == biased
    return Vectors(biased[fits], HALF, shift[fits], seed=2)


def in_range(count, seed):
    """Random operands whose results lie about the range of the output, so that the clamp hides no bit."""
    rng = np.random.default_rng(seed)
    shift = rng.integers(-31, 31, count)
    multiplier = rng.integers(HALF, INT32_MAX + 1, count)
    biased = np.rint(rng.uniform(-400, 400, count) * 2.0 ** (31 - shift) / multiplier)
    return Vectors(np.clip(biased, INT32_MIN, INT32_MAX), multiplier, shift, seed)


def anything(count, seed):
    rng = np.random.default_rng(seed)
    return Vectors(
        rng.integers(INT32_MIN, INT32_MAX + 1, count), rng.integers(0, 1 << 31, count), rng.integers(-31, 31, count)
    )


def instruction(rounding, output):
    zero_point, low, high = output
    return Instruction(rounding=ROUNDINGS[rounding], output_zero_point=zero_point, clamp_low=low, clamp_high=high)


def keeps_within_int32(vectors):
    """Which of the vectors the requantizer's contract with ``Round.SINGLE`` holds for."""
    left = vectors.biased << np.maximum(vectors.shift, 0)
    return wrap_int32(left) == left


def edge_cases(rounding):
    """Pairs of an output and vectors, of every shift, that leave no bit of the arithmetic untried."""
    jobs = [(OUTPUTS[2], extremes()), (OUTPUTS[0], ties()), (OUTPUTS[4], ties()), (OUTPUTS[0], anything(1000, seed=3))]
    jobs += [(output, in_range(600, seed)) for seed, output in enumerate(OUTPUTS)]
    if rounding is not Rounding.DOUBLE:
        jobs = [(output, vectors.where(keeps_within_int32(vectors))) for output, vectors in jobs]
    assert {shift for _, vectors in jobs for shift in vectors.shift.tolist()} == set(range(-31, 31))
    return jobs
