"""The public entry: what it records, repeats, reports and refuses."""

from typing import Any

import numpy as np
import pytest
from support.float_networks import fully_connected, random_network

from zeropoint.errors import ZeropointError
from zeropoint.model import zp_file
from zeropoint.quantize import BITS, CalibrationMethod, Scheme, quantize

X = np.random.default_rng(5).normal(size=(20, 12, 12, 3)).astype(np.float32)


def test_every_scheme_has_its_widths() -> None:
    assert set(BITS) == set(Scheme)


@pytest.mark.parametrize("scheme", Scheme)
@pytest.mark.parametrize("method", CalibrationMethod)
def test_the_same_data_give_the_same_bytes(scheme: Scheme, method: CalibrationMethod) -> None:
    models = [fully_connected([[1.0, 0.2], [-0.3, 0.7]], [0.1, 0.2]) for _ in range(2)]
    x = np.random.default_rng(6).standard_t(3, size=(100, 2)).astype(np.float32)
    one, two = (zp_file.dumps(quantize(model, x, scheme=scheme, method=method)) for model in models)
    assert one == two
    assert one != zp_file.dumps(quantize(models[0], 2 * x, scheme=scheme, method=method))


def test_what_the_metadata_record() -> None:
    model = random_network(1)
    assert quantize(model, X, scheme=Scheme.AFFINE_INT8, method=CalibrationMethod.MINMAX).metadata == {
        "scheme": "affine-int8",
        "bits": "8",
        "calibration": "minmax",
        "calibration samples": "20",
        "bias correction": "yes",
    }
    options = {"method": CalibrationMethod.PERCENTILE, "percentile": 99.5, "bias_correction": False}
    assert quantize(model, X, scheme=Scheme.AFFINE_UINT8, **options).metadata == {
        "scheme": "affine-uint8",
        "bits": "8",
        "calibration": "percentile 99.5",
        "calibration samples": "20",
        "bias correction": "no",
    }


def test_schemes_and_methods_by_name() -> None:
    model = fully_connected([[1.0, 0.2]])
    x = np.random.default_rng(6).normal(size=(9, 2)).astype(np.float32)
    for scheme in Scheme:
        for method in CalibrationMethod:
            named = quantize(model, x, scheme=scheme.value, method=method.value)
            assert zp_file.dumps(named) == zp_file.dumps(quantize(model, x, scheme=scheme, method=method))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"scheme": "affine"},
            r"^the scheme 'affine' is unknown; there are affine-int8, affine-uint8, inq, pow2, fixed, dynamic-fixed, "
            r"minifloat$",
        ),
        ({"scheme": None}, r"^the scheme None is unknown; there are affine-int8, "),
        ({"scheme": "inq", "bits": 6}, r"^the scheme 'inq' has 2, 3, 4, 5 bits, not 6$"),
        ({"scheme": "affine-int8", "bits": 4}, r"^the scheme 'affine-int8' has 8 bits, not 4$"),
        (
            {"scheme": Scheme.AFFINE_INT8, "method": "mean"},
            r"^the calibration method 'mean' is unknown; there are minmax, percentile, mse$",
        ),
    ],
)
def test_unknown_schemes_and_methods(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ZeropointError, match=message):
        quantize(fully_connected([[1.0]]), np.ones((1, 1), np.float32), **options)


def test_activations_of_one_value_are_warned_of() -> None:
    model = fully_connected([[1.0, 0.2], [0.4, 0.3]])
    assert "warning" not in quantize(model, [[1.0, 2.0], [0.0, 1.0]], scheme=Scheme.AFFINE_INT8).metadata
    for constant in (0.0, 0.5):
        quantized = quantize(model, np.full((3, 2), constant, np.float32), scheme=Scheme.AFFINE_INT8)
        assert quantized.metadata["warning"] == (
            "the calibration data leave the ranges of some activations open, which have one value only: "
            f"{'x, y' if constant == 0 else 'x'}; give inputs typical of those to come"
        )


def test_progress() -> None:
    seen: list[float] = []
    quantize(random_network(1), X, scheme=Scheme.AFFINE_INT8, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        (np.float32(1), r"^input 'x' takes an array of shape \(N, 1\), not \(\)$"),
        (np.zeros((0, 1), np.float32), r"^input 'x' takes one sample or more, but the array is empty$"),
        (np.array([[1.0], [np.nan]], np.float32), r"^the values for input 'x' must be finite"),
        (np.zeros((3, 1), np.uint8), r"^input 'x' takes float32 values, not uint8$"),
    ],
)
def test_bad_calibration_data(calibration: object, message: str) -> None:
    with pytest.raises(ZeropointError, match=message):
        quantize(fully_connected([[1.0]]), calibration, scheme=Scheme.AFFINE_INT8)  # type: ignore[arg-type]
