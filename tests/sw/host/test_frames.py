"""Frames as bytes, against the bytes that the protocol's description gives."""

import zlib

import pytest
from cobs import cobs

from zeropoint.errors import ZeropointError
from zeropoint.host import packages
from zeropoint.host.frames import Answer, Splitter, decode, encode
from zeropoint_hw.protocol import Request, Status, divisor


def answer(sequence, status, data=b"", length=None, crc=0):
    frame = bytes([7 + len(data) if length is None else length, sequence, status]) + data
    return cobs.encode(frame + (zlib.crc32(frame) ^ crc).to_bytes(4, "little"))


def test_a_request_is_as_the_protocol_has_it():
    line = encode(5, Request.READ, b"\x04\x00\x00\x08")
    assert line[-1] == 0
    assert 0 not in line[:-1]
    frame = cobs.decode(line[:-1])
    # CRC-32/ISO-HDLC of 0b 05 01 04 00 00 08, computed bit by bit.
    crc = 0xFFFFFFFF
    for byte in b"\x0b\x05\x01\x04\x00\x00\x08":
        for place in range(8):
            crc = crc >> 1 ^ (0xEDB88320 if (crc ^ byte >> place) & 1 else 0)
    assert frame == b"\x0b\x05\x01\x04\x00\x00\x08" + (crc ^ 0xFFFFFFFF).to_bytes(4, "little")


def test_answers_come_out_of_a_stream_of_bytes():
    stream = b"\0\x07garbage\0" + answer(1, 0, b"ab\0c") + b"\0\0" + answer(2, 2) + b"\0" + answer(3, 0)
    expected = [Answer(1, Status.DONE, b"ab\0c"), Answer(2, Status.SEQUENCE, b"")]
    for size in (1, 3, 1000):
        splitter = Splitter()
        parts = [stream[start : start + size] for start in range(0, len(stream), size)]
        assert [each for part in parts for each in splitter.take(part)] == expected
        assert splitter.damaged == 1
        assert splitter.take(b"\0") == [Answer(3, Status.DONE, b"")]


@pytest.mark.parametrize(
    "line",
    [
        answer(1, 0, b"abcd", crc=1 << 17),
        answer(1, 0, b"abcd", length=12),
        answer(1, 7),
        answer(1, 0)[:-1],
        b"\x05ab",
        b"\x01",
        cobs.encode(b"\x07\0\0\0"),
    ],
)
def test_what_is_no_answer_is_none(line):
    assert decode(line) is None


def test_endless_garbage_takes_no_memory():
    splitter = Splitter()
    for _ in range(1000):
        assert splitter.take(bytes([85]) * 1000) == []
    assert len(splitter._rest) < 300
    assert splitter.take(b"\0" + answer(9, 0) + b"\0") == [Answer(9, Status.DONE, b"")]
    assert splitter.damaged == 1


def test_a_package_that_is_missing_is_named():
    with pytest.raises(ZeropointError, match=r"needs the package nosuchthing; run pip install 'zeropoint\[host\]'"):
        packages.need("nosuchthing")


def test_the_divisor_is_checked():
    assert divisor(12e6, 1_000_000) == 12
    assert divisor(25e6, 115200) == 217
    with pytest.raises(ValueError, match=r"^1e\+06 baud need a clock of at least 4e\+06 Hz, not 3e\+06$"):
        divisor(3e6, 1_000_000)
    with pytest.raises(ValueError, match=r"^a clock of 1e\+07 Hz gives 1111111 baud, not 1.15e\+06$"):
        divisor(10e6, 1_150_000)
