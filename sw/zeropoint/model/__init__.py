"""Models: tensors, operators, verification, and the ``.zp`` file.

Modules, in the order in which data meets them:

- ``operators``: what an operator holds, its shapes and its multiply-accumulates: those with windows and weights, and
  what all have; ``elementwise`` and ``movement``: the others; ``kinds``: all of them by name.
- ``formats``: tensors whose integers are codes of a number format.
- ``graph``: tensors, float and quantized models, verified when made.
- ``zp_schema``: a quantized model as JSON.
- ``zp_file``: a quantized model as a file.
"""

from zeropoint.model.elementwise import Add, LeakyRelu, Logistic, Mul, Sub
from zeropoint.model.formats import Format
from zeropoint.model.graph import FloatModel, Quantization, QuantizedModel, Tensor
from zeropoint.model.kinds import OPERATORS
from zeropoint.model.movement import Concatenation, ResizeNearestNeighbor, StridedSlice, Transpose
from zeropoint.model.operators import (
    AveragePool2D,
    Clamp,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    MaxPool2D,
    Mean,
    Operator,
    Pad,
    Padding,
    Requantize,
    Reshape,
    Shape,
    Softmax,
)

__all__ = [
    "OPERATORS",
    "Add",
    "AveragePool2D",
    "Clamp",
    "Concatenation",
    "Conv2D",
    "DepthwiseConv2D",
    "FloatModel",
    "Format",
    "FullyConnected",
    "LeakyRelu",
    "Logistic",
    "MaxPool2D",
    "Mean",
    "Mul",
    "Operator",
    "Pad",
    "Padding",
    "Quantization",
    "QuantizedModel",
    "Requantize",
    "Reshape",
    "ResizeNearestNeighbor",
    "Shape",
    "Softmax",
    "StridedSlice",
    "Sub",
    "Tensor",
    "Transpose",
]
