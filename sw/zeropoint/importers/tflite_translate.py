"""From TensorFlow Lite's operators to ours, one at a time.

Each tensor of the file is an array, if it is constant, or a :class:`Value`: one of our tensors. The functions that
translate one operator each are in ``tflite_layers`` (those that sum), ``tflite_elementwise``, ``tflite_movement`` and
``tflite_shapes``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, prod
from typing import Any

import numpy as np
import numpy.typing as npt
import tflite

from zeropoint.errors import ZeropointError, quoted_list
from zeropoint.importers.names import Names
from zeropoint.importers.tflite_file import FileTensor, Graph, Node
from zeropoint.model import Clamp, Operator, Quantization, QuantizedModel, Reshape, Shape, Tensor
from zeropoint.model.graph import MAX_ELEMENTS

Array = npt.NDArray[Any]

#: All constants together: a small file may name the same bytes many times over.
MAX_CONSTANT_BYTES = 256 << 20
#: Elements of what computes shapes.
MAX_INTEGERS = 1024

#: What to do about networks that compute in other types.
QUANTIZE_FIRST = (
    "quantize the network first: convert it with full-integer quantization (int8), or export it as a float .onnx file "
    "for 'zeropoint quantize'"
)


@dataclass(frozen=True)
class Value:
    """An activation.

    Attributes
    ----------
    tensor
        Our tensor.
    shape
        As in the file, with the batch.
    """

    tensor: str
    shape: Shape

    @property
    def elements(self) -> int:
        """The number of elements, all of them of one sample."""
        return prod(self.shape)


Handler = Callable[["Translator", Node], None]

#: What translates each operator; the modules of handlers add theirs.
HANDLERS: dict[str, Handler] = {}


def handles(*operators: str) -> Callable[[Handler], Handler]:
    """Register a function that translates these operators."""

    def register(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(operators, handler))
        return handler

    return register


_FUSED = {
    tflite.ActivationFunctionType.NONE: Clamp(),
    tflite.ActivationFunctionType.RELU: Clamp(0.0, inf),
    tflite.ActivationFunctionType.RELU_N1_TO_1: Clamp(-1.0, 1.0),
    tflite.ActivationFunctionType.RELU6: Clamp(0.0, 6.0),
}


def fused_activation(node: Node) -> Clamp:
    """Return the clamp of an operator's fused activation."""
    function = node.options.get("FusedActivationFunction", tflite.ActivationFunctionType.NONE)
    if function not in _FUSED:
        raise ZeropointError(f"has the fused activation {function}, which is not supported; NONE and RELUs are")
    return _FUSED[function]


def sample_shape(shape: Shape) -> Shape:
    """Return the shape of one of our tensors for a shape of the file: without a leading batch of 1, if there is one."""
    return (shape[1:] if len(shape) > 1 and shape[0] == 1 else shape) or (1,)


