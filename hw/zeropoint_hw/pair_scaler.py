"""ADD, SUB and MUL: two activations to one number, before the requantizer scales that to the output."""

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import Round
from zeropoint_hw.layout import InstructionLayout, delay
from zeropoint_hw.multiplier import UNSIGNED_WIDTH, multiply
from zeropoint_hw.shift import SHIFT_LATENCY, shift_right


def _differences(m: Module, pair: Value, i: data.View) -> tuple[Signal, Signal]:
    """Return both operands less their zero points, negated where the instruction says so, a cycle later."""
    width = len(pair) // 2
    first, other = Signal(signed(width)), Signal(signed(width))
    # Of complements, what is negated.
    for index, difference, zero_point, negate in (
        (0, first, i.pair_zero_point, i.pair_negate),
        (1, other, i.pair_other_zero_point, i.pair_other_negate),
    ):
        flips = negate.replicate(width)
        operand = pair.word_select(index, width) ^ flips
        zero = (zero_point.as_unsigned() ^ flips[: len(zero_point)]).as_signed()
        m.d.sync += difference.eq(operand.as_signed() - zero)
    return first, other


class PairShifter(wiring.Component):
    """Combines both operands of ADD or SUB, one pair a cycle, ``LATENCY`` cycles later, without a multiplier.

    As :class:`PairScaler` for a ``pair_multiplier`` of 2^30 and one rounding; of 16-bit operands, shifted left by five
    bits less.

    Parameters
    ----------
    config
        Gives the width of an operand.

    Members
    -------
    instruction, pair, value
        As of :class:`PairScaler`.
    """

    LATENCY = 1 + SHIFT_LATENCY + 1

    def __init__(self, config: AcceleratorConfig) -> None:
        # TensorFlow Lite gives int16 operands less headroom (kernels/add.cc).
        self._left = 20 if config.element_bits == 8 else 15
        pair = In(2 * config.pair_bits)
        super().__init__({"instruction": In(InstructionLayout), "pair": pair, "value": Out(signed(32))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        i, left = self.instruction, self._left

        # 1: differences. 2, 3: right shift of the second, of which the last bit is for rounding. 4: the sum.
        first, other = _differences(m, self.pair, i)
        shifted, _ = shift_right(m, Cat(Const(0, left), other), i.pair_shift, left + len(other))
        half = delay(m, first, SHIFT_LATENCY, "first").as_signed()
        m.d.sync += self.value.eq((half << left - 1) + shifted.value[1:].as_signed() + shifted.value[0])
        return m


class PairScaler(wiring.Component):
    """Combines both operands of ADD, SUB or MUL, one pair a cycle, ``LATENCY`` cycles later.

    ADD and SUB: of the two input multipliers, the one of the operand with the larger scale is always one half exactly
    (TensorFlow Lite ``kernels/add.cc``: ``s / (2 · max(s1, s2))``), so that ``(q − Z) << 20`` becomes
    ``(q − Z) << 19``. That operand is read first. The other is multiplied by ``pair_multiplier`` and shifted right by
    ``pair_shift``, rounded twice or once as ``rounding`` says. Each may be negated before that.

    MUL: the product of both differences; ``pair_shift`` must be 0.

    Members
    -------
    instruction : In(InstructionLayout)
        Held still.
    pair : In(20)
        The operand read first in the lower half, the other in the upper half.
    value : Out(signed(32))
        The sum at the common scale, or the product.
    """

    LATENCY = 7

    def __init__(self, config: AcceleratorConfig) -> None:
        super().__init__({"instruction": In(InstructionLayout), "pair": In(20), "value": Out(signed(32))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        i = self.instruction

        # 1: differences.
        first, other = _differences(m, self.pair, i)

        # 2, 3: products of 17 bits. MUL has the first operand where the multiplier of ADD stands, so far up that
        # nothing is left to round. 4: bits 10 and up of their sum.
        factor = Signal(signed(32))
        m.d.comb += factor.eq(Mux(i.pair_multiply, first << 11, i.pair_multiplier))
        low = multiply(m, "low", other, factor[:UNSIGNED_WIDTH])
        high = multiply(m, "high", other, factor[UNSIGNED_WIDTH:].as_signed())
        product = Signal(signed(31))
        m.d.sync += product.eq(((high << UNSIGNED_WIDTH) + low)[10:])

        # 5, 6: right shift. 7: rounding, and the sum.
        shifted, sign = shift_right(m, product, i.pair_shift, 32)
        up = shifted.rounds_up((i.rounding == Round.DOUBLE) & (i.pair_shift != 0), sign)
        half = delay(m, Mux(i.pair_multiply, 0, first), 5, "first").as_signed()
        m.d.sync += self.value.eq((half << 19) + shifted.value[1:].as_signed() + up)
        return m
