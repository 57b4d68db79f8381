"""Quantized ONNX networks: what ONNX Runtime's quantizer writes, and each documented rule, against ONNX Runtime."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.testing import assert_array_equal
from onnx import helper, numpy_helper
from support.onnx_models import make, node, save
from support.quantized_onnx import Builder, differences, quantized

from zeropoint import golden
from zeropoint.arithmetic import mean_scaling, requantize_scaling, weighted_scaling
from zeropoint.compiler import compile_model
from zeropoint.importers import load, onnx_quantized
from zeropoint.model import (
    Clamp,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Mean,
    Operator,
    Quantization,
    QuantizedModel,
    Requantize,
    Tensor,
)
from zeropoint.numerics import Rounding
from zeropoint_hw.config import AcceleratorConfig

IMAGE = ("N", 4, 9, 7)
VECTOR = ("N", 10)


def random(*shape: int) -> Any:
    return (np.random.default_rng(shape).normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def integers(low: int, high: int, *shape: int, dtype: str = "int8") -> Any:
    """Return random integers from ``low`` to below ``high``."""
    return np.random.default_rng(shape).integers(low, high, shape).astype(dtype)


def channel_scales(count: int, low: float = 0.005) -> Any:
    return np.random.default_rng(count).uniform(low, 0.02, count).astype(np.float32)


def kinds(model: QuantizedModel) -> list[str]:
    return [operator.kind for operator in model.operators]


# What ONNX Runtime's quantizer writes

CONV = {"w": random(8, 4, 3, 3), "b": random(8)}
SINGLE: dict[str, tuple[list[onnx.NodeProto], tuple[int | str, ...], dict[str, Any], list[str]]] = {
    "conv": ([node("Conv", "x w b", pads=[1, 0, 1, 1], strides=[2, 1])], IMAGE, CONV, ["Conv2D"]),
    "conv relu": ([node("Conv", "x w b", "c"), node("Relu", "c")], IMAGE, CONV, ["Conv2D"]),
    "conv clip": (
        [node("Conv", "x w b", "c"), node("Clip", "c low high")],
        IMAGE,
        {**CONV, "low": np.float32(-0.5), "high": np.float32(0.7)},
        ["Conv2D"],
    ),
    "conv without bias": ([node("Conv", "x w", group=2)], IMAGE, {"w": random(6, 2, 3, 3)}, ["Conv2D"]),
    "depthwise": (
        [node("Conv", "x w b", group=4, dilations=[2, 1])],
        IMAGE,
        {"w": random(8, 1, 3, 3), "b": random(8)},
        ["DepthwiseConv2D"],
    ),
    "conv of one dimension": ([node("Conv", "x w")], ("N", 4, 9), {"w": random(8, 4, 3)}, ["Conv2D"]),
    "gemm": ([node("Gemm", "x v u", transB=1)], VECTOR, {"v": random(30, 10), "u": random(30)}, ["FullyConnected"]),
    "gemm transposed": ([node("Gemm", "x v u")], VECTOR, {"v": random(10, 30), "u": random(30)}, ["FullyConnected"]),
    "matmul": ([node("MatMul", "x v")], VECTOR, {"v": random(10, 30)}, ["FullyConnected"]),
    "flatten": ([node("Flatten", "x", "f"), node("Gemm", "f v")], IMAGE, {"v": random(252, 9)}, ["FullyConnected"]),
    "add of a constant": ([node("Add", "x k")], IMAGE, {"k": random(4, 1, 1)}, ["DepthwiseConv2D"]),
    "mul by a constant": ([node("Mul", "x k")], IMAGE, {"k": random(4, 1, 1)}, ["DepthwiseConv2D"]),
    "softmax": ([node("Softmax", "x", axis=1)], VECTOR, {}, ["Softmax"]),
}
FORMATS = {
    "int8, scales per channel": {"activations": "int8", "weights": "int8", "per_channel": True},
    "int8": {"activations": "int8", "weights": "int8"},
    "uint8": {"activations": "uint8", "weights": "uint8"},
    "uint8 with int8 weights": {"activations": "uint8", "weights": "int8", "per_channel": True},
}


def tie_rate(model: QuantizedModel, operator: Operator) -> float:
    """Return how often the first of two roundings makes a tie of something else, which the second sends away from zero.

    With a right shift of ``n``, it does so for one in ``2^(n + 1)`` of evenly spread accumulators; single rounding, as
    ONNX Runtime's, does not.
    """
    if isinstance(operator, Conv2D | DepthwiseConv2D | FullyConnected):
        shift = weighted_scaling(model, operator).shift
    elif isinstance(operator, Mean):
        shift = mean_scaling(model, operator).shift
    elif isinstance(operator, Requantize):
        shift = requantize_scaling(model, operator).shift
    else:
        return 0.0
    return float(np.mean(2.0 ** (np.minimum(shift, 0) - 1)))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("qdq", [True, False], ids=["qdq", "qoperator"])
@pytest.mark.parametrize("name", SINGLE)
def test_single_operator(tmp_path: Path, name: str, qdq: bool, form: str) -> None:
    nodes, shape, constants, expected = SINGLE[name]
    path = quantized(make(nodes, shape, constants), tmp_path, qdq=qdq, **FORMATS[form])
    model, steps = differences(path, 64)
    assert kinds(model) == expected
    if name == "softmax":
        # The file's scale is 1/255, the model's 1/256.
        assert np.abs(steps).max() <= 1.5
    else:
        # What is beyond a whole number is float32's.
        assert np.abs(steps).max() < 1.01
        assert np.mean(np.abs(steps) > 0.5) <= 2 * tie_rate(model, model.operators[0]) + 4 / steps.size
        compile_model(model, AcceleratorConfig())


def network(softmax: bool = True) -> onnx.ModelProto:
    constants = {
        "w1": random(8, 3, 3, 3),
        "b1": random(8),
        "w2": random(8, 1, 3, 3),
        "w3": random(8, 8, 1, 1),
        "w4": random(10, 8),
        "b4": random(10),
    }
    nodes = [
        node("Conv", "x w1 b1", "c1", "stem", pads=[1] * 4),
        node("Relu", "c1", "r1"),
        node("MaxPool", "r1", "m", "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "m w2", "c2", "depthwise", pads=[1] * 4, group=8),
        node("Relu", "c2", "r2"),
        node("Conv", "r2 w3", "c3", "pointwise"),
        node("Add", "c3 m", "s", "sum"),
        node("Relu", "s", "r3"),
        node("AveragePool", "r3", "a", "average", kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", "a", "g", "mean"),
        node("Flatten", "g", "f"),
        node("Gemm", "f w4 b4", "l" if softmax else "y", "classifier", transB=1),
    ]
    nodes += [node("Softmax", "l", name="softmax", axis=1)] if softmax else []
    return make(nodes, ("N", 3, 16, 16), constants)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("qdq", [True, False], ids=["qdq", "qoperator"])
def test_network(tmp_path: Path, qdq: bool, softmax: bool, form: str) -> None:
    if not qdq and form == "uint8 with int8 weights":
        pytest.skip("ONNX Runtime has no such QGemm")
    model, steps = differences(quantized(network(softmax), tmp_path, qdq=qdq, **FORMATS[form]), 40)
    average = "AveragePool2D" if qdq else "DepthwiseConv2D"
    expected = ["Conv2D", "MaxPool2D", "DepthwiseConv2D", "Conv2D", "Add", average, "Mean", "FullyConnected"]
    assert kinds(model) == expected + ["Softmax"] * softmax
    # Steps of the layers before add up.
    assert np.abs(steps).max() < (4 if softmax else 2.01)
    assert np.mean(np.abs(steps)) < 0.6
    program = compile_model(model, AcceleratorConfig())
    assert len(program.host_steps) == softmax


def test_names_and_layout_are_those_of_a_float_network(tmp_path: Path) -> None:
    model = load(quantized(network(), tmp_path))
    assert (model.name, model.input, model.output) == ("quantized", "x", "y")
    assert [operator.name for operator in model.operators] == [
        "stem",
        "pool",
        "depthwise",
        "pointwise",
        "sum",
        "average",
        "mean",
        "classifier",
        "softmax",
    ]
    assert model.operators[0].output == "r1"
    assert model.operators[0].weights == "w1_quantized"
    assert model.metadata == {
        "source": "onnx",
        "input_shape": "3,16,16",
        "input_permutation": "1,2,0",
        "output_shape": "10",
    }
    assert model.rounding is Rounding.DOUBLE


def test_a_pair_for_each_reader_is_one_quantization(tmp_path: Path) -> None:
    plain = onnx_quantized.read(quantized(network(), tmp_path))
    dedicated = onnx_quantized.read(quantized(network(), tmp_path, extra_options={"DedicatedQDQPair": True}))
    assert kinds(dedicated) == kinds(plain)
    x = integers(-128, 128, 5, 16, 16, 3)
    assert_array_equal(golden.run(dedicated, x), golden.run(plain, x))


def test_wrong_weights_are_noticed(tmp_path: Path) -> None:
    """The negative control of every comparison here: two weights for each of two outputs change places."""
    path = quantized(network(softmax=False), tmp_path)
    proto = onnx.load(path)
    weights = next(entry for entry in proto.graph.initializer if entry.name == "w4_quantized")
    data = numpy_helper.to_array(weights).copy()
    data[[1, 4], :2] = data[[4, 1], :2]
    weights.CopyFrom(numpy_helper.from_array(data, weights.name))
    tampered = tmp_path / "tampered.onnx"
    onnx.save(proto, tampered)
    x = integers(-128, 128, 5, 16, 16, 3)
    first, second = (golden.run(onnx_quantized.read(each), x) for each in (path, tampered))
    assert np.any(np.abs(first.astype(int) - second) > 2)


# The integers


def image(dtype: str = "int8") -> Builder:
    """Return a builder of a model whose input is dequantized as ``x.d``."""
    return Builder(*IMAGE, dtype=dtype).qdq("x", 0.05, 3)


def vector(dtype: str = "int8") -> Builder:
    return Builder(*VECTOR, dtype=dtype).qdq("x", 0.05, 3)


def import_(builder: Builder, folder: Path, output: str = "y.d", **types: str) -> QuantizedModel:
    return onnx_quantized.read(save(builder.model(output, **types), folder))


def compared(builder: Builder, folder: Path, output: str = "y.d", limit: float = 1.01, **types: str) -> QuantizedModel:
    """Import what has been built and hold it against ONNX Runtime, within ``limit`` steps."""
    model, steps = differences(save(builder.model(output, **types), folder), 64)
    assert np.abs(steps).max() <= limit
    if kinds(model) != ["Softmax"]:
        compile_model(model, AcceleratorConfig())
    return model


def test_weights_and_bias_are_the_files_integers(tmp_path: Path) -> None:
    weights = integers(-128, 128, 8, 4, 3, 2)
    bias = integers(-(2**31), 2**31, 8, dtype="int32")
    scales = channel_scales(8)
    builder = image().weights("w", weights, scales, axis=0)
    builder.weights("b", bias, np.float32(0.05) * scales, axis=0)
    model = import_(builder.add("Conv", "x.d w.d b.d", "y").qdq("y", 0.1), tmp_path)
    assert_array_equal(model.tensor("w").data, weights.transpose(0, 2, 3, 1))
    assert model.tensor("w").quantization == Quantization(tuple(scales), (0,) * 8, 0)
    # Beyond the 24 bits of float32.
    assert_array_equal(model.tensor("b").data, bias)
    assert model.tensor("b").quantization.axis == 0
    assert model.tensor("x").quantization == Quantization((0.05,), (3,))


def test_every_weight_and_scale_is_found_again(tmp_path: Path) -> None:
    """All 256 integers at scales over the whole range of float32 come back from their real values."""
    every = np.arange(256).astype(np.uint8)[:, None]
    for exponent in (-120, -30, 0, 30, 110):
        scale = np.float32(1.1754945) * np.float32(2.0) ** exponent
        builder = Builder(1, 1, dtype="uint8").qdq("x", 1.0).weights("w", every, scale, 77)
        model = import_(builder.add("Gemm", "x.d w.d", "y", transB=1).qdq("y", float(scale)), tmp_path)
        assert_array_equal(model.tensor("w").data, every)
        assert model.tensor("w").quantization == Quantization((float(scale),), (77,))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_weights_with_a_zero_point(tmp_path: Path, dtype: str) -> None:
    weights = integers(0, 256, 30, 10, dtype="uint8").view(dtype)
    builder = vector(dtype).weights("w", weights, 0.01, 100)
    model = compared(builder.add("Gemm", "x.d w.d", "y", transB=1).qdq("y", 0.3, 5), tmp_path)
    assert_array_equal(model.tensor("w").data, weights)
    assert model.tensor("w").quantization == Quantization((0.01,), (100,))


def test_scales_per_channel_follow_a_transposition(tmp_path: Path) -> None:
    """As some exporters write linear layers; the matrix is square, so that only the axis tells."""
    weights = integers(-127, 128, 10, 10)
    scales = channel_scales(10, 0.001)
    builder = vector().weights("w", weights, scales, axis=0).add("Transpose", "w.d", "t", perm=[1, 0])
    model = compared(builder.add("MatMul", "x.d t", "y").qdq("y", 0.1), tmp_path)
    assert_array_equal(model.tensor("w").data, weights)
    assert model.tensor("w").quantization == Quantization(tuple(scales), (0,) * 10, 0)


def test_weights_quantized_in_the_file(tmp_path: Path) -> None:
    """As torch writes them: floats, rounded half to even, clipped to −127 … 127."""
    scales = np.array([0.5, 0.25], np.float32)
    weights = np.array([[0.25, 0.75, -1.25, 100, -100, 3], [0.125, 0.375, 5, -50, 50, 0]], np.float32)
    builder = Builder(1, 6).qdq("x", 0.05).constant("w", weights)
    both = builder.parameters("w", scales)
    builder.add("QuantizeLinear", f"w {both}", "w.q", axis=0)
    builder.constant("low", np.int8(-127)).constant("high", np.int8(127)).add("Clip", "w.q low high", "w.c")
    builder.add("DequantizeLinear", f"w.c {both}", "w.d", axis=0)
    model = compared(builder.add("Gemm", "x.d w.d", "y", transB=1).qdq("y", 2.0), tmp_path)
    expected = [[0, 2, -2, 127, -127, 6], [0, 2, 20, -127, 127, 0]]
    assert_array_equal(model.tensor(model.operators[0].weights).data, expected)


def test_uint8_weights_with_scales_per_channel_become_int8(tmp_path: Path) -> None:
    weights = integers(0, 256, 6, 10, dtype="uint8")
    scales = channel_scales(6)
    builder = vector("uint8").weights("w", weights, scales, 128, axis=0)
    model = compared(builder.add("Gemm", "x.d w.d", "y", transB=1).qdq("y", 0.3), tmp_path)
    assert_array_equal(model.tensor("w").data, (weights.astype(int) - 128).astype(np.int8))


def test_float_bias(tmp_path: Path) -> None:
    """Rounded half away from zero at the product of the scales."""
    unit = np.float64(np.float32(0.05)) * np.float64(np.float32(0.01))
    bias = (np.array([1.4, 1.6, -1.4, -1.6, 1e6]) * unit).astype(np.float32)
    builder = vector().weights("w", integers(-9, 9, 5, 10), 0.01).constant("b", bias)
    model = import_(builder.add("Gemm", "x.d w.d b", "y", transB=1).qdq("y", 0.1), tmp_path)
    assert_array_equal(model.tensor("b").data, [1, 2, -1, -2, 1_000_000])


def test_bias_of_another_scale(tmp_path: Path) -> None:
    builder = vector().weights("w", integers(-99, 99, 3, 10), 0.01)
    builder.weights("b", np.array([1, -3, 1000], np.int32), 0.001)
    model = compared(builder.add("Gemm", "x.d w.d b.d", "y", transB=1).qdq("y", 0.1), tmp_path)
    assert_array_equal(model.tensor("b").data, [2, -6, 2000])


def test_sum_after_a_layer_is_its_bias(tmp_path: Path) -> None:
    """As torch writes a linear layer on more than two dimensions."""
    builder = vector().weights("w", integers(-99, 99, 10, 3), 0.01)
    builder.constant("b", np.array([0.5, -0.25, 1], np.float32))
    model = compared(builder.add("MatMul", "x.d w.d", "m").add("Add", "m b", "y").qdq("y", 0.1), tmp_path)
    assert kinds(model) == ["FullyConnected"]
    assert_array_equal(model.tensor(model.operators[0].bias).data, [1000, -500, 2000])


def test_constant_shared_by_two_layers(tmp_path: Path) -> None:
    builder = vector().weights("w", integers(-99, 99, 10, 10), 0.01)
    builder.weights("b", np.arange(10, dtype=np.int32) * 1000, 0.0005)
    builder.add("Gemm", "x.d w.d b.d", "h", transB=1).qdq("h", 0.05)
    model = compared(builder.add("Gemm", "h.d w.d b.d", "y", transB=1).qdq("y", 0.1), tmp_path)
    first, second = model.operators
    assert_array_equal(model.tensor(first.weights).data, model.tensor(second.weights).data)
    assert_array_equal(model.tensor(first.bias).data, model.tensor(second.bias).data)


# The quantizations


def test_relu_by_itself(tmp_path: Path) -> None:
    model = compared(image().add("Relu", "x.d", "y").qdq("y", 0.03, -128), tmp_path)
    assert kinds(model) == ["Requantize"]
    assert model.operators[0].clamp == Clamp(low=0.0)


def test_change_of_scale(tmp_path: Path) -> None:
    model = compared(image().q("x.d", 0.08, 5).dq("x.d.q", 0.08, 5), tmp_path, "x.d.q.d")
    assert kinds(model) == ["Requantize"]
    assert model.operators[0].clamp == Clamp()


def test_the_same_scale_again_is_nothing(tmp_path: Path) -> None:
    builder = image().add("Relu", "x.d", "r").qdq("r", 0.03, -128)
    model = compared(builder.q("r.d", 0.03, -128).dq("r.d.q", 0.03, -128), tmp_path, "r.d.q.d")
    assert kinds(model) == ["Requantize"]


MOVED: dict[str, tuple[Callable[[Builder], Builder], list[str]]] = {
    "MaxPool": (lambda b: b.add("MaxPool", "x.d", "y", kernel_shape=[2, 3], strides=[2, 1]), ["MaxPool2D"]),
    "Pad": (lambda b: b.constant("p", [0, 0, 1, 0, 0, 0, 2, 1]).add("Pad", "x.d p", "y"), ["Pad"]),
    "AveragePool": (lambda b: b.add("AveragePool", "x.d", "y", kernel_shape=[3, 3], pads=[1] * 4), ["AveragePool2D"]),
}


@pytest.mark.parametrize("name", MOVED)
def test_kept_quantization(tmp_path: Path, name: str) -> None:
    build, expected = MOVED[name]
    assert kinds(compared(build(image()).qdq("y", 0.05, 3), tmp_path)) == expected


@pytest.mark.parametrize("name", MOVED)
def test_another_quantization_is_a_requantize_after_it(tmp_path: Path, name: str) -> None:
    build, expected = MOVED[name]
    # An average is rounded twice: at first to within half a step of the input's.
    limit = 0.5 * 0.05 / 0.04 + 1.01 if name == "AveragePool" else 1.01
    model = compared(build(image()).qdq("y", 0.04, 30), tmp_path, limit=limit)
    assert kinds(model) == [*expected, "Requantize"]
    first, second = model.operators
    assert model.tensor(first.output).quantization == model.tensor("x").quantization
    assert (second.name, second.output) == ("y.requantize", "y.d")


def test_an_average_without_padding_has_its_own_quantization(tmp_path: Path) -> None:
    builder = image().add("AveragePool", "x.d", "a", kernel_shape=[3, 2], strides=[2, 1]).add("Relu", "a", "y")
    model = compared(builder.qdq("y", 0.02, -100), tmp_path)
    assert kinds(model) == ["DepthwiseConv2D"]
    operator = model.operators[0]
    assert (operator.stride, operator.clamp) == ((2, 1), Clamp(low=0.0))
    assert_array_equal(model.tensor(operator.weights).data, np.ones((3, 2, 4)))
    assert model.tensor(operator.weights).scale == np.float32(1 / 6)


def test_an_average_over_everything_is_a_mean(tmp_path: Path) -> None:
    builder = image().add("AveragePool", "x.d", "y", kernel_shape=[9, 7]).qdq("y", 0.02, -100)
    model = compared(builder, tmp_path)
    assert kinds(model) == ["Mean", "Reshape"]
    assert model.tensor(model.output).shape == (1, 1, 4)


def test_quantization_beyond_what_moves_and_clamps(tmp_path: Path) -> None:
    """A QuantizeLinear after Reshape, Relu and MaxPool is that of the convolution, as quantizing commutes with them."""
    builder = image().weights("w", integers(-127, 128, 6, 4, 2, 2), 0.01)
    builder.add("Conv", "x.d w.d", "c").add("MaxPool", "c", "m", kernel_shape=[2, 2]).add("Relu", "m", "r")
    builder.constant("p", [0, 0, 1, 1, 0, 0, 1, 1]).add("Pad", "r p", "y")
    model = compared(builder.qdq("y", 0.1, -90), tmp_path)
    assert kinds(model) == ["Conv2D", "MaxPool2D", "Pad"]
    assert all(model.tensor(operator.output).zero_point == -90 for operator in model.operators)


def test_moving_between_dequantize_and_an_operator(tmp_path: Path) -> None:
    """What no QuantizeLinear follows keeps the quantization before it."""
    builder = image().add("MaxPool", "x.d", "m", kernel_shape=[2, 2]).add("Relu", "m", "r")
    builder.weights("w", integers(-127, 128, 6, 4, 2, 2), 0.01)
    model = compared(builder.add("Conv", "r w.d", "y").qdq("y", 0.1), tmp_path)
    assert kinds(model) == ["MaxPool2D", "Conv2D"]
    assert model.tensor("r").quantization == model.tensor("x").quantization


def test_clamp_after_what_cannot_clamp(tmp_path: Path) -> None:
    model = compared(image().add("GlobalAveragePool", "x.d", "m").add("Relu", "m", "y").qdq("y", 0.02, -9), tmp_path)
    assert kinds(model) == ["Mean", "Requantize", "Reshape"]
    assert model.tensor("m").zero_point == -9


def test_softmax_within_a_network(tmp_path: Path) -> None:
    builder = vector().add("Softmax", "x.d", "s", axis=1).qdq("s", 1 / 255, -128)
    model = import_(builder.add("Relu", "s.d", "y").qdq("y", 1 / 255, -128), tmp_path)
    assert kinds(model) == ["Softmax", "Requantize", "Requantize"]
    assert model.tensor(model.operators[0].output).quantization == Quantization((1 / 256,), (-128,))
    assert model.tensor(model.operators[1].output).quantization == Quantization((1 / 255,), (-128,))


@pytest.mark.parametrize("quantized_after", [True, False])
def test_softmax_at_the_end(tmp_path: Path, quantized_after: bool) -> None:
    builder = vector().add("Softmax", "x.d", "y", axis=1).qdq("y", 1 / 255, -128)
    model = compared(builder, tmp_path, "y.d" if quantized_after else "y", limit=1.5)
    assert kinds(model) == ["Softmax"]
    assert model.tensor(model.output).quantization == Quantization((1 / 256,), (-128,))


def test_factor_before_softmax(tmp_path: Path) -> None:
    builder = vector().constant("k", np.float32(0.25)).add("Mul", "x.d k", "m").add("Softmax", "m", "y", axis=1)
    model = compared(builder, tmp_path, "y", limit=1.5)
    assert kinds(model) == ["Softmax"]
    assert model.operators[0].beta == 0.25


def test_constant_arithmetic_is_a_convolution(tmp_path: Path) -> None:
    factor = np.array([0.5, -0.3, 0.0, 2.0], np.float32).reshape(4, 1, 1)
    builder = image().weights("k", np.array([1, -7, 90, 0], np.int8).reshape(4, 1, 1), 0.02)
    builder.constant("f", factor).add("Mul", "x.d f", "m").add("Add", "m k.d", "y")
    model = compared(builder.qdq("y", 0.04, 7), tmp_path)
    (operator,) = model.operators
    assert operator.kind == "DepthwiseConv2D"
    weights = model.tensor(operator.weights)
    assert_array_equal(weights.data, np.array([64, -64, 0, 64]).reshape(1, 1, 4))
    assert_array_equal(weights.quantization.scale, np.array([0.5, 0.3, 64, 2], np.float32) / 64)
    unit = np.float64(np.float32(0.05)) * np.array(weights.quantization.scale)
    assert_array_equal(model.tensor(operator.bias).data, np.rint(np.array([0.02, -0.14, 1.8, 0]) / unit))


def test_constant_arithmetic_on_a_vector(tmp_path: Path) -> None:
    builder = vector().weights("k", integers(-127, 128, 10), 0.02)
    model = compared(builder.add("Mul", "x.d k.d", "y").qdq("y", 0.04), tmp_path)
    assert kinds(model) == ["Reshape", "DepthwiseConv2D", "Reshape"]


def test_other_type_after_a_layer(tmp_path: Path) -> None:
    """The layer gives the same values in its input's type, and the change of type is exact."""
    builder = image().weights("w", integers(-127, 128, 6, 4, 2, 2), 0.01)
    model = compared(builder.add("Conv", "x.d w.d", "y").qdq("y", 0.1, 30, "uint8"), tmp_path)
    assert kinds(model) == ["Conv2D", "Requantize"]
    between, last = (model.tensor(operator.output) for operator in model.operators)
    assert (between.dtype, between.scale, between.zero_point) == ("int8", last.scale, 30 - 128)
    assert (last.dtype, last.zero_point) == ("uint8", 30)
    tensors = golden.run_tensors(model, integers(-128, 128, 9, 9, 7, 4))
    assert_array_equal(tensors[last.name], tensors[between.name].astype(int) + 128)


