"""Models: tensors, operators, verification, and the ``.zp`` file.

Modules, in the order in which data meets them:

- ``operators``: what an operator holds, its shapes and its multiply-accumulates.
- ``graph``: tensors, float and quantized models, verified when made.
- ``zp_schema``: a quantized model as JSON.
- ``zp_file``: a quantized model as a file.
"""

from zeropoint.model.graph import FloatModel, Quantization, QuantizedModel, Tensor
from zeropoint.model.operators import (
    OPERATORS,
    Add,
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
    "Conv2D",
    "DepthwiseConv2D",
    "FloatModel",
    "FullyConnected",
    "MaxPool2D",
    "Mean",
    "Operator",
    "Pad",
    "Padding",
    "Quantization",
    "QuantizedModel",
    "Requantize",
    "Reshape",
    "Shape",
    "Softmax",
    "Tensor",
]
