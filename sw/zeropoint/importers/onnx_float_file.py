"""Reading an untrusted .onnx file: its nodes in order, its constants, its one input and one output."""

import heapq
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import AttributeProto, TensorProto

from zeropoint.errors import ZeropointError, quoted_list
from zeropoint.model import Shape
from zeropoint.model.graph import MAX_ELEMENTS, MAX_OPERATORS

Array = npt.NDArray[Any]

#: A longer file is refused: networks of that size are far beyond the accelerator, and parsing multiplies the memory.
MAX_FILE_BYTES = 256 << 20
#: All constants together; external data may be named many times over by a small file.
MAX_CONSTANT_BYTES = 256 << 20
#: Constants and nodes that fuse into one operator, and such that only compute shapes, outnumber our operators.
MAX_NODES = 16 * MAX_OPERATORS
MAX_RANK = 8
MAX_NAME = 1024
MIN_OPSET = 7

#: Element types that a constant may have.
_TYPES = frozenset(
    (
        TensorProto.FLOAT,
        TensorProto.DOUBLE,
        TensorProto.FLOAT16,
        TensorProto.BOOL,
        TensorProto.INT8,
        TensorProto.INT16,
        TensorProto.INT32,
        TensorProto.INT64,
        TensorProto.UINT8,
        TensorProto.UINT16,
        TensorProto.UINT32,
        TensorProto.UINT64,
    )
)


@dataclass(frozen=True, eq=False)
class Node:
    """One ONNX node.

    Attributes
    ----------
    name
        May be empty, or shared by several nodes.
    operator
        Such as ``"Conv"``; with its domain, ``"com.example::Foo"``, if it is not one of ONNX's own.
    inputs, outputs
        Tensor names; an optional one that is left out is ``""``.
    attributes
        Numbers, lists of numbers, strings and arrays, by name; others as onnx gives them.
    proto
        The node as onnx holds it.
    """

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    proto: Any

    @property
    def label(self) -> str:
        """How messages name the node."""
        name = f"'{self.name}'" if self.name else f"without a name, of output '{next(filter(None, self.outputs), '')}'"
        return f"node {name} ({self.operator})"

    def flag(self, name: str, default: bool = False) -> bool:
        """Return an attribute that is 0 or 1."""
        value = self.attributes.get(name, int(default))
        if value not in (0, 1):
            raise ZeropointError(f"has {name} {value}; 0 or 1 is expected")
        return bool(value)


