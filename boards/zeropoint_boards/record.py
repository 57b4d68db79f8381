"""What is written of a build: ``build.json``, beside the bitstream and the program."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zeropoint.compiler.manifest import Record, parse
from zeropoint.errors import ZeropointError
from zeropoint.files import read_bytes

#: The file's name, and what it says that it is.
BUILD = "build.json"
FORMAT, VERSION = "zeropoint-build", 1

_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class BuildRecord:
    """What others than the builder have to know of a build.

    Attributes
    ----------
    board
        The board's name.
    clock_hz
        The accelerator's clock.
    baud
        Bits a second on the line to the host.
    divisor, buffer_bits
        As :class:`zeropoint_hw.link.Link`.
    bitstream
        The bitstream's file, and none if another tool has still to make it.
    details
        Everything else that is in the file: resources, timing, tools.
    """

    board: str
    clock_hz: float
    baud: int
    divisor: int
    buffer_bits: int
    bitstream: str | None
    details: dict[str, Any]

    def to_bytes(self) -> bytes:
        """Return the file's contents, the same for the same build."""
        document = {
            "format": FORMAT,
            "version": VERSION,
            "board": self.board,
            "clock_hz": self.clock_hz,
            "baud": self.baud,
            "divisor": self.divisor,
            "buffer_bits": self.buffer_bits,
            "bitstream": self.bitstream,
            "details": self.details,
        }
        return (json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def load(folder: Path) -> BuildRecord:
    """Return the record of the build in a folder.

    Raises
    ------
    ZeropointError
        If there is none, or it is none of this version, naming the file.
    """
    path = Path(folder) / BUILD
    data = read_bytes(path, _MAX_BYTES)
    try:
        record = Record(parse(data), "the record of a build")
        if record.take("format", object) != FORMAT or record.integer("version", 1) != VERSION:
            raise ValueError(f"it is no '{FORMAT}' of version {VERSION}; build the model again")
        bitstream = record.take("bitstream", object)
        # It goes to another program's command line.
        if bitstream is not None and (not isinstance(bitstream, str) or Path(bitstream).name != bitstream):
            raise ValueError("its 'bitstream' must be the plain name of a file in the folder")
        result = BuildRecord(
            record.text("board"),
            record.number("clock_hz"),
            record.integer("baud", 1, 1 << 30),
            record.integer("divisor", 4, 1 << 20),
            record.integer("buffer_bits", 9, 16),
            bitstream,
            record.take("details", dict),
        )
        record.end()
        return result
    except (TypeError, ValueError, RecursionError) as error:
        raise ZeropointError(f"'{path}': {error}") from None
