"""Ristretto's fixed point and dynamic fixed point: integers at scales that are powers of two.

Sources: Gysel et al. 2016; ``zeropoint.numerics.dynamic_fixed_point`` has the formulas.
"""

from functools import partial
from math import ceil, log2

import numpy as np

from zeropoint.model import Format, Quantization
from zeropoint.model.formats import fixed_point
from zeropoint.numerics import Rounding
from zeropoint.numerics.dynamic_fixed_point import FixedPointFormat, dynamic_fixed_point
from zeropoint.quantize.schemes import Float64s, Rules, Weights


def dynamic_rules(bits: int) -> Rules:
    """Return the rules of dynamic fixed point: each activation and each layer's weights have their own unit."""
    activations = partial(fixed_point_activations, bits=bits)
    return Rules(_dtype(bits), activations, partial(_weights, bits=bits), Rounding.EVEN, _format(bits))


def fixed_rules(bits: int, peak: float) -> Rules:
    """Return the rules of fixed point for a network whose activations and weights are up to ``peak`` in magnitude."""

    def activations(low: float, high: float, least: float) -> Quantization:
        return fixed_point_activations(-peak, peak, least, bits=bits)

    return Rules(_dtype(bits), activations, partial(_weights, bits=bits, peak=peak), Rounding.EVEN, _format(bits))


def fixed_point_activations(low: float, high: float, least: float, *, bits: int) -> Quantization:
    """Return the quantization of activations ``low`` … ``high``: no value is clipped but what rounds up to 2^(IL−1)."""
    return Quantization((_at_least(dynamic_fixed_point(max(-low, high), bits), least).scale,))


def _weights(
    values: Float64s, axis: int, least: Float64s, idle: float, *, bits: int, peak: float | None = None
) -> Weights:
    greatest = float(np.abs(values).max()) if peak is None else peak
    form = _at_least(dynamic_fixed_point(greatest, bits), float(least.max()))
    return Weights(form.quantize(values), Quantization((form.scale,)), _format(bits))


def _at_least(form: FixedPointFormat, least: float) -> FixedPointFormat:
    """Return the format with a scale of at least ``least``."""
    length = min(form.fractional_length, -ceil(log2(least))) if least > 0 else form.fractional_length
    return FixedPointFormat(form.bits, length)


def _dtype(bits: int) -> str:
    """Return the dtype of integers of ``bits`` bits."""
    return "int8" if bits <= 8 else "int16"


def _format(bits: int) -> Format | None:
    """Return the format of tensors that hold integers of ``bits`` bits, if that is not what their dtype is."""
    return fixed_point(bits) if bits < 8 else None
