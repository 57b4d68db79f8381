"""ADD: two activations of different scales to one sum, before the requantizer scales that to the output."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.array import OPERAND_SUM
from zeropoint_hw.isa import Round
from zeropoint_hw.layout import InstructionLayout, delay


class AddScaler(wiring.Component):
    """Scales both operands of ADD and adds them, one pair a cycle, ``LATENCY`` cycles later.

    Of the two input multipliers, the one of the operand with the larger scale is always one half exactly
    (TensorFlow Lite ``kernels/add.cc``: ``s / (2 · max(s1, s2))``), so that ``(q − Z) << 20`` becomes
    ``(q − Z) << 19``. The other operand is multiplied by ``add_multiplier`` and shifted right by ``add_shift``, rounded
    twice or once as ``rounding`` says.

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
        product = Signal(signed(41))
        m.d.sync += product.eq(low + (high << 16))

        # ((other << 20) · M) · 2^-(31 + shift): one rounding at the shift, or two, whose first is a step of 2^10 away
        # from zero here (docs/numerics.md, "Applying a multiplier").
        nudge = Signal(signed(12))
        with m.If((i.rounding == Round.DOUBLE) & (i.add_shift != 0)):
            m.d.comb += nudge.eq(Mux(product < 0, -(1 << 10), 1 << 10))
        nudged = Signal(signed(43))
        m.d.sync += nudged.eq(product + (1 << 10 << i.add_shift) + nudge)
        shifted = Signal(signed(32))
        m.d.sync += shifted.eq(nudged[11:].as_signed() >> i.add_shift)
        m.d.sync += self.value.eq((delay(m, half, 4, "half") << 19) + shifted)
        return m
