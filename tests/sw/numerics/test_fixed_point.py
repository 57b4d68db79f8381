from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import exact

from zeropoint.numerics import (
    INT32_MAX,
    INT32_MIN,
    Rounding,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    reciprocal_multiplier,
    requantize,
    round_half_away,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
    wrap_int32,
)

CORNERS = [
    INT32_MIN,
    INT32_MIN + 1,
    -(2**30) - 1,
    -(2**30),
    -3,
    -2,
    -1,
    0,
    1,
    2,
    3,
    2**30 - 1,
    2**30,
    INT32_MAX - 1,
    INT32_MAX,
]
int32 = st.integers(INT32_MIN, INT32_MAX) | st.sampled_from(CORNERS)
multipliers = st.integers(0, INT32_MAX) | st.integers(2**30, INT32_MAX) | st.sampled_from([0, 1, 2**30, INT32_MAX])
thorough = settings(max_examples=500, deadline=None)


@given(st.integers(-(2**62), 2**62))
def test_wrap_is_modulo_2_to_the_32(x):
    wrapped = int(wrap_int32(x))
    assert INT32_MIN <= wrapped <= INT32_MAX
    assert (wrapped - x) % 2**32 == 0


@thorough
@given(int32, int32)
def test_high_mul_rounds_half_up_and_saturates(a, b):
    expected = min(floor(Fraction(a * b, 2**31) + Fraction(1, 2)), INT32_MAX)
    assert int(saturating_rounding_doubling_high_mul(a, b)) == expected


def test_high_mul_saturates_only_where_both_are_least():
    assert int(saturating_rounding_doubling_high_mul(INT32_MIN, INT32_MIN)) == INT32_MAX
    assert int(saturating_rounding_doubling_high_mul(INT32_MIN, INT32_MAX)) == -INT32_MAX


def test_high_mul_of_ties_on_both_sides():
    # k · 2^30 / 2^31 is a tie for odd k.
    k = np.arange(-99, 100, 2)
    np.testing.assert_array_equal(saturating_rounding_doubling_high_mul(k, 1 << 30), (k + 1) // 2)


@thorough
@given(int32, st.integers(0, 62))
def test_divide_by_power_of_two_rounds_half_away(x, exponent):
    assert int(rounding_divide_by_pot(x, exponent)) == exact.half_away(Fraction(x, 2**exponent))


def test_divide_by_power_of_two_exhaustively_on_16_bits():
    x = np.arange(-(2**16), 2**16)[:, np.newaxis]
    exponent = np.arange(0, 20)
    quotient = np.abs(x) + (1 << exponent >> 1) >> exponent
    np.testing.assert_array_equal(rounding_divide_by_pot(x, exponent), np.sign(x) * quotient)


@thorough
@given(int32, multipliers, st.integers(-31, 30), st.sampled_from(Rounding))
def test_multiplication_is_exact_for_every_operand(x, multiplier, shift, rounding):
    got = int(multiply_by_quantized_multiplier(x, multiplier, shift, rounding))
    assert got == exact.scaled(x, multiplier, shift, rounding)


@pytest.mark.parametrize("rounding", Rounding)
def test_multiplication_of_corners_by_every_shift(rounding):
    x = np.array(CORNERS)[:, np.newaxis, np.newaxis]
    multiplier = np.array([0, 1, 2**30, 2**30 + 1, 1518500250, INT32_MAX - 1, INT32_MAX])[:, np.newaxis]
    shift = np.arange(-31, 31)
    got = multiply_by_quantized_multiplier(x, multiplier, shift, rounding)
    expected = np.empty(got.shape, np.int64)
    for index in np.ndindex(got.shape):
        operands = (
            int(array[place])
            for array, place in ((x.ravel(), index[0]), (multiplier.ravel(), index[1]), (shift, index[2]))
        )
        expected[index] = exact.scaled(*operands, rounding)
    np.testing.assert_array_equal(got, expected)


@thorough
@given(int32, st.integers(2**30, INT32_MAX), st.integers(-31, 30))
def test_single_rounding_errs_by_half_at_most_and_double_by_little_more(x, multiplier, shift):
    product = Fraction(x * multiplier) * Fraction(2) ** (shift - 31)
    if not INT32_MIN <= product < INT32_MAX or not INT32_MIN <= x * 2 ** max(shift, 0) <= INT32_MAX:
        return
    single = int(multiply_by_quantized_multiplier(x, multiplier, shift, Rounding.SINGLE))
    double = int(multiply_by_quantized_multiplier(x, multiplier, shift, Rounding.DOUBLE))
    assert abs(single - product) <= Fraction(1, 2)
    assert abs(double - product) <= Fraction(1, 2) + Fraction(1, 2 ** (max(-shift, 0) + 1))


def test_the_roundings_differ_where_they_should():
    # 0.4999: the first rounding makes it a half, the second goes away from zero.
    multiplier, shift = 2**31 - 1, -1
    assert int(multiply_by_quantized_multiplier(1, multiplier, shift, Rounding.DOUBLE)) == 1
    assert int(multiply_by_quantized_multiplier(1, multiplier, shift, Rounding.SINGLE)) == 0
    # −1/2: away from zero, or up.
    assert int(multiply_by_quantized_multiplier(-1, 2**30, 0, Rounding.SINGLE)) == 0
    assert int(multiply_by_quantized_multiplier(-2, 2**30, -1, Rounding.DOUBLE)) == -1
    assert int(multiply_by_quantized_multiplier(-2, 2**30, -1, Rounding.SINGLE)) == 0


@thorough
@given(int32, multipliers, st.integers(-31, 30), st.integers(-128, 255), st.sampled_from(Rounding), st.data())
def test_requantize(x, multiplier, shift, zero_point, rounding, data):
    low = data.draw(st.integers(-128, 255))
    clamp = (low, data.draw(st.integers(low, 255)))
    expected = exact.requantized(x, multiplier, shift, zero_point, clamp, rounding)
    assert int(requantize(x, multiplier, shift, zero_point, clamp, rounding)) == expected


def test_requantize_takes_arrays_with_a_multiplier_per_channel():
    accumulators = np.array([[100, -100, 7], [50, 3, -8]], np.int32)
    multiplier, shift = quantize_multiplier([0.5, 0.25, 2.0])
    np.testing.assert_array_equal(
        requantize(accumulators, multiplier, shift, 1, (-10, 40)), [[40, -10, 15], [26, 2, -10]]
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_round_half_away_on_every_half_and_its_neighbours(dtype):
    halves = np.arange(-4096, 4097).astype(dtype) / dtype(2)
    x = np.concatenate([halves, np.nextafter(halves, dtype(np.inf)), np.nextafter(halves, dtype(-np.inf))])
    expected = [exact.half_away(Fraction(float(value))) for value in x]
    got = round_half_away(x)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, expected)


@thorough
@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([32, 64]))
def test_round_half_away_of_any_float(x, width):
    if width == 32:
        if abs(x) > 3e38:
            return
        x = float(np.float32(x))
        assert int(round_half_away(np.float32(x))) == exact.half_away(Fraction(x))
    else:
        assert int(round_half_away(x)) == exact.half_away(Fraction(x))


