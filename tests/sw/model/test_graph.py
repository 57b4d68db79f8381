"""Tensors, and what verification refuses, message by message."""

from dataclasses import replace
from math import inf, nan
from typing import Any

import numpy as np
import pytest

from zeropoint.errors import ZeropointError
from zeropoint.model import (
    Add,
    Conv2D,
    DepthwiseConv2D,
    FloatModel,
    FullyConnected,
    Mean,
    Quantization,
    QuantizedModel,
    Reshape,
    Softmax,
    Tensor,
)
from zeropoint.numerics import Rounding

HALF = Quantization((0.5,), (3,))
PER_CHANNEL = Quantization((0.5, 0.25), (0, 0), 0)

# Quantization


def test_scales_are_kept_as_float32() -> None:
    quantization = Quantization((0.1, 1 / 3), (np.int64(1), np.int8(2)), 0)  # type: ignore[arg-type]
    assert quantization.scale == (float(np.float32(0.1)), float(np.float32(1 / 3)))
    assert quantization.zero_point == (1, 2)
    assert all(type(value) is int for value in quantization.zero_point)


@pytest.mark.parametrize("scale", [0.0, -1.0, nan, inf, 1e-60])
def test_scales_are_finite_and_positive(scale: float) -> None:
    with pytest.raises(ValueError, match=r"^scales must be finite and positive, not \("):
        Quantization((scale,))


def test_the_numbers_of_scales_and_zero_points() -> None:
    with pytest.raises(ValueError, match=r"^2 scales need as many zero points, not 1$"):
        Quantization((1.0, 2.0), (0,), 0)
    with pytest.raises(ValueError, match=r"^2 scales need an axis$"):
        Quantization((1.0, 2.0), (0, 0))
    with pytest.raises(ValueError, match=r"^scales must be finite and positive, not \(\)$"):
        Quantization((), ())


# Tensors


def test_constants_are_copied_and_read_only() -> None:
    data = np.zeros((2, 3), np.int8)[:, ::-1]
    tensor = Tensor("w", (2, 3), "int8", HALF, data)
    assert tensor.data is not None
    assert tensor.data.flags.c_contiguous
    assert not np.shares_memory(tensor.data, data)
    with pytest.raises(ValueError, match="read-only"):
        tensor.data[0, 0] = 1


@pytest.mark.parametrize(("dtype", "zero_point"), [("int8", 3), ("int8", -128), ("uint8", 131)])
def test_quantization_rounds_half_away_and_saturates(dtype: str, zero_point: int) -> None:
    tensor = Tensor("x", (9,), dtype, Quantization((0.5,), (zero_point,)))
    steps = np.array([-1000, -2, -1, 0, 0, 1, 1, 2, 1000])
    real = np.array([-1e30, -0.75, -0.74, -0.24, 0.24, 0.25, 0.74, 0.75, 1e30])
    low, high = tensor.limits
    q = tensor.quantize(real)
    assert q.dtype.name == dtype
    np.testing.assert_array_equal(q, np.clip(steps + zero_point, low, high))
    np.testing.assert_array_equal(tensor.dequantize(q), 0.5 * (q.astype(np.float32) - zero_point))
    np.testing.assert_array_equal(tensor.quantize(tensor.dequantize(q)), q)


# Models

XY: dict[str, Any] = {"input": "x", "output": "y"}


def activation(name: str, shape: tuple[int, ...], dtype: str = "int8", quantization: Any = HALF) -> Tensor:
    return Tensor(name, shape, dtype, None if dtype == "float32" else quantization)


def constant(name: str, shape: tuple[int, ...], dtype: str = "int8", quantization: Any = HALF) -> Tensor:
    return Tensor(name, shape, dtype, None if dtype == "float32" else quantization, np.ones(shape, dtype))


FULLY_CONNECTED = FullyConnected(name="fc", **XY, weights="w", bias="b")


def quantized(*operators: Any, **tensors: Tensor) -> QuantizedModel:
    """A model that computes y = w · x + b, with other tensors or other operators."""
    every = {
        "x": activation("x", (3,)),
        "w": constant("w", (2, 3), quantization=PER_CHANNEL),
        "b": constant("b", (2,), "int32", PER_CHANNEL),
        "y": activation("y", (2,)),
    } | tensors
    return QuantizedModel("m", every, operators or (FULLY_CONNECTED,), "x", "y")


def test_a_model_and_what_it_tells() -> None:
    model = quantized()
    assert model.rounding is Rounding.DOUBLE
    assert [tensor.name for tensor in model.activations()] == ["x", "y"]
    assert model.shapes(FULLY_CONNECTED) == ((3,), (2, 3), (2,))
    assert model.macs(FULLY_CONNECTED) == 6
    assert model.consumers("x") == (FULLY_CONNECTED,)
    assert model.consumers("y") == ()
    assert model.tensor("w").shape == (2, 3)


