"""Weights that are powers of two, which multiply by shifting: those of INQ, and Ristretto's.

Sources: Zhou et al., *Incremental Network Quantization: Towards Lossless CNNs with Low-Precision Weights*, ICLR 2017,
section 2.1; Gysel et al., *Hardware-oriented Approximation of Convolutional Neural Networks*, 2016, and the code of
Ristretto, ``base_ristretto_layer.cpp``. ``docs/formats.md`` restates the arithmetic with its tables of codes.

Every decision between two neighbours is one about the binary exponent and fraction of a weight (``frexp``), which are
exact; no logarithm is computed.
"""

from dataclasses import dataclass
from enum import Enum
from math import isqrt

import numpy as np
import numpy.typing as npt

from zeropoint.numerics.fixed_point import Integers
from zeropoint.numerics.formats import (
    EXPONENT_LIMIT,
    Codes,
    Reals,
    checked_codes,
    code_dtype,
    finite_reals,
    peak_parts,
    whole_number,
)

#: The least float64 above the square root of 1/2, which is no float64 itself.
_ABOVE_ROOT_OF_HALF = (isqrt(1 << 105) + 1) / (1 << 53)


@dataclass(frozen=True)
class PowerOfTwoFormat:
    """The values ±2^e with ``least ≤ e < least + 2^exponent_bits``, and 0 if ``zero``.

    A code is, from its highest bit on: 1 for a power of two and 0 for the value 0 (if ``zero``), the sign (1 for
    negative values), and ``e − least`` in ``exponent_bits`` bits. 0 has the code 0; the other codes without the highest
    bit have no meaning. So ``value = ±2^field · 2^least``: an activation is shifted left by the field, and ``2^least``
    belongs to the scale.

    Attributes
    ----------
    exponent_bits
        0 … 5.
    least
        The exponent of the least magnitude, −256 … 256.
    zero
        Whether 0 is a value.

    Raises
    ------
    TypeError, ValueError
        If an attribute is no whole number, or out of its range.
    """

    exponent_bits: int
    least: int
    zero: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "exponent_bits", whole_number(self.exponent_bits, 0, 5, "exponent bits"))
        least = whole_number(self.least, -EXPONENT_LIMIT, EXPONENT_LIMIT, "the least exponent")
        object.__setattr__(self, "least", least)

    @property
    def bits(self) -> int:
        """The width of a code."""
        return self.exponent_bits + 1 + self.zero

    @property
    def greatest(self) -> int:
        """The exponent of the greatest magnitude."""
        return self.least + (1 << self.exponent_bits) - 1

    @property
    def scale(self) -> float:
        """2^least: what one unit of :meth:`integers` is worth."""
        return float(np.ldexp(1.0, self.least))

    def codes(self) -> Codes:
        """Return every code that has a meaning, ascending."""
        codes = np.arange(1 << self.bits)
        if self.zero:
            codes = codes[(codes == 0) | (codes >= 1 << self.bits - 1)]
        return codes.astype(code_dtype(self.bits))

    def levels(self) -> Reals:
        """Return every value, ascending."""
        return np.sort(self.decode(self.codes()))

    def integers(self, codes: npt.ArrayLike) -> Integers:
        """Return the values of ``codes`` in units of 2^least: 0 or ±2^field.

        Raises
        ------
        TypeError, ValueError
            If ``codes`` are not integers, or some of them have no meaning.
        """
        array = checked_codes(codes, self.bits)
        magnitude = np.int64(1) << (array & (1 << self.exponent_bits) - 1)
        values = np.where(array >> self.exponent_bits & 1, -magnitude, magnitude)
        if self.zero:
            power = array >> self.bits - 1 == 1
            idle = array[~power & (array != 0)]
            if idle.size:
                raise ValueError(f"code {idle[0]} has no meaning: without its highest bit only 0 has")
            values = np.where(power, values, 0)
        return values

    def decode(self, codes: npt.ArrayLike) -> Reals:
        """Return the values of ``codes``, exactly; raises as :meth:`integers` does."""
        return np.ldexp(self.integers(codes).astype(np.float64), self.least)

    def encode(self, values: npt.ArrayLike) -> Codes:
        """Return the codes of ``values``, each of which must be one of :meth:`levels`; nothing is rounded.

        Raises
        ------
        TypeError, ValueError
            If ``values`` are not floats, or one of them is not a level.
        """
        reals = finite_reals(values, "values")
        fraction, exponent = np.frexp(np.abs(reals))
        power = (fraction == 0.5) & (exponent - 1 >= self.least) & (exponent - 1 <= self.greatest)
        strange = reals[~power & ~((reals == 0) & self.zero)]
        if strange.size:
            low, high = f"2^{self.least}", f"2^{self.greatest}"
            raise ValueError(f"{strange[0]} is not ±{low} … ±{high}{' or 0' if self.zero else ''}")
        return self._codes(reals < 0, np.where(power, exponent - 1, self.least), power)

    def _codes(self, negative: npt.NDArray[np.bool_], exponent: Integers, power: npt.NDArray[np.bool_]) -> Codes:
        """Return the codes of ±2^exponent, with exponents beyond the ends taken for the ends, and of 0 elsewhere."""
        field = np.clip(exponent, self.least, self.greatest) - self.least
        codes = field | negative.astype(np.int64) << self.exponent_bits
        if self.zero:
            codes = np.where(power, codes | 1 << self.bits - 1, 0)
        return codes.astype(code_dtype(self.bits))


