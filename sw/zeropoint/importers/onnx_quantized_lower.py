"""Operators on integers become float operators between DequantizeLinear and QuantizeLinear, which is what they mean.

``QLinearConv`` is defined as ``QuantizeLinear(Conv(DequantizeLinear(x), DequantizeLinear(w), DequantizeLinear(b)))``,
and the others alike (ONNX ``Operators.md``; ONNX Runtime ``docs/ContribOperators.md``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from zeropoint.errors import ZeropointError
from zeropoint.importers.names import Names
from zeropoint.importers.onnx_float_constants import constant
from zeropoint.importers.onnx_float_file import Graph, Node

Array = npt.NDArray[Any]

_MICROSOFT = "com.microsoft::"


@dataclass(frozen=True)
class _Form:
    """Which inputs of an operator are what.

    Attributes
    ----------
    operator
        What it is on real values.
    inputs
        The positions of the integers; the scale and the zero point of each follow it.
    output
        The position of the output's scale; its zero point follows.
    bias
        The position of an int32 bias, whose scale is implied, or None.
    """

    operator: str
    inputs: tuple[int, ...]
    output: int
    bias: int | None = None


#: What is lowered.
LOWERED = {
    "QLinearConv": _Form("Conv", (0, 3), 6, 8),
    "QLinearMatMul": _Form("MatMul", (0, 3), 6),
    f"{_MICROSOFT}QGemm": _Form("Gemm", (0, 3), 7, 6),
    f"{_MICROSOFT}QLinearAdd": _Form("Add", (0, 3), 6),
    f"{_MICROSOFT}QLinearMul": _Form("Mul", (0, 3), 6),
    f"{_MICROSOFT}QLinearAveragePool": _Form("AveragePool", (0,), 3),
    f"{_MICROSOFT}QLinearGlobalAveragePool": _Form("GlobalAveragePool", (0,), 3),
    f"{_MICROSOFT}QLinearSoftmax": _Form("Softmax", (0,), 3),
    # The same as ONNX's own.
    f"{_MICROSOFT}QuantizeLinear": None,
    f"{_MICROSOFT}DequantizeLinear": None,
}


def lower(graph: Graph) -> Graph:
    """Return the graph without operators on integers, but for those that only move or compare them.

    Raises
    ------
    ZeropointError
        If one of them has inputs or attributes that are not supported, naming the node.
    """
    lowering = _Lowering(graph)
    for node in graph.nodes:
        try:
            lowering.add(node)
        except ZeropointError as error:
            raise ZeropointError(f"{node.label}: {error}") from None
    return lowering.graph()


class _Lowering:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._names = Names(graph.names)
        self._constants = dict(graph.constants)
        self._nodes: list[Node] = []
        # The integers that a lowered node computes keep their name for the real values before they are quantized.
        self._renamed: dict[str, str] = {}

    def graph(self) -> Graph:
        names = self._graph.names | self._constants.keys() | {name for node in self._nodes for name in node.outputs}
        output = self._renamed.get(self._graph.output, self._graph.output)
        return replace(
            self._graph, nodes=tuple(self._nodes), constants=self._constants, names=frozenset(names), output=output
        )

    def add(self, node: Node) -> None:
        if self._renamed.keys() & set(node.inputs):
            node = _with(node, inputs=[self._renamed.get(name, name) for name in node.inputs])
        form = LOWERED.get(node.operator)
        if form is not None:
            self._lower(node, form)
        elif node.operator in LOWERED:
            self._nodes.append(_with(node, operator=node.operator.removeprefix(_MICROSOFT)))
        else:
            if node.operator == "Constant":
                self._constants[node.outputs[0]] = constant(node)
            self._nodes.append(node)

    def _lower(self, node: Node, form: _Form) -> None:
        attributes = dict(node.attributes)
        if node.flag("channels_last"):
            raise ZeropointError("has channels_last 1; only feature maps with channels first are supported")
        attributes.pop("channels_last", None)
        if form.operator == "Softmax":
            own = node.integer("opset", self._graph.opset)
            attributes.pop("opset", None)
            attributes["axis"] = _axis(own, self._graph.opset, node.integer("axis", 1 if own < 13 else -1))
        axis = 0
        if form.operator == "Gemm":
            axis = 0 if node.flag("transB") else 1
        elif form.operator == "MatMul":
            axis = -1
        inputs = [self._dequantized(node, position, axis) for position in form.inputs]
        if form.bias is not None and _has(node, form.bias):
            inputs.append(self._dequantized_bias(node, form))
        output = node.outputs[0]
        made = _with(node, operator=form.operator, inputs=inputs, attributes=attributes)
        if form.operator == "Gemm" and not _has(node, form.output):
            # Its output is float.
            self._nodes.append(made)
            return
        self._renamed[output] = self._names.unique(f"{output}.quantized")
        self._nodes.append(made)
        quantize = [output, *_parameters(node, form.output)]
        self._nodes.append(_node("QuantizeLinear", quantize, self._renamed[output], node))

    def _dequantized(self, node: Node, position: int, axis: int) -> str:
        """Return the real values of an input."""
        if not _has(node, position):
            raise ZeropointError(f"lacks input {position}")
        output = self._names.unique(f"{node.inputs[position]}.real")
        inputs = [node.inputs[position], *_parameters(node, position + 1)]
        self._nodes.append(_node("DequantizeLinear", inputs, output, node, axis=axis))
        return output

    def _dequantized_bias(self, node: Node, form: _Form) -> str:
        assert form.bias is not None
        name = node.inputs[form.bias]
        scales = []
        for position in form.inputs:
            scale = self._constants.get(node.inputs[position + 1])
            if scale is None or scale.dtype != np.float32:
                raise ZeropointError(f"scale '{node.inputs[position + 1]}' must be a float32 constant")
            scales.append(scale)
        alpha = node.attributes.get("alpha", 1.0)
        if scales[0].size != 1 or not isinstance(alpha, float):
            raise ZeropointError(f"scale '{node.inputs[form.inputs[0] + 1]}' and alpha must be single values")
        with np.errstate(over="ignore", under="ignore"):
            product = (scales[0].reshape(()) * scales[1] * np.float32(alpha)).squeeze()
        scale_name, output = self._names.unique(f"{name}.scale"), self._names.unique(f"{name}.real")
        self._constants[scale_name] = np.asarray(product, np.float32)
        self._nodes.append(_node("DequantizeLinear", [name, scale_name], output, node, axis=0))
        return output


def _axis(own: int, opset: int, axis: int) -> int:
    """Return the axis of a Softmax that follows operator set ``own``, if it means the same in ``opset``.

    Before version 13, all dimensions from the axis on are taken together. From the last one on that is the same.
    """
    if (own < 13) != (opset < 13) and axis != -1:
        raise ZeropointError(f"acts as in operator set {own}, of which only axis -1 is supported here, not {axis}")
    return axis


def _has(node: Node, position: int) -> bool:
    return position < len(node.inputs) and bool(node.inputs[position])


def _parameters(node: Node, position: int) -> list[str]:
    """Return the names of a scale and, if there is one, a zero point."""
    if not _has(node, position):
        raise ZeropointError(f"lacks input {position}, a scale")
    return [node.inputs[position]] + ([node.inputs[position + 1]] if _has(node, position + 1) else [])


def _node(operator: str, inputs: list[str], output: str, origin: Node, **attributes: Any) -> Node:
    """Return a node that stands for a part of ``origin``."""
    made = replace(origin, written=origin.written or origin.operator, outputs=(output,))
    return _with(made, operator=operator, inputs=inputs, attributes=attributes)


def _with(
    node: Node,
    *,
    operator: str | None = None,
    inputs: list[str] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Node:
    """Return a node with another operator of ONNX's own, other inputs or other attributes."""
    changed = operator is not None
    operator = node.operator if operator is None else operator
    inputs = list(node.inputs) if inputs is None else inputs
    attributes = node.attributes if attributes is None else attributes
    proto = onnx.NodeProto()
    proto.CopyFrom(node.proto)
    proto.op_type = operator.rpartition("::")[2]
    if changed:
        proto.domain = ""
    del proto.input[:], proto.output[:]
    proto.input.extend(inputs)
    proto.output.extend(node.outputs)
    kept = {attribute.name: attribute for attribute in node.proto.attribute}
    del proto.attribute[:]
    proto.attribute.extend(kept.get(key) or onnx.helper.make_attribute(key, value) for key, value in attributes.items())
    return replace(
        node,
        operator=operator,
        inputs=tuple(inputs),
        attributes=attributes,
        proto=proto,
        written=node.written or (node.operator if changed else ""),
    )
