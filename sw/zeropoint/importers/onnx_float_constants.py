"""Evaluating the nodes whose inputs are all constant, such as what computes the shape for a Reshape."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from zeropoint.errors import ZeropointError
from zeropoint.importers.onnx_float_arrays import MAX_CONSTANT_BYTES
from zeropoint.importers.onnx_float_file import Node

Array = npt.NDArray[Any]

#: Operators whose result follows from their inputs alone, in time proportional to the sizes of inputs and result.
# fmt: off
FOLDABLE = frozenset((
    "Abs", "Add", "And", "Cast", "Ceil", "Clip", "Concat", "ConstantOfShape", "Div", "Equal", "Exp", "Expand",
    "Flatten", "Floor", "Gather", "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Log", "Max",
    "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pad", "Pow", "Range", "Reciprocal", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "Relu", "Reshape", "Round", "Shape", "Sigmoid", "Sign", "Size",
    "Slice", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Tile", "Transpose", "Trilu", "Unsqueeze",
    "Where",
))
# fmt: on
#: Inputs up to this size are shown to shape inference, as what a Reshape, an Expand or a Range gives depends on them.
_SHOWN_ELEMENTS = 1024
_VALUES = ("value_float", "value_floats", "value_int", "value_ints")


def constant(node: Node) -> Array:
    """Return what a Constant node holds."""
    found = list(node.attributes.items())
    if len(found) == 1:
        name, value = found[0]
        if name == "value":
            return np.asarray(value)
        if name in _VALUES:
            return np.asarray(value, np.float32 if name.startswith("value_float") else np.int64)
    raise ZeropointError(f"must have one of the attributes value, {', '.join(_VALUES)}")


def evaluate(node: Node, inputs: Sequence[Array | None], opset: int, budget: int) -> list[Array]:
    """Return a node's outputs, given constant inputs.

    Parameters
    ----------
    node
        Its operator is one of ``FOLDABLE``.
    inputs
        One for each of the node's, None for one that is left out.
    opset
        The version of ONNX's operators.
    budget
        How many bytes the outputs may have; this is checked before they are computed.

    Raises
    ------
    ZeropointError
        If the inputs do not fit the operator, or the outputs the budget.
    """
    # Imported here, as it takes half a second and most networks fold nothing.
    from onnx.reference import ReferenceEvaluator

    feeds = {name: array for name, array in zip(node.inputs, inputs, strict=True) if array is not None}
    outputs = [name for name in node.outputs if name]
    model = _model(node, feeds, outputs, opset)
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:  # of various types, by version
        raise ZeropointError(f"cannot be evaluated: {one_line(error)}") from None
    total = sum(_bytes(value) for value in inferred.graph.output)
    if total > budget:
        raise ZeropointError(
            f"would make constants of {total} bytes; those of a network may have {MAX_CONSTANT_BYTES} together"
        )
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(model).run(None, feeds)
    except Exception as error:  # whatever NumPy raises for inputs that do not fit
        raise ZeropointError(f"cannot be evaluated: {one_line(error)}") from None
    return [np.asarray(result) for result in results]


def one_line(error: object) -> str:
    """Return an error's text, without line breaks and not too long."""
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:199] + "…"


def _model(node: Node, feeds: dict[str, Array], outputs: list[str], opset: int) -> Any:
    """Return a model of the one node, in which small inputs are constants and others have types only."""
    typed = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    shown = [
        onnx.numpy_helper.from_array(array, name) for name, array in feeds.items() if array.size <= _SHOWN_ELEMENTS
    ]
    untyped = [onnx.ValueInfoProto(name=name) for name in outputs]
    graph = onnx.helper.make_graph([node.proto], "constant", typed, untyped, shown)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])


def _bytes(value: Any) -> int:
    """Return the size of a tensor that shape inference has found, if it has."""
    kind = value.type.tensor_type
    dims = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim]
    if kind.elem_type == TensorProto.UNDEFINED or not kind.HasField("shape") or any(dim < 0 for dim in dims):
        raise ZeropointError(f"makes a constant '{value.name}' of unknown size; fold it before with onnx-simplifier")
    if kind.elem_type == TensorProto.STRING:
        raise ZeropointError(f"makes a constant '{value.name}' of strings; export the network in float32")
    return prod(dims) * int(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize)
