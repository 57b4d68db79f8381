"""TensorFlow Lite's operators that compute each element from one element of each input."""

from math import inf

from zeropoint.errors import ZeropointError
from zeropoint.importers.tflite_file import Node
from zeropoint.importers.tflite_translate import Translator, fused_activation, handles
from zeropoint.model import Add, Clamp, LeakyRelu, Logistic, Mul, Operator, Requantize, Shape, Sub
from zeropoint.model.elementwise import broadcast_shape

_ACTIVATIONS = {
    "RELU": Clamp(0.0, inf),
    "RELU6": Clamp(0.0, 6.0),
    "RELU_N1_TO_1": Clamp(-1.0, 1.0),
    "RELU_0_TO_1": Clamp(0.0, 1.0),
}
_BINARY: dict[str, type[Operator]] = {"ADD": Add, "SUB": Sub, "MUL": Mul}


@handles(*_BINARY)
def _binary(t: Translator, node: Node) -> None:
    kind, clamp = _BINARY[node.operator], fused_activation(node)
    constant = next((position for position in (0, 1) if t.is_constant(node, position)), None)
    if constant is None:
        first, second = t.value(node, 0), t.value(node, 1)
        shape = _broadcast(first.shape, second.shape)
        t.emit(kind, node, file_shape=shape, input=first.tensor, other=second.tensor, clamp=clamp)
        return
    value, tensor = t.value(node, 1 - constant), t.constant(node, constant)
    shape = _broadcast(value.shape, tensor.shape)
    order = {"reverse": constant == 0} if kind is Sub else {}
    other = t.add_operand(tensor, value)
    t.emit(kind, node, file_shape=shape, input=value.tensor, other=other, constant=True, clamp=clamp, **order)


def _broadcast(first: Shape, second: Shape) -> Shape:
    try:
        return broadcast_shape(first, second)
    except ValueError as error:
        raise ZeropointError(str(error)) from None


@handles(*_ACTIVATIONS)
def _activation(t: Translator, node: Node) -> None:
    value = t.value(node, 0)
    t.emit(Requantize, node, file_shape=value.shape, input=value.tensor, clamp=_ACTIVATIONS[node.operator])


@handles("QUANTIZE")
def _quantize(t: Translator, node: Node) -> None:
    value = t.value(node, 0)
    t.emit(Requantize, node, file_shape=value.shape, input=value.tensor)


@handles("LEAKY_RELU")
def _leaky_relu(t: Translator, node: Node) -> None:
    value = t.value(node, 0)
    t.emit(LeakyRelu, node, file_shape=value.shape, input=value.tensor, alpha=node.option("Alpha"))


@handles("LOGISTIC")
def _logistic(t: Translator, node: Node) -> None:
    value = t.value(node, 0)
    t.emit(Logistic, node, file_shape=value.shape, input=value.tensor)
