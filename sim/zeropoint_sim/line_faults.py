"""Faults of a serial line: bytes and frames that are lost, damaged, repeated and made up, as a seed has it."""

import random
from collections import Counter
from dataclasses import dataclass

from zeropoint_hw.protocol import DELIMITER

#: Longest run of bytes that are made up.
_GARBAGE = 12


@dataclass(frozen=True)
class Faults:
    """How often each fault happens: chances from 0 to 1.

    Attributes
    ----------
    seed
        Of the random numbers.
    lose, damage, double, garbage
        Of each byte: it is lost, one of its bits changes, it comes twice, anything comes before it.
    lose_frame, double_frame, truncate
        Of each frame: it is lost, comes twice, its end is lost, delimiter included.
    """

    seed: int = 0
    lose: float = 0
    damage: float = 0
    double: float = 0
    garbage: float = 0
    lose_frame: float = 0
    double_frame: float = 0
    truncate: float = 0


class FaultyLine:
    """One direction of a line.

    Parameters
    ----------
    faults
        What happens on it.
    salt
        Tells the directions apart, which have the same faults otherwise.

    Attributes
    ----------
    counts
        How often each fault has happened, by the names of ``Faults``; ``frames``: that came to this line.
    """

    def __init__(self, faults: Faults, salt: str = "") -> None:
        self._faults = faults
        self._random = random.Random(f"{faults.seed} {salt}")
        self._frame = bytearray()
        self.counts: Counter[str] = Counter()

    def carry(self, data: bytes) -> bytes:
        """Return what comes out where ``data`` go in; a frame comes out when its delimiter has come in."""
        out = bytearray()
        for byte in data:
            self._frame.append(byte)
            if byte == DELIMITER:
                out += self._damaged_frame(bytes(self._frame))
                self._frame.clear()
        return bytes(out)

    def _damaged_frame(self, frame: bytes) -> bytes:
        if len(frame) > 1:
            self.counts["frames"] += 1
            if self._happens("lose_frame"):
                return b""
            if self._happens("double_frame"):
                frame += frame
            if self._happens("truncate"):
                frame = frame[: self._random.randrange(len(frame))]
        return b"".join(map(self._damaged_byte, frame))

    def _damaged_byte(self, byte: int) -> bytes:
        before = b""
        if self._happens("garbage"):
            before = self._random.randbytes(self._random.randint(1, _GARBAGE))
        if self._happens("lose"):
            return before
        if self._happens("damage"):
            byte ^= 1 << self._random.randrange(8)
        return before + bytes([byte]) * (2 if self._happens("double") else 1)

    def _happens(self, fault: str) -> bool:
        chance = getattr(self._faults, fault)
        happens = bool(chance) and self._random.random() < chance
        self.counts[fault] += happens
        return happens