def test_sum_of_two_types(tmp_path: Path) -> None:
    builder = image().add("Relu", "x.d", "r").qdq("r", 0.02, 0, "uint8")
    model = compared(builder.add("Add", "r.d x.d", "y").qdq("y", 0.05, 99, "uint8"), tmp_path)
    assert Counter(kinds(model)) == {"Requantize": 2, "Add": 1}


# Integers that operators pass on, or compute with


def test_integers_in_and_out(tmp_path: Path) -> None:
    builder = Builder(*IMAGE, dtype="uint8").dq("x", 0.05, 100)
    builder.weights("w", integers(-127, 128, 6, 4, 2, 2), 0.01)
    builder.add("Conv", "x.d w.d", "y").q("y", 0.1, 120)
    model = compared(builder, tmp_path, "y.q", source="uint8", kind="uint8")
    assert (model.input, model.output) == ("x", "y.q")
    assert model.tensor("x").quantization == Quantization((0.05,), (100,))


def test_operators_that_move_integers(tmp_path: Path) -> None:
    builder = Builder(*IMAGE, dtype="uint8").q("x", 0.05, 100)
    builder.add("MaxPool", "x.q", "m", kernel_shape=[2, 2], pads=[1] * 4)
    builder.constant("p", [0, 0, 1, 0, 0, 0, 2, 1]).constant("zero", np.uint8(100)).add("Pad", "m p zero", "e")
    builder.add("Flatten", "e", "f").constant("x.k", 0)
    builder.add("DequantizeLinear", "f x.s x.z", "d")
    builder.weights("w", integers(-127, 128, 5, 4 * 13 * 9), 0.01)
    model = compared(builder.add("Gemm", "d w.d", "y", transB=1).qdq("y", 0.3, 120), tmp_path)
    assert kinds(model) == ["MaxPool2D", "Pad", "FullyConnected"]


