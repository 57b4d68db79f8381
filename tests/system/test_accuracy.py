"""The demo network keeps its accuracy in integers, on the 10,000 test images of Fashion-MNIST."""

import gzip
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from zeropoint import float_reference, golden
from zeropoint.importers import onnx_float
from zeropoint.model import FloatModel
from zeropoint.quantize import Scheme, quantize

DATASET = Path("/usr/share/datasets/fashion-mnist")
DEMO = Path(str(resources.files("zeropoint"))) / "demo"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (DATASET / "t10k-images-idx3-ubyte.gz").exists(),
        reason=f"the test images are not in {DATASET} (Debian package dataset-fashion-mnist)",
    ),
]


def idx(name: str, header: int) -> npt.NDArray[np.uint8]:
    return np.frombuffer(gzip.decompress((DATASET / name).read_bytes()), np.uint8, offset=header)


@pytest.fixture(scope="module")
def images() -> npt.NDArray[np.float32]:
    return idx("t10k-images-idx3-ubyte.gz", 16).reshape(10_000, 28, 28, 1).astype(np.float32) / 255


@pytest.fixture(scope="module")
def labels() -> npt.NDArray[np.uint8]:
    return idx("t10k-labels-idx1-ubyte.gz", 8)


@pytest.fixture(scope="module")
def model() -> FloatModel:
    return onnx_float.read(DEMO / "fashion_mnist.onnx")


@pytest.fixture(scope="module")
def calibration() -> npt.NDArray[np.float32]:
    return np.load(DEMO / "calibration.npy", allow_pickle=False).astype(np.float32) / 255


@pytest.fixture(scope="module")
def float_accuracy(model: FloatModel, images: Any, labels: Any) -> float:
    return accuracy(float_reference.run_output(model, images), labels)


def accuracy(outputs: npt.NDArray[Any], labels: npt.NDArray[np.uint8]) -> float:
    """In percent."""
    return 100 * float(np.mean(outputs.argmax(axis=1) == labels))


def test_the_float_network_is_worth_quantizing(float_accuracy: float) -> None:
    assert float_accuracy > 90


@pytest.mark.parametrize(
    ("scheme", "told"),
    [
        (Scheme.AFFINE_INT8, 91.2),
        (Scheme.AFFINE_UINT8, 91.0),
        (Scheme.DYNAMIC_FIXED, 90.5),
        (Scheme.MINIFLOAT, 90.9),
    ],
    ids=lambda value: getattr(value, "value", None),
)
def test_integers_lose_little(
    scheme: Scheme, told: float, model: FloatModel, calibration: Any, images: Any, labels: Any, float_accuracy: float
) -> None:
    """No more than the README tells; the last bits of float32 sums, which differ between machines, move a tenth."""
    quantized = quantize(model, calibration, scheme=scheme)
    outputs = golden.run(quantized, quantized.tensor(quantized.input).quantize(images))
    assert accuracy(outputs, labels) == pytest.approx(told, abs=0.2)
    assert float_accuracy == pytest.approx(91.2, abs=0.1)


def test_powers_of_two_need_training(model: FloatModel, calibration: Any, images: Any, labels: Any) -> None:
    """Ristretto's weights of 4 bits, as the README tells of them."""
    quantized = quantize(model, calibration, scheme=Scheme.POW2)
    outputs = golden.run(quantized, quantized.tensor(quantized.input).quantize(images))
    assert accuracy(outputs, labels) == pytest.approx(52.1, abs=1)


def test_weights_of_four_bits_are_missed(model: FloatModel, calibration: Any, images: Any, labels: Any) -> None:
    """A negative control: a network that is damaged does lose accuracy."""
    images, labels = images[:2000], labels[:2000]
    tensors = dict(model.tensors)
    for name, tensor in model.tensors.items():
        if tensor.data is not None and tensor.data.ndim > 1:
            step = np.abs(tensor.data).max() / 8
            tensors[name] = type(tensor)(name, tensor.shape, "float32", data=np.trunc(tensor.data / step) * step)
    damaged = FloatModel("damaged", tensors, model.operators, model.input, model.output)
    quantized = quantize(damaged, calibration, scheme=Scheme.AFFINE_INT8)
    outputs = golden.run(quantized, quantized.tensor(quantized.input).quantize(images))
    assert accuracy(outputs, labels) < accuracy(float_reference.run_output(model, images), labels) - 2
