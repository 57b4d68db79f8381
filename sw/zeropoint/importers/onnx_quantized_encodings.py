"""The encoding of every activation: what the QuantizeLinear next to it says."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from zeropoint.errors import ZeropointError, quoted_list
from zeropoint.importers.onnx_float_fusion import renamed
from zeropoint.importers.onnx_quantized_translate import Encoding, FakeQuantize
from zeropoint.model import FloatModel, MaxPool2D, Operator, Pad, Requantize, Reshape, Softmax

#: What quantizes its input, or moves or clamps values: to quantize before that, or after it, is the same.
_ASKING = (FakeQuantize, MaxPool2D, Pad, Requantize, Reshape)


def softmax_encoding(dtype: str) -> Encoding:
    """Return the encoding that Softmax gives its output."""
    return Encoding(dtype, 1 / 256, int(np.iinfo(dtype).min))


def share(model: FloatModel) -> FloatModel:
    """Merge equal quantizations of one tensor, as some tools write one for each operator that reads it."""
    made: dict[tuple[str, Encoding], str] = {}
    same: dict[str, str] = {}
    operators: list[Operator] = []
    for operator in model.operators:
        operator = renamed(operator, same)
        if isinstance(operator, FakeQuantize):
            first = made.setdefault((operator.input, operator.encoding), operator.output)
            if first != operator.output:
                same[operator.output] = first
                continue
        operators.append(operator)
    tensors = {name: tensor for name, tensor in model.tensors.items() if name not in same}
    return replace(model, tensors=tensors, operators=tuple(operators), output=same.get(model.output, model.output))


def encodings(model: FloatModel) -> dict[str, Encoding]:
    """Return the encoding of each activation.

    It is that of the one FakeQuantize that makes the tensor or reads it, also if there are operators between that only
    move or clamp values. Failing that, it is the input's, of an operator that passes values through unscaled; and that
    of Softmax.

    Raises
    ------
    ZeropointError
        If a tensor has none of these, naming the operator that computes it.
    """
    readers: dict[str, list[Operator]] = defaultdict(list)
    for operator in model.operators:
        for name in operator.inputs:
            readers[name].append(operator)
    found: dict[str, Encoding] = {}
    for operator in reversed(model.operators):
        if isinstance(operator, FakeQuantize):
            found[operator.output] = operator.encoding
        elif encoding := _after(model, operator.output, readers, found):
            found[operator.output] = encoding
    start = _after(model, model.input, readers, found)
    if start is None:
        raise ZeropointError(
            f"input '{model.input}' is not quantized, or in several ways: it goes to "
            f"{_names(readers[model.input])}; it must go through one QuantizeLinear and DequantizeLinear first"
        )
    found[model.input] = start
    for operator in model.operators:
        if operator.output not in found:
            found[operator.output] = _before(operator, found, readers[operator.output])
    return found


def _after(
    model: FloatModel, tensor: str, readers: dict[str, list[Operator]], found: dict[str, Encoding]
) -> Encoding | None:
    """Return the encoding that all readers of a tensor give it, if they do."""
    if tensor == model.output:
        return None
    wanted = {found.get(reader.output) if isinstance(reader, _ASKING) else None for reader in readers[tensor]}
    return wanted.pop() if len(wanted) == 1 else None


def _before(operator: Operator, found: dict[str, Encoding], readers: Sequence[Operator]) -> Encoding:
    if operator.keeps_quantization or isinstance(operator, Requantize):
        return found[operator.input]
    if isinstance(operator, Softmax):
        return softmax_encoding(found[operator.input].dtype)
    raise ZeropointError(
        f"operator '{operator.name}' ({operator.kind}): its output '{operator.output}' is not quantized, or in several "
        f"ways: it goes to {_names(readers)}; it must go through one QuantizeLinear and DequantizeLinear first"
    )


def _names(readers: Sequence[Operator]) -> str:
    return quoted_list([f"'{reader.name}' ({reader.kind})" for reader in readers], 4) or "the network's output"
