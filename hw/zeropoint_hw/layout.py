"""The instruction as the gateware sees it, and the pipeline's small vocabulary."""

from enum import IntEnum

from amaranth import Module, Signal, signed, unsigned
from amaranth.lib import data

from zeropoint_hw.isa import FIELDS, INSTRUCTION_WORDS

#: The instruction register, with the fields of :data:`zeropoint_hw.isa.FIELDS` in their places.
InstructionLayout = data.FlexibleLayout(
    32 * INSTRUCTION_WORDS,
    {
        field.name: data.Field(
            signed(field.width) if field.signed else unsigned(field.width), 32 * field.word + field.offset
        )
        for field in FIELDS
    },
)

#: The parameters of a channel. ``multiplier`` is a Q0.31 number without its sign; ``shift`` counts left where positive,
#: right where negative.
ParameterLayout = data.StructLayout({"bias": signed(32), "multiplier": unsigned(31), "shift": signed(8)})


class Level(IntEnum):
    """Which loop moves on after an array cycle; all loops inside it start again."""

    CHUNK = 0
    TAP_X = 1
    TAP_Y = 2
    COLUMN = 3
    ROW = 4
    GROUP = 5
    #: The instruction's last cycle.
    END = 6


LEVEL_WIDTH = 3


def delay(m: Module, signal: Signal, cycles: int, name: str) -> Signal:
    """Return ``signal`` as it was ``cycles`` clock cycles ago."""
    for stage in range(cycles):
        later = Signal.like(signal, name=f"{name}_{stage + 1}", init=0)
        m.d.sync += later.eq(signal)
        signal = later
    return signal
