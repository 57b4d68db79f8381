"""Requantizers that only shift, against exact arithmetic and against the golden model's."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import coverage
from support.gateware import instruction_bits, packed, rows_of, signed_number
from support.layer_program import shifted

from zeropoint.numerics import INT32_MAX, INT32_MIN, Rounding, requantize
from zeropoint_hw import shift_requantizer
from zeropoint_hw.config import AcceleratorConfig, RequantizerKind
from zeropoint_hw.isa import Instruction, Round
from zeropoint_hw.requantizer import Requantizer
from zeropoint_sim.bench import Stalls, collect, drive, run_bench

HALF = 1 << 30
CLAMPS = [(-128, 127), (0, 255), (0, 127), (-8, 7), (5, 5)]
ROUNDINGS = [Round.SINGLE, Round.EVEN, Round.AWAY]


def config(**changes):
    return AcceleratorConfig(lanes=4, columns=4, requantizers=1, requantizer=RequantizerKind.SHIFT, **changes)


def exact(row, rounding, clamp):
    """Return what a lane makes of a value, a bias and a shift."""
    value, bias, shift = row
    return shifted(int(value) + int(bias), int(shift), rounding, clamp)


def results(jobs, stalls=None, **changes):
    """Put jobs, each a rounding, a clamp and rows of values, biases and shifts, through one lane, and return bytes."""
    chosen = config(**changes)
    dut = Requantizer(chosen)
    tables = []

    async def source(ctx):
        for rounding, (low, high), rows in jobs:
            settings = Instruction(rounding=rounding, clamp_low=low, clamp_high=high)
            ctx.set(dut.instruction.as_value(), instruction_bits(settings))
            # The multiplier is not looked at.
            parameters = [packed([bias], 32) | 0x5A5A5A5A << 32 | packed([shift], 8) << 63 for _, bias, shift in rows]
            values = [packed([value], chosen.value_width) for value, _, _ in rows]
            await drive(
                ctx, dut.beat, (dut.values.as_value(), dut.parameters.as_value()), rows_of(values, parameters), stalls
            )
            await ctx.tick().repeat(dut.latency)

    async def sink(ctx):
        for _, _, rows in jobs:
            tables.append([byte for (byte,) in await collect(ctx, dut.result_beat, (dut.results[0],), len(rows))])

    run_bench(dut, sink, source, deadline=3 * sum(len(rows) + 20 for _, _, rows in jobs))
    return tables


def compare(jobs, stalls=None, **changes):
    """Hold jobs against exact arithmetic."""
    mask = (1 << config(**changes).element_bits) - 1
    for got, (rounding, clamp, rows) in zip(results(jobs, stalls, **changes), jobs, strict=True):
        wanted = [exact(row, rounding, clamp) & mask for row in rows]
        np.testing.assert_array_equal(got, wanted)


def check(jobs, stalls=None, **changes):
    """Compare jobs, and count them as right."""
    compare(jobs, stalls, **changes)
    for rounding, clamp, rows in jobs:
        value, bias, shift = np.array(rows).T
        coverage.shifted(config(**changes).element_bits, value + bias, shift, clamp, rounding)


def corners(greatest_shift):
    """The ends of the operands, and sums about ties and about the ends of the output, with every shift."""
    ends = [INT32_MIN, INT32_MIN + 1, -1, 0, 1, INT32_MAX - 1, INT32_MAX]
    rows = [(value, bias, shift) for value in ends for bias in ends for shift in range(-30, greatest_shift + 1, 7)]
    rng = np.random.default_rng(0)
    for shift in range(-30, greatest_shift + 1):
        for quotient in (-257, -256, -129, -128, -3, -2, -1, 0, 1, 2, 126, 127, 128, 254, 255, 256):
            for near in (-1, 0, 1):
                total = int((quotient + Fraction(1, 2)) * Fraction(2) ** (1 - shift)) + near
                bias = int(rng.integers(-(1 << 20), 1 << 20))
                if INT32_MIN <= total - bias <= INT32_MAX:
                    rows.append((total - bias, bias, shift))
    return rows


@pytest.mark.parametrize("left_shift", [False, True])
def test_results_are_exact(left_shift):
    rows = corners(31 if left_shift else 1)
    check(
        [(rounding, clamp, rows[index::2]) for rounding in ROUNDINGS for index, clamp in enumerate(CLAMPS[:2])],
        left_shift=left_shift,
    )


@pytest.mark.parametrize("left_shift", [False, True])
def test_sums_of_48_bits_become_16(left_shift):
    """About ties, about the ends of int16, and at the ends of the operands."""
    rng = np.random.default_rng(3)
    least, greatest = -(1 << 47), (1 << 47) - 1
    rows = [
        (value, bias, shift) for value in (least, greatest) for bias in (INT32_MIN, INT32_MAX) for shift in (-30, -5, 1)
    ]
    for shift in range(-30, 32 if left_shift else 2):
        for quotient in (-32769, -32768, -2, -1, 0, 1, 32766, 32767, int(rng.integers(-32768, 32768))):
            for near in (-1, 0, 1):
                total = int((quotient + Fraction(1, 2)) * Fraction(2) ** (1 - shift)) + near
                bias = int(rng.integers(INT32_MIN, INT32_MAX))
                if least <= total - bias <= greatest:
                    rows.append((total - bias, bias, shift))
    jobs = [(rounding, (-32768, 32767), rows) for rounding in ROUNDINGS] + [(Round.EVEN, (0, 300), rows)]
    check(jobs, left_shift=left_shift, activation_bits=16)


def test_every_clamp():
    rows = corners(1)[::3]
    check([(Round.EVEN, clamp, rows) for clamp in CLAMPS], Stalls(seed=1), left_shift=False)


def test_without_ties_to_even():
    check(
        [(rounding, CLAMPS[0], corners(1)[::2]) for rounding in (Round.SINGLE, Round.AWAY)],
        ties_to_even=False,
        left_shift=False,
    )


def test_nothing_is_rounded_where_nothing_is_shifted_out():
    rows = [(value, 3, 1) for value in range(-300, 300, 7)]
    check([(Round.DOUBLE, (-128, 127), rows)], left_shift=False)


@settings(max_examples=10, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(INT32_MIN, INT32_MAX), st.integers(-(1 << 24), 1 << 24), st.integers(-30, 31)), min_size=1
    )
)
def test_any_operands(rows):
    # No bin is to depend on what is drawn.
    compare([(rounding, (-128, 127), rows) for rounding in ROUNDINGS])


@pytest.mark.parametrize(("rounding", "named"), [(Rounding.EVEN, Round.EVEN), (Rounding.SINGLE, Round.SINGLE)])
def test_both_kinds_give_the_same_bits(rounding, named):
    """The golden model's requantization of the lane with the multiplier, where that is 2^30 and no sum wraps."""
    rng = np.random.default_rng(2)
    shift = rng.integers(-30, 31, 4000)
    biased = (
        np.rint(rng.uniform(-400, 400, 4000) * 2.0 ** (1 - shift)).clip(INT32_MIN // 2, INT32_MAX // 2).astype(np.int64)
    )
    left = biased << np.maximum(shift, 0)
    keeps = (left >= INT32_MIN) & (left <= INT32_MAX)
    biased, shift = biased[keeps], shift[keeps]
    bias = rng.integers(-(1 << 29), 1 << 29, len(biased))
    (got,) = results([(named, (-128, 127), rows_of(biased - bias, bias, shift))])
    wanted = requantize(biased, HALF, shift, 0, (-128, 127), rounding)
    assert len(np.unique(wanted)) > 200
    np.testing.assert_array_equal([signed_number(byte, 8) for byte in got], wanted)


class TestFaultsAreSeen:
    """Each of these must be reported by the very checker that passes above."""

    def test_other_rounding(self):
        rows = corners(1)
        for rounding, other in ((Round.EVEN, Round.SINGLE), (Round.AWAY, Round.SINGLE), (Round.SINGLE, Round.EVEN)):
            (got,) = results([(rounding, (-128, 127), rows)], left_shift=False)
            assert got != [exact(row, other, (-128, 127)) & 0xFF for row in rows]

    def test_a_bit_too_few(self, monkeypatch):
        monkeypatch.setattr(shift_requantizer, "_CLAMP_BITS", 8)
        with pytest.raises(AssertionError, match="Mismatched elements"):
            check([(Round.EVEN, (0, 255), corners(1))], left_shift=False)
