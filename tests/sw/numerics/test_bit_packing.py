import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeropoint.numerics.bit_packing import pack_codes, packed_bytes, unpack_codes
from zeropoint.numerics.power_of_two import inq_format, quantize_inq

thorough = settings(max_examples=300, deadline=None)


@st.composite
def rows(draw):
    bits, signed = draw(st.integers(1, 32)), draw(st.booleans())
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return bits, signed, draw(st.lists(st.integers(low, high) | st.sampled_from([low, high]), max_size=40))


def exact_bytes(codes: list[int], bits: int) -> bytes:
    """One little-endian number, code by code."""
    number = sum(code % 2**bits << place * bits for place, code in enumerate(codes))
    return number.to_bytes((len(codes) * bits + 7) // 8, "little")


@thorough
@given(rows())
def test_packed_codes_are_one_little_endian_number(row):
    bits, signed, codes = row
    packed = pack_codes(np.array(codes, np.int64), bits, signed=signed)
    assert packed.dtype == np.uint8
    assert packed.tobytes() == exact_bytes(codes, bits)
    assert len(packed) == packed_bytes(len(codes), bits)
    got = unpack_codes(packed, bits, len(codes), signed=signed)
    assert got.dtype == np.dtype(f"{'int' if signed else 'uint'}{8 if bits <= 8 else 16 if bits <= 16 else 32}")
    np.testing.assert_array_equal(got, codes)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", range(1, 17))
def test_every_code_at_every_place(bits, signed):
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    codes = np.arange(low, high + 1)
    for first in range(3):
        row = np.roll(codes, first)
        packed = pack_codes(row, bits, signed=signed)
        if bits <= 8:
            assert packed.tobytes() == exact_bytes(row.tolist(), bits)
        np.testing.assert_array_equal(unpack_codes(packed, bits, len(row), signed=signed), row)


def test_by_hand():
    # 5 bits: 00001, 11111, 00100, from the right: 0 00100 11 | 111 00001.
    np.testing.assert_array_equal(pack_codes([1, 31, 4], 5), [0b11100001, 0b00010011])
    np.testing.assert_array_equal(pack_codes([1, -2, 7], 4, signed=True), [0xE1, 0x07])
    np.testing.assert_array_equal(unpack_codes(np.array([0xE1, 0x07], np.uint8), 4, 3, signed=True), [1, -2, 7])
    np.testing.assert_array_equal(unpack_codes(np.array([0xE1, 0x07], np.uint8), 4, 3), [1, 14, 7])


def test_the_order_of_codes_and_of_bits_matters():
    codes = [1, 31, 4]
    assert pack_codes(codes, 5).tobytes() != pack_codes(codes[::-1], 5).tobytes()
    assert pack_codes(codes, 5).tobytes() != np.packbits(np.unpackbits(np.uint8(codes)).reshape(3, 8)[:, 3:]).tobytes()


@pytest.mark.parametrize(("bits", "share"), [(2, 1 / 4), (3, 3 / 8), (4, 1 / 2), (5, 5 / 8), (8, 1)])
def test_weights_take_their_real_width(bits, share):
    weights = np.random.default_rng(bits).normal(size=(16, 3, 3, 8)).astype(np.float32)
    if bits == 8:
        codes = np.random.default_rng(0).integers(0, 256, weights.size)
    else:
        codes = quantize_inq(weights, inq_format(np.abs(weights).max(), bits)).ravel()
    packed = pack_codes(codes, bits)
    assert packed.nbytes == weights.size * share
    np.testing.assert_array_equal(unpack_codes(packed, bits, codes.size), codes)


def test_rows_are_packed_alone():
    codes = np.random.default_rng(1).integers(0, 8, (2, 5, 7))
    packed = pack_codes(codes, 3)
    assert packed.shape == (2, 5, 3)
    for index in np.ndindex(2, 5):
        np.testing.assert_array_equal(packed[index], pack_codes(codes[index], 3))
    np.testing.assert_array_equal(unpack_codes(packed, 3, 7), codes)
    np.testing.assert_array_equal(unpack_codes(packed[:, ::-2], 3, 7), codes[:, ::-2])
    np.testing.assert_array_equal(
        pack_codes(codes.transpose(2, 0, 1), 3), pack_codes(codes.transpose(2, 0, 1).copy(), 3)
    )


def test_nothing_takes_nothing():
    for shape in ((0,), (0, 5), (3, 0)):
        packed = pack_codes(np.zeros(shape, np.uint8), 5)
        assert packed.shape == (*shape[:-1], packed_bytes(shape[-1], 5))
        assert unpack_codes(packed, 5, shape[-1]).shape == shape


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pack_codes([32], 5), "codes of 5 bits must be 0 to 31, not 32"),
        (lambda: pack_codes([-1], 5), "codes of 5 bits must be 0 to 31, not -1"),
        (lambda: pack_codes([16], 5, signed=True), "codes of 5 bits must be -16 to 15, not 16"),
        (lambda: pack_codes([0], 0), "bits of a code must be 1 to 32, not 0"),
        (lambda: pack_codes(3, 5), "codes must have a dimension to be packed along"),
        (
            lambda: unpack_codes(np.zeros(2, np.uint8), 5, 4),
            "4 codes of 5 bits take 3 bytes, not an array of shape (2,)",
        ),
        (lambda: unpack_codes(np.uint8([0, 0x80]), 5, 3), "bits behind the last of 3 codes of 5 bits must be 0"),
        (
            lambda: unpack_codes(np.zeros(2, np.uint8), 5, -1),
            "the number of codes must be 0 to 4611686018427387904, not -1",
        ),
    ],
)
def test_values_that_are_refused(make, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 — compared as a whole below
        make()
    assert str(caught.value) == message


def test_types_that_are_refused():
    with pytest.raises(TypeError, match=r"^codes must be integers, not float64$"):
        pack_codes([1.0], 5)
    with pytest.raises(TypeError, match=r"^packed codes must be uint8, not int64$"):
        unpack_codes([1], 5, 1)
