import numpy as np
import pytest
from support.gateware import instruction_bits

from zeropoint.numerics import Rounding, multiply_by_quantized_multiplier, quantize_multiplier
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import Accumulate, Instruction, Round
from zeropoint_hw.pair_scaler import PairScaler, PairShifter
from zeropoint_sim.bench import run_bench

LEFT_SHIFT = 20
HALF = 1 << 30


def sums(jobs, kind=PairScaler):
    """Put jobs, an instruction and pairs of operands each, through an pair scaler, a pair a cycle."""
    dut = kind(AcceleratorConfig())
    tables = []

    async def bench(ctx):
        for instruction, pairs in jobs:
            ctx.set(dut.instruction.as_value(), instruction_bits(instruction))
            got = []
            rows = [((second & 0x3FF) << 10 | first & 0x3FF) for first, second in pairs.tolist()]
            for cycle, row in enumerate([*rows, *[0x5A5A5] * dut.LATENCY]):
                if cycle >= dut.LATENCY:
                    got.append(ctx.get(dut.value))
                ctx.set(dut.pair, row)
                await ctx.tick()
            tables.append(np.array(got))

    run_bench(dut, bench, deadline=sum(len(pairs) + 10 for _, pairs in jobs) + 10)
    return tables


def add_instruction(unsigned, zero_points, multiplier, shift, negate, rounding):
    """ADD, or SUB where either operand is negated."""
    return Instruction(
        accumulate=Accumulate.PAIR,
        rounding=Round[rounding.name],
        input_unsigned=unsigned,
        pair_zero_point=zero_points[0],
        pair_other_zero_point=zero_points[1],
        pair_multiplier=multiplier,
        pair_shift=shift,
        pair_negate=negate[0],
        pair_other_negate=negate[1],
    )


def expected(pairs, zero_points, multiplier, shift, negate, rounding):
    """Return the sums as TensorFlow Lite's reference kernel scales them: each operand by a multiplier and shift."""
    scalings = [(HALF, 0), (multiplier, -shift)]
    # Ties of operands do not go to even; those of their sum do, in the requantizer.
    rounding = Rounding.SINGLE if rounding is Rounding.EVEN else rounding
    first, other = (
        multiply_by_quantized_multiplier(
            pairs[:, index] - zero_points[index] << LEFT_SHIFT,
            -multiplier if negate[index] else multiplier,
            exponent,
            rounding,
        )
        for index, (multiplier, exponent) in enumerate(scalings)
    )
    return first + other


def pairs_of(unsigned, rng, count=250):
    """The ends of the range in all combinations, and random operands."""
    low, high = (0, 255) if unsigned else (-128, 127)
    ends = np.stack(np.meshgrid([low, low + 1, -1 + unsigned, 0, 1, high - 1, high], [low, 0, 1, high]), -1)
    return np.concatenate([ends.reshape(-1, 2), rng.integers(low, high + 1, (count, 2))])


