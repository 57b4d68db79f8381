"""Processing elements: one multiplication each, with the same ports."""

from amaranth import Cat, Module, Mux, Shape, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.barrel import ShiftProduct
from zeropoint_hw.config import CODE_BITS, AcceleratorConfig, PEKind
from zeropoint_hw.float_product import FloatProduct
from zeropoint_hw.lut_multiplier import LutMultiplier
from zeropoint_hw.multiplier import Multiplier

#: Activations and weights, extended by the sign or a zero, and their differences from a zero point.
OPERAND = signed(9)


def operand_shape(config: AcceleratorConfig) -> Shape:
    """Return the shape of an activation as PEs take it: 16-bit ones have no zero points, nor have signed bytes."""
    return OPERAND if config.element_bits == 8 and not config.byte_products else signed(config.element_bits)


class ProcessingElement(wiring.Component):
    """What every kind of PE promises: one product a cycle, :meth:`latency` cycles after its operands, never stalling.

    What all columns would do alike with an activation, the array does once for a lane: :meth:`operand`.

    Parameters
    ----------
    config
        Gives the width of a weight, and what its codes are.
    product_width
        Of the product.

    Members
    -------
    activation : In(operand_shape(config))
        What :meth:`operand` makes of the activation.
    weight : In(config.weight_bits)
        As it lies in the weight memory.
    weights_unsigned : In(1)
        Whether weights are uint8.
    weights_coded : In(1)
        Whether weights are codes of powers of two, where a kind knows both.
    weight_zero_point : In(signed(9))
        Held still.
    gate : In(1)
        Whether the weight stands for 0, for codes that have none.
    product : Out(signed(product_width))
        Their product, less ``carry``.
    carry : Out(1)
        What the adder tree is to add to ``product``.
    """

    #: Whether there is ever a carry.
    carries = False

    def __init__(self, config: AcceleratorConfig, product_width: int = 0) -> None:
        self._config = config
        self._operand = operand_shape(config)
        product_width = product_width or 2 * self._operand.width
        super().__init__(
            {
                "activation": In(self._operand),
                "weight": In(config.weight_bits),
                "weights_unsigned": In(1),
                "weights_coded": In(1),
                "weight_zero_point": In(OPERAND),
                "gate": In(1),
                "product": Out(signed(product_width)),
                "carry": Out(1),
            }
        )

    @classmethod
    def latency(cls, config: AcceleratorConfig) -> int:
        """Return the cycles from the operands to ``product``."""
        return Multiplier.LATENCY if config.dsp else 1 + LutMultiplier.latency_of(_factor_width(config))

    @staticmethod
    def operand(activation: Value, zero_point: Value) -> Value:
        """Return what the PEs take for an activation, extended to 9 bits: the difference from its zero point."""
        return activation - zero_point

    def _multiply(self, m: Module, weight: Value) -> None:
        """Multiply the activation by a signed number of :func:`_factor_width` bits."""
        if self._config.dsp:
            m.submodules.multiplier = multiplier = Multiplier(self._operand.width)
            m.d.comb += [multiplier.a.eq(self.activation), multiplier.b.eq(weight)]
        else:
            m.submodules.multiplier = multiplier = LutMultiplier(self._operand.width, _factor_width(self._config))
            # A DSP block has registers in front of its own.
            m.d.sync += [multiplier.a.eq(self.activation), multiplier.b.eq(weight)]
        m.d.comb += self.product.eq(multiplier.p)

    def _integer(self) -> Value:
        """Return the weight as a signed number."""
        if self._config.weight_zero_points:
            return extend(self.weight, self.weights_unsigned)
        return self.weight.as_signed()


class MacPE(ProcessingElement):
    """``(x − Zx) · (w − Zw)``."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._multiply(m, self._integer() - (self.weight_zero_point if self._config.weight_zero_points else 0))
        return m


class FoldPE(ProcessingElement):
    """``x · w``: the zero points' terms are in the bias, and in ``Zw · Σx``, which the drain subtracts."""

    @staticmethod
    def operand(activation: Value, zero_point: Value) -> Value:
        return activation

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._multiply(m, self._integer())
        return m


