"""The requantizer: int32 accumulators to activations, in gemmlowp's fixed-point arithmetic."""

from amaranth import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.isa import Round
from zeropoint_hw.layout import LEVEL_WIDTH, InstructionLayout, Level, ParameterLayout, delay


class RequantizerLane(wiring.Component):
    """``clamp(MultiplyByQuantizedMultiplier(value + bias, multiplier, shift) + Zo)``, one a cycle, no stalls.

    The result comes ``LATENCY`` cycles after its operands. Additions and left shifts wrap at 32 bits, as int32 does.
    With ``Round.DOUBLE`` the product is rounded at bit 31 (half up) and again at the right shift (half away from
    zero); with ``Round.SINGLE`` only once, half up, and a left shift must not overflow int32.
    ``zeropoint.numerics.requantize`` defines the bits.

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

    LATENCY = 10

    def __init__(self) -> None:
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
        single = i.rounding == Round.SINGLE
        shift = parameters.shift

        # 1: bias. 2: left shift.
        biased, left, right = Signal(signed(32)), Signal(5), Signal(5)
        m.d.sync += [
            biased.eq(self.value + parameters.bias),
            left.eq(Mux(shift > 0, shift, 0)),
            right.eq(Mux(shift < 0, -shift, 0)),
        ]
        x = Signal(signed(32))
        m.d.sync += x.eq(biased << left)
        multiplier = delay(m, parameters.multiplier, 2, "multiplier")

        # 3: four products of at most 17 × 17 bits, which is what a DSP block multiplies. 4: the two in the middle.
        x_low, x_high = x[:16], x[16:].as_signed()
        m_low, m_high = multiplier[:16], multiplier[16:]
        low, cross, cross_too, high = Signal(32), Signal(signed(33)), Signal(signed(33)), Signal(signed(32))
        m.d.sync += [
            low.eq(x_low * m_low),
            cross.eq(x_high * m_low),
            cross_too.eq(x_low * m_high),
            high.eq(x_high * m_high),
        ]
        middle = Signal(signed(34))
        m.d.sync += middle.eq(cross + cross_too)
        low, high = delay(m, low, 1, "low"), delay(m, high, 1, "high")

        # 5, 6: the 63-bit product plus 2^30, in two halves. A single rounding rounds here only if no shift follows.
        right = delay(m, right, 3, "right")
        nudge = ~single | (right == 0)
        lower, upper = Signal(34), Signal(signed(33))
        m.d.sync += [lower.eq(low + (middle[:16] << 16) + (nudge << 30)), upper.eq(high + (middle >> 16))]
        product = Signal(signed(33))
        m.d.sync += product.eq(Cat(lower[31], upper + lower[32:]))
        right = delay(m, right, 2, "right_shift")

        # 7, 8: right shift.
        nudged, shifted = Signal(signed(33)), Signal(signed(33))
        m.d.sync += nudged.eq(rounding_divide_nudge(m, product, right, away=~single))
        m.d.sync += shifted.eq(nudged >> delay(m, right, 1, "right_last"))

        # 9: zero point. 10: clamp.
        moved = Signal(signed(32))
        m.d.sync += moved.eq(shifted + i.output_zero_point)
        with m.If(moved < i.clamp_low):
            m.d.sync += self.result.eq(i.clamp_low)
        with m.Elif(moved > i.clamp_high):
            m.d.sync += self.result.eq(i.clamp_high)
        with m.Else():
            m.d.sync += self.result.eq(moved)
        return m


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

    def __init__(self, count: int) -> None:
        self._count = count
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
            m.submodules[f"lane{index}"] = lane = RequantizerLane()
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


def rounding_divide_nudge(m: Module, value: Signal, exponent: Signal, away: Signal | int) -> Signal:
    """Return ``value`` plus what makes an arithmetic right shift by ``exponent`` round to nearest.

    Ties go away from zero where ``away`` is set, else upward. Source: gemmlowp ``RoundingDivideByPOT``; its
    remainder and threshold amount to half an output step, less one below zero.
    """
    half = Signal(unsigned(31), name="half_step")
    m.d.comb += half.eq((1 << exponent) >> 1)
    return value + half - ((value < 0) & (exponent != 0) & away)
