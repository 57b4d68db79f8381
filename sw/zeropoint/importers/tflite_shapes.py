"""TensorFlow Lite's operators that read values under another shape, and those that compute shapes."""

from math import prod

import numpy as np

from zeropoint.errors import ZeropointError
from zeropoint.importers.tflite_file import Node
from zeropoint.importers.tflite_translate import Translator, handles, sample_shape
from zeropoint.model import Reshape, Shape


@handles("RESHAPE")
def _reshape(t: Translator, node: Node) -> None:
    value = t.value(node, 0)
    # Old files have no input that says the shape; the output's own is what its options say.
    wanted = t.integers(node, 1).reshape(-1).tolist() if t.has(node, 1) else list(node.outputs[0].shape)
    emit_reshape(t, node, _completed(wanted, value.elements))


def _completed(shape: list[int], elements: int) -> Shape:
    """Return a shape in which at most one size is −1, for what is left."""
    known = prod(size for size in shape if size != -1)
    if shape.count(-1) == 1 and known > 0 and elements % known == 0:
        shape = [elements // known if size == -1 else size for size in shape]
    if min(shape, default=1) < 1 or prod(shape) != elements:
        raise ZeropointError(f"gives {elements} elements the shape {tuple(shape)}")
    return tuple(shape)


def emit_reshape(t: Translator, node: Node, shape: Shape) -> None:
    """Say that a node's output is its first input under another shape."""
    t.emit(Reshape, node, file_shape=shape, input=t.value(node, 0).tensor, shape=sample_shape(shape))


@handles("SQUEEZE", "EXPAND_DIMS")
def _reshape_by_ones(t: Translator, node: Node) -> None:
    value, shape = t.value(node, 0), node.outputs[0].shape
    without_ones = [[size for size in sizes if size != 1] for sizes in (value.shape, shape)]
    if without_ones[0] != without_ones[1]:
        raise ZeropointError(f"makes {shape} of {value.shape}, but may only add or remove dimensions of 1")
    emit_reshape(t, node, shape)


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
