"""The arithmetic of docs/numerics.md once more, from its definitions: one number at a time, in exact rationals.

Slow and plain on purpose, and independent of ``zeropoint.numerics`` and ``zeropoint.golden``; only the multipliers come
from ``zeropoint.arithmetic``. The tests hold it against the oracle where that can run, and the golden model against it
where that cannot, as in single rounding.
"""

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import product
from math import floor
from typing import Any

import numpy as np

from zeropoint.arithmetic import (
    Scaling,
    add_scaling,
    clamp_limits,
    mean_scaling,
    requantize_scaling,
    softmax_scaling,
    weighted_scaling,
)
from zeropoint.model import (
    Add,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    MaxPool2D,
    Mean,
    Operator,
    Pad,
    QuantizedModel,
    Requantize,
    Reshape,
    Softmax,
)
from zeropoint.numerics import Rounding

HALF = Fraction(1, 2)


def half_up(x: Fraction) -> int:
    return floor(x + HALF)


def half_away(x: Fraction) -> int:
    return floor(abs(x) + HALF) * (-1 if x < 0 else 1)


def wrapped(x: int) -> int:
    return (x + 2**31) % 2**32 - 2**31


def saturated(x: int) -> int:
    return min(max(x, -(2**31)), 2**31 - 1)


def high_mul(a: int, b: int) -> int:
    return saturated(half_up(Fraction(a * b, 2**31)))


def scaled(x: int, multiplier: int, shift: int, rounding: Rounding) -> int:
    if rounding is not Rounding.DOUBLE:
        nearest = half_up if rounding is Rounding.SINGLE else round
        return wrapped(nearest(Fraction(x * multiplier) * Fraction(2) ** (shift - 31)))
    return half_away(Fraction(high_mul(wrapped(x * 2 ** max(shift, 0)), multiplier), 2 ** max(-shift, 0)))


def requantized(
    x: int, multiplier: int, shift: int, zero_point: int, clamp: tuple[int, int], rounding: Rounding
) -> int:
    return min(max(wrapped(scaled(x, multiplier, shift, rounding) + zero_point), clamp[0]), clamp[1])


def exp_of_negative(a: int) -> int:
    """Q5.26 to Q0.31."""
    if a == 0:
        return 2**31 - 1
    part = a % 2**24 - 2**24
    x = part * 32 + 2**28
    x2 = high_mul(x, x)
    x3, x4 = high_mul(x2, x), high_mul(x2, x2)
    series = x + half_away(Fraction(high_mul(half_away(Fraction(x4, 4)) + x3, 715827883) + x2, 2))
    result = 1895147668 + high_mul(1895147668, series)
    rest = part - a
    for bit, factor in zip(
        range(24, 31), (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242), strict=True
    ):
        if rest & 1 << bit:
            result = high_mul(result, factor)
    return result


def one_over_one_plus(a: int) -> int:
    """Q0.31 to Q0.31."""
    half = half_away(Fraction(a + 2**31 - 1, 2))
    x = 1515870810 + high_mul(half, -1010580540)
    for _ in range(3):
        x += saturated(4 * high_mul(x, 2**29 - high_mul(half, x)))
    return saturated(2 * x)


def softmax(row: list[int], multiplier: int, shift: int, least: int, rounding: Rounding, low: int) -> list[int]:
    top = max(row)
    exps = [
        exp_of_negative(scaled(value - top, multiplier, shift, rounding)) if value - top >= least else 0
        for value in row
    ]
    total = sum(half_away(Fraction(value, 2**12)) for value in exps)
    over_unit = total.bit_length() - 20
    scale = one_over_one_plus(total * 2 ** (32 - total.bit_length()) - 2**31)
    return [min(half_away(Fraction(high_mul(scale, value), 2 ** (over_unit + 23))) + low, low + 255) for value in exps]