def test_models_are_frozen() -> None:
    model = quantized()
    with pytest.raises(TypeError):
        model.tensors["z"] = activation("z", (1,))  # type: ignore[index]
    with pytest.raises(TypeError):
        model.metadata["z"] = ""  # type: ignore[index]


def test_a_changed_copy_is_verified_too() -> None:
    with pytest.raises(ZeropointError, match=r"^the model's output 'z' is not computed$"):
        replace(quantized(), output="z")


def test_no_operators() -> None:
    with pytest.raises(ZeropointError, match=r"^model 'm' has no operators$"):
        QuantizedModel("m", {"x": activation("x", (3,))}, (), "x", "x")


def test_too_many_operators() -> None:
    operators = (FULLY_CONNECTED,) * 4097
    with pytest.raises(ZeropointError, match=r"^model 'm' has 4097 operators; 4096 at most$"):
        quantized(*operators)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"x": activation("z", (3,))}, r"tensor 'z' is filed under 'x'"),
        ({"x": activation("x", (3, 0))}, r"tensor 'x' has shape \(3, 0\); dimensions must be positive and give 268"),
        ({"x": activation("x", (-1,))}, r"tensor 'x' has shape \(-1,\); dimensions must be positive"),
        ({"x": activation("x", (2**20, 2**9))}, r"tensor 'x' has shape .* give 268435456 elements at most"),
        ({"w": replace(constant("w", (2, 3)), shape=(3, 2))}, r"tensor 'w' is declared int8\(3, 2\), but its data"),
        ({"w": replace(constant("w", (2, 3)), dtype="uint8")}, r"tensor 'w' is declared uint8\(2, 3\), but its data"),
        ({"x": activation("x", (3,), "float32")}, r"tensor 'x' must be int8, uint8, int16 or int32 .* float32"),
        ({"x": activation("x", (3,), "int16")}, r"tensor 'x' is int16 and must have zero points of 0"),
        ({"x": Tensor("x", (3,), "int8")}, r"tensor 'x' must be int8, uint8, int16 or int32 with scales, not int8"),
        ({"x": activation("x", (3,), "int32")}, r"activation 'x' must be int8, uint8 or int16 with one scale"),
        (
            {"x": activation("x", (3,), quantization=Quantization((1.0,) * 3, (0,) * 3, 0))},
            r"activation 'x' must be int8, uint8 or int16 with one scale",
        ),
        (
            {"x": activation("x", (3,), quantization=Quantization((1.0,), (128,)))},
            r"tensor 'x' has a zero point outside -128 … 127",
        ),
        (
            {"w": constant("w", (2, 3), quantization=Quantization((0.5,) * 2, (0,) * 2, 2))},
            r"tensor 'w' has scales along dimension 2",
        ),
        (
            {"w": constant("w", (2, 3), quantization=Quantization((0.5,) * 3, (0,) * 3, 0))},
            r"tensor 'w' has 3 scales for 2 channels",
        ),
        (
            {"w": constant("w", (2, 3), quantization=Quantization((0.5,) * 3, (0,) * 3, 1))},
            r"operator 'fc' \(FullyConnected\): weights 'w' must be int8 or uint8, scaled along 0 if at all",
        ),
        (
            {"w": constant("w", (2, 3), quantization=Quantization((0.5, 0.25), (0, 1), 0))},
            r"operator 'fc' \(FullyConnected\): weights 'w' with a scale per channel must have zero points of 0",
        ),
        ({"w": constant("w", (2, 3), "int32")}, r"operator 'fc' .*: weights 'w' must be int8 or uint8, scaled along 0"),
        ({"w": activation("w", (2, 3))}, r"operator 'fc' \(FullyConnected\): 'w' is not a constant tensor"),
        ({"b": constant("b", (2,))}, r"operator 'fc' \(FullyConnected\): bias 'b' must be int32"),
        ({"b": constant("b", (3,), "int32")}, r"operator 'fc' \(FullyConnected\): the bias must be \(2,\), not \(3,\)"),
        ({"x": constant("x", (3,))}, r"the model's input 'x' is not an activation tensor"),
        ({"y": constant("y", (2,))}, r"operator 'fc' \(FullyConnected\): output 'y' is a constant"),
        ({"y": activation("y", (3,))}, r"operator 'fc' .*: output 'y' is declared \(3,\), but is \(2,\)"),
        ({"y": activation("y", (2,), "uint8")}, r"operator 'fc' .*: inputs and output must all be int8, all uint8 or"),
    ],
)  # fmt: skip
def test_wrong_tensors(tensors: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ZeropointError, match="^" + message):
        quantized(**tensors)


