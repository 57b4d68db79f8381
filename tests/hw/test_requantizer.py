from fractions import Fraction

import numpy as np
import pytest
from support.gateware import instruction_bits, packed, rows_of, unpacked
from support.requantization import OUTPUTS, Vectors, edge_cases, in_range, instruction, ties

from zeropoint.numerics import INT32_MAX, INT32_MIN, Rounding, reciprocal_multiplier
from zeropoint_hw.config import AcceleratorConfig, RequantizerKind
from zeropoint_hw.layout import Level
from zeropoint_hw.requantizer import Requantizer
from zeropoint_hw.shift import ShiftedRight
from zeropoint_sim.bench import Stalls, collect, drive, run_bench


def requantizers(count):
    return AcceleratorConfig(lanes=8, columns=8, requantizers=count)


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
        vectors.sample(RequantizerKind.MULTIPLIER, rounding, output)


@pytest.mark.parametrize("rounding", Rounding)
def test_bits_are_those_of_the_golden_model(rounding):
    check(rounding, edge_cases(rounding))


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
    """Hold what is announced against what comes: last beats ``notice`` cycles later, those not pooled in the next."""
    dut = Requantizer(requantizers(1))
    rng = np.random.default_rng(12)
    levels, pools = rng.integers(len(Level), size=200), rng.integers(2, size=200)
    ending, ended, announced, came = [], [], [], []

    async def source(ctx):
        # Between beats the level is noise, and announces nothing.
        signals = (dut.beat_level, dut.beat_pools)
        await drive(ctx, dut.beat, signals, rows_of(levels, pools), Stalls(seed=13))

    async def sink(ctx):
        for cycle in range(600):
            signals = (dut.ending, dut.announced, dut.result_beat, dut.result_level, dut.result_pools)
            *_, ends, is_announced, beat, level, pooled = await ctx.tick().sample(*signals)
            ending.extend([cycle] * ends)
            announced.extend([cycle] * is_announced)
            ended.extend([cycle] * (beat and level == Level.END))
            came.extend([cycle] * (beat and not pooled))

    run_bench(dut, source, sink, deadline=700)
    assert len(ended) == np.count_nonzero(levels == Level.END) > 0
    assert [cycle + notice for cycle in ending] == ended
    assert len(came) == np.count_nonzero(pools == 0)
    assert [cycle + 1 for cycle in announced] == came


def test_the_last_beat_and_those_that_are_not_pooled_are_announced():
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
