from dataclasses import replace

import numpy as np
import pytest
from support.gateware import instruction_bits, packed, rows_of, unpacked

from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import Instruction
from zeropoint_hw.layout import Level
from zeropoint_hw.pooler import Pooler
from zeropoint_sim.bench import Stalls, collect, drive, run_bench


def pooler_config(columns, requantizers):
    return AcceleratorConfig(
        lanes=columns, columns=columns, requantizers=requantizers, weight_bytes=columns * columns * 8
    )


class Job:
    """Pooling windows of 1 to 6 outputs, of ``beats`` beats each."""

    def __init__(self, config, unsigned, rng, beats, windows=25, longest=6):
        self.instruction = Instruction(input_unsigned=unsigned)
        self.windows = []
        for _ in range(windows):
            outputs = int(rng.integers(1, longest + 1))
            low = -128 * (not unsigned)
            values = rng.integers(low, low + 256, (outputs, beats, config.requantizers))
            # Neighbours of the greatest, and the ends of the range, whose order depends on their sign.
            values[rng.random(values.shape) < 0.3] = rng.choice([low, low + 127, low + 128, low + 255])
            level = int(rng.integers(Level.COLUMN, Level.END + 1))
            self.windows.append((values, level))

    def rows(self):
        """Return what the pooler is given: level, whether it pools, and the packed bytes."""
        rows = []
        for values, level in self.windows:
            for output, beat in np.ndindex(values.shape[:2]):
                last_output, last_beat = output == len(values) - 1, beat == values.shape[1] - 1
                end = level if last_output else Level.POOL_X + output % 2
                rows.append((end if last_beat else Level.CHUNK, not last_output, packed(values[output, beat], 8)))
        return rows

    def expected(self):
        """Return what is written: level and bytes of each beat."""
        return [
            (level if beat == values.shape[1] - 1 else Level.CHUNK, (values[:, beat].max(axis=0) & 0xFF).tolist())
            for values, level in self.windows
            for beat in range(values.shape[1])
        ]


def check(config, jobs, given=None):
    dut = Pooler(config)

    async def source(ctx):
        for job in given or jobs:
            ctx.set(dut.instruction.as_value(), instruction_bits(job.instruction))
            signals = (dut.beat_level, dut.beat_pools, dut.results.as_value())
            await drive(ctx, dut.beat, signals, job.rows(), Stalls(seed=1, probability=0.3))
            await ctx.tick().repeat(dut.LATENCY)

    async def sink(ctx):
        for job in jobs:
            expected = job.expected()
            rows = await collect(ctx, dut.pooled_at, (dut.pooled_at, dut.pooled.as_value()), len(expected))
            got = [(at.bit_length() - 1, unpacked(bits, 8, config.requantizers)) for at, bits in rows]
            assert all(at.bit_count() == 1 for at, _ in rows)
            assert got == expected

    run_bench(dut, source, sink, deadline=5000)


@pytest.mark.parametrize(("columns", "requantizers"), [(1, 1), (4, 4), (4, 2), (8, 2), (8, 1)])
def test_greatest_of_each_window(columns, requantizers):
    config = pooler_config(columns, requantizers)
    rng = np.random.default_rng(columns * 10 + requantizers)
    full = columns // requantizers
    jobs = [Job(config, unsigned, rng, beats) for unsigned in (0, 1) for beats in {full, max(1, full // 2)}]
    check(config, jobs)


@pytest.mark.parametrize("max_pooling", [True, False])
def test_outputs_pass_without_a_window(max_pooling):
    config = replace(pooler_config(4, 2), max_pooling=max_pooling)
    job = Job(config, 0, np.random.default_rng(1), beats=2, longest=1)
    assert rows_of(*zip(*job.rows(), strict=True)) == [
        (level, 0, packed(values, 8)) for level, values in job.expected()
    ]
    check(config, [job])


def test_without_max_pooling_nothing_is_compared():
    config = pooler_config(4, 2)
    job = Job(config, 0, np.random.default_rng(1), beats=2)
    check(config, [job])
    with pytest.raises(AssertionError):
        check(replace(config, max_pooling=False), [job])


def test_wrong_signedness_is_seen():
    config = pooler_config(4, 2)
    signed, unsigned = (Job(config, bit, np.random.default_rng(2), beats=2) for bit in (0, 1))
    signed.windows = [((values + 128 & 0xFF) - 128, level) for values, level in unsigned.windows]
    with pytest.raises(AssertionError):
        check(config, [signed], given=[unsigned])
