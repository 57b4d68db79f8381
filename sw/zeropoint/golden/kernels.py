"""One function per operator: it prepares the operator's constants and returns what computes a batch.

Here are the operators that sum, search or normalize; those that are tables are in ``tables``, those that only move
values in ``movement``.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from zeropoint.arithmetic import clamp_limits, mean_scaling, softmax_scaling
from zeropoint.errors import ZeropointError
from zeropoint.golden import movement, tables
from zeropoint.golden.matmul import blocks, pad, patches, rows_read
from zeropoint.golden.output import Output
from zeropoint.golden.tables import Array, Kernel
from zeropoint.golden.wide import WideOutput
from zeropoint.model import (
    Add,
    AveragePool2D,
    Concatenation,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    LeakyRelu,
    Logistic,
    MaxPool2D,
    Mean,
    Mul,
    Operator,
    Pad,
    QuantizedModel,
    Requantize,
    Reshape,
    ResizeNearestNeighbor,
    Softmax,
    StridedSlice,
    Sub,
    Tensor,
    Transpose,
)
from zeropoint.numerics import (
    SOFTMAX_MAX_DEPTH,
    exponentials,
    requantize,
    round_half_away,
    softmax,
    wrap_int32,
)


def conv2d(model: QuantizedModel, operator: Conv2D) -> Kernel:
    """CONV_2D, grouped or not: a matrix of windows times a matrix of weights."""
    source, target = model.tensor(operator.input), model.tensor(operator.output)
    weights = _weights(model, operator)
    channels, height, width, depth = weights.shape
    output = _output(model, operator, weights.reshape(channels, -1))
    matrices = weights.reshape(operator.groups, -1, height * width * depth).transpose(0, 2, 1).astype(output.dtype)
    rows, columns, _ = target.shape
    row_bytes = columns * (matrices.shape[1] + channels) * matrices.itemsize

    def kernel(x: Array) -> Array:
        x = pad(x, operator.padding, source.zero_point)
        out = np.empty((len(x), *target.shape), target.dtype)
        for images, band in blocks(len(x), rows, row_bytes):
            part = x[images, rows_read(band, height, operator.stride[0], operator.dilation[0])]
            views = patches(part, (height, width), operator.stride, operator.dilation)
            sums = [
                _matrix(views[..., group * depth : (group + 1) * depth], matrix) @ matrix
                for group, matrix in enumerate(matrices)
            ]
            output(sums[0] if len(sums) == 1 else np.concatenate(sums, axis=1), out[images, band])
        return out

    return kernel


def _output(
    model: QuantizedModel, operator: Conv2D | DepthwiseConv2D | FullyConnected, weights: Array
) -> Output | WideOutput:
    """Return what makes an operator's outputs of its sums."""
    kind = WideOutput if model.tensor(operator.output).dtype == "int16" else Output
    return kind(model, operator, weights)


def _matrix(rows: Array, factor: Array) -> Array:
    """Return ``rows`` as the left factor of a product with ``factor``."""
    return rows.astype(factor.dtype, order="C").reshape(-1, len(factor))


def depthwise_conv2d(model: QuantizedModel, operator: DepthwiseConv2D) -> Kernel:
    """DEPTHWISE_CONV_2D: windows times weights, summed over the window's taps."""
    source, target = model.tensor(operator.input), model.tensor(operator.output)
    weights = _weights(model, operator)
    height, width, channels = weights.shape
    output = _output(model, operator, weights.reshape(-1, channels).T)
    rows, columns, _ = target.shape
    multiplier = channels // source.shape[2]
    stride, dilation = operator.stride, operator.dilation
    taps = np.repeat(weights[:, :, np.newaxis].astype(output.dtype), columns, axis=2)
    # At a stride of 1 the windows of one row of outputs are shifts of rows: one window over columns and channels at
    # once, one long run for SIMD.
    flat = stride[1] == 1
    if flat:
        dilation = (dilation[0], dilation[1] * channels)
        taps = taps.reshape(height, width, -1, 1)
    row_bytes = 3 * columns * channels * taps.itemsize

    def kernel(x: Array) -> Array:
        x = pad(x, operator.padding, source.zero_point)
        out = np.empty((len(x), *target.shape), target.dtype)
        for images, band in blocks(len(x), rows, row_bytes):
            part = x[images, rows_read(band, height, stride[0], dilation[0])].astype(output.dtype, order="C")
            part = part if multiplier == 1 else np.repeat(part, multiplier, axis=3)
            part = part.reshape(*part.shape[:2], -1, 1) if flat else part
            views = patches(part, (height, width), stride, dilation)
            output(np.einsum("nrcijk,ijck->nrck", views, taps), out[images, band])
        return out

    return kernel


def fully_connected(model: QuantizedModel, operator: FullyConnected) -> Kernel:
    """FULLY_CONNECTED: the input in NHWC order times the weights."""
    target = model.tensor(operator.output)
    weights = _weights(model, operator)
    output = _output(model, operator, weights)
    matrix = np.ascontiguousarray(weights.T.astype(output.dtype))
    row_bytes = sum(matrix.shape) * matrix.itemsize

    def kernel(x: Array) -> Array:
        out = np.empty((len(x), *target.shape), target.dtype)
        for images, _ in blocks(len(x), 1, row_bytes):
            output(_matrix(x[images], matrix) @ matrix, out[images])
        return out

    return kernel


