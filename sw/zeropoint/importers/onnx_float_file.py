"""Reading an untrusted .onnx file: its nodes in order, its constants, its one input and one output."""

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import AttributeProto, TensorProto

from zeropoint.errors import ZeropointError, quoted_list
from zeropoint.files import read_bytes
from zeropoint.importers.onnx_float_arrays import Array, Arrays, text, texts
from zeropoint.model import Shape
from zeropoint.model.graph import MAX_ELEMENTS, MAX_OPERATORS

Result = TypeVar("Result")

#: A longer file is refused: networks of that size are far beyond the accelerator, and parsing multiplies the memory.
MAX_FILE_BYTES = 256 << 20
#: Constants and nodes that fuse into one operator, and such that only compute shapes, outnumber our operators.
MAX_NODES = 16 * MAX_OPERATORS
MAX_NAME = 1024
MIN_OPSET = 7

#: Element types that the input may have, and what they are called here.
_INPUTS = {TensorProto.FLOAT: "float32", TensorProto.INT8: "int8", TensorProto.UINT8: "uint8"}


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
    written
        The operator that the file has in this place, if it is another.
    """

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    proto: Any
    written: str = ""

    @property
    def label(self) -> str:
        """How messages name the node."""
        name = f"'{self.name}'" if self.name else f"without a name, of output '{next(filter(None, self.outputs), '')}'"
        return f"node {name} ({self.written or self.operator})"

    def flag(self, name: str, default: bool = False) -> bool:
        """Return an attribute that is 0 or 1."""
        value = self.integer(name, int(default))
        if value not in (0, 1):
            raise ZeropointError(f"has {name} {value}; 0 or 1 is expected")
        return bool(value)

    def integer(self, name: str, default: int) -> int:
        """Return an attribute that is an integer, even of an operator that onnx does not check."""
        value = self.attributes.get(name, default)
        if not isinstance(value, int):
            raise ZeropointError(f"has {name} of another type; an integer is expected")
        return value


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
    input_type
        ``"float32"``, ``"int8"`` or ``"uint8"``.
    batch
        The size of the input's first axis; 1 where the file leaves it open, as one sample is computed at a time.
    input_shape
        The sizes of the other axes.
    names
        Every tensor name in the file.
    opset
        The version of ONNX's operators.
    metadata
        The file's own notes, printable text by key.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    input: str
    output: str
    input_type: str
    batch: int
    input_shape: Shape
    names: frozenset[str]
    opset: int
    metadata: Mapping[str, str]


def read_file(path: Path, translate: Callable[[Graph, str], Result]) -> Result:
    """Return what ``translate`` makes of a file's graph and name.

    Raises
    ------
    ZeropointError
        As :func:`read_graph` and ``translate``, with the file's name before it.
    """
    path = Path(path)
    data = read_bytes(path, MAX_FILE_BYTES)
    try:
        return translate(read_graph(data, path.parent), path.stem)
    except ZeropointError as error:
        # Names that are not checked yet may hold anything.
        text = "".join(
            character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(error)
        )
        raise ZeropointError(f"'{path}': {text}") from None


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
    arrays = Arrays(folder)
    opset = _opset(model)
    if graph.sparse_initializer:
        raise ZeropointError("has sparse initializers; save it with dense ones")
    if len(graph.node) + len(graph.initializer) > MAX_NODES:
        raise ZeropointError(
            f"has {len(graph.node)} nodes and {len(graph.initializer)} initializers; {MAX_NODES} at most"
        )
    initializers = {text(tensor, "name"): tensor for tensor in graph.initializer}
    info = _only([value for value in graph.input if text(value, "name") not in initializers], "input")
    output = text(_only(graph.output, "output"), "name")
    nodes = [_node(proto, arrays) for proto in graph.node]
    _check_unique(
        [info.name], (tensor.name for tensor in graph.initializer), (name for node in nodes for name in node.outputs)
    )
    kind, batch, shape = _input_type(info)
    live = _in_order(nodes, {info.name, *initializers}, output)
    used = {name for node in live for name in node.inputs} | {output}
    names = {info.name, output, *initializers, *(name for node in nodes for name in (*node.inputs, *node.outputs))}
    for name in sorted({*names, *(node.name for node in nodes)}):
        if not name.isprintable() or len(name) > MAX_NAME:
            raise ZeropointError(f"has the name {name[:60]!a}, which is unprintable or too long; rename it")
    constants = {
        name: arrays.read(tensor, f"initializer '{name}'") for name, tensor in initializers.items() if name in used
    }
    notes = {text(entry, "key"): text(entry, "value") for entry in model.metadata_props}
    metadata = {key: value for key, value in notes.items() if key.isprintable() and value.isprintable()}
    return Graph(live, constants, info.name, output, kind, batch, shape, frozenset(names), opset, metadata)


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


def _input_type(info: Any) -> tuple[str, int, Shape]:
    """Return the input's element type, its batch and its other sizes."""
    kind = info.type.tensor_type
    if not info.type.HasField("tensor_type") or kind.elem_type not in _INPUTS:
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
    return _INPUTS[kind.elem_type], max(1, sizes[0]), tuple(sizes[1:])


def _node(proto: Any, arrays: Arrays) -> Node:
    operator, domain = text(proto, "op_type"), text(proto, "domain")
    attributes: dict[str, Any] = {}
    node = Node(
        name=text(proto, "name"),
        operator=operator if domain in ("", "ai.onnx") else f"{domain}::{operator}",
        inputs=texts(proto, "input"),
        outputs=texts(proto, "output"),
        attributes=attributes,
        proto=proto,
    )
    for attribute in proto.attribute:
        name = text(attribute, "name")
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
