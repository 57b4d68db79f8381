"""Importing quantized networks from ONNX files.

:func:`read` is the way in. What the operators between QuantizeLinear and DequantizeLinear are, and where their elements
lie, is what the importer of float networks finds (``onnx_float``); the integers are added here. Its modules, in the
order in which data meets them:

- ``onnx_quantized_lower``: operators on integers, such as QLinearConv, become float ones between QuantizeLinear and
  DequantizeLinear.
- ``onnx_quantized_translate``: the rest of a float network's translation, with the quantizations noted.
- ``onnx_quantized_encodings``: the scale and zero point of every activation.
- ``onnx_quantized_integers``: weights and biases as the integers they are.
- ``onnx_quantized_build``: the quantized model.
"""

from collections.abc import Mapping
from pathlib import Path

from zeropoint.errors import ZeropointError

# Imported for the handlers that they register.
from zeropoint.importers import onnx_float_layers, onnx_float_shapes  # noqa: F401
from zeropoint.importers.onnx_float_file import Graph, read_file
from zeropoint.importers.onnx_float_fusion import rename_output
from zeropoint.importers.onnx_float_translate import in_either_order
from zeropoint.importers.onnx_float_view import Groups
from zeropoint.importers.onnx_quantized_build import build
from zeropoint.importers.onnx_quantized_lower import LOWERED, lower
from zeropoint.importers.onnx_quantized_translate import Integers, QuantizedTranslator
from zeropoint.model import FloatModel, QuantizedModel
from zeropoint.numerics import Rounding

#: Before the keys of the metadata that ``zeropoint.export`` writes.
PREFIX = "zeropoint."


def read(path: Path) -> QuantizedModel:
    """Return the network in a quantized ONNX file.

    Operators are float ones between DequantizeLinear and QuantizeLinear (QDQ), as onnxruntime.quantization and torch's
    exporters write them, or act on integers: QLinearConv, QLinearMatMul, and com.microsoft's QGemm, QLinearAdd,
    QLinearMul, QLinearAveragePool, QLinearGlobalAveragePool, QLinearReduceMean and QLinearSoftmax, which are taken for
    the former. Activations are int8 or uint8 with one scale; weights are int8 or uint8 with one, or int8 with one for
    each output channel; biases are int32, or float.

    Layouts, names and what is folded are as for float networks (``onnx_float``). The integer arithmetic is that of
    ``docs/numerics.md``, whose results differ from onnxruntime's floating-point scales by a step now and then. Where
    the file's quantization is not one that an operator of ours can have, it becomes:

    - An output of MaxPool2D, AveragePool2D, Pad or Reshape whose quantization is not the input's: the operator in the
      input's, then a Requantize. But an average without padding is computed in the output's: over a whole feature map
      as a Mean, else as a DepthwiseConv2D of int8 weights 1 at the scale ``1/n``, of windows of n taps.
    - An output of Softmax other than of scale 1/256 and the least zero point: those, then a Requantize; but where it
      is the network's output, those alone, as they hold the probabilities as well.
    - An output of another type than the input (int8, uint8): the same values in the input's type, then a Requantize,
      which is exact; likewise the second input of an Add.
    - QuantizeLinear of values that are quantized otherwise already: a Requantize.
    - A bias that is float, or whose scale is not that of input times weights: ``half_away(b / (S_in · S_w))``.
    - Arithmetic with a constant, but for a sum right after a layer, which is folded into the bias:
      a 1 × 1 DepthwiseConv2D of int8 weights ±64, or 0, at the scale ``|factor| / 64``.
    - A factor right before Softmax: its beta.
    - Values between two operators that no QuantizeLinear follows, if they are only moved, pooled or clamped: the
      quantization of the nearest QuantizeLinear after them, or before; the output of a last Softmax: 1/256.

    Parameters
    ----------
    path
        As for ``onnx_float.read``; input and output may be integers or floats.

    Returns
    -------
    QuantizedModel
        Its metadata are those of ``onnx_float.read``; and what the file has under keys that begin with
        ``"zeropoint."``, such as the scheme, without that prefix. ``"zeropoint.rounding"`` is the model's rounding;
        double rounding if it is not there.

    Raises
    ------
    ZeropointError
        As ``onnx_float.read``, and if something is not quantized.
    """
    return read_file(path, translate)


def is_quantized(graph: Graph) -> bool:
    """Return whether a file holds a quantized network: something reads integers, or writes them."""
    return graph.input_type != "float32" or any(
        node.operator in LOWERED or node.operator in ("QuantizeLinear", "DequantizeLinear") for node in graph.nodes
    )


def translate(graph: Graph, name: str) -> QuantizedModel:
    """Return the network of a graph as a model of this name; as :func:`read` for the rest."""
    lowered = lower(graph)

    def attempt(order: Mapping[int, Groups]) -> tuple[FloatModel, dict[str, Integers]]:
        translator = QuantizedTranslator(lowered, order)
        return translator.run(name), translator.constants

    model, constants = in_either_order(attempt)
    notes = {key.removeprefix(PREFIX): value for key, value in sorted(graph.metadata.items()) if key.startswith(PREFIX)}
    rounding = notes.pop("rounding", Rounding.DOUBLE.value)
    if rounding not in [choice.value for choice in Rounding]:
        choices = " or ".join(f"'{choice.value}'" for choice in Rounding)
        raise ZeropointError(f"its metadata say {PREFIX}rounding = '{rounding}'; {choices} is expected")
    built = build(model, constants, Rounding(rounding), {**notes, **model.metadata})
    return rename_output(built, graph.output)
