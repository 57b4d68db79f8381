"""The floating-point way of requantization against the integers' definition."""

import numpy as np
import pytest
from support.operators import single, tensor

from zeropoint.golden.output import Output
from zeropoint.model import Clamp, FullyConnected
from zeropoint.numerics import Rounding, requantize

CHANNELS = 37


def layer(multipliers, zero_point, clamp=None, rounding=Rounding.DOUBLE, bias=0, reach=2**23):
    """Return an Output whose accumulators are raw sums plus ``bias``, for sums up to ``reach``."""
    multipliers = np.broadcast_to(np.asarray(multipliers, np.float32), (CHANNELS,))
    terms = max(reach // 128 // 127, 1)
    weights = np.full((CHANNELS, terms), 127, np.int8)
    model = single(
        FullyConnected(name="layer", input="x", output="y", weights="w", bias="b", clamp=clamp or Clamp()),
        tensor("x", (terms,), "int8", 1.0, 0),
        tensor("w", weights.shape, "int8", multipliers, 0, weights, 0),
        tensor("b", (CHANNELS,), "int32", multipliers, 0, np.full(CHANNELS, bias, np.int32), 0),
        tensor("y", (CHANNELS,), "int8", 1.0, zero_point),
        rounding=rounding,
    )
    return Output(model, model.operators[0], weights.astype(np.int16))


def telling_sums(output, rows, reach, bias, seed=0):
    """Return sums that give accumulators next to rounding ties, at both ends, around 0, and anywhere."""
    rng = np.random.default_rng(seed)
    real = output.scaling.multiplier * 2.0 ** (output.scaling.shift - 31)
    steps = rng.integers(-400, 400, (rows, CHANNELS)) + 0.5
    near = np.floor(steps / real) + rng.integers(-1, 3, steps.shape)
    anywhere = rng.integers(-reach, reach + 1, steps.shape)
    sums = np.where(rng.random(steps.shape) < 0.7, near - bias, anywhere)
    sums[:4] = np.array([[-reach], [reach], [0 - bias], [-1 - bias]])
    return np.clip(sums, -reach, reach).astype(np.int64)


def check(output, sums, bias):
    got = np.empty(sums.shape, np.int8)
    output(sums.astype(output.dtype), got)
    expected = requantize(
        sums + bias, output.scaling.multiplier, output.scaling.shift, output.zero_point, output.clamp, output.rounding
    )
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("clamp", [Clamp(), Clamp(0.0, 1e9), Clamp(0.0, 30.0), Clamp(-7.0, 7.0)])
@pytest.mark.parametrize("zero_point", [-128, -3, 127])
@pytest.mark.parametrize("exponent", [3, 0, -1, -2, -6, -11, -14])
def test_floats_give_the_integers_outputs(exponent, zero_point, clamp, rounding):
    # From one half of 2^exponent, a power of two, to just below the whole.
    multipliers = 2.0**exponent * np.linspace(0.5, 1, CHANNELS, endpoint=False)
    reach, bias = 2**23, 1234
    output = layer(multipliers, zero_point, clamp, rounding, bias, reach)
    assert output.factor is not None, "these do not go the floating-point way"
    assert output.dtype is np.float32
    check(output, telling_sums(output, 4000, reach, bias), bias)


@pytest.mark.parametrize("rounding", Rounding)
def test_floats_give_every_accumulator_of_a_channel(rounding):
    multipliers = np.geomspace(0.3, 2.0**-14, CHANNELS)
    output = layer(multipliers, 5, None, rounding, 0, 2**15)
    assert output.factor is not None
    sums = np.broadcast_to(np.arange(-(2**15), 2**15 + 1)[:, np.newaxis], (2**16 + 1, CHANNELS))
    check(output, sums, 0)


@pytest.mark.parametrize("multiplier", [2.0**-15, 2.0**-18, 2.0**-22, 0.6 * 2.0**-23])
def test_greater_shifts_take_the_integers_way(multiplier):
    output = layer(multiplier * np.linspace(0.9, 1, CHANNELS, endpoint=False), -3)
    assert output.factor is None
    check(output, telling_sums(output, 300, 2**23, 0), 0)


def test_channels_that_vanish_keep_the_floating_point_way():
    multipliers = np.where(np.arange(CHANNELS) % 2, 0.01, 1e-9)
    output = layer(multipliers, -3)
    assert output.factor is not None
    check(output, telling_sums(output, 300, 2**23, 0), 0)


@pytest.mark.parametrize("exponent", [8, 12, 29])
def test_shifts_that_could_wrap_take_the_integers_way(exponent):
    output = layer(2.0**exponent, -3)
    assert output.factor is None
    check(output, telling_sums(output, 300, 2**23, 0), 0)


def test_sums_beyond_float32_stay_exact():
    reach, bias = 2**26, 2**27 + 1
    output = layer(np.linspace(1e-4, 1e-3, CHANNELS), 4, None, Rounding.DOUBLE, bias, reach)
    assert output.dtype is np.float64
    assert output.factor is not None
    check(output, telling_sums(output, 2000, reach, bias), bias)


@pytest.mark.parametrize("rows", [0, 1, 27, 28, 1000, 5000])
def test_any_number_of_rows(rows):
    output = layer(np.linspace(1e-3, 1e-2, CHANNELS), 4)
    sums = np.random.default_rng(rows).integers(-(2**17), 2**17, (rows, CHANNELS))
    check(output, sums, 0)


def test_a_nudge_of_the_wrong_sign_is_noticed():
    output = layer(np.geomspace(0.3, 2.0**-10, CHANNELS), 5)
    output.nudge = (-output.nudge.view(np.float64)).view(np.int64)
    with pytest.raises(AssertionError, match="Arrays are not equal"):
        check(output, telling_sums(output, 4000, 2**23, 0), 0)
