"""Memory images: what a memory holds at the start, in the formats that simulators, vendor tools and firmware read.

===========  ===========================================================================================
``.mem``     ``$readmemh``: one word a line, hexadecimal, after a comment that says width and depth
``.hex``     ``$readmemh``, without the comment
``.mif``     Quartus: address and word a line, hexadecimal
``.coe``     Xilinx and AMD: words separated by commas, hexadecimal
``.bin``     each word in as many whole bytes as it needs, the least significant first
===========  ===========================================================================================

The readers are strict: every word has all its digits, in the order of the addresses, without ``x``, ``z``, ``_`` or
``@``; comments, empty lines and either case of the digits are accepted. So a file is never smaller than the array that
is made from it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.errors import ZeropointError, quoted_list
from zeropoint.files import atomic_write, read_bytes

Bytes = npt.NDArray[np.uint8]

#: Every format, by the suffix of its files.
FORMATS = ("mem", "hex", "mif", "coe", "bin")

#: The widest word (64 lanes × 64 columns of 8 bits) and the deepest memory of any configuration.
MAX_WIDTH = 64 * 64 * 8
MAX_DEPTH = 1 << 20


@dataclass(frozen=True, eq=False)
class Image:
    """The contents of a memory from address 0 on.

    Attributes
    ----------
    name
        An identifier of C and Verilog.
    width
        Bits of a word, 1 to ``MAX_WIDTH``.
    words
        uint8 array ``[depth, ceil(width / 8)]``, the least significant byte of each word first; bits beyond ``width``
        are 0. Held as a read-only copy.

    Raises
    ------
    TypeError
        If ``words`` is not a uint8 array.
    ValueError
        If a name, a size or a word is not as said.
    """

    name: str
    width: int
    words: Bytes

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", self.name, re.ASCII):
            raise ValueError(f"an image's name must be an identifier, not {self.name!r}")
        if not 1 <= self.width <= MAX_WIDTH:
            raise ValueError(f"image {self.name} must be 1 to {MAX_WIDTH} bits wide, not {self.width!r}")
        if not isinstance(self.words, np.ndarray) or self.words.dtype != np.uint8:
            raise TypeError(f"image {self.name} needs its words as a uint8 array")
        if self.words.ndim != 2 or self.words.shape[1] != -(-self.width // 8):
            raise ValueError(
                f"image {self.name} needs words of {-(-self.width // 8)} bytes, not an array of shape "
                f"{self.words.shape}"
            )
        if not 1 <= self.depth <= MAX_DEPTH:
            raise ValueError(f"image {self.name} must have 1 to {MAX_DEPTH} words, not {self.depth}")
        wide = np.flatnonzero(_too_wide(self.words, self.width))
        if wide.size:
            raise ValueError(f"image {self.name}: word {wide[0]} does not fit {self.width} bits")
        words = self.words.copy(order="C")
        words.setflags(write=False)
        object.__setattr__(self, "words", words)

    @property
    def depth(self) -> int:
        """Words."""
        return int(self.words.shape[0])


def encode(image: Image, format: str) -> bytes:
    """Return the file of that ``format`` that holds ``image``; the same image always gives the same bytes.

    Raises
    ------
    ValueError
        If there is no such format.
    """
    _check_format(format)
    if format == "bin":
        return image.words.tobytes()
    digits = hex_digits(image.words, image.width)
    word = "?" * digits.shape[1]
    if format == "hex":
        return fill_rows(f"{word}\n", digits)
    if format == "mem":
        return f"// {image.name}: {image.depth} words of {image.width} bits\n".encode() + fill_rows(f"{word}\n", digits)
    if format == "coe":
        rows = fill_rows(f"{word},\n", digits)
        return b"memory_initialization_radix=16;\nmemory_initialization_vector=\n" + rows[:-2] + b";\n"
    addresses = np.arange(image.depth, dtype="<u4").view(np.uint8).reshape(image.depth, 4)
    address_digits = hex_digits(addresses, max(1, (image.depth - 1).bit_length()))
    rows = fill_rows(f"{'?' * address_digits.shape[1]} : {word};\n", np.hstack([address_digits, digits]))
    header = f"WIDTH = {image.width};\nDEPTH = {image.depth};\n\nADDRESS_RADIX = HEX;\nDATA_RADIX = HEX;\n\n"
    return f"{header}CONTENT BEGIN\n".encode() + rows + b"END;\n"


def decode(data: bytes, format: str, *, name: str, width: int, depth: int, source: str) -> Image:
    """Return the image of ``depth`` words of ``width`` bits in ``data``, the contents of the file ``source``.

    Raises
    ------
    ZeropointError
        Naming ``source``, the line (or word) and what is wrong, if ``data`` is not just such an image.
    ValueError
        If there is no such format.
    """
    _check_format(format)
    if format == "bin":
        size = depth * -(-width // 8)
        if len(data) != size:
            raise ZeropointError(
                f"'{source}': it has {len(data)} bytes, but {depth} words of {width} bits are {size} bytes"
            )
        words = np.frombuffer(data, np.uint8).reshape(depth, -1)
        wide = np.flatnonzero(_too_wide(words, width))
        if wide.size:
            raise ZeropointError(f"'{source}': word {wide[0]} does not fit {width} bits")
        return Image(name, width, words)
    reader = {"mem": _readmemh, "hex": _readmemh, "mif": _mif, "coe": _coe}[format](data, width, depth, source)
    return Image(name, width, _parse_words(list(reader), width, depth, source))


def write_image(image: Image, path: Path) -> None:
    """Write ``image`` to the file ``path``, whole or not at all, in the format that its suffix names.

    Raises
    ------
    ZeropointError
        If there is no format of that suffix, or the file cannot be written.
    """
    atomic_write(path, encode(image, _format_of(path)))


def read_image(path: Path, *, name: str, width: int, depth: int) -> Image:
    """Return the image of ``depth`` words of ``width`` bits in the file ``path``, whose suffix names the format.

    Raises
    ------
    ZeropointError
        If there is no format of that suffix; and as :func:`decode`.
    """
    format = _format_of(path)
    data = read_bytes(path, size_limit(width, depth))
    return decode(data, format, name=name, width=width, depth=depth, source=str(path))


def size_limit(width: int, depth: int) -> int:
    """Return the size of a file, comments included, beyond which it is not read."""
    return depth * (-(-width // 4) + 64) + (64 << 10)


def hex_digits(words: Bytes, width: int) -> Bytes:
    """Return each word's hexadecimal digits as ASCII, the most significant first: ``[depth, ceil(width / 4)]``."""
    ascii_digits = np.frombuffer(b"0123456789ABCDEF", np.uint8)
    nibbles = np.stack([words[:, ::-1] >> 4, words[:, ::-1] & 15], axis=-1).reshape(words.shape[0], -1)
    return ascii_digits[nibbles[:, nibbles.shape[1] - -(-width // 4) :]]


def fill_rows(template: str, digits: Bytes) -> bytes:
    """Return ``template`` once for each row of ``digits``, its question marks replaced by them in order."""
    row = np.frombuffer(template.encode("ascii"), np.uint8)
    rows = np.tile(row, (digits.shape[0], 1))
    rows[:, row == ord("?")] = digits
    return rows.tobytes()


def _check_format(format: str) -> None:
    if format not in FORMATS:
        raise ValueError(f"the format of an image must be one of {', '.join(FORMATS)}, not {format!r}")


def _format_of(path: Path) -> str:
    format = Path(path).suffix.removeprefix(".")
    if format not in FORMATS:
        allowed = quoted_list(f".{format}" for format in FORMATS)
        raise ZeropointError(f"'{path}': a memory image is named {allowed}; name it so")
    return format


def _too_wide(words: Bytes, width: int) -> npt.NDArray[Any]:
    """Return, for each word, the bits beyond ``width``."""
    return words[:, -1] >> (width % 8) if width % 8 else np.zeros(words.shape[0], np.uint8)


#: A word and the number of its line.
_Word = tuple[int, bytes]


def _fail(source: str, line: int, problem: str) -> ZeropointError:
    return ZeropointError(f"'{source}', line {line}: {problem}")


def _brief(text: bytes) -> str:
    """Return ``text`` in quotation marks, shortened for a message."""
    return ascii(text.decode("latin-1") if len(text) <= 40 else text[:37].decode("latin-1") + "...")


def _lines(data: bytes, comment: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that hold anything, without comments, numbered from 1."""
    for number, line in enumerate(data.split(b"\n"), 1):
        text = line.split(comment, 1)[0].strip(b" \t\r")
        if text:
            yield number, text


def _parse_words(found: list[_Word], width: int, depth: int, source: str) -> Bytes:
    """Return the array of the words ``found``."""
    digits = -(-width // 4)
    for line, text in found[: depth + 1]:
        if len(text) != digits:
            raise _fail(source, line, f"a word of {width} bits has {digits} hexadecimal digits, not {_brief(text)}")
    if len(found) > depth:
        raise _fail(source, found[depth][0], f"there are more than the {depth} words expected")
    if len(found) < depth:
        raise ZeropointError(f"'{source}': it has {len(found)} words instead of {depth}; it is not complete")
    values = np.full(256, 255, np.uint8)
    values[np.frombuffer(b"0123456789ABCDEFabcdef", np.uint8)] = [*range(16), *range(10, 16)]
    nibbles = values[np.frombuffer(b"".join(text for _, text in found), np.uint8)].reshape(depth, digits)
    bad = np.flatnonzero((nibbles == 255).any(axis=1))
    if bad.size:
        line, text = found[bad[0]]
        raise _fail(source, line, f"{_brief(text)} is not hexadecimal")
    if digits % 2:
        nibbles = np.pad(nibbles, [(0, 0), (1, 0)])
    words: Bytes = (nibbles[:, 0::2] << np.uint8(4) | nibbles[:, 1::2])[:, ::-1]
    wide = np.flatnonzero(_too_wide(words, width))
    if wide.size:
        line, text = found[wide[0]]
        raise _fail(source, line, f"{_brief(text)} does not fit {width} bits")
    return words


def _readmemh(data: bytes, width: int, depth: int, source: str) -> Iterator[_Word]:
    return _lines(data, b"//")


def _mif(data: bytes, width: int, depth: int, source: str) -> Iterator[_Word]:
    expected = {
        b"WIDTH": str(width).encode(),
        b"DEPTH": str(depth).encode(),
        b"ADDRESS_RADIX": b"HEX",
        b"DATA_RADIX": b"HEX",
    }
    given: set[bytes] = set()
    lines = _lines(data, b"--")
    for line, text in lines:
        if text.upper().split() == [b"CONTENT", b"BEGIN"]:
            break
        statement = re.fullmatch(rb"(\w+)\s*=\s*(\w+)\s*;", text.upper())
        if statement is None or statement[1] not in expected or statement[1] in given:
            allowed = ", ".join(key.decode() for key in expected)
            raise _fail(source, line, f"{_brief(text)} is not one of {allowed} or CONTENT BEGIN")
        key, value = statement.groups()
        if value != expected[key]:
            raise _fail(source, line, f"{key.decode()} must be {expected[key].decode()}, not {_brief(value)}")
        given.add(key)
    missing = [key.decode() for key in expected if key not in given]
    if missing:
        raise ZeropointError(f"'{source}': it does not say its {quoted_list(missing)}")
    for address, (line, text) in enumerate(lines):
        if text.upper() == b"END;":
            break
        entry = re.fullmatch(rb"([0-9A-Fa-f]{1,8})\s*:\s*([^\s;]+)\s*;", text)
        if entry is None or int(entry[1], 16) != address:
            raise _fail(source, line, f"expected '{address:X} : word;' or 'END;', not {_brief(text)}")
        yield line, entry[2]
    else:
        raise ZeropointError(f"'{source}': it does not end with 'END;'; it is not complete")
    for line, text in lines:
        raise _fail(source, line, f"{_brief(text)} comes after 'END;'")


def _coe(data: bytes, width: int, depth: int, source: str) -> Iterator[_Word]:
    # A semicolon ends statements and, at the start of a line, begins a comment.
    lines = (
        (number, text)
        for number, line in enumerate(data.split(b"\n"), 1)
        if (text := line.strip(b" \t\r")) and not text.startswith(b";")
    )
    for pattern, expected in (
        (rb"memory_initialization_radix\s*=\s*16\s*;", "memory_initialization_radix=16;"),
        (rb"memory_initialization_vector\s*=", "memory_initialization_vector="),
    ):
        line, text = next(lines, (1, b""))
        if not re.fullmatch(pattern, text, re.IGNORECASE):
            raise _fail(source, line, f"expected '{expected}', not {_brief(text)}")
    ended = False
    for line, text in lines:
        if ended:
            raise _fail(source, line, f"{_brief(text)} comes after the ';' that ends the words")
        if not text.endswith((b",", b";")):
            raise _fail(source, line, f"expected words that each end with ',' or the last with ';', not {_brief(text)}")
        ended = text.endswith(b";")
        for word in text[:-1].split(b","):
            yield line, word.strip()
    if not ended:
        raise ZeropointError(f"'{source}': it does not end with ';'; it is not complete")
