from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from zeropoint.numerics.bit_packing import pack_codes
from zeropoint.numerics.formats import checked_codes, code_dtype, code_range, finite_reals, peak_parts, whole_number
from zeropoint.numerics.minifloat import MinifloatFormat, accumulator_bits
from zeropoint.numerics.power_of_two import RISTRETTO_POWER_OF_TWO, PowerOfTwoFormat, inq_format

DOCUMENT = (Path(__file__).parents[3] / "docs" / "formats.md").read_text(encoding="utf-8").replace("−", "-")


def table(title: str) -> list[list[str]]:
    """Return the rows of the table in docs/formats.md whose title row begins with ``title``."""
    lines = DOCUMENT[DOCUMENT.index(f"| {title} |") :].split("\n\n")[0].splitlines()
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_document_counts_inqs_codes():
    rows = table("b | exponents")
    assert [int(row[0][0]) for row in rows] == [2, 3, 4, 5]
    for bits, exponents, values, codes in rows:
        form = inq_format(1.0, int(bits[0]))
        got = form.codes().tolist()
        assert (len(got), form.greatest - form.least + 1) == (int(values), int(exponents))
        assert codes == f"0, {got[1]} … {got[-1]}"
        assert got == [0, *range(got[1], got[-1] + 1)]


def test_the_document_lists_the_codes_of_3_bits():
    rows = DOCUMENT[DOCUMENT.index("| `000` |") :].split("\n\n")[0].splitlines()
    cells = [[cell.strip(" `") for cell in row.strip("|").split("|")] for row in rows]
    form = PowerOfTwoFormat(1, 0)
    assert [int(code, 2) for code, _ in cells] == form.codes().tolist()
    assert [int(value) for _, value in cells] == form.integers(form.codes()).tolist()


def test_the_document_lists_ristrettos_codes():
    for codes, values in ((np.arange(8), "2^-8 … 2^-1"), (np.arange(8, 16), "-2^-8 … -2^-1")):
        assert f"| `{codes[0]:04b}` … `{codes[-1]:04b}` | {values} |" in DOCUMENT
        sign = -1 if values.startswith("-") else 1
        np.testing.assert_array_equal(RISTRETTO_POWER_OF_TWO.decode(codes), sign * 2.0 ** np.arange(-8, 0))


def test_the_document_lists_a_minifloats_values():
    values = table("code | 0")[0][1:]
    np.testing.assert_array_equal(MinifloatFormat(2, 1).decode(np.arange(8)), [float(value) for value in values])


def test_the_document_gives_the_widths_of_products():
    rows = table("E, M")
    assert len(rows) == 6
    for name, bits, product, thousand in rows:
        form = MinifloatFormat(*map(int, name.split(",")))
        widths = [form.bits, accumulator_bits(form, form), accumulator_bits(form, form, 1024)]
        assert widths == [int(bits), int(product), int(thousand)]


def test_the_document_packs_three_codes():
    first, second = pack_codes([1, 31, 4], 5)
    assert f"the 5-bit codes 1, 31, 4 are the bytes `{first:08b}` and `{second:08b}`" in DOCUMENT


def test_reals_are_taken_exactly():
    subnormal = np.float32(1e-45)
    assert Fraction(float(finite_reals(subnormal, "values"))) == Fraction(1, 2**149)
    assert finite_reals(np.float16([65504]), "values").dtype == np.float64
    np.testing.assert_array_equal(finite_reals([2**53, -(2**53)], "values"), [2.0**53, -(2.0**53)])
    # Where long double is no more than double, it is taken.
    wider = [np.longdouble([1])] if np.dtype(np.longdouble).itemsize > 8 else []
    for strange in ([True], [1j], [None], ["1"], [-(2**53) - 1], *wider):
        with pytest.raises(TypeError, match=r"^values must be float16, float32, float64 or integers up to 2\^53, not "):
            finite_reals(strange, "values")


def test_peaks_fall_apart_exactly():
    assert peak_parts(0.75, "it") == (0.75, 0)
    assert peak_parts(2.0**-149, "it") == (0.5, -148)
    assert peak_parts(0.0, "it") == peak_parts(-0.0, "it") == peak_parts(1, "it") == (0.5, 1)


def test_codes_and_their_ranges():
    assert (code_range(5), code_range(5, signed=True)) == ((0, 31), (-16, 15))
    assert [code_dtype(bits) for bits in (1, 8, 9, 16, 17, 32)] == ["u1", "u1", "u2", "u2", "u4", "u4"]
    assert code_dtype(9, signed=True) == np.int16
    assert checked_codes([], 5).dtype == np.int64
    assert checked_codes(np.uint64([31]), 5).tolist() == [31]
    with pytest.raises(ValueError, match=r"^codes of 5 bits must be 0 to 31, not 18446744073709551615$"):
        checked_codes(np.uint64([2**64 - 1]), 5)


def test_whole_numbers():
    assert whole_number(np.int8(3), 1, 3, "it") == 3
    assert type(whole_number(np.int8(3), 1, 3, "it")) is int
    with pytest.raises(ValueError, match=r"^it must be 1 to 3, not 4$"):
        whole_number(4, 1, 3, "it")
    with pytest.raises(TypeError, match=r"^it must be a whole number, not None$"):
        whole_number(None, 1, 3, "it")
