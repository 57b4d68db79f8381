"""Products with powers of two: a barrel shifter where others have a multiplier."""

from amaranth import Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.layout import delay

#: What an adder tree and an accumulator can still take.
_MOST_EXPONENT_BITS = 3


class ShiftProduct(wiring.Component):
    """An activation times a power of two, in one's complement: one product a cycle, ``latency`` cycles later.

    ``product + carry`` is the activation, shifted left by the code's exponent field, or its negative where the code's
    sign says so. The 1 that completes a negation is left to the adder behind, whose carry input is free. Codes are
    those of docs/formats.md; one that it gives no meaning gives a product without one.

    Parameters
    ----------
    exponent_bits
        Bits of the code's exponent field, 0 to 3.
    zero
        Whether the format has a 0: its codes then have a further highest bit, which tells the powers of two.
    operand_width
        Bits of the activation.

    Attributes
    ----------
    latency : int
        Cycles from the operands to the product.

    Members
    -------
    activation : In(signed(operand_width))
        The activation, its zero point subtracted.
    code : In(zero + 1 + exponent_bits)
        The weight.
    gate : In(1)
        Force the product to 0: for formats without a 0, where a weight stands for nothing.
    product : Out(signed(operand_width + 2^exponent_bits − 1))
        The shifted activation, all of its bits inverted where it is to be negative.
    carry : Out(1)
        What is to be added to ``product``. A product that is 0 by its code or by ``gate`` has none.
    """

    def __init__(self, exponent_bits: int, zero: bool, operand_width: int = 9) -> None:
        if not 0 <= exponent_bits <= _MOST_EXPONENT_BITS:
            raise ValueError(f"exponent_bits must be 0 to {_MOST_EXPONENT_BITS}, not {exponent_bits!r}")
        if operand_width < 1:
            raise ValueError(f"operand_width must be 1 or more, not {operand_width!r}")
        self._exponent_bits = exponent_bits
        self._zero = zero
        self.latency = self.latency_of(exponent_bits)
        super().__init__(
            {
                "activation": In(signed(operand_width)),
                "code": In(zero + 1 + exponent_bits),
                "gate": In(1),
                "product": Out(signed(operand_width + (1 << exponent_bits) - 1)),
                "carry": Out(1),
            }
        )

    @staticmethod
    def latency_of(exponent_bits: int) -> int:
        """Return the cycles from the operands to the product, for the array that reckons with them."""
        # Three multiplexers in a row are the longest path of a PE.
        return 2 if exponent_bits > 2 else 1

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = self._exponent_bits
        field = self.code[:bits]
        # The sign of a code for 0 is 0.
        negative = self.code[bits] & ~self.gate
        power = ~self.gate & (self.code[bits + 1] if self._zero else Const(1, 1))

        # A look-up table has four inputs: a multiplexer, and the sign in the last level or the gate in the one before.
        # A single level has no room for both, which leaves the gate to the flip-flops' reset.
        shifted: Value = self.activation
        early_gate = bits != 1
        for level in range(bits):
            if level == 2:
                shifted, field, negative = (
                    delay(m, value, 1, name)
                    for name, value in (("shifted", shifted), ("field", field), ("negative", negative))
                )
            wider = Signal(signed(len(shifted) + (1 << level)), name=f"shifted{level}")
            value = Mux(field[level], shifted << (1 << level), shifted)
            m.d.comb += wider.eq(Mux(power, value, 0) if level == bits - 2 else value)
            shifted = wider
        if bits == 0:
            shifted = Mux(power, shifted, 0)
        inverted = shifted ^ negative.replicate(len(self.product))
        m.d.sync += self.product.eq(inverted if early_gate else Mux(power, inverted, 0))
        m.d.sync += self.carry.eq(negative)
        return m
