"""A signed multiplier of look-up tables, for devices whose DSP blocks are too few."""

from collections.abc import Callable
from dataclasses import dataclass

from amaranth import Cat, Const, Instance, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.layout import delay


@dataclass(frozen=True)
class _Row:
    """``a`` where one bit of ``b`` is set: a partial product that is still to be formed."""

    a: Value
    bit: Value
    #: Whether it is the row of the sign, which counts negative.
    negative: bool
    rows: int = 1

    def value(self) -> Value:
        # No multiplexer with 0, which synthesis would make a reset of the register behind, one for each bit.
        return self.a & self.bit.replicate(len(self.a)).as_signed()

    def delayed(self, m: Module, name: str) -> "_Row":
        return _Row(delay(m, self.a, 1, f"{name}_a"), delay(m, self.bit, 1, f"{name}_bit"), self.negative)


@dataclass(frozen=True)
class _Sum:
    """The sum of some neighbouring rows, in units of the lowest one's weight."""

    number: Value
    rows: int
    negative = False

    def value(self) -> Value:
        return self.number

    def delayed(self, m: Module, name: str) -> "_Sum":
        return _Sum(delay(m, self.number, 1, name), self.rows)


class LutMultiplier(wiring.Component):
    """``p = a · b`` without a DSP block, one product a cycle, ``latency`` cycles after its operands.

    The rows of partial products, one for each bit of ``b``, are added in pairs, the sums in pairs again, and so on. On
    Lattice ECP5 (a platform whose ``device`` begins with LFE5) an adder forms partial products in the look-up tables of
    its own carry chain, so that two rows take no more than an adder.

    Unlike :class:`~zeropoint_hw.multiplier.Multiplier` it has no registers before the first adder.

    Parameters
    ----------
    a_width, b_width
        Bits of each signed operand, 2 or more. Let ``b`` be the narrower one.
    levels_per_stage
        How many adders a signal goes through from one register to the next. 1 is fastest, 2 takes half the flip-flops.

    Attributes
    ----------
    latency : int
        Cycles from the operands to the product.

    Members
    -------
    a : In(signed(a_width))
        An operand.
    b : In(signed(b_width))
        The other one.
    p : Out(signed(a_width + b_width))
        Their product.
    """

    def __init__(self, a_width: int, b_width: int, levels_per_stage: int = 2) -> None:
        if a_width < 2 or b_width < 2:
            raise ValueError(f"operands must have 2 bits or more, not {a_width!r} and {b_width!r}")
        if levels_per_stage < 1:
            raise ValueError(f"levels_per_stage must be 1 or more, not {levels_per_stage!r}")
        self._levels_per_stage = levels_per_stage
        self.latency = self.latency_of(b_width, levels_per_stage)
        super().__init__(
            {"a": In(signed(a_width)), "b": In(signed(b_width)), "p": Out(signed(a_width + b_width))},
        )

    @staticmethod
    def latency_of(b_width: int, levels_per_stage: int = 2) -> int:
        """Return the cycles from the operands to the product, for the array that reckons with them."""
        return -(-(b_width - 1).bit_length() // levels_per_stage)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        add = _add_in_carry_chain if str(getattr(platform, "device", "")).startswith("LFE5") else _add
        top = len(self.b) - 1
        operands: list[_Row | _Sum] = [_Row(self.a, self.b[bit], bit == top) for bit in range(top + 1)]
        level = 0
        while len(operands) > 1:
            level += 1
            name = f"level{level}"
            sums: list[_Row | _Sum] = []
            for index in range(0, len(operands) - 1, 2):
                low, high = operands[index : index + 2]
                # A product's bits are its operands' bits together, and so are those of each sum of rows.
                total = Signal(signed(len(self.a) + low.rows + high.rows), name=f"{name}_{index}")
                add(m, total, low, high, f"{name}_{index}")
                sums.append(_Sum(total, low.rows + high.rows))
            operands = sums + operands[len(sums) * 2 :]
            if level % self._levels_per_stage == 0 or len(operands) == 1:
                operands = [operand.delayed(m, f"{name}_late{index}") for index, operand in enumerate(operands)]
        m.d.comb += self.p.eq(operands[0].value())
        return m


def _add(m: Module, total: Signal, low: _Row | _Sum, high: _Row | _Sum, name: str) -> None:
    """Let ``total`` be the sum of neighbouring rows."""
    # As it is to be kept, synthesis makes an adder of it, and none of more terms in carry-save form.
    total.attrs["keep"] = 1
    above = Signal(signed(len(total) - low.rows), name=f"{name}_above")
    base = low.value() >> low.rows
    m.d.comb += above.eq(base - high.value() if high.negative else base + high.value())
    m.d.comb += total.eq(Cat(low.value()[: low.rows], above))


def _add_in_carry_chain(m: Module, total: Signal, low: _Row | _Sum, high: _Row | _Sum, name: str) -> None:
    """Let ``total`` be the sum of neighbouring rows, by the carry chain of ECP5.

    A bit of CCU2C has a look-up table of four inputs, whose output tells whether the carry goes on; where it does not,
    the carry is what the table says of the first two inputs, the others being 0.
    """
    width = len(total) - low.rows
    bits: list[tuple[int, tuple[Value, ...]]] = []
    if isinstance(low, _Row):
        assert isinstance(high, _Row)
        sign = int(high.negative)
        table = _table(lambda a, b, c, d: (a & b) ^ ((c ^ sign) & d))
        for bit in range(width):
            bits.append((table, (_bit(low.a, bit + 1), low.bit, _bit(high.a, bit), high.bit)))
    elif isinstance(high, _Row):
        sign = int(high.negative)
        table = _table(lambda a, b, c, d: a ^ ((b ^ sign) & c), lambda a, b: a)
        for bit in range(width):
            bits.append((table, (_bit(low.number, bit + low.rows), _bit(high.a, bit), high.bit, Const(1, 1))))
    else:
        table = _table(lambda a, b, c, d: a ^ b, lambda a, b: a)
        for bit in range(width):
            bits.append((table, (_bit(low.number, bit + low.rows), _bit(high.number, bit), *_TIED)))
    # −a is ~a + 1, which is the carry into the chain.
    carry = high.bit if isinstance(high, _Row) and high.negative else Const(0, 1)
    above = Signal(signed(width), name=f"{name}_above")
    _carry_chain(m, above, carry, bits, name)
    m.d.comb += total.eq(Cat(low.value()[: low.rows], above))


#: The inputs that a table with only two leaves: with the last one 1, they are told from those of the carry.
_TIED = (Const(0, 1), Const(1, 1))


def _bit(value: Value, index: int) -> Value:
    """Return a bit of a signed number, whose sign goes on."""
    return value[min(index, len(value) - 1)]


def _table(propagate: Callable[[int, int, int, int], int], generate: Callable[[int, int], int] | None = None) -> int:
    """Return the look-up table of a bit of CCU2C; with ``generate``, the fourth input is to be 1."""
    table = 0
    for index in range(16):
        a, b, c, d = (index >> place & 1 for place in range(4))
        table |= (generate(a, b) if generate and not d else propagate(a, b, c, d)) << index
    return table


def _carry_chain(m: Module, sums: Signal, carry: Value, bits: list[tuple[int, tuple[Value, ...]]], name: str) -> None:
    """Chain CCU2C, two bits each."""
    if len(bits) % 2:
        bits = [*bits, (0, (Const(0, 1),) * 4)]
    for index in range(0, len(bits), 2):
        ports = {"i_CIN": carry}
        for place, (_, inputs) in enumerate(bits[index : index + 2]):
            ports.update({f"i_{port}{place}": value for port, value in zip("ABCD", inputs, strict=True)})
            if index + place < len(sums):
                ports[f"o_S{place}"] = sums[index + place]
        if index + 2 < len(bits):
            carry = Signal(name=f"{name}_carry{index}")
            ports["o_COUT"] = carry
        m.submodules[f"{name}_{index}"] = Instance(
            "CCU2C",
            p_INIT0=Const(bits[index][0], 16),
            p_INIT1=Const(bits[index + 1][0], 16),
            p_INJECT1_0="NO",
            p_INJECT1_1="NO",
            **ports,
        )
