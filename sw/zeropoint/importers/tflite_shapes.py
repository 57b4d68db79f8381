"""TensorFlow Lite's operators that read values under another shape, those that pad, and those that compute shapes."""

from math import prod

import numpy as np

from zeropoint.errors import ZeropointError
from zeropoint.importers.tflite_file import Node
from zeropoint.importers.tflite_translate import Translator, handles, sample_shape
from zeropoint.model import Pad, Padding, Reshape, Shape


@handles("RESHAPE")
def _reshape(t: Translator, node: Node) -> None:
    value = t.value(node, 0)
    # Old files have no input that says the shape; the output's own is what its options say.
    wanted = t.integers(node, 1).reshape(-1).tolist() if t.has(node, 1) else list(node.outputs[0].shape)
    _emit_reshape(t, node, _completed(wanted, value.elements))


def _completed(shape: list[int], elements: int) -> Shape:
    """Return a shape in which at most one size is −1, for what is left."""
    known = prod(size for size in shape if size != -1)
    if shape.count(-1) == 1 and known > 0 and elements % known == 0:
        shape = [elements // known if size == -1 else size for size in shape]
    if min(shape, default=1) < 1 or prod(shape) != elements:
        raise ZeropointError(f"gives {elements} elements the shape {tuple(shape)}")
    return tuple(shape)


def _emit_reshape(t: Translator, node: Node, shape: Shape) -> None:
    t.emit(Reshape, node, file_shape=shape, input=t.value(node, 0).tensor, shape=sample_shape(shape))


@handles("SQUEEZE", "EXPAND_DIMS")
def _reshape_by_ones(t: Translator, node: Node) -> None:
    value, shape = t.value(node, 0), node.outputs[0].shape
    without_ones = [[size for size in sizes if size != 1] for sizes in (value.shape, shape)]
    if without_ones[0] != without_ones[1]:
        raise ZeropointError(f"makes {shape} of {value.shape}, but may only add or remove dimensions of 1")
    _emit_reshape(t, node, shape)


@handles("PAD")
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
    sides = np.concatenate([np.zeros(2 * (4 - rank), np.int64), amounts[1:-1].reshape(-1)])
    image = (*(1,) * (4 - rank), *value.shape[1:])
    shape = tuple(int(size) for size in np.asarray(value.shape) + amounts.sum(axis=1))
    t.emit(Pad, node, file_shape=shape, input=t.as_shape(value, image), padding=Padding(*sides.tolist()))


# What Keras computes shapes with, for batches of open size: only constants come out.


@handles("SHAPE")
def _shape(t: Translator, node: Node) -> None:
    t.set_constant(node, np.asarray(t.value(node, 0).shape, np.int64))


@handles("PACK")
def _pack(t: Translator, node: Node) -> None:
    parts = [t.integers(node, position) for position in range(len(node.inputs))]
    axis = node.option("Axis")
    if len({part.shape for part in parts}) != 1 or not -parts[0].ndim - 1 <= axis <= parts[0].ndim:
        raise ZeropointError("packs arrays that do not fit together")
    t.set_constant(node, np.stack(parts, axis))


@handles("STRIDED_SLICE")
def _strided_slice(t: Translator, node: Node) -> None:
    if not t.is_constant(node, 0):
        raise ZeropointError("is supported in the computation of shapes only")
    array = t.integers(node, 0)
    t.set_constant(node, np.asarray(array[slices(t, node, array.shape)]))


def slices(t: Translator, node: Node, shape: Shape) -> tuple[slice | int, ...]:
    """Return what STRIDED_SLICE takes of each dimension of an array: an index where the dimension goes away.

    Source: TensorFlow Lite ``kernels/internal/strided_slice_logic.h``.
    """
    limits = [t.integers(node, position).reshape(-1).tolist() for position in (1, 2, 3)]
    if any(len(limit) != len(shape) for limit in limits):
        raise ZeropointError(f"slices {shape} by {limits[0]}, {limits[1]} and {limits[2]}; each must be as long")
    if any(node.option(name) for name in ("EllipsisMask", "NewAxisMask")):
        raise ZeropointError("has an ellipsis or a new axis, which is not supported")
    taken: list[slice | int] = []
    for axis, (size, begin, end, stride) in enumerate(zip(shape, *limits, strict=True)):
        if node.option("Offset"):
            end += begin
        if _bit(node, "ShrinkAxisMask", axis):
            if not -size <= begin < size:
                raise ZeropointError(f"takes index {begin} of dimension {axis} of {shape}")
            taken.append(begin)
            continue
        if stride == 0:
            raise ZeropointError(f"has a stride of 0 in dimension {axis}")
        taken.append(
            slice(
                None if _bit(node, "BeginMask", axis) else begin, None if _bit(node, "EndMask", axis) else end, stride
            )
        )
    return tuple(taken)


def _bit(node: Node, mask: str, axis: int) -> bool:
    return bool(node.option(mask) >> axis & 1)
