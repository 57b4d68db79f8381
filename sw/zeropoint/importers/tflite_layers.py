"""TensorFlow Lite's operators that sum over many values: convolutions, products, pools, SOFTMAX."""

from math import prod
from typing import Any

import tflite

from zeropoint.errors import ZeropointError
from zeropoint.importers.tflite_file import Node
from zeropoint.importers.tflite_translate import QUANTIZE_FIRST, Translator, Value, fused_activation, handles
from zeropoint.model import (
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    MaxPool2D,
    Mean,
    Padding,
    Shape,
    Softmax,
)


def _geometry(node: Node, image: Shape, window: tuple[int, int]) -> dict[str, Any]:
    """Return stride, dilation, padding and clamp of an operator that slides a window over ``(1, height, width, …)``."""
    stride = node.option("StrideH"), node.option("StrideW")
    dilation = node.options.get("DilationHFactor", 1), node.options.get("DilationWFactor", 1)
    if min(*stride, *dilation, *window) < 1:
        raise ZeropointError(f"has stride {stride}, dilation {dilation} and window {window}; all must be positive")
    padding = Padding()
    if node.option("Padding") == tflite.Padding.SAME:
        padding = same_padding(image[1:3], window, stride, dilation)
    elif node.option("Padding") != tflite.Padding.VALID:
        raise ZeropointError(f"has the padding {node.option('Padding')}; SAME and VALID are known")
    return {"stride": stride, "dilation": dilation, "padding": padding, "clamp": fused_activation(node)}


