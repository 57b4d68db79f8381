"""Compiled instructions, executed cycle by cycle by the obvious model in ``support.layer_program``."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from support.layer_program import Memory, execute
from zeropoint.compiler.emit import Emitter
from zeropoint.compiler.program import Program
from zeropoint.numerics.bit_packing import unpack_codes
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import Instruction


def any_memory() -> bytearray:
    """Return an activation memory of the greatest size that holds anything."""
    return bytearray(np.random.default_rng(9).integers(0, 256, 1 << 20, dtype=np.uint8).tobytes())


def execute_emitted(emitter: Emitter, memory: bytearray) -> None:
    """Execute what has been emitted."""
    parameters = zip(emitter.biases, emitter.multipliers, emitter.shifts, strict=True)
    words = np.concatenate(emitter.weight_words)
    _execute(emitter.instructions, emitter.config, memory, words, list(parameters), emitter.tables)


def outputs(program: Program, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Execute a program in a memory that holds anything elsewhere, and return its output."""
    size = program.config.element_bytes
    octets = any_memory()
    first, last = program.input, program.output
    octets[size * first.address : size * (first.address + first.size)] = first.to_memory(values).tobytes()
    memory = np.frombuffer(octets, f"<u{size}").copy() if size > 1 else octets
    parameters = (program.parameters.bias, program.parameters.multiplier, program.parameters.shift)
    channels = list(zip(*(part.tolist() for part in parameters), strict=True))
    config = program.config
    codes = unpack_codes(program.weights, config.weight_bits, config.lanes * config.columns)
    _execute(program.instructions, config, memory, codes, channels, program.tables.tolist())
    return last.from_memory(np.frombuffer(bytes(memory[last.address : last.address + last.size]), np.uint8))


def _execute(
    instructions: Sequence[Instruction],
    config: AcceleratorConfig,
    memory: Memory,
    words: npt.NDArray[np.integer],
    parameters: list[tuple[int, int, int]],
    tables: Sequence[Sequence[int]],
) -> None:
    weights = words.reshape(-1, config.columns, config.lanes)
    for instruction in instructions:
        execute(instruction, config, memory, weights, parameters, tables)
