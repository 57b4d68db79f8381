"""Translation of a network between QuantizeLinear and DequantizeLinear: a float network's, with quantizations noted.

Activations become those of a float model, in which :class:`FakeQuantize` stands where a QuantizeLinear does. Integers
that the file passes on, and those that DequantizeLinear makes of them, are the same of our tensors. Constants become
the real values that they stand for; which integers those were is noted beside the model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from zeropoint.errors import ZeropointError, quoted_list
from zeropoint.importers.onnx_float_arrays import MAX_CONSTANT_BYTES
from zeropoint.importers.onnx_float_constants import evaluate
from zeropoint.importers.onnx_float_file import Graph, Node
from zeropoint.importers.onnx_float_translate import Translator, Value
from zeropoint.importers.onnx_float_view import Groups, View
from zeropoint.importers.onnx_quantized_lower import LOWERED
from zeropoint.model import Operator, Quantization, Shape

Array = npt.NDArray[Any]

#: What may act on integers themselves, because their order is that of the real values.
_MOVERS = ("DequantizeLinear", "Flatten", "Identity", "MaxPool", "Pad", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
#: What moves the elements of a constant.
_CONSTANT_MOVERS = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
_ACTIVATION_TYPES = ("int8", "uint8")
_OUTPUT_TYPES = {TensorProto.UNDEFINED: "uint8", TensorProto.INT8: "int8", TensorProto.UINT8: "uint8"}


@dataclass(frozen=True)
class Encoding:
    """How an activation's real values are integers."""

    dtype: str
    scale: float
    zero_point: int

    @property
    def quantization(self) -> Quantization:
        """Scale and zero point, as a tensor of a model holds them."""
        return Quantization((self.scale,), (self.zero_point,))


@dataclass(frozen=True, kw_only=True)
class FakeQuantize(Operator):
    """The same values, as far as their quantization holds them; only within this importer, and gone when it is done."""

    encoding: Encoding

    @property
    def kind(self) -> str:
        """The operator that it stands for, as shown to people."""
        return "QuantizeLinear"

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the input's shape."""
        return shapes[0]


@dataclass(frozen=True, eq=False)
class Integers:
    """The integers of a constant whose real values are in a float model.

    Attributes
    ----------
    name
        In the file.
    data
        In the file's order of axes.
    scale
        A single value; or one for each element, as the scales that differ may run along any axis.
    zero_point
        A single value; 0 if the file's differ, which have then been subtracted from ``data``.
    dtype
        In the file.
    """

    name: str
    data: Array
    scale: Array
    zero_point: int
    dtype: str