@pytest.mark.parametrize(
    ("operators", "message"),
    [
        ([replace(FULLY_CONNECTED, input="z")], r"operator 'fc' .*: input 'z' is not computed before it"),
        ([replace(FULLY_CONNECTED, input="w")], r"operator 'fc' .*: input 'w' is not computed before it"),
        ([replace(FULLY_CONNECTED, weights="z")], r"operator 'fc' \(FullyConnected\): 'z' is not a constant tensor"),
        ([replace(FULLY_CONNECTED, output="z")], r"operator 'fc' .*: output 'z' is missing or computed twice"),
        ([FULLY_CONNECTED] * 2, r"operator 'fc' \(FullyConnected\): its name is taken by another operator"),
        (
            [FULLY_CONNECTED, replace(FULLY_CONNECTED, name="again")],
            r"operator 'again' \(FullyConnected\): output 'y' is missing or computed twice",
        ),
        ([Mean(name="mean", **XY)], r"operator 'mean' \(Mean\): the input must be \(height, width, channels\), not"),
        ([Add(name="add", **XY, other="y")], r"operator 'add' \(Add\): input 'y' is not computed before it"),
    ],
)  # fmt: skip
def test_wrong_operators(operators: list[Any], message: str) -> None:
    with pytest.raises(ZeropointError, match="^" + message):
        quantized(*operators)


def test_an_operator_reads_only_what_is_there() -> None:
    z = activation("z", (2,))
    first, second = replace(FULLY_CONNECTED, output="z"), Reshape(name="r", input="z", output="y", shape=(2,))
    assert quantized(first, second, z=z).operators == (first, second)
    with pytest.raises(ZeropointError, match=r"^operator 'r' \(Reshape\): input 'z' is not computed before it$"):
        quantized(second, first, z=z)


@pytest.mark.parametrize("other", [Quantization((0.5,), (4,)), Quantization((0.25,), (3,))])
def test_values_that_pass_unscaled_keep_their_quantization(other: Quantization) -> None:
    operator = Reshape(name="r", **XY, shape=(3,))
    quantized(operator, y=activation("y", (3,)))
    with pytest.raises(ZeropointError, match=r"^operator 'r' .*: output 'y' must have the scale and zero point of its"):
        quantized(operator, y=activation("y", (3,), quantization=other))


def test_the_scale_of_a_softmax() -> None:
    operator = Softmax(name="s", **XY)
    quantized(operator, y=activation("y", (3,), quantization=Quantization((1 / 256,), (-128,))))
    for wrong in (Quantization((1 / 256,), (0,)), Quantization((1 / 255,), (-128,))):
        with pytest.raises(ZeropointError, match=r"^operator 's' .*: output 'y' must have scale 1/256 and the least"):
            quantized(operator, y=activation("y", (3,), quantization=wrong))


@pytest.mark.parametrize(
    ("operator", "shape", "axis"),
    [
        (Conv2D(name="op", **XY, weights="w"), (2, 1, 1, 2), 0),
        (DepthwiseConv2D(name="op", **XY, weights="w"), (2, 2, 2), 2),
    ],
)
def test_the_channels_of_weights(operator: Any, shape: tuple[int, ...], axis: int) -> None:
    tensors = {"x": activation("x", (2, 2, 2))}
    tensors["y"] = activation("y", operator.output_shape((2, 2, 2), shape))
    for candidate in range(len(shape)):
        channels = shape[candidate]
        scales = Quantization((0.5,) * channels, (0,) * channels, candidate)
        weights = constant("w", shape, quantization=scales)
        if candidate == axis:
            quantized(operator, **tensors, w=weights)
        else:
            with pytest.raises(ZeropointError, match=f"weights 'w' must be int8 or uint8, scaled along {axis} if at"):
                quantized(operator, **tensors, w=weights)


def float_model(data: Any = None, dtype: str = "float32") -> FloatModel:
    weights = constant("w", (2, 3), "float32")
    if data is not None:
        weights = replace(weights, data=data)
    tensors = {"x": activation("x", (3,), dtype), "w": weights, "y": activation("y", (2,), "float32")}
    return FloatModel("m", tensors, (replace(FULLY_CONNECTED, bias=None),), "x", "y")


def test_float_models_are_float32_and_finite() -> None:
    float_model()
    with pytest.raises(ZeropointError, match=r"^tensor 'x' must be float32, not int8$"):
        float_model(dtype="int8")
    with pytest.raises(ZeropointError, match=r"^tensor 'w' is declared float32\(2, 3\), but its data are float64"):
        float_model(np.ones((2, 3)))
    for value in (nan, inf, -inf):
        with pytest.raises(ZeropointError, match=r"^tensor 'w' has values that are NaN or infinite; train or export"):
            float_model(np.full((2, 3), value, np.float32))
