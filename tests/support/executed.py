"""Compiled instructions, executed cycle by cycle by the obvious model in ``support.layer_program``."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from support.layer_program import execute
from zeropoint.compiler.emit import Emitter
from zeropoint.compiler.program import Program
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
    memory = any_memory()
    first, last = program.input, program.output
    memory[first.address : first.address + first.size] = first.to_memory(values).tobytes()
    parameters = (program.parameters.bias, program.parameters.multiplier, program.parameters.shift)
    channels = list(zip(*(part.tolist() for part in parameters), strict=True))
    config = program.config
    bits = np.unpackbits(program.weights, axis=1, count=config.word_bits, bitorder="little")
    codes = np.packbits(bits.reshape(len(bits), -1, config.weight_bits), axis=2, bitorder="little")[..., 0]
    _execute(program.instructions, config, memory, codes, channels, program.tables.tolist())
    return last.from_memory(np.frombuffer(memory[last.address : last.address + last.size], np.uint8))


def _execute(
    instructions: Sequence[Instruction],
    config: AcceleratorConfig,
    memory: bytearray,
    words: npt.NDArray[np.uint8],
    parameters: list[tuple[int, int, int]],
    tables: Sequence[Sequence[int]],
) -> None:
    weights = words.reshape(-1, config.columns, config.lanes)
    for instruction in instructions:
        execute(instruction, config, memory, weights, parameters, tables)