@dataclass(frozen=True, eq=False)
class Graph:
    """What a network computes, as the file has it.

    Attributes
    ----------
    nodes
        Those that the output depends on, each after those that it depends on.
    constants
        Initializers by name.
    input, output
        Names of the one input and the one output.
    batch
        The size of the input's first axis; 1 where the file leaves it open, as one sample is computed at a time.
    input_shape
        The sizes of the other axes.
    names
        Every tensor name in the file.
    opset
        The version of ONNX's operators.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    input: str
    output: str
    batch: int
    input_shape: Shape
    names: frozenset[str]
    opset: int


def read_graph(data: bytes, folder: Path) -> Graph:
    """Parse and check what a file holds, with the external data in its folder.

    Raises
    ------
    ZeropointError
        If it is no ONNX model, is inconsistent, or has more than one input or output.
    """
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        raise ZeropointError("not an ONNX model, or a truncated one; export or copy it again") from None
    if not model.HasField("graph") or not model.graph.node:
        raise ZeropointError("not an ONNX model: it has no nodes")
    return _graph(model, folder)


def _graph(model: Any, folder: Path) -> Graph:
    graph = model.graph
    arrays = _Arrays(folder)
    opset = _opset(model)
    if graph.sparse_initializer:
        raise ZeropointError("has sparse initializers; save it with dense ones")
    if len(graph.node) + len(graph.initializer) > MAX_NODES:
        raise ZeropointError(
            f"has {len(graph.node)} nodes and {len(graph.initializer)} initializers; {MAX_NODES} at most"
        )
    initializers = {_text(tensor, "name"): tensor for tensor in graph.initializer}
    info = _only([value for value in graph.input if _text(value, "name") not in initializers], "input")
    output = _text(_only(graph.output, "output"), "name")
    nodes = [_node(proto, arrays) for proto in graph.node]
    _check_unique(
        [info.name], (tensor.name for tensor in graph.initializer), (name for node in nodes for name in node.outputs)
    )
    batch, shape = _input_shape(info)
    live = _in_order(nodes, {info.name, *initializers}, output)
    used = {name for node in live for name in node.inputs} | {output}
    names = {info.name, output, *initializers, *(name for node in nodes for name in (*node.inputs, *node.outputs))}
    for name in sorted({*names, *(node.name for node in nodes)}):
        if not name.isprintable() or len(name) > MAX_NAME:
            raise ZeropointError(f"has the name {name[:60]!a}, which is unprintable or too long; rename it")
    constants = {
        name: arrays.read(tensor, f"initializer '{name}'") for name, tensor in initializers.items() if name in used
    }
    return Graph(live, constants, info.name, output, batch, shape, frozenset(names), opset)


def _text(message: Any, field: str) -> str:
    """Return a string of a protobuf message."""
    return _texts(message, field)[0]


def _texts(message: Any, field: str) -> tuple[str, ...]:
    """Return one or more strings of a protobuf message; those that are not UTF-8 it gives as bytes, or raises."""
    try:
        found = getattr(message, field)
        values = (found,) if isinstance(found, str | bytes) else tuple(found)
    except UnicodeDecodeError:
        values = (b"",)
    if not all(isinstance(value, str) for value in values):
        raise ZeropointError("damaged: it has names that are not UTF-8; export or copy it again")
    return values


def _opset(model: Any) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    newest = onnx.defs.onnx_opset_version()
    if len(versions) != 1 or not MIN_OPSET <= versions[0] <= newest:
        raise ZeropointError(
            f"uses ONNX operator set {quoted_list(versions) or 'unknown'}; "
            f"export it with a version from {MIN_OPSET} to {newest}"
        )
    return int(versions[0])


def _only(values: Iterable[Any], what: str) -> Any:
    values = list(values)
    if len(values) != 1 or not values[0].name:
        listed = quoted_list(f"'{value.name}'" for value in values) or "none"
        raise ZeropointError(
            f"a network must have one {what}, but it has {len(values)} ({listed}); "
            f"cut out the part to run with onnx.utils.extract_model"
        )
    return values[0]


def _check_unique(*groups: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in (name for group in groups for name in group if name):
        if name in seen:
            raise ZeropointError(f"defines the tensor '{name}' twice; each tensor must have one source")
        seen.add(name)


def _input_shape(info: Any) -> tuple[int, Shape]:
    kind = info.type.tensor_type
    if not info.type.HasField("tensor_type") or kind.elem_type != TensorProto.FLOAT:
        raise ZeropointError(f"input '{info.name}' must be a float32 tensor; export the network in float32")
    dims = list(kind.shape.dim)
    if not kind.HasField("shape") or len(dims) < 2:
        raise ZeropointError(f"input '{info.name}' must have a shape with the batch first; export it with one")
    sizes = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in dims]
    for position, (dim, size) in enumerate(zip(dims[1:], sizes[1:], strict=True), start=1):
        if size < 1:
            raise ZeropointError(
                f"input '{info.name}' has no fixed size in dimension {position} ({dim.dim_param or size}); "
                f"only the batch may be dynamic: export it with fixed sizes"
            )
    if prod(sizes[1:]) > MAX_ELEMENTS:
        raise ZeropointError(f"input '{info.name}' has shape {tuple(sizes)}; {MAX_ELEMENTS} elements at most")
    return max(1, sizes[0]), tuple(sizes[1:])


def _node(proto: Any, arrays: "_Arrays") -> Node:
    operator, domain = _text(proto, "op_type"), _text(proto, "domain")
    attributes: dict[str, Any] = {}
    node = Node(
        name=_text(proto, "name"),
        operator=operator if domain in ("", "ai.onnx") else f"{domain}::{operator}",
        inputs=_texts(proto, "input"),
        outputs=_texts(proto, "output"),
        attributes=attributes,
        proto=proto,
    )
    for attribute in proto.attribute:
        name = _text(attribute, "name")
        if name in attributes:
            raise ZeropointError(f"{node.label}: has the attribute '{name}' twice")
        if attribute.type == AttributeProto.TENSOR:
            attributes[name] = array = arrays.read(attribute.t, f"{node.label}: attribute '{name}'")
            if attribute.t.data_location == TensorProto.EXTERNAL:
                # onnx itself would look for the file elsewhere.
                attribute.t.CopyFrom(onnx.numpy_helper.from_array(array))
            continue
        try:
            value = onnx.helper.get_attribute_value(attribute)
        except ValueError:
            raise ZeropointError(f"{node.label}: attribute '{name}' is malformed") from None
        attributes[name] = value.decode(errors="replace") if isinstance(value, bytes) else value
    return node


def _in_order(nodes: list[Node], given: set[str], output: str) -> tuple[Node, ...]:
    """Return the nodes that ``output`` needs, in the file's order as far as their dependencies allow."""
    producers = {name: index for index, node in enumerate(nodes) for name in node.outputs if name}
    if output not in producers and output not in given:
        raise ZeropointError(f"nothing computes its output '{output}'")
    live: set[int] = set()
    pending = [producers[output]] if output in producers else []
    while pending:
        index = pending.pop()
        if index in live:
            continue
        live.add(index)
        for name in filter(None, nodes[index].inputs):
            if name in producers:
                pending.append(producers[name])
            elif name not in given:
                raise ZeropointError(f"{nodes[index].label} reads '{name}', which nothing computes")
    needs = {index: {producers[name] for name in nodes[index].inputs if name in producers} for index in live}
    readers: dict[int, list[int]] = {index: [] for index in live}
    for index, before in needs.items():
        for other in before:
            readers[other].append(index)
    ready = [index for index in live if not needs[index]]
    heapq.heapify(ready)
    order: list[Node] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(nodes[index])
        for other in readers[index]:
            needs[other].discard(index)
            if not needs[other]:
                heapq.heappush(ready, other)
    if len(order) < len(live):
        # Walking back from a node that is never ready ends up in the cycle.
        index, seen = min(index for index in live if needs[index]), set()
        while index not in seen:
            seen.add(index)
            index = min(needs[index])
        raise ZeropointError(f"{nodes[index].label} depends on its own output: the graph has a cycle")
    return tuple(order)


