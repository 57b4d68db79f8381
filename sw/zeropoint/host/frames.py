"""Frames of the link's protocol as bytes of the line: see ``docs/link.md`` and ``zeropoint_hw.protocol``."""

import zlib
from dataclasses import dataclass

from zeropoint.host.packages import need
from zeropoint_hw.protocol import CRC_BYTES, DELIMITER, FRAME_BYTES, HEADER_BYTES, Request, Status

#: The longest frame that a device sends, as it is on the line: longer ones are garbage.
LONGEST = 254


@dataclass(frozen=True)
class Answer:
    """What a device says: to which request, how it went, and the data that were asked for."""

    sequence: int
    status: Status
    data: bytes


def encode(sequence: int, request: Request, arguments: bytes) -> bytes:
    """Return a request as bytes of the line, its delimiter included."""
    frame = bytes([FRAME_BYTES + len(arguments), sequence, request]) + arguments
    frame += zlib.crc32(frame).to_bytes(CRC_BYTES, "little")
    return need("cobs.cobs").encode(frame) + bytes([DELIMITER])


def decode(line: bytes) -> Answer | None:
    """Return the answer that a frame holds, its delimiter left out; None if it is damaged or none."""
    cobs = need("cobs.cobs")
    try:
        frame = cobs.decode(line)
    except cobs.DecodeError:
        return None
    if len(frame) < FRAME_BYTES or frame[0] != len(frame):
        return None
    if not is_intact(frame):
        return None
    if frame[2] not in list(Status):
        return None
    return Answer(frame[1], Status(frame[2]), frame[HEADER_BYTES:-CRC_BYTES])


def is_intact(frame: bytes) -> bool:
    """Return whether a frame ends with the CRC of what is before that."""
    return zlib.crc32(frame[:-CRC_BYTES]) == int.from_bytes(frame[-CRC_BYTES:], "little")


class Splitter:
    """Cuts what comes from a line into frames, and decodes them.

    Attributes
    ----------
    damaged
        How many were none.
    """

    def __init__(self) -> None:
        self.damaged = 0
        self._rest = b""

    def take(self, data: bytes) -> list[Answer]:
        """Return the answers that ``data`` complete."""
        *lines, rest = (self._rest + data).split(bytes([DELIMITER]))
        # What is longer than any frame is none, whatever follows; only its end is kept, to be damaged.
        self._rest = rest[: LONGEST + 1]
        answers = []
        for line in lines:
            if not line:
                continue
            answer = decode(line)
            if answer is None:
                self.damaged += 1
            else:
                answers.append(answer)
        return answers
