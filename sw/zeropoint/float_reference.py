"""What a float model computes: every operator in float32, on a batch of inputs.

It is what calibration observes and what quantized results are measured against. It is not normative: the order of
summation is that of NumPy and its BLAS.
"""

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.errors import ZeropointError
from zeropoint.model import (
    Add,
    AveragePool2D,
    Clamp,
    Conv2D,
    DepthwiseConv2D,
    FloatModel,
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

Floats = npt.NDArray[np.float32]

#: The memory of one batch's activations, and of the columns that one convolution multiplies at a time. Of this order
#: they stay within a processor's caches, which more than pays for the shorter matrices.
_BATCH_BYTES = 32 << 20
_COLUMN_BYTES = 4 << 20


def run(model: FloatModel, x: npt.ArrayLike) -> dict[str, Floats]:
    """Return every activation tensor by name, the model's input included, each with the batch first.

    Parameters
    ----------
    model
        The network.
    x
        Float values of shape ``(N, *input shape)``, feature maps in NHWC layout, N at least 1. Memory grows with N:
        for many inputs, take :func:`run_batches` or :func:`run_output`.

    Raises
    ------
    ZeropointError
        If ``x`` has the wrong shape or type, or values that are NaN or infinite.
    """
    return _run(model, check_input(model, x), keep=True)


def run_batches(model: FloatModel, x: npt.ArrayLike) -> Iterator[dict[str, Floats]]:
    """Yield what :func:`run` returns for one part of ``x`` after the other, in order, within bounded memory."""
    x = check_input(model, x)
    step = _batch_size(model)
    for start in range(0, len(x), step):
        yield _run(model, x[start : start + step], keep=True)


def run_output(model: FloatModel, x: npt.ArrayLike) -> Floats:
    """Return the output, of shape ``(N, *output shape)``, within bounded memory for any N; the rest as :func:`run`."""
    x = check_input(model, x)
    step = _batch_size(model)
    parts = (_run(model, x[start : start + step], keep=False) for start in range(0, len(x), step))
    return np.concatenate([part[model.output] for part in parts])


def check_input(model: FloatModel, x: npt.ArrayLike) -> Floats:
    """Return ``x`` as float32, if it is a batch of finite inputs of ``model``; raise ZeropointError if not."""
    x = np.asarray(x)
    shape = model.tensor(model.input).shape
    if x.dtype.kind != "f":
        raise ZeropointError(f"input '{model.input}' takes float32 values, not {x.dtype.name}")
    if x.shape[1:] != shape or x.ndim != len(shape) + 1:
        expected = ", ".join(("N", *map(str, shape)))
        raise ZeropointError(f"input '{model.input}' takes an array of shape ({expected}), not {x.shape}")
    if not len(x):
        raise ZeropointError(f"input '{model.input}' takes one sample or more, but the array is empty")
    with np.errstate(over="ignore"):  # A float64 beyond float32 becomes infinite, and is refused below.
        x = x.astype(np.float32, copy=False)
    if not np.all(np.isfinite(x)):
        raise ZeropointError(f"the values for input '{model.input}' must be finite, but some are NaN or infinite")
    return x


def _batch_size(model: FloatModel) -> int:
    return max(1, _BATCH_BYTES // (4 * sum(prod(tensor.shape) for tensor in model.activations())))


def _run(model: FloatModel, x: Floats, *, keep: bool) -> dict[str, Floats]:
    """Run all operators; unless ``keep``, forget each tensor after its last reader."""
    values = {model.input: x}
    last = {name: operator for operator in model.operators for name in operator.inputs}
    for operator in model.operators:
        inputs = [values[name] for name in operator.inputs]
        constants: list[Any] = [model.tensor(name).data for name in operator.constants]
        # A network with huge weights may overflow: infinities are then the result.
        with np.errstate(over="ignore", invalid="ignore"):
            values[operator.output] = _FUNCTIONS[type(operator)](operator, *inputs, *constants)
        if not keep:
            for name in set(operator.inputs) - {model.output}:
                if last[name] is operator:
                    del values[name]
    return values


def pad(x: Floats, padding: Padding, value: float = 0.0) -> Floats:
    """Return the feature maps ``x`` with rows and columns of ``value`` around them."""
    if padding == Padding():
        return x
    spans = ((0, 0), (padding.top, padding.bottom), (padding.left, padding.right), (0, 0))
    return np.pad(x, spans, constant_values=value)


def _clamp(x: Floats, clamp: Clamp) -> Floats:
    """Clamp in place."""
    if clamp != Clamp():
        np.clip(x, np.float32(clamp.low), np.float32(clamp.high), out=x)
    return x


def taps(
    x: Floats, window: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> Iterator[tuple[int, int, Floats]]:
    """Yield ``(row, column, what of the padded x this tap of the window sees)``, of the output's height and width."""
    spans = [(size - 1) * step for size, step in zip(window, dilation, strict=True)]
    for i in range(window[0]):
        for j in range(window[1]):
            top, left = i * dilation[0], j * dilation[1]
            bottom, right = x.shape[1] - spans[0] + top, x.shape[2] - spans[1] + left
            yield i, j, x[:, top : bottom : stride[0], left : right : stride[1]]


def _convolve(operator: Conv2D, x: Floats, weights: Floats, bias: Floats | None = None) -> Floats:
    """Multiply columns (im2col) with the weights, a few rows of a few images at a time."""
    out, height, width, _ = weights.shape
    rows, columns, _ = operator.output_shape(x.shape[1:], weights.shape)
    padded = pad(x, operator.padding)
    result = np.empty((len(x), rows, columns, out), np.float32)
    row_bytes = 4 * columns * height * width * x.shape[3]
    images = max(1, _COLUMN_BYTES // (row_bytes * rows))
    band = min(rows, max(1, _COLUMN_BYTES // row_bytes))
    reach = (height - 1) * operator.dilation[0] + 1
    for first in range(0, len(x), images):
        for top in range(0, rows, band):
            count = min(band, rows - top)
            start = top * operator.stride[0]
            part = padded[first : first + images, start : start + (count - 1) * operator.stride[0] + reach]
            cells = np.empty((len(part), count, columns, height, width, x.shape[3]), np.float32)
            for i, j, seen in taps(part, (height, width), operator.stride, operator.dilation):
                cells[:, :, :, i, j] = seen
            target = result[first : first + images, top : top + count]
            target[...] = _multiply(cells, weights, operator.groups).reshape(target.shape)
    if bias is not None:
        result += bias
    return _clamp(result, operator.clamp)


def _multiply(cells: Floats, weights: Floats, groups: int) -> Floats:
    """Return the products ``(positions, out)`` of columns ``(…, height, width, in)`` and weights."""
    if groups == 1:
        matrix = weights.reshape(len(weights), -1)
        return cells.reshape(-1, matrix.shape[1]) @ matrix.T
    outs, ins = len(weights) // groups, weights.shape[3]
    parts = (
        _multiply(np.ascontiguousarray(cells[..., g * ins : (g + 1) * ins]), weights[g * outs : (g + 1) * outs], 1)
        for g in range(groups)
    )
    return np.concatenate(list(parts), axis=1)


def _convolve_depthwise(operator: DepthwiseConv2D, x: Floats, weights: Floats, bias: Floats | None = None) -> Floats:
    multiplier = weights.shape[2] // x.shape[3]
    padded = pad(x if multiplier == 1 else np.repeat(x, multiplier, axis=3), operator.padding)
    result = np.zeros((len(x), *operator.output_shape(x.shape[1:], weights.shape)), np.float32)
    for i, j, seen in taps(padded, weights.shape[:2], operator.stride, operator.dilation):
        result += seen * weights[i, j]
    if bias is not None:
        result += bias
    return _clamp(result, operator.clamp)


def _connect(operator: FullyConnected, x: Floats, weights: Floats, bias: Floats | None = None) -> Floats:
    result = x.reshape(len(x), -1) @ weights.T
    if bias is not None:
        result += bias
    return _clamp(result, operator.clamp)


def _add(operator: Add, x: Floats, other: Floats) -> Floats:
    return _clamp(x + other, operator.clamp)


def _pool_average(operator: AveragePool2D, x: Floats) -> Floats:
    total = np.zeros((len(x), *operator.output_shape(x.shape[1:])), np.float32)
    count = np.zeros((1, *total.shape[1:3], 1), np.float32)
    for _, _, seen in taps(pad(x, operator.padding), operator.window, operator.stride, (1, 1)):
        total += seen
    ones = np.ones((1, *x.shape[1:3], 1), np.float32)
    for _, _, seen in taps(pad(ones, operator.padding), operator.window, operator.stride, (1, 1)):
        count += seen
    return _clamp(total / count, operator.clamp)


def _pool_max(operator: MaxPool2D, x: Floats) -> Floats:
    result = np.full((len(x), *operator.output_shape(x.shape[1:])), -np.inf, np.float32)
    for _, _, seen in taps(pad(x, operator.padding, -np.inf), operator.window, operator.stride, (1, 1)):
        np.maximum(result, seen, out=result)
    return _clamp(result, operator.clamp)


def _mean(operator: Mean, x: Floats) -> Floats:
    return x.mean(axis=(1, 2), dtype=np.float32)


def _pad_zeros(operator: Pad, x: Floats) -> Floats:
    return pad(x, operator.padding)


def _requantize(operator: Requantize, x: Floats) -> Floats:
    return _clamp(x.copy(), operator.clamp)


def _reshape(operator: Reshape, x: Floats) -> Floats:
    shape: Shape = (len(x), *operator.shape)
    return x.reshape(shape)


def _softmax(operator: Softmax, x: Floats) -> Floats:
    # The greatest term becomes exp(0), so that none overflows.
    powers = np.exp(np.float32(operator.beta) * (x - x.max(axis=-1, keepdims=True)))
    return powers / powers.sum(axis=-1, keepdims=True, dtype=np.float32)


_FUNCTIONS: dict[type[Operator], Callable[..., Floats]] = {
    Conv2D: _convolve,
    DepthwiseConv2D: _convolve_depthwise,
    FullyConnected: _connect,
    Add: _add,
    AveragePool2D: _pool_average,
    MaxPool2D: _pool_max,
    Mean: _mean,
    Pad: _pad_zeros,
    Requantize: _requantize,
    Reshape: _reshape,
    Softmax: _softmax,
}
