"""Whole networks from torch: quantized by ONNX Runtime, or exported with their quantization."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from support.files import random_input
from support.quantized_onnx import differences, quantized

from zeropoint.compiler import compile_model
from zeropoint.export import onnx_runtime
from zeropoint.importers import load
from zeropoint.model import Clamp, QuantizedModel
from zeropoint_hw.config import AcceleratorConfig

torch = pytest.importorskip("torch", reason="torch is not installed")

from support.torch_networks import NETWORKS, export, trained  # noqa: E402


def described(path: Path) -> list[tuple[str, Clamp | None]]:
    """Return the operators of a network, with their activations."""
    return [(operator.kind, getattr(operator, "clamp", None)) for operator in load(path).operators]


@pytest.mark.parametrize("form", ["int8", "uint8"])
@pytest.mark.parametrize("qdq", [True, False], ids=["qdq", "qoperator"])
@pytest.mark.parametrize("name", NETWORKS)
def test_network_quantized_by_onnx_runtime(tmp_path: Path, name: str, qdq: bool, form: str) -> None:
    source = export(trained(name), tmp_path / "float.onnx", dynamic_batch=True)
    per_channel = form == "int8"
    path = quantized(onnx.load(source), tmp_path, qdq=qdq, activations=form, weights=form, per_channel=per_channel)
    # Of what it quantizes to QGemm, ONNX Runtime can run some only as it is.
    model, steps = differences(path, 20, optimize=qdq)
    if name == "mlp":
        # Batch normalization is not folded into the layer before it, as that has been quantized by itself.
        assert [operator.kind for operator in model.operators][1:4] == ["Reshape", "DepthwiseConv2D", "Reshape"]
    else:
        kinds = [operator.kind for operator in model.operators]
        expected = [kind for kind, _ in described(source)]
        # The average has its own scale where ONNX Runtime computes it in integers.
        assert kinds == [kind if qdq or kind != "AveragePool2D" else "DepthwiseConv2D" for kind in expected]
    # The average of the last network scales sums by 0.49988, next to a tie for half of them, which rounding twice makes
    # ties; the layer after it adds up their steps.
    ties = name == "keywords" and not qdq
    assert np.abs(steps).max() < (3.01 if ties else 1.51)
    assert np.mean(np.abs(steps)) < (0.8 if ties else 0.4)
    compile_model(model, AcceleratorConfig())
    for difference in onnx_runtime.differences(model, random_input(model, 3)):
        assert difference.alone_greatest <= 1, difference


def test_network_exported_with_its_quantization(tmp_path: Path) -> None:
    """As torch's exporter writes quantized_decomposed operators: float weights that are quantized in the file, clipped
    to −127 … 127, and float biases."""
    pytest.importorskip("onnxscript", reason="torch's newer exporter needs onnxscript")
    import torch.ao.quantization.fx._decomposed

    operators = torch.ops.quantized_decomposed

    def activation(x: torch.Tensor, scale: float, zero_point: int) -> torch.Tensor:
        rest = (scale, zero_point, -128, 127, torch.int8)
        return operators.dequantize_per_tensor(operators.quantize_per_tensor(x, *rest), *rest)

    def weights(layer: torch.nn.Module, scale: torch.Tensor) -> torch.Tensor:
        rest = (scale, torch.zeros(len(scale), dtype=torch.int32), 0, -127, 127, torch.int8)
        return operators.dequantize_per_channel(operators.quantize_per_channel(layer.weight, *rest), *rest)

    class Network(torch.nn.Module):
        shape = (3, 8, 8)

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.linear = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Linear(8, 5)
            self.register_buffer("conv_scale", self.conv.weight.detach().abs().amax((1, 2, 3)) / 127)
            self.register_buffer("linear_scale", self.linear.weight.detach().abs().amax(1) / 127)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = activation(x, 0.03, 3)
            x = torch.nn.functional.conv2d(x, weights(self.conv, self.conv_scale), self.conv.bias, padding=1)
            x = activation(torch.relu(x), 0.02, -128)
            x = activation(x.mean((2, 3)), 0.01, -128)
            x = torch.nn.functional.linear(x, weights(self.linear, self.linear_scale), self.linear.bias)
            return activation(x, 0.02, 0)

    torch.manual_seed(0)
    network = Network().eval()
    model, steps = differences(export(network, tmp_path / "network.onnx", dynamo=True), 50)
    assert isinstance(model, QuantizedModel)
    assert [operator.kind for operator in model.operators] == ["Conv2D", "Mean", "FullyConnected"]
    assert np.abs(steps).max() < 1.01
    conv = model.operators[0]
    scale = network.conv_scale.numpy()
    found = model.tensor(conv.weights)
    np.testing.assert_array_equal(found.quantization.scale, scale)
    real = network.conv.weight.detach().numpy().transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(found.data, np.rint(real / scale[:, None, None, None]))
    assert conv.clamp == Clamp(low=0.0)
