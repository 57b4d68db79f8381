"""The link's protocol: what host and device say to each other, frame by frame (imports no Amaranth).

``docs/link.md`` is its description; this module is what gateware, drivers and the C header take their numbers from.
"""

import hashlib
import json
from enum import IntEnum

from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import Region

#: Grows when a host or a device of an earlier version would misunderstand the other.
VERSION = 1

#: The byte that ends a frame, and is in none.
DELIMITER = 0


class Request(IntEnum):
    """What a host asks for."""

    #: Opens the session: a nonce, answered by what the device is. Taken whatever its sequence number.
    IDENTIFY = 0
    #: An address and a number of bytes, answered by those bytes.
    READ = 1
    #: An address, and data in whole words.
    WRITE = 2
    #: The hash of the program that has been written.
    LOADED = 3
    #: That hash; runs the program from its start, and is answered when it is done.
    RUN = 4
    #: The same for one instruction.
    STEP = 5


class Status(IntEnum):
    """How a device answers."""

    #: It is done.
    DONE = 0
    #: The device was reset: nothing is done before it is identified.
    CLOSED = 1
    #: An earlier request is missing. Nothing was done.
    SEQUENCE = 2
    #: There is no such request, or not of this length. Nothing was done.
    REQUEST = 3
    #: The address cannot be written. Nothing was done.
    ADDRESS = 4
    #: No program is loaded, or another one. Nothing was done.
    PROGRAM = 5
    #: There were no whole weights in the device's flash. Nothing was done.
    WEIGHTS = 6


#: Bytes of each part of a frame.
LENGTH_BYTES = SEQUENCE_BYTES = CODE_BYTES = 1
CRC_BYTES = 4
ADDRESS_BYTES = 3
COUNT_BYTES = 1
NONCE_BYTES = 4
HASH_BYTES = 8
DIGEST_BYTES = 8

#: Length, sequence number and code: what each frame begins with.
HEADER_BYTES = LENGTH_BYTES + SEQUENCE_BYTES + CODE_BYTES
#: What each frame has beyond its own arguments.
FRAME_BYTES = HEADER_BYTES + CRC_BYTES

#: The most bytes that a request writes or reads: the longest frame then is a single group of COBS, below 254 bytes.
MAX_DATA = 240

#: Version, log2 of the receive buffer's size, flags.
ABOUT_BYTES = 3
#: The flag that says that the loaded program's hash is valid.
FLAG_LOADED = 1

#: Bytes of the frames of fixed length.
REQUEST_BYTES = {
    Request.IDENTIFY: FRAME_BYTES + NONCE_BYTES,
    Request.READ: FRAME_BYTES + ADDRESS_BYTES + COUNT_BYTES,
    Request.LOADED: FRAME_BYTES + HASH_BYTES,
    Request.RUN: FRAME_BYTES + HASH_BYTES,
    Request.STEP: FRAME_BYTES + HASH_BYTES,
}
IDENTITY_BYTES = FRAME_BYTES + NONCE_BYTES + ABOUT_BYTES + DIGEST_BYTES + HASH_BYTES

#: What may be written over the link; of these, all but activations belong to the program.
WRITABLE = (Region.PROGRAM, Region.PARAMETERS, Region.WEIGHTS, Region.ACTIVATIONS, Region.TABLES)


def word_bytes(config: AcceleratorConfig, region: int) -> int:
    """Return how many bytes of a frame's data make a word of a region."""
    return config.host_bytes if region == Region.ACTIVATIONS else 4


def word_step(config: AcceleratorConfig, region: int) -> int:
    """Return the difference between the addresses of words that follow each other in a frame."""
    return config.host_elements if region == Region.ACTIVATIONS else 1


def configuration_digest(config: AcceleratorConfig) -> bytes:
    """Return what tells configurations apart: the start of the SHA-256 of all fields, as JSON with sorted keys."""
    text = json.dumps(config.to_dict(), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()[:DIGEST_BYTES]


def divisor(clock_hz: float, baud: float) -> int:
    """Return the clock cycles of a bit at ``baud`` bits a second.

    Raises
    ------
    ValueError
        If the clock does not come within 2 % of that rate, or has less than 4 cycles for a bit.
    """
    cycles = round(clock_hz / baud)
    if cycles < 4:
        raise ValueError(f"{baud:g} baud need a clock of at least {4 * baud:g} Hz, not {clock_hz:g}")
    if abs(clock_hz / cycles - baud) > 0.02 * baud:
        raise ValueError(f"a clock of {clock_hz:g} Hz gives {clock_hz / cycles:.0f} baud, not {baud:g}")
    return cycles