def test_without_zero_points(tmp_path: Path) -> None:
    """Then they are 0, and activations uint8."""
    builder = Builder(*VECTOR).constant("s", np.float32(0.1)).constant("w", integers(-9, 9, 3, 10))
    builder.add("QuantizeLinear", "x s", "q").add("DequantizeLinear", "q s", "d").add("DequantizeLinear", "w s", "v")
    builder.add("Gemm", "d v", "g", transB=1).add("QuantizeLinear", "g s", "r").add("DequantizeLinear", "r s", "y")
    model = compared(builder, tmp_path, "y")
    assert [model.tensor(name).dtype for name in (model.input, model.output)] == ["uint8", "uint8"]
    assert model.tensor(model.operators[0].weights).dtype == "int8"


def test_output_type_of_newer_operator_sets(tmp_path: Path) -> None:
    builder = Builder(*VECTOR, opset=21).constant("s", np.float32(0.1))
    builder.add("QuantizeLinear", "x s", "q", output_dtype=onnx.TensorProto.INT8).add("DequantizeLinear", "q s", "d")
    builder.add("Relu", "d", "r").add("QuantizeLinear", "r s", "t", output_dtype=onnx.TensorProto.INT8)
    model = import_(builder.add("DequantizeLinear", "t s", "y"), tmp_path, "y")
    assert model.tensor("x").dtype == "int8"


