"""Operators of minifloats: exact sums of exact products, rounded once to the nearest minifloat.

A minifloat is an integer of its format's unit, and any such integer is exact in float64. So are sums of products of
those, as long as they stay below 2^53; where the format's range is too wide for that, operands are split into planes of
neighbouring exponents, whose products are summed apart and put together as integers.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.arithmetic import check_same_scale, clamp_limits, float_scaling
from zeropoint.golden.matmul import blocks, pad, patches, rows_read
from zeropoint.golden.tables import Array, Kernel
from zeropoint.model import (
    Add,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Operator,
    QuantizedModel,
    Requantize,
    Softmax,
    Tensor,
)
from zeropoint.model.formats import format_integers
from zeropoint.numerics import Integers
from zeropoint.numerics.minifloat import MinifloatFormat, from_order, requantize
from zeropoint.numerics.softmax import float_exponentials, normalized

Planes = list[npt.NDArray[np.float64]]

#: Returns a layer's sums of products of a plane of activations and a plane of weights.
Product = Callable[[npt.NDArray[np.float64], npt.NDArray[np.float64]], npt.NDArray[np.float64]]


class _Layer:
    """What the layers with weights have in common.

    Parameters
    ----------
    model, operator
        The layer.
    terms
        Products in one sum.
    """

    def __init__(self, model: QuantizedModel, operator: Conv2D | DepthwiseConv2D | FullyConnected, terms: int) -> None:
        self.source, self.target = model.tensor(operator.input), model.tensor(operator.output)
        weights = model.tensor(operator.weights)
        first, second = _form(self.source), _form(weights)
        # Significands of M + 1 bits, and shifts within a plane from 0 to this less 1, make sums below 2^53.
        mantissas = first.mantissa_bits + second.mantissa_bits
        self._shifts = (53 - (terms - 1).bit_length() - mantissas) // 2
        every = np.arange(256, dtype=np.uint8).view(np.int8)
        codes = np.where(np.abs(every.astype(np.int64)) <= self.source.limits[1], every, 0)
        self._tables = self._planes(first, codes)
        assert weights.data is not None
        self.weights = self._planes(second, weights.data)
        scaling = float_scaling(model, operator)
        self._exponent = scaling.exponent
        self._clamp = clamp_limits(self.target, operator.clamp)
        width = (terms * first.greatest_integer * second.greatest_integer).bit_length()
        bias: Any = 0
        if operator.bias is not None:
            data = model.tensor(operator.bias).data
            assert data is not None
            bias = data.astype(object) << scaling.bias_shift.astype(object)
            width = max(width, max(abs(int(value)) for value in bias).bit_length()) + 1
        self._wide = width > 62
        self._bias = np.asarray(bias, object if self._wide else np.int64)

    def _planes(self, form: MinifloatFormat, data: npt.NDArray[Any]) -> Planes:
        """Return integers as planes: the sum of plane ``p`` times ``2^(p · shifts)``."""
        significand, shift = form.significands(from_order(data, form))
        plane, within = np.divmod(shift, self._shifts)
        count = ((1 << form.exponent_bits) - 2) // self._shifts + 1
        return [np.where(plane == p, significand << within, 0).astype(np.float64) for p in range(count)]

    def outputs(self, x: Array, product: Product) -> Array:
        """Return outputs, whose sums ``product`` gives of a plane of activations ``x`` and a plane of weights."""
        total: Any = 0
        for p, table in enumerate(self._tables):
            plane = table[x.view(np.uint8)]
            for w, weights in enumerate(self.weights):
                part = product(plane, weights).astype(np.int64)
                by = (p + w) * self._shifts
                total = total + ((part.astype(object) if self._wide else part) << by)
        return _rounded(total + self._bias, self._exponent, self.target, self._clamp)


def conv2d(model: QuantizedModel, operator: Conv2D) -> Kernel:
    """CONV_2D, grouped or not."""
    channels, height, width, depth = model.tensor(operator.weights).shape
    layer = _Layer(model, operator, height * width * depth)
    rows, columns, _ = layer.target.shape
    share = channels // operator.groups

    def product(x: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        views = patches(x, (height, width), operator.stride, operator.dilation)
        parts = []
        for group in range(operator.groups):
            matrix = weights[group * share : (group + 1) * share].reshape(share, -1).T
            taken = views[..., group * depth : (group + 1) * depth]
            parts.append(taken.reshape(*taken.shape[:3], -1) @ matrix)
        return np.concatenate(parts, axis=-1)

    return _by_blocks(layer, operator, (height, width), rows, columns * height * width * depth * 8, product)


def depthwise_conv2d(model: QuantizedModel, operator: DepthwiseConv2D) -> Kernel:
    """DEPTHWISE_CONV_2D."""
    height, width, channels = model.tensor(operator.weights).shape
    layer = _Layer(model, operator, height * width)
    rows, columns, _ = layer.target.shape
    multiplier = channels // layer.source.shape[2]

    def product(x: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        views = patches(np.repeat(x, multiplier, axis=3), (height, width), operator.stride, operator.dilation)
        return np.asarray(np.einsum("nrcijk,ijk->nrck", views, weights))

    return _by_blocks(layer, operator, (height, width), rows, columns * channels * 24, product)


def _by_blocks(
    layer: _Layer,
    operator: Conv2D | DepthwiseConv2D,
    window: tuple[int, int],
    rows: int,
    row_bytes: int,
    product: Product,
) -> Kernel:
    def kernel(x: Array) -> Array:
        x = pad(x, operator.padding, 0)
        out = np.empty((len(x), *layer.target.shape), layer.target.dtype)
        for images, band in blocks(len(x), rows, row_bytes):
            part = x[images, rows_read(band, window[0], operator.stride[0], operator.dilation[0])]
            out[images, band] = layer.outputs(part, product)
        return out

    return kernel


def fully_connected(model: QuantizedModel, operator: FullyConnected) -> Kernel:
    """FULLY_CONNECTED."""
    layer = _Layer(model, operator, model.tensor(operator.weights).shape[1])
    return lambda x: layer.outputs(x.reshape(len(x), -1), lambda plane, weights: plane @ weights.T)


def add(model: QuantizedModel, operator: Add) -> Kernel:
    """ADD: the exact sum, rounded once; a table of the 65,536 results would do as well."""
    source, target = model.tensor(operator.input), model.tensor(operator.output)
    scaling, clamp = float_scaling(model, operator), clamp_limits(target, operator.clamp)
    form = _form(source)
    return lambda x, y: _rounded(format_integers(form, x) + format_integers(form, y), scaling.exponent, target, clamp)


def requantization(model: QuantizedModel, operator: Requantize) -> Kernel:
    """RELU and its like: minifloats of one scale need no more than the clamp."""
    source, target = model.tensor(operator.input), model.tensor(operator.output)
    check_same_scale(operator, source, target)
    clamp = clamp_limits(target, operator.clamp)
    return lambda x: np.clip(x, *clamp).astype(target.dtype)


def softmax(model: QuantizedModel, operator: Softmax) -> Kernel:
    """SOFTMAX: the differences of reals in fixed point, and from there on as for integers."""
    source, target = model.tensor(operator.input), model.tensor(operator.output)
    return lambda x: normalized(
        float_exponentials(operator.beta * source.dequantize(x).astype(np.float64)), target.dtype
    )


def _form(tensor: Tensor) -> MinifloatFormat:
    assert isinstance(tensor.format, MinifloatFormat)
    return tensor.format


def _rounded(sums: Integers, exponent: Integers, target: Tensor, clamp: tuple[int, int]) -> Array:
    return np.clip(requantize(sums, exponent, _form(target)), *clamp).astype(target.dtype)


#: What prepares each kind of operator whose minifloats mean something to it; others move or compare them as integers.
KERNELS: dict[type[Operator], Callable[[QuantizedModel, Any], Kernel]] = {
    Conv2D: conv2d,
    DepthwiseConv2D: depthwise_conv2d,
    FullyConnected: fully_connected,
    Add: add,
    Requantize: requantization,
    Softmax: softmax,
}