def run(model: QuantizedModel, x: np.ndarray) -> dict[str, np.ndarray]:
    """Return every activation of ``model`` for the batch ``x``."""
    tensors = {model.input: x}
    for operator in model.operators:
        target = model.tensor(operator.output)
        out = np.empty((len(x), *target.shape), target.dtype)
        inputs = [tensors[name] for name in operator.inputs]
        for sample in range(len(x)):
            function: Callable[..., Any] = _FUNCTIONS[type(operator)]
            function(model, operator, *(array[sample].tolist() for array in inputs), out[sample])
        tensors[operator.output] = out
    return tensors


def _at(scaling: Scaling, channel: int) -> tuple[int, int]:
    return int(scaling.multiplier[channel]), int(scaling.shift[channel])


def _taps(
    operator: Conv2D | DepthwiseConv2D | AveragePool2D | MaxPool2D,
    image: list[Any],
    window: tuple[int, ...],
    row: int,
    column: int,
) -> Iterator[tuple[int, int, Any]]:
    """Yield the taps of a window within the image, and the channels found there."""
    for i, j in product(range(window[0]), range(window[1])):
        y = row * operator.stride[0] + i * operator.dilation[0] - operator.padding.top
        x = column * operator.stride[1] + j * operator.dilation[1] - operator.padding.left
        if 0 <= y < len(image) and 0 <= x < len(image[0]):
            yield i, j, image[y][x]


def _layer(
    model: QuantizedModel,
    operator: Conv2D | DepthwiseConv2D | FullyConnected,
    out: np.ndarray,
    products: Callable[[tuple[int, ...], Any, int, int], int],
) -> None:
    """Write the outputs whose sums of products ``products`` gives, from weights and both zero points."""
    source, target, weights = (model.tensor(name) for name in (operator.input, operator.output, operator.weights))
    bias = model.tensor(operator.bias).data if operator.bias else None
    scaling, clamp = weighted_scaling(model, operator), clamp_limits(target, operator.clamp)
    data = weights.data.tolist()
    for index in np.ndindex(out.shape):
        sums = products(index, data, source.zero_point, weights.quantization.zero_point[0])
        sums += 0 if bias is None else int(bias[index[-1]])
        out[index] = requantized(wrapped(sums), *_at(scaling, index[-1]), target.zero_point, clamp, model.rounding)


def _conv2d(model: QuantizedModel, operator: Conv2D, image: list[Any], out: np.ndarray) -> None:
    count, height, width, depth = model.tensor(operator.weights).shape

    def products(index: tuple[int, ...], weights: Any, zx: int, zw: int) -> int:
        row, column, channel = index
        first = channel // (count // operator.groups) * depth
        return sum(
            (pixel[first + k] - zx) * (weights[channel][i][j][k] - zw)
            for i, j, pixel in _taps(operator, image, (height, width), row, column)
            for k in range(depth)
        )

    _layer(model, operator, out, products)


