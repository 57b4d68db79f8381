"""Affine schemes: ``real = scale · (q − zero_point)``, every scale a float32 value.

Sources: Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference,
CVPR 2018, section 3 (ranges widened to include 0, equations 12 and 13); Krishnamoorthi, Quantizing deep convolutional
networks for efficient inference, 2018, section 3.1 (symmetric weights, a scale per output channel).
"""

import numpy as np

from zeropoint.model import Quantization
from zeropoint.numerics import round_half_away
from zeropoint.quantize.schemes import LEAST_SCALE, Float64s, Rules, Weights


def affine_quantization(low: float, high: float, dtype: str, least: float = 0.0) -> Quantization:
    """Return the affine quantization of ``low`` … ``high`` in all 256 values of ``dtype``, zero exactly among them.

    The range is widened to include 0. ``scale = (high − low) / 255``, as a normal float32 and at least ``least``;
    ``zero_point = q_min + round(−low / scale)``. A range that is 0 alone is taken for 0 … 1.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        high = 1.0
    bounds = np.iinfo(dtype)
    scale = np.float32(max((high - low) / (bounds.max - bounds.min), least, LEAST_SCALE))
    zero_point = bounds.min + round_half_away(-low / np.float64(scale))
    return Quantization((float(scale),), (int(np.clip(zero_point, bounds.min, bounds.max)),))


def asymmetric_weights(values: Float64s, axis: int, least: Float64s, idle: float) -> Weights:
    """Return uint8 weights with one scale and one zero point."""
    if np.any(values):
        quantization = affine_quantization(float(values.min()), float(values.max()), "uint8", float(least.max()))
    else:
        quantization = Quantization((max(idle, float(least.max())),))
    steps = round_half_away(values / quantization.scale[0]) + quantization.zero_point[0]
    return Weights(np.clip(steps, 0, 255).astype(np.uint8), quantization)


def symmetric_weights(values: Float64s, axis: int, least: Float64s, idle: float) -> Weights:
    """Return int8 weights in −127 … 127 with a scale for each output channel, ``max |w| / 127``, and zero points 0."""
    others = tuple(dimension for dimension in range(values.ndim) if dimension != axis)
    peak = np.abs(values).max(axis=others)
    scale = np.maximum(np.where(peak > 0, peak / 127, idle), least).astype(np.float32)
    quantization = Quantization(tuple(map(float, scale)), (0,) * len(scale), axis)
    steps = round_half_away(values / np.expand_dims(scale.astype(np.float64), others))
    return Weights(np.clip(steps, -127, 127).astype(np.int8), quantization)


def _int8_activations(low: float, high: float, least: float) -> Quantization:
    return affine_quantization(low, high, "int8", least)


def _uint8_activations(low: float, high: float, least: float) -> Quantization:
    return affine_quantization(low, high, "uint8", least)


AFFINE_INT8 = Rules("int8", _int8_activations, symmetric_weights)
AFFINE_UINT8 = Rules("uint8", _uint8_activations, asymmetric_weights)