class Translator:
    """Translates one graph; its methods are what handlers use.

    Handlers and methods raise ZeropointError with what is wrong; which operator it is gets added here.
    """

    def __init__(self, graph: Graph) -> None:
        self._metadata = {"source": "tflite"}
        self._nodes = self._without_float_ends(graph)
        self._names, self._operator_names = Names(), Names()
        self._tensors: dict[str, Tensor] = {}
        self._operators: list[Operator] = []
        self._values: dict[int, Value | Array] = {}
        self._constants: dict[tuple[Any, ...], str] = {}
        self._budget = MAX_CONSTANT_BYTES
        self._read = {self._output.index}
        self._read.update(tensor.index for node in self._nodes for tensor in node.inputs if tensor is not None)
        # Activations get the file's names before any constant does.
        activations = [self._input, *(tensor for node in self._nodes for tensor in node.outputs)]
        self._activation_names = {
            tensor.index: self._names.unique(tensor.name or f"tensor_{tensor.index}") for tensor in activations
        }

    def _without_float_ends(self, graph: Graph) -> tuple[Node, ...]:
        """Leave out a first operator that quantizes float inputs and a last one that dequantizes outputs."""
        nodes, self._input, self._output = list(graph.nodes), graph.input, graph.output
        readers = [node for node in nodes if self._input in node.inputs]
        if self._input.dtype == "float32" and [node.operator for node in readers] == ["QUANTIZE"]:
            self._metadata["float_input"] = self._input.name
            self._input = readers[0].outputs[0]
            nodes.remove(readers[0])
        writers = [node for node in nodes if self._output in node.outputs]
        if self._output.dtype == "float32" and [node.operator for node in writers] == ["DEQUANTIZE"]:
            source = self._operand(writers[0], 0)
            self._metadata["float_output"] = self._output.name
            nodes.remove(writers[0])
            self._output = source
        return tuple(nodes)

    def run(self, name: str) -> QuantizedModel:
        """Return the network as a model of this name.

        Raises
        ------
        ZeropointError
            If something cannot be translated.
        """
        for node in self._nodes:
            if node.operator not in HANDLERS:
                supported = quoted_list(sorted(HANDLERS), len(HANDLERS))
                raise ZeropointError(f"{node.label}: is not supported; supported operators are {supported}")
        self._add_input()
        for node in self._nodes:
            try:
                HANDLERS[node.operator](self, node)
            except ZeropointError as error:
                raise ZeropointError(f"{node.label}: {error}") from None
        output = self._values.get(self._output.index)
        if not isinstance(output, Value):
            raise ZeropointError(f"output {self._output.label} does not depend on the input")
        return QuantizedModel(
            name, self._tensors, tuple(self._operators), self._tensor_name(self._input), output.tensor, self._metadata
        )

    def _add_input(self) -> None:
        tensor = self._input
        if tensor.data is not None:
            raise ZeropointError(f"input {tensor.label} is a constant; convert or copy the file again")
        if tensor.open:
            raise ZeropointError(f"input {tensor.label} has sizes that are open; convert the network with fixed ones")
        if len(tensor.shape) > 1 and tensor.shape[0] != 1:
            raise ZeropointError(
                f"input {tensor.label} has shape {tensor.shape}, but must have a batch of 1 as its first dimension; "
                f"convert the network so"
            )
        try:
            self._add_activation(tensor, self._tensor_name(tensor), sample_shape(tensor.shape))
        except ZeropointError as error:
            raise ZeropointError(f"input {error}") from None
        self._values[tensor.index] = Value(self._tensor_name(tensor), tensor.shape)

    def _tensor_name(self, tensor: FileTensor) -> str:
        return self._activation_names[tensor.index]

    # What handlers ask

    @staticmethod
    def _operand(node: Node, position: int) -> FileTensor:
        tensor = node.inputs[position] if position < len(node.inputs) else None
        if tensor is None:
            raise ZeropointError(f"lacks input {position}")
        return tensor

    def has(self, node: Node, position: int) -> bool:
        """Return whether an operator has this optional input."""
        return position < len(node.inputs) and node.inputs[position] is not None

    def is_constant(self, node: Node, position: int) -> bool:
        """Return whether an operator's input does not depend on the network's."""
        tensor = self._operand(node, position)
        return tensor.data is not None or isinstance(self._values.get(tensor.index), np.ndarray)

    def value(self, node: Node, position: int) -> Value:
        """Return an input that must be an activation."""
        tensor = self._operand(node, position)
        value = self._values.get(tensor.index)
        if not isinstance(value, Value):
            raise ZeropointError(f"reads {tensor.label}, which must be computed from the network's input")
        return value

    def image(self, node: Node, position: int = 0) -> Value:
        """Return an input that must be a feature map ``(1, height, width, channels)``."""
        value = self.value(node, position)
        if len(value.shape) != 4 or value.shape[0] != 1:
            raise ZeropointError(f"takes a feature map (1, height, width, channels), not {value.shape}")
        return value

    def constant(self, node: Node, position: int) -> FileTensor:
        """Return an input that must be constant in the file."""
        tensor = self._operand(node, position)
        if tensor.data is None:
            raise ZeropointError(f"reads {tensor.label}, which must be constant, but is computed")
        return tensor

    def integers(self, node: Node, position: int) -> Array:
        """Return an input of int32 or int64 that is constant, or is computed from shapes only."""
        tensor = self._operand(node, position)
        value = self._values.get(tensor.index) if tensor.data is None else tensor.data
        if not isinstance(value, np.ndarray) or value.dtype.kind != "i" or value.itemsize < 4:
            raise ZeropointError(f"reads {tensor.label}, which must be constant int32 or int64")
        if value.size > MAX_INTEGERS:
            raise ZeropointError(f"reads {tensor.label} of {value.size} integers; {MAX_INTEGERS} at most")
        return value.astype(np.int64)

    def tensor(self, name: str) -> Tensor:
        """Return one of our tensors."""
        return self._tensors[name]

    # What handlers make

    def set_constant(self, node: Node, value: Array) -> None:
        """Say that a node's output is a constant that was computed from shapes."""
        if value.size > MAX_INTEGERS:
            raise ZeropointError(f"gives {value.size} integers; {MAX_INTEGERS} at most")
        self._values[node.outputs[0].index] = value

    def as_shape(self, value: Value, shape: Shape) -> str:
        """Return our tensor of a value under another shape."""
        source = self._tensors[value.tensor]
        if source.shape == shape:
            return source.name
        name = self._names.unique(f"{source.name}.reshaped")
        self._tensors[name] = Tensor(name, shape, source.dtype, source.quantization)
        self._add_reshape(source.name, name)
        return name

    def _add_reshape(self, source: str, target: str) -> None:
        name = self._operator_names.unique(f"reshape_{len(self._operators)}")
        self._operators.append(Reshape(name=name, input=source, output=target, shape=self._tensors[target].shape))

    def add_weights(self, tensor: FileTensor, data: Array, axis: int) -> str:
        """Add a constant and return its name: ``data``, whose scales run along ``axis`` if there are several."""
        quantization = _quantization(tensor, axis if len(tensor.scale) > 1 else None)
        return self._add_constant(tensor, ("weights", data.shape), data, quantization)

    def add_operand(self, tensor: FileTensor, beside: Value) -> str:
        """Add a constant with one scale that is an operand beside an activation, and return its name."""
        data = tensor.data
        assert data is not None
        if tensor.dtype != self._tensors[beside.tensor].dtype or len(tensor.scale) != 1:
            raise ZeropointError(
                f"has the constant {tensor.label} of {tensor.dtype} with {len(tensor.scale)} scales, but needs "
                f"{self._tensors[beside.tensor].dtype} with one"
            )
        # Sizes of 1 in front mean nothing to an operand; one of them stands for the batch.
        while data.ndim > 1 and data.shape[0] == 1:
            data = data[0]
        data = data.reshape(data.shape or (1,))
        return self._add_constant(tensor, ("operand",), data, _quantization(tensor, None))

    def add_bias(self, tensor: FileTensor, channels: int, source: str, weights: str) -> str:
        """Add the bias of a layer that reads ``source`` with ``weights``, and return its name."""
        data = tensor.data
        if tensor.dtype != "int32" or data is None or data.size != channels:
            size = 0 if data is None else data.size
            raise ZeropointError(
                f"bias {tensor.label} must be int32 with {channels} values, not {tensor.dtype} with {size}"
            )
        quantization = self._tensors[weights].quantization
        assert quantization is not None
        # The file's own scales of a bias are this product, too, if it has any; nothing computes with them.
        with np.errstate(over="ignore", under="ignore"):
            scale = np.float32(self._tensors[source].scale) * np.asarray(quantization.scale, np.float32)
        scale = np.clip(scale, np.finfo(np.float32).tiny, np.finfo(np.float32).max)
        along = None if quantization.axis is None else 0
        made = Quantization(tuple(scale.tolist()), (0,) * len(scale), along)
        return self._add_constant(tensor, ("bias", source, weights), data.reshape(-1), made)

    def _add_constant(self, tensor: FileTensor, use: tuple[Any, ...], data: Array, quantization: Quantization) -> str:
        """Add a constant, unless the same tensor has been put to the same use before."""
        key = (tensor.index, *use)
        if key not in self._constants:
            self._budget -= data.nbytes
            if self._budget < 0:
                raise ZeropointError(f"needs constants of more than {MAX_CONSTANT_BYTES} bytes in all")
            name = self._names.unique(tensor.name or f"constant_{tensor.index}")
            self._constants[key] = name
            self._tensors[name] = Tensor(name, data.shape, tensor.dtype, quantization, data)
        return self._constants[key]

    def is_needed(self, node: Node, index: int) -> bool:
        """Return whether anything reads an output of a node that has several."""
        return node.outputs[index].index in self._read

    def emit(
        self, kind: type[Operator], node: Node, *, file_shape: Shape | None = None, index: int = 0, **fields: Any
    ) -> None:
        """Add the operator that computes a node's output.

        Parameters
        ----------
        file_shape
            The output's shape as the file has it; by default the operator's, with a batch of 1 in front.
        index
            Which output, of a node that has several.
        fields
            The operator's own.
        """
        target = node.outputs[index]
        name = self._operator_names.unique(f"{node.operator.lower()}_{node.index}")
        output = self._tensor_name(target)
        try:
            operator = kind(name=name, output=output, **fields)
            inputs = (*operator.inputs, *operator.constants)
            shape = operator.output_shape(*(self._tensors[tensor].shape for tensor in inputs))
        except ValueError as error:
            raise ZeropointError(str(error)) from None
        file_shape = (1, *shape) if file_shape is None else file_shape
        if prod(shape) > MAX_ELEMENTS:
            raise ZeropointError(f"gives an output of shape {file_shape}; {MAX_ELEMENTS} elements at most")
        if target.shape != file_shape and not target.open:
            raise ZeropointError(f"its output is declared as {target.shape}, but is {file_shape}")
        self._values[target.index] = Value(output, file_shape)
        wanted = sample_shape(file_shape)
        if wanted == shape:
            self._add_activation(target, output, shape)
            self._operators.append(operator)
            return
        bare = self._names.unique(f"{output}.{operator.kind.lower()}")
        self._add_activation(target, bare, shape)
        self._add_activation(target, output, wanted)
        self._operators.append(replace(operator, output=bare))
        self._add_reshape(bare, output)

    def _add_activation(self, tensor: FileTensor, name: str, shape: Shape) -> None:
        if tensor.dtype not in ("int8", "uint8"):
            raise ZeropointError(f"{tensor.label} is {tensor.dtype}, but must be int8 or uint8; {QUANTIZE_FIRST}")
        if not tensor.scale:
            raise ZeropointError(f"{tensor.label} has no scale and zero point; {QUANTIZE_FIRST}")
        if len(tensor.scale) > 1:
            raise ZeropointError(f"{tensor.label} has {len(tensor.scale)} scales; an activation must have one")
        self._tensors[name] = Tensor(name, shape, tensor.dtype, _quantization(tensor, None))


def _quantization(tensor: FileTensor, axis: int | None) -> Quantization:
    try:
        return Quantization(tensor.scale, tensor.zero_point, axis)
    except ValueError as error:
        raise ZeropointError(f"tensor {tensor.label}: {error}") from None