class InqThreshold(Enum):
    """Which small weights INQ takes for 0."""

    #: Those nearer to 0 than to the least level: |w| < 2^n2 / 2. The paper's rule.
    NEAREST = "nearest"
    #: All below the least level: |w| < 2^n2.
    TRUNCATE = "truncate"


def inq_format(peak: float, bits: int) -> PowerOfTwoFormat:
    """Return INQ's format for a layer whose greatest weight has the magnitude ``peak``.

    ``n1 = ⌊log2(4 · peak / 3)⌋`` and ``n2 = n1 + 1 − 2^(bits − 1) / 2``; the values are 0 and ±2^n2 … ±2^n1, that is
    ``2^(bits − 1) + 1`` of them: 3 (ternary), 5, 9 or 17. A peak of 0 is taken for 1: all weights are 0.

    Parameters
    ----------
    peak
        ``max |w|``, taken before the layer's first weight is quantized.
    bits
        2 … 5, the bit for 0 included.

    Raises
    ------
    TypeError, ValueError
        If ``peak`` is negative or not finite, or ``bits`` another number.

    Source: Zhou et al. 2017, equations 1 to 3. ``4 · peak / 3 ≥ 2^n`` where ``peak ≥ 3/4 · 2^n``, so that the
    fraction of ``peak`` decides.
    """
    bits = whole_number(bits, 2, 5, "bits of INQ")
    fraction, exponent = peak_parts(peak, "the greatest weight")
    greatest = exponent if fraction >= 0.75 else exponent - 1
    return PowerOfTwoFormat(bits - 2, greatest + 1 - (1 << bits - 2))


def quantize_inq(
    weights: npt.ArrayLike, form: PowerOfTwoFormat, threshold: InqThreshold = InqThreshold.NEAREST
) -> Codes:
    """Return the codes of ``weights`` in INQ's format ``form``.

    A weight becomes ``sign(w) · β`` where ``(α + β) / 2 ≤ |w| < 3β / 2`` for neighbouring levels ``α < β`` (0 is one),
    so that a tie goes away from zero. ``InqThreshold.TRUNCATE`` makes those below the least level 0 instead. Weights
    beyond ``3/2 · 2^n1``, which retraining can cause, become ±2^n1; the paper's equation says nothing sensible of them.

    Parameters
    ----------
    weights
        Finite floats of any shape.
    form
        From :func:`inq_format`.

    Raises
    ------
    TypeError, ValueError
        If ``weights`` are no floats, or not finite; if ``form`` has no 0.

    Source: Zhou et al. 2017, equation 4.
    """
    if not form.zero:
        raise ValueError("INQ needs a format with the value 0")
    reals = finite_reals(weights, "weights")
    fraction, exponent = np.frexp(np.abs(reals))
    exponent = exponent.astype(np.int64)
    # |w| ≥ 2^n is exponent > n; |w| ≥ 3/4 · 2^n, the middle between 2^(n−1) and 2^n, is told by the fraction.
    first = form.least if threshold is InqThreshold.NEAREST else form.least + 1
    power = (fraction > 0) & (exponent >= first)
    return form._codes(reals < 0, np.where(fraction >= 0.75, exponent, exponent - 1), power)


#: Ristretto's multiplier-free weights: ±2^−8 … ±2^−1 in 4 bits, without a 0.
RISTRETTO_POWER_OF_TWO = PowerOfTwoFormat(3, -8, zero=False)


def quantize_ristretto_power_of_two(weights: npt.ArrayLike, form: PowerOfTwoFormat = RISTRETTO_POWER_OF_TWO) -> Codes:
    """Return the codes of ``weights``: ``sign(w) · 2^e`` with ``e = round(log2 |w|)``, saturated at both ends.

    Nearest is meant in the logarithmic domain: the border between 2^e and 2^(e+1) is √2 · 2^e, which is irrational, so
    that there are no ties. 0 has the least magnitude, and the sign +, whichever sign the float has.

    Parameters
    ----------
    weights
        Finite floats of any shape.
    form
        A format without the value 0.

    Raises
    ------
    TypeError, ValueError
        If ``weights`` are no floats, or not finite; if ``form`` has a 0.

    Source: Ristretto, ``base_ristretto_layer.cpp``, ``Trim2IntegerPowerOf2_cpu``, and ``quantization.cpp`` for the
    exponents −8 … −1.
    """
    if form.zero:
        raise ValueError("Ristretto's powers of two need a format without the value 0")
    reals = finite_reals(weights, "weights")
    fraction, exponent = np.frexp(np.abs(reals))
    nearest = np.where(fraction >= _ABOVE_ROOT_OF_HALF, exponent, exponent - 1).astype(np.int64)
    return form._codes(reals < 0, np.where(reals == 0, form.least, nearest), fraction > 0)
