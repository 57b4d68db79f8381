"""Gemmlowp's fixed-point arithmetic, as the TensorFlow Lite reference kernels use it.

Everything here is normative: ``docs/numerics.md`` restates it, the gateware implements it, and the tests hold it
against exact rational arithmetic and against the pinned interpreter.

Arrays hold int32 values in int64 storage or any narrower integer type; results are int64 arrays that hold int32
values. Functions broadcast like NumPy's own.
"""

from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

INT32_MIN = -(2**31)
INT32_MAX = 2**31 - 1


class Rounding(Enum):
    """How a requantizer rounds the product of accumulator and multiplier."""

    #: Round at bit 31 (half up), then again at the shift (half away from zero): gemmlowp, TensorFlow Lite's default.
    DOUBLE = "double"
    #: Round once, half up, at the shift: TensorFlow Lite built with TFLITE_SINGLE_ROUNDING.
    SINGLE = "single"
    #: Round once, ties to even, at the shift: what Ristretto's formats want.
    EVEN = "even"


def wrap_int32(x: npt.ArrayLike) -> Integers:
    """Return ``x`` modulo 2^32 in −2^31 … 2^31−1, which is what a 32-bit adder leaves."""
    return (np.asarray(x, np.int64) + 2**31 & 0xFFFFFFFF) - 2**31


def saturating_rounding_doubling_high_mul(a: npt.ArrayLike, b: npt.ArrayLike) -> Integers:
    """Return the high half of 2·a·b, rounded to nearest with ties upward, saturated to int32.

    Source: gemmlowp ``fixedpoint.h``, ``SaturatingRoundingDoublingHighMul``. Its nudge of 2^30 (or 1 − 2^30 below
    zero) before a division that truncates is the floor of ``(a·b + 2^30) / 2^31`` for either sign. The one overflow,
    both operands −2^31, saturates.
    """
    product = np.asarray(a, np.int64) * np.asarray(b, np.int64)
    return np.minimum(product + (1 << 30) >> 31, INT32_MAX)


def rounding_divide_by_pot(x: npt.ArrayLike, exponent: npt.ArrayLike) -> Integers:
    """Return ``x / 2^exponent`` rounded to nearest, ties away from zero; ``exponent`` is 0 … 62.

    Source: gemmlowp ``fixedpoint.h``, ``RoundingDivideByPOT``.
    """
    x = np.asarray(x, np.int64)
    exponent = np.asarray(exponent, np.int64)
    half = np.where(exponent > 0, np.int64(1) << np.maximum(exponent - 1, 0), 0)
    away = np.where((x < 0) & (exponent > 0), 1, 0)
    return x + half - away >> exponent


def multiply_by_quantized_multiplier(
    x: npt.ArrayLike,
    multiplier: npt.ArrayLike,
    shift: npt.ArrayLike,
    rounding: Rounding = Rounding.DOUBLE,
) -> Integers:
    """Return ``x · multiplier · 2^(shift − 31)``, rounded as ``rounding`` says, modulo 2^32.

    Parameters
    ----------
    x
        int32 values.
    multiplier
        Q0.31 numbers, 0 or 2^30 … 2^31−1 from :func:`quantize_multiplier`; any value 1 − 2^31 … 2^31−1 is computed.
    shift
        −31 … 30.
    rounding
        ``DOUBLE``: ``RoundingDivideByPOT(SaturatingRoundingDoublingHighMul(x << max(shift, 0), multiplier),
        max(−shift, 0))``, the left shift modulo 2^32. ``SINGLE``: the floor of
        ``(x · multiplier + 2^(30 − shift)) / 2^(31 − shift)``, modulo 2^32. ``EVEN``: the same, but that a tie goes to
        the even one of both neighbours.

    Source: TensorFlow Lite ``kernels/internal/common.cc``, ``MultiplyByQuantizedMultiplier`` (both, chosen by
    ``TFLITE_SINGLE_ROUNDING``).
    """
    x = np.asarray(x, np.int64)
    multiplier = np.asarray(multiplier, np.int64)
    shift = np.asarray(shift, np.int64)
    if rounding is Rounding.DOUBLE:
        shifted = wrap_int32(x << np.maximum(shift, 0))
        return rounding_divide_by_pot(saturating_rounding_doubling_high_mul(shifted, multiplier), np.maximum(-shift, 0))
    product, half = x * multiplier, np.int64(1) << 30 - shift
    scaled = product + half >> 31 - shift
    if rounding is Rounding.EVEN:
        scaled -= (product & 2 * half - 1 == half) & scaled & 1
    return wrap_int32(scaled)