class QuantizedTranslator(Translator):
    """Translates one graph, on which ``lower`` has been.

    Parameters
    ----------
    graph, order
        As for the float networks' translator.

    Attributes
    ----------
    constants
        The integers behind constants of the model, by their name there. Scales that differ run along the output
        channels, one for each.
    """

    beside: ClassVar[frozenset[str]] = frozenset((*LOWERED, "QuantizeLinear", "DequantizeLinear"))

    def __init__(self, graph: Graph, order: Mapping[int, Groups]) -> None:
        super().__init__(graph, order)
        self.constants: dict[str, Integers] = {}
        self._node: Node | None = None
        # Of the file's tensors of integers that are not constant; None as long as no DequantizeLinear has said it.
        self._encodings: dict[str, Encoding | None] = {}
        if graph.input_type != "float32":
            self._encodings[graph.input] = None
        # Behind the file's constants of real values.
        self._integers: dict[str, Integers] = {}

    def _translate(self, node: Node) -> None:
        self._node = node
        match node.operator:
            case "QuantizeLinear":
                self._values[node.outputs[0]] = self._quantize(node)
            case "DequantizeLinear":
                self._values[node.outputs[0]] = self._dequantize(node)
            case _:
                self._translate_other(node)

    def _translate_other(self, node: Node) -> None:
        integers = next((name for name in node.inputs if name in self._encodings), None)
        known = node.operator in _MOVERS or node.operator == "Shape"
        if integers is not None and not known:
            raise ZeropointError(
                f"reads the integers '{integers}'; only {quoted_list(_MOVERS, len(_MOVERS))} may, and operators whose "
                f"names begin with QLinear: put a DequantizeLinear between"
            )
        if integers is not None and node.operator == "Pad":
            node = self._without_value(node, integers)
        super()._translate(node)
        if integers is not None and node.operator != "Shape":
            self._encodings[node.outputs[0]] = self._encodings[integers]
        if node.operator in _CONSTANT_MOVERS and node.inputs[0] in self._integers:
            self._integers[node.outputs[0]] = self._moved(node)

    def _hint(self, node: Node) -> str:
        if node.operator in (
            "DynamicQuantizeLinear",
            "ConvInteger",
            "MatMulInteger",
            "com.microsoft::MatMulIntegerToFloat",
        ):
            return "its scales are computed at run time: quantize the network statically"
        return "quantize the network without it"

    # Activations

    def _quantize(self, node: Node) -> Value:
        dtype = self._quantized_type(node)
        if not self._is_activation(node):
            return self._quantized_constant(node, dtype)
        view = self.view(node, 0, batch_first=False)
        if node.inputs[0] in self._encodings:
            raise ZeropointError(
                f"quantizes '{node.inputs[0]}', which are integers already; put a DequantizeLinear between"
            )
        encoding = self._encoding(node, dtype)
        self._encodings[node.outputs[0]] = encoding
        return replace(view, tensor=self.emit(FakeQuantize, node, input=view.tensor, encoding=encoding))

    def _dequantize(self, node: Node) -> Value:
        if not self._is_activation(node):
            return self._dequantized_constant(node)
        name = node.inputs[0]
        view = self.view(node, 0, batch_first=False)
        if name not in self._encodings:
            raise ZeropointError(f"dequantizes '{name}', which are not integers; put a QuantizeLinear before it")
        known = self._encodings[name]
        dtype = self._zero_point_type(node) or (known.dtype if known else self.graph.input_type)
        encoding = self._encoding(node, dtype)
        if known is None:
            return replace(view, tensor=self.emit(FakeQuantize, node, input=view.tensor, encoding=encoding))
        if known != encoding:
            raise ZeropointError(f"takes '{name}' for {_described(encoding)}, but they are {_described(known)}")
        return view

    def _is_activation(self, node: Node) -> bool:
        if not self.has(node, 0) or not node.outputs:
            raise ZeropointError("lacks its input or output")
        return isinstance(self._values.get(node.inputs[0]), View)

    def _quantized_type(self, node: Node) -> str:
        """Return the type that a QuantizeLinear gives."""
        asked = node.integer("output_dtype", TensorProto.UNDEFINED)
        dtype = self._zero_point_type(node) or _OUTPUT_TYPES.get(asked, "")
        if dtype not in _ACTIVATION_TYPES:
            what = dtype or (TensorProto.DataType.Name(asked) if asked in TensorProto.DataType.values() else asked)
            raise ZeropointError(f"quantizes to {what}; int8 and uint8 are supported")
        return dtype

    def _zero_point_type(self, node: Node) -> str | None:
        return self.constant(node, 2).dtype.name if self.has(node, 2) else None

    def _encoding(self, node: Node, dtype: str) -> Encoding:
        """Return the encoding that a node's scale and zero point give an activation."""
        scale, zero_point = self._parameters(node)
        if scale.size != 1 or zero_point.size != 1:
            raise ZeropointError(f"has {scale.size} scales for an activation; one for the whole tensor is supported")
        return Encoding(dtype, float(scale.reshape(())), int(zero_point.reshape(())))

    def _parameters(self, node: Node) -> tuple[Array, Array]:
        """Return a node's scale and zero point, checked."""
        scale = self.constant(node, 1)
        if scale.dtype != np.float32 or scale.ndim > 1 or not scale.size:
            raise ZeropointError(
                f"scale '{node.inputs[1]}' must be one float32 value, or a list of them, not {scale.dtype.name} of "
                f"shape {scale.shape}"
            )
        if not np.all(np.isfinite(scale)) or np.any(scale < np.finfo(np.float32).tiny):
            raise ZeropointError(f"scale '{node.inputs[1]}' must be positive and finite")
        zero_point = self.constant(node, 2) if self.has(node, 2) else np.zeros(scale.shape, np.int32)
        if zero_point.dtype.kind not in "iu" or zero_point.size != scale.size:
            raise ZeropointError(
                f"zero point '{node.inputs[2]}' must be {scale.size} integers, like its scale, not "
                f"{zero_point.dtype.name} of shape {zero_point.shape}"
            )
        return scale, zero_point.astype(np.int32)

    def _without_value(self, node: Node, integers: str) -> Node:
        """Return a Pad of integers as one of real values, if what it pads with is the zero point."""
        encoding = self._encodings[integers]
        if self.graph.opset < 11:
            value = node.attributes.get("value", 0.0)
        else:
            value = self.constant(node, 2) if self.has(node, 2) else 0
        if encoding is None or np.size(value) != 1 or np.any(value != np.float64(encoding.zero_point)):
            raise ZeropointError(f"pads the integers '{integers}' with something other than their zero point")
        attributes = {key: entry for key, entry in node.attributes.items() if key != "value"}
        inputs = tuple("" if index == 2 else name for index, name in enumerate(node.inputs))
        return replace(node, inputs=inputs, attributes=attributes)

    # Constants

    def _along(self, node: Node, values: Array, shape: Shape) -> Array:
        """Return one value for all, or a list for each index of the node's axis, as an array that broadcasts."""
        if values.size == 1:
            return values.reshape(())
        axis = node.integer("axis", 1)
        if node.integer("block_size", 0):
            raise ZeropointError("has scales for blocks; one for the tensor or for each output channel is supported")
        if not -len(shape) <= axis < len(shape) or shape[axis] != values.size:
            raise ZeropointError(
                f"has {values.size} scales for dimension {axis} of '{node.inputs[0]}' of shape {shape}"
            )
        return values.reshape(*(-1 if dimension == axis % len(shape) else 1 for dimension in range(len(shape))))

    def _quantized_constant(self, node: Node, dtype: str) -> Array:
        """Return the integers that a QuantizeLinear makes of a constant: rounded half to even, saturated."""
        data = self.floats(node, 0)
        scale, zero_point = (self._along(node, values, data.shape) for values in self._parameters(node))
        bounds = np.iinfo(dtype)
        self._spend(data.size)
        with np.errstate(over="ignore"):
            steps = np.rint(data / scale).astype(np.float64) + zero_point
        return np.clip(steps, bounds.min, bounds.max).astype(dtype)

    def _dequantized_constant(self, node: Node) -> Array:
        """Return the real values of a constant, and note its integers."""
        data = self.constant(node, 0)
        if data.dtype.name not in (*_ACTIVATION_TYPES, "int32"):
            raise ZeropointError(f"'{node.inputs[0]}' is {data.dtype.name}; int8, uint8 and int32 are supported")
        scale, zero_point = (self._along(node, values, data.shape) for values in self._parameters(node))
        if np.any(zero_point) and data.dtype == np.int32:
            raise ZeropointError(f"'{node.inputs[0]}' is int32, whose zero point must be 0")
        self._spend(8 * data.size)
        if zero_point.ndim and len(set(zero_point.flat)) == 1:
            zero_point = zero_point.reshape(-1)[0]
        self._integers[node.outputs[0]] = Integers(
            node.inputs[0],
            data if not zero_point.ndim else data - zero_point,
            scale if not scale.ndim else np.broadcast_to(scale, data.shape),
            0 if zero_point.ndim else int(zero_point),
            data.dtype.name,
        )
        with np.errstate(over="ignore"):
            return ((data.astype(np.float64) - zero_point) * scale).astype(np.float32)

    def _spend(self, size: int) -> None:
        self._budget -= size
        if self._budget < 0:
            raise ZeropointError(f"makes constants of more than {MAX_CONSTANT_BYTES} bytes in all")

    def _moved(self, node: Node) -> Integers:
        """Return the integers of a constant that a node has moved."""
        integers = self._integers[node.inputs[0]]
        others = [self._values[name] if name else None for name in node.inputs[1:]]
        rest = [other for other in others if not isinstance(other, View)]

        def moved(array: Array) -> Array:
            return evaluate(node, [array, *rest], self.graph.opset, self._budget)[0]

        scale = moved(integers.scale) if integers.scale.ndim else integers.scale
        return replace(integers, data=moved(integers.data), scale=scale)

    def add_constant(self, name: str, data: Array) -> str:
        """Add a constant tensor and return its name, which is that of its integers if it has any; and note these."""
        integers = self._integers.get(name)
        if integers is None:
            return super().add_constant(name, data)
        made = super().add_constant(integers.name, data)
        assert self._node is not None
        scale = integers.scale
        if scale.ndim and name == self._node.inputs[1]:
            scale = _channel_scales(self._node, integers)
        self.constants[made] = replace(integers, scale=scale.reshape(-1) if scale.ndim else scale)
        return made


def _channel_scales(node: Node, weights: Integers) -> Array:
    """Return the scales of a layer's weights, one for each output channel."""
    axis = {"Conv": 0, "MatMul": -1, "Gemm": 0 if node.flag("transB") else -1}[node.operator]
    rows = np.moveaxis(weights.scale, axis, 0)
    rows = rows.reshape(len(rows), -1)
    if np.any(rows != rows[:, :1]):
        raise ZeropointError(
            f"weights '{weights.name}' have scales that differ along another dimension than that of output channels"
        )
    return rows[:, 0].copy()


def _described(encoding: Encoding) -> str:
    return f"{encoding.dtype} of scale {encoding.scale:.9g} and zero point {encoding.zero_point}"
