"""What a program takes of its accelerator, and the smallest accelerator that runs a network."""

from bisect import bisect_left
from dataclasses import replace
from typing import Any

from zeropoint.compiler.compile import compile_model
from zeropoint.compiler.extents import EXTENTS, extents
from zeropoint.compiler.features import FEATURES, features
from zeropoint.compiler.program import Program
from zeropoint.compiler.verify_program import array_cycles, last_write, written_columns
from zeropoint.errors import ZeropointError
from zeropoint.model import QuantizedModel
from zeropoint_hw.config import AcceleratorConfig, WeightStore
from zeropoint_hw.isa import Instruction


def memory_use(program: Program) -> dict[str, int]:
    """Return how much of each memory a program takes, by the field of AcceleratorConfig that gives its size."""
    written = max(last_write(program.config, instruction) for instruction in program.instructions)
    return {
        "activation_bytes": program.config.element_bytes
        * max(written + 1, *(buffer.address + buffer.size for buffer in program.tensors.values())),
        "weight_bytes": program.weight_bytes,
        "parameter_channels": len(program.parameters),
        "program_words": len(program.instructions) * Instruction.WORDS,
        "tables": len(program.tables),
    }


def trim(model: QuantizedModel, config: AcceleratorConfig) -> AcceleratorConfig:
    """Return the configuration with all that the network needs, and nothing else.

    Lanes, columns, the kinds of PE and requantizer and the widths of numbers stay as they are; memories, accumulators
    and whatever else a configuration can leave out become what the compiled network takes, and requantizers as few as
    cost the array no more than one cycle in a hundred.

    Raises
    ------
    ZeropointError
        If no memories are large enough for it.
    """
    largest: dict[str, Any] = {field: most for field, (_, _, most) in config.memories.items()}
    if config.weight_store is WeightStore.SHARED:
        # Both in one memory.
        for field in ("activation_bytes", "weight_bytes"):
            largest[field] = min(largest[field], config.element_bytes << 19)
    everything: dict[str, Any] = dict.fromkeys(FEATURES, True) | dict.fromkeys(EXTENTS, 0)
    widest = replace(config, accumulator_width=0, **everything, **largest)
    program = compile_model(model, widest)
    most = _cycles(compile_model(model, replace(widest, requantizers=config.channels))) * 101 // 100
    for count in (1 << bit for bit in range(config.requantizers.bit_length() - 1)):
        fewer = compile_model(model, replace(widest, requantizers=count))
        if _cycles(fewer) <= most:
            program = fewer
            break
    sizes: dict[str, Any] = {
        field: max(-(-used // unit) * unit, least)
        for field, used in memory_use(program).items()
        for unit, least, _ in (program.config.memories[field],)
    }
    wanted = features(program.config, program.instructions, program.parameters.shift)
    bits: dict[str, Any] = extents(program.config, program.instructions)
    kept: dict[str, Any] = {feature: feature in wanted for feature in FEATURES}
    trimmed = replace(
        program.config,
        **kept,
        window_taps=config.window_taps if any(each.window for each in program.instructions) else 1,
        **sizes,
        **bits,
    )

    def fits(width: int) -> bool:
        try:
            compile_model(model, replace(trimmed, accumulator_width=width))
        except ZeropointError:
            return False
        return True

    widths = config.accumulator_widths
    return replace(trimmed, accumulator_width=widths[bisect_left(widths[:-1], True, key=fits)])


def _cycles(program: Program) -> int:
    """Return the cycles in which the array works, or waits for the requantizers or for their outputs to be written."""
    writes = program.config.activation_ports == 1
    return sum(
        i.groups
        * i.rows
        * (
            i.pool_rows * i.pool_columns * (i.columns * array_cycles(program.config, i) + written_columns(i) * i.idle)
            + writes * written_columns(i) * i.beats
        )
        for i in program.instructions
    )
