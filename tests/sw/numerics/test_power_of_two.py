from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeropoint.numerics.power_of_two import (
    RISTRETTO_POWER_OF_TWO,
    InqThreshold,
    PowerOfTwoFormat,
    inq_format,
    quantize_inq,
    quantize_ristretto_power_of_two,
)

thorough = settings(max_examples=500, deadline=None)
widths = st.integers(2, 5)
thresholds = st.sampled_from(InqThreshold)
float32s = st.floats(width=32, allow_nan=False, allow_infinity=False)
# Fractions next to the borders 1/2, √½ and 3/4, at any exponent that float32 has, subnormal numbers included.
border_float32s = st.builds(
    lambda fraction, beside, exponent, sign: sign * float(np.ldexp(np.float32(fraction + beside * 2.0**-24), exponent)),
    st.sampled_from([0.5, 0.5**0.5, 0.75, 1.0]),
    st.integers(-2, 2),
    st.integers(-149, 127),
    st.sampled_from([-1, 1]),
)
weights32 = float32s | border_float32s


def power(exponent: int) -> Fraction:
    return Fraction(2) ** exponent


def exact_n1(peak: Fraction) -> int:
    """Floor of log2(4s/3), by search."""
    n1 = -160
    while power(n1 + 1) <= Fraction(4, 3) * peak:
        n1 += 1
    return n1


def exact_inq(weight: Fraction, n2: int, n1: int, threshold: InqThreshold) -> Fraction:
    """Equation 4, level by level."""
    sign = -1 if weight < 0 else 1
    magnitude = abs(weight)
    if threshold is InqThreshold.TRUNCATE and magnitude < power(n2):
        return Fraction(0)
    if magnitude >= Fraction(3, 2) * power(n1):
        return sign * power(n1)
    levels = [Fraction(0)] + [power(exponent) for exponent in range(n2, n1 + 1)]
    found = [beta for alpha, beta in pairwise(levels) if (alpha + beta) / 2 <= magnitude < Fraction(3, 2) * beta]
    assert len(found) <= 1
    return sign * found[0] if found else Fraction(0)


def exact_ristretto(weight: Fraction, low: int, high: int) -> Fraction:
    """Sign and 2^round(log2 |w|): 2^e is nearest while |w|² < 2^(2e + 1)."""
    exponent = low
    while exponent < high and weight * weight > power(2 * exponent + 1):
        exponent += 1
    return power(exponent) * (-1 if weight < 0 else 1)


@thorough
@given(weights32.filter(lambda x: x != 0), widths)
def test_inq_levels_are_those_of_the_formula(weight, bits):
    peak = abs(weight)
    form = inq_format(peak, bits)
    n1 = exact_n1(Fraction(peak))
    assert form.greatest == n1
    assert form.least == n1 + 1 - 2 ** (bits - 1) // 2
    assert (form.bits, form.zero) == (bits, True)
    magnitudes = [power(exponent) for exponent in range(form.least, n1 + 1)]
    assert [Fraction(level) for level in form.levels()] == [-m for m in reversed(magnitudes)] + [0] + magnitudes


@pytest.mark.parametrize(("bits", "count"), [(2, 3), (3, 5), (4, 9), (5, 17)])
def test_inq_has_the_published_number_of_values(bits, count):
    form = inq_format(0.9, bits)
    assert len(form.levels()) == len(form.codes()) == len(set(form.levels())) == 2 ** (bits - 1) + 1 == count
    assert form.codes().max() < 2**bits


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_floor_of_the_logarithm_is_exact_at_its_steps(dtype):
    for exponent in range(-120, 120):
        step = np.ldexp(dtype(0.75), exponent)
        assert inq_format(step, 4).greatest == exponent
        assert inq_format(np.nextafter(step, dtype(0)), 4).greatest == exponent - 1


def test_a_logarithm_in_floating_point_would_be_wrong_there():
    peak = np.nextafter(np.float32(0.75 * 2.0**-5), np.float32(0))
    assert np.floor(np.log2(np.float32(4) * peak / np.float32(3))) == -5
    assert inq_format(peak, 4).greatest == exact_n1(Fraction(float(peak))) == -6


@thorough
@given(st.lists(weights32, min_size=1, max_size=8), widths, thresholds, st.none() | weights32)
def test_inq_is_equation_4(weights, bits, threshold, peak):
    """With the weights' own peak, or another one, as weights have that were retrained."""
    array = np.array(weights, np.float32)
    form = inq_format(np.abs(array).max() if peak is None else abs(peak), bits)
    got = form.decode(quantize_inq(array, form, threshold))
    assert [Fraction(value) for value in got] == [
        exact_inq(Fraction(float(weight)), form.least, form.greatest, threshold) for weight in array
    ]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("threshold", InqThreshold)
