"""What a program takes of its accelerator, and the smallest accelerator that runs a network."""

from bisect import bisect_left
from dataclasses import replace
from typing import Any

from zeropoint.compiler.compile import compile_model
from zeropoint.compiler.features import FEATURES, features
from zeropoint.compiler.program import Program
from zeropoint.compiler.verify_program import last_write
from zeropoint.errors import ZeropointError
from zeropoint.model import QuantizedModel
from zeropoint_hw.config import ACCUMULATOR_WIDTHS, AcceleratorConfig
from zeropoint_hw.isa import Instruction


def memory_use(program: Program) -> dict[str, int]:
    """Return how much of each memory a program takes, by the field of AcceleratorConfig that gives its size."""
    written = max(last_write(program.config, instruction) for instruction in program.instructions)
    return {
        "activation_bytes": max(written + 1, *(buffer.address + buffer.size for buffer in program.tensors.values())),
        "weight_bytes": program.weights.size,
        "parameter_channels": len(program.parameters),
        "program_words": len(program.instructions) * Instruction.WORDS,
        "tables": len(program.tables),
    }


def trim(model: QuantizedModel, config: AcceleratorConfig) -> AcceleratorConfig:
    """Return the configuration without anything that the network does not need.

    Lanes, columns, requantizers and the kind of PE stay as they are; memories, accumulators and whatever else
    a configuration can leave out become what the compiled network takes.

    Raises
    ------
    ZeropointError
        If no memories are large enough for it.
    """
    largest: dict[str, Any] = {field: most for field, (_, _, most) in config.memories.items()}
    everything: dict[str, Any] = dict.fromkeys(FEATURES, True)
    widest = replace(config, accumulator_width=ACCUMULATOR_WIDTHS[-1], **everything, **largest)
    program = compile_model(model, widest)
    sizes: dict[str, Any] = {
        field: max(-(-used // unit) * unit, least)
        for field, used in memory_use(program).items()
        for unit, least, _ in (config.memories[field],)
    }
    wanted = features(program.instructions, program.parameters.shift.tolist())
    kept: dict[str, Any] = {feature: feature in wanted for feature in FEATURES}
    trimmed = replace(
        widest,
        **kept,
        window_taps=config.window_taps if any(each.window for each in program.instructions) else 1,
        **sizes,
    )

    def fits(width: int) -> bool:
        try:
            compile_model(model, replace(trimmed, accumulator_width=width))
        except ZeropointError:
            return False
        return True

    return replace(trimmed, accumulator_width=ACCUMULATOR_WIDTHS[bisect_left(ACCUMULATOR_WIDTHS[:-1], True, key=fits)])
