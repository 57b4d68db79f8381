"""Products of minifloats, as integers."""

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.layout import delay
from zeropoint_hw.lut_multiplier import LutMultiplier
from zeropoint_hw.multiplier import Multiplier


class FloatProduct(wiring.Component):
    """The exact product of two minifloats in units of both formats' least values, in one's complement.

    One product a cycle, ``latency`` cycles after its operands: ``product + carry``. The 1 that completes a negation is
    left to the adder behind, whose carry input is free. Codes are those of docs/formats.md: sign, exponent field,
    mantissa.

    Parameters
    ----------
    config
        Gives both formats, and whether significands are multiplied by a DSP block.

    Attributes
    ----------
    latency : int
        Cycles from the operands to the product.

    Members
    -------
    activation : In(config.activation_bits)
        A code.
    weight : In(config.weight_bits)
        A code.
    product : Out(signed(config.accumulator_widths[0]))
        Their product, less 1 if it is negative.
    carry : Out(1)
        What is to be added to it.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        self.latency = self.latency_of(config)
        super().__init__(
            {
                "activation": In(config.activation_bits),
                "weight": In(config.weight_bits),
                "product": Out(signed(config.accumulator_widths[0])),
                "carry": Out(1),
            }
        )

    @staticmethod
    def latency_of(config: AcceleratorConfig) -> int:
        """Return the cycles from the operands to the product, for the array that reckons with them."""
        # The sum of two exponent fields has a bit more than each, and each two of its bits a register.
        return _multiplier_latency(config) + (config.exponent_bits + 2) // 2

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        narrow, wide = sorted(1 + bits for bits in config.significand_bits)
        multiplier: Multiplier | LutMultiplier = Multiplier(wide) if config.dsp else LutMultiplier(wide, narrow)
        m.submodules.multiplier = multiplier
        (first, first_shift), (second, second_shift) = (self._parts(code) for code in (self.activation, self.weight))
        if len(first) < len(second):
            first, second = second, first
        # A DSP block has registers in front of its own.
        m.d.comb += [
            multiplier.a.eq(delay(m, first, not config.dsp, "first")),
            multiplier.b.eq(delay(m, second, not config.dsp, "second")),
        ]
        distance = Signal(config.exponent_bits + 1)
        m.d.sync += distance.eq(first_shift + second_shift)
        by = delay(m, distance, _multiplier_latency(config) - 1, "distance")
        negative = delay(m, self.activation[-1] ^ self.weight[-1], _multiplier_latency(config), "negative")

        shifted: Value = multiplier.p[: len(first) + len(second)]
        for level in range(len(by)):
            # Of two levels the second has a register behind it; the last one has the sign before that.
            wider = Signal(min(len(shifted) + (1 << level), len(self.product) - 1), name=f"shifted{level}")
            m.d.comb += wider.eq(Mux(by[level], shifted << (1 << level), shifted))
            shifted = wider
            if (len(by) - 1 - level) % 2 == 0 and level != len(by) - 1:
                shifted, by, negative = (
                    delay(m, value, 1, f"{name}{level}")
                    for value, name in ((shifted, "late"), (by, "by"), (negative, "negative"))
                )
        m.d.sync += [
            self.product.eq(Cat(shifted, 0) ^ negative.replicate(len(self.product))),
            self.carry.eq(negative),
        ]
        return m

    def _parts(self, code: Value) -> tuple[Value, Value]:
        """Return a code's significand, and the binary exponent that its unit has."""
        mantissa_bits = len(code) - 1 - self._config.exponent_bits
        field = code[mantissa_bits:-1]
        normal = field.any()
        return Cat(code[:mantissa_bits], normal), field - normal


def _multiplier_latency(config: AcceleratorConfig) -> int:
    return Multiplier.LATENCY if config.dsp else 1 + LutMultiplier.latency_of(1 + min(config.significand_bits))
