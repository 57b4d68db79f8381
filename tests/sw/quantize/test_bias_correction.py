"""Bias correction: the mean errors it computes, and what it does to the outputs."""

from typing import Any

import numpy as np
import pytest
from support.float_networks import float_model, fully_connected, random_network

from zeropoint import float_reference
from zeropoint.errors import ZeropointError
from zeropoint.model import Conv2D, DepthwiseConv2D, FullyConnected, Padding
from zeropoint.quantize import CalibrationMethod, Scheme, noise_table, quantize
from zeropoint.quantize.bias_correction import mean_error, mean_inputs

XY: dict[str, Any] = {"name": "op", "input": "x", "output": "y", "weights": "w"}
PADDING = Padding(2, 1, 0, 2)


@pytest.mark.parametrize(
    ("operator", "image", "weights"),
    [
        (Conv2D(**XY), (6, 7, 3), (4, 3, 2, 3)),
        (Conv2D(**XY, stride=(2, 3), padding=PADDING), (6, 7, 3), (4, 3, 2, 3)),
        (Conv2D(**XY, dilation=(2, 1), padding=PADDING, groups=3), (6, 7, 6), (9, 3, 2, 2)),
        (DepthwiseConv2D(**XY, stride=(2, 1), dilation=(1, 2), padding=PADDING), (6, 7, 3), (3, 2, 6)),
        (FullyConnected(**XY), (2, 3, 2), (5, 12)),
        (FullyConnected(**XY), (4,), (5, 4)),
    ],
)
def test_the_mean_of_a_linear_operator_follows_from_the_mean_of_its_inputs(
    operator: Any, image: tuple[int, ...], weights: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    w = rng.normal(size=weights)
    model = float_model(image, operator, w=w)
    x = (rng.normal(size=(30, *image)) + 0.5).astype(np.float32)
    expected = float_reference.run_output(model, x).astype(np.float64)
    expected = expected.mean(axis=tuple(range(expected.ndim - 1)))
    monkeypatch.setattr(float_reference, "_BATCH_BYTES", 10_000)
    got = mean_error(operator, w, mean_inputs(model, x)["op"])
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scheme", [Scheme.AFFINE_INT8, Scheme.AFFINE_UINT8])
def test_the_mean_of_the_accumulators_is_right(scheme: Scheme) -> None:
    # With one scale for all, the weights of all channels but the first are rounded to a few steps.
    rng = np.random.default_rng(2)
    weights = rng.uniform(-1, 1, (8, 50)) * np.array([100.0] + [1.0] * 7)[:, None]
    bias = rng.normal(size=8)
    model = fully_connected(weights, bias)
    x = rng.uniform(0, 1, (400, 50)).astype(np.float32)
    errors = []
    for corrected in (False, True):
        quantized = quantize(model, x, scheme=scheme, bias_correction=corrected)
        (w, b), source = (quantized.tensor(name) for name in "wb"), quantized.tensor("x")
        q = source.quantize(x).astype(np.int64) - source.zero_point
        accumulators = q @ (w.data.astype(np.int64) - w.quantization.zero_point[0]).T + b.data
        real = accumulators.mean(axis=0) * b.quantization.scale
        errors.append(np.abs(real - (x.astype(np.float64) @ weights.T + bias).mean(axis=0))[1:].max())
    # What remains is the rounding of the input and of the bias.
    assert errors[1] < 0.01
    assert errors[0] > (1.0 if scheme is Scheme.AFFINE_UINT8 else 0.001)


def test_an_operator_without_a_bias_gets_one() -> None:
    model = fully_connected([[1.0, 0.3], [0.2, 0.7]])
    x = np.ones((2, 2), np.float32)
    plain, corrected = (
        quantize(model, x, scheme=Scheme.AFFINE_UINT8, bias_correction=wanted) for wanted in (False, True)
    )
    np.testing.assert_array_equal(plain.tensor("w").data, corrected.tensor("w").data)
    assert [operator.constants for operator in plain.operators] == [("w",)]
    assert [operator.constants for operator in corrected.operators] == [("w", "fc/bias")]


def test_a_network_with_one_scale_for_all_weights_gains() -> None:
    model = random_network(5)
    x = np.random.default_rng(5).normal(size=(64, 12, 12, 3)).astype(np.float32)
    plain, corrected = (
        noise_table(model, quantize(model, x, scheme=Scheme.AFFINE_UINT8, bias_correction=wanted), x)
        for wanted in (False, True)
    )
    gain = [after.sqnr - before.sqnr for before, after in zip(plain, corrected, strict=True)]
    assert np.mean(gain) > 0.1
    assert max(gain) > 0.5


def test_a_mean_beyond_a_clipped_range_is_clipped() -> None:
    model = fully_connected([[1.0, 0.3]], [0.5])
    x = np.array([[0.0, 1.0]] * 99 + [[1e6, 1.0]], np.float32)
    quantized = quantize(model, x, scheme=Scheme.AFFINE_INT8, method=CalibrationMethod.PERCENTILE, percentile=98.0)
    bias = quantized.tensor("b")
    assert bias.data is not None
    assert bias.data[0] * bias.scale == pytest.approx(0.5, abs=quantized.tensor("x").scale)


def test_bad_data() -> None:
    with pytest.raises(ZeropointError, match=r"must be finite"):
        mean_inputs(fully_connected([[1.0]]), np.full((1, 1), np.nan, np.float32))
