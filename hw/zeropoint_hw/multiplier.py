"""Signed multipliers with registers before and after them, as a DSP block has them."""

from collections.abc import Sequence

from amaranth import ClockSignal, Const, Instance, Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

#: What MULT18X18D multiplies.
_ECP5_WIDTH = 18


#: What half an SB_MAC16 multiplies.
_ICE40_WIDTH = 8

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


class MultiplierPair(wiring.Component):
    """Two products of signed bytes, ``p[n] = a[n] · b[n]``, one of each a cycle, ``LATENCY`` cycles after the operands.

    On Lattice iCE40 UltraPlus (a platform whose ``device`` begins with iCE40UP) both are one SB_MAC16, whose halves are
    then two multipliers; elsewhere each is a :class:`Multiplier`.

    Members
    -------
    a, b : In(ArrayLayout(signed(8), 2))
        Operands.
    p : Out(ArrayLayout(signed(16), 2))
        Their products.
    """

    LATENCY = Multiplier.LATENCY

    def __init__(self) -> None:
        operands, results = (data.ArrayLayout(signed(bits * _ICE40_WIDTH), 2) for bits in (1, 2))
        super().__init__({"a": In(operands), "b": In(operands), "p": Out(results)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if str(getattr(platform, "device", "")).startswith("iCE40UP"):
            self._instantiate(m)
            return m
        for half in range(2):
            m.submodules[f"half{half}"] = multiplier = Multiplier(_ICE40_WIDTH)
            m.d.comb += [
                multiplier.a.eq(self.a[half]),
                multiplier.b.eq(self.b[half]),
                self.p[half].eq(multiplier.p),
            ]
        return m

    def _instantiate(self, m: Module) -> None:
        # Registers are those of the operands A and B and of both products, which are the outputs; adders, and the
        # operands C and D, stay out of it.
        m.submodules.dsp = Instance(
            "SB_MAC16",
            p_MODE_8x8=Const(1, 1),
            p_A_SIGNED=Const(1, 1),
            p_B_SIGNED=Const(1, 1),
            p_A_REG=Const(1, 1),
            p_B_REG=Const(1, 1),
            p_TOP_8x8_MULT_REG=Const(1, 1),
            p_BOT_8x8_MULT_REG=Const(1, 1),
            p_TOPOUTPUT_SELECT=Const(2, 2),
            p_BOTOUTPUT_SELECT=Const(2, 2),
            i_CLK=ClockSignal(),
            i_CE=Const(1, 1),
            i_A=self.a.as_value(),
            i_B=self.b.as_value(),
            i_C=Const(0, 16),
            i_D=Const(0, 16),
            **{f"i_{name}": Const(0, 1) for name in _ICE40_UNUSED},
            o_O=self.p.as_value(),
        )


#: Inputs of SB_MAC16 that hold, clear or load its registers, choose between adding and subtracting, or chain blocks.
_ICE40_UNUSED = (
    *("AHOLD", "BHOLD", "CHOLD", "DHOLD", "IRSTTOP", "IRSTBOT", "ORSTTOP", "ORSTBOT", "OLOADTOP", "OLOADBOT"),
    *("ADDSUBTOP", "ADDSUBBOT", "OHOLDTOP", "OHOLDBOT", "CI", "ACCUMCI", "SIGNEXTIN"),
)


def byte_products(m: Module, operands: Sequence[tuple[Value, Value]], name: str) -> list[Value]:
    """Return the products of pairs of signed bytes, ``MultiplierPair.LATENCY`` cycles later."""
    products: list[Value] = []
    for first in range(0, len(operands), 2):
        m.submodules[f"{name}{first // 2}"] = pair = MultiplierPair()
        for half, (a, b) in enumerate(operands[first : first + 2]):
            m.d.comb += [pair.a[half].eq(a), pair.b[half].eq(b)]
            products.append(pair.p[half])
    return products


def multiply(m: Module, name: str, a: Value, b: Value) -> Value:
    """Return ``a · b`` of the widest operands, signed or not, ``Multiplier.LATENCY`` cycles later."""
    m.submodules[name] = multiplier = Multiplier(_ECP5_WIDTH)
    m.d.comb += [multiplier.a.eq(a), multiplier.b.eq(b)]
    return multiplier.p
