"""The networks that examples/fashion_mnist/qat.py wrote: what the results say is what the files hold."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from zeropoint import golden
from zeropoint.importers import layout, onnx_quantized

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "examples" / "fashion_mnist" / "qat"
RESULTS = FOLDER / "qat_results.json"

pytestmark = pytest.mark.skipif(not RESULTS.exists(), reason="the examples are not here")

NETWORKS = [(scheme, ranges) for scheme in ("affine-int8", "affine-uint8") for ranges in ("averaged", "learned")]


def results():
    return json.loads(RESULTS.read_text())


def file(scheme, ranges):
    return FOLDER / f"{scheme.removeprefix('affine-')}_{ranges}.onnx"


@pytest.mark.parametrize(("scheme", "ranges"), NETWORKS)
def test_the_files_are_those_that_were_measured_and_are_as_accurate_as_float(scheme, ranges):
    found = results()
    result = found["in_training"][scheme][ranges]
    assert hashlib.sha256(file(scheme, ranges).read_bytes()).hexdigest() == result["onnx_sha256"]
    assert (result["unequal_values"], result["values"]) == (0, 10 * found["test_images"]) == (0, 100000)
    assert result["accuracy"] >= found["float_accuracy_after_further_epochs"] - 0.004


@pytest.mark.parametrize(("scheme", "ranges"), NETWORKS)
def test_the_golden_model_is_right_on_the_images_that_ship(scheme, ranges):
    model = onnx_quantized.read(file(scheme, ranges))
    assert model.metadata["scheme"] == scheme
    demo = ROOT / "sw" / "zeropoint" / "demo"
    images, labels = np.load(demo / "images.npy"), np.load(demo / "labels.npy")
    x = layout.to_model(model, (images.transpose(0, 3, 1, 2) / 255).astype(np.float32))
    outputs = golden.run(model, model.tensor(model.input).quantize(x))
    assert (outputs.argmax(axis=1) == labels).mean() >= 0.86