class ShiftPE(ProcessingElement):
    """``(x − Zx) · ±2^e``: the activation shifted by the weight's exponent code; no multiplier."""

    carries = True

    def __init__(self, config: AcceleratorConfig) -> None:
        super().__init__(config, OPERAND.width + (1 << config.code_exponent_bits) - 1)

    @classmethod
    def latency(cls, config: AcceleratorConfig) -> int:
        return ShiftProduct.latency_of(config.code_exponent_bits)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.product = product = ShiftProduct(config.code_exponent_bits, config.weight_zero, OPERAND.width)
        m.d.comb += [
            product.activation.eq(self.activation),
            product.code.eq(self.weight),
            product.gate.eq(self.gate),
            self.product.eq(product.product),
            self.carry.eq(product.carry),
        ]
        return m


class MixedPE(ProcessingElement):
    """``mac`` for the layers whose weights are integers; for codes, the multiplier is given the power of two."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        exponent_bits = CODE_BITS - 2
        exponent, negative, power = self.weight[:exponent_bits], self.weight[exponent_bits], self.weight[CODE_BITS - 1]
        magnitude = Signal(1 << exponent_bits)
        m.d.comb += magnitude.eq(power << exponent)
        decoded = Signal(OPERAND)
        m.d.comb += decoded.eq((Cat(magnitude, 0) ^ negative.replicate(OPERAND.width)).as_signed() + negative)
        integer = self._integer() - (self.weight_zero_point if self._config.weight_zero_points else 0)
        self._multiply(m, Mux(self.weights_coded, decoded, integer))
        return m


class MinifloatPE(ProcessingElement):
    """``x · w`` of minifloats, as an integer: significands multiplied, and the product shifted by both exponents.

    Activations lie in memory as integers in the order of what they stand for; the PEs take sign and magnitude. Weights
    have these in memory too. Unit of the product is that of the activations' format times that of the weights'.
    """

    carries = True

    def __init__(self, config: AcceleratorConfig) -> None:
        super().__init__(config, config.accumulator_widths[0])

    @classmethod
    def latency(cls, config: AcceleratorConfig) -> int:
        return FloatProduct.latency_of(config)

    @staticmethod
    def operand(activation: Value, zero_point: Value) -> Value:
        sign = activation[-1]
        magnitude = (activation ^ sign.replicate(len(activation))) + sign
        return Cat(magnitude[: OPERAND.width - 1], sign).as_signed()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.product = product = FloatProduct(self._config)
        m.d.comb += [
            product.activation.eq(Cat(self.activation[: self._config.activation_bits - 1], self.activation[-1])),
            product.weight.eq(self.weight),
            self.product.eq(product.product),
            self.carry.eq(product.carry),
        ]
        return m


def _factor_width(config: AcceleratorConfig) -> int:
    """Return the bits of what activations are multiplied by."""
    wide = config.weight_zero_points or config.pe is PEKind.MIXED
    return OPERAND.width if wide else config.weight_bits


def extend(byte: Signal, is_unsigned: Signal) -> Signal:
    """Return a number of 8 bits or fewer as a signed one of 9, whose top bits repeat its sign unless it is unsigned."""
    top = byte[-1] & ~is_unsigned
    return Cat(byte, top.replicate(OPERAND.width - len(byte))).as_signed()


#: The PE of each kind.
PROCESSING_ELEMENTS: dict[PEKind, type[MacPE] | type[FoldPE] | type[ShiftPE] | type[MixedPE] | type[MinifloatPE]] = {
    PEKind.MAC: MacPE,
    PEKind.FOLD: FoldPE,
    PEKind.SHIFT: ShiftPE,
    PEKind.MIXED: MixedPE,
    PEKind.MINIFLOAT: MinifloatPE,
}
