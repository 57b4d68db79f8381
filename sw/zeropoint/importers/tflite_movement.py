"""TensorFlow Lite's operators that put values elsewhere."""

from collections.abc import Sequence

import numpy as np
import tflite

from zeropoint.errors import ZeropointError
from zeropoint.importers.tflite_file import Node
from zeropoint.importers.tflite_shapes import emit_reshape
from zeropoint.importers.tflite_translate import Translator, Value, handles, sample_shape
from zeropoint.model import (
    Concatenation,
    Pad,
    Padding,
    Reshape,
    ResizeNearestNeighbor,
    Shape,
    StridedSlice,
    Transpose,
)


@handles("PAD", "PADV2")
def _pad(t: Translator, node: Node) -> None:
    value, amounts = t.value(node, 0), t.integers(node, 1)
    rank = len(value.shape)
    if amounts.shape != (rank, 2) or amounts.min() < 0:
        raise ZeropointError(f"pads {value.shape} by {amounts.tolist()}")
    if rank not in (3, 4) or value.shape[0] != 1 or amounts[0].any() or amounts[-1].any():
        raise ZeropointError(
            f"pads {value.shape} by {amounts.tolist()}; only height and width, or length, can be padded"
        )
    # A sequence is a feature map of one row.
    sides = [0] * 2 * (4 - rank) + amounts[1:-1].reshape(-1).tolist()
    source = t.as_shape(value, (*(1,) * (4 - rank), *value.shape[1:]))
    shape = tuple(size + sum(pair) for size, pair in zip(value.shape, amounts.tolist(), strict=True))
    fields = {"value": _pad_value(t, node, source)} if node.operator == "PADV2" else {}
    t.emit(Pad, node, file_shape=shape, input=source, padding=Padding(*sides), **fields)


def _pad_value(t: Translator, node: Node, source: str) -> int:
    tensor, padded = t.constant(node, 2), t.tensor(source)
    assert tensor.data is not None
    if tensor.dtype != padded.dtype or tensor.data.size != 1:
        raise ZeropointError(f"pads with {tensor.label}, which must be one value of {padded.dtype}")
    if (tensor.scale, tensor.zero_point) != ((padded.scale,), (padded.zero_point,)):
        raise ZeropointError(f"pads with {tensor.label}, which must have the scale and zero point of its input")
    return int(tensor.data.reshape(-1)[0])


@handles("CONCATENATION")
def _concatenation(t: Translator, node: Node) -> None:
    values = [t.value(node, position) for position in range(len(node.inputs))]
    if not values:
        raise ZeropointError("lacks inputs")
    rank, axis = len(values[0].shape), node.option("Axis")
    axis += rank * (axis < 0)
    if node.option("FusedActivationFunction") != tflite.ActivationFunctionType.NONE:
        raise ZeropointError("has a fused activation, which TensorFlow Lite does not know")
    # The batch, of 1, is not in our tensors; nor may there be several.
    if not 0 < axis < rank or any(len(value.shape) != rank or value.shape[0] != values[0].shape[0] for value in values):
        shapes = ", ".join(str(value.shape) for value in values)
        raise ZeropointError(f"puts {shapes} together along dimension {axis}, which is not supported")
    lost = rank - len(sample_shape(values[0].shape))
    shape = list(values[0].shape)
    shape[axis] = sum(value.shape[axis] for value in values)
    first, *others = (value.tensor for value in values)
    t.emit(Concatenation, node, file_shape=tuple(shape), input=first, others=tuple(others), axis=axis - lost)


@handles("TRANSPOSE")
def _transpose(t: Translator, node: Node) -> None:
    value = t.value(node, 0)
    order = tuple(t.integers(node, 1).reshape(-1).tolist())
    rank = len(value.shape)
    if sorted(order) != list(range(rank)):
        raise ZeropointError(f"puts the dimensions of {value.shape} in the order {order}")
    shape = tuple(value.shape[axis] for axis in order)
    moved = [axis for axis in order if value.shape[axis] != 1]
    if moved == sorted(moved):
        emit_reshape(t, node, shape)
        return
    # Ours have no batch; the batch's place, wherever it goes, is a dimension of 1.
    lost = rank - len(sample_shape(value.shape))
    permutation = tuple(axis - lost for axis in order if axis >= lost)
    t.emit(Transpose, node, file_shape=shape, input=value.tensor, permutation=permutation)


@handles("RESIZE_NEAREST_NEIGHBOR")
def _resize(t: Translator, node: Node) -> None:
    image, size = t.image(node), t.integers(node, 1).reshape(-1).tolist()
    if len(size) != 2:
        raise ZeropointError(f"resizes to {size}, which must be a height and a width")
    t.emit(
        ResizeNearestNeighbor,
        node,
        input=image.tensor,
        size=tuple(size),
        align_corners=node.option("AlignCorners"),
        half_pixel_centers=node.option("HalfPixelCenters"),
    )


# What takes a part


@handles("STRIDED_SLICE")
def _strided_slice(t: Translator, node: Node) -> None:
    if not t.is_constant(node, 0):
        value = t.value(node, 0)
        _take(t, node, value, *_selection(t, node, value.shape))
        return
    array = t.integers(node, 0)
    ranges, shape = _selection(t, node, array.shape)
    for axis, taken in enumerate(ranges):
        array = np.take(array, list(taken), axis)
    t.set_constant(node, array.reshape(shape))