def same_padding(image: Shape, window: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]) -> Padding:
    """Return SAME padding: as many windows as strides begin within the image, an odd row or column at the far end.

    Source: TensorFlow Lite ``kernels/padding.h``, ``ComputePaddingHeightWidth``.
    """
    sides = []
    for size, taps, step, spread in zip(image, window, stride, dilation, strict=True):
        outputs = (size + step - 1) // step
        total = max((outputs - 1) * step + (taps - 1) * spread + 1 - size, 0)
        sides += [total // 2, total - total // 2]
    return Padding(*sides)


def _weighted(t: Translator, node: Node, source: str, transpose_first: bool, rank: int, axis: int) -> dict[str, Any]:
    """Add weights and bias of a layer, and return their names.

    Parameters
    ----------
    transpose_first
        Whether the file's weights have a first dimension of 1 that ours do not have.
    rank
        Of the weights in the file.
    axis
        The dimension of the output channels in the file.
    """
    weights = t.constant(node, 1)
    data = weights.data
    assert data is not None
    if weights.dtype != t.tensor(source).dtype:
        raise ZeropointError(
            f"has {t.tensor(source).dtype} activations and {weights.dtype} weights {weights.label}; {QUANTIZE_FIRST}"
        )
    if not weights.scale:
        raise ZeropointError(f"has weights {weights.label} without a scale; {QUANTIZE_FIRST}")
    if data.ndim != rank or (transpose_first and data.shape[0] != 1):
        raise ZeropointError(f"has weights {weights.label} of shape {data.shape}, which it does not know")
    if len(weights.scale) > 1 and (weights.axis != axis or len(weights.scale) != data.shape[axis]):
        raise ZeropointError(
            f"has weights {weights.label} with {len(weights.scale)} scales along dimension {weights.axis}, "
            f"not one for each of the {data.shape[axis]} output channels"
        )
    first = int(transpose_first)
    names = {"weights": t.add_weights(weights, data[0] if transpose_first else data, axis - first)}
    if t.has(node, 2):
        names["bias"] = t.add_bias(t.constant(node, 2), data.shape[axis], source, names["weights"])
    return names


def _check_symmetric(t: Translator, names: dict[str, Any]) -> None:
    """Refuse what the reference kernels refuse: int8 convolutions whose weights have a zero point."""
    weights = t.tensor(names["weights"])
    assert weights.quantization is not None
    if weights.dtype == "int8" and any(weights.quantization.zero_point):
        raise ZeropointError(
            f"has int8 weights '{weights.name}' with a zero point other than 0, which TensorFlow Lite's convolutions "
            f"do not know; convert the model again"
        )


@handles("CONV_2D")
def _conv(t: Translator, node: Node) -> None:
    image = t.image(node)
    names = _weighted(t, node, image.tensor, False, 4, 0)
    _check_symmetric(t, names)
    shape = t.tensor(names["weights"]).shape
    if image.shape[3] % max(shape[3], 1):
        raise ZeropointError(f"has {image.shape[3]} input channels, but weights of shape {shape}")
    geometry = _geometry(node, image.shape, (shape[1], shape[2]))
    t.emit(Conv2D, node, input=image.tensor, groups=image.shape[3] // shape[3], **names, **geometry)


@handles("DEPTHWISE_CONV_2D")
def _depthwise_conv(t: Translator, node: Node) -> None:
    image = t.image(node)
    names = _weighted(t, node, image.tensor, True, 4, 3)
    _check_symmetric(t, names)
    shape = t.tensor(names["weights"]).shape
    geometry = _geometry(node, image.shape, (shape[0], shape[1]))
    t.emit(DepthwiseConv2D, node, input=image.tensor, **names, **geometry)


@handles("FULLY_CONNECTED")
def _fully_connected(t: Translator, node: Node) -> None:
    value = t.value(node, 0)
    if node.options.get("WeightsFormat", 0) != tflite.FullyConnectedOptionsWeightsFormat.DEFAULT:
        raise ZeropointError("has shuffled weights; convert the model again with a newer converter")
    names = _weighted(t, node, value.tensor, False, 2, 0)
    outputs, inputs = t.tensor(names["weights"]).shape
    if value.elements != inputs:
        raise ZeropointError(f"takes vectors of {inputs} values, one a sample, but its input has shape {value.shape}")
    shape: Shape = (1, outputs)
    if node.options.get("KeepNumDims"):
        if value.shape[-1] != inputs:
            raise ZeropointError(f"keeps its input's dimensions {value.shape}, whose last must be {inputs}")
        shape = (*value.shape[:-1], outputs)
    t.emit(FullyConnected, node, file_shape=shape, input=value.tensor, clamp=fused_activation(node), **names)


@handles("AVERAGE_POOL_2D", "MAX_POOL_2D")
def _pool(t: Translator, node: Node) -> None:
    image = t.image(node)
    window = node.option("FilterHeight"), node.option("FilterWidth")
    geometry = _geometry(node, image.shape, window)
    kind = AveragePool2D if node.operator == "AVERAGE_POOL_2D" else MaxPool2D
    t.emit(kind, node, input=image.tensor, window=window, **geometry)


@handles("MEAN")
def _mean(t: Translator, node: Node) -> None:
    value = t.value(node, 0)
    rank = len(value.shape)
    axes = t.integers(node, 1).reshape(-1)
    reduced = {int(axis) + rank * (axis < 0) for axis in axes}
    if rank not in (3, 4) or value.shape[0] != 1 or reduced != set(range(1, rank - 1)):
        raise ZeropointError(f"is supported over height and width only, not over {axes.tolist()} of {value.shape}")
    ones = (1,) * (rank - 2) if node.options.get("KeepDims") else ()
    source = t.as_shape(value, _as_image(value))
    t.emit(Mean, node, file_shape=(1, *ones, value.shape[-1]), input=source)


def _as_image(value: Value) -> Shape:
    """Return the shape of a sequence ``(1, length, channels)`` or a feature map as a feature map."""
    *spatial, channels = value.shape[1:]
    return (prod(spatial[:-1]), spatial[-1], channels)


@handles("SOFTMAX")
def _softmax(t: Translator, node: Node) -> None:
    value = t.value(node, 0)
    t.emit(Softmax, node, file_shape=value.shape, input=value.tensor, beta=node.option("Beta"))
