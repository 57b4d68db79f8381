"""ONNX operators that compute nothing: they say how the same values are to be read, or pass them on."""

from math import prod

import numpy as np
from onnx import TensorProto

from zeropoint.errors import ZeropointError
from zeropoint.importers.onnx_float_arrays import MAX_RANK
from zeropoint.importers.onnx_float_file import Node
from zeropoint.importers.onnx_float_translate import Array, Translator, handles
from zeropoint.importers.onnx_float_view import View
from zeropoint.model import Shape


@handles("Shape")
def _shape(t: Translator, node: Node) -> Array:
    view = t.view(node, 0)
    sizes = np.array((t.graph.batch, *view.sizes), np.int64)
    return sizes[slice(node.attributes.get("start", 0), node.attributes.get("end"))]


@handles("Reshape")
def _reshape(t: Translator, node: Node) -> View:
    view = t.view(node, 0)
    target = list(t.integers(node, 1))
    old = (t.graph.batch, *view.sizes)
    if not node.flag("allowzero"):
        target = [old[axis] if size == 0 and axis < len(old) else size for axis, size in enumerate(target)]
    known = prod(size for size in target if size != -1)
    if target.count(-1) == 1 and known > 0:
        target[target.index(-1)] = prod(old) // known
    return _read_as(t, view, tuple(target))


@handles("Flatten")
def _flatten(t: Translator, node: Node) -> View:
    view = t.view(node, 0)
    old = (t.graph.batch, *view.sizes)
    axis = node.attributes.get("axis", 1)
    if not -len(old) <= axis <= len(old):
        raise ZeropointError(f"has axis {axis}, but its input has {len(old)} dimensions")
    axis = axis + len(old) if axis < 0 else axis
    return _read_as(t, view, (prod(old[:axis]), prod(old[axis:])))


def _read_as(t: Translator, view: View, sizes: Shape) -> View:
    """Return a view with other ONNX sizes, the batch's included."""
    old = (t.graph.batch, *view.sizes)
    if any(size < 1 for size in sizes) or prod(sizes) != prod(old):
        raise ZeropointError(f"cannot give the shape {old} the shape {sizes}")
    if not sizes or sizes[0] != t.graph.batch:
        raise ZeropointError(f"merges the batch into other dimensions, from {old} to {sizes}; keep the first as it is")
    _check_rank(len(sizes))
    return view.reshaped(sizes[1:])


def _check_rank(rank: int) -> None:
    if rank > MAX_RANK:
        raise ZeropointError(f"gives a tensor {rank} dimensions; {MAX_RANK} at most")


@handles("Squeeze")
def _squeeze(t: Translator, node: Node) -> View:
    view = t.view(node, 0, batch_first=False)
    axes = _axes(t, node, len(view.all_axes))
    if axes is None:
        ones = {axis for axis, factors in enumerate(view.all_axes) if factors == ()}
        axes = ones | ({view.batch} if t.graph.batch == 1 else set())
    if view.batch in axes:
        raise ZeropointError("removes the batch dimension; export it with the axes to remove, without the batch")
    if any(view.all_axes[axis] for axis in axes):
        raise ZeropointError(f"removes dimensions {sorted(axes)} of {view.described}, which are not all 1")
    return view.with_axes(factors for axis, factors in enumerate(view.all_axes) if axis not in axes)


@handles("Unsqueeze")
def _unsqueeze(t: Translator, node: Node) -> View:
    view = t.view(node, 0, batch_first=False)
    given = node.attributes["axes"] if t.graph.opset < 13 else t.integers(node, 1)
    rank = len(view.all_axes) + len(given)
    _check_rank(rank)
    added = _axes(t, node, rank) or set()
    if len(added) != len(given):
        raise ZeropointError(f"adds a dimension twice, in {tuple(given)}")
    old = iter(view.all_axes)
    return view.with_axes(() if axis in added else next(old) for axis in range(rank))


def _axes(t: Translator, node: Node, rank: int) -> set[int] | None:
    """Return the axes of a Squeeze or an Unsqueeze, or None if it names none."""
    axes = node.attributes.get("axes")
    if t.graph.opset >= 13 and t.has(node, 1):
        axes = t.integers(node, 1)
    if axes is None:
        return None
    if not all(-rank <= axis < rank for axis in axes):
        raise ZeropointError(f"has axes {tuple(axes)}, but there are {rank} dimensions")
    return {axis % rank for axis in axes}


@handles("Transpose")
def _transpose(t: Translator, node: Node) -> View:
    view = t.view(node, 0, batch_first=False)
    rank = len(view.all_axes)
    permutation = list(node.attributes.get("perm", range(rank)[::-1]))
    if sorted(permutation) != list(range(rank)):
        raise ZeropointError(f"has perm {permutation}, which is no permutation of {rank} dimensions")
    return view.with_axes(view.all_axes[axis] for axis in permutation)


@handles("Identity")
def _identity(t: Translator, node: Node) -> View:
    return t.view(node, 0, batch_first=False)


@handles("Dropout")
def _dropout(t: Translator, node: Node) -> View:
    if t.has(node, 2) and np.any(t.constant(node, 2)):
        raise ZeropointError("is in training mode; export the network in evaluation mode")
    return t.view(node, 0, batch_first=False)


@handles("Cast")
def _cast(t: Translator, node: Node) -> View:
    if node.attributes["to"] != TensorProto.FLOAT:
        raise ZeropointError("changes the type of values; export the network in float32")
    return t.view(node, 0, batch_first=False)
