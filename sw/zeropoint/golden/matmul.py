"""Exact integer products in floating point, where BLAS and SIMD make them many times faster than in integers.

A sum of products of integers is exact in a float type, in any order and with or without fused multiply-adds, as long
as the magnitudes of all its terms add up to no more than the float's integers reach: 2^24 in float32, 2^53 in float64.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from zeropoint.model import Padding

#: Working memory of one block of a kernel: small enough for a second-level cache, large enough to feed BLAS.
BLOCK_BYTES = 1 << 20


def float_type(bound: int) -> type[np.float32] | type[np.float64]:
    """Return the narrowest float type in which integers up to ``bound`` are exact.

    Raises
    ------
    ValueError
        If none is: above 2^53.
    """
    if bound <= 1 << 24:
        return np.float32
    if bound <= 1 << 53:
        return np.float64
    raise ValueError(f"sums up to {bound} are not exact in float64")


def pad(image: npt.NDArray[Any], padding: Padding, value: int) -> npt.NDArray[Any]:
    """Return feature maps ``(n, height, width, channels)`` with rows and columns of ``value`` around them."""
    if padding == Padding():
        return image
    n, height, width, channels = image.shape
    top, left = padding.top, padding.left
    shape = (n, height + top + padding.bottom, width + left + padding.right, channels)
    padded = np.full(shape, value, image.dtype)
    padded[:, top : top + height, left : left + width] = image
    return padded


def patches(
    image: npt.NDArray[Any], window: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> npt.NDArray[Any]:
    """Return a view ``(n, rows, columns, window rows, window columns, channels)`` of every window of feature maps."""
    span = tuple((size - 1) * spread + 1 for size, spread in zip(window, dilation, strict=True))
    views = sliding_window_view(image, span, axis=(1, 2))
    views = views[:, :: stride[0], :: stride[1], :, :: dilation[0], :: dilation[1]]
    return views.transpose(0, 1, 2, 4, 5, 3)


def blocks(count: int, rows: int, row_bytes: int) -> Iterator[tuple[slice, slice]]:
    """Yield the blocks in which ``count`` images of ``rows`` rows are computed: slices of images and of rows.

    A block takes about :data:`BLOCK_BYTES`: several whole images, or some rows of one.
    """
    images = max(BLOCK_BYTES // (rows * row_bytes), 1)
    height = rows if images > 1 else min(max(BLOCK_BYTES // row_bytes, 1), rows)
    for first in range(0, count, images):
        for top in range(0, rows, height):
            yield slice(first, min(first + images, count)), slice(top, min(top + height, rows))


def rows_read(band: slice, size: int, stride: int, dilation: int) -> slice:
    """Return the rows that windows of ``size`` rows read for a band of output rows."""
    return slice(band.start * stride, (band.stop - 1) * stride + (size - 1) * dilation + 1)
