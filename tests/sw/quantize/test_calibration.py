"""Calibrated ranges against the definitions, applied to the plain values."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.float_networks import float_model, random_network

from zeropoint import float_reference
from zeropoint.errors import ZeropointError
from zeropoint.model import Requantize
from zeropoint.quantize.affine import AFFINE_INT8, AFFINE_UINT8, affine_quantization
from zeropoint.quantize.calibration import BINS, CANDIDATES, CalibrationMethod, calibrate
from zeropoint.quantize.schemes import Rules

MINMAX, PERCENTILE, MSE = CalibrationMethod


def ranges_of(
    values: npt.ArrayLike, method: CalibrationMethod, percentile: float = 99.0, rules: Rules = AFFINE_INT8
) -> tuple[float, float]:
    """The range of a tensor that takes ``values``, one a sample."""
    model = float_model((1,), Requantize(name="op", input="x", output="y"))
    x = np.asarray(values, np.float32).reshape(-1, 1)
    return calibrate(model, x, ["y"], rules, method, percentile)[0]["y"]


def distributions() -> dict[str, npt.NDArray[np.float32]]:
    rng = np.random.default_rng(1)
    normal = rng.normal(size=4000)
    return {
        "normal": normal,
        "positive": np.maximum(normal, 0),
        "negative": -np.abs(normal) - 1,
        "heavy tails": rng.standard_t(2, 4000),
        "one outlier": np.append(normal, 100.0),
        "skewed": rng.exponential(size=4000) - 0.2,
        "few": np.array([0.3, -0.1, 0.7]),
        "sparse": np.append(np.zeros(5000), [3.0, -2.0]),
    }


every_distribution = pytest.mark.parametrize("name", distributions())


@every_distribution
def test_minmax(name: str) -> None:
    values = distributions()[name].astype(np.float32)
    assert ranges_of(values, MINMAX) == (min(values.min(), 0), max(values.max(), 0))


@every_distribution
@pytest.mark.parametrize("percentile", [60.0, 99.0, 99.9, 100.0])
def test_percentile(name: str, percentile: float) -> None:
    values = distributions()[name].astype(np.float32)
    low, high = ranges_of(values, PERCENTILE, percentile)
    cell = (max(values.max(), 0) - min(values.min(), 0)) / BINS * (1 + 1e-6)
    # By definition: the least value below or at which lie at least p % of all.
    ordered = np.sort(values.astype(np.float64))
    count = int(np.ceil(round(len(values) * percentile / 100, 6)))
    exact_low, exact_high = min(ordered[len(values) - count], 0.0), max(ordered[count - 1], 0.0)
    assert exact_high <= high + 1e-12
    assert high <= exact_high + cell
    assert exact_low >= low - 1e-12
    assert low >= exact_low - cell


def test_the_whole_range_is_the_hundredth_percentile() -> None:
    values = distributions()["heavy tails"]
    assert ranges_of(values, PERCENTILE, 100.0) == ranges_of(values, MINMAX)


def squared_error(values: npt.NDArray[np.float64], low: float, high: float, dtype: str) -> float:
    """Of the values themselves, quantized in the range."""
    quantization = affine_quantization(low, high, dtype)
    (scale,), (zero_point,) = quantization.scale, quantization.zero_point
    limits = np.iinfo(dtype)
    q = np.clip(np.rint(values / scale) + zero_point, limits.min, limits.max)
    return float(np.square((q - zero_point) * scale - values).sum())


@every_distribution
@pytest.mark.parametrize("rules", [AFFINE_INT8, AFFINE_UINT8], ids=lambda rules: rules.dtype)
def test_least_squared_error(name: str, rules: Rules) -> None:
    values = distributions()[name].astype(np.float32).astype(np.float64)
    low, high = ranges_of(values, MSE, rules=rules)
    least, greatest = min(values.min(), 0.0), max(values.max(), 0.0)
    steps = np.arange(1, CANDIDATES + 1) / CANDIDATES
    lows, highs = (end * steps if end else [0.0] for end in (least, greatest))
    assert low in lows
    assert high in highs
    best = min(squared_error(values, a, b, rules.dtype) for a in lows for b in highs)
    # Cells stand for their values by the mean: an error of half a cell, which is a sixteenth of a step.
    assert squared_error(values, low, high, rules.dtype) <= 1.05 * best + 1e-12


def test_clipping_an_outlier_saves_squared_error() -> None:
    values = np.append(np.random.default_rng(2).normal(size=1_000_000), 9.0).astype(np.float32).astype(np.float64)
    low, high = ranges_of(values, MSE)
    assert high < 6
    assert squared_error(values, low, high, "int8") < 0.7 * squared_error(values, values.min(), 9.0, "int8")


@pytest.mark.parametrize("method", CalibrationMethod)
def test_constant_zero_stays_the_range_of_zero(method: CalibrationMethod) -> None:
    assert ranges_of(np.zeros(10), method) == (0.0, 0.0)


@pytest.mark.parametrize("method", CalibrationMethod)
@pytest.mark.parametrize("constant", [-3.0, 1e-40, 0.7, 1e38])
def test_constant_values_are_the_end_of_the_range(method: CalibrationMethod, constant: float) -> None:
    constant = float(np.float32(constant))
    assert ranges_of([constant] * 10, method) == (min(constant, 0.0), max(constant, 0.0))


@pytest.mark.parametrize("method", CalibrationMethod)
@pytest.mark.parametrize(("values", "constant"), [([0.0] * 3, True), ([-0.5] * 3, True), ([0.0, 0.0, 0.1], False)])
def test_tensors_of_one_value_are_told(method: CalibrationMethod, values: list[float], constant: bool) -> None:
    model = float_model((1,), Requantize(name="op", input="x", output="y"))
    x = np.asarray(values, np.float32).reshape(-1, 1)
    assert calibrate(model, x, ["y", "x"], AFFINE_INT8, method, 99.0)[1] == (["y", "x"] if constant else [])


@pytest.mark.parametrize("method", CalibrationMethod)
def test_ranges_contain_zero_and_do_not_depend_on_the_parts(
    method: CalibrationMethod, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_network(1)
    x = np.random.default_rng(2).normal(size=(40, 12, 12, 3)).astype(np.float32)
    names = [tensor.name for tensor in model.activations()]
    whole, constant = calibrate(model, x, names, AFFINE_INT8, method, 99.9)
    assert all(low <= 0 <= high for low, high in whole.values())
    assert list(whole) == names
    assert constant == []
    monkeypatch.setattr(float_reference, "_BATCH_BYTES", 100_000)
    assert len(list(float_reference.run_batches(model, x))) > 3
    parts, _ = calibrate(model, x, names, AFFINE_INT8, method, 99.9)
    for name in names:
        np.testing.assert_allclose(parts[name], whole[name], rtol=2e-2 if method is MSE else 1e-5, err_msg=name)


def test_methods_narrow_the_range() -> None:
    values = distributions()["heavy tails"]
    low, high = ranges_of(values, MINMAX)
    for method in (PERCENTILE, MSE):
        narrower = ranges_of(values, method)
        assert low < narrower[0]
        assert narrower[1] < high


def test_progress_reaches_one() -> None:
    model = random_network(1)
    x = np.zeros((3, 12, 12, 3), np.float32)
    for method, fractions in {MINMAX: [1.0], MSE: [0.5, 1.0]}.items():
        seen: list[float] = []
        calibrate(model, x, ["x"], AFFINE_INT8, method, 99.0, seen.append)
        assert seen == fractions


@pytest.mark.parametrize("percentile", [50.0, 100.5, -1.0, float("nan")])
def test_wrong_percentiles(percentile: float) -> None:
    with pytest.raises(ZeropointError, match=rf"percentile must be above 50 and 100 at most, not {percentile}"):
        ranges_of([1.0], PERCENTILE, percentile)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((0, 1), np.float32), r"takes one sample or more, but the array is empty"),
        (np.full((3, 1), np.inf, np.float32), r"must be finite, but some are NaN or infinite"),
        (np.zeros((3, 2), np.float32), r"takes an array of shape \(N, 1\), not \(3, 2\)"),
        (np.zeros((3, 1), np.int8), r"takes float32 values, not int8"),
    ],
)
def test_wrong_data(x: Any, message: str) -> None:
    model = float_model((1,), Requantize(name="op", input="x", output="y"))
    with pytest.raises(ZeropointError, match=message):
        calibrate(model, x, ["y"], AFFINE_INT8, MINMAX, 99.0)
