"""From ONNX nodes to our operators, one at a time, before anything is fused.

Each ONNX tensor is an array, if it is constant, or a :class:`~zeropoint.importers.onnx_float_view.View` of one of our
tensors. The functions that translate one operator each are in ``onnx_float_layers`` (those that compute) and
``onnx_float_shapes`` (those that say how the same values are to be read).
"""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
import onnx

from zeropoint.errors import ZeropointError, quoted_list
from zeropoint.importers.names import Names
from zeropoint.importers.onnx_float_arrays import MAX_CONSTANT_BYTES
from zeropoint.importers.onnx_float_constants import FOLDABLE, constant, evaluate, one_line
from zeropoint.importers.onnx_float_file import Graph, Node
from zeropoint.importers.onnx_float_view import AS_IN_FILE, CHANNELS_FIRST, Groups, LayoutError, View, orders
from zeropoint.model import FloatModel, Operator, Reshape, Shape, Tensor
from zeropoint.model.graph import MAX_ELEMENTS

Array = npt.NDArray[Any]
Value = View | Array
Handler = Callable[["Translator", Node], Value]
Result = TypeVar("Result")

#: What translates each operator; the modules of handlers add theirs.
HANDLERS: dict[str, Handler] = {}


def handles(*operators: str) -> Callable[[Handler], Handler]:
    """Register a function that translates nodes of these operators."""

    def register(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(operators, handler))
        return handler

    return register


def in_either_order(attempt: Callable[[Mapping[int, Groups]], Result]) -> Result:
    """Return what ``attempt`` makes of an input with its channels first.

    If its elements then lie the wrong way, the input is taken in the file's order.
    """
    try:
        return attempt(CHANNELS_FIRST)
    except LayoutError as first:
        try:
            return attempt(AS_IN_FILE)
        except LayoutError:
            raise first from None


