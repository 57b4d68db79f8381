"""A right shift with rounding, without an adder of its own."""

from dataclasses import dataclass

from amaranth import Cat, Module, Mux, Value, ValueLike

from zeropoint_hw.layout import delay

#: Cycles that :func:`shift_right` takes.
SHIFT_LATENCY = 2


@dataclass(frozen=True)
class ShiftedRight:
    """A number that is being shifted right, a power of two at a time, and what rounding needs of the bits below.

    Bit 0 is not part of the result: it is the uppermost of the bits that the shift leaves over.

    Attributes
    ----------
    value
        What is kept of the number.
    some, every
        Whether any, and whether all, of the bits that were shifted out at the bottom are 1.
    lost
        Whether bits other than the sign were dropped at the top.
    """

    value: Value
    some: ValueLike = 0
    every: ValueLike = 1
    lost: ValueLike = 0

    def shift(self, by: Value, distance: int, sign: Value) -> "ShiftedRight":
        """Return the number shifted by ``distance`` where ``by`` is set, with as many bits as there are then."""
        out, kept = self.value[:distance], len(self.value) - distance
        return ShiftedRight(
            Mux(by, self.value[distance:], self.value[:kept]),
            self.some | (by & out.any()),
            self.every & (~by | out.all()),
            self.lost | (~by & (self.value[kept:] != sign.replicate(distance))),
        )

    def rounds_up(self, twice: ValueLike, sign: Value) -> Value:
        """Return what is to be added to ``value[1:]``: 1 if it rounds up.

        Rounded once, ties go up. Rounded twice, first half up at bit 0, then half away from zero at the shift, which
        must not be 0, the bits left over must reach half a step, less one bit of the first rounding above zero and
        more than that below (docs/numerics.md, "Applying a multiplier").
        """
        return self.value[0] & (~twice | ~sign | self.some) | twice & ~sign & self.every

    def registered(self, m: Module, name: str) -> "ShiftedRight":
        """Return the same a cycle later."""
        parts = (self.value, self.some, self.every, self.lost)
        value, *flags = (delay(m, part, 1, f"{name}{index}") for index, part in enumerate(parts))
        return ShiftedRight(value, *flags)


def shift_right(m: Module, value: Value, by: Value, kept: int) -> tuple[ShiftedRight, Value]:
    """Return a signed number shifted by any ``by``, of 4 bits or more, and its sign, ``SHIFT_LATENCY`` cycles later.

    Of the result, the lowest ``kept`` bits are there, the first bit left over included.
    """
    sign = value[-1]
    coarse = ShiftedRight(Cat(value, sign.replicate(kept + (1 << len(by)) - 1 - len(value))))
    for bit in reversed(range(3, len(by))):
        coarse = coarse.shift(by[bit], 1 << bit, sign)
    coarse = coarse.registered(m, "coarse")
    by, sign = delay(m, by[:3], 1, "fine_shift"), delay(m, sign, 1, "sign")
    fine = coarse.shift(by[2], 4, sign).shift(by[1], 2, sign).shift(by[0], 1, sign).registered(m, "fine")
    return fine, delay(m, sign, 1, "late_sign")
