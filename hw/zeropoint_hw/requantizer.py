"""The requantizer: accumulators to activations, int32 ones in gemmlowp's fixed-point arithmetic or by shifts."""

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.config import AcceleratorConfig, PEKind, RequantizerKind
from zeropoint_hw.isa import Round
from zeropoint_hw.layout import LEVEL_WIDTH, InstructionLayout, Level, ParameterLayout, clamp_ends, delay
from zeropoint_hw.minifloat_requantizer import MinifloatRequantizerLane
from zeropoint_hw.multiplier import UNSIGNED_WIDTH, multiply
from zeropoint_hw.shift import SHIFT_LATENCY, shift_right
from zeropoint_hw.shift_requantizer import ShiftRequantizerLane


class RequantizerLane(wiring.Component):
    """``clamp(MultiplyByQuantizedMultiplier(value + bias, multiplier, shift) + Zo)``, one a cycle, no stalls.

    The result comes ``latency`` cycles after its operands. Additions and left shifts wrap at 32 bits, as int32 does.
    With ``Round.DOUBLE`` the product is rounded at bit 31 (half up) and again at the right shift (half away from
    zero); with ``Round.SINGLE`` only once, half up, and with ``Round.EVEN`` once, ties to even. A left shift must then
    not overflow int32.
    ``zeropoint.numerics.requantize`` defines the bits.

    Neither rounding needs an adder: both together are one floor with a carry into it (docs/numerics.md, "Applying a
    multiplier"), which follows from the bit below the result and from whether those below that are all 0 or all 1.
    Of the result, ten bits are kept, and whether it lies beyond them and so beyond any clamp.

    Parameters
    ----------
    left_shift
        Whether ``shift`` may be positive; without it, a positive shift counts as 0.
    ties_to_even
        Whether there is ``Round.EVEN``.

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

    latency = 9

    def __init__(self, left_shift: bool = True, ties_to_even: bool = True) -> None:
        self._left_shift, self._ties_to_even = left_shift, ties_to_even
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
        x_low, x_high = x[:UNSIGNED_WIDTH], x[UNSIGNED_WIDTH:].as_signed()
        m_low, m_high = multiplier[:UNSIGNED_WIDTH], multiplier[UNSIGNED_WIDTH:]
        low, high = multiply(m, "low", x_low, m_low), multiply(m, "high", x_high, m_high)
        cross, cross_too = multiply(m, "cross", x_high, m_low), multiply(m, "cross_too", x_low, m_high)
        middle, outer, product = Signal(signed(33)), Signal(signed(46)), Signal(signed(33))
        m.d.sync += [
            middle.eq(cross + cross_too),
            outer.eq(Cat(low[UNSIGNED_WIDTH : 2 * UNSIGNED_WIDTH], high[:29])),
            product.eq((outer + middle)[30 - UNSIGNED_WIDTH :]),
        ]
        right = delay(m, right, 4, "right")

        # 6, 7: right shift, except for the product's bit 30, which comes out below the result.
        fine, sign = shift_right(m, product, right, 11)
        whole = delay(m, right == 0, SHIFT_LATENCY, "whole")

        # 8: rounding, and the zero point.
        twice = (i.rounding == Round.DOUBLE) & ~whole
        moved = Signal(signed(11))
        up = fine.rounds_up(twice, sign)
        if self._ties_to_even:
            # Of the product's bits below the first of those that are shifted, any makes it more than a tie.
            low_sum = outer + middle
            rest = Signal()
            m.d.sync += rest.eq(low_sum[: 30 - UNSIGNED_WIDTH].any() | delay(m, low[:UNSIGNED_WIDTH].any(), 1, "rest"))
            more = fine.some | delay(m, rest, SHIFT_LATENCY, "late_rest")
            up = Mux(i.rounding == Round.EVEN, fine.value[0] & (more | fine.value[1]), up)
        m.d.sync += moved.eq(fine.value[1:].as_signed() + i.output_zero_point + up)
        beyond = delay(m, fine.lost | (fine.value[10] != sign), 1, "beyond")

        # 9: clamp. Adding the zero point next to the ends of int32 wraps around.
        edge = (product[9:32] == ~product[32].replicate(23)) & (right == 0)
        wraps = delay(m, edge, SHIFT_LATENCY + 1, "edge") & (moved[10] == (late_sign := delay(m, sign, 1, "last_sign")))
        low_end, high_end = clamp_ends(i, 9)
        below = Mux(beyond, late_sign ^ wraps, moved < low_end)
        above = Mux(beyond, ~(late_sign ^ wraps), moved > high_end)
        m.d.sync += self.result.eq(Mux(below, low_end, Mux(above, high_end, moved)))
        return m


def requantizer_members(config: AcceleratorConfig, ready: int) -> dict[str, wiring.Member]:
    """Return the members of a component that requantizes beats; ``ready`` is that output's value to begin with."""
    count = config.requantizers
    return {
        "instruction": In(InstructionLayout),
        "beat": In(1),
        "beat_level": In(LEVEL_WIDTH),
        "beat_pools": In(1),
        "values": In(data.ArrayLayout(signed(config.value_width), count)),
        "parameters": In(data.ArrayLayout(ParameterLayout, count)),
        "result_beat": Out(1),
        "result_level": Out(LEVEL_WIDTH),
        "result_pools": Out(1),
        "results": Out(data.ArrayLayout(config.element_bits, count)),
        "announced": Out(1),
        "ending": Out(1),
        "ready": Out(1, init=ready),
    }


