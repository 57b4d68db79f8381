"""Whole networks as both of torch's exporters write them, against ONNX Runtime."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.onnx_models import check, kinds

from zeropoint.importers import load, onnx_float

torch = pytest.importorskip("torch", reason="torch is not installed")

from support.torch_networks import NETWORKS, export, trained  # noqa: E402

#: What each network is made of when everything that can be fused has been.
EXPECTED = {
    "lenet5": {"Conv2D": 2, "MaxPool2D": 2, "FullyConnected": 3},
    "mlp": {"FullyConnected": 3, "Softmax": 1},
    "mobilenet": {"Conv2D": 6, "DepthwiseConv2D": 2, "Add": 1, "Mean": 1, "FullyConnected": 1},
    "resnet": {"Conv2D": 9, "MaxPool2D": 1, "Add": 3, "Mean": 1, "FullyConnected": 1},
    "keywords": {"Conv2D": 2, "DepthwiseConv2D": 1, "Pad": 1, "AveragePool2D": 1, "FullyConnected": 1},
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("dynamic", [False, True], ids=["batch 1", "any batch"])
def test_network(tmp_path: Path, name: str, dynamo: bool, dynamic: bool) -> None:
    if dynamo:
        pytest.importorskip("onnxscript", reason="torch's newer exporter needs onnxscript")
    model = check(export(trained(name), tmp_path / "network.onnx", dynamo=dynamo, dynamic_batch=dynamic), batch=3)
    assert Counter(kinds(model)) == EXPECTED[name]
    assert (model.input, model.output, model.name) == ("x", "y", "network")


def test_wrong_weights_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control of every comparison here: two weights of thousands change places."""
    path = export(trained("lenet5"), tmp_path / "network.onnx")
    model = check(path)
    weights = model.tensor("conv2.weight")
    data = np.array(weights.data)
    data[0, 0, 0, :2] = data[0, 0, 0, 1::-1]
    tampered = replace(model, tensors={**model.tensors, "conv2.weight": replace(weights, data=data)})
    monkeypatch.setattr(onnx_float, "read", lambda _: tampered)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check(path)


def test_import_is_reproducible(tmp_path: Path) -> None:
    path = export(trained("mobilenet"), tmp_path / "network.onnx")
    first, second = load(path), load(path)
    assert first.operators == second.operators
    assert list(first.tensors) == list(second.tensors)
    for name, tensor in first.tensors.items():
        np.testing.assert_array_equal(tensor.data, second.tensor(name).data)