def _weights(model: QuantizedModel, operator: Conv2D | DepthwiseConv2D | FullyConnected) -> Array:
    """Return the weights less their zero point."""
    weights = model.tensor(operator.weights)
    assert weights.quantization is not None
    # With a scale for each channel all zero points are 0, so that the first stands for all.
    return (weights.integers - weights.quantization.zero_point[0]).astype(np.int16)


def average_pool2d(model: QuantizedModel, operator: AveragePool2D) -> Kernel:
    """AVERAGE_POOL_2D: the sum over the window within the image, divided, ties away from zero."""
    source, target = model.tensor(operator.input), model.tensor(operator.output)
    clamp, border = clamp_limits(target, operator.clamp), operator.padding

    def inside(size: int, before: int, axis: int) -> Array:
        first = np.arange(target.shape[axis]) * operator.stride[axis] - before
        return np.minimum(first + operator.window[axis], size) - np.maximum(first, 0)

    counts = np.multiply.outer(inside(source.shape[0], border.top, 0), inside(source.shape[1], border.left, 1))[
        ..., np.newaxis
    ]

    def kernel(x: Array) -> Array:
        out = np.empty((len(x), *target.shape), target.dtype)
        for images, band, part in _pool_blocks(operator, target, pad(x, border, 0)):
            sums = _slide(part.astype(np.int32), operator, np.add)
            # The quotients of sums and counts below 2^26 are at least 2^-27 away from a tie or exactly on it.
            out[images, band] = np.clip(round_half_away(sums / counts[band]), *clamp)
        return out

    return kernel


def max_pool2d(model: QuantizedModel, operator: MaxPool2D) -> Kernel:
    """MAX_POOL_2D: the maximum over the window; padding has the least value, which never wins."""
    target = model.tensor(operator.output)
    clamp = clamp_limits(target, operator.clamp)

    def kernel(x: Array) -> Array:
        out = np.empty((len(x), *target.shape), target.dtype)
        for images, band, part in _pool_blocks(operator, target, pad(x, operator.padding, target.limits[0])):
            np.clip(_slide(part, operator, np.maximum), *clamp, out=out[images, band])
        return out

    return kernel


def _pool_blocks(operator: AveragePool2D | MaxPool2D, target: Tensor, x: Array) -> Iterator[tuple[slice, slice, Array]]:
    """Yield the blocks of a pool: slices of images and output rows, and the rows of ``x`` that they read."""
    rows, columns, channels = target.shape
    row_bytes = x.shape[2] * channels * 4 * operator.stride[0] + columns * channels * 24
    for images, band in blocks(len(x), rows, row_bytes):
        yield images, band, x[images, rows_read(band, operator.window[0], operator.stride[0], 1)]


def _slide(x: Array, operator: AveragePool2D | MaxPool2D, combine: np.ufunc) -> Array:
    """Return ``combine`` over every window: first over its rows, then over its columns."""
    for axis in (0, 1):
        size, stride = operator.window[axis], operator.stride[axis]
        x = np.moveaxis(x, axis + 1, 0)
        span = len(x) - size + 1
        result = x[:span:stride].copy()
        for tap in range(1, size):
            combine(result, x[tap : tap + span : stride], out=result)
        x = np.moveaxis(result, 0, axis + 1)
    return x


def mean(model: QuantizedModel, operator: Mean) -> Kernel:
    """MEAN over height and width: the sum, requantized by a multiplier that holds the count."""
    source, target = model.tensor(operator.input), model.tensor(operator.output)
    scaling, clamp = mean_scaling(model, operator), target.limits
    offset = source.zero_point * source.shape[0] * source.shape[1]

    def kernel(x: Array) -> Array:
        sums = wrap_int32(x.sum(axis=(1, 2), dtype=np.int64) - offset)
        out = requantize(sums, scaling.multiplier, scaling.shift, target.zero_point, clamp, model.rounding)
        return out.astype(target.dtype)

    return kernel


def softmax_kernel(model: QuantizedModel, operator: Softmax) -> Kernel:
    """SOFTMAX over the last dimension, in fixed point."""
    depth = model.tensor(operator.input).shape[-1]
    if depth > SOFTMAX_MAX_DEPTH:
        raise ZeropointError(
            f"operator '{operator.name}' (Softmax): input '{operator.input}' has {depth} values to normalize; "
            f"{SOFTMAX_MAX_DEPTH} at most, or their sum overflows"
        )
    scaling = softmax_scaling(model, operator)
    exps = exponentials(scaling.multiplier, scaling.shift, scaling.least, model.rounding)
    return lambda x: softmax(x, exps)


#: What prepares each kind of operator.
KERNELS: dict[type[Operator], Callable[[QuantizedModel, Any], Kernel]] = {
    Conv2D: conv2d,
    DepthwiseConv2D: depthwise_conv2d,
    FullyConnected: fully_connected,
    Add: tables.binary,
    Sub: tables.binary,
    Mul: tables.binary,
    AveragePool2D: average_pool2d,
    MaxPool2D: max_pool2d,
    Mean: mean,
    Requantize: tables.requantization,
    LeakyRelu: tables.leaky_relu,
    Logistic: tables.logistic,
    Softmax: softmax_kernel,
    Pad: movement.padding,
    Reshape: movement.reshape,
    Concatenation: movement.concatenation,
    StridedSlice: movement.strided_slice,
    Transpose: movement.transpose,
    ResizeNearestNeighbor: movement.resize_nearest_neighbor,
}
