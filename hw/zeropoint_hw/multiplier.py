"""A signed multiplier with registers before and after it, as a DSP block has them."""

from amaranth import ClockSignal, Instance, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

#: What MULT18X18D multiplies.
_ECP5_WIDTH = 18


#: Bits of an operand without a sign that :class:`Multiplier` takes.
UNSIGNED_WIDTH = _ECP5_WIDTH - 1


class Multiplier(wiring.Component):
    """``p = a · b``, one product a cycle, ``LATENCY`` cycles after its operands.

    On Lattice ECP5 (a platform whose ``device`` begins with LFE5) it is a MULT18X18D with its own registers, which
    synthesis would leave unused; elsewhere synthesis infers what the device has. Both compute the same.

    Parameters
    ----------
    width
        Bits of each signed operand, up to 18.

    Members
    -------
    a, b : In(signed(width))
        Operands.
    p : Out(signed(2 · width))
        Their product.
    """

    LATENCY = 2

    def __init__(self, width: int) -> None:
        if not 1 <= width <= _ECP5_WIDTH:
            raise ValueError(f"width must be 1 to {_ECP5_WIDTH}, not {width!r}")
        super().__init__({"a": In(signed(width)), "b": In(signed(width)), "p": Out(signed(2 * width))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if str(getattr(platform, "device", "")).startswith("LFE5"):
            self._instantiate(m)
        else:
            a, b = Signal.like(self.a), Signal.like(self.b)
            m.d.sync += [a.eq(self.a), b.eq(self.b), self.p.eq(a * b)]
        return m

    def _instantiate(self, m: Module) -> None:
        a, b = Signal(signed(_ECP5_WIDTH)), Signal(signed(_ECP5_WIDTH))
        p = Signal(2 * _ECP5_WIDTH)
        m.d.comb += [a.eq(self.a), b.eq(self.b), self.p.eq(p)]
        registers = {
            f"p_REG_{stage}_{what}": name
            for stage, clocked in (
                ("INPUTA", True),
                ("INPUTB", True),
                ("INPUTC", False),
                ("PIPELINE", False),
                ("OUTPUT", True),
            )
            for what, name in (("CLK", "CLK0" if clocked else "NONE"), ("CE", "CE0"), ("RST", "RST0"))
        }
        m.submodules.dsp = Instance(
            "MULT18X18D",
            **registers,
            p_GSR="DISABLED",
            i_CLK0=ClockSignal(),
            i_CE0=1,
            i_RST0=0,
            i_SIGNEDA=1,
            i_SIGNEDB=1,
            i_SOURCEA=0,
            i_SOURCEB=0,
            **{f"i_A{bit}": a[bit] for bit in range(_ECP5_WIDTH)},
            **{f"i_B{bit}": b[bit] for bit in range(_ECP5_WIDTH)},
            **{f"o_P{bit}": p[bit] for bit in range(2 * _ECP5_WIDTH)},
        )


def multiply(m: Module, name: str, a: Value, b: Value) -> Value:
    """Return ``a · b`` of the widest operands, signed or not, ``Multiplier.LATENCY`` cycles later."""
    m.submodules[name] = multiplier = Multiplier(_ECP5_WIDTH)
    m.d.comb += [multiplier.a.eq(a), multiplier.b.eq(b)]
    return multiplier.p
