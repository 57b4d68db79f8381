from itertools import product

import numpy as np
import pytest
from support.gateware import instruction_bits

from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import Instruction
from zeropoint_hw.layout import Level
from zeropoint_hw.writer import Writer
from zeropoint_sim.bench import Stalls, run_bench


def writer_config(requantizers, rows=100):
    lanes = max(4, requantizers)
    return AcceleratorConfig(
        lanes=lanes,
        columns=lanes,
        requantizers=requantizers,
        activation_bytes=lanes * rows,
        weight_bytes=lanes * lanes * 8,
    )


def beats_of(i, requantizers):
    """Yield each beat's level, address and count, from nested loops over the outputs."""
    counts = (i.groups, i.rows, i.columns, i.beats)
    for group, row, column, beat in product(*map(range, counts)):
        level = Level.CHUNK
        if beat == i.beats - 1:
            ends = (column == i.columns - 1, row == i.rows - 1, group == i.groups - 1)
            level = [Level.COLUMN, Level.ROW, Level.GROUP, Level.END][(*ends, False).index(False)]
        address = (
            i.output_base
            + group * i.output_group_step
            + row * i.output_row_step
            + column * i.output_column_step
            + beat * requantizers
        )
        channels_before = (group * i.beats + beat) * requantizers
        yield level, address, min(max(i.output_channels - channels_before, 0), requantizers)


def random_instruction(rng, requantizers):
    def below(limit):
        return int(rng.integers(limit))

    groups, beats = 1 + below(3), 1 + below(4)
    full = groups * beats * requantizers
    return Instruction(
        groups=groups,
        rows=1 + below(3),
        columns=1 + below(4),
        beats=beats,
        output_channels=full - below(beats * requantizers),
        output_base=below(1 << 20) - (1 << 19),
        output_group_step=below(1 << 20),
        output_column_step=below(1 << 20),
        output_row_step=below(1 << 20),
    )


def check(config, jobs, stalls=None):
    """Run jobs, pairs of the instruction executed and the one expected."""
    dut = Writer(config)
    address_mask = (1 << (config.activation_bytes - 1).bit_length()) - 1

    async def bench(ctx):
        for given, expected in jobs:
            ctx.set(dut.instruction.as_value(), instruction_bits(given))
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            for level, address, count in beats_of(expected, config.requantizers):
                while stalls and stalls.hold():
                    assert ctx.get(dut.count) == ctx.get(dut.done) == 0
                    await ctx.tick()
                ctx.set(dut.beat_at, 1 << level)
                got = tuple(ctx.get(signal) for signal in (dut.address, dut.count, dut.done))
                assert got == (address & address_mask, count, level == Level.END), f"{level!r}: {got}"
                await ctx.tick()
                ctx.set(dut.beat_at, 0)
            assert ctx.get(dut.count) == 0

    run_bench(dut, bench, deadline=500 * len(jobs))


@pytest.mark.parametrize(("requantizers", "rows"), [(1, 100), (2, 128), (4, 77), (8, 1 << 10)])
def test_addresses_and_counts(requantizers, rows):
    config = writer_config(requantizers, rows)
    rng = np.random.default_rng(requantizers)
    jobs = [random_instruction(rng, requantizers) for _ in range(40)]
    counts = {count for job in jobs for _, _, count in beats_of(job, requantizers)}
    assert counts >= set(range(1, requantizers + 1))
    check(config, [(job, job) for job in jobs], Stalls(seed=2, probability=0.3))


def test_channels_of_the_last_group_end_at_any_beat():
    # 3 groups of 8 channels, of which every number from 17 to 24 is written.
    config = writer_config(4)
    jobs = [
        Instruction(
            groups=3,
            columns=2,
            beats=2,
            output_channels=channels,
            output_group_step=8,
            output_column_step=channels,
            output_row_step=2 * channels,
        )
        for channels in range(17, 25)
    ]
    for job in jobs:
        written = sorted(address + place for _, address, count in beats_of(job, 4) for place in range(count))
        assert written == list(range(2 * job.output_channels))
    check(config, [(job, job) for job in jobs])


@pytest.mark.parametrize(
    "name", ["output_channels", "output_base", "output_group_step", "output_column_step", "output_row_step"]
)
def test_wrong_field_is_seen(name):
    fields = {"groups": 2, "rows": 2, "columns": 2, "beats": 2, "output_channels": 14, "output_group_step": 16}
    with pytest.raises(AssertionError, match="Level"):
        check(writer_config(4), [(Instruction(**fields | {name: fields.get(name, 0) + 1}), Instruction(**fields))])
