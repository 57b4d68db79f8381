"""The requantizer for few look-up tables: some bits of the multiplier a cycle, one adder for each, no DSP block."""

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.adder_tree import add_carry
from zeropoint_hw.config import MULTIPLIER_BITS, AcceleratorConfig
from zeropoint_hw.isa import Round
from zeropoint_hw.layout import InstructionLayout, Level, ParameterLayout, clamp_ends
from zeropoint_hw.requantizer import requantizer_members
from zeropoint_hw.shift import ShiftedRight


class SerialRequantizerLane(wiring.Component):
    """``clamp(MultiplyByQuantizedMultiplier(value + bias, multiplier, shift) + Zo)``, in steps that it is told to take.

    The result is that of :class:`~zeropoint_hw.requantizer.RequantizerLane`, in every bit. The product is added up from
    the multiplier's lowest digit on: each digit's product is added at the top, and then all of it moves down by a
    digit, so that the adders are no wider than an accumulator. Of what leaves at the bottom only that is kept which
    rounding asks for. The right shift is the same without a digit to add, a bit a step.

    Parameters
    ----------
    config
        Gives ``digit_bits``, and whether there is ``left_shift`` and ``ties_to_even``.

    Members
    -------
    instruction : In(InstructionLayout)
        Rounding, output zero point and clamp; held still.
    value : In(signed(32))
        Accumulator, in the cycle of ``load``.
    parameters : In(ParameterLayout)
        The channel's, in the cycle of ``load``.
    load : In(1)
        Takes an accumulator.
    multiply : In(1)
        Takes the next digit.
    shift : In(1)
        Shifts by one more bit, if there are any left.
    to_left, to_right : Out(1)
        There are bits left to shift by.
    result : Out(8)
        Activation: two cycles after the one in which all is multiplied and shifted.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "instruction": In(InstructionLayout),
                "value": In(signed(32)),
                "parameters": In(ParameterLayout),
                "load": In(1),
                "multiply": In(1),
                "shift": In(1),
                "to_left": Out(1),
                "to_right": Out(1),
                "result": Out(8),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, i, parameters = self._config, self.instruction, self.parameters

        # The multiplier's last digit ends with it: the bits that fill it up are below its first ones.
        digit_bits = config.digit_bits
        fill = config.digits * digit_bits - MULTIPLIER_BITS
        number, digits = Signal(signed(32)), Signal(MULTIPLIER_BITS + fill)
        right, whole = Signal(5), Signal()
        product = Signal(signed(32))
        half, some, every, rest = Signal(), Signal(), Signal(), Signal()
        m.d.comb += self.to_right.eq(right != 0)

        # What moves down by a digit: bit for bit, each with an adder.
        moved_down: Value = product
        dropped = []
        for bit in range(digit_bits):
            total = Signal(signed(33), name=f"total{bit}")
            m.d.comb += total.eq(Mux(digits[bit], moved_down + number, moved_down))
            dropped.append(total[0])
            moved_down = total[1:].as_signed()

        with m.If(self.load):
            m.d.sync += [
                number.eq(self.value + parameters.bias),
                digits.eq(parameters.multiplier << fill),
                right.eq(Mux(parameters.shift < 0, -parameters.shift, 0)),
                whole.eq(parameters.shift >= 0),
                *(product.eq(0), half.eq(0), some.eq(0), every.eq(1), rest.eq(0)),
            ]
        with m.Elif(self.multiply):
            m.d.sync += [product.eq(moved_down), digits.eq(digits >> digit_bits), half.eq(dropped[-1])]
            m.d.sync += rest.eq(rest | half | Cat(dropped[:-1]).any())
        with m.Elif(self.shift & self.to_right):
            # There are no digits left.
            m.d.sync += [product.eq(moved_down if digit_bits == 1 else product >> 1), half.eq(product[0])]
            m.d.sync += [some.eq(some | half), every.eq(every & half), right.eq(right - 1)]
        if config.left_shift:
            left = Signal(5)
            m.d.comb += self.to_left.eq(left != 0)
            with m.If(self.load):
                m.d.sync += left.eq(Mux(parameters.shift > 0, parameters.shift, 0))
            with m.Elif(self.to_left):
                m.d.sync += [number.eq(number << 1), left.eq(left - 1)]

        # Rounding, and the zero point. Ten bits are kept of the product, and whether it lies beyond them.
        sign, top = product[-1], product[9:-1]
        fine = ShiftedRight(Cat(half, product[:10]), some, every)
        up = fine.rounds_up((i.rounding == Round.DOUBLE) & ~whole, sign)
        if config.ties_to_even:
            up = Mux(i.rounding == Round.EVEN, half & (some | rest | product[0]), up)
        moved, beyond, edge, late_sign = Signal(signed(11)), Signal(), Signal(), Signal()
        all_set, none_set = Signal(), Signal()
        m.d.comb += [all_set.eq(top.all()), none_set.eq(~top.any())]
        m.d.sync += [
            moved.eq(add_carry(product[:10].as_signed(), i.output_zero_point, up)),
            beyond.eq(Mux(sign, ~all_set, ~none_set)),
            edge.eq(whole & Mux(sign, none_set & ~product[8], all_set & product[8])),
            late_sign.eq(sign),
        ]

        # Clamp. Adding the zero point next to the ends of int32 wraps around.
        negative = late_sign ^ (edge & (moved[10] == late_sign))
        low_end, high_end = clamp_ends(i, 9)
        below = Mux(beyond, negative, moved < low_end)
        above = Mux(beyond, ~negative, moved > high_end)
        m.d.sync += self.result.eq(Mux(below, low_end, Mux(above, high_end, moved)))
        return m


class SerialRequantizer(wiring.Component):
    """As :class:`~zeropoint_hw.requantizer.Requantizer`, of lanes that take several cycles for a beat.

    A beat comes in the cycle after one with ``ready``, which comes again ``config.beat_cycles(least_shift,
    greatest_shift)`` cycles after that one at the latest, where the lanes' shifts lie within these. The result comes
    with the next beat, or in the cycle in which that could come.

    Parameters
    ----------
    config
        Gives the number of lanes and what they can do.

    Members
    -------
    instruction, beat, beat_level, beat_pools, values, parameters, result_beat, result_level, result_pools, results,
    announced, ending
        As of :class:`~zeropoint_hw.requantizer.Requantizer`.
    ready : Out(1)
        A beat may come in the next cycle.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(requantizer_members(config, ready=0))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        load, multiply, shift = Signal(), Signal(), Signal()
        to_left: Value = Const(0)
        to_right: Value = Const(0)
        for index in range(self._config.requantizers):
            m.submodules[f"lane{index}"] = lane = SerialRequantizerLane(self._config)
            m.d.comb += [
                lane.instruction.eq(self.instruction),
                lane.value.eq(self.values[index]),
                lane.parameters.eq(self.parameters[index]),
                *(lane.load.eq(load), lane.multiply.eq(multiply), lane.shift.eq(shift)),
                self.results[index].eq(lane.result),
            ]
            to_left, to_right = to_left | lane.to_left, to_right | lane.to_right

        left = Signal(range(self._config.digits))
        with m.If(load):
            m.d.sync += [self.result_level.eq(self.beat_level), self.result_pools.eq(self.beat_pools)]
            m.d.sync += left.eq(self._config.digits - 1)
        m.d.sync += self.result_beat.eq(0)
        with m.FSM():
            with m.State("REST"):
                m.d.comb += [self.ready.eq(~self.beat), load.eq(self.beat)]
                with m.If(self.beat):
                    m.next = "LEFT" if self._config.left_shift else "MULTIPLY"
            if self._config.left_shift:
                with m.State("LEFT"), m.If(~to_left):
                    m.next = "MULTIPLY"
            with m.State("MULTIPLY"):
                m.d.comb += multiply.eq(1)
                m.d.sync += left.eq(left - 1)
                with m.If(left == 0):
                    m.next = "RIGHT"
            with m.State("RIGHT"):
                m.d.comb += shift.eq(1)
                with m.If(~to_right):
                    m.d.comb += self.ending.eq(self.result_level == Level.END)
                    m.next = "CLAMP"
            with m.State("CLAMP"):
                m.d.comb += [self.ready.eq(1), self.announced.eq(~self.result_pools)]
                m.d.sync += self.result_beat.eq(1)
                m.next = "REST"
        return m
