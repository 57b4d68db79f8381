"""Networks from ONNX files, float or quantized, whichever a file holds."""

from pathlib import Path

from zeropoint.importers import onnx_float, onnx_quantized
from zeropoint.importers.onnx_float_file import Graph, read_file
from zeropoint.model import FloatModel, QuantizedModel


def read(path: Path) -> FloatModel | QuantizedModel:
    """Return the network in an ONNX file.

    It is quantized if one of its nodes quantizes, dequantizes or computes in integers, or if its input is integers.

    Raises
    ------
    ZeropointError
        As ``onnx_quantized.read`` or ``onnx_float.read``.
    """
    return read_file(path, translate)


def translate(graph: Graph, name: str) -> FloatModel | QuantizedModel:
    """Return the network of a graph as a model of this name."""
    if onnx_quantized.is_quantized(graph):
        return onnx_quantized.translate(graph, name)
    return onnx_float.translate(graph, name)
