"""What the number formats below int8 share: the reals they take, the codes they give, and the limits of both.

A format's *codes* are integers of a fixed number of bits, unsigned but for fixed point's; ``bit_packing`` stores them
at that width. Reals are float64 arrays: every value of every format is one exactly.
"""

from operator import index
from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.numerics.fixed_point import Integers

Codes = npt.NDArray[Any]
Reals = npt.NDArray[np.float64]

#: Binary exponents of scales lie within ± this. float32 needs −149 … 128, and the width of a code below that.
EXPONENT_LIMIT = 256


def whole_number(value: Any, low: int, high: int, what: str) -> int:
    """Return ``value`` as an int in ``low`` … ``high``; TypeError or ValueError says what ``what`` must be."""
    try:
        number = index(value)
    except TypeError:
        raise TypeError(f"{what} must be a whole number, not {value!r}") from None
    if not low <= number <= high:
        raise ValueError(f"{what} must be {low} to {high}, not {number}")
    return number


def finite_reals(values: npt.ArrayLike, what: str) -> Reals:
    """Return ``values`` as float64, exactly.

    Raises
    ------
    TypeError
        If they are not float16, float32, float64, or integers up to 2^53 in magnitude.
    ValueError
        If one is NaN or infinite.
    """
    array = np.asarray(values)
    wide = array.dtype.kind in "iu" and array.size and (int(array.max()) > 1 << 53 or int(array.min()) < -(1 << 53))
    if wide or array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        raise TypeError(f"{what} must be float16, float32, float64 or integers up to 2^53, not {array.dtype}")
    reals = array.astype(np.float64)
    if not np.all(np.isfinite(reals)):
        raise ValueError(f"{what} must be finite, not {reals[~np.isfinite(reals)][0]}")
    return reals


def peak_parts(peak: float, what: str) -> tuple[float, int]:
    """Return ``(f, k)`` with ``peak = f · 2^k`` and ``1/2 ≤ f < 1``; a peak of 0 is taken for 1.

    Raises
    ------
    TypeError, ValueError
        If ``peak`` is not one number, finite and not negative.
    """
    real = finite_reals(peak, what)
    if real.ndim or real < 0:
        raise ValueError(f"{what} must be one number, not negative, not {peak!r}")
    fraction, exponent = np.frexp(real if real > 0 else 1.0)
    return float(fraction), int(exponent)


def code_dtype(bits: int, signed: bool = False) -> np.dtype[Any]:
    """Return the narrowest integer dtype of NumPy that holds codes of ``bits`` bits, 1 … 32."""
    size = 1 if bits <= 8 else 2 if bits <= 16 else 4
    return np.dtype(f"{'i' if signed else 'u'}{size}")


def code_range(bits: int, signed: bool = False) -> tuple[int, int]:
    """Return the least and greatest code of ``bits`` bits."""
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)


def checked_codes(codes: npt.ArrayLike, bits: int, signed: bool = False) -> Integers:
    """Return ``codes`` as int64.

    Raises
    ------
    TypeError
        If they are not integers.
    ValueError
        If one is not a code of ``bits`` bits.
    """
    array = np.asarray(codes)
    if array.dtype.kind not in "iu":
        if array.size:
            raise TypeError(f"codes must be integers, not {array.dtype}")
        array = array.astype(np.int64)
    low, high = code_range(bits, signed)
    if array.size and (array.min() < low or array.max() > high):
        worst = array.min() if array.min() < low else array.max()
        raise ValueError(f"codes of {bits} bits must be {low} to {high}, not {worst}")
    return array.astype(np.int64)