@handles("SLICE")
def _slice(t: Translator, node: Node) -> None:
    value = t.value(node, 0)
    begins, sizes = (t.integers(node, position).reshape(-1).tolist() for position in (1, 2))
    if not len(begins) == len(sizes) == len(value.shape):
        raise ZeropointError(f"takes {sizes} from {begins} of {value.shape}")
    counts = [
        size - begin if count == -1 else count for size, begin, count in zip(value.shape, begins, sizes, strict=True)
    ]
    if any(
        min(begin, count) < 0 or begin + count > size
        for size, begin, count in zip(value.shape, begins, counts, strict=True)
    ):
        raise ZeropointError(f"takes {sizes} from {begins} of {value.shape}")
    ranges = [range(begin, begin + count) for begin, count in zip(begins, counts, strict=True)]
    _take(t, node, value, ranges, tuple(len(taken) for taken in ranges))


@handles("SPLIT", "SPLIT_V")
def _split(t: Translator, node: Node) -> None:
    even = node.operator == "SPLIT"
    value, axes = t.value(node, int(even)), t.integers(node, 0 if even else 2).reshape(-1)
    rank, count = len(value.shape), len(node.outputs)
    if len(axes) != 1 or not -rank <= axes[0] < rank:
        raise ZeropointError(f"splits dimension {axes.tolist()} of {value.shape}")
    axis = int(axes[0]) % rank
    size = value.shape[axis]
    sizes = [size // count] * count if even else t.integers(node, 1).reshape(-1).tolist()
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = size - 1 - sum(sizes)
    if len(sizes) != count or sum(sizes) != size or min(sizes) < 1:
        raise ZeropointError(f"splits dimension {axis} of {value.shape} into {count} parts of {sizes}")
    begin = 0
    for index, length in enumerate(sizes):
        ranges = [range(every) for every in value.shape]
        ranges[axis] = range(begin, begin + length)
        begin += length
        if t.is_needed(node, index):
            _take(t, node, value, ranges, tuple(len(taken) for taken in ranges), index)


def _take(t: Translator, node: Node, value: Value, ranges: Sequence[range], shape: Shape, index: int = 0) -> None:
    """Say that an output is the part of a value at ``ranges`` of its dimensions, under a shape of the file."""
    if not all(ranges):
        raise ZeropointError(f"takes nothing of {value.shape}")
    if all(taken == range(size) for size, taken in zip(value.shape, ranges, strict=True)):
        t.emit(Reshape, node, file_shape=shape, index=index, input=value.tensor, shape=sample_shape(shape))
        return
    ours = ranges[len(ranges) - len(sample_shape(value.shape)) :]
    t.emit(
        StridedSlice,
        node,
        file_shape=shape,
        index=index,
        input=value.tensor,
        begin=tuple(taken.start for taken in ours),
        stride=tuple(taken.step for taken in ours),
        shape=tuple(len(taken) for taken in ours),
    )


def _selection(t: Translator, node: Node, shape: Shape) -> tuple[list[range], Shape]:
    """Return what STRIDED_SLICE takes of each dimension of a tensor, and the shape of that.

    Source: TensorFlow Lite ``kernels/strided_slice.cc``, ``BuildStridedSliceParams``, and
    ``kernels/internal/strided_slice_logic.h``.
    """
    limits = [t.integers(node, position).reshape(-1).tolist() for position in (1, 2, 3)]
    entries = len(limits[0])
    new = {entry for entry in range(entries) if _bit(node, "NewAxisMask", entry)}
    ellipses = [entry for entry in range(entries) if _bit(node, "EllipsisMask", entry)]
    rest = len(shape) - entries + len(new - set(ellipses)) + len(ellipses)
    if any(len(limit) != entries for limit in limits) or rest < 0 or len(ellipses) > 1:
        raise ZeropointError(f"slices {shape} by {limits[0]}, {limits[1]} and {limits[2]}")
    ranges: list[range] = []
    result: list[int] = []

    def whole(count: int) -> None:
        for size in shape[len(ranges) : len(ranges) + count]:
            ranges.append(range(size))
            result.append(size)

    for entry, (begin, end, stride) in enumerate(zip(*limits, strict=True)):
        if entry in ellipses:
            whole(rest)
        elif entry in new:
            result.append(1)
        else:
            taken = _range(node, entry, shape[len(ranges)], begin, end, stride)
            ranges.append(taken)
            if not _bit(node, "ShrinkAxisMask", entry):
                result.append(len(taken))
    whole(len(shape) - len(ranges))
    return ranges, tuple(result)


def _range(node: Node, entry: int, size: int, begin: int, end: int, stride: int) -> range:
    """Return what one entry of STRIDED_SLICE takes of a dimension."""
    if node.option("Offset"):
        end += begin
    if _bit(node, "ShrinkAxisMask", entry):
        if not -size <= begin < size:
            raise ZeropointError(f"takes element {begin} of a dimension of {size}")
        return range(begin % size, begin % size + 1)
    if stride == 0:
        raise ZeropointError("has a stride of 0")
    first = None if _bit(node, "BeginMask", entry) else begin
    last = None if _bit(node, "EndMask", entry) else end
    return range(*slice(first, last, stride).indices(size))


def _bit(node: Node, mask: str, entry: int) -> bool:
    return bool(node.option(mask) >> entry & 1)
