"""ONNX operators that compute: convolutions, products, pools, sums, activations."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from zeropoint.errors import ZeropointError
from zeropoint.importers.onnx_float_file import Node
from zeropoint.importers.onnx_float_fusion import Affine
from zeropoint.importers.onnx_float_translate import Array, Translator, handles
from zeropoint.importers.onnx_float_view import CHANNELS_FIRST, LayoutError, View, orders
from zeropoint.importers.onnx_float_window import window_of
from zeropoint.model import (
    Add,
    AveragePool2D,
    Clamp,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    MaxPool2D,
    Mean,
    Pad,
    Padding,
    Requantize,
    Softmax,
)

_FLOAT32_MAX = float(np.finfo(np.float32).max)


def _image(t: Translator, node: Node) -> tuple[View, str]:
    """Return input 0, which must be channels and one or two spatial dimensions, and our tensor of it."""
    view = t.view(node, 0)
    if len(view.axes) not in (2, 3):
        raise ZeropointError(
            f"takes a feature map (N, channels, height, width) or (N, channels, length), not {view.described}"
        )
    return view, t.arrange(view, CHANNELS_FIRST[len(view.axes)])


def _image_view(t: Translator, like: View, output: str) -> View:
    return View.of(output, t.shape(output), CHANNELS_FIRST[len(like.axes)])


@handles("Conv")
def _conv(t: Translator, node: Node) -> View:
    view, image = _image(t, node)
    weights = t.floats(node, 1)
    channels, groups = view.sizes[0], node.attributes.get("group", 1)
    if weights.ndim != len(view.axes) + 1:
        raise ZeropointError(f"takes weights of {len(view.axes) + 1} dimensions, not of shape {weights.shape}")
    if list(node.attributes.get("kernel_shape", weights.shape[2:])) != list(weights.shape[2:]):
        raise ZeropointError(f"has a kernel_shape that differs from its weights' {weights.shape[2:]}")
    if groups < 1 or channels != weights.shape[1] * groups or weights.shape[0] % groups:
        raise ZeropointError(
            f"has weights of shape {weights.shape}, which do not fit {channels} channels in {groups} groups"
        )
    window = window_of(node, view.sizes[1:], weights.shape[2:])
    if weights.ndim == 3:
        weights = weights[:, :, None]
    depthwise = groups == channels > 1
    constants = {
        "weights": t.add_constant(
            node.inputs[1], weights[:, 0].transpose(1, 2, 0) if depthwise else weights.transpose(0, 2, 3, 1)
        )
    }
    if t.has(node, 2):
        constants["bias"] = t.add_constant(node.inputs[2], t.floats(node, 2))
    geometry = {"stride": window.stride, "dilation": window.dilation, "padding": window.padding}
    if depthwise:
        output = t.emit(DepthwiseConv2D, node, input=image, **constants, **geometry)
    else:
        output = t.emit(Conv2D, node, input=image, groups=groups, **constants, **geometry)
    return _image_view(t, view, output)


@handles("Gemm")
def _gemm(t: Translator, node: Node) -> View:
    view = t.view(node, 0, batch_first=False)
    if node.flag("transA") and len(view.axes) == 1:
        view = view.with_axes(reversed(view.all_axes))
    weights = t.floats(node, 1)
    if len(view.axes) != 1 or view.batch or weights.ndim != 2:
        raise ZeropointError(
            f"takes (N, features) and a constant matrix, not {view.described} and {weights.shape}; "
            f"the batch must be the first dimension"
        )
    if node.flag("transB"):
        weights = weights.T
    bias = None
    if t.has(node, 2):
        bias = _row(t.floats(node, 2), weights.shape[1]) * np.float64(node.attributes.get("beta", 1.0))
    return _connect(t, node, view, weights * np.float64(node.attributes.get("alpha", 1.0)), bias)


def _row(bias: Array, features: int) -> Array:
    """Return the third input of a Gemm as one value for each feature."""
    if bias.shape not in ((), (1,), (1, 1), (features,), (1, features)):
        raise ZeropointError(
            f"takes a bias of {features} values, the same for each of the batch, not of shape {bias.shape}"
        )
    return np.broadcast_to(bias.reshape(-1), (features,))


def _connect(t: Translator, node: Node, view: View, weights: Array, bias: Array | None) -> View:
    """Add a product of vectors with weights ``(in, out)``."""
    if weights.shape[0] != view.size:
        raise ZeropointError(f"takes {weights.shape[0]} features, but its input has {view.size}")
    constants = {"weights": t.add_constant(node.inputs[1], view.to_memory(weights, (0,)).T)}
    if bias is not None:
        constants["bias"] = t.add_constant(node.inputs[2], bias)
    output = t.emit(FullyConnected, node, input=view.tensor, **constants)
    return View.of(output, t.shape(output), ((0,),))


@handles("MatMul")
def _matmul(t: Translator, node: Node) -> View:
    view, weights = t.view(node, 0), t.floats(node, 1)
    rank = len(view.axes)
    if weights.ndim != 2 or rank not in (1, 2, 3) or weights.shape[0] != view.sizes[-1]:
        raise ZeropointError(f"takes (N, …, features) and a constant matrix, not {view.described} and {weights.shape}")
    if rank == 1:
        return _connect(t, node, view, weights, None)
    # At each position by itself: a convolution with a 1 x 1 kernel.
    groups = ((0,), (1,), (2,)) if rank == 3 else ((), (0,), (1,))
    image = t.arrange(view, groups)
    name = t.add_constant(node.inputs[1], weights.T[:, None, None])
    output = t.emit(Conv2D, node, input=image, weights=name)
    return View.of(output, t.shape(output), groups)


@handles("BatchNormalization")
def _batch_normalization(t: Translator, node: Node) -> View:
    view = t.view(node, 0)
    # Before version 14, it is the further outputs that tell training.
    training = node.flag("training_mode") or (t.graph.opset < 14 and any(node.outputs[1:]))
    if training or not node.flag("spatial", default=True):
        raise ZeropointError("is supported with fixed statistics per channel; export the network in evaluation mode")
    if not view.axes:
        raise ZeropointError("takes an input with channels")
    gamma, beta, mean, variance = (t.floats(node, index).astype(np.float64) for index in range(1, 5))
    shapes = {array.shape for array in (gamma, beta, mean, variance)}
    if shapes != {view.sizes[:1]}:
        raise ZeropointError(f"takes four constants of shape {view.sizes[:1]}, not {sorted(shapes)}")
    variance = variance + node.attributes.get("epsilon", 1e-5)
    if np.any(variance <= 0):
        raise ZeropointError(f"variance '{node.inputs[4]}' must be positive")
    scale = gamma / np.sqrt(variance)
    spread = (-1, *(1 for _ in view.axes[1:]))
    return _affine(t, node, view, scale.reshape(spread), (beta - mean * scale).reshape(spread))


def _affine(t: Translator, node: Node, view: View, scale: Array, shift: Array) -> View:
    """Add ``scale · x + shift``, where the constants broadcast to the ONNX shape of a view."""
    scale, shift = np.broadcast_arrays(scale, shift)
    rank = len(view.axes) + 1
    ours = (1, *view.sizes)
    theirs = (1,) * (rank - scale.ndim) + scale.shape
    if len(theirs) > rank or any(size not in (1, own) for size, own in zip(theirs, ours, strict=True)):
        raise ZeropointError(f"takes a constant that broadcasts to {view.described}, not one of shape {scale.shape}")
    varying = [axis for axis, size in enumerate(theirs[1:]) if size > 1]
    if not view.is_inner(varying):
        raise LayoutError(f"takes a constant that varies over channels only, not one of shape {scale.shape}")
    tensor = view.tensor
    if varying:
        scale, shift = (view.to_memory(array.reshape(-1), varying)[:, 0] for array in (scale, shift))
        tensor = _with_inner(t, view, len(scale))
    else:
        channels = t.shape(tensor)[-1:]
        scale, shift = (np.broadcast_to(array.reshape(()), channels) for array in (scale, shift))
    base = node.name or node.outputs[0]
    output = t.emit(
        Affine,
        node,
        input=tensor,
        scale=t.add_constant(t.fresh(f"{base}.scale"), scale),
        shift=t.add_constant(t.fresh(f"{base}.shift"), shift),
    )
    return replace(view, tensor=output)


def _with_inner(t: Translator, view: View, inner: int) -> str:
    """Return the tensor of a view in a shape whose last dimension has a given size."""
    shape = t.shape(view.tensor)
    if shape[-1] == inner:
        return view.tensor
    return t.as_shape(view.tensor, (inner,) if view.size == inner else (1, view.size // inner, inner))


@handles("Add")
def _add(t: Translator, node: Node) -> View:
    for index in (0, 1):
        if t.is_constant(node, index):
            shift = t.floats(node, index)
            return _affine(t, node, t.view(node, 1 - index), np.ones((1,) * shift.ndim), shift)
    first, second = t.view(node, 0), t.view(node, 1)
    if first.sizes != second.sizes:
        raise ZeropointError(
            f"takes two inputs of one shape, not {first.described} and {second.described}; "
            f"broadcasting is supported for constants only"
        )
    if first.layout != second.layout:
        raise LayoutError(
            "takes two inputs whose elements lie in the same order, but an earlier Reshape, Flatten or Transpose "
            "has put those of one in another; export the network without it"
        )
    other = t.as_shape(second.tensor, t.shape(first.tensor))
    return replace(first, tensor=t.emit(Add, node, input=first.tensor, other=other))


@handles("Sub", "Mul", "Div")
def _scale(t: Translator, node: Node) -> View:
    """Arithmetic with one constant; with two activations there is only Add."""
    index = 0 if t.is_constant(node, 0) else 1
    if not t.is_constant(node, index) or (node.operator == "Div" and index == 0):
        raise ZeropointError("is supported with a constant second input only")
    view, value = t.view(node, 1 - index), t.floats(node, index).astype(np.float64)
    if node.operator == "Sub":
        sign = -1.0 if index == 0 else 1.0
        return _affine(t, node, view, np.full((1,) * value.ndim, sign), -sign * value)
    if node.operator == "Div":
        if not np.all(value):
            raise ZeropointError(f"divides by '{node.inputs[1]}', which has zeros")
        value = 1.0 / value
    return _affine(t, node, view, value, np.zeros((1,) * value.ndim))


@handles("Relu")
def _relu(t: Translator, node: Node) -> View:
    return _clamp(t, node, Clamp(low=0.0))


@handles("Clip")
def _clip(t: Translator, node: Node) -> View:
    if t.graph.opset < 11:
        low, high = (node.attributes.get(name, sign * _FLOAT32_MAX) for name, sign in (("min", -1), ("max", 1)))
    else:
        low, high = (_bound(t, node, index, sign * np.inf) for index, sign in ((1, -1), (2, 1)))
    low = -np.inf if low <= -_FLOAT32_MAX else float(low)
    high = np.inf if high >= _FLOAT32_MAX else float(high)
    if not low <= high:
        raise ZeropointError(f"must clip to an interval, not to {low} … {high}")
    return _clamp(t, node, Clamp(low, high))


@handles("Min", "Max")
def _extremum(t: Translator, node: Node) -> View:
    """Clamp on one side, as some exporters write it."""
    index = 0 if t.is_constant(node, 0) else 1
    if len(node.inputs) != 2 or not t.is_constant(node, index):
        raise ZeropointError("is supported with one constant only")
    bound = _bound(t, node, index, 0.0)
    return _clamp(t, node, Clamp(high=bound) if node.operator == "Min" else Clamp(low=bound), 1 - index)


def _bound(t: Translator, node: Node, index: int, default: float) -> float:
    if not t.has(node, index):
        return default
    bound = t.constant(node, index)
    if bound.size != 1 or bound.dtype != np.float32:
        raise ZeropointError(f"takes one float32 value as '{node.inputs[index]}', not {bound.dtype.name}{bound.shape}")
    return float(bound.reshape(()))


def _clamp(t: Translator, node: Node, clamp: Clamp, index: int = 0) -> View:
    view = t.view(node, index)
    if clamp == Clamp():
        return view
    return replace(view, tensor=t.emit(Requantize, node, input=view.tensor, clamp=clamp))


@handles("MaxPool")
def _max_pool(t: Translator, node: Node) -> View:
    view, image = _image(t, node)
    window = window_of(node, view.sizes[1:])
    if window.is_nothing:
        return view
    pool = {"window": window.size, "stride": window.stride, "dilation": window.dilation}
    # What ceil_mode adds are windows that reach beyond the end; padding never wins.
    return _image_view(t, view, t.emit(MaxPool2D, node, input=image, padding=window.full_padding, **pool))


@handles("AveragePool")
def _average_pool(t: Translator, node: Node) -> View:
    view, image = _image(t, node)
    window = window_of(node, view.sizes[1:])
    if window.is_nothing:
        return view
    padding = window.full_padding
    if node.flag("count_include_pad") and window.padding != Padding():
        # What ceil_mode adds is not counted, even then.
        image = t.emit_before(Pad, f"{node.name or node.outputs[0]}.pad", input=image, padding=window.padding)
        padding = window.overhang
    pool = {"window": window.size, "stride": window.stride, "dilation": window.dilation}
    return _image_view(t, view, t.emit(AveragePool2D, node, input=image, padding=padding, **pool))


@handles("GlobalMaxPool")
def _global_max_pool(t: Translator, node: Node) -> View:
    view, image = _image(t, node)
    return _image_view(t, view, t.emit(MaxPool2D, node, input=image, window=t.shape(image)[:2]))


@handles("GlobalAveragePool")
def _global_average_pool(t: Translator, node: Node) -> View:
    view = t.view(node, 0)
    return _mean(t, node, view, range(1, len(view.axes)), keep=True)


_MEANS = "only the mean over height and width together, or over height alone, is supported"


@handles("ReduceMean")
def _reduce_mean(t: Translator, node: Node) -> View:
    view = t.view(node, 0)
    axes = node.attributes.get("axes")
    if t.graph.opset >= 18:
        axes = t.integers(node, 1) if t.has(node, 1) else None
    if not axes and node.flag("noop_with_empty_axes"):
        return view
    rank = len(view.axes) + 1
    reduced = {axis % rank for axis in axes} if axes else set(range(rank))
    if axes and not all(-rank <= axis < rank for axis in axes):
        raise ZeropointError(f"has axes {tuple(axes)}, but its input has {rank} dimensions")
    if 0 in reduced:
        raise ZeropointError(f"takes the mean over the batch; {_MEANS}")
    return _mean(t, node, view, [axis - 1 for axis in sorted(reduced)], node.flag("keepdims", default=True))


def _mean(t: Translator, node: Node, view: View, axes: Sequence[int], keep: bool) -> View:
    """Add the mean over ONNX axes, which must be all but what varies fastest in memory."""
    if not view.is_outer(axes):
        dimensions = ", ".join(str(axis + 1) for axis in axes)
        raise LayoutError(f"takes the mean over dimension {dimensions} of its input; {_MEANS}")
    outer = sum(len(view.axes[axis]) for axis in axes)
    positions = prod(view.factors[:outer])
    shape = t.shape(view.tensor)
    if len(shape) != 3 or shape[0] * shape[1] != positions:
        shape = (1, positions, view.size // positions)
    output = t.emit(Mean, node, input=t.as_shape(view.tensor, shape))
    kept = [
        () if axis in axes else tuple(factor - outer for factor in factors)
        for axis, factors in enumerate(view.axes)
        if keep or axis not in axes
    ]
    return View(output, view.factors[outer:], tuple(kept))


@handles("Pad")
def _pad(t: Translator, node: Node) -> View:
    view = t.view(node, 0)
    rank = len(view.axes) + 1
    if node.attributes.get("mode", "constant") != "constant":
        raise ZeropointError(f"has mode '{node.attributes['mode']}'; only padding with constant zeros is supported")
    if t.graph.opset < 11:
        amounts, value = tuple(node.attributes["pads"]), node.attributes.get("value", 0.0)
    else:
        amounts = t.integers(node, 1)
        value = t.constant(node, 2) if t.has(node, 2) else np.float32(0)
    axes = t.integers(node, 3) if t.has(node, 3) else tuple(range(rank))
    if np.size(value) != 1 or np.any(value):
        raise ZeropointError("pads with a value other than 0; only padding with zeros is supported")
    if not all(-rank <= axis < rank for axis in axes) or len(amounts) != 2 * len(axes) or min(amounts, default=0) < 0:
        raise ZeropointError(
            f"has pads {amounts} for dimensions {axes}; two that are not negative for each are supported"
        )
    ends = dict.fromkeys(range(rank), (0, 0))
    for axis, *pair in zip(axes, amounts[: len(axes)], amounts[len(axes) :], strict=True):
        ends[axis % rank] = (pair[0], pair[1])
    padded = [axis - 1 for axis, pair in ends.items() if any(pair)]
    if not padded:
        return view
    if -1 in padded or rank not in (3, 4):
        raise ZeropointError(f"pads {view.described} by {amounts}; only height and width can be padded")
    for groups in orders(rank - 1):
        if view.lies_as(groups) and groups[2][0] not in padded:
            break
    else:
        raise LayoutError("pads channels; only height and width can be padded")
    (top, bottom), (left, right) = (ends[group[0] + 1] if group else (0, 0) for group in groups[:2])
    padding = Padding(top=top, bottom=bottom, left=left, right=right)
    output = t.emit(Pad, node, input=t.arrange(view, groups), padding=padding)
    return View.of(output, t.shape(output), groups)


@handles("Softmax")
def _softmax(t: Translator, node: Node) -> View:
    view = t.view(node, 0)
    rank = len(view.axes) + 1
    # Before version 13, all dimensions from the axis on are taken together.
    whole = t.graph.opset < 13
    axis = node.attributes.get("axis", 1 if whole else -1)
    if not -rank <= axis < rank or axis % rank == 0:
        raise ZeropointError(f"has axis {axis}; only softmax over the channels is supported")
    axes = range(axis % rank - 1, rank - 1 if whole else axis % rank)
    if not view.is_inner(axes):
        raise LayoutError(f"has axis {axis}; only softmax over the channels is supported")
    inner = prod(view.sizes[axis] for axis in axes)
    return replace(view, tensor=t.emit(Softmax, node, input=_with_inner(t, view, inner)))
