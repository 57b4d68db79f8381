"""ADD: two activations of different scales to one sum, before the requantizer scales that to the output."""

from amaranth import Module, Mux, Signal, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.array import OPERAND_SUM
from zeropoint_hw.layout import InstructionLayout, delay


class AddScaler(wiring.Component):
    """Scales both operands of ADD and adds them, one pair a cycle, ``LATENCY`` cycles later.

    Of the two input multipliers, the one of the operand with the larger scale is always one half exactly
    (TensorFlow Lite ``kernels/add.cc``: ``s / (2 · max(s1, s2))``), so that ``(q − Z) << 20`` becomes
    ``(q − Z) << 19``. The other operand takes ``SaturatingRoundingDoublingHighMul`` by ``add_multiplier`` and
    ``RoundingDivideByPOT`` by ``add_shift``.

    Members
    -------
    instruction : In(InstructionLayout)
        Held still.
    pair : In(20)
        The operand read first in the upper half, the other in the lower half.
    value : Out(signed(32))
        The sum at the common scale.
    """

    LATENCY = 6

    def __init__(self) -> None:
        super().__init__({"instruction": In(InstructionLayout), "pair": In(20), "value": Out(signed(32))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        i = self.instruction
        second, first = (self.pair[start : start + OPERAND_SUM.width].as_signed() for start in (0, OPERAND_SUM.width))
        half, other = Signal(OPERAND_SUM), Signal(OPERAND_SUM)
        m.d.sync += [
            half.eq(Mux(i.add_swap, second, first) - i.add_zero_point),
            other.eq(Mux(i.add_swap, first, second) - i.add_other_zero_point),
        ]

        low, high = Signal(signed(27)), Signal(signed(26))
        m.d.sync += [low.eq(other * i.add_multiplier[:16]), high.eq(other * i.add_multiplier[16:])]

        # ((other << 20) · M + 2^30) >> 31
        scaled = Signal(signed(31))
        m.d.sync += scaled.eq((low + (high << 16) + (1 << 10)) >> 11)

        divided = Signal(signed(32))
        m.d.sync += divided.eq(rounding_divide_nudge(m, scaled, i.add_shift, away=1))
        shifted = Signal(signed(32))
        m.d.sync += shifted.eq(divided >> i.add_shift)
        m.d.sync += self.value.eq((delay(m, half, 4, "half") << 19) + shifted)
        return m


def rounding_divide_nudge(m: Module, value: Signal, exponent: Signal, away: Signal | int) -> Signal:
    """Return ``value`` plus what makes an arithmetic right shift by ``exponent`` round to nearest.

    Ties go away from zero where ``away`` is set, else upward. Source: gemmlowp ``RoundingDivideByPOT``; its
    remainder and threshold amount to half an output step, less one below zero.
    """
    half = Signal(unsigned(31), name="half_step")
    m.d.comb += half.eq((1 << exponent) >> 1)
    return value + half - ((value < 0) & (exponent != 0) & away)
