"""Codes at their real width: b-bit codes side by side, so that 5-bit codes take 5/8 of what bytes take.

A row of codes is a string of bits, code ``i`` at the bits ``i · b … i · b + b − 1`` from its least significant one on,
and bit ``j`` of the string is bit ``j mod 8`` of byte ``⌊j / 8⌋``. Read as one little-endian number, the bytes are
``Σ code[i] · 2^(i · b)``. Bits behind the last code are 0.
"""

import numpy as np
import numpy.typing as npt

from zeropoint.numerics.formats import Codes, checked_codes, code_dtype, whole_number

Bytes = npt.NDArray[np.uint8]


def packed_bytes(count: int, bits: int) -> int:
    """Return how many bytes ``count`` codes of ``bits`` bits take."""
    return -(-count * bits // 8)


def pack_codes(codes: npt.ArrayLike, bits: int, *, signed: bool = False) -> Bytes:
    """Pack the codes along the last dimension.

    Parameters
    ----------
    codes
        Integers ``(…, count)``: each row becomes bytes of its own, as memory words want it.
    bits
        1 … 32.
    signed
        Whether codes are two's complement numbers.

    Returns
    -------
    uint8 ``(…, packed_bytes(count, bits))``.

    Raises
    ------
    TypeError, ValueError
        If ``codes`` are not integers of that width, or have no dimension.
    """
    bits = whole_number(bits, 1, 32, "bits of a code")
    array = checked_codes(codes, bits, signed)
    if not array.ndim:
        raise ValueError("codes must have a dimension to be packed along")
    dtype = code_dtype(bits).newbyteorder("<")
    # Negative codes wrap to their two's complement; the bits above the width are dropped.
    octets = array.astype(dtype)[..., np.newaxis].view(np.uint8)
    string = np.unpackbits(octets, axis=-1, count=bits, bitorder="little")
    return np.packbits(string.reshape(*array.shape[:-1], array.shape[-1] * bits), axis=-1, bitorder="little")


def unpack_codes(packed: npt.ArrayLike, bits: int, count: int, *, signed: bool = False) -> Codes:
    """Return the codes that :func:`pack_codes` packed, in the narrowest dtype that holds them.

    Parameters
    ----------
    packed
        uint8 ``(…, packed_bytes(count, bits))``.
    bits, signed
        As they were packed.
    count
        Codes in a row.

    Raises
    ------
    TypeError, ValueError
        If ``packed`` is not uint8, or its rows have another length, or bits that are set behind the last code.
    """
    bits = whole_number(bits, 1, 32, "bits of a code")
    count = whole_number(count, 0, 1 << 62, "the number of codes")
    octets = np.asarray(packed)
    if octets.dtype != np.uint8:
        raise TypeError(f"packed codes must be uint8, not {octets.dtype}")
    length = packed_bytes(count, bits)
    if not octets.ndim or octets.shape[-1] != length:
        raise ValueError(f"{count} codes of {bits} bits take {length} bytes, not an array of shape {octets.shape}")
    string = np.unpackbits(octets, axis=-1, bitorder="little")
    if np.any(string[..., count * bits :]):
        raise ValueError(f"bits behind the last of {count} codes of {bits} bits must be 0")
    string = string[..., : count * bits].reshape(*octets.shape[:-1], count, bits)
    dtype = code_dtype(bits)
    if signed:
        # The sign bit fills the rest of the code's dtype.
        fill = np.broadcast_to(string[..., -1:], (*string.shape[:-1], dtype.itemsize * 8 - bits))
        string = np.concatenate([string, fill], axis=-1)
    narrow = np.packbits(string, axis=-1, bitorder="little")
    if narrow.shape[-1] < dtype.itemsize:  # 17 to 24 bits in 32
        narrow = np.pad(narrow, [(0, 0)] * (narrow.ndim - 1) + [(0, dtype.itemsize - narrow.shape[-1])])
    codes = np.ascontiguousarray(narrow).view(dtype.newbyteorder("<"))[..., 0]
    return codes.astype(code_dtype(bits, signed))
