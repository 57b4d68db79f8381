from fractions import Fraction

import numpy as np
import pytest
from support import coverage
from support.gateware import instruction_bits, packed

from zeropoint.numerics.minifloat import MinifloatFormat, requantize
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import Instruction
from zeropoint_hw.minifloat_requantizer import MinifloatRequantizerLane
from zeropoint_sim.bench import run_bench

#: Exponent bits, and the bits of an activation.
FORMATS = [(4, 8), (1, 2), (1, 8), (2, 5), (3, 8), (4, 5), (5, 8), (6, 8), (7, 8)]
everywhere = pytest.mark.parametrize(("exponent_bits", "bits"), FORMATS)


def lane_config(exponent_bits, bits):
    return AcceleratorConfig(
        pe="minifloat", exponent_bits=exponent_bits, activation_bits=bits, weight_bits=bits, lanes=1, columns=1
    )


def vectors(config, rng, count=3000):
    """Sums, biases, the biases' left shifts and scales: of all lengths, many of them ties or beside one."""
    width = config.value_width - 2
    lengths = rng.integers(0, width, count)
    sums = [int.from_bytes(rng.bytes(40)) >> 320 - int(length) for length in lengths]
    # A few bits at the top and nothing, or next to nothing, below them.
    for index in range(0, count, 3):
        length = int(lengths[index])
        few = int(rng.integers(0, 256)) << max(length - 8, 0)
        sums[index] = max(min(few + int(rng.integers(-1, 2)), (1 << width) - 1), 0)
    sums = [value * int(sign) for value, sign in zip(sums, rng.choice([-1, 1], count), strict=True)]
    biases = rng.integers(-(1 << 31), 1 << 31, count) >> rng.integers(0, 32, count)
    biases[::2] = 0
    lefts = rng.integers(0, max(width - 32, 1), count)
    scales = rng.integers(-min(width, 120), 2, count)
    # The least that there are, which shift further than any sum is long.
    scales[::10] = rng.integers(-127, -min(width, 120) + 1, len(scales[::10]))
    return [
        (total - (int(bias) << int(left)), int(bias), int(left), int(scale))
        for total, bias, left, scale in zip(sums, biases, lefts, scales, strict=True)
    ]


def results(config, rows, clamp):
    dut = MinifloatRequantizerLane(config)
    got = []

    async def bench(ctx):
        low, high = clamp
        ctx.set(dut.instruction.as_value(), instruction_bits(Instruction(clamp_low=low, clamp_high=high)))
        for cycle, (value, bias, left, scale) in enumerate([*rows, *[(0, 0, 0, 0)] * dut.latency]):
            if cycle >= dut.latency:
                got.append(ctx.get(dut.result))
            ctx.set(dut.value, value)
            ctx.set(dut.parameters.as_value(), packed([bias], 32) | left << 32 | packed([scale], 8) << 63)
            await ctx.tick()

    run_bench(dut, bench, deadline=len(rows) + dut.latency + 10)
    return np.array(got, np.uint8).view(np.int8)


def nearest(value, form):
    """Return the integer that stands for the minifloat nearest to a fraction of the format's units."""
    every = [(-1) ** (code < 0) * Fraction(*form.decode(abs(code)).item().as_integer_ratio()) for code in codes(form)]
    unit = Fraction(2) ** form.least
    distances = [abs(each / unit - value) for each in every]
    least = min(distances)
    among = [code for code, distance in zip(codes(form), distances, strict=True) if distance == least]
    # Of two, the one with the even magnitude has the even significand; where there is no mantissa, the greater field.
    if len(among) == 2 and form.mantissa_bits == 0 and 0 not in among:
        return max(among, key=abs)
    return next(code for code in among if len(among) == 1 or code % 2 == 0)


def codes(form):
    greatest = (1 << form.bits - 1) - 1
    return range(-greatest, greatest + 1)


@everywhere
def test_the_definition_is_the_nearest_minifloat(exponent_bits, bits):
    form = MinifloatFormat(exponent_bits, bits - 1 - exponent_bits)
    rows = vectors(lane_config(exponent_bits, bits), np.random.default_rng(bits), 150)
    totals = np.array([value + (bias << left) for value, bias, left, _ in rows], object)
    scales = np.array([scale for *_, scale in rows])
    expected = [nearest(Fraction(total) * Fraction(2) ** int(s), form) for total, s in zip(totals, scales, strict=True)]
    np.testing.assert_array_equal(requantize(totals, scales, form), expected)
    narrow = np.array([abs(total) < 1 << 62 for total in totals])
    np.testing.assert_array_equal(
        requantize(totals[narrow].astype(np.int64), scales[narrow], form), np.array(expected)[narrow]
    )


@everywhere
@pytest.mark.parametrize("clamp", [(-128, 127), (0, 127), (-3, 9)])
def test_the_gateware_gives_the_definitions_bits(exponent_bits, bits, clamp):
    config = lane_config(exponent_bits, bits)
    rows = vectors(config, np.random.default_rng(sum(clamp) + bits))
    form = MinifloatFormat(exponent_bits, bits - 1 - exponent_bits)
    totals = np.array([value + (bias << left) for value, bias, left, _ in rows], object)
    scales = np.array([scale for *_, scale in rows])
    expected = np.clip(requantize(totals, scales, form), *clamp)
    np.testing.assert_array_equal(results(config, rows, clamp), expected)
    coverage.minifloat_ties(totals, scales, form)
    assert len(set(expected.tolist())) >= min(5, bits)


def test_a_wrong_scale_is_seen():
    config = lane_config(4, 8)
    rows = vectors(config, np.random.default_rng(1), 500)
    form = MinifloatFormat(4, 3)
    totals = np.array([value + (bias << left) for value, bias, left, _ in rows], object)
    expected = requantize(totals, np.array([scale - 1 for *_, scale in rows]), form)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        np.testing.assert_array_equal(results(config, rows, (-128, 127)), expected)
