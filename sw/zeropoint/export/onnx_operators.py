"""What each operator becomes in an ONNX file: a float operator, its activation, and the quantization of its output."""

from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.errors import ZeropointError, quoted_list
from zeropoint.export.onnx_writer import Writer, channels_first, lies_alike
from zeropoint.model import (
    Add,
    AveragePool2D,
    Clamp,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    MaxPool2D,
    Mean,
    Operator,
    Pad,
    QuantizedModel,
    Requantize,
    Reshape,
    Softmax,
    Tensor,
)
from zeropoint.numerics.minifloat import MinifloatFormat

Array = npt.NDArray[Any]
Weighted = Conv2D | DepthwiseConv2D | FullyConnected


def write_operator(writer: Writer, operator: Operator) -> None:
    """Add an operator, whose inputs are there.

    Raises
    ------
    ZeropointError
        If the operator cannot be exported, or a layer's scales have a product that float32 does not hold.
    """
    target = writer.model.tensor(operator.output)
    if isinstance(operator, Requantize):
        if operator.clamp == Clamp():
            writer.quantize(writer.real(operator.input), target, operator.name)
            return
        values = writer.real(operator.input)
        writer.quantize(_clamped(writer, values, operator.clamp, operator.output, operator.name), target)
        return
    _check(writer.model, operator)
    clamp = getattr(operator, "clamp", Clamp())
    output = operator.output if clamp == Clamp() else writer.fresh(f"{operator.output}.linear")
    values = _WRITERS[type(operator)](writer, operator, output)
    if clamp != Clamp():
        values = _clamped(writer, values, clamp, operator.output, None)
    writer.quantize(values, target)


def _check(model: QuantizedModel, operator: Operator) -> None:
    """Refuse what the file could not say, or what would not read back as it is."""
    what, target = "", model.tensor(operator.output)
    if type(operator) not in _WRITERS:
        names = sorted((Requantize.__name__, *(kind.__name__ for kind in _WRITERS)))
        what = f"only {quoted_list(names, len(names))} can be"
    elif getattr(operator, "constant", False):
        what = "its second input is a constant"
    elif getattr(operator, "value", None) not in (None, target.zero_point):
        what = "it pads with something other than the zero point"
    elif isinstance(target.format, MinifloatFormat):
        what = "its outputs are minifloats, which QDQ does not know; quantize to integers for other tools"
    elif target.format is not None or target.dtype == "int16":
        what = f"its output has {target.bits} bits, which QDQ does not say; quantize with 8 for other tools"
    elif isinstance(operator, Weighted) and not _fits_int8(model.tensor(operator.weights)):
        what = "its weights reach 2^7, which int8 does not hold; choose a scheme of int8 weights for other tools"
    if what:
        raise ZeropointError(f"operator '{operator.name}' ({operator.kind}) cannot be exported to ONNX: {what}")


def _fits_int8(weights: Tensor) -> bool:
    return weights.format is None or bool(np.all(np.abs(weights.integers) < 128))


def _integers(weights: Tensor) -> Array:
    """Return weights as the file has them: those in another format as the int8 that they stand for."""
    assert weights.data is not None
    return weights.data if weights.format is None else weights.integers.astype(np.int8)


def _clamped(writer: Writer, values: str, clamp: Clamp, output: str, name: str | None) -> str:
    if clamp == Clamp(0.0, inf):
        return writer.node("Relu", [values], output, name)
    ends = [_end(writer, end, f"{output}.{which}") for which, end in (("low", clamp.low), ("high", clamp.high))]
    return writer.node("Clip", [values, *ends] if ends[1] else [values, ends[0]], output, name)


def _end(writer: Writer, end: float, name: str) -> str:
    """Return a constant for the end of an interval, or no name for one that is open."""
    with np.errstate(over="ignore"):
        value = np.float32(end)
    return writer.constant(name, value) if np.isfinite(value) else ""


def _constants(writer: Writer, operator: Weighted, data: Array, axis: int = 0) -> list[str]:
    """Return the names of the real values of a layer's weights, which are ``data`` in the file, and of its bias."""
    weights = writer.model.tensor(operator.weights)
    assert weights.quantization is not None
    channels = weights.quantization.axis is not None
    scale = np.asarray(weights.quantization.scale, np.float32)
    scale = scale if channels else scale.reshape(())
    names = [writer.dequantized(weights, data, scale, axis if channels else None)]
    if operator.bias is not None:
        bias = writer.model.tensor(operator.bias)
        assert bias.data is not None
        with np.errstate(over="ignore", under="ignore"):
            product = np.asarray(np.float32(writer.model.tensor(operator.input).scale) * scale)
        if not np.all(np.isfinite(product)) or np.any(product < np.finfo(np.float32).tiny):
            raise ZeropointError(
                f"operator '{operator.name}' ({operator.kind}): the product of the scales of input and weights, which "
                f"is that of the bias, is beyond float32; quantize the network again"
            )
        names.append(writer.dequantized(bias, bias.data, product, 0 if channels else None))
    return names


