"""Operators whose inputs are single bytes, as tables of all their results."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.arithmetic import (
    Scaling,
    add_scaling,
    clamp_limits,
    leaky_relu_table,
    logistic_table,
    mul_scaling,
    requantize_scaling,
)
from zeropoint.golden.matmul import BLOCK_BYTES
from zeropoint.model import Add, LeakyRelu, Logistic, Mul, QuantizedModel, Requantize, Shape, Sub, Tensor
from zeropoint.numerics import Integers, Rounding, multiply_by_quantized_multiplier, requantize

Array = npt.NDArray[Any]

#: Computes an operator: its inputs, ``(n, *shape)`` in the tensors' dtypes, to its output.
Kernel = Callable[..., Array]


def binary(model: QuantizedModel, operator: Add | Sub | Mul) -> Kernel:
    """ADD, SUB and MUL: a table of the 65,536 results."""
    target = model.tensor(operator.output)
    results = _products(model, operator) if isinstance(operator, Mul) else _sums(model, operator)
    flat = results.astype(target.dtype).reshape(-1)
    constant = model.tensor(operator.other).data if operator.constant else None

    def kernel(x: Array, y: Array | None = None) -> Array:
        out = np.empty((len(x), *target.shape), target.dtype)
        second = y if constant is None else constant[np.newaxis]
        assert second is not None
        high, low = _bytes(x, out.shape), _bytes(second, out.shape)
        values = out.reshape(-1)
        for start in range(0, values.size, BLOCK_BYTES >> 4):
            piece = slice(start, start + (BLOCK_BYTES >> 4))
            values[piece] = flat[high[piece] * np.intp(256) + low[piece]]
        return out

    return kernel


def _bytes(x: Array, shape: Shape) -> Array:
    """Return a batch as bytes, broadcast to ``shape`` sample by sample, in order."""
    aligned = x.view(np.uint8).reshape(len(x), *(1,) * (len(shape) - x.ndim), *x.shape[1:])
    return np.broadcast_to(aligned, shape).reshape(-1)


def _sums(model: QuantizedModel, operator: Add | Sub) -> Integers:
    target = model.tensor(operator.output)
    scaling = add_scaling(model, operator)
    # Only the sum goes to even: an operand has twenty bits below the unit, where ties are rare.
    rounding = Rounding.SINGLE if model.rounding is Rounding.EVEN else model.rounding

    def scaled(tensor: Tensor, own: Scaling) -> Integers:
        return multiply_by_quantized_multiplier(
            _differences(tensor) << scaling.left_shift, own.multiplier, own.shift, rounding
        )

    sums = np.add.outer(
        scaled(model.tensor(operator.input), scaling.input), scaled(model.tensor(operator.other), scaling.other)
    )
    clamp, output = clamp_limits(target, operator.clamp), scaling.output
    return requantize(sums, output.multiplier, output.shift, target.zero_point, clamp, model.rounding)


def _products(model: QuantizedModel, operator: Mul) -> Integers:
    target = model.tensor(operator.output)
    products = np.multiply.outer(*(_differences(model.tensor(name)) for name in (operator.input, operator.other)))
    clamp, scaling = clamp_limits(target, operator.clamp), mul_scaling(model, operator)
    return requantize(products, scaling.multiplier, scaling.shift, target.zero_point, clamp, model.rounding)


def _differences(tensor: Tensor) -> Integers:
    """Return the 256 values of an 8-bit tensor less its zero point, in the order of their bytes."""
    return np.arange(256, dtype=np.uint8).view(tensor.dtype).astype(np.int64) - tensor.zero_point


def requantization(model: QuantizedModel, operator: Requantize) -> Kernel:
    """QUANTIZE, RELU and their like: a table of the 256 results."""
    source, target = model.tensor(operator.input), model.tensor(operator.output)
    clamp, scaling = clamp_limits(target, operator.clamp), requantize_scaling(model, operator)
    return _table(
        requantize(_differences(source), scaling.multiplier, scaling.shift, target.zero_point, clamp, model.rounding),
        target,
    )


def leaky_relu(model: QuantizedModel, operator: LeakyRelu) -> Kernel:
    """LEAKY_RELU."""
    return _table(leaky_relu_table(model, operator), model.tensor(operator.output))


def logistic(model: QuantizedModel, operator: Logistic) -> Kernel:
    """LOGISTIC."""
    return _table(logistic_table(model, operator), model.tensor(operator.output))


def _table(results: Integers, target: Tensor) -> Kernel:
    table = results.astype(target.dtype)
    return lambda x: table[x.view(np.uint8)]