class _Arrays:
    """Reads tensors' data, after checking their sizes against what they declare, within one budget of memory."""

    def __init__(self, folder: Path) -> None:
        self._root = os.path.realpath(folder)
        self._budget = MAX_CONSTANT_BYTES

    def read(self, tensor: Any, what: str) -> Array:
        """Return a tensor's data; ``what`` names it in messages."""
        if tensor.data_type not in _TYPES:
            known = tensor.data_type in TensorProto.DataType.values()
            kind = TensorProto.DataType.Name(tensor.data_type) if known else tensor.data_type
            raise ZeropointError(f"{what} has element type {kind}; export the network in float32")
        shape = tuple(tensor.dims)
        if len(shape) > MAX_RANK or any(size < 0 for size in shape) or prod(shape) > MAX_ELEMENTS:
            raise ZeropointError(
                f"{what} has shape {shape[: MAX_RANK + 1]}; {MAX_RANK} dimensions and {MAX_ELEMENTS} elements at most"
            )
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        expected = prod(shape) * dtype.itemsize
        external = tensor.data_location == TensorProto.EXTERNAL
        if external:
            location, offset, found = self._external(tensor, what, expected)
        elif tensor.HasField("raw_data"):
            found = len(tensor.raw_data)
        else:
            found = len(getattr(tensor, onnx.helper.tensor_dtype_to_field(tensor.data_type))) * dtype.itemsize
        if found != expected:
            raise ZeropointError(f"{what} declares {expected} bytes in shape {shape}, but has {found}; export it again")
        self._budget -= expected
        if self._budget < 0:
            raise ZeropointError(
                f"{what} brings its constants beyond {MAX_CONSTANT_BYTES} bytes; use a smaller network"
            )
        little = dtype.newbyteorder("<")
        if external:
            try:
                array = np.fromfile(location, little, prod(shape), offset=offset).reshape(shape)
            except (OSError, ValueError) as error:
                raise ZeropointError(f"{what} has its data in a file that cannot be read: {error}") from None
        elif tensor.HasField("raw_data"):
            array = np.frombuffer(tensor.raw_data, little).reshape(shape)
        else:
            try:
                array = np.asarray(onnx.numpy_helper.to_array(tensor)).reshape(shape)
            except (ValueError, OverflowError):
                raise ZeropointError(f"{what} has values that do not fit its type; export it again") from None
        # A lone infinity may be the open end of a Clip.
        if array.dtype.kind == "f" and not np.all(np.isfinite(array)) and (array.ndim or np.isnan(array)):
            raise ZeropointError(f"{what} has values that are NaN or infinite; train or export the network again")
        return array.astype(dtype, copy=False)

    def _external(self, tensor: Any, what: str, expected: int) -> tuple[str, int, int]:
        """Return where a tensor keeps its data: a file inside the model's folder, the first byte, how many."""
        entries = {_text(entry, "key"): _text(entry, "value") for entry in tensor.external_data}
        location = entries.get("location", "")
        target = os.path.realpath(os.path.join(self._root, location.replace("\0", "")))
        inside = os.path.commonpath((self._root, target)) == self._root
        if not location.isprintable() or not location or os.path.isabs(location) or not inside:
            raise ZeropointError(
                f"{what} has its data in {location!a}, outside the model's folder; put them beside the model"
            )
        if not os.path.isfile(target):
            raise ZeropointError(
                f"{what} has its data in the file {location!a}, which is missing; copy it beside the model"
            )
        try:
            offset, length = int(entries.get("offset", 0)), int(entries.get("length", expected))
        except ValueError:
            raise ZeropointError(f"{what} has an offset or length of external data that is no number") from None
        available = os.path.getsize(target)
        if not 0 <= offset <= offset + length <= available:
            raise ZeropointError(
                f"{what} has its data at bytes {offset} … {offset + length} of {location!a}, "
                f"which has {available}; copy that file again"
            )
        return target, offset, length