def _geometry(operator: Conv2D | DepthwiseConv2D | AveragePool2D | MaxPool2D) -> dict[str, Any]:
    pad = operator.padding
    return {"strides": operator.stride, "pads": (pad.top, pad.left, pad.bottom, pad.right)}


def _conv(writer: Writer, operator: Conv2D, output: str) -> str:
    weights = _integers(writer.model.tensor(operator.weights))
    inputs = [writer.real(operator.input), *_constants(writer, operator, weights.transpose(0, 3, 1, 2))]
    return writer.node(
        "Conv",
        inputs,
        output,
        operator.name,
        kernel_shape=weights.shape[1:3],
        dilations=operator.dilation,
        group=operator.groups,
        **_geometry(operator),
    )


def _depthwise_conv(writer: Writer, operator: DepthwiseConv2D, output: str) -> str:
    weights = _integers(writer.model.tensor(operator.weights))
    data = weights.transpose(2, 0, 1)[:, None]
    return writer.node(
        "Conv",
        [writer.real(operator.input), *_constants(writer, operator, data)],
        output,
        operator.name,
        kernel_shape=weights.shape[:2],
        dilations=operator.dilation,
        group=writer.model.tensor(operator.input).shape[2],
        **_geometry(operator),
    )


def _fully_connected(writer: Writer, operator: FullyConnected, output: str) -> str:
    source, values = writer.model.tensor(operator.input), writer.real(operator.input)
    weights = _integers(writer.model.tensor(operator.weights))
    if len(source.shape) != 1:
        values = writer.node("Flatten", [values], writer.fresh(f"{output}.flat"), axis=1)
    if not lies_alike(source.shape):
        weights = weights.reshape(-1, *source.shape).transpose(0, 3, 1, 2).reshape(weights.shape)
    return writer.node("Gemm", [values, *_constants(writer, operator, weights)], output, operator.name, transB=1)


def _add(writer: Writer, operator: Add, output: str) -> str:
    return writer.node("Add", [writer.real(name) for name in operator.inputs], output, operator.name)


def _pool(writer: Writer, operator: AveragePool2D | MaxPool2D, output: str) -> str:
    kind = "AveragePool" if isinstance(operator, AveragePool2D) else "MaxPool"
    inputs = [writer.real(operator.input)]
    return writer.node(kind, inputs, output, operator.name, kernel_shape=operator.window, **_geometry(operator))


def _mean(writer: Writer, operator: Mean, output: str) -> str:
    return writer.node("ReduceMean", [writer.real(operator.input)], output, operator.name, axes=(2, 3), keepdims=0)


def _pad(writer: Writer, operator: Pad, output: str) -> str:
    pad = operator.padding
    amounts = np.array((0, 0, pad.top, pad.left, 0, 0, pad.bottom, pad.right), np.int64)
    pads = writer.constant(f"{operator.output}.pads", amounts)
    return writer.node("Pad", [writer.real(operator.input), pads], output, operator.name)


def _reshape(writer: Writer, operator: Reshape, output: str) -> str:
    source = writer.model.tensor(operator.input).shape
    values, sizes = writer.to_channels_last(writer.real(operator.input), source, operator.output)
    return writer.to_channels_first(values, sizes, operator.shape, operator.output)


def _softmax(writer: Writer, operator: Softmax, output: str) -> str:
    values = writer.real(operator.input)
    shape = writer.model.tensor(operator.input).shape
    if operator.beta != 1.0:
        beta = writer.constant(f"{output}.beta", np.float32(operator.beta))
        values = writer.node("Mul", [values, beta], writer.fresh(f"{output}.scaled"))
    axis = 1 if len(shape) == 3 else len(channels_first(shape))
    return writer.node("Softmax", [values], output, operator.name, axis=axis)


_WRITERS: dict[type[Operator], Callable[[Writer, Any, str], str]] = {
    Conv2D: _conv,
    DepthwiseConv2D: _depthwise_conv,
    FullyConnected: _fully_connected,
    Add: _add,
    AveragePool2D: _pool,
    MaxPool2D: _pool,
    Mean: _mean,
    Pad: _pad,
    Reshape: _reshape,
    Softmax: _softmax,
}