class Requantizer(wiring.Component):
    """``requantizers`` lanes side by side: a beat of accumulators in, a beat of activations ``latency`` cycles later.

    Parameters
    ----------
    config
        Gives the number of lanes, their kind, and what they can do.

    Attributes
    ----------
    latency : int
        Cycles from a beat to its results.

    Members
    -------
    instruction : In(InstructionLayout)
        Held still.
    beat, beat_level, beat_pools : In
        A beat, the loop that moves on after it, and whether it is to be pooled; passed along with the data.
    values : In(ArrayLayout(signed(config.value_width), count))
        Accumulators.
    parameters : In(ArrayLayout(ParameterLayout, count))
        The channels' parameters.
    result_beat, result_level, result_pools : Out
        As they came in.
    results : Out(ArrayLayout(config.element_bits, count))
        Activations.
    announced : Out(1)
        A beat that is not to be pooled comes out in the next cycle.
    ending : Out(1)
        The instruction's last beat, ``NOTICE`` cycles before it comes out.
    ready : Out(1)
        A beat may come in the next cycle: always.
    """

    NOTICE = 2

    def __init__(self, config: AcceleratorConfig) -> None:
        self._lanes = [_lane(config) for _ in range(config.requantizers)]
        self.latency = self._lanes[0].latency
        super().__init__(requantizer_members(config, ready=1))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for index, lane in enumerate(self._lanes):
            m.submodules[f"lane{index}"] = lane
            m.d.comb += [
                lane.instruction.eq(self.instruction),
                lane.value.eq(self.values[index]),
                lane.parameters.eq(self.parameters[index]),
                self.results[index].eq(lane.result),
            ]
        tag = Cat(self.beat, self.beat_pools, self.beat_level)
        early = delay(m, tag, self.latency - self.NOTICE, "tag")
        next_tag = delay(m, early, self.NOTICE - 1, "late_tag")
        m.d.comb += [
            self.ending.eq(early[0] & (early[2:] == Level.END)),
            self.announced.eq(next_tag[0] & ~next_tag[1]),
            Cat(self.result_beat, self.result_pools, self.result_level).eq(delay(m, next_tag, 1, "last_tag")),
        ]
        return m


def _lane(config: AcceleratorConfig) -> RequantizerLane | MinifloatRequantizerLane | ShiftRequantizerLane:
    """Return a lane of the kind that the configuration wants."""
    if config.pe is PEKind.MINIFLOAT:
        return MinifloatRequantizerLane(config)
    if config.requantizer is RequantizerKind.SHIFT:
        return ShiftRequantizerLane(config)
    return RequantizerLane(config.left_shift, config.ties_to_even)
