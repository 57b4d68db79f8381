import numpy as np
import pytest

from zeropoint.golden import matmul
from zeropoint.golden.matmul import blocks, float_type, pad, patches, rows_read
from zeropoint.model import Padding


@pytest.mark.parametrize(
    ("bound", "expected"),
    [(0, np.float32), (2**24, np.float32), (2**24 + 1, np.float64), (2**53, np.float64)],
)
def test_float_type_is_the_narrowest_that_is_exact(bound, expected):
    assert float_type(bound) is expected
    assert int(expected(bound)) == bound


def test_the_next_integer_would_be_lost():
    assert int(np.float32(2**24 + 1)) == 2**24
    assert int(np.float64(2**53 + 1)) == 2**53


def test_float_type_refuses_what_float64_loses():
    with pytest.raises(ValueError, match=r"^sums up to 9007199254740993 are not exact in float64$"):
        float_type(2**53 + 1)


@pytest.mark.parametrize("terms", [64, 1000])
def test_products_up_to_the_bound_are_exact(terms):
    # Every partial sum is as great as the bound allows, in whatever order BLAS adds.
    rng = np.random.default_rng(terms)
    for value, dtype in ((2**24 // terms, np.float32), (2**53 // terms // 2**20 * 2**20, np.float64)):
        x = np.full((50, terms), 1, np.int64)
        w = np.full((terms, 40), value, np.int64) - rng.integers(0, 2, (terms, 40))
        assert float_type(int(w.sum(axis=0).max())) is dtype
        np.testing.assert_array_equal((x.astype(dtype) @ w.astype(dtype)).astype(np.int64), x @ w)


def test_pad_surrounds_with_the_value():
    image = np.arange(2 * 2 * 3 * 1, dtype=np.int8).reshape(2, 2, 3, 1)
    padding = Padding(top=1, bottom=2, left=3, right=0)
    got = pad(image, padding, -7)
    expected = np.pad(image, ((0, 0), (1, 2), (3, 0), (0, 0)), constant_values=-7)
    np.testing.assert_array_equal(got, expected)
    assert pad(image, Padding(), 9) is image


@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
@pytest.mark.parametrize("dilation", [(1, 1), (3, 2)])
def test_patches_are_the_windows(stride, dilation):
    rng = np.random.default_rng(1)
    image = rng.integers(-128, 128, (2, 11, 12, 3)).astype(np.int8)
    got = patches(image, (3, 4), stride, dilation)
    rows, columns = (11 - 2 * dilation[0] - 1) // stride[0] + 1, (12 - 3 * dilation[1] - 1) // stride[1] + 1
    assert got.shape == (2, rows, columns, 3, 4, 3)
    for n, r, c, i, j, k in np.ndindex(got.shape):
        assert got[n, r, c, i, j, k] == image[n, r * stride[0] + i * dilation[0], c * stride[1] + j * dilation[1], k]


@pytest.mark.parametrize("row_bytes", [1, 1000, matmul.BLOCK_BYTES // 3, 10 * matmul.BLOCK_BYTES])
@pytest.mark.parametrize(("count", "rows"), [(0, 4), (1, 1), (5, 7), (100, 3), (1, 1000)])
def test_blocks_cover_everything_once_and_stay_small(count, rows, row_bytes):
    seen = np.zeros((count, rows), int)
    for images, band in blocks(count, rows, row_bytes):
        block = seen[images, band]
        assert block.size > 0
        # Whole images, or rows of one image: contiguous in the output.
        assert len(block) == 1 or block.shape[1] == rows
        assert block.size == 1 or block.size * row_bytes <= matmul.BLOCK_BYTES
        block += 1
    np.testing.assert_array_equal(seen, 1)


def test_rows_read_by_a_band():
    # Rows 2 and 3 of windows of 3 rows, every other row of the image, at stride 2: 4 … 8 and 6 … 10.
    assert rows_read(slice(2, 4), 3, 2, 2) == slice(4, 11)