MICROSOFT: dict[str, Any] = {"domain": "com.microsoft"}
Q_IMAGE, Q_VECTOR = (lambda: Builder(*IMAGE).q("x", 0.05, 3)), (lambda: Builder(*VECTOR).q("x", 0.05, 3))


def q_weights(builder: Builder, *shape: int, per_channel: int = 0) -> str:
    """Add constant integers ``w``, and return their names as an operator on integers takes them."""
    builder.constant("w", integers(-127, 128, *shape))
    scale = channel_scales(per_channel) if per_channel else 0.01
    return f"w {builder.parameters('w', scale)}"


def linear(operator: str, builder: Builder, rest: str = "", scale: float = 0.1, **attributes: Any) -> Builder:
    """Add an operator on integers with output ``y``, and dequantize that as ``y.d``."""
    target = builder.parameters("y", scale, 7)
    builder.add(operator, f"x.q x.s x.z {rest} {target}", "y", **attributes)
    return builder.add("DequantizeLinear", f"y {target}", "y.d")


@pytest.mark.parametrize("per_channel", [0, 6])
def test_qlinearconv(tmp_path: Path, per_channel: int) -> None:
    builder = Q_IMAGE().constant("b", integers(-3000, 3000, 6, dtype="int32"))
    weights = q_weights(builder, 6, 4, 2, 2, per_channel=per_channel)
    target = builder.parameters("y", 0.1, 7)
    builder.add("QLinearConv", f"x.q x.s x.z {weights} {target} b", "y", pads=[1, 0, 0, 1])
    model = compared(builder.add("DequantizeLinear", f"y {target}", "y.d"), tmp_path)
    assert kinds(model) == ["Conv2D"]
    assert_array_equal(model.tensor("b").data, builder.constants["b"])
    assert set(model.tensors) == {"x", "w", "b", "y.d"}


