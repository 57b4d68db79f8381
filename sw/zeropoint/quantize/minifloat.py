"""Ristretto's minifloats: one format for all activations, weights of as many exponent bits.

Sources: Gysel et al. 2016; ``zeropoint.numerics.minifloat`` has the formulas.
"""

from functools import partial
from math import ceil, log2

import numpy as np

from zeropoint.model import Quantization, Tensor
from zeropoint.numerics import INT32_MAX, Rounding
from zeropoint.numerics.minifloat import MinifloatFormat, in_order, least_exponent_bits
from zeropoint.quantize.schemes import Float64s, Rules, Weights

#: Ristretto takes no fewer exponent bits, where there is room for them.
_LEAST_EXPONENT_BITS = 4


def exponent_bits_for(peak: float, bits: int) -> int:
    """Return the exponent bits for values up to ``peak`` in codes of ``bits`` bits, as Ristretto chooses them."""
    return min(max(least_exponent_bits(peak), _LEAST_EXPONENT_BITS), bits - 1)


def minifloat_rules(bits: int, exponent_bits: int) -> Rules:
    """Return the rules of a network of minifloats; values have the scale that the format gives them."""
    form = MinifloatFormat(exponent_bits, bits - 1 - exponent_bits)

    def activations(low: float, high: float, least: float) -> Quantization:
        return _quantization(form)

    weights = partial(minifloat_weights, bits=bits, exponent_bits=exponent_bits)
    return Rules("int8", activations, weights, Rounding.EVEN, form)


def minifloat_weights(
    values: Float64s, axis: int, least: Float64s, idle: float, *, bits: int, exponent_bits: int
) -> Weights:
    """Return weights as the nearest minifloats."""
    form = MinifloatFormat(exponent_bits, bits - 1 - exponent_bits)
    return Weights(in_order(form.quantize(values), form).astype(np.int8), _quantization(form), form)


def minifloat_bias(bias: Float64s, unit: float, name: str) -> Tensor:
    """Return the bias of a layer whose sums count ``unit``: at the finest power of two times that which int32 holds."""
    peak = float(np.abs(bias).max(initial=0)) / unit
    scale = unit * 2.0 ** max(ceil(log2(peak / (INT32_MAX - 1))) if peak > INT32_MAX else 0, 0)
    return Tensor(name, bias.shape, "int32", Quantization((scale,)), np.rint(bias / scale).astype(np.int32))


def _quantization(form: MinifloatFormat) -> Quantization:
    return Quantization((2.0**form.least,))
