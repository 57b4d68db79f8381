from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeropoint.numerics.minifloat import MinifloatFormat, accumulator_bits, least_exponent_bits

thorough = settings(max_examples=300, deadline=None)
UP_TO_8_BITS = [MinifloatFormat(e, m) for e in range(1, 8) for m in range(8 - e)]
floats = st.floats(allow_nan=False, allow_infinity=False)
formats = st.builds(MinifloatFormat, st.integers(1, 8), st.integers(0, 23))


def exact_value(code: int, form: MinifloatFormat) -> Fraction:
    """IEEE 754-2019, 3.4, with the greatest field like any other."""
    e_bits, m_bits = form.exponent_bits, form.mantissa_bits
    bias = 2 ** (e_bits - 1) - 1
    mantissa = Fraction(code % 2**m_bits, 2**m_bits)
    field = code // 2**m_bits % 2**e_bits
    value = (1 + mantissa) * Fraction(2) ** (field - bias) if field else mantissa * Fraction(2) ** (1 - bias)
    return -value if code >= 2 ** (e_bits + m_bits) else value


def exact_magnitude(real: Fraction, form: MinifloatFormat) -> Fraction:
    """Return the nearest value to |real|; ties by IEEE 754-2019, 4.3.1, from quotients alone."""
    bias = 2 ** (form.exponent_bits - 1) - 1
    exponent = 1 - bias
    while exponent < 2**form.exponent_bits - 1 - bias and Fraction(2) ** (exponent + 1) <= abs(real):
        exponent += 1
    unit = Fraction(2) ** (exponent - form.mantissa_bits)
    steps, rest = divmod(abs(real), unit)
    up = 2 * rest > unit or (2 * rest == unit and steps % 2 == 1)
    greatest = (2 - Fraction(1, 2**form.mantissa_bits)) * Fraction(2) ** (2**form.exponent_bits - 1 - bias)
    return min((steps + up) * unit, greatest)


def exact_rounding(real: float, form: MinifloatFormat) -> Fraction:
    return exact_magnitude(Fraction(real), form) * (-1 if real < 0 else 1)


@pytest.mark.parametrize("form", UP_TO_8_BITS, ids=str)
def test_every_code_up_to_8_bits(form):
    codes = np.arange(1 << form.bits)
    values = form.decode(codes)
    assert [Fraction(value) for value in values] == [exact_value(code, form) for code in codes.tolist()]
    assert not np.any(np.signbit(values) & (values == 0))
    half = len(codes) // 2
    assert np.all(np.diff(values[:half]) > 0)
    assert (values[half - 1], Fraction(values[half - 1])) == (
        form.greatest,
        form.greatest_integer * Fraction(2) ** form.least,
    )
    expected = codes.copy()
    expected[half] = 0  # −0
    np.testing.assert_array_equal(form.quantize(values), expected)
    significand, shift = form.significands(codes)
    assert np.abs(significand).max() < 2 << form.mantissa_bits
    assert (shift.min(), shift.max()) == (0, 2**form.exponent_bits - 2)
    pieces = zip(significand.tolist(), shift.tolist(), strict=True)
    assert [s * Fraction(2) ** (k + form.least) for s, k in pieces] == [Fraction(value) for value in values]


@pytest.mark.parametrize("form", UP_TO_8_BITS, ids=str)
def test_every_tie_up_to_8_bits_and_the_floats_beside(form):
    values = form.decode(np.arange(1 << form.bits - 1))
    ties = (values[1:] + values[:-1]) / 2
    reals = np.concatenate([ties, np.nextafter(ties, 0), np.nextafter(ties, np.inf), [2 * values[-1], 1.7e308, 5e-324]])
    reals = np.concatenate([reals, -reals])
    got = form.decode(form.quantize(reals))
    assert [Fraction(value) for value in got] == [exact_rounding(real, form) for real in reals.tolist()]
    # Whatever the tie rule, no other value is nearer.
    levels = np.concatenate([values, -values])
    inside = np.abs(reals) <= values[-1]
    nearest = np.abs(reals[inside, np.newaxis] - levels).min(axis=1)
    np.testing.assert_array_equal(np.abs(reals - got)[inside], nearest)
    # Ties truncated or rounded away would be told.
    k = np.arange(len(ties))
    assert not np.array_equal(form.quantize(ties), k) or len(ties) == 1
    assert not np.array_equal(form.quantize(ties), k + 1)