def test_round_half_away_keeps_infinity():
    np.testing.assert_array_equal(round_half_away(np.array([np.inf, -np.inf])), [np.inf, -np.inf])


@thorough
@given(st.floats(0, 2.0**30 - 1) | st.floats(1e-10, 4) | st.floats(2.0**-34, 2.0**-30))
def test_quantize_multiplier_is_the_nearest(real):
    multiplier, shift = (int(value) for value in quantize_multiplier(real))
    if real == 0 or real < 2.0**-32 * (1 - 2.0**-33):
        assert (multiplier, shift) == (0, 0)
        return
    if (multiplier, shift) == (0, 0):
        assert real < 2.0**-32
        return
    assert 2**30 <= multiplier < 2**31
    assert -31 <= shift <= 30
    unit = Fraction(2) ** (shift - 31)
    assert abs(multiplier * unit - Fraction(real)) <= unit / 2


def test_quantize_multiplier_rounds_ties_away_and_carries():
    reals = [0.5 + 2.0**-32, 1 - 2.0**-33, 1 - 2.0**-32, 1.0, 0.75, 2.0**-32, 2.0**-32 * (1 - 2.0**-40), 2.0**-33, 0.0]
    multiplier, shift = quantize_multiplier(reals)
    np.testing.assert_array_equal(multiplier, [2**30 + 1, 2**30, 2**30, 2**30, 3 * 2**29, 2**30, 2**30, 0, 0])
    np.testing.assert_array_equal(shift, [0, 1, 1, 1, 0, -31, -31, 0, 0])


@pytest.mark.parametrize("real", [-0.1, np.inf, np.nan, -np.inf])
def test_quantize_multiplier_refuses_what_is_no_multiplier(real):
    with pytest.raises(ValueError, match=r"^a multiplier must be finite and not negative$"):
        quantize_multiplier([0.5, real])


def test_quantize_multiplier_refuses_the_too_great():
    with pytest.raises(ValueError, match=r"^a multiplier must be below 2\^30, not 1073741824.0$"):
        quantize_multiplier([0.5, 2.0**30])


def _half_away_quotients(x, divisor):
    return np.sign(x) * ((2 * np.abs(x) + divisor) // (2 * divisor))


def test_reciprocal_multiplier_divides_exactly_at_every_tie_and_beside_it():
    for divisor in range(1, 1025):
        # x / divisor is a tie where 2x is an odd multiple of divisor; for odd divisors the nearest are half a step off.
        ties = (np.arange(-255, 256, 2) * divisor) // 2
        x = (ties[:, np.newaxis] + np.arange(-1, 3)).ravel()
        multiplier, shift = reciprocal_multiplier(divisor)
        got = multiply_by_quantized_multiplier(x, multiplier, shift, Rounding.SINGLE)
        np.testing.assert_array_equal(got, _half_away_quotients(x, divisor), f"divisor {divisor}")


def test_reciprocal_multiplier_divides_every_sum_of_small_windows():
    for divisor in range(1, 130):
        x = np.arange(-256 * divisor, 256 * divisor + 1)
        multiplier, shift = reciprocal_multiplier(divisor)
        got = multiply_by_quantized_multiplier(x, multiplier, shift, Rounding.SINGLE)
        np.testing.assert_array_equal(got, _half_away_quotients(x, divisor), f"divisor {divisor}")


@thorough
@given(st.integers(1, 2**20) | st.integers(2**20 - 100, 2**20), st.integers(-256, 255), st.integers(-1, 1))
def test_reciprocal_multiplier_of_any_divisor(divisor, quotient, beside):
    x = (2 * quotient + 1) * divisor // 2 + beside
    if abs(x) > 256 * divisor:
        return
    multiplier, shift = reciprocal_multiplier(divisor)
    assert 2**30 <= multiplier < 2**31
    got = int(multiply_by_quantized_multiplier(x, multiplier, shift, Rounding.SINGLE))
    assert got == exact.half_away(Fraction(x, divisor))


@pytest.mark.parametrize("divisor", [0, -3, 2**20 + 1])
def test_reciprocal_multiplier_refuses_other_divisors(divisor):
    with pytest.raises(ValueError, match=rf"^divisor must be 1 to 1048576, not {divisor}$"):
        reciprocal_multiplier(divisor)
