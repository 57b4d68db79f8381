"""Minifloats: small floating-point numbers, and how wide a sum of their products is.

Source: Gysel et al., *Hardware-oriented Approximation of Convolutional Neural Networks*, 2016, for bias and
saturation; IEEE 754-2019, sections 3.4 (subnormal numbers) and 4.3.1 (rounding to nearest, ties to even).
``docs/formats.md`` restates the arithmetic, and says where Ristretto's emulation differs.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.numerics.fixed_point import Integers
from zeropoint.numerics.formats import (
    Codes,
    Reals,
    checked_codes,
    code_dtype,
    finite_reals,
    peak_parts,
    whole_number,
)


@dataclass(frozen=True)
class MinifloatFormat:
    """Floating-point numbers of a sign, ``exponent_bits`` and ``mantissa_bits``, all of them finite.

    A code is, from its highest bit on: the sign, the field ``e``, the mantissa ``m``. Its value is
    ``±(1 + m / 2^M) · 2^(e − bias)`` where ``e > 0``, and ``±(m / 2^M) · 2^(1 − bias)`` where ``e = 0`` (subnormal
    numbers, and 0). The greatest field is one like the others: there are no infinities and no NaN.

    Attributes
    ----------
    exponent_bits
        E, 1 … 8.
    mantissa_bits
        M, 0 … 23.

    Raises
    ------
    TypeError, ValueError
        If an attribute is no whole number, or out of its range.
    """

    exponent_bits: int
    mantissa_bits: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "exponent_bits", whole_number(self.exponent_bits, 1, 8, "exponent bits"))
        object.__setattr__(self, "mantissa_bits", whole_number(self.mantissa_bits, 0, 23, "mantissa bits"))

    @property
    def bits(self) -> int:
        """The width of a code: 1 + E + M."""
        return 1 + self.exponent_bits + self.mantissa_bits

    @property
    def bias(self) -> int:
        """2^(E − 1) − 1."""
        return (1 << self.exponent_bits - 1) - 1

    @property
    def least(self) -> int:
        """The binary exponent of the least positive value and unit of all others: ``1 − bias − M``."""
        return 1 - self.bias - self.mantissa_bits

    @property
    def greatest_integer(self) -> int:
        """The greatest value in units of ``2^least``: ``(2^(M + 1) − 1) · 2^(2^E − 2)``."""
        return (2 << self.mantissa_bits) - 1 << (1 << self.exponent_bits) - 2

    @property
    def greatest(self) -> float:
        """The greatest value, at which saturation sets in: ``(2 − 2^−M) · 2^(2^E − 1 − bias)``."""
        significand = float((2 << self.mantissa_bits) - 1)
        return float(np.ldexp(significand, (1 << self.exponent_bits) - 2 + self.least))

    def quantize(self, reals: npt.ArrayLike) -> Codes:
        """Return the codes of the values nearest to ``reals``, saturated at ± ``greatest``: uint8, uint16 or uint32.

        Ties go to the value with the even significand, and, where both are odd (``M = 0``), to the greater magnitude,
        as IEEE 754 has it. What rounds to 0 has the code 0, whatever its sign.

        Parameters
        ----------
        reals
            Finite floats of any shape.

        Raises
        ------
        TypeError, ValueError
            If ``reals`` are no floats, or not finite.
        """
        values = finite_reals(reals, "values")
        fraction, exponent = np.frexp(np.abs(values))
        # The field before rounding, 1 for 0 and subnormal numbers too, whose unit is that of the least normal ones.
        field = np.clip(exponent.astype(np.int64) - 1 + self.bias, 1, (1 << self.exponent_bits) - 1)
        field = np.where(fraction > 0, field, 1)
        with np.errstate(over="ignore", under="ignore"):
            steps = np.rint(np.ldexp(np.abs(values), -(self.least + field - 1)))
        # One step above 2^(M + 1) − 1 carries into the field, as it should; beyond the last field it saturates.
        steps = np.minimum(steps, 2 << self.mantissa_bits).astype(np.int64)
        magnitude = np.minimum((field - 1 << self.mantissa_bits) + steps, (1 << self.bits - 1) - 1)
        sign = (values < 0) & (magnitude > 0)
        return (magnitude | sign.astype(np.int64) << self.bits - 1).astype(code_dtype(self.bits))

    def significands(self, codes: npt.ArrayLike) -> tuple[Integers, Integers]:
        """Return ``(significand, shift)`` with ``value = significand · 2^(shift + least)``.

        ``significand`` is an integer of M + 2 bits with the value's sign, ``shift`` one of 0 … 2^E − 2: what a
        processing element multiplies and shifts.

        Raises
        ------
        TypeError, ValueError
            If ``codes`` are not integers of the format's width.
        """
        array = checked_codes(codes, self.bits)
        field = array >> self.mantissa_bits & (1 << self.exponent_bits) - 1
        magnitude = array & (1 << self.mantissa_bits) - 1 | (field > 0).astype(np.int64) << self.mantissa_bits
        return np.where(array >> self.bits - 1, -magnitude, magnitude), np.maximum(field - 1, 0)

    def decode(self, codes: npt.ArrayLike) -> Reals:
        """Return the values of ``codes``, exactly (0 for either sign of 0); raises as :meth:`significands` does."""
        significand, shift = self.significands(codes)
        return np.ldexp(significand.astype(np.float64), shift + self.least)


def in_order(codes: npt.ArrayLike, form: MinifloatFormat) -> Integers:
    """Return codes as integers that are ordered as their values are: the magnitude's bits, negative with the sign.

    This is how a tensor of minifloats is kept: to compare, to clamp and to pad need not know what the integers mean.

    Raises
    ------
    TypeError, ValueError
        If ``codes`` are not integers of the format's width.
    """
    array = checked_codes(codes, form.bits)
    magnitude = array & (1 << form.bits - 1) - 1
    return np.where(array >> form.bits - 1, -magnitude, magnitude)


def from_order(integers: npt.ArrayLike, form: MinifloatFormat) -> Integers:
    """Return the codes of what :func:`in_order` gives.

    Raises
    ------
    TypeError, ValueError
        If an integer stands for no code.
    """
    array = np.asarray(integers)
    magnitude = checked_codes(np.abs(array.astype(np.int64)), form.bits - 1)
    return magnitude | (array < 0).astype(np.int64) << form.bits - 1


def requantize(sums: npt.ArrayLike, exponent: npt.ArrayLike, form: MinifloatFormat) -> Integers:
    """Return the minifloats nearest to ``sums · 2^exponent`` units of the format, ties to even, saturated.

    Parameters
    ----------
    sums
        Integers of any size: int64, or Python's in an array of objects.
    exponent
        Of two; broadcast against ``sums``. Within ±512.
    form
        Its unit is ``2^least``.

    Returns
    -------
    ndarray
        In order, as :func:`in_order` has them: int64.
    """
    reals = np.ldexp(_odd_rounded(np.asarray(sums)), np.asarray(exponent) + form.least)
    return in_order(form.quantize(reals), form)


def _odd_rounded(sums: npt.NDArray[Any]) -> Reals:
    """Return integers as float64 without losing on which side of any number of 40 bits or fewer they lie.

    What is beyond float64 goes to the odd neighbour (rounding to odd), which no later rounding to fewer bits can take
    for a tie that was none, nor miss one.
    """
    if sums.dtype == object:
        return np.asarray(np.frompyfunc(_odd_rounded_integer, 1, 1)(sums), np.float64)
    wide = np.abs(sums) >> 52 > 0
    return np.where(wide, (sums >> 11 | ((sums & 0x7FF) != 0)) << 11, sums).astype(np.float64)


def _odd_rounded_integer(value: int) -> float:
    excess = max(abs(value).bit_length() - 52, 0)
    top = value >> excess
    return float(np.ldexp(float(top | (top << excess != value)), excess))


def least_exponent_bits(peak: float) -> int:
    """Return the least E whose range, with a mantissa of any length, reaches ``peak``.

    That is the least with ``peak ≤ 2^(2^(E − 1) + 1)``, at least 1. A peak of 0 is taken for 1.

    Raises
    ------
    TypeError, ValueError
        If ``peak`` is negative or not finite, or no E up to 8 will do.

    Source: Ristretto, ``quantization.cpp``, ``Quantize2MiniFloat``, ``⌈log2(log2(peak) − 1) + 1⌉``, where it takes 4
    at least.
    """
    fraction, exponent = peak_parts(peak, "the greatest value")
    ceiling = exponent - 1 if fraction == 0.5 else exponent
    for bits in range(1, 9):
        if ceiling <= (1 << bits - 1) + 1:
            return bits
    raise ValueError(f"no minifloat of 8 exponent bits reaches {peak!r}")


def accumulator_bits(first: MinifloatFormat, second: MinifloatFormat, terms: int = 1) -> int:
    """Return the width of the two's complement integer that holds any sum of ``terms`` products exactly.

    Its unit is ``2^(first.least + second.least)``, and its greatest magnitude
    ``terms · first.greatest_integer · second.greatest_integer``. With one term it is the width of a product.

    Raises
    ------
    TypeError, ValueError
        If ``terms`` is not a whole number 1 … 2^32.
    """
    terms = whole_number(terms, 1, 1 << 32, "terms")
    return (terms * first.greatest_integer * second.greatest_integer).bit_length() + 1