@thorough
@given(formats, st.lists(floats, min_size=1, max_size=5))
def test_rounding_of_any_float_in_any_format(form, reals):
    assert [Fraction(v) for v in form.decode(form.quantize(reals))] == [exact_rounding(real, form) for real in reals]


@thorough
@given(formats, st.data())
def test_rounding_beside_values_and_ties_in_any_format(form, data):
    code = data.draw(st.integers(0, 2 ** (form.bits - 1) - 2))
    low, high = form.decode([code, code + 1])
    tie = (low + high) / 2
    reals = [low, high, tie, *np.nextafter([low, tie, high], np.inf), *np.nextafter([low, tie, high], -np.inf)]
    reals = [float(real) for real in reals]
    reals += [-real for real in reals]
    assert [Fraction(v) for v in form.decode(form.quantize(reals))] == [exact_rounding(real, form) for real in reals]


@thorough
@given(formats, st.data())
def test_codes_survive_in_any_format(form, data):
    code = data.draw(st.integers(0, 2**form.bits - 1))
    value = form.decode(code)
    assert Fraction(float(value)) == exact_value(code, form)
    again = form.quantize(value)
    assert int(again) == (0 if code == 2 ** (form.bits - 1) else code)
    assert np.asarray(again).dtype.itemsize * 8 >= form.bits > np.asarray(again).dtype.itemsize * 4 - 4


def test_float16_is_a_minifloat_below_its_infinities():
    form = MinifloatFormat(5, 10)
    codes = np.arange(1 << 16, dtype=np.uint16)
    halves = codes.view(np.float16)
    finite = np.isfinite(halves)
    np.testing.assert_array_equal(form.decode(codes[finite]), halves[finite])
    levels = np.unique(halves[finite].astype(np.float64))
    ties = (levels[1:] + levels[:-1]) / 2
    reals = np.concatenate([ties, np.nextafter(ties, -np.inf), np.nextafter(ties, np.inf)])
    expected = reals.astype(np.float16)
    expected[expected == 0] = 0  # −0
    np.testing.assert_array_equal(form.quantize(reals), expected.view(np.uint16))


@thorough
@given(st.lists(st.floats(-3.4028234663852886e38, 3.4028234663852886e38), min_size=1, max_size=8))
def test_float32_is_a_minifloat_below_its_infinities(reals):
    expected = np.array(reals, np.float64).astype(np.float32)
    expected[expected == 0] = 0
    np.testing.assert_array_equal(MinifloatFormat(8, 23).quantize(reals), expected.view(np.uint32))


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("float4_e2m1fn", MinifloatFormat(2, 1)),
        ("float6_e2m3fn", MinifloatFormat(2, 3)),
        ("float6_e3m2fn", MinifloatFormat(3, 2)),
        ("float8_e4m3fn", MinifloatFormat(4, 3)),
        ("float8_e5m2", MinifloatFormat(5, 2)),
    ],
)
def test_the_floats_of_ml_dtypes_are_minifloats(name, form):
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes comes with onnx 1.19 and later")
    dtype = np.dtype(getattr(ml_dtypes, name))
    codes = np.arange(1 << form.bits, dtype=np.uint8)
    theirs = codes.view(dtype).astype(np.float64)
    finite = np.isfinite(theirs)
    assert finite.sum() >= len(codes) - 2 * 4
    np.testing.assert_array_equal(form.decode(codes[finite]), theirs[finite])
    # float32, because ml_dtypes rounds float64 to that first, which makes ties of what is beside them.
    levels = np.unique(theirs[finite]).astype(np.float32)
    ties = (levels[1:] + levels[:-1]) / np.float32(2)
    up, down = np.float32(np.inf), np.float32(-np.inf)
    reals = np.concatenate([levels, ties, np.nextafter(ties, down), np.nextafter(ties, up)])
    expected = reals.astype(dtype).view(np.uint8)
    expected[reals.astype(dtype).astype(np.float64) == 0] = 0
    np.testing.assert_array_equal(form.quantize(reals), expected)