class Translator:
    """Translates one graph; its methods are what handlers use.

    Handlers and methods raise ZeropointError with what is wrong; which node it is gets added here.

    Parameters
    ----------
    graph
        The network.
    order
        Which ONNX axes of the input, by its rank, make up the axes of our tensor.
    """

    #: Operators that are supported beside those with handlers.
    beside: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, graph: Graph, order: Mapping[int, Groups]) -> None:
        self.graph = graph
        rank = len(graph.input_shape)
        if rank not in order:
            raise ZeropointError(
                f"input '{graph.input}' has {rank + 1} dimensions with the batch; 2 to 4 are supported: "
                f"vectors, and feature maps of one or two spatial dimensions"
            )
        shape = tuple(prod(graph.input_shape[axis] for axis in group) for group in order[rank])
        self._input_groups = order[rank]
        self._operators: list[Operator] = []
        self._tensors = {graph.input: Tensor(graph.input, shape, "float32")}
        self._values: dict[str, Value] = {**graph.constants, graph.input: View.of(graph.input, shape, order[rank])}
        self._tensor_names = Names(graph.names)
        self._operator_names = Names()
        self._reshaped: dict[tuple[str, Shape], str] = {}
        self._budget = MAX_CONSTANT_BYTES

    def run(self, name: str) -> FloatModel:
        """Return the network as a model of this name, nothing fused yet.

        Raises
        ------
        LayoutError
            If an operator needs an order of elements that the input's order does not lead to.
        ZeropointError
            For everything else that cannot be translated.
        """
        for node in self.graph.nodes:
            try:
                self._translate(node)
            except ZeropointError as error:
                raise type(error)(f"{node.label}: {error}") from None
        return self._finish(name)

    def _translate(self, node: Node) -> None:
        self._check(node)
        inputs = [self._values.get(name) if name else None for name in node.inputs]
        for name, value in zip(node.inputs, inputs, strict=True):
            if name and value is None:
                raise ZeropointError(f"reads '{name}', an output of another node that is not supported")
        arrays = [value for value in inputs if not isinstance(value, View)]
        if node.operator == "Constant":
            self._values[node.outputs[0]] = constant(node)
        elif len(arrays) < len(inputs):
            self._values[node.outputs[0]] = HANDLERS[node.operator](self, node)
        else:
            outputs = evaluate(node, arrays, self.graph.opset, self._budget)
            self._budget -= sum(array.nbytes for array in outputs)
            self._values.update(zip(filter(None, node.outputs), outputs, strict=True))

    def _check(self, node: Node) -> None:
        """Check the node against ONNX's definition of its operator, and that it is one of those supported."""
        if any(value.HasField("g") or value.graphs for value in node.proto.attribute):
            raise ZeropointError("sub-graphs are not supported; export the network without control flow")
        computed = any(isinstance(self._values.get(name), View) for name in node.inputs)
        if node.operator != "Constant" and node.operator not in (HANDLERS if computed else FOLDABLE):
            if node.operator in HANDLERS:
                raise ZeropointError("is not supported on constants alone; fold it before with onnx-simplifier")
            names = sorted({*HANDLERS, *self.beside, "Constant"})
            supported = quoted_list(names, len(names))
            raise ZeropointError(f"is not supported; {self._hint(node)}; supported operators are {supported}")
        context = type(onnx.checker.DEFAULT_CONTEXT)()
        context.ir_version = onnx.checker.DEFAULT_CONTEXT.ir_version
        context.opset_imports = {"": self.graph.opset}
        try:
            onnx.checker.check_node(node.proto, context)
        except onnx.checker.ValidationError as error:
            raise ZeropointError(f"is not as ONNX defines it: {one_line(error)}") from None

    def _hint(self, node: Node) -> str:
        """Return what to do about an operator that is not supported."""
        if "Quantize" in node.operator or node.operator.startswith("QLinear"):
            return "export the network before it is quantized"
        more = "; if it is a function of the model, inline it with onnx.inliner" if "::" in node.operator else ""
        return f"export the network without it{more}"

    def view(self, node: Node, index: int, *, batch_first: bool = True) -> View:
        """Return a node's input that the network computes."""
        value = self._values.get(node.inputs[index]) if index < len(node.inputs) else None
        if not isinstance(value, View):
            raise ZeropointError(f"input {index} must be computed by the network, but is constant or left out")
        if batch_first and value.batch:
            raise ZeropointError(f"input '{node.inputs[index]}' must have the batch as its first dimension")
        return value

    def is_constant(self, node: Node, index: int) -> bool:
        """Return whether a node has this input, as a constant."""
        return self.has(node, index) and not isinstance(self._values[node.inputs[index]], View)

    def has(self, node: Node, index: int) -> bool:
        """Return whether a node has this optional input."""
        return index < len(node.inputs) and bool(node.inputs[index])

    def constant(self, node: Node, index: int) -> Array:
        """Return a node's input that must be constant."""
        value = self._values.get(node.inputs[index]) if index < len(node.inputs) else None
        if value is None or isinstance(value, View):
            raise ZeropointError(f"input {index} must be constant, but is computed or left out")
        return value

    def floats(self, node: Node, index: int) -> Array:
        """Return a node's input that must be constant, finite and float32."""
        value = self.constant(node, index)
        if value.dtype != np.float32:
            raise ZeropointError(f"'{node.inputs[index]}' is {value.dtype.name}; export the network in float32")
        if not value.size or not np.all(np.isfinite(value)):
            raise ZeropointError(
                f"'{node.inputs[index]}' is empty or has values that are NaN or infinite; train or export again"
            )
        return value

    def integers(self, node: Node, index: int) -> tuple[int, ...]:
        """Return a node's input that must be a constant list of integers, or a single one."""
        value = self.constant(node, index)
        if value.dtype.kind not in "iu" or value.ndim > 1:
            raise ZeropointError(f"'{node.inputs[index]}' must be a list of integers, not {value.dtype.name}")
        return tuple(int(entry) for entry in value.reshape(-1))

    def fresh(self, name: str) -> str:
        """Return ``name``, or if a tensor has it already, one like it."""
        return self._tensor_names.unique(name)

    def add_constant(self, name: str, data: Array) -> str:
        """Add a constant tensor of float32 and return its name.

        That is ``name``, which must be that of a constant in the file or a fresh one, unless it has been used before.
        """
        name = self.fresh(name) if name in self._tensors else name
        with np.errstate(over="ignore"):  # Values beyond float32 become infinite, which the model refuses.
            array = np.asarray(data, dtype=np.float32)
        self._tensors[name] = Tensor(name, array.shape, "float32", data=array)
        return name

    def emit(self, kind: type[Operator], node: Node, **fields: Any) -> str:
        """Add the operator that gives a node's output, and return the output."""
        return self._emit(kind, node.name or node.outputs[0], node.outputs[0], fields)

    def emit_before(self, kind: type[Operator], name: str, **fields: Any) -> str:
        """Add an operator that no ONNX node stands for, called about ``name``, and return its output."""
        return self._emit(kind, name, self.fresh(name), fields)

    def _emit(self, kind: type[Operator], name: str, output: str, fields: dict[str, Any]) -> str:
        try:
            operator = kind(name=self._operator_names.unique(name), output=output, **fields)
            inputs = (*operator.inputs, *operator.constants)
            shape = operator.output_shape(*(self._tensors[tensor].shape for tensor in inputs))
        except ValueError as error:
            raise ZeropointError(str(error)) from None
        if prod(shape) > MAX_ELEMENTS:
            raise ZeropointError(f"output '{output}' would have shape {shape}; {MAX_ELEMENTS} elements at most")
        self._operators.append(operator)
        self._tensors[output] = Tensor(output, shape, "float32")
        return output

    def shape(self, tensor: str) -> Shape:
        """Return the shape of one of our tensors."""
        return self._tensors[tensor].shape

    def arrange(self, view: View, groups: Groups) -> str:
        """Return our tensor with the ONNX axes of a view grouped so, in this order; make it, if that moves nothing."""
        if not view.lies_as(groups):
            raise LayoutError(
                f"an earlier Reshape, Flatten or Transpose has put the elements of its input of shape "
                f"{view.described} in an order that needs data to be moved; export the network without it"
            )
        sizes = view.sizes
        return self.as_shape(view.tensor, tuple(prod(sizes[axis] for axis in group) for group in groups))

    def as_shape(self, tensor: str, shape: Shape) -> str:
        """Return one of our tensors under another shape."""
        if self._tensors[tensor].shape == shape:
            return tensor
        if (tensor, shape) not in self._reshaped:
            name = f"{tensor}.reshaped"
            self._reshaped[tensor, shape] = self.emit_before(Reshape, name, input=tensor, shape=shape)
        return self._reshaped[tensor, shape]

    def _finish(self, name: str) -> FloatModel:
        graph = self.graph
        view = self._values.get(graph.output)
        if view is None:
            raise ZeropointError(
                f"output '{graph.output}' is one that its node computes beside the first: not supported"
            )
        if not isinstance(view, View):
            raise ZeropointError(f"output '{graph.output}' does not depend on input '{graph.input}'")
        rank = len(view.axes)
        if view.batch or rank > 3:
            raise ZeropointError(
                f"output '{graph.output}' must have the batch first and 4 dimensions at most, but is {view.described}"
            )
        groups = next((groups for groups in orders(rank) if view.lies_as(groups)), orders(rank)[0])
        try:
            output = self.arrange(view, groups)
        except LayoutError as error:
            raise LayoutError(f"output '{graph.output}': {error}") from None
        metadata = {"source": "onnx"}
        for what, sizes, axes in (
            ("input", graph.input_shape, self._input_groups),
            ("output", view.sizes, groups),
        ):
            metadata[f"{what}_shape"] = ",".join(map(str, sizes))
            permutation = [axis for group in axes for axis in group]
            if permutation != sorted(permutation):
                metadata[f"{what}_permutation"] = ",".join(map(str, permutation))
        return FloatModel(name, self._tensors, tuple(self._operators), graph.input, output, metadata)