@pytest.mark.parametrize("per_channel", [0, 6])
def test_qlinearmatmul(tmp_path: Path, per_channel: int) -> None:
    builder = Q_VECTOR()
    model = compared(linear("QLinearMatMul", builder, q_weights(builder, 10, 6, per_channel=per_channel)), tmp_path)
    assert kinds(model) == ["FullyConnected"]
    assert_array_equal(model.tensor("w").data, builder.constants["w"].T)


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("per_channel", [0, 6])
def test_qgemm(tmp_path: Path, per_channel: int, transposed: int) -> None:
    builder = Q_VECTOR().constant("b", integers(-3000, 3000, 6, dtype="int32"))
    weights = q_weights(builder, *((6, 10) if transposed else (10, 6)), per_channel=per_channel)
    model = compared(linear("QGemm", builder, f"{weights} b", transB=transposed, **MICROSOFT), tmp_path)
    assert kinds(model) == ["FullyConnected"]
    assert_array_equal(model.tensor("b").data, builder.constants["b"])


def test_qgemm_with_alpha(tmp_path: Path) -> None:
    """An alpha that the integers can take over; the bias's scale has it, too."""
    builder = Q_VECTOR().constant("b", integers(-3000, 3000, 6, dtype="int32"))
    builder.constant("w", integers(-60, 60, 10, 6))
    weights = f"w {builder.parameters('w', 0.01)}"
    model = compared(linear("QGemm", builder, f"{weights} b", alpha=2.0, **MICROSOFT), tmp_path)
    assert_array_equal(model.tensor("w").data, 2 * builder.constants["w"].T)
    assert_array_equal(model.tensor("b").data, 2 * builder.constants["b"])