def test_codes_of_e2m1():
    form = MinifloatFormat(2, 1)
    np.testing.assert_array_equal(form.decode(np.arange(8)), [0, 0.5, 1, 1.5, 2, 3, 4, 6])
    np.testing.assert_array_equal(form.decode(np.arange(8, 16)), [0, -0.5, -1, -1.5, -2, -3, -4, -6])
    np.testing.assert_array_equal(form.quantize([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 7.0]), [0, 2, 2, 4, 4, 6, 6, 7])
    np.testing.assert_array_equal(form.quantize([-0.25, -0.0, -0.26, -100.0]), [0, 0, 9, 15])


def test_a_tie_without_mantissa_goes_to_the_greater_magnitude():
    form = MinifloatFormat(3, 0)
    np.testing.assert_array_equal(form.decode(form.quantize([1.5, 3.0, 6.0, -1.5])), [2, 4, 8, -2])
    # But the one above 0 to 0, whose significand is even.
    assert form.decode(form.quantize(2.0**form.least / 2)) == 0


@pytest.mark.parametrize("first", UP_TO_8_BITS, ids=str)
def test_an_accumulator_holds_every_sum_and_needs_every_bit(first):
    for second in (first, MinifloatFormat(4, 3), MinifloatFormat(2, 0)):
        unit = Fraction(2) ** (first.least + second.least)
        values = [[exact_value(code, form) for code in range(1 << form.bits)] for form in (first, second)]
        extremes = [max(values[0]) * max(values[1]) / unit, min(values[0]) * max(values[1]) / unit]
        least = min(v for v in values[0] if v > 0) * min(v for v in values[1] if v > 0) / unit
        assert least == 1
        for terms in (1, 2, 3, 9, 1000):
            bits = accumulator_bits(first, second, terms)
            sums = [terms * extreme for extreme in extremes]
            assert all(total.denominator == 1 and -(2 ** (bits - 1)) <= total < 2 ** (bits - 1) for total in sums)
            assert max(sums) >= 2 ** (bits - 2)


def test_widths_of_some_products():
    assert [
        accumulator_bits(form, form)
        for form in (MinifloatFormat(2, 1), MinifloatFormat(3, 2), MinifloatFormat(4, 3), MinifloatFormat(5, 2))
    ] == [9, 19, 37, 67]
    assert accumulator_bits(MinifloatFormat(4, 3), MinifloatFormat(4, 3), 1 << 10) == 47


@thorough
@given(st.floats(0, 1e38))
def test_least_exponent_bits(peak):
    bits = least_exponent_bits(peak)
    reach = [Fraction(2) ** (2 ** (e - 1) + 1) for e in range(1, 9)]
    assert reach[bits - 1] >= peak
    assert bits == 1 or reach[bits - 2] < peak


def test_least_exponent_bits_at_its_steps():
    for bits in range(1, 8):
        reach = 2.0 ** (2 ** (bits - 1) + 1)
        assert least_exponent_bits(reach) == bits
        assert least_exponent_bits(np.nextafter(reach, np.inf)) == bits + 1
        # A mantissa of any length reaches up to there.
        assert MinifloatFormat(bits, 23).greatest < reach < 2 * MinifloatFormat(bits, 0).greatest + 1e-9 * reach


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MinifloatFormat(0, 3), "exponent bits must be 1 to 8, not 0"),
        (lambda: MinifloatFormat(9, 3), "exponent bits must be 1 to 8, not 9"),
        (lambda: MinifloatFormat(4, 24), "mantissa bits must be 0 to 23, not 24"),
        (lambda: MinifloatFormat(4, 3).quantize([-np.inf]), "values must be finite, not -inf"),
        (lambda: MinifloatFormat(4, 3).decode([256]), "codes of 8 bits must be 0 to 255, not 256"),
        (
            lambda: accumulator_bits(MinifloatFormat(4, 3), MinifloatFormat(4, 3), 0),
            "terms must be 1 to 4294967296, not 0",
        ),
        (lambda: least_exponent_bits(1e50), "no minifloat of 8 exponent bits reaches 1e+50"),
        (lambda: least_exponent_bits(-1.0), "the greatest value must be one number, not negative, not -1.0"),
    ],
)
def test_values_that_are_refused(make, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 — compared as a whole below
        make()
    assert str(caught.value) == message


def test_types_that_are_refused():
    with pytest.raises(TypeError, match=r"^exponent bits must be a whole number, not 4.0$"):
        MinifloatFormat(4.0, 3)
    with pytest.raises(TypeError, match=r"^codes must be integers, not float64$"):
        MinifloatFormat(4, 3).decode([1.0])
