"""The requantizer of minifloats: wide sums of products, rounded once to the nearest minifloat."""

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.layout import InstructionLayout, ParameterLayout, clamp_ends, delay


class MinifloatRequantizerLane(wiring.Component):
    """``clamp(nearest((value + bias · 2^multiplier) · 2^shift))``, one a cycle, no stalls.

    ``nearest`` is the minifloat of ``config.activation_bits`` and ``config.exponent_bits`` nearest to a number of its
    units, ties to even, saturated; what comes out is the integer that stands for it in memory. Nothing is lost before
    that: the sum must fit ``config.value_width + 1`` bits, which the compiler sees to.
    ``zeropoint.numerics.minifloat.requantize`` defines the bits.

    Parameters
    ----------
    config
        Gives the format and the width of sums.

    Attributes
    ----------
    latency : int
        Cycles from the operands to the result.

    Members
    -------
    instruction : In(InstructionLayout)
        The clamp; held still.
    value : In(signed(config.value_width))
        The sum of products.
    parameters : In(ParameterLayout)
        The channel's: its bias, that bias' left shift as ``multiplier``, and ``shift``, which is 1 at most.
    result : Out(8)
        Activation.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._mantissa_bits = config.activation_bits - 1 - config.exponent_bits
        self._magnitude_bits = config.activation_bits - 1
        self._width = config.value_width + 1
        # Bits of a distance that shifts out all of a sum, and of what is kept below it.
        self._count_bits = (self._width + 2).bit_length()
        #: Left shift of the bias; sum; magnitude; its length; distance (2); right shift; rounding; saturation; clamp.
        self.latency = 2 * self._stages + self._searches + 7
        super().__init__(
            {
                "instruction": In(InstructionLayout),
                "value": In(signed(config.value_width)),
                "parameters": In(ParameterLayout),
                "result": Out(8),
            }
        )

    @property
    def _stages(self) -> int:
        """Registers within a shift of any distance: one after every second level, and after the last."""
        return (self._count_bits + 1) // 2

    @property
    def _searches(self) -> int:
        """Registers within the search for the highest bit: one for each level, but for the last three together."""
        return self._count_bits - 2

    def elaborate(self, platform: object) -> Module:
        m = Module()
        stages, searches = self._stages, self._searches

        # The bias at the unit of the sum; the sum; its magnitude.
        bias = Signal(signed(self._width))
        m.d.comb += bias.eq(self.parameters.bias)
        by = self.parameters.multiplier[: self._count_bits]
        for level in range(self._count_bits):
            shifted = Signal(signed(self._width), name=f"bias{level}")
            m.d.comb += shifted.eq(Mux(by[level], bias << (1 << level), bias))
            bias = shifted
            if (self._count_bits - 1 - level) % 2 == 0:
                bias, by = delay(m, bias, 1, f"late_bias{level}").as_signed(), delay(m, by, 1, f"by{level}")
        total, magnitude = Signal(signed(self._width)), Signal(self._width)
        m.d.sync += total.eq(delay(m, self.value, stages, "value").as_signed() + bias)
        m.d.sync += magnitude.eq((total ^ total[-1].replicate(self._width)) + total[-1])
        negative = delay(m, total[-1], 1, "negative")

        # The place of its highest bit, from the highest bit of that place down; at last that bit itself.
        rest: Value = Cat(magnitude, 0)
        place: Value = Cat()
        for level in reversed(range(self._count_bits)):
            upper = rest[1 << level :]
            there = upper.any()
            narrower = Signal(1 << level, name=f"rest{level}")
            m.d.comb += narrower.eq(Mux(there, upper, rest[: 1 << level]))
            rest, place = narrower, Cat(there, place)
            if level > 2 or level == 0:
                rest, place = delay(m, rest, 1, f"late_rest{level}"), delay(m, place, 1, f"place{level}")

        # How far right it is shifted: as far as the highest bit lies above a significand's, which gives the exponent's
        # field, but no less than the unit of subnormal numbers wants, whose field is as good as 0. One more than that,
        # since two bits more are kept on the right.
        shape = signed(max(self._count_bits, len(self.parameters.shift)) + 2)
        above, least = Signal(shape), Signal(shape)
        m.d.sync += [above.eq(self.parameters.shift - self._mantissa_bits), least.eq(1 - self.parameters.shift)]
        above = delay(m, above, stages + searches + 1, "above").as_signed()
        least = delay(m, least, stages + searches + 2, "least")
        found, normal, exponent = Signal(shape), Signal(shape.width), Signal(shape.width)
        is_normal = delay(m, rest, 1, "there") & ~found[-1]
        right = Signal(shape.width)
        m.d.sync += [
            found.eq(place + above),
            normal.eq(place - (self._mantissa_bits - 1)),
            right.eq(Mux(is_normal, normal, least)),
            exponent.eq(Mux(is_normal, found, 0)),
        ]

        # The significand, a bit below it, and whether there is anything below that.
        value: Value = Cat(0, 0, delay(m, magnitude, searches + 2, "magnitude"))
        some: Value = Cat(0)
        # Beyond all bits there is nothing but what lies below the last one.
        far = Signal()
        m.d.comb += far.eq(right[self._count_bits :].any())
        by = Mux(far, ~0, right)[: self._count_bits]
        for level in reversed(range(self._count_bits)):
            kept = min(len(value), self._mantissa_bits + 2 + (1 << level) - 1)
            narrower = Signal(kept, name=f"value{level}")
            more = Signal(name=f"some{level}")
            m.d.comb += [
                narrower.eq(Mux(by[level], value >> (1 << level), value)),
                more.eq(some | (by[level] & value[: 1 << level].any())),
            ]
            value, some = narrower, more
            if level % 2 == 0:
                value, some, by = (
                    delay(m, each, 1, f"{name}{level}")
                    for each, name in ((value, "late_value"), (some, "late_some"), (by, "right"))
                )

        # Rounding; a carry out of the significand goes into the field, where it belongs.
        exponent = delay(m, exponent, stages, "exponent")
        rounds_up = value[0] & (some | value[1])
        rounded = Signal(len(exponent) + self._mantissa_bits)
        m.d.sync += rounded.eq((exponent << self._mantissa_bits) + value[1:] + rounds_up)
        greatest = (1 << self._magnitude_bits) - 1
        signed_code = Signal(signed(9))
        negative = delay(m, negative, stages + searches + 3, "late_negative")
        code = Mux(rounded > greatest, greatest, rounded[: self._magnitude_bits])
        m.d.sync += signed_code.eq((code ^ negative.replicate(9)).as_signed() + negative)
        i = self.instruction
        low_end, high_end = clamp_ends(i, 9)
        below, above = signed_code < low_end, signed_code > high_end
        m.d.sync += self.result.eq(Mux(below, low_end, Mux(above, high_end, signed_code)))
        return m