@pytest.mark.parametrize("bits", [2, 3, 4, 5])
@pytest.mark.parametrize("peak", [1.0, 0.3, 1e-40, 3e38])
def test_inq_at_every_border_and_beside_it(peak, bits, threshold, dtype):
    form = inq_format(dtype(peak), bits)
    exponents = np.arange(form.least - 2, form.greatest + 2)
    borders = np.concatenate([np.ldexp(fraction, exponents) for fraction in (0.5, 0.75, 1.0)])
    borders = borders[(borders <= np.finfo(dtype).max) & (borders > 1e-300)].astype(dtype)
    weights = np.concatenate([borders, np.nextafter(borders, dtype(0)), np.nextafter(borders, np.finfo(dtype).max)])
    weights = np.concatenate([weights, -weights, [dtype(0), dtype(-0.0)]])
    expected = [exact_inq(Fraction(float(w)), form.least, form.greatest, threshold) for w in weights]
    assert [Fraction(value) for value in form.decode(quantize_inq(weights, form, threshold))] == expected
    if threshold is InqThreshold.NEAREST:  # the borders do tell the rules apart
        other = form.decode(quantize_inq(weights, form, InqThreshold.TRUNCATE))
        assert [Fraction(value) for value in other] != expected


@pytest.mark.parametrize("threshold", InqThreshold)
def test_inq_of_every_float16(threshold):
    weights = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    weights = weights[np.isfinite(weights)]
    form = inq_format(2.0, 5)
    codes = quantize_inq(weights, form, threshold)
    assert set(codes) == set(form.codes())
    # Nearest level in the linear domain, ties away from zero; beyond the least level's half, or all of it, 0.
    levels = form.levels()
    distance = np.abs(weights.astype(np.float64)[:, np.newaxis] - levels)
    order = np.lexsort((-np.abs(np.broadcast_to(levels, distance.shape)), distance))
    expected = levels[order[:, 0]]
    if threshold is InqThreshold.TRUNCATE:
        expected[np.abs(weights) < 2.0**form.least] = 0
    np.testing.assert_array_equal(form.decode(codes), expected)


def test_a_layer_of_zeros_is_all_code_0():
    for bits in (2, 3, 4, 5):
        form = inq_format(0.0, bits)
        assert form == inq_format(1.0, bits)
        np.testing.assert_array_equal(quantize_inq(np.array([0.0, -0.0], np.float32), form), np.zeros(2, np.uint8))


def test_subnormal_weights_have_levels_below_float32():
    least = np.float32(1e-45)
    form = inq_format(least, 5)
    assert (form.greatest, form.least) == (-149, -156)
    np.testing.assert_array_equal(quantize_inq([least, -least], form), [0b10111, 0b11111])
    np.testing.assert_array_equal(form.decode([0b10111, 0b11111]), [2.0**-149, -(2.0**-149)])


def test_codes_of_inq():
    ternary = PowerOfTwoFormat(0, -3)
    np.testing.assert_array_equal(ternary.codes(), [0b00, 0b10, 0b11])
    np.testing.assert_array_equal(ternary.decode(ternary.codes()), [0, 0.125, -0.125])
    three = PowerOfTwoFormat(1, -3)
    np.testing.assert_array_equal(three.codes(), [0, 0b100, 0b101, 0b110, 0b111])
    np.testing.assert_array_equal(three.integers(three.codes()), [0, 1, 2, -1, -2])
    five = PowerOfTwoFormat(3, -7)
    np.testing.assert_array_equal(five.integers([0, 16, 23, 24, 31]), [0, 1, 128, -1, -128])
    assert five.scale == 2.0**-7


def test_codes_of_ristretto():
    form = RISTRETTO_POWER_OF_TWO
    assert (form.bits, form.least, form.greatest) == (4, -8, -1)
    np.testing.assert_array_equal(form.codes(), np.arange(16))
    expected = [2.0**e for e in range(-8, 0)] + [-(2.0**e) for e in range(-8, 0)]
    np.testing.assert_array_equal(form.decode(np.arange(16)), expected)


@thorough
@given(st.integers(0, 5), st.integers(-256, 256), st.booleans())
def test_encode_inverts_decode_and_refuses_what_is_beside(exponent_bits, least, zero):
    form = PowerOfTwoFormat(exponent_bits, least, zero)
    values = form.decode(form.codes())
    np.testing.assert_array_equal(form.encode(values), form.codes())
    assert form.encode(values).dtype == np.uint8
    quantize = quantize_inq if zero else quantize_ristretto_power_of_two
    np.testing.assert_array_equal(quantize(values, form), form.codes())
    np.testing.assert_array_equal(form.integers(form.codes()) * Fraction(2) ** least, [Fraction(v) for v in values])
    for stranger in (np.nextafter(values[-1], 1), 2 * form.levels()[-1], form.levels()[-1] / 2 ** (2**exponent_bits)):
        with pytest.raises(
            ValueError, match=rf"^{stranger} is not ±2\^{least} … ±2\^{form.greatest}".replace("+", r"\+")
        ):
            form.encode([values[-1], stranger])


