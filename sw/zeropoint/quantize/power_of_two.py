"""Weights that are powers of two: INQ's, and Ristretto's multiplier-free ones.

Sources: Zhou et al. 2017, and Ristretto; ``zeropoint.numerics.power_of_two`` has the formulas.
"""

from functools import partial
from math import ceil, log2

import numpy as np

from zeropoint.model import FloatModel, Quantization, QuantizedModel
from zeropoint.model.formats import power_of_two
from zeropoint.numerics import Rounding
from zeropoint.numerics.power_of_two import (
    RISTRETTO_POWER_OF_TWO,
    PowerOfTwoFormat,
    inq_format,
    quantize_inq,
    quantize_ristretto_power_of_two,
)
from zeropoint.quantize.affine import AFFINE_INT8
from zeropoint.quantize.fixed_point import fixed_point_activations
from zeropoint.quantize.schemes import Float64s, Rules, Weighted, Weights

#: How far a weight may be from a power of two times its channel's scale to count as one: what folding a batch
#: normalization into weights rounds, in float32, with some to spare.
_TOLERANCE = 2.0**-18


def inq_rules(bits: int) -> Rules:
    """Return INQ's rules: weights of ``bits`` bits, activations as in ``affine-int8``."""
    return Rules(AFFINE_INT8.dtype, AFFINE_INT8.activations, partial(_inq_weights, bits=bits))


def pow2_rules() -> Rules:
    """Return Ristretto's rules for multiplier-free networks: activations are 8-bit dynamic fixed point."""
    return Rules("int8", partial(fixed_point_activations, bits=8), partial(ristretto_weights, bits=4), Rounding.EVEN)


def _inq_weights(values: Float64s, axis: int, least: Float64s, idle: float, *, bits: int) -> Weights:
    """Return INQ's weights.

    Weights that INQ has trained stay what they are: where a batch normalization was folded into them, each channel's
    are powers of two times a scale of the channel. Others get the layer's levels, by the paper's rule.
    """
    exponent_bits = bits - 2
    channels = np.moveaxis(values, axis, 0)
    form = _raised(inq_format(float(np.abs(values).max()), bits), least)
    codes = quantize_inq(values, form)
    if not np.array_equal(form.decode(codes), values):
        found = _channel_scales(channels.reshape(len(channels), -1), exponent_bits, idle)
        if found is not None and np.all(found >= least):
            shape = [1] * values.ndim
            shape[axis] = len(found)
            unit = power_of_two(exponent_bits)
            steps = values / found.reshape(shape)
            powers = np.sign(steps) * np.exp2(
                np.rint(np.log2(np.abs(steps), where=steps != 0, out=np.zeros_like(steps)))
            )
            quantization = Quantization(tuple(found.tolist()), (0,) * len(found), axis)
            return Weights(unit.encode(powers), quantization, unit)
    scale = form.scale if np.any(values) else max(idle, float(least.max()))
    return Weights(codes, Quantization((scale,)), power_of_two(exponent_bits))


def untrained(model: FloatModel, quantized: QuantizedModel) -> list[str]:
    """Return the operators of ``quantized`` with weights that are not what they are in ``model``."""
    names = []
    for before, after in zip(model.operators, quantized.operators, strict=True):
        if isinstance(before, Weighted) and isinstance(after, Weighted):
            values, got = model.tensor(before.weights).data, quantized.tensor(after.weights).real
            assert values is not None  # Verified by the model.
            if np.any(np.abs(got - values) > 2 * _TOLERANCE * np.abs(values)):
                names.append(before.name)
    return names


def _channel_scales(channels: Float64s, exponent_bits: int, idle: float) -> Float64s | None:
    """Return the scale of each channel of which all weights are powers of two within the format, or None."""
    magnitude = np.abs(channels)
    there = magnitude > 0
    peak = magnitude.max(axis=1)
    ratio = np.where(there, magnitude / np.where(peak > 0, peak, 1)[:, None], 1.0)
    exponent = np.rint(np.log2(ratio))
    if np.any(np.abs(ratio / np.exp2(exponent) - 1) > _TOLERANCE):
        return None
    lowest = np.where(there, exponent, 0).min(axis=1)
    if np.any(lowest < 1 - (1 << exponent_bits)):
        return None
    scales: Float64s = np.where(peak > 0, peak * np.exp2(lowest), idle).astype(np.float32).astype(np.float64)
    return scales


def ristretto_weights(values: Float64s, axis: int, least: Float64s, idle: float, *, bits: int) -> Weights:
    """Return Ristretto's multiplier-free weights; with fewer bits than its 4, the greatest of its exponents.

    Those are −8 … −1. A layer with weights that these would clip has them higher by as much as that takes,
    which costs nothing, since what an exponent is worth is the requantizer's to know.
    """
    form, peak = RISTRETTO_POWER_OF_TWO, float(np.abs(values).max())
    form = PowerOfTwoFormat(bits - 1, form.greatest + 1 - (1 << bits - 1), form.zero)
    greatest = round(log2(peak)) if peak > 0 else form.greatest
    if greatest > form.greatest:
        form = PowerOfTwoFormat(form.exponent_bits, form.least + greatest - form.greatest, form.zero)
    form = _raised(form, least)
    codes = quantize_ristretto_power_of_two(values, form)
    return Weights(codes, Quantization((form.scale,)), power_of_two(form.exponent_bits, form.zero))


def _raised(form: PowerOfTwoFormat, least: Float64s) -> PowerOfTwoFormat:
    """Return the format with a scale of at least each of ``least``."""
    exponent = max(form.least, ceil(log2(float(least.max()))))
    return PowerOfTwoFormat(form.exponent_bits, exponent, form.zero)
