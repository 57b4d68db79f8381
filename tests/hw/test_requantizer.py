from fractions import Fraction

import numpy as np
import pytest
from support.gateware import instruction_bits, packed, rows_of, unpacked

from zeropoint.numerics import INT32_MAX, INT32_MIN, Rounding, reciprocal_multiplier, requantize, wrap_int32
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import Instruction, Round
from zeropoint_hw.layout import Level
from zeropoint_hw.requantizer import Requantizer
from zeropoint_hw.shift import ShiftedRight
from zeropoint_sim.bench import Stalls, collect, drive, run_bench

HALF = 1 << 30
ROUNDINGS = {Rounding.DOUBLE: Round.DOUBLE, Rounding.SINGLE: Round.SINGLE, Rounding.EVEN: Round.EVEN}
#: Output zero point and clamp: int8, uint8, fused activations, and a single value.
OUTPUTS = [
    (0, -128, 127),
    (-128, -128, 127),
    (127, -128, 127),
    (255, 0, 255),
    (0, 0, 255),
    (-7, -7, 90),
    (12, 12, 12),
]


def requantizers(count):
    return AcceleratorConfig(lanes=8, columns=8, requantizers=count)


class Vectors:
    """A table of operands: value, bias, multiplier, shift."""

    def __init__(self, biased, multiplier, shift, seed=0):
        columns = np.broadcast_arrays(*(np.asarray(column, np.int64) for column in (biased, multiplier, shift)))
        self.biased, self.multiplier, self.shift = (column.ravel() for column in columns)
        # Every sum is made of two random parts, half of which wrap around.
        self.bias = np.random.default_rng(seed).integers(INT32_MIN, INT32_MAX + 1, self.biased.size)
        self.bias[::4] >>= 16
        self.value = wrap_int32(self.biased - self.bias)

    def __len__(self):
        return self.biased.size

    def where(self, chosen):
        return Vectors(self.biased[chosen], self.multiplier[chosen], self.shift[chosen])

    def packed_parameters(self):
        return [
            packed([bias], 32) | multiplier << 32 | packed([shift], 8) << 63
            for bias, multiplier, shift in rows_of(self.bias, self.multiplier, self.shift)
        ]

    def expected(self, rounding, output):
        """Return what the golden model makes of them, as bytes."""
        zero_point, *clamp = output
        biased = wrap_int32(self.value + self.bias)
        return requantize(biased, self.multiplier, self.shift, zero_point, tuple(clamp), rounding) & 0xFF


def extremes():
    """The ends of int32 and of the multiplier, with every shift."""
    values = [INT32_MIN, INT32_MIN + 1, -HALF - 1, -HALF, -2, -1, 0, 1, 2, HALF - 1, HALF, INT32_MAX - 1, INT32_MAX]
    multipliers = [0, 1, (1 << 16) - 1, HALF, HALF + 1, INT32_MAX]
    return Vectors(np.array(values)[:, None, None], np.array(multipliers)[:, None], np.arange(-31, 31), seed=1)


def ties():
    """Products half-way between two results of the second rounding, and beside that; odd values tie in the first."""
    right = np.arange(32)
    quotients = np.array([-300, -129, -128, -127, -2, -1, 0, 1, 2, 126, 127, 128, 254, 255, 256])[:, None, None, None]
    product = (quotients << right) + (1 << right >> 1) + np.array([-1, 0, 1])[:, None]
    biased, shift = np.broadcast_arrays(2 * product + np.array([-1, 0, 1])[:, None, None], -right)
    fits = wrap_int32(biased) == biased
    return Vectors(biased[fits], HALF, shift[fits], seed=2)


def in_range(count, seed):
    """Random operands whose results lie about the range of the output, so that the clamp hides no bit."""
    rng = np.random.default_rng(seed)
    shift = rng.integers(-31, 31, count)
    multiplier = rng.integers(HALF, INT32_MAX + 1, count)
    biased = np.rint(rng.uniform(-400, 400, count) * 2.0 ** (31 - shift) / multiplier)
    return Vectors(np.clip(biased, INT32_MIN, INT32_MAX), multiplier, shift, seed)


