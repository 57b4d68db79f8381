"""The instruction as the gateware sees it, and the pipeline's small vocabulary."""

from enum import IntEnum
from functools import reduce
from operator import or_

from amaranth import Module, Mux, Signal, Value, ValueLike, signed, unsigned
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
    POOL_X = 3
    POOL_Y = 4
    COLUMN = 5
    ROW = 6
    GROUP = 7
    #: The instruction's last cycle.
    END = 8
    #: No array cycle yet: all loops are at their start.
    BEGIN = 9


LEVEL_WIDTH = 4


def clamp_ends(i: data.View, bits: int) -> tuple[Value, Value]:
    """Return the instruction's clamp as signed numbers of no more than ``bits`` bits."""
    low, high = i.clamp_low, i.clamp_high
    return low[:bits].as_signed(), high[:bits].as_signed()


def delay(m: Module, value: ValueLike, cycles: int, name: str) -> Value:
    """Return ``value`` as it was ``cycles`` clock cycles ago."""
    signal = Value.cast(value)
    for stage in range(cycles):
        later = Signal.like(signal, name=f"{name}_{stage + 1}", init=0)
        m.d.sync += later.eq(signal)
        signal = later
    return signal


def chosen(*choices: tuple[ValueLike, ValueLike]) -> Value:
    """Return the value whose condition holds, of which no more than one does; 0 if none does."""
    values: list[Value] = [Mux(condition, value, 0) for condition, value in choices]
    return reduce(or_, values)
