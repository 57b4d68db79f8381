from math import exp

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import exact

from zeropoint.numerics import (
    INT32_MAX,
    SOFTMAX_MAX_DEPTH,
    Rounding,
    exp_on_negative_values,
    exponentials,
    one_over_one_plus_x,
    quantize_multiplier,
    reciprocal,
    softmax,
)

thorough = settings(max_examples=500, deadline=None)
Q26 = 2.0**26


@thorough
@given(st.integers(-(2**31), 0) | st.integers(-(2**25), 0))
def test_exponential_equals_its_definition(a):
    assert int(exp_on_negative_values(a)) == exact.exp_of_negative(a)


def test_exponential_on_a_grid_and_around_every_power_of_two():
    powers = np.array([-(1 << bit) for bit in range(31)])
    a = np.concatenate([np.linspace(-(2**31), 0, 2001).astype(np.int64), powers, powers + 1, powers - 1])
    np.testing.assert_array_equal(exp_on_negative_values(a), [exact.exp_of_negative(int(value)) for value in a])


def test_exponential_is_close_to_the_real_one():
    a = np.linspace(-(2**31), 0, 100_001).astype(np.int64)
    assert np.abs(exp_on_negative_values(a) / 2.0**31 - np.exp(a / Q26)).max() < 1e-6


@thorough
@given(st.integers(0, INT32_MAX))
def test_one_over_one_plus_x_equals_its_definition(a):
    assert int(one_over_one_plus_x(a)) == exact.one_over_one_plus(a)


def test_one_over_one_plus_x_at_its_ends_and_on_a_grid():
    a = np.concatenate([np.linspace(0, INT32_MAX, 2001).astype(np.int64), np.arange(50), INT32_MAX - np.arange(50)])
    got = one_over_one_plus_x(a)
    np.testing.assert_array_equal(got, [exact.one_over_one_plus(int(value)) for value in a])
    assert np.abs(got / 2.0**31 - 1 / (1 + a / 2.0**31)).max() < 1e-8


@thorough
@given(st.integers(1, INT32_MAX), st.integers(0, 31))
def test_reciprocal_normalizes(x, integer_bits):
    scale, shift = (int(value) for value in reciprocal(x, integer_bits))
    real = x * 2.0 ** (integer_bits - 31)
    assert 2.0**shift <= real < 2.0 ** (shift + 1)
    assert abs(scale / 2.0**31 * 2.0**-shift * real - 1) < 1e-8


@pytest.mark.parametrize("rounding", Rounding)
def test_exponentials_are_those_of_the_scaled_differences(rounding):
    multiplier, shift = (int(value) for value in quantize_multiplier(0.0123 * 2.0**26))
    got = exponentials(multiplier, shift, -200, rounding)
    expected = [
        exact.exp_of_negative(exact.scaled(-difference, multiplier, shift, rounding)) if difference <= 200 else 0
        for difference in range(256)
    ]
    np.testing.assert_array_equal(got, expected)
    assert got[100] == pytest.approx(exp(-1.23) * 2**31, rel=1e-5)


def _exps(scale):
    multiplier, shift = (int(value) for value in quantize_multiplier(scale * 2.0**26))
    return multiplier, shift, exponentials(multiplier, shift, -255)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("depth", [1, 2, 10, 300])
def test_softmax_equals_its_definition(dtype, depth):
    rng = np.random.default_rng(depth)
    multiplier, shift, exps = _exps(0.07)
    limits = np.iinfo(dtype)
    q = rng.integers(limits.min, limits.max + 1, (20, depth)).astype(dtype)
    got = softmax(q, exps)
    assert got.dtype == dtype
    expected = [exact.softmax(row, multiplier, shift, -255, Rounding.DOUBLE, limits.min) for row in q.tolist()]
    np.testing.assert_array_equal(got, expected)


def test_softmax_is_close_to_the_real_one():
    rng = np.random.default_rng(1)
    q = rng.integers(-128, 128, (500, 12)).astype(np.int8)
    real = np.exp(0.07 * q.astype(np.float64))
    real /= real.sum(axis=1, keepdims=True)
    assert np.abs((softmax(q, _exps(0.07)[2]).astype(np.int64) + 128) / 256 - real).max() <= 1 / 256


def test_softmax_of_equal_values_at_every_power_of_two():
    exps = _exps(0.07)[2]
    for depth, expected in ((1, 255), (2, 128), (4, 64), (256, 1), (511, 1), (512, 0), (SOFTMAX_MAX_DEPTH, 0)):
        q = np.full((1, depth), 5, np.uint8)
        np.testing.assert_array_equal(softmax(q, exps), np.full((1, depth), expected))


def test_softmax_refuses_a_sum_that_could_overflow():
    with pytest.raises(ValueError, match=r"^softmax over 4096 values; 4095 at most$"):
        softmax(np.zeros((1, 4096), np.int8), _exps(0.07)[2])
