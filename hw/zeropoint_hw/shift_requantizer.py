"""The requantizer without a multiplier: accumulators to activations whose scales are all powers of two."""

from amaranth import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import Round
from zeropoint_hw.layout import InstructionLayout, ParameterLayout, clamp_ends, delay
from zeropoint_hw.shift import SHIFT_LATENCY, shift_right

#: Bits of a clamp, as a signed number, of bytes.
_CLAMP_BITS = 9


class ShiftRequantizerLane(wiring.Component):
    """``clamp(round((value + bias) · 2^(shift − 1)))``, one a cycle, no stalls.

    The result comes ``latency`` cycles after its operands, and nothing wraps on the way. It is that of
    :class:`~zeropoint_hw.requantizer.RequantizerLane` for multipliers of 2^30, zero points of 0 and sums that stay
    within 32 bits, with ``Round.SINGLE`` and ``Round.EVEN``. ``Round.AWAY`` rounds ties away from zero;
    ``Round.DOUBLE`` is for shifts of 1 and more, where nothing is rounded.

    Parameters
    ----------
    config
        ``left_shift`` says whether ``shift`` is −30 … 31 or −30 … 1, ``ties_to_even`` whether there is ``Round.EVEN``.

    Members
    -------
    instruction : In(InstructionLayout)
        Rounding and clamp; held still.
    value : In(signed(config.value_width))
        Accumulator.
    parameters : In(ParameterLayout)
        The channel's; the multiplier is not looked at.
    result : Out(config.element_bits)
        Activation.
    """

    #: Bias, shift, rounding, clamp.
    latency = 1 + SHIFT_LATENCY + 2

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "instruction": In(InstructionLayout),
                "value": In(signed(config.value_width)),
                "parameters": In(ParameterLayout),
                "result": Out(config.element_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, i = self._config, self.instruction

        # 1: bias. Every shift is one to the right, of the number with zeros below it for those to the left, and for the
        # bit that comes out below the result.
        zeros = 31 if config.left_shift else 1
        biased = Signal(signed(config.value_width + 1))
        right = Signal(range(zeros + 31))
        m.d.sync += [biased.eq(self.value + self.parameters.bias), right.eq(zeros - self.parameters.shift)]

        # 2, 3: right shift. Of a wide sum there may be more left than the result needs.
        bits = _CLAMP_BITS if config.element_bits == 8 else config.element_bits
        kept = max(bits + 1, zeros + len(biased) - (1 << len(right)) + 1)
        fine, sign = shift_right(m, Cat(Const(0, zeros), biased), right, kept)

        # 4: rounding. 5: clamp.
        half, low = fine.value[0], fine.value[1]
        up = Mux(i.rounding == Round.AWAY, half & (fine.some | ~sign), half)
        if config.ties_to_even:
            up = Mux(i.rounding == Round.EVEN, half & (fine.some | low), up)
        moved = Signal(signed(kept))
        m.d.sync += moved.eq(fine.value[1:].as_signed() + up)
        beyond = delay(m, fine.lost | (fine.value[-1] != sign), 1, "beyond")
        late_sign = delay(m, sign, 1, "last_sign")
        low_end, high_end = clamp_ends(i, bits)
        below = Mux(beyond, late_sign, moved < low_end)
        above = Mux(beyond, ~late_sign, moved > high_end)
        m.d.sync += self.result.eq(Mux(below, low_end, Mux(above, high_end, moved)))
        return m
