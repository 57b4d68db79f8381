"""Single PEs with an accumulator each, as they are compared outside an array."""

from amaranth import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.adder_tree import add_carry
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.pe import PROCESSING_ELEMENTS


class _Accumulating(wiring.Component):
    """Adds a product in every cycle; weights have no zero points.

    Parameters
    ----------
    config
        Gives the kind of PE, the width of weights and that of the accumulator.
    operand_bits
        Bits of an activation: 9 with its zero point subtracted, 8 where zero points are 0.

    Members
    -------
    activation : In(signed(operand_bits))
        The activation.
    weight : In(config.weight_bits)
        As it lies in the weight memory.
    total : Out(signed(accumulator_width))
        The sum.
    """

    def __init__(self, config: AcceleratorConfig, operand_bits: int = 9) -> None:
        self._config = config
        operand, total = signed(operand_bits), signed(config.accumulator_width)
        super().__init__({"activation": In(operand), "weight": In(config.weight_bits), "total": Out(total)})


class AccumulatingPE(_Accumulating):
    """The PE of an accelerator, and an accumulator."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.pe = pe = PROCESSING_ELEMENTS[self._config.pe](self._config)
        m.d.comb += [pe.activation.eq(self.activation), pe.weight.eq(self.weight)]
        total = add_carry(self.total, pe.product, pe.carry) if pe.carries else self.total + pe.product
        m.d.sync += self.total.eq(total)
        return m


class InferredMac(_Accumulating):
    """A multiplication left to synthesis, with registers around it, and an accumulator."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        a, b = Signal.like(self.activation), Signal(signed(len(self.weight)))
        product = Signal(signed(len(a) + len(b)))
        m.d.sync += [a.eq(self.activation), b.eq(self.weight), product.eq(a * b), self.total.eq(self.total + product)]
        return m