def anything(count, seed):
    rng = np.random.default_rng(seed)
    return Vectors(
        rng.integers(INT32_MIN, INT32_MAX + 1, count), rng.integers(0, 1 << 31, count), rng.integers(-31, 31, count)
    )


def instruction(rounding, output):
    zero_point, low, high = output
    return Instruction(rounding=ROUNDINGS[rounding], output_zero_point=zero_point, clamp_low=low, clamp_high=high)


def results(jobs, stalls=None):
    """Put jobs, pairs of an instruction and vectors, through a requantizer of one lane; return the bytes of each."""
    dut = Requantizer(requantizers(1))
    tables = []

    async def source(ctx):
        for done, (settings, vectors) in enumerate(jobs):
            ctx.set(dut.instruction.as_value(), instruction_bits(settings))
            rows = rows_of(vectors.value, vectors.packed_parameters(), np.arange(len(vectors)) % 7)
            signals = (dut.values.as_value(), dut.parameters.as_value(), dut.beat_level)
            await drive(ctx, dut.beat, signals, rows, stalls)
            assert len(tables) == done, "results before their latency"
            await ctx.tick().repeat(dut.latency)
            assert len(tables) == done + 1, "results after their latency"

    async def sink(ctx):
        for _, vectors in jobs:
            rows = await collect(ctx, dut.result_beat, (dut.results[0], dut.result_level), len(vectors))
            assert [level for _, level in rows] == [index % 7 for index in range(len(vectors))]
            tables.append(np.array([byte for byte, _ in rows]))

    run_bench(dut, sink, source, deadline=3 * sum(len(vectors) + 20 for _, vectors in jobs))
    return tables


def check(rounding, jobs, stalls=None):
    """Hold jobs, pairs of an output and vectors, against the golden model."""
    got = results([(instruction(rounding, output), vectors) for output, vectors in jobs], stalls)
    for (output, vectors), table in zip(jobs, got, strict=True):
        np.testing.assert_array_equal(table, vectors.expected(rounding, output))


def keeps_within_int32(vectors):
    """Which of the vectors the requantizer's contract with ``Round.SINGLE`` holds for."""
    left = vectors.biased << np.maximum(vectors.shift, 0)
    return wrap_int32(left) == left


@pytest.mark.parametrize("rounding", Rounding)
def test_bits_are_those_of_the_golden_model(rounding):
    jobs = [(OUTPUTS[2], extremes()), (OUTPUTS[0], ties()), (OUTPUTS[4], ties()), (OUTPUTS[0], anything(1000, seed=3))]
    jobs += [(output, in_range(600, seed)) for seed, output in enumerate(OUTPUTS)]
    if rounding is not Rounding.DOUBLE:
        jobs = [(output, vectors.where(keeps_within_int32(vectors))) for output, vectors in jobs]
    assert {shift for _, vectors in jobs for shift in vectors.shift.tolist()} == set(range(-31, 31))
    check(rounding, jobs)


@pytest.mark.parametrize("rounding", Rounding)
def test_gaps_between_beats_change_nothing(rounding):
    check(rounding, [(OUTPUTS[0], in_range(300, 7)), (OUTPUTS[3], in_range(300, 8))], Stalls(seed=9))


def test_zero_point_wraps_as_int32_does():
    ends = Vectors([INT32_MAX, INT32_MAX, INT32_MIN], INT32_MAX, 0)
    check(Rounding.DOUBLE, [((127, -128, 127), ends), ((-128, -128, 127), ends)])
    assert ends.expected(Rounding.DOUBLE, (127, -128, 127)).tolist() == [0x80, 0x80, 0x80]