def requantize(
    accumulator: npt.ArrayLike,
    multiplier: npt.ArrayLike,
    shift: npt.ArrayLike,
    zero_point: int,
    clamp: tuple[int, int],
    rounding: Rounding = Rounding.DOUBLE,
) -> Integers:
    """Scale int32 accumulators to the output's scale, add its zero point, clamp to ``clamp`` (both ends included).

    The sum with the zero point is modulo 2^32, like every sum: it wraps where the scaled value lies within 255 of the
    ends of int32.
    """
    scaled = multiply_by_quantized_multiplier(accumulator, multiplier, shift, rounding)
    return np.clip(wrap_int32(scaled + zero_point), *clamp)


def round_half_away(x: npt.ArrayLike) -> Any:
    """Return ``x`` rounded to the nearest integer, ties away from zero, as C's ``round`` does; the dtype stays."""
    # Splitting is exact; adding 0.5 before truncation would not be (0.49999999999999994 + 0.5 rounds to 1).
    fraction, whole = np.modf(x)
    return whole + np.copysign((np.abs(fraction) >= 0.5).astype(whole.dtype), fraction)


def quantize_multiplier(real: npt.ArrayLike) -> tuple[Integers, Integers]:
    """Return ``(multiplier, shift)`` with ``real ≈ multiplier · 2^(shift − 31)``.

    ``multiplier`` is 0 or lies in 2^30 … 2^31−1. Reals below 2^−32 become 0 with shift 0.

    Parameters
    ----------
    real
        float64 multipliers, not negative and finite.

    Raises
    ------
    ValueError
        If a multiplier is negative, not finite, or 2^30 and above.

    Source: TensorFlow Lite ``kernels/internal/quantization_util.cc``, ``QuantizeMultiplier``.
    """
    real = np.asarray(real, np.float64)
    if not np.all(np.isfinite(real)) or np.any(real < 0):
        raise ValueError("a multiplier must be finite and not negative")
    fraction, shift = np.frexp(real)
    multiplier = round_half_away(fraction * 2.0**31).astype(np.int64)
    shift = shift.astype(np.int64)
    carry = multiplier == 1 << 31
    multiplier = np.where(carry, 1 << 30, multiplier)
    shift = np.where(carry, shift + 1, shift)
    tiny = shift < -31
    multiplier, shift = np.where(tiny, 0, multiplier), np.where(tiny, 0, shift)
    if np.any(shift > 30):
        raise ValueError(f"a multiplier must be below 2^30, not {real.max()}")
    return multiplier, shift


def reciprocal_multiplier(divisor: int) -> tuple[int, int]:
    """Return ``(multiplier, shift)`` that divide by ``divisor`` exactly under single rounding.

    For every |x| ≤ 256·divisor, ``multiply_by_quantized_multiplier(x, multiplier, shift, Rounding.SINGLE)`` is
    ``x / divisor`` rounded to nearest with ties away from zero: the multiplier lies just above 2^(31 − shift)/divisor,
    so that a tie is pushed away from zero on either side, and by less than any other quotient's distance from a tie.

    Parameters
    ----------
    divisor
        1 … 2^20.
    """
    if not 1 <= divisor <= 1 << 20:
        raise ValueError(f"divisor must be 1 to {1 << 20}, not {divisor!r}")
    if divisor == 1:
        return 1 << 30, 1
    right = (divisor - 1).bit_length() - 1
    return ((1 << 31 + right) // divisor) + 1, -right
