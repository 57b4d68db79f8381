"""Trained networks from TensorFlow Lite files, written as ONNX and read back."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from support.real_models import MODELS, inputs, needs_models, path

from zeropoint import golden
from zeropoint.compiler import compile_model
from zeropoint.compiler.normalize import normalize
from zeropoint.export import onnx_qdq, onnx_runtime
from zeropoint.importers import load
from zeropoint.model import Reshape
from zeropoint_hw.config import AcceleratorConfig

BIG = AcceleratorConfig(weight_bytes=1 << 20, activation_bytes=1 << 18, parameter_channels=1 << 13)


@needs_models
@pytest.mark.parametrize("name", MODELS)
def test_round_trip(tmp_path: Path, name: str) -> None:
    model = load(path(name))
    onnx_qdq.write(model, tmp_path / "m.onnx")
    back = load(tmp_path / "m.onnx")
    x = inputs(name, model, 4)
    assert_array_equal(golden.run(back, x.reshape(len(x), *back.tensor(back.input).shape)), golden.run(model, x))
    # A depthwise convolution of one channel comes back as a convolution, as the compiler takes it, too.
    kinds = [
        [each.kind for each in normalize(network).operators if not isinstance(each, Reshape)]
        for network in (model, back)
    ]
    assert kinds[0] == kinds[1]
    compile_model(back, BIG)


@needs_models
@pytest.mark.parametrize("name", MODELS)
def test_onnx_runtime_is_within_a_step_of_each_layer(name: str) -> None:
    model = load(path(name))
    found = onnx_runtime.differences(model, inputs(name, model, 4))
    assert max(difference.alone_greatest for difference in found) <= 1
    assert np.sum([difference.alone for difference in found]) <= 0.01 * np.sum([each.elements for each in found])
