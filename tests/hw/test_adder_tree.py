import numpy as np
import pytest
from amaranth import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from support.gateware import packed, refused, rows_of

from zeropoint_hw.adder_tree import add_carry, adder_tree
from zeropoint_sim.bench import run_bench

#: Terms, and the latency that the array counts on.
LATENCIES = [(1, 0), (2, 1), (4, 1), (8, 2), (16, 2), (32, 3), (64, 3)]


class Tree(wiring.Component):
    """A tree with its terms and carries as ports; ``total`` is the sum and the carry that is left."""

    def __init__(self, terms, width, carries):
        self._width = width
        self._with_carries = carries
        self.latency = None
        super().__init__(
            {"terms": In(terms * width), "carries": In(terms), "total": Out(signed(40)), "sum": Out(signed(40))}
        )

    def elaborate(self, platform):
        m = Module()
        count = len(self.carries)
        terms = [self.terms.word_select(index, self._width).as_signed() for index in range(count)]
        carries = [self.carries[index] for index in range(count)] if self._with_carries else None
        total, left, self.latency = adder_tree(m, terms, carries, "tree")
        assert len(total) == self._width + (count - 1).bit_length()
        assert (left is None) != self._with_carries
        m.d.comb += [self.sum.eq(total), self.total.eq(total + (0 if left is None else left))]
        # The simulator wants a clock even where a tree of one term has none.
        clocked = Signal()
        m.d.sync += clocked.eq(~clocked)
        return m


def sums(terms, carries, width, latency, with_carries=True):
    """Put a row of terms and carries a cycle into a tree; return its totals, and its sums without the carry left."""
    dut = Tree(terms.shape[1], width, with_carries)
    rows = [(packed(row, width), packed(bits, 1)) for row, bits in zip(terms, carries, strict=True)]
    got = []

    async def bench(ctx):
        for cycle, (row, bits) in enumerate([*rows, *[(0, 0)] * latency]):
            ctx.set(dut.terms, row)
            ctx.set(dut.carries, bits)
            if cycle >= latency:
                # Where there is no register, in the same cycle.
                await ctx.delay(1e-9)
                got.append((ctx.get(dut.total), ctx.get(dut.sum)))
            await ctx.tick()

    run_bench(dut, bench, deadline=len(rows) + 10)
    assert dut.latency == latency
    return np.array(got).T


def operands(count, width, rng):
    """Random terms and carries, after rows of the least and greatest ones that there are."""
    low, high = -(1 << width - 1), (1 << width - 1) - 1
    terms = np.concatenate(
        [np.full((2, count), low), np.full((2, count), high), rng.integers(low, high + 1, (40, count))]
    )
    carries = np.concatenate([np.tile([[0], [1]], (2, count)), rng.integers(0, 2, (40, count))])
    return terms, carries


@pytest.mark.parametrize("width", [9, 16])
@pytest.mark.parametrize("with_carries", [False, True])
@pytest.mark.parametrize(("count", "latency"), LATENCIES)
def test_sums(count, latency, width, with_carries):
    terms, carries = operands(count, width, np.random.default_rng(count))
    total, _ = sums(terms, carries, width, latency, with_carries)
    np.testing.assert_array_equal(total, terms.sum(1) + (carries.sum(1) if with_carries else 0))


@pytest.mark.parametrize(("count", "latency"), LATENCIES)
def test_one_carry_is_left(count, latency):
    terms, carries = operands(count, 12, np.random.default_rng(1))
    total, tree = sums(terms, carries, 12, latency)
    left = total - tree
    assert set(left.tolist()) == {0, 1}
    np.testing.assert_array_equal(tree, terms.sum(1) + carries.sum(1) - left)


def test_a_dropped_carry_and_a_wrong_term_are_seen():
    terms, carries = operands(8, 12, np.random.default_rng(2))
    total, _ = sums(terms, carries, 12, 2)
    for lane in range(8):
        for wrong in (terms, carries):
            changed = wrong.copy()
            changed[5, lane] ^= 1
            expected = (changed if wrong is terms else terms).sum(1) + (changed if wrong is carries else carries).sum(1)
            with pytest.raises(AssertionError, match="Mismatched elements: 1 / 44"):
                np.testing.assert_array_equal(total, expected)


def test_add_carry():
    a, b, carry = np.stack(np.meshgrid(np.arange(-8, 8), np.arange(-4, 4), [0, 1]), -1).reshape(-1, 3).T
    m = Module()
    left, right, bit, total = Signal(signed(4)), Signal(signed(3)), Signal(), Signal(signed(5))
    m.d.comb += total.eq(add_carry(left, right, bit))
    m.d.sync += Signal().eq(1)
    got = []

    async def bench(ctx):
        for values in rows_of(a, b, carry):
            for signal, value in zip((left, right, bit), values, strict=True):
                ctx.set(signal, value)
            await ctx.delay(1e-9)
            got.append(ctx.get(total))

    run_bench(m, bench, deadline=10)
    np.testing.assert_array_equal(got, a + b + carry)


@pytest.mark.parametrize("count", [0, 3, 12])
def test_the_number_of_terms_is_validated(count):
    with refused(ValueError, f"^terms must be a power of two, not {count}$"):
        adder_tree(Module(), [Signal(signed(4)) for _ in range(count)], None, "tree")


def test_the_number_of_carries_is_validated():
    terms = [Signal(signed(4)) for _ in range(4)]
    with refused(ValueError, r"^carries must be as many as terms, 4, not 3$"):
        adder_tree(Module(), terms, [Signal() for _ in range(3)], "tree")
