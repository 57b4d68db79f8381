"""The requantizer: int32 accumulators to activations, in gemmlowp's fixed-point arithmetic."""

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.isa import Round
from zeropoint_hw.layout import LEVEL_WIDTH, InstructionLayout, Level, ParameterLayout, delay
from zeropoint_hw.multiplier import Multiplier
from zeropoint_hw.shift import ShiftedRight

#: Bits of an operand's lower half: what a DSP block's signed multiplier takes without a sign.
_HALF = 17


class RequantizerLane(wiring.Component):
    """``clamp(MultiplyByQuantizedMultiplier(value + bias, multiplier, shift) + Zo)``, one a cycle, no stalls.

    The result comes ``LATENCY`` cycles after its operands. Additions and left shifts wrap at 32 bits, as int32 does.
    With ``Round.DOUBLE`` the product is rounded at bit 31 (half up) and again at the right shift (half away from
    zero); with ``Round.SINGLE`` only once, half up, and a left shift must not overflow int32.
    ``zeropoint.numerics.requantize`` defines the bits.

    Neither rounding needs an adder: both together are one floor with a carry into it (docs/numerics.md, "Applying a
    multiplier"), which follows from the bit below the result and from whether those below that are all 0 or all 1.
    Of the result, ten bits are kept, and whether it lies beyond them and so beyond any clamp.

    Parameters
    ----------
    left_shift
        Whether ``shift`` may be positive; without it, a positive shift counts as 0.

    Members
    -------
    instruction : In(InstructionLayout)
        Rounding, output zero point and clamp; held still.
    value : In(signed(32))
        Accumulator.
    parameters : In(ParameterLayout)
        The channel's.
    result : Out(8)
        Activation.
    """

    LATENCY = 9

    def __init__(self, left_shift: bool = True) -> None:
        self._left_shift = left_shift
        super().__init__(
            {
                "instruction": In(InstructionLayout),
                "value": In(signed(32)),
                "parameters": In(ParameterLayout),
                "result": Out(8),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        i, parameters = self.instruction, self.parameters

        # 1: bias; then the left shift.
        biased, right = Signal(signed(32)), Signal(5)
        m.d.sync += biased.eq(self.value + parameters.bias)
        m.d.sync += right.eq(Mux(parameters.shift < 0, -parameters.shift, 0))
        x: Value = biased
        if self._left_shift:
            left = Signal(5)
            m.d.sync += left.eq(Mux(parameters.shift > 0, parameters.shift, 0))
            x = (biased << left)[:32].as_signed()
        multiplier = delay(m, parameters.multiplier, 1, "multiplier")

        # 2, 3: four products of 17 × 17 bits. 4: the sum of the two in the middle. 5: bits 30 and up of the whole.
        x_low, x_high = x[:_HALF], x[_HALF:].as_signed()
        m_low, m_high = multiplier[:_HALF], multiplier[_HALF:]
        low, high = self._multiply(m, "low", x_low, m_low), self._multiply(m, "high", x_high, m_high)
        cross, cross_too = self._multiply(m, "cross", x_high, m_low), self._multiply(m, "cross_too", x_low, m_high)
        middle, outer, product = Signal(signed(33)), Signal(signed(46)), Signal(signed(33))
        m.d.sync += [
            middle.eq(cross + cross_too),
            outer.eq(Cat(low[_HALF : 2 * _HALF], high[:29])),
            product.eq((outer + middle)[30 - _HALF :]),
        ]
        right = delay(m, right, 4, "right")

        # 6, 7: right shift, except for the product's bit 30, which comes out below the result.
        sign = product[32]
        extended = Cat(product, sign.replicate(9))
        coarse = ShiftedRight(extended).shift(right[4], 16, sign).shift(right[3], 8, sign).registered(m, "coarse")
        fine_right, sign = delay(m, right[:3], 1, "fine_right"), delay(m, sign, 1, "sign")
        fine = coarse.shift(fine_right[2], 4, sign).shift(fine_right[1], 2, sign).shift(fine_right[0], 1, sign)
        fine, sign = fine.registered(m, "fine"), delay(m, sign, 1, "late_sign")
        whole = delay(m, right == 0, 2, "whole")

        # 8: rounding, and the zero point.
        twice = (i.rounding == Round.DOUBLE) & ~whole
        moved = Signal(signed(11))
        m.d.sync += moved.eq(fine.value[1:].as_signed() + i.output_zero_point + fine.rounds_up(twice, sign))
        beyond = delay(m, fine.lost | (fine.value[10] != sign), 1, "beyond")

        # 9: clamp. Adding the zero point next to the ends of int32 wraps around.
        edge = (product[9:32] == ~product[32].replicate(23)) & (right == 0)
        wraps = delay(m, edge, 3, "edge") & (moved[10] == (late_sign := delay(m, sign, 1, "last_sign")))
        below = Mux(beyond, late_sign ^ wraps, moved < i.clamp_low)
        above = Mux(beyond, ~(late_sign ^ wraps), moved > i.clamp_high)
        m.d.sync += self.result.eq(Mux(below, i.clamp_low, Mux(above, i.clamp_high, moved)))
        return m

    def _multiply(self, m: Module, name: str, a: Value, b: Value) -> Value:
        m.submodules[name] = multiplier = Multiplier(_HALF + 1)
        m.d.comb += [multiplier.a.eq(a), multiplier.b.eq(b)]
        return multiplier.p


class Requantizer(wiring.Component):
    """``requantizers`` lanes side by side: a beat of accumulators in, a beat of activations ``LATENCY`` cycles later.

    Members
    -------
    instruction : In(InstructionLayout)
        Held still.
    beat, beat_level, beat_pools : In
        A beat, the loop that moves on after it, and whether it is to be pooled; passed along with the data.
    values : In(ArrayLayout(signed(32), count))
        Accumulators.
    parameters : In(ArrayLayout(ParameterLayout, count))
        The channels' parameters.
    result_beat, result_level, result_pools : Out
        As they came in.
    results : Out(ArrayLayout(8, count))
        Activations.
    ending : Out(1)
        The instruction's last beat, ``NOTICE`` cycles before it comes out.
    """

    LATENCY = RequantizerLane.LATENCY
    NOTICE = 2

    def __init__(self, count: int, left_shift: bool = True) -> None:
        self._count, self._left_shift = count, left_shift
        super().__init__(
            {
                "instruction": In(InstructionLayout),
                "beat": In(1),
                "beat_level": In(LEVEL_WIDTH),
                "beat_pools": In(1),
                "values": In(data.ArrayLayout(signed(32), count)),
                "parameters": In(data.ArrayLayout(ParameterLayout, count)),
                "result_beat": Out(1),
                "result_level": Out(LEVEL_WIDTH),
                "result_pools": Out(1),
                "results": Out(data.ArrayLayout(8, count)),
                "ending": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for index in range(self._count):
            m.submodules[f"lane{index}"] = lane = RequantizerLane(self._left_shift)
            m.d.comb += [
                lane.instruction.eq(self.instruction),
                lane.value.eq(self.values[index]),
                lane.parameters.eq(self.parameters[index]),
                self.results[index].eq(lane.result),
            ]
        tag = Cat(self.beat, self.beat_pools, self.beat_level)
        early = delay(m, tag, self.LATENCY - self.NOTICE, "tag")
        m.d.comb += [
            self.ending.eq(early[0] & (early[2:] == Level.END)),
            Cat(self.result_beat, self.result_pools, self.result_level).eq(delay(m, early, self.NOTICE, "late_tag")),
        ]
        return m
