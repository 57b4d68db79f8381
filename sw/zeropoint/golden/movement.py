"""Operators that put values elsewhere, unchanged."""

import numpy as np

from zeropoint.arithmetic import concatenation_table, nearest_neighbors
from zeropoint.golden.matmul import pad
from zeropoint.golden.tables import Array, Kernel
from zeropoint.model import (
    Concatenation,
    Pad,
    QuantizedModel,
    Reshape,
    ResizeNearestNeighbor,
    StridedSlice,
    Transpose,
)


def padding(model: QuantizedModel, operator: Pad) -> Kernel:
    """PAD with the zero point, PADV2 with a value of its own."""
    value = model.tensor(operator.input).zero_point if operator.value is None else operator.value
    return lambda x: pad(x, operator.padding, value)


def reshape(model: QuantizedModel, operator: Reshape) -> Kernel:
    """RESHAPE."""
    return lambda x: x.reshape(len(x), *operator.shape)


def concatenation(model: QuantizedModel, operator: Concatenation) -> Kernel:
    """CONCATENATION: tables for the inputs, most of which change nothing."""
    target = model.tensor(operator.output)
    sources = [model.tensor(name) for name in operator.inputs]
    tables = [
        None if source.quantization == target.quantization else concatenation_table(source, target).astype(target.dtype)
        for source in sources
    ]

    def kernel(*inputs: Array) -> Array:
        parts = [x if table is None else table[x.view(np.uint8)] for x, table in zip(inputs, tables, strict=True)]
        return np.concatenate(parts, axis=1 + operator.axis)

    return kernel


def strided_slice(model: QuantizedModel, operator: StridedSlice) -> Kernel:
    """STRIDED_SLICE."""
    taken = []
    for begin, stride, count in zip(operator.begin, operator.stride, operator.shape, strict=True):
        stop = begin + count * stride
        # Below 0 an end would count from the other side.
        taken.append(slice(begin, stop if stop >= 0 else None, stride or 1))
    return lambda x: np.ascontiguousarray(x[:, *taken])


def transpose(model: QuantizedModel, operator: Transpose) -> Kernel:
    """TRANSPOSE."""
    axes = (0, *(1 + axis for axis in operator.permutation))
    return lambda x: np.ascontiguousarray(x.transpose(axes))


def resize_nearest_neighbor(model: QuantizedModel, operator: ResizeNearestNeighbor) -> Kernel:
    """RESIZE_NEAREST_NEIGHBOR: rows, then columns."""
    rows, columns = nearest_neighbors(operator, model.tensor(operator.input).shape)
    return lambda x: x[:, rows][:, :, columns]
