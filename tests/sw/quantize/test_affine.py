"""The affine schemes' parameters against their formulas."""

from fractions import Fraction

import numpy as np
import pytest

from zeropoint.quantize.affine import affine_quantization, asymmetric_weights, symmetric_weights

LIMITS = {"int8": (-128, 127), "uint8": (0, 255)}


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize(
    ("low", "high", "scale", "steps"),
    [
        (0.0, 255.0, 1.0, 0),
        (-255.0, 0.0, 1.0, 255),
        (-1.0, 254.0, 1.0, 1),
        (-127.5, 127.5, 1.0, 128),  # round(127.5) = 128: half away from zero.
        (2.0, 510.0, 2.0, 0),  # Widened to include 0.
        (-510.0, -3.0, 2.0, 255),
        (0.0, 0.0, 1 / 255, 0),  # Nothing but zeros: 0 … 1.
    ],
)
def test_scale_and_zero_point(dtype: str, low: float, high: float, scale: float, steps: int) -> None:
    quantization = affine_quantization(low, high, dtype)
    assert quantization.scale == (float(np.float32(scale)),)
    assert quantization.zero_point == (LIMITS[dtype][0] + steps,)


@pytest.mark.parametrize("dtype", LIMITS)
def test_random_ranges_against_exact_fractions(dtype: str) -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        low, high = np.sort(rng.normal(size=2) * 10.0 ** rng.uniform(-6, 6))
        (scale,), (zero_point,) = (
            getattr(affine_quantization(low, high, dtype), name) for name in ("scale", "zero_point")
        )
        low, high = Fraction(min(low, 0.0)), Fraction(max(high, 0.0))
        assert abs(Fraction(scale) / ((high - low) / 255) - 1) < Fraction(1, 1 << 23)
        assert LIMITS[dtype][0] <= zero_point <= LIMITS[dtype][1]
        assert abs(zero_point - LIMITS[dtype][0] + low / Fraction(scale)) <= Fraction(1, 2) + Fraction(1, 1 << 15)


def test_a_least_scale_widens_the_range() -> None:
    assert affine_quantization(-1.0, 1.0, "uint8", 0.5).scale == (0.5,)
    assert affine_quantization(-1.0, 1.0, "uint8", 0.5).zero_point == (2,)
    assert affine_quantization(-1.0, 1.0, "uint8", 0.001).scale[0] == np.float32(2 / 255)


SHAPES = [((5, 3, 3, 2), 0), ((3, 3, 6), 2), ((4, 7), 0), ((1, 7), 0)]


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_symmetric_weights_have_a_scale_per_output_channel(shape: tuple[int, ...], axis: int) -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(size=shape) * 10.0 ** rng.uniform(-3, 3, shape[axis]).reshape(
        [-1 if dimension == axis else 1 for dimension in range(len(shape))]
    )
    got = symmetric_weights(values, axis, np.zeros(shape[axis]), 1.0)
    assert got.q.dtype == np.int8
    assert got.q.shape == shape
    assert got.quantization.axis == axis
    assert set(got.quantization.zero_point) == {0}
    for channel, scale in enumerate(got.quantization.scale):
        real, q = (np.take(array, channel, axis) for array in (values, got.q))
        assert scale == np.float32(np.abs(real).max() / 127)
        assert np.abs(q).max() == 127
        assert np.abs(q * scale - real).max() <= scale / 2 * (1 + 1e-5)
    np.testing.assert_array_equal(symmetric_weights(-values, axis, np.zeros(shape[axis]), 1.0).q, -got.q)


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("shift", [-4.0, -0.3, 0.0, 0.2, 5.0])
def test_asymmetric_weights_have_one_scale_and_an_exact_zero(shape: tuple[int, ...], axis: int, shift: float) -> None:
    values = np.random.default_rng(3).normal(size=shape) + shift
    values.flat[0] = 0.0
    got = asymmetric_weights(values, axis, np.zeros(shape[axis]), 1.0)
    (scale,), (zero_point,) = got.quantization.scale, got.quantization.zero_point
    assert got.q.dtype == np.uint8
    assert got.quantization.axis is None
    assert scale == np.float32((max(values.max(), 0) - min(values.min(), 0)) / 255)
    assert got.q.flat[0] == zero_point
    error = np.abs((got.q.astype(np.float64) - zero_point) * scale - values)
    # Half a step for the weight, and at the ends half a step more for the zero point.
    assert error.max() <= scale * (1 + 1e-5)
    assert np.median(error) <= scale / 2


def test_channels_without_weights() -> None:
    values = np.array([[0.0, 0.0], [1.0, -2.0]])
    got = symmetric_weights(values, 0, np.array([0.0, 0.0]), 0.125)
    assert got.quantization.scale == (0.125, float(np.float32(2 / 127)))
    np.testing.assert_array_equal(got.q, [[0, 0], [64, -127]])
    got = asymmetric_weights(values * 0, 0, np.array([0.0, 0.0]), 0.125)
    assert (got.quantization.scale, got.quantization.zero_point) == ((0.125,), (0,))
    np.testing.assert_array_equal(got.q, [[0, 0], [0, 0]])


def test_least_scales_widen_weights() -> None:
    values = np.array([[127.0, 1.0], [127.0, -127.0], [0.0, 0.0]])
    got = symmetric_weights(values, 0, np.array([2.0, 0.5, 0.25]), 0.125)
    assert got.quantization.scale == (2.0, 1.0, 0.25)
    np.testing.assert_array_equal(got.q, [[64, 1], [127, -127], [0, 0]])
    assert asymmetric_weights(values, 0, np.array([2.0, 5.0, 0.25]), 0.125).quantization.scale == (5.0,)