def test_average_pool_divides_exactly():
    jobs, expected = [], []
    for divisor in (1, 2, 3, 4, 5, 7, 9, 25, 49, 64, 100, 255, 256, 1000, 16384):
        multiplier, shift = reciprocal_multiplier(divisor)
        quotients = np.arange(-256, 256, 5)
        near = np.array([-1, 0, 1])[:, None]
        sums = np.unique(np.clip(quotients * divisor + divisor // 2 + near, -256 * divisor, 256 * divisor))
        jobs.append((instruction(Rounding.SINGLE, (0, -128, 127)), Vectors(sums, multiplier, shift)))
        exact = [Fraction(int(total), divisor) for total in sums]
        nearest = [int(abs(value) + Fraction(1, 2)) * (1 if value > 0 else -1) for value in exact]
        expected.append(np.clip(nearest, -128, 127) & 0xFF)
    for got, wanted in zip(results(jobs), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_each_lane_has_its_own_channel():
    count = 4
    dut = Requantizer(requantizers(count))
    lanes = [in_range(100, seed) for seed in range(count)]
    output = OUTPUTS[0]

    async def source(ctx):
        ctx.set(dut.instruction.as_value(), instruction_bits(instruction(Rounding.DOUBLE, output)))
        values = [packed(row, 32) for row in rows_of(*(lane.value for lane in lanes))]
        parameters = [packed(row, 71) for row in rows_of(*(lane.packed_parameters() for lane in lanes))]
        signals = (dut.values.as_value(), dut.parameters.as_value())
        await drive(ctx, dut.beat, signals, rows_of(values, parameters), Stalls(seed=10, probability=0.1))

    async def sink(ctx):
        rows = await collect(ctx, dut.result_beat, (dut.results.as_value(),), 100)
        got = np.array([unpacked(bits, 8, count) for (bits,) in rows])
        np.testing.assert_array_equal(got.T, [lane.expected(Rounding.DOUBLE, output) for lane in lanes])

    run_bench(dut, source, sink, deadline=300)


def check_ending(notice):
    """Hold the announcements of an instruction's last beat against such beats, which come ``notice`` cycles later."""
    dut = Requantizer(requantizers(1))
    levels = np.random.default_rng(12).integers(len(Level), size=200)
    announced, ended = [], []

    async def source(ctx):
        # Between beats the level is noise, and announces nothing.
        await drive(ctx, dut.beat, (dut.beat_level,), rows_of(levels), Stalls(seed=13))

    async def sink(ctx):
        for cycle in range(600):
            signals = (dut.ending, dut.result_beat, dut.result_level)
            *_, ending, beat, level = await ctx.tick().sample(*signals)
            announced.extend([cycle] * ending)
            ended.extend([cycle] * (beat and level == Level.END))

    run_bench(dut, source, sink, deadline=700)
    assert len(ended) == np.count_nonzero(levels == Level.END) > 0
    assert [cycle + notice for cycle in announced] == ended


def test_the_last_beat_is_announced():
    check_ending(Requantizer.NOTICE)


class TestFaultsAreSeen:
    """Each of these must be reported by the very checker that passes above."""

    def test_other_rounding(self):
        vectors = ties()
        (got,) = results([(instruction(Rounding.SINGLE, OUTPUTS[0]), vectors)])
        with pytest.raises(AssertionError, match="Mismatched elements"):
            np.testing.assert_array_equal(got, vectors.expected(Rounding.DOUBLE, OUTPUTS[0]))

    def test_ties_rounded_upward(self, monkeypatch):
        rounds_up = ShiftedRight.rounds_up
        monkeypatch.setattr(ShiftedRight, "rounds_up", lambda self, twice, sign: rounds_up(self, 0, sign))
        with pytest.raises(AssertionError, match="Mismatched elements"):
            check(Rounding.DOUBLE, [(OUTPUTS[0], ties())])

    def test_late_announcement(self, monkeypatch):
        notice = Requantizer.NOTICE
        monkeypatch.setattr(Requantizer, "NOTICE", notice - 1)
        with pytest.raises(AssertionError):
            check_ending(notice)

    def test_wrong_zero_point(self):
        vectors = in_range(50, 11)
        (got,) = results([(instruction(Rounding.DOUBLE, (3, -128, 127)), vectors)])
        with pytest.raises(AssertionError, match="Mismatched elements"):
            np.testing.assert_array_equal(got, vectors.expected(Rounding.DOUBLE, (4, -128, 127)))
