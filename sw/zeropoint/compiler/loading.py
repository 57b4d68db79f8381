"""What a host writes to load a program into an accelerator."""

import numpy as np
import numpy.typing as npt

from zeropoint.compiler.images import fill_rows, hex_digits
from zeropoint.compiler.program import Program
from zeropoint_hw.isa import ADDRESS_WIDTH, PARAMETER_PIECES, Region, address

Words = npt.NDArray[np.uint32]


def host_writes(program: Program) -> list[tuple[int, Words]]:
    """Return the writes to the host bus that load ``program``: addresses, and the words for each and those after it.

    There are none for an accelerator that is built with its program.
    """
    if program.config.built_in:
        return []
    instructions = [word for instruction in program.instructions for word in instruction.encode()]
    parameters = np.zeros((len(program.parameters), PARAMETER_PIECES), np.uint32)
    parameters[:, 0] = program.parameters.bias.view(np.uint32)
    parameters[:, 1] = program.parameters.multiplier
    parameters[:, 2] = program.parameters.shift.astype(np.int32).view(np.uint32)
    return [
        (address(Region.PROGRAM, 0), np.array(instructions, np.uint32)),
        (address(Region.PARAMETERS, 0), parameters.reshape(-1)),
        (address(Region.TABLES, 0), program.tables.astype(np.uint32).reshape(-1)),
        (address(Region.WEIGHTS, 0), _weight_pieces(program).reshape(-1)),
    ]


def load_file(program: Program) -> bytes:
    """Return the same writes as a file for ``$readmemh``, one a line: 24 bits of address above 32 bits of data."""
    bits = 32 + ADDRESS_WIDTH
    parts = []
    for first, words in host_writes(program):
        rows = np.zeros((len(words), 2), "<u4")
        rows[:, 0] = words
        rows[:, 1] = first + np.arange(len(words))
        parts.append(rows.view(np.uint8)[:, : bits // 8])
    digits = hex_digits(np.vstack(parts), bits)
    comment = f"// {len(digits)} writes to the host bus: 24 bits of address, 32 bits of data\n"
    return comment.encode() + fill_rows("?" * digits.shape[1] + "\n", digits)


def _weight_pieces(program: Program) -> Words:
    """Return the weight words as the host writes them: ``config.pieces`` pieces each, those with no place 0."""
    config = program.config
    bits = np.unpackbits(program.weights, axis=1, count=config.word_bits, bitorder="little")
    bits = np.pad(bits, ((0, 0), (0, -config.word_bits % config.piece_bits)))
    pieces = bits.reshape(len(bits), -1, config.piece_bits)
    full = np.zeros((len(bits), config.pieces, 32), np.uint8)
    full[:, : pieces.shape[1], : config.piece_bits] = pieces
    return np.packbits(full, axis=2, bitorder="little").view("<u4")[..., 0].astype(np.uint32)