def test_qlinearadd(tmp_path: Path) -> None:
    builder = Q_IMAGE()
    builder.add("MaxPool", "x.q", "m", kernel_shape=[3, 3], pads=[1] * 4)
    assert kinds(compared(linear("QLinearAdd", builder, "m x.s x.z", **MICROSOFT), tmp_path)) == ["MaxPool2D", "Add"]


@pytest.mark.parametrize("operator", ["QLinearAdd", "QLinearMul"])
def test_qlinear_operators_with_a_constant(tmp_path: Path, operator: str) -> None:
    builder = Q_IMAGE()
    model = compared(linear(operator, builder, q_weights(builder, 4, 1, 1), **MICROSOFT), tmp_path)
    assert kinds(model) == ["DepthwiseConv2D"]


def test_qlinearaveragepool(tmp_path: Path) -> None:
    builder = linear("QLinearAveragePool", Q_IMAGE(), kernel_shape=[3, 3], strides=[2, 2], **MICROSOFT)
    assert kinds(compared(builder, tmp_path)) == ["DepthwiseConv2D"]


def test_qlinearglobalaveragepool(tmp_path: Path) -> None:
    builder = linear("QLinearGlobalAveragePool", Q_IMAGE(), scale=0.02, channels_last=0, **MICROSOFT)
    assert kinds(compared(builder, tmp_path)) == ["Mean", "Reshape"]


