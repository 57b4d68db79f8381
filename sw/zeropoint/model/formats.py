"""Tensors whose integers are codes of a number format, narrower than int8 or without multiplication.

The formats are those of ``zeropoint.numerics``; a tensor's scale is what their unit is worth, so that here the unit of
each is 1: exponents begin at 0, fixed point has no fraction, and the least minifloat above 0 counts as 1. Minifloats
are kept in the order of their values (``zeropoint.numerics.minifloat.in_order``), so that they compare as integers do.
"""

from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.errors import ZeropointError
from zeropoint.numerics import Integers
from zeropoint.numerics.dynamic_fixed_point import FixedPointFormat
from zeropoint.numerics.minifloat import MinifloatFormat, from_order
from zeropoint.numerics.power_of_two import PowerOfTwoFormat

Format = PowerOfTwoFormat | FixedPointFormat | MinifloatFormat

#: Each format by the name that files give it, with the fields that a tensor chooses.
FORMATS: dict[str, tuple[type[Format], tuple[str, ...]]] = {
    "power of two": (PowerOfTwoFormat, ("exponent_bits", "zero")),
    "fixed point": (FixedPointFormat, ("bits",)),
    "minifloat": (MinifloatFormat, ("exponent_bits", "mantissa_bits")),
}

#: The dtype of a tensor of each format.
_DTYPES = {PowerOfTwoFormat: "uint8", FixedPointFormat: "int8", MinifloatFormat: "int8"}

#: What the processing elements shift by, at most: 2^3 − 1.
MAX_EXPONENT_BITS = 3


def power_of_two(exponent_bits: int, zero: bool = True) -> PowerOfTwoFormat:
    """Return the format of ±1 … ±2^(2^exponent_bits − 1), and 0 if ``zero``."""
    return PowerOfTwoFormat(exponent_bits, 0, zero)


def fixed_point(bits: int) -> FixedPointFormat:
    """Return the format of two's complement integers of ``bits`` bits."""
    return FixedPointFormat(bits, 0)


def format_integers(form: Format, data: npt.NDArray[Any]) -> Integers:
    """Return what a tensor's integers stand for, in units of the format: int64, or Python's where that is too narrow.

    Raises
    ------
    ValueError
        If one stands for nothing.
    """
    if isinstance(form, MinifloatFormat):
        significand, shift = form.significands(from_order(data, form))
        if form.greatest_integer >= 1 << 62:
            significand, shift = significand.astype(object), shift.astype(object)
        return np.asarray(significand << shift)
    form.decode(data)
    return form.integers(data) if isinstance(form, PowerOfTwoFormat) else data.astype(np.int64)


def format_name(form: Format) -> str:
    """Return the name that files give a format's kind."""
    return next(name for name, (cls, _) in FORMATS.items() if isinstance(form, cls))


def verify_format(form: Format, dtype: str, label: str) -> None:
    """Raise ZeropointError unless tensors of ``dtype`` may have the format; ``label`` names the tensor."""
    if any(getattr(form, field.name) != 0 for field in fields(form) if field.name not in FORMATS[format_name(form)][1]):
        raise ZeropointError(f"{label} has a format whose unit is not 1; what it is worth belongs to the scale")
    if dtype != _DTYPES[type(form)]:
        raise ZeropointError(f"{label} has a format whose codes are {_DTYPES[type(form)]}, not {dtype}")
    if isinstance(form, PowerOfTwoFormat) and form.exponent_bits > MAX_EXPONENT_BITS:
        raise ZeropointError(f"{label} has {form.exponent_bits} exponent bits; {MAX_EXPONENT_BITS} at most")
    if isinstance(form, FixedPointFormat | MinifloatFormat) and form.bits > 8:
        raise ZeropointError(f"{label} has a format of {form.bits} bits; 8 at most")