@thorough
@given(st.lists(weights32, min_size=1, max_size=8), st.integers(0, 5), st.integers(-150, 130))
def test_ristretto_is_nearest_in_the_logarithmic_domain(weights, exponent_bits, least):
    for form in (RISTRETTO_POWER_OF_TWO, PowerOfTwoFormat(exponent_bits, least, zero=False)):
        got = form.decode(quantize_ristretto_power_of_two(np.array(weights, np.float32), form))
        expected = [exact_ristretto(Fraction(weight), form.least, form.greatest) for weight in weights]
        assert [Fraction(value) for value in got] == expected


def test_ristretto_at_the_floats_around_each_border():
    for exponent in range(-8, -1):
        root = np.sqrt(2.0) * 2.0**exponent
        for weight in (np.nextafter(root, 0), root, np.nextafter(root, 1)):
            got = RISTRETTO_POWER_OF_TWO.decode(quantize_ristretto_power_of_two([weight, -weight]))
            expected = exact_ristretto(Fraction(weight), -8, -1)
            assert [Fraction(value) for value in got] == [expected, -expected]


def test_ristretto_is_not_nearest_in_the_linear_domain():
    # 1.45 lies below the middle of 1 and 2, and above the square root of 2.
    weight = 1.45 * 2.0**-3
    assert RISTRETTO_POWER_OF_TWO.decode(quantize_ristretto_power_of_two(weight)) == 2.0**-2
    inq = PowerOfTwoFormat(3, -8)
    assert inq.decode(quantize_inq(weight, inq)) == 2.0**-3


def test_ristretto_has_no_zero():
    np.testing.assert_array_equal(quantize_ristretto_power_of_two([0.0, -0.0, 1e-30, -1e-30]), [0, 0, 0, 8])
    np.testing.assert_array_equal(quantize_ristretto_power_of_two([1e30, -1e30]), [7, 15])


def test_shapes_stay():
    form = inq_format(1, 3)
    for shape in ((), (0,), (2, 0), (2, 3, 4)):
        weights = np.full(shape, 0.5, np.float32)
        assert np.shape(quantize_inq(weights, form)) == np.shape(quantize_ristretto_power_of_two(weights)) == shape
        assert np.shape(form.decode(quantize_inq(weights, form))) == shape


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: inq_format(1.0, 6), "bits of INQ must be 2 to 5, not 6"),
        (lambda: inq_format(1.0, 1), "bits of INQ must be 2 to 5, not 1"),
        (lambda: inq_format(-1.0, 5), "the greatest weight must be one number, not negative, not -1.0"),
        (lambda: inq_format(float("nan"), 5), "the greatest weight must be finite, not nan"),
        (lambda: inq_format([1.0, 2.0], 5), "the greatest weight must be one number, not negative, not [1.0, 2.0]"),
        (lambda: inq_format(1e-300, 5), "the least exponent must be -256 to 256, not -1004"),
        (lambda: PowerOfTwoFormat(6, 0), "exponent bits must be 0 to 5, not 6"),
        (lambda: PowerOfTwoFormat(3, 0).decode([0, 7]), "code 7 has no meaning: without its highest bit only 0 has"),
        (lambda: PowerOfTwoFormat(3, 0).decode([32]), "codes of 5 bits must be 0 to 31, not 32"),
        (lambda: PowerOfTwoFormat(3, 0).decode([-1]), "codes of 5 bits must be 0 to 31, not -1"),
        (lambda: quantize_inq([np.inf], PowerOfTwoFormat(3, 0)), "weights must be finite, not inf"),
        (lambda: quantize_inq([1.0], RISTRETTO_POWER_OF_TWO), "INQ needs a format with the value 0"),
        (
            lambda: quantize_ristretto_power_of_two([1.0], PowerOfTwoFormat(3, -8)),
            "Ristretto's powers of two need a format without the value 0",
        ),
        (lambda: RISTRETTO_POWER_OF_TWO.encode([0.0]), "0.0 is not ±2^-8 … ±2^-1"),
    ],
)
def test_values_that_are_refused(make, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 — compared as a whole below
        make()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: inq_format(1.0, 2.5), "bits of INQ must be a whole number, not 2.5"),
        (
            lambda: quantize_inq(["1"], PowerOfTwoFormat(3, 0)),
            "weights must be float16, float32, float64 or integers up to 2^53, not <U1",
        ),
        (
            lambda: quantize_inq([2**53 + 1], PowerOfTwoFormat(3, 0)),
            "weights must be float16, float32, float64 or integers up to 2^53, not int64",
        ),
        (lambda: PowerOfTwoFormat(3, 0).decode([1.0]), "codes must be integers, not float64"),
    ],
)
def test_types_that_are_refused(make, message):
    with pytest.raises(TypeError) as caught:
        make()
    assert str(caught.value) == message
