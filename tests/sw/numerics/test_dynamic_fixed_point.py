from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import exact

from zeropoint.numerics.dynamic_fixed_point import FixedPointFormat, dynamic_fixed_point, integer_length

thorough = settings(max_examples=500, deadline=None)
floats = st.floats(allow_nan=False, allow_infinity=False)
float32s = st.floats(width=32, allow_nan=False, allow_infinity=False)
formats = st.builds(FixedPointFormat, st.integers(2, 32), st.integers(-256, 256))


def exact_code(real: float, form: FixedPointFormat) -> int:
    # round() of a fraction takes ties to even.
    code = round(Fraction(real) * Fraction(2) ** form.fractional_length)
    return min(max(code, -(2 ** (form.bits - 1))), 2 ** (form.bits - 1) - 1)


def exact_integer_length(peak: Fraction) -> int:
    """Ceiling of log2, by search, plus 1."""
    length = peak.numerator.bit_length() - peak.denominator.bit_length() - 2
    assert Fraction(2) ** length < peak
    while Fraction(2) ** length < peak:
        length += 1
    return length + 1


@thorough
@given(formats, st.lists(floats, min_size=1, max_size=5))
def test_quantize_is_nearest_even_and_saturates(form, reals):
    assert [int(code) for code in form.quantize(reals)] == [exact_code(real, form) for real in reals]


@thorough
@given(formats, st.data())
def test_quantize_near_ties_and_ends(form, data):
    low, high = form.limits
    code = data.draw(st.integers(low - 2, high + 2) | st.sampled_from([low - 1, low, -1, 0, high - 1, high]))
    tie = float((code + Fraction(1, 2)) * Fraction(2) ** -form.fractional_length)
    reals = [tie, np.nextafter(tie, -np.inf), np.nextafter(tie, np.inf)]
    assert [int(got) for got in form.quantize(reals)] == [exact_code(float(real), form) for real in reals]


@pytest.mark.parametrize("fractional_length", [-3, 0, 4, 11])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_every_code_tie_and_neighbour(bits, fractional_length):
    form = FixedPointFormat(bits, fractional_length)
    low, high = form.limits
    codes = np.arange(low, high + 1)
    values = form.decode(codes)
    np.testing.assert_array_equal(form.quantize(values), codes)
    assert [Fraction(value) for value in values] == [c * Fraction(2) ** -fractional_length for c in codes.tolist()]
    halves = np.arange(2 * low - 5, 2 * high + 6) * (form.scale / 2)
    reals = np.concatenate([halves, np.nextafter(halves, np.inf), np.nextafter(halves, -np.inf)])
    got = form.quantize(reals)
    expected = [exact_code(real, form) for real in reals.tolist()]
    np.testing.assert_array_equal(got, expected)
    # Ties away from zero, which Ristretto's code computes, would be something else.
    away = [
        min(max(exact.half_away(Fraction(r) * Fraction(2) ** fractional_length), low), high) for r in reals.tolist()
    ]
    assert away != expected


def test_codes_have_the_narrowest_dtype():
    for bits, dtype in ((2, np.int8), (8, np.int8), (9, np.int16), (16, np.int16), (17, np.int32), (32, np.int32)):
        form = FixedPointFormat(bits, 0)
        codes = form.quantize(np.array([[-1e30, 1e30]], np.float32))
        assert codes.dtype == dtype
        np.testing.assert_array_equal(codes, [list(form.limits)])


def test_ristrettos_example_of_a_negative_fractional_length():
    form = FixedPointFormat(8, -1)
    assert (form.integer_length, form.scale, form.limits) == (9, 2.0, (-128, 127))
    np.testing.assert_array_equal(form.quantize([3.0, 1.0, 5.0, 255.0, -300.0]), [2, 0, 2, 127, -128])


@thorough
@given(floats.map(abs).filter(lambda x: x > 0))
def test_integer_length_is_that_of_the_formula(peak):
    assert integer_length(peak) == exact_integer_length(Fraction(peak))


def test_integer_length_beside_powers_of_two():
    for exponent in range(-147, 128):
        peak = np.ldexp(np.float32(1), exponent)
        assert integer_length(peak) == exponent + 1
        assert integer_length(np.nextafter(peak, np.float32(np.inf))) == exponent + 2
        assert integer_length(np.nextafter(peak, np.float32(0))) == exponent + 1
    # The two least float32 numbers are powers of two both.
    assert integer_length(2.0**-148) == -147
    assert integer_length(2.0**-149) == -148


def test_a_logarithm_in_floating_point_would_be_wrong_there():
    peak = np.nextafter(np.float32(2**20), np.float32(np.inf))
    assert np.ceil(np.log2(peak)) == 20
    assert integer_length(peak) == exact_integer_length(Fraction(float(peak))) == 22


@thorough
@given(float32s.map(abs), st.integers(2, 32), st.integers(0, 3))
def test_dynamic_fixed_point_covers_the_range(peak, bits, overflow_bits):
    form = dynamic_fixed_point(peak, bits, overflow_bits)
    assert form.bits == bits
    assert form.integer_length + overflow_bits == integer_length(peak)
    if not overflow_bits and peak:
        # The range ends above the peak or one step below it, and would not with a longer fraction.
        low, high = form.limits
        exact_peak = Fraction(peak) * Fraction(2) ** form.fractional_length
        assert exact_peak <= high + 1
        assert 2 * exact_peak > high + 1
        assert exact_peak <= -low


def test_dynamic_fixed_point_of_powers_of_two_and_nothing():
    assert dynamic_fixed_point(1.0, 8) == FixedPointFormat(8, 7)
    assert dynamic_fixed_point(1.0, 8).quantize(1.0) == 127
    assert dynamic_fixed_point(1.5, 8) == FixedPointFormat(8, 6)
    assert dynamic_fixed_point(0.9, 8, 1) == FixedPointFormat(8, 8)
    assert dynamic_fixed_point(0.0, 8) == dynamic_fixed_point(1.0, 8)
    assert dynamic_fixed_point(0.01, 8) == FixedPointFormat(8, 13)
    assert dynamic_fixed_point(200.0, 8) == FixedPointFormat(8, -1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FixedPointFormat(1, 0), "bits of fixed point must be 2 to 32, not 1"),
        (lambda: FixedPointFormat(33, 0), "bits of fixed point must be 2 to 32, not 33"),
        (lambda: FixedPointFormat(8, 257), "the fractional length must be -256 to 256, not 257"),
        (lambda: FixedPointFormat(8, 0).quantize([1.0, np.nan]), "values must be finite, not nan"),
        (lambda: FixedPointFormat(4, 0).decode([8]), "codes of 4 bits must be -8 to 7, not 8"),
        (lambda: integer_length(-1.0), "the greatest value must be one number, not negative, not -1.0"),
        (lambda: dynamic_fixed_point(1.0, 1), "bits of fixed point must be 2 to 32, not 1"),
        (lambda: dynamic_fixed_point(1.0, 8, -1), "overflow bits must be 0 to 31, not -1"),
        (lambda: dynamic_fixed_point(1e300, 8), "the fractional length must be -256 to 256, not -990"),
    ],
)
def test_values_that_are_refused(make, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 — compared as a whole below
        make()
    assert str(caught.value) == message


def test_types_that_are_refused():
    with pytest.raises(TypeError, match=r"^bits of fixed point must be a whole number, not '8'$"):
        FixedPointFormat("8", 0)
    with pytest.raises(TypeError, match=r"^codes must be integers, not float32$"):
        FixedPointFormat(8, 0).decode(np.float32([1]))
