"""The image of a program's weights that a SPI flash holds: see ``zeropoint_hw.flash_copier``.

=======  ==============================================================
bytes
=======  ==============================================================
0 … 3    ``ZPW1``
4 … 7    number of bytes of weights, the least significant first
8 …      weights, as the accelerator's memory holds them
last 4   CRC-32/ISO-HDLC of all before, the least significant byte first
=======  ==============================================================
"""

import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zeropoint.compiler.program import Program
from zeropoint.files import atomic_write

#: The file of an image beside what it belongs to.
FLASH_IMAGE = "flash.bin"

#: What an image begins with.
MAGIC = b"ZPW1"
_NUMBER_BYTES = 4


def stored_weights(program: Program) -> npt.NDArray[np.uint8]:
    """Return the weight words as memory holds them, ``(words, config.stored_bits / 8)``: what fills a word up is 0."""
    config = program.config
    words = np.zeros((len(program.weights), config.stored_bits // 8), np.uint8)
    words[:, : program.weights.shape[1]] = program.weights
    return words


def flash_image(program: Program) -> bytes:
    """Return what is to be written to the flash, from ``config.flash_offset`` on."""
    weights = stored_weights(program).tobytes()
    image = MAGIC + len(weights).to_bytes(_NUMBER_BYTES, "little") + weights
    return image + zlib.crc32(image).to_bytes(_NUMBER_BYTES, "little")


def image_crc(program: Program) -> int:
    """Return the CRC in a program's image, which the accelerator gives when it has copied that."""
    return int.from_bytes(flash_image(program)[-_NUMBER_BYTES:], "little")


def write_flash_image(program: Program, path: Path) -> None:
    """Write a program's image to a file, whole or not at all.

    Raises
    ------
    zeropoint.errors.ZeropointError
        If it cannot be written.
    """
    atomic_write(path, flash_image(program))
