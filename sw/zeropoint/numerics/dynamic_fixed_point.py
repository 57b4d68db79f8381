"""Ristretto's fixed point and dynamic fixed point: integers of some width at a scale that is a power of two.

Fixed point has one format for all of a network; dynamic fixed point one for each layer's inputs, weights and outputs.

Source: Gysel et al., *Hardware-oriented Approximation of Convolutional Neural Networks*, 2016; Courbariaux et al.,
*Training Deep Neural Networks with Low Precision Multiplications*, 2014; the code of Ristretto,
``base_ristretto_layer.cpp`` and ``quantization.cpp``. ``docs/formats.md`` restates the arithmetic.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.numerics.formats import (
    EXPONENT_LIMIT,
    Codes,
    Reals,
    checked_codes,
    code_dtype,
    code_range,
    finite_reals,
    peak_parts,
    whole_number,
)


@dataclass(frozen=True)
class FixedPointFormat:
    """The values ``q · 2^−fractional_length`` with ``q`` a two's complement integer of ``bits`` bits, the code.

    Attributes
    ----------
    bits
        2 … 32, the sign included.
    fractional_length
        −256 … 256: negative where the unit is above 1, more than ``bits`` where all values are small.

    Raises
    ------
    TypeError, ValueError
        If an attribute is no whole number, or out of its range.
    """

    bits: int
    fractional_length: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", whole_number(self.bits, 2, 32, "bits of fixed point"))
        length = whole_number(self.fractional_length, -EXPONENT_LIMIT, EXPONENT_LIMIT, "the fractional length")
        object.__setattr__(self, "fractional_length", length)

    @property
    def integer_length(self) -> int:
        """The bits before the point, the sign included: IL in IL.FL."""
        return self.bits - self.fractional_length

    @property
    def scale(self) -> float:
        """2^−fractional_length: the distance of neighbouring values."""
        return float(np.ldexp(1.0, -self.fractional_length))

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the greatest code."""
        return code_range(self.bits, signed=True)

    def quantize(self, reals: npt.ArrayLike) -> Codes:
        """Return the codes of the values nearest to ``reals``, ties to even codes, saturated: int8, int16 or int32.

        Parameters
        ----------
        reals
            Finite floats of any shape.

        Raises
        ------
        TypeError, ValueError
            If ``reals`` are no floats, or not finite.

        Ristretto's paper rounds to nearest even, which is normative here. Its code calls C's ``round``, which takes
        ties away from zero; it saturates to the same limits.
        """
        values = finite_reals(reals, "values")
        # A power of two changes the exponent alone. What overflows saturates, and what underflows rounds to 0 anyway.
        with np.errstate(over="ignore", under="ignore"):
            steps = np.rint(np.ldexp(values, self.fractional_length))
        return np.clip(steps, *self.limits).astype(code_dtype(self.bits, signed=True))

    def decode(self, codes: npt.ArrayLike) -> Reals:
        """Return the values of ``codes``, exactly.

        Raises
        ------
        TypeError, ValueError
            If ``codes`` are not integers of the format's width.
        """
        integers = checked_codes(codes, self.bits, signed=True)
        return np.ldexp(integers.astype(np.float64), -self.fractional_length)


def integer_length(peak: float) -> int:
    """Return the bits before the point, the sign included, of values up to ``peak``: ``⌈log2 peak⌉ + 1``.

    A peak of 0 is taken for 1.

    Raises
    ------
    TypeError, ValueError
        If ``peak`` is negative, or not finite.

    Source: Ristretto, ``quantization.cpp``, ``Quantize2DynamicFixedPoint``, for parameters.
    """
    fraction, exponent = peak_parts(peak, "the greatest value")
    return exponent if fraction == 0.5 else exponent + 1


def dynamic_fixed_point(peak: float, bits: int, overflow_bits: int = 0) -> FixedPointFormat:
    """Return the format of ``bits`` bits for values up to ``peak`` in magnitude: ``FL = bits − IL``.

    ``IL = ⌈log2 peak⌉ + 1 − overflow_bits``. With no overflow bits no value saturates but those that round to
    ``2^(IL − 1)``: a peak that is a power of two becomes the greatest value, one unit below it.

    Parameters
    ----------
    peak
        The greatest magnitude; for fixed point that of the whole network, for dynamic fixed point that of the group.
    bits
        2 … 32.
    overflow_bits
        Bits given up at the top: values above ``2^−overflow_bits`` of the range saturate, and the others gain
        precision. Ristretto takes 0 for parameters and 1 for activations.

    Raises
    ------
    TypeError, ValueError
        If ``peak`` is negative or not finite, or ``bits`` or ``overflow_bits`` are out of range.

    Source: Ristretto, ``quantization.cpp``, ``Quantize2DynamicFixedPoint`` and ``EditNetDescriptionDynamicFixedPoint``.
    """
    overflow_bits = whole_number(overflow_bits, 0, 31, "overflow bits")
    return FixedPointFormat(
        bits, whole_number(bits, 2, 32, "bits of fixed point") - integer_length(peak) + overflow_bits
    )
