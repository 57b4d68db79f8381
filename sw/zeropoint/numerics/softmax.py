"""SOFTMAX in gemmlowp's fixed point: exponentials of differences, their sum, its reciprocal.

A Qm.n number is an int32 whose unit is ``2^−n``, ``m + n = 31``. Differences from the maximum are Q5.26, exponentials
Q0.31, their sum Q12.19, its reciprocal Q0.31. Products are :func:`saturating_rounding_doubling_high_mul`, whose
integer bits add up.

Source: gemmlowp ``fixedpoint.h`` and TensorFlow Lite ``kernels/internal/reference/softmax.h``.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.numerics.fixed_point import (
    INT32_MAX,
    INT32_MIN,
    Integers,
    Rounding,
    multiply_by_quantized_multiplier,
    rounding_divide_by_pot,
)
from zeropoint.numerics.fixed_point import saturating_rounding_doubling_high_mul as _mul

#: Integer bits of the scaled differences (``kScaledDiffIntegerBits``).
DIFFERENCE_BITS = 5

#: Integer bits of the sum of exponentials (``kAccumulationIntegerBits``).
SUM_BITS = 12

#: The longest vector whose exponentials' sum cannot overflow.
SOFTMAX_MAX_DEPTH = (1 << SUM_BITS) - 1

# Q0.31: exp(−1/8), 1/3, and exp(−2^i) for i from −2.
_EXP_OF_MINUS_EIGHTH = 1895147668
_THIRD = 715827883
_EXP_OF_MINUS_POWERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)

# Q2.29: 48/17 and −32/17, the line that starts Newton's iteration for 1/d with the least error for d in [1/2, 1].
_48_BY_17 = 1515870810
_MINUS_32_BY_17 = -1010580540


def exp_on_negative_values(a: npt.ArrayLike) -> Integers:
    """Return exp(a) as Q0.31 for a ≤ 0 as Q5.26; exp(0) is the greatest Q0.31 number.

    ``a`` is split into a part in [−1/4, 0), whose exponential is four terms of the Taylor series about −1/8, and
    powers of two, each of which multiplies by its own constant.
    """
    a = np.asarray(a, np.int64)
    fraction_bits = 31 - DIFFERENCE_BITS
    quarter = 1 << fraction_bits - 2
    part = (a & quarter - 1) - quarter
    # Q5.26 to Q0.31 is exact here; the sum with 1/8 moves the point of expansion to 0.
    x = (part << DIFFERENCE_BITS) + (1 << 28)
    x2 = _mul(x, x)
    x3 = _mul(x2, x)
    x4_by_4 = rounding_divide_by_pot(_mul(x2, x2), 2)
    higher = rounding_divide_by_pot(_mul(x4_by_4 + x3, _THIRD) + x2, 1)
    result = _EXP_OF_MINUS_EIGHTH + _mul(_EXP_OF_MINUS_EIGHTH, x + higher)
    powers = part - a
    for power, factor in enumerate(_EXP_OF_MINUS_POWERS, start=fraction_bits - 2):
        result = np.where(powers >> power & 1, _mul(result, factor), result)
    return np.where(a == 0, INT32_MAX, result)


def one_over_one_plus_x(a: npt.ArrayLike) -> Integers:
    """Return 1/(1 + a) as Q0.31 for a in [0, 1) as Q0.31: three Newton steps on half the denominator."""
    a = np.asarray(a, np.int64)
    half = a + INT32_MAX + 1 >> 1
    x = _48_BY_17 + _mul(half, _MINUS_32_BY_17)
    for _ in range(3):
        rest = (1 << 29) - _mul(half, x)
        x = x + _saturating_shift_left(_mul(x, rest), 2)
    return _saturating_shift_left(x, 1)


def _saturating_shift_left(x: Integers, bits: int) -> Integers:
    return np.clip(x << bits, INT32_MIN, INT32_MAX)


def reciprocal(x: npt.ArrayLike, integer_bits: int) -> tuple[Integers, Integers]:
    """Return ``(scale, shift)`` with ``1/x ≈ scale · 2^−shift`` for x > 0 with ``integer_bits`` integer bits.

    ``scale`` is Q0.31 in (1/2, 1], ``shift`` the whole binary logarithm of ``x``.

    Source: TensorFlow Lite ``kernels/internal/common.h``, ``GetReciprocal``.
    """
    x = np.asarray(x, np.int64)
    # frexp is exact on 32-bit integers: its exponent is the bit length.
    length = np.frexp(x.astype(np.float64))[1].astype(np.int64)
    return one_over_one_plus_x((x << 32 - length) - (1 << 31)), integer_bits + length - 32


def exponentials(multiplier: int, shift: int, least: int, rounding: Rounding = Rounding.DOUBLE) -> Integers:
    """Return the Q0.31 exponentials of the differences 0, −1 … −255 of 8-bit values from their maximum.

    Parameters
    ----------
    multiplier, shift, least
        From :func:`zeropoint.arithmetic.softmax_scaling`. Differences below ``least`` count as 0.
    """
    differences = -np.arange(256)
    scaled = multiply_by_quantized_multiplier(np.maximum(differences, least), multiplier, shift, rounding)
    return np.where(differences >= least, exp_on_negative_values(scaled), 0)


def softmax(q: npt.NDArray[Any], exps: Integers) -> npt.NDArray[Any]:
    """Return the softmax of int8 or uint8 values over the last dimension, in their dtype at scale 1/256.

    The zero point of the result is the dtype's least value.

    Parameters
    ----------
    q
        Values of any shape; :data:`SOFTMAX_MAX_DEPTH` at most in the last dimension.
    exps
        What :func:`exponentials` returns for the scale of ``q``.
    """
    return normalized(exps[q.max(axis=-1, keepdims=True).astype(np.int64) - q], q.dtype)


def float_exponentials(x: npt.NDArray[np.float64]) -> Integers:
    """Return the Q0.31 exponentials of reals less their maximum along the last dimension, as Q5.26; below that, 0.

    What :func:`normalized` takes, of activations whose differences are no 256 values.
    """
    fraction_bits = 31 - DIFFERENCE_BITS
    scaled = np.rint(np.ldexp(x - x.max(axis=-1, keepdims=True), fraction_bits))
    least = -(2.0**31) + 1
    return np.where(scaled >= least, exp_on_negative_values(np.maximum(scaled, least).astype(np.int64)), 0)


def normalized(exp: Integers, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return Q0.31 exponentials divided by their sum over the last dimension; see :func:`softmax`."""
    if exp.shape[-1] > SOFTMAX_MAX_DEPTH:
        raise ValueError(f"softmax over {exp.shape[-1]} values; {SOFTMAX_MAX_DEPTH} at most")
    limits = np.iinfo(dtype)
    total = rounding_divide_by_pot(exp, SUM_BITS).sum(axis=-1, keepdims=True)
    scale, shift = reciprocal(total, SUM_BITS)
    # 8 bits of the Q0.31 quotient are kept.
    return np.minimum(rounding_divide_by_pot(_mul(scale, exp), shift + 31 - 8) + limits.min, limits.max).astype(dtype)
