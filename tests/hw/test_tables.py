import numpy as np
import pytest
from support.gateware import instruction_bits, packed, unpacked

from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import TABLE_ENTRIES, Instruction
from zeropoint_hw.tables import Tables
from zeropoint_sim.bench import Stalls, collect, drive, run_bench


def check(tables, numbers, expected, requantizers=2, rom=False, beats=200):
    """Load tables, put random results through some of them, and compare with ``expected`` of number and results."""
    config = AcceleratorConfig(requantizers=requantizers, tables=len(tables))
    entries = np.concatenate(tables).tolist()
    dut = Tables(config, entries if rom else None)
    rng = np.random.default_rng(len(tables))
    jobs = [(number, rng.integers(0, 256, (beats, requantizers))) for number in numbers]
    found = []

    async def source(ctx):
        if not rom:
            signals = (dut.write_address, dut.write_data)
            await drive(ctx, dut.write_enable, signals, list(enumerate(entries)))
        for number, results in jobs:
            ctx.set(dut.instruction.as_value(), instruction_bits(Instruction(table=number)))
            rows = [(packed(row.tolist(), 8), index % 7, index % 2) for index, row in enumerate(results)]
            signals = (dut.results.as_value(), dut.beat_level, dut.beat_pools)
            await drive(ctx, dut.beat, signals, rows, Stalls(seed=2, probability=0.3))
            await ctx.tick().repeat(dut.LATENCY)

    async def sink(ctx):
        for _ in jobs:
            signals = (dut.looked_up.as_value(), dut.result_level, dut.result_pools)
            rows = await collect(ctx, dut.result_beat, signals, beats)
            assert [row[1:] for row in rows] == [(index % 7, index % 2) for index in range(beats)]
            found.append(np.array([unpacked(row[0], 8, requantizers) for row in rows]))

    run_bench(dut, sink, source, deadline=TABLE_ENTRIES * len(tables) + 3 * beats * len(jobs) + 100)
    for (number, results), got in zip(jobs, found, strict=True):
        np.testing.assert_array_equal(got, expected(number, results))


def some_tables(count):
    rng = np.random.default_rng(7)
    return [rng.permutation(TABLE_ENTRIES) for _ in range(count)]


@pytest.mark.parametrize("rom", [False, True])
@pytest.mark.parametrize(("count", "requantizers"), [(1, 1), (3, 4), (15, 2)])
def test_every_result_is_looked_up_in_the_instructions_table(count, requantizers, rom):
    tables = some_tables(count)
    numbers = [count, 0, 1, 0, (count + 1) // 2]
    check(tables, numbers, lambda number, x: x if number == 0 else tables[number - 1][x], requantizers, rom)


@pytest.mark.parametrize("latency", [0, Tables.LATENCY])
def test_the_announcement_waits_as_long_as_the_results(latency):
    dut = Tables(AcceleratorConfig(tables=2))
    seen = []

    async def bench(ctx):
        ctx.set(dut.instruction.as_value(), instruction_bits(Instruction(table=2 if latency else 0)))
        for cycle in range(10):
            ctx.set(dut.ending, cycle == 3)
            ctx.set(dut.beat, cycle == 5)
            seen.append((ctx.get(dut.looked_up_ending), ctx.get(dut.result_beat)))
            await ctx.tick()

    run_bench(dut, bench, deadline=20)
    assert [cycle for cycle, (ending, _) in enumerate(seen) if ending] == [3 + latency]
    assert [cycle for cycle, (_, beat) in enumerate(seen) if beat] == [5 + latency]


def test_a_wrong_table_is_seen():
    tables = some_tables(3)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        check(tables, [2], lambda number, x: tables[number][x])
