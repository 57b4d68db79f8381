"""Processing elements: one multiplication each, with the same ports."""

from amaranth import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.config import PEKind
from zeropoint_hw.multiplier import Multiplier

#: Activations and weights, extended by the sign or a zero, and their differences from a zero point.
OPERAND = signed(9)
PRODUCT = signed(18)


class ProcessingElement(wiring.Component):
    """What every kind of PE promises: one product a cycle, ``LATENCY`` cycles after its operands, never stalling.

    The array subtracts the activations' zero point once for a lane, where the kind says so
    (:attr:`subtracts_input_zero_point`).

    Members
    -------
    activation : In(signed(9))
        The activation, its zero point subtracted if so agreed.
    weight : In(8)
        As it lies in the weight memory.
    weights_unsigned : In(1)
        Whether weights are uint8.
    weight_zero_point : In(signed(9))
        Held still.
    product : Out(signed(18))
        Their product.
    """

    #: Cycles from the operands to ``product``.
    LATENCY = Multiplier.LATENCY

    #: Whether activations come with their zero point subtracted.
    subtracts_input_zero_point = True

    def __init__(self) -> None:
        super().__init__(
            {
                "activation": In(OPERAND),
                "weight": In(8),
                "weights_unsigned": In(1),
                "weight_zero_point": In(OPERAND),
                "product": Out(PRODUCT),
            }
        )

    def _multiply(self, m: Module, weight: Signal) -> None:
        m.submodules.multiplier = multiplier = Multiplier(OPERAND.width)
        m.d.comb += [multiplier.a.eq(self.activation), multiplier.b.eq(weight), self.product.eq(multiplier.p)]

    def _extended_weight(self) -> Signal:
        """Return the weight as a signed number of 9 bits."""
        return extend(self.weight, self.weights_unsigned)


class MacPE(ProcessingElement):
    """``(x − Zx) · (w − Zw)``."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._multiply(m, self._extended_weight() - self.weight_zero_point)
        return m


class FoldPE(ProcessingElement):
    """``x · w``: the zero points' terms are in the bias, and in ``Zw · Σx``, which the drain subtracts."""

    subtracts_input_zero_point = False

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._multiply(m, self._extended_weight())
        return m


def extend(byte: Signal, is_unsigned: Signal) -> Signal:
    """Return a byte as a signed number of 9 bits, whose top bit repeats its sign unless it is unsigned."""
    return Cat(byte, byte[7] & ~is_unsigned).as_signed()


#: The PE of each kind.
PROCESSING_ELEMENTS: dict[PEKind, type[ProcessingElement]] = {PEKind.MAC: MacPE, PEKind.FOLD: FoldPE}
