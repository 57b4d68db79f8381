"""Reading an untrusted .tflite file: its operators in order, their tensors, its one input and one output.

The FlatBuffers library does not verify what it reads. Offsets that point anywhere end in an exception of Python's,
because nothing is read but through the file's bytes; what has a length is checked before it is walked through.
"""

import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import tflite

from zeropoint.errors import ZeropointError
from zeropoint.importers.tflite_options import read_options
from zeropoint.model import Shape
from zeropoint.model.graph import MAX_ELEMENTS, MAX_OPERATORS

Array = npt.NDArray[Any]

#: A longer file is refused: networks of that size are far beyond the accelerator.
MAX_FILE_BYTES = 256 << 20
#: Operators that only compute shapes come on top of those of the model.
MAX_NODES = 4 * MAX_OPERATORS
MAX_TENSORS = 16 * MAX_OPERATORS
#: Tensors that one operator may read or write.
MAX_OPERANDS = 1024
MAX_SCALES = 1 << 16
MAX_RANK = 8
MAX_NAME = 1024

#: Element types that a constant may have.
_DTYPES: dict[str, np.dtype[Any]] = {
    "INT8": np.dtype("i1"),
    "UINT8": np.dtype("u1"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FLOAT32": np.dtype("<f4"),
}


def _by_value(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if type(value) is int}


_OPERATORS = _by_value(tflite.BuiltinOperator)
_TYPES = _by_value(tflite.TensorType)


@dataclass(frozen=True, eq=False)
class FileTensor:
    """One tensor of the file.

    Attributes
    ----------
    index
        Its place in the file's list.
    name
        Printable; neither unique nor, in every file, there.
    shape
        With the batch. Sizes that are open in the file are 1.
    open
        Whether a size other than the first is open.
    dtype
        Such as ``"int8"``.
    scale, zero_point
        As many of the one as of the other; none if the tensor is not quantized.
    axis
        The dimension of several scales.
    data
        A view of the file's bytes, if the tensor is constant.
    """

    index: int
    name: str
    shape: Shape
    open: bool
    dtype: str
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int
    data: Array | None

    @property
    def label(self) -> str:
        """How messages name the tensor."""
        return f"'{self.name}'" if self.name else f"{self.index} (without a name)"


@dataclass(frozen=True, eq=False)
class Node:
    """One operator of the file.

    Attributes
    ----------
    index
        Its place in the file.
    operator
        Such as ``"CONV_2D"``; ``"custom NAME"`` if it is not one of TensorFlow Lite's own.
    inputs, outputs
        Tensors; an input that is left out is None.
    options
        As :func:`~zeropoint.importers.tflite_options.read_options` gives them.
    """

    index: int
    operator: str
    inputs: tuple[FileTensor | None, ...]
    outputs: tuple[FileTensor, ...]
    options: Mapping[str, Any]

    @property
    def label(self) -> str:
        """How messages name the operator."""
        return f"operator {self.index} ({self.operator}), output {self.outputs[0].label}"

    def option(self, name: str) -> Any:
        """Return an option that the operator cannot be without."""
        if name not in self.options:
            raise ZeropointError("has no options; convert the model again")
        return self.options[name]


@dataclass(frozen=True, eq=False)
class Graph:
    """What a network computes, as the file has it.

    Attributes
    ----------
    nodes
        Those that the output depends on, each after those that it depends on.
    input, output
        The one input and the one output.
    """

    nodes: tuple[Node, ...]
    input: FileTensor
    output: FileTensor


def read_graph(data: bytes) -> Graph:
    """Parse and check what a file holds.

    Raises
    ------
    ZeropointError
        If it is no TensorFlow Lite model, is damaged, or has more than one input or output.
    """
    if data[4:8] != b"TFL3":
        raise ZeropointError("it is not a TensorFlow Lite model: 'TFL3' is missing at its fifth byte")
    with _damage():
        return _File(data).graph()


@contextmanager
def _damage() -> Iterator[None]:
    """Turn what the FlatBuffers library raises over offsets into nowhere into a message."""
    try:
        yield
    except (struct.error, IndexError, ValueError, TypeError, OverflowError):
        raise ZeropointError("it is damaged, or only the first part of a file; convert or copy it again") from None


class _File:
    """One file; tensors are read when they are first asked for."""

    def __init__(self, data: bytes) -> None:
        self._model = tflite.Model.GetRootAs(data)
        self._tensors: dict[int, FileTensor] = {}
        if self._model.Version() != 3:
            raise ZeropointError(f"has version {self._model.Version()} of the schema; 3 is expected")
        if self._model.SubgraphsLength() != 1:
            raise ZeropointError(
                f"has {self._model.SubgraphsLength()} subgraphs; export the network without control flow, as one"
            )
        self._graph = self._model.Subgraphs(0)

    def graph(self) -> Graph:
        """Return the one graph."""
        graph = self._graph
        for what, count, limit in (
            ("tensors", graph.TensorsLength(), MAX_TENSORS),
            ("operators", graph.OperatorsLength(), MAX_NODES),
        ):
            if count > limit:
                raise ZeropointError(f"has {count} {what}; {limit} at most")
        source = self._only(graph.InputsAsNumpy(), "input")
        target = self._only(graph.OutputsAsNumpy(), "output")
        nodes = self._live(target.index)
        self._check_order(nodes, source, target)
        return Graph(nodes, source, target)

    def _only(self, vector: Any, what: str) -> FileTensor:
        indices = _integers(vector, MAX_OPERANDS)
        if len(indices) != 1:
            raise ZeropointError(f"a network must have one {what}, but it has {len(indices)}; export a part of it")
        return self._tensor(indices[0])

    def _live(self, output: int) -> tuple[Node, ...]:
        """Return the operators that the output depends on: only these are looked at closely."""
        needed, live = {output}, []
        for index in reversed(range(self._graph.OperatorsLength())):
            operator = self._graph.Operators(index)
            outputs = _integers(operator.OutputsAsNumpy(), MAX_OPERANDS)
            if needed.isdisjoint(outputs):
                continue
            inputs = _integers(operator.InputsAsNumpy(), MAX_OPERANDS)
            needed.update(inputs)
            kind = self._kind(operator.OpcodeIndex(), index)
            live.append(
                Node(
                    index,
                    kind,
                    tuple(None if tensor == -1 else self._tensor(tensor) for tensor in inputs),
                    tuple(self._tensor(tensor) for tensor in outputs),
                    read_options(operator, kind, index),
                )
            )
        return tuple(reversed(live))

    def _kind(self, code: int, index: int) -> str:
        if code >= self._model.OperatorCodesLength():
            raise ZeropointError(f"is damaged: operator {index} is of kind {code}, which the file does not define")
        entry = self._model.OperatorCodes(code)
        # Files from before there were more than 127 kinds have only the deprecated field.
        builtin = max(entry.BuiltinCode(), entry.DeprecatedBuiltinCode())
        if builtin == tflite.BuiltinOperator.CUSTOM:
            return f"custom {_text(entry.CustomCode())}"
        return _OPERATORS.get(builtin, f"unknown kind {builtin}")

    def _tensor(self, index: int) -> FileTensor:
        if index not in self._tensors:
            if not 0 <= index < self._graph.TensorsLength():
                raise ZeropointError(f"is damaged: it names tensor {index} of {self._graph.TensorsLength()}")
            self._tensors[index] = self._read(index)
        return self._tensors[index]

    def _read(self, index: int) -> FileTensor:
        tensor = self._graph.Tensors(index)
        name = _text(tensor.Name())
        what = f"tensor '{name}'" if name else f"tensor {index}"
        shape = _integers(tensor.ShapeAsNumpy(), MAX_RANK)
        if min(shape, default=0) < 0 or prod(shape) > MAX_ELEMENTS:
            raise ZeropointError(
                f"{what} has shape {shape}; sizes must not be negative and give {MAX_ELEMENTS} elements at most"
            )
        if tensor.Sparsity() is not None:
            raise ZeropointError(f"{what} is sparse; convert the model with dense weights")
        if tensor.IsVariable():
            raise ZeropointError(f"{what} is a variable; export the network without state")
        dtype = _TYPES.get(tensor.Type(), f"of unknown type {tensor.Type()}")
        signature = _integers(tensor.ShapeSignatureAsNumpy(), MAX_RANK)
        scale, zero_point, axis = self._quantization(tensor.Quantization(), what)
        return FileTensor(
            index,
            name,
            shape,
            -1 in signature[1:],
            dtype.lower(),
            scale,
            zero_point,
            axis,
            self._data(tensor.Buffer(), shape, dtype, what),
        )

    def _quantization(self, quantization: Any, what: str) -> tuple[tuple[float, ...], tuple[int, ...], int]:
        if quantization is None or not quantization.ScaleLength():
            return (), (), 0
        if quantization.DetailsType() != tflite.QuantizationDetails.NONE:
            raise ZeropointError(f"{what} has a quantization other than by scale and zero point")
        scale = _numbers(quantization.ScaleAsNumpy(), MAX_SCALES)
        zero_point = _integers(quantization.ZeroPointAsNumpy(), MAX_SCALES) or (0,)
        if len(zero_point) == 1:
            zero_point *= len(scale)
        if len(zero_point) != len(scale):
            raise ZeropointError(f"{what} has {len(scale)} scales, but {len(zero_point)} zero points")
        return scale, zero_point, quantization.QuantizedDimension()

    def _data(self, index: int, shape: Shape, dtype: str, what: str) -> Array | None:
        """Return a constant's elements, or None if the tensor is no constant."""
        if index >= self._model.BuffersLength():
            # Without buffers there are no constants; some writers leave out the empty one, too.
            if index:
                raise ZeropointError(f"{what} is in buffer {index} of {self._model.BuffersLength()}")
            return None
        buffer = self._model.Buffers(index)
        if buffer.Offset() > 1 or buffer.Size() > 1:
            raise ZeropointError(f"{what} has its data outside of the model proper; convert it to less than 2 GB")
        if not buffer.DataLength():
            return None
        if dtype not in _DTYPES:
            raise ZeropointError(f"{what} is {dtype.lower()}; constants may be int8, uint8, int32, int64 or float32")
        content = buffer.DataAsNumpy()
        size = prod(shape) * _DTYPES[dtype].itemsize
        if len(content) != size:
            raise ZeropointError(f"{what} of {dtype.lower()} and shape {shape} takes {size} bytes, not {len(content)}")
        return content.view(_DTYPES[dtype]).reshape(shape)

    def _check_order(self, nodes: tuple[Node, ...], source: FileTensor, target: FileTensor) -> None:
        ready = {source.index}
        for node in nodes:
            for tensor in filter(None, node.inputs):
                if tensor.data is None and tensor.index not in ready:
                    raise ZeropointError(f"{node.label}: reads tensor {tensor.label}, which nothing before it computes")
            for tensor in node.outputs:
                if tensor.data is not None or tensor.index in ready:
                    raise ZeropointError(f"{node.label}: writes tensor {tensor.label}, which has a value already")
                ready.add(tensor.index)
        if target.index not in ready:
            raise ZeropointError(f"output {target.label} is not computed")


def _numbers(vector: Any, limit: int) -> tuple[Any, ...]:
    """Return a vector of numbers; the FlatBuffers library gives 0 where there is none."""
    if isinstance(vector, int):
        return ()
    if len(vector) > limit:
        raise ZeropointError(f"has a list of {len(vector)} numbers; {limit} at most")
    return tuple(vector.tolist())


def _integers(vector: Any, limit: int) -> tuple[int, ...]:
    return _numbers(vector, limit)


def _text(content: bytes | None) -> str:
    """Return a name as printable text."""
    if content is not None and len(content) > MAX_NAME:
        raise ZeropointError(f"has a name of {len(content)} bytes; {MAX_NAME} at most")
    text = (content or b"").decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
