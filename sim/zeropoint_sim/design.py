"""The accelerator that a compiled program runs on, as an Amaranth component."""

from zeropoint.compiler.program import Program
from zeropoint_hw.accelerator import Accelerator, Rom
from zeropoint_hw.config import WeightSource


def accelerator(program: Program) -> Accelerator:
    """Return the accelerator of a program's configuration, with the program in it where that has read-only memories.

    :func:`zeropoint_hw.verilog.to_verilog` makes Verilog of it.
    """
    return Accelerator(program.config, rom(program))


def rom(program: Program) -> Rom | None:
    """Return the contents of read-only memories, or None where the host loads them."""
    if program.config.weight_source is not WeightSource.ROM:
        return None
    parameters = program.parameters
    return Rom(
        program=[word for instruction in program.instructions for word in instruction.encode()],
        parameters=list(
            zip(parameters.bias.tolist(), parameters.multiplier.tolist(), parameters.shift.tolist(), strict=True)
        ),
        weights=[int.from_bytes(word.tobytes(), "little") for word in program.weights],
        tables=program.tables.reshape(-1).tolist(),
    )