@pytest.mark.parametrize(("axis", "opset"), [(1, 13), (-1, 13), (-1, 11)])
def test_qlinearsoftmax(tmp_path: Path, axis: int, opset: int) -> None:
    builder = linear("QLinearSoftmax", Q_VECTOR(), scale=1 / 256, axis=axis, opset=opset, **MICROSOFT)
    builder.constant("y.z", np.int8(-128))
    assert kinds(compared(builder, tmp_path, limit=1.5)) == ["Softmax"]


def test_quantization_of_the_microsoft_domain(tmp_path: Path) -> None:
    builder = image().add("Relu", "x.d", "y").qdq("y", 0.03, -128)
    for each in builder.nodes:
        if "Linear" in each.op_type:
            each.domain = "com.microsoft"
    assert kinds(compared(builder, tmp_path)) == ["Requantize"]


# Metadata


def test_rounding_and_notes(tmp_path: Path) -> None:
    proto = image().add("Relu", "x.d", "y").qdq("y", 0.03, -128).model("y.d")
    helper.set_model_props(proto, {"zeropoint.rounding": "single", "zeropoint.scheme": "affine-int8", "other": "1"})
    model = onnx_quantized.read(save(proto, tmp_path))
    assert model.rounding is Rounding.SINGLE
    assert model.metadata["scheme"] == "affine-int8"
    assert not {"other", "rounding"} & set(model.metadata)


def test_load_tells_quantized_files_from_float_ones(tmp_path: Path) -> None:
    assert isinstance(load(quantized(network(), tmp_path)), QuantizedModel)
    assert not isinstance(load(save(network(), tmp_path)), QuantizedModel)


def test_import_is_reproducible(tmp_path: Path) -> None:
    path = quantized(network(), tmp_path)
    first, second = load(path), load(path)
    assert first.operators == second.operators
    assert list(first.tensors) == list(second.tensors)
    for name, tensor in first.tensors.items():
        other: Tensor = second.tensor(name)
        assert tensor.quantization == other.quantization
        assert_array_equal(tensor.data, other.data)
