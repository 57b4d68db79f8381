import numpy as np
import pytest
from support.gateware import instruction_bits, packed, rows_of, unpacked
from support.requantization import OUTPUTS, Vectors, edge_cases, in_range, instruction, ties

from zeropoint.numerics import INT32_MAX, Rounding
from zeropoint_hw.config import AcceleratorConfig, RequantizerKind
from zeropoint_hw.layout import Level
from zeropoint_hw.requantizer import Requantizer
from zeropoint_hw.serial_requantizer import SerialRequantizer
from zeropoint_hw.shift import ShiftedRight
from zeropoint_sim.bench import run_bench

SAMPLE = 41


def serial(digit_bits, count=1, **changes):
    return AcceleratorConfig(
        lanes=4, columns=4, requantizers=count, requantizer=RequantizerKind.SERIAL, digit_bits=digit_bits, **changes
    )


def results(config, jobs):
    """Put jobs, pairs of an instruction and each lane's vectors, through requantizers; return their bytes, by job."""
    dut, count = SerialRequantizer(config), config.requantizers
    tables = []

    async def bench(ctx):
        cycle = 0

        async def tick():
            nonlocal cycle
            cycle += 1
            await ctx.tick()

        for settings, lanes in jobs:
            ctx.set(dut.instruction.as_value(), instruction_bits(settings))
            rows, table = rows_of(*(lane.value for lane in lanes)), []
            parameters = [lane.packed_parameters() for lane in lanes]
            for index, values in enumerate(rows):
                while not ctx.get(dut.ready):
                    await tick()
                await tick()
                level = index % len(Level)
                ctx.set(dut.beat, 1)
                ctx.set(dut.beat_level, level)
                ctx.set(dut.beat_pools, index & 1)
                ctx.set(dut.values.as_value(), packed(values, 32))
                ctx.set(dut.parameters.as_value(), packed([each[index] for each in parameters], 71))
                await tick()
                began = cycle
                # Operands are there for a cycle.
                ctx.set(dut.beat, 0)
                ctx.set(dut.values.as_value(), packed([~value for value in values], 32))
                ctx.set(dut.parameters.as_value(), 0)
                announced = []
                while not ctx.get(dut.result_beat):
                    if ctx.get(dut.ending):
                        announced.append(cycle)
                    await tick()
                assert announced == [cycle - Requantizer.NOTICE] * (level == Level.END)
                assert (ctx.get(dut.result_level), ctx.get(dut.result_pools)) == (level, index & 1)
                shifts = [int(lane.shift[index]) for lane in lanes]
                assert cycle - began < config.beat_cycles(min(shifts), max(shifts))
                table.append(unpacked(ctx.get(dut.results.as_value()), 8, count))
            tables.append(np.array(table))

    cycles = sum(config.beat_cycles(-31, 31) * (len(lanes[0]) + 2) for _, lanes in jobs)
    run_bench(dut, bench, deadline=cycles)
    return tables


def check(config, rounding, jobs):
    """Hold jobs, pairs of an output and vectors, against the golden model, on one lane."""
    got = results(config, [(instruction(rounding, output), [vectors]) for output, vectors in jobs])
    for (output, vectors), table in zip(jobs, got, strict=True):
        np.testing.assert_array_equal(table[:, 0], vectors.expected(rounding, output))
        vectors.sample(RequantizerKind.SERIAL, rounding, output)


def sampled(jobs, start=0):
    return [(output, vectors.where(slice(start, None, SAMPLE))) for output, vectors in jobs]


@pytest.mark.parametrize(("rounding", "digit_bits"), list(zip(Rounding, (8, 3, 1), strict=True)))
def test_bits_are_those_of_the_golden_model(rounding, digit_bits):
    check(serial(digit_bits), rounding, sampled(edge_cases(rounding), digit_bits))


@pytest.mark.slow
@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("digit_bits", [1, 4])
def test_all_bits_are_those_of_the_golden_model(rounding, digit_bits):
    check(
        serial(digit_bits),
        rounding,
        [(output, vectors.where(slice(0, None, 5))) for output, vectors in edge_cases(rounding)],
    )


def test_without_what_a_network_does_not_need():
    vectors = in_range(400, 6)
    vectors = vectors.where(vectors.shift <= 0)
    check(serial(2, left_shift=False, ties_to_even=False), Rounding.DOUBLE, [(OUTPUTS[0], vectors)])


def test_zero_point_wraps_as_int32_does():
    ends = Vectors([INT32_MAX, INT32_MAX], INT32_MAX, 0)
    check(serial(1), Rounding.DOUBLE, [((127, -128, 127), ends), ((-128, -128, 127), ends)])
    assert ends.expected(Rounding.DOUBLE, (127, -128, 127)).tolist() == [0x80, 0x80]


@pytest.mark.parametrize("digit_bits", [1, 8])
def test_each_lane_has_its_own_channel_and_shift(digit_bits):
    lanes = [in_range(40, seed) for seed in range(4)]
    (got,) = results(serial(digit_bits, count=4), [(instruction(Rounding.DOUBLE, OUTPUTS[0]), lanes)])
    np.testing.assert_array_equal(got.T, [lane.expected(Rounding.DOUBLE, OUTPUTS[0]) for lane in lanes])


def test_a_beat_takes_what_the_compiler_reckons_with():
    for config in (serial(1), serial(4), serial(1, left_shift=False)):
        dut = SerialRequantizer(config)

        async def bench(ctx, dut=dut, config=config):
            for shift in (-31, -7, 0, 1, 30):
                if shift > 0 and not config.left_shift:
                    continue
                ctx.set(dut.parameters[0].shift, shift)
                ctx.set(dut.beat, 1)
                await ctx.tick()
                ctx.set(dut.beat, 0)
                cycles = 1
                while not ctx.get(dut.ready):
                    await ctx.tick()
                    cycles += 1
                # From one beat to the next.
                assert cycles + 1 == config.beat_cycles(shift, shift)
                await ctx.tick()

        run_bench(dut, bench, deadline=1000)


class TestFaultsAreSeen:
    """Each of these must be reported by the very checker that passes above."""

    def test_ties_rounded_upward(self, monkeypatch):
        rounds_up = ShiftedRight.rounds_up
        monkeypatch.setattr(ShiftedRight, "rounds_up", lambda self, twice, sign: rounds_up(self, 0, sign))
        with pytest.raises(AssertionError, match="Mismatched elements"):
            check(serial(8), Rounding.DOUBLE, sampled([(OUTPUTS[0], ties())]))

    def test_wrong_zero_point(self):
        vectors = in_range(30, 11)
        (got,) = results(serial(8), [(instruction(Rounding.DOUBLE, (3, -128, 127)), [vectors])])
        with pytest.raises(AssertionError, match="Mismatched elements"):
            np.testing.assert_array_equal(got[:, 0], vectors.expected(Rounding.DOUBLE, (4, -128, 127)))

    def test_longer_than_reckoned_with(self, monkeypatch):
        monkeypatch.setattr(AcceleratorConfig, "beat_cycles", lambda self, least, greatest: 20)
        with pytest.raises(AssertionError):
            check(serial(1), Rounding.DOUBLE, [(OUTPUTS[0], in_range(10, 12))])