def _depthwise_conv2d(model: QuantizedModel, operator: DepthwiseConv2D, image: list[Any], out: np.ndarray) -> None:
    height, width, channels = model.tensor(operator.weights).shape
    multiplier = channels // len(image[0][0])

    def products(index: tuple[int, ...], weights: Any, zx: int, zw: int) -> int:
        row, column, channel = index
        return sum(
            (pixel[channel // multiplier] - zx) * (weights[i][j][channel] - zw)
            for i, j, pixel in _taps(operator, image, (height, width), row, column)
        )

    _layer(model, operator, out, products)


def _fully_connected(model: QuantizedModel, operator: FullyConnected, x: list[Any], out: np.ndarray) -> None:
    flat = np.ravel(x).tolist()

    def products(index: tuple[int, ...], weights: Any, zx: int, zw: int) -> int:
        return sum((q - zx) * (w - zw) for q, w in zip(flat, weights[index[0]], strict=True))

    _layer(model, operator, out, products)


def _add(model: QuantizedModel, operator: Add, first: list[Any], second: list[Any], out: np.ndarray) -> None:
    target = model.tensor(operator.output)
    scaling, clamp = add_scaling(model, operator), clamp_limits(target, operator.clamp)
    zero_points = [model.tensor(name).zero_point for name in operator.inputs]
    # Only the sum's ties go to even.
    inner = Rounding.SINGLE if model.rounding is Rounding.EVEN else model.rounding
    for index, a, b in zip(np.ndindex(out.shape), np.ravel(first).tolist(), np.ravel(second).tolist(), strict=True):
        sums = sum(
            scaled((q - zero_point) * 2**20, int(own.multiplier), int(own.shift), inner)
            for q, zero_point, own in zip((a, b), zero_points, (scaling.input, scaling.other), strict=True)
        )
        multiplier, shift = int(scaling.output.multiplier), int(scaling.output.shift)
        out[index] = requantized(sums, multiplier, shift, target.zero_point, clamp, model.rounding)


def _pool(model: QuantizedModel, operator: AveragePool2D | MaxPool2D, image: list[Any], out: np.ndarray) -> None:
    low, high = clamp_limits(model.tensor(operator.output), operator.clamp)
    for row, column, channel in np.ndindex(out.shape):
        values = [pixel[channel] for _, _, pixel in _taps(operator, image, operator.window, row, column)]
        value = max(values) if isinstance(operator, MaxPool2D) else half_away(Fraction(sum(values), len(values)))
        out[row, column, channel] = min(max(value, low), high)


def _mean(model: QuantizedModel, operator: Mean, image: list[Any], out: np.ndarray) -> None:
    source, target = model.tensor(operator.input), model.tensor(operator.output)
    scaling = mean_scaling(model, operator)
    for channel in range(len(out)):
        sums = sum(pixel[channel] - source.zero_point for row in image for pixel in row)
        multiplier, shift = int(scaling.multiplier), int(scaling.shift)
        out[channel] = requantized(wrapped(sums), multiplier, shift, target.zero_point, target.limits, model.rounding)


def _pad(model: QuantizedModel, operator: Pad, image: list[Any], out: np.ndarray) -> None:
    out[...] = model.tensor(operator.input).zero_point
    top, left = operator.padding.top, operator.padding.left
    out[top : top + len(image), left : left + len(image[0])] = image


def _requantize(model: QuantizedModel, operator: Requantize, x: list[Any], out: np.ndarray) -> None:
    source, target = model.tensor(operator.input), model.tensor(operator.output)
    scaling, clamp = requantize_scaling(model, operator), clamp_limits(target, operator.clamp)
    multiplier, shift = int(scaling.multiplier), int(scaling.shift)
    for index, q in zip(np.ndindex(out.shape), np.ravel(x).tolist(), strict=True):
        out[index] = requantized(q - source.zero_point, multiplier, shift, target.zero_point, clamp, model.rounding)


def _reshape(model: QuantizedModel, operator: Reshape, x: list[Any], out: np.ndarray) -> None:
    out[...] = np.reshape(x, out.shape)


def _softmax(model: QuantizedModel, operator: Softmax, x: list[Any], out: np.ndarray) -> None:
    scaling, low = softmax_scaling(model, operator), model.tensor(operator.output).limits[0]
    rows = np.reshape(x, (-1, out.shape[-1])).tolist()
    out[...] = np.reshape(
        [softmax(row, scaling.multiplier, scaling.shift, scaling.least, model.rounding, low) for row in rows], out.shape
    )


_FUNCTIONS: dict[type[Operator], Callable[..., None]] = {
    Conv2D: _conv2d,
    DepthwiseConv2D: _depthwise_conv2d,
    FullyConnected: _fully_connected,
    Add: _add,
    AveragePool2D: _pool,
    MaxPool2D: _pool,
    Mean: _mean,
    Pad: _pad,
    Requantize: _requantize,
    Reshape: _reshape,
    Softmax: _softmax,
}
