"""Weights as the weight memory holds them: codes of the array's number format."""

import numpy as np
import numpy.typing as npt

from zeropoint.model.formats import power_of_two
from zeropoint.numerics.bit_packing import pack_codes
from zeropoint.numerics.minifloat import MinifloatFormat, from_order
from zeropoint_hw.config import CODE_BITS, AcceleratorConfig, PEKind

Codes = npt.NDArray[np.uint8 | np.uint16]


def encode(
    config: AcceleratorConfig, weights: npt.NDArray[np.integer], *, unsigned: bool, coded: bool, gated: bool
) -> Codes:
    """Return the codes of integers; of minifloats, the integers in their order.

    Parameters
    ----------
    unsigned
        Whether the integers are uint8, which only 8-bit weights are.
    coded
        Whether the array is to take powers of two, on ``mixed``.
    gated
        Whether lanes and columns that have a weight of 0 are kept apart by the instruction's gate, where there is no
        code for it.

    Raises
    ------
    ValueError
        If one of them has no code; the message says what the array holds.
    """
    if config.pe is PEKind.SHIFT or coded:
        form = power_of_two(config.code_exponent_bits if not coded else CODE_BITS - 2, config.weight_zero)
        values = np.where(weights == 0, 1, weights) if gated and not config.weight_zero else weights
        codes: Codes = form.encode(values.astype(np.float64)).astype(np.uint8)
        return codes
    weights, bits = weights.astype(np.int64), config.weight_bits
    if config.pe is PEKind.MINIFLOAT:
        return from_order(weights, weight_format(config)).astype(np.uint8)
    low, high = (0, 255) if unsigned else (-(1 << bits - 1), (1 << bits - 1) - 1)
    if unsigned and bits != 8:
        raise ValueError(f"uint8 weights do not fit weights of {bits} bits")
    outside = weights[(weights < low) | (weights > high)]
    if outside.size:
        raise ValueError(f"weight {outside[0]} does not fit {bits} bits, which hold {low} to {high}")
    return (weights & (1 << bits) - 1).astype(np.uint8 if bits <= 8 else np.uint16)


def weight_format(config: AcceleratorConfig) -> MinifloatFormat:
    """Return what weights are for ``minifloat``."""
    return MinifloatFormat(config.exponent_bits, config.weight_bits - 1 - config.exponent_bits)


def pack_words(config: AcceleratorConfig, codes: Codes) -> npt.NDArray[np.uint8]:
    """Return words of ``config.word_bits`` bits, each as bytes, of codes ``[words, columns · lanes]``."""
    return pack_codes(codes, config.weight_bits)
