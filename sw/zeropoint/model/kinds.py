"""Every operator by its kind."""

from zeropoint.model.elementwise import Add, LeakyRelu, Logistic, Mul, Sub
from zeropoint.model.movement import Concatenation, ResizeNearestNeighbor, StridedSlice, Transpose
from zeropoint.model.operators import (
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    MaxPool2D,
    Mean,
    Operator,
    Pad,
    Requantize,
    Reshape,
    Softmax,
)

#: Every operator by its kind, which is its name in a .zp file.
OPERATORS: dict[str, type[Operator]] = {
    cls.__name__: cls
    for cls in (
        Conv2D,
        DepthwiseConv2D,
        FullyConnected,
        Add,
        Sub,
        Mul,
        AveragePool2D,
        MaxPool2D,
        Mean,
        Pad,
        Requantize,
        LeakyRelu,
        Logistic,
        Softmax,
        Reshape,
        Concatenation,
        StridedSlice,
        Transpose,
        ResizeNearestNeighbor,
    )
}
