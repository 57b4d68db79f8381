"""The nodes and constants of an ONNX file while it is written, and where each activation's real values are in it."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto, helper, numpy_helper

from zeropoint.importers.names import Names
from zeropoint.model import QuantizedModel, Shape, Tensor

Array = npt.NDArray[Any]

#: From (height, width, channels) to (channels, height, width), and back.
TO_CHANNELS_FIRST = (2, 0, 1)
TO_CHANNELS_LAST = (1, 2, 0)


def channels_first(shape: Shape) -> Shape:
    """Return the shape that one of our tensors has in the file, without the batch."""
    return (shape[2], shape[0], shape[1]) if len(shape) == 3 else shape


def lies_alike(shape: Shape) -> bool:
    """Return whether a tensor's elements have the same order with channels first as with channels last."""
    return len(shape) != 3 or shape[2] == 1 or shape[0] * shape[1] == 1


class Writer:
    """Collects the nodes and constants of one file.

    Parameters
    ----------
    model
        The network. Its tensors keep their names.

    Attributes
    ----------
    nodes, constants
        So far; constants by name.
    integers
        The names in the file of the integers of each activation.
    """

    def __init__(self, model: QuantizedModel) -> None:
        self.model = model
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self.integers: dict[str, str] = {}
        self._names = Names(model.tensors)
        self._node_names = Names(operator.name for operator in model.operators)
        self._real: dict[str, str] = {}
        self._dequantized: dict[Any, str] = {}

    def add_input(self, shape: Shape, permutation: Shape) -> None:
        """Add the network's input, laid out in the file as ``zeropoint.importers.layout`` describes it."""
        tensor = self.model.tensor(self.model.input)
        self.quantize(tensor.name, tensor)
        if (shape, permutation) != (channels_first(tensor.shape), TO_CHANNELS_LAST):
            values = self._transposed(self._real[tensor.name], permutation, f"{tensor.name}.transposed")
            sizes = tuple(shape[axis] for axis in permutation)
            self._real[tensor.name] = self.to_channels_first(values, sizes, tensor.shape, tensor.name)

    def add_output(self, shape: Shape, permutation: Shape) -> str:
        """Add the network's output, laid out likewise, and return its name in the file."""
        tensor = self.model.tensor(self.model.output)
        values = self._real[tensor.name]
        if (shape, permutation) != (channels_first(tensor.shape), TO_CHANNELS_LAST):
            values, sizes = self.to_channels_last(values, tensor.shape, tensor.name)
            wanted = tuple(shape[axis] for axis in permutation)
            values = self._reshaped(values, sizes, wanted, tensor.name)
            values = self._transposed(values, tuple(int(axis) for axis in np.argsort(permutation)), tensor.name)
        if tensor.name == self.model.input:
            return self.node("Identity", [values], self.fresh(f"{tensor.name}.output"))
        # The last values get the output's name; what had it, on the way there, another.
        names = {tensor.name: self.fresh(f"{tensor.name}.inner"), values: tensor.name}
        for node in self.nodes:
            for field in (node.input, node.output):
                field[:] = [names.get(name, name) for name in field]
        self.integers = {name: names.get(integers, integers) for name, integers in self.integers.items()}
        return tensor.name

    def real(self, activation: str) -> str:
        """Return the name of an activation's real values, channels first."""
        return self._real[activation]

    def node(
        self, operator: str, inputs: Iterable[str], output: str, name: str | None = None, **attributes: Any
    ) -> str:
        """Add a node, called after its output if it has no name of its own, and return the output."""
        name = self._node_names.unique(output) if name is None else name
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name, **attributes))
        return output

    def fresh(self, name: str) -> str:
        """Return ``name``, or if a tensor has it already, one like it."""
        return self._names.unique(name)

    def constant(self, name: str, data: npt.ArrayLike) -> str:
        """Add a constant, called about ``name``, and return its name."""
        name = self.fresh(name)
        self.constants[name] = numpy_helper.from_array(np.asarray(data, order="C"), name)
        return name

    def dequantized(self, tensor: Tensor, data: Array, scale: npt.NDArray[np.float32], axis: int | None) -> str:
        """Return the name of the real values of weights or a bias.

        Parameters
        ----------
        tensor
            The model's. Its name is that of the integers, the first time.
        data
            The integers as the file is to have them.
        scale
            A single value, or one for each index of dimension ``axis``.
        """
        key = (tensor.name, data.tobytes(), data.shape, scale.tobytes(), axis)
        if key not in self._dequantized:
            base = tensor.name if tensor.name not in self.constants else self.fresh(tensor.name)
            self.constants[base] = numpy_helper.from_array(np.asarray(data, order="C"), base)
            assert tensor.quantization is not None
            zero_point = np.full(scale.shape, tensor.quantization.zero_point[0], data.dtype)
            inputs = [base, self.constant(f"{base}.scale", scale), self.constant(f"{base}.zero_point", zero_point)]
            attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
            self._dequantized[key] = self.node(
                "DequantizeLinear", inputs, self.fresh(f"{base}.dequantized"), **attributes
            )
        return self._dequantized[key]

    def quantize(self, values: str, tensor: Tensor, name: str | None = None) -> None:
        """Quantize the real values of an activation, and dequantize them for whatever reads them.

        If the node has a ``name``, because it is an operator by itself, the integers have the tensor's.
        """
        base = tensor.name
        parameters = (
            self.constant(f"{base}.scale", np.float32(tensor.scale)),
            self.constant(f"{base}.zero_point", np.asarray(tensor.zero_point, tensor.dtype)),
        )
        output = self.fresh(f"{base}.quantized") if name is None else base
        integers = self.node("QuantizeLinear", [values, *parameters], output, name)
        self.integers[base] = integers
        self._real[base] = self.node("DequantizeLinear", [integers, *parameters], self.fresh(f"{base}.dequantized"))

    def to_channels_last(self, values: str, shape: Shape, name: str) -> tuple[str, Shape]:
        """Return the values of one of our tensors in the order of our memory, and their shape in the file."""
        if lies_alike(shape):
            return values, channels_first(shape)
        return self._transposed(values, TO_CHANNELS_LAST, f"{name}.channels_last"), shape

    def to_channels_first(self, values: str, sizes: Shape, shape: Shape, name: str) -> str:
        """Return values of shape ``sizes``, in the order of our memory, as those of a tensor of our ``shape``."""
        if lies_alike(shape):
            return self._reshaped(values, sizes, channels_first(shape), name)
        values = self._reshaped(values, sizes, shape, name)
        return self._transposed(values, TO_CHANNELS_FIRST, f"{name}.channels_first")

    def _reshaped(self, values: str, sizes: Shape, wanted: Shape, name: str) -> str:
        if sizes == wanted:
            return values
        # A size of 0 keeps the batch's.
        shape = self.constant(f"{name}.shape", np.array((0, *wanted), np.int64))
        return self.node("Reshape", [values, shape], self.fresh(f"{name}.reshaped"))

    def _transposed(self, values: str, permutation: Shape, name: str) -> str:
        if permutation == tuple(sorted(permutation)):
            return values
        perm = [0, *(axis + 1 for axis in permutation)]
        return self.node("Transpose", [values], self.fresh(name), perm=perm)