def cases():
    """Every shift of the other operand, with multipliers at the ends and in between.

    Small shifts come with several, because they leave the most of the rounding to be seen.
    """
    rng = np.random.default_rng(0)
    for index, shift in enumerate([*range(32), *[0, 1, 2, 3, 4, 5] * 5]):
        unsigned, negate = int(rng.integers(2)), [(0, 0), (0, 1), (1, 0)][shift % 3]
        ratio = float(rng.uniform(0.5, 1)) * 2.0**-shift
        multiplier, exponent = quantize_multiplier(ratio)
        assert exponent == -shift
        multiplier = {0: HALF, 1: (1 << 31) - 1}.get(index // 2 % 3 if index < 32 else 2, int(multiplier))
        zero_points = rng.integers(0, 256, 2) - 128 * (not unsigned)
        if shift % 5 == 0:
            zero_points = np.array([0, 255] if unsigned else [-128, 127])
        yield unsigned, zero_points.tolist(), multiplier, shift, negate, pairs_of(unsigned, rng)


def check(rows, fault=lambda **fields: fields, rounding=Rounding.DOUBLE, kind=PairScaler):
    jobs = []
    for unsigned, zero_points, multiplier, shift, negate, pairs in rows:
        fields = {"zero_points": zero_points, "multiplier": multiplier, "shift": shift, "negate": negate}
        fields["rounding"] = rounding
        jobs.append((add_instruction(unsigned, **fault(**fields)), pairs))
    for got, (_, zero_points, multiplier, shift, negate, pairs) in zip(sums(jobs, kind), rows, strict=True):
        np.testing.assert_array_equal(got, expected(pairs, zero_points, multiplier, shift, negate, rounding))


@pytest.mark.parametrize("rounding", list(Rounding))
def test_sums_are_those_of_the_reference_kernel(rounding):
    check(list(cases()), rounding=rounding)


# All differences from zero points that there are, with a tie of the second rounding in every other one.
TIES = [
    (1, [0, zero], HALF, shift, (0, shift % 2), np.array([(0, other) for other in range(256)]))
    for zero in (0, 255)
    for shift in (0, 1, 19, 20, 21, 25)
]


@pytest.mark.parametrize("rounding", list(Rounding))
def test_every_difference_of_one_operand(rounding):
    check(TIES, rounding=rounding)


def powers():
    """The cases with powers of two for multipliers."""
    return [
        (unsigned, zero_points, HALF, shift, negate, pairs)
        for unsigned, zero_points, _, shift, negate, pairs in cases()
    ] + TIES


@pytest.mark.parametrize("rounding", [Rounding.SINGLE, Rounding.EVEN])
def test_shifts_do_for_powers_of_two(rounding):
    check(powers(), rounding=rounding, kind=PairShifter)


@pytest.mark.parametrize("unsigned", [0, 1])
def test_products_are_exact(unsigned):
    jobs, products = [], []
    rng = np.random.default_rng(unsigned)
    for zero_points in ([0, 255], [17, 0]) if unsigned else ([-128, 127], [5, -7]):
        pairs = pairs_of(unsigned, rng)
        fields = {"pair_zero_point": zero_points[0], "pair_other_zero_point": zero_points[1], "pair_multiplier": HALF}
        jobs.append((Instruction(accumulate=Accumulate.PAIR, pair_multiply=1, **fields), pairs))
        products.append((pairs - zero_points).prod(axis=1))
    for got, product in zip(sums(jobs), products, strict=True):
        np.testing.assert_array_equal(got, product)


class TestFaultsAreSeen:
    """Each of these must be reported by the very checker that passes above."""

    @pytest.mark.parametrize(("name", "bit"), [("multiplier", 12), ("shift", 0)])
    def test_wrong_field(self, name, bit):
        with pytest.raises(AssertionError, match="Mismatched elements"):
            check(list(cases())[4:5], lambda **fields: fields | {name: fields[name] ^ 1 << bit})

    def test_wrong_sign(self):
        with pytest.raises(AssertionError, match="Mismatched elements"):
            check(list(cases())[4:5], lambda negate, **fields: fields | {"negate": negate[::-1]})

    def test_wrong_zero_point(self):
        with pytest.raises(AssertionError, match="Mismatched elements"):
            check(list(cases())[4:5], lambda zero_points, **fields: fields | {"zero_points": zero_points[::-1]})

    def test_shifts_do_not_multiply(self):
        with pytest.raises(AssertionError, match="Mismatched elements"):
            check(list(cases())[4:5], rounding=Rounding.SINGLE, kind=PairShifter)

    @pytest.mark.parametrize("rounding", list(Rounding))
    def test_the_other_rounding(self, rounding):
        other = Rounding.SINGLE if rounding is Rounding.DOUBLE else Rounding.DOUBLE
        with pytest.raises(AssertionError, match="Mismatched elements"):
            check(TIES, lambda **fields: fields | {"rounding": other}, rounding)
