"""Sums of many terms, and of the carries that complete terms in one's complement."""

from collections.abc import Sequence

from amaranth import Cat, Const, Module, Signal, Value


def adder_tree(
    m: Module, terms: Sequence[Value], carries: Sequence[Value] | None, name: str
) -> tuple[Value, Value | None, int]:
    """Return the sum of signed terms, the carry that is left, and the sum's latency.

    Takes new terms in every cycle. There is a register after the last level of adders and after every second one before
    it, so that the latency is half the levels, rounded up. Where they are odd the first level is alone: terms that come
    from DSP blocks have a long way to their adders.

    Parameters
    ----------
    m
        Gets the adders and the registers.
    terms
        1, 2, 4, ... of them.
    carries
        As many single bits, each to be added to the sum, or None. Every adder takes one at its carry input. The one
        that is left is for the adder that takes the sum; it comes in the same cycle.
    name
        What the registers' names begin with.
    """
    if len(terms) < 1 or len(terms) & (len(terms) - 1):
        raise ValueError(f"terms must be a power of two, not {len(terms)}")
    if carries is not None and len(carries) != len(terms):
        raise ValueError(f"carries must be as many as terms, {len(terms)}, not {len(carries)}")
    sums, left = list(terms), list(carries or ())
    levels = (len(sums) - 1).bit_length()
    latency = level = 0
    while len(sums) > 1:
        level += 1
        pairs = zip(sums[::2], sums[1::2], strict=True)
        # Carries go in as early as adders can take them, for registers are what waiting costs.
        sums = [_sum(m, a, b) if carries is None else add_carry(a, b, left.pop()) for a, b in pairs]
        if (levels - level) % 2 == 0:
            latency += 1
            sums = [_registered(m, value, f"{name}_{level}_{index}") for index, value in enumerate(sums)]
            left = [_registered(m, value, f"{name}_{level}_carry{index}") for index, value in enumerate(left)]
    return sums[0], left[0] if left else None, latency


def add_carry(a: Value, b: Value, carry: Value) -> Value:
    """Return ``a + b + carry`` of signed numbers in one carry chain: a bit below the others sends the carry into it."""
    return (Cat(Const(1, 1), a).as_signed() + Cat(carry, b).as_signed())[1:].as_signed()


def _sum(m: Module, a: Value, b: Value) -> Value:
    """Return ``a + b``."""
    # Yosys makes one carry-save adder of adders behind each other, of nearly twice as many look-up tables, unless it
    # has to keep what is between them.
    total = Signal((a + b).shape(), attrs={"keep": 1})
    m.d.comb += total.eq(a + b)
    return total


def _registered(m: Module, value: Value, name: str) -> Signal:
    register = Signal(value.shape(), name=name)
    m.d.sync += register.eq(value)
    return register
