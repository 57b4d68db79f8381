import numpy as np
import pytest
from support.gateware import instruction_bits, packed, unpacked

from zeropoint.numerics import wrap_int32
from zeropoint_hw.config import AcceleratorConfig, PEKind
from zeropoint_hw.drain import Drain
from zeropoint_hw.isa import Instruction
from zeropoint_hw.layout import Level
from zeropoint_hw.memory import WordMemory
from zeropoint_sim.bench import Stalls, run_bench

SHAPES = [(1, 1), (4, 4), (4, 1), (4, 2), (8, 8), (8, 4), (8, 1)]
#: In the middle, FOLD: there the drain subtracts.
KINDS = [PEKind.MAC, PEKind.SHIFT, PEKind.FOLD, PEKind.MIXED, PEKind.MINIFLOAT]


def drain_config(columns, requantizers, pe=PEKind.MAC, accumulator_width=0, **fields):
    return AcceleratorConfig(
        **fields,
        lanes=columns,
        columns=columns,
        requantizers=requantizers,
        pe=pe,
        accumulator_width=accumulator_width,
        weight_bytes=columns * columns * 8,
        parameter_channels=requantizers * 300,
    )


class Job:
    """An instruction and the outputs that it drains: accumulators, Σx, level, and cycles to spare before each."""

    def __init__(self, config, instruction, rng, count=20, slack=4):
        limit = 1 << config.accumulator_width - 1
        self.instruction = instruction
        self.accumulators = rng.integers(-limit, limit, (count, config.columns))
        self.activation_sums = rng.integers(-(1 << 19), 1 << 19, count)
        self.levels = [*rng.integers(Level.POOL_X, Level.END, count - 1).tolist(), int(Level.END)]
        self.slack = rng.integers(slack + 1, size=count).tolist()

    def beats(self, config):
        """Yield each output's beats: parameter address, level, whether it is pooled, and values."""
        i, group = self.instruction, 0
        for sums, activation_sum, level in zip(self.accumulators, self.activation_sums, self.levels, strict=True):
            if config.pe is PEKind.FOLD:
                sums = wrap_int32(sums - activation_sum * i.weight_zero_point)
            beats = []
            for beat in range(i.beats):
                address = i.parameter_base + (0 if i.parameters_shared else group * i.beats + beat)
                start = beat * config.requantizers
                values = sums[start : start + config.requantizers].tolist()
                beats.append((address, level if beat == i.beats - 1 else Level.CHUNK, level < Level.COLUMN, values))
            group += level == Level.GROUP
            yield beats


def check(config, jobs):
    dut = Drain(config)
    noise = Stalls(seed=config.columns)
    inputs = (dut.done_level, dut.accumulators.as_value(), dut.activation_sum)
    width = config.accumulator_width
    beats_due, addresses_due = {}, {}

    async def bench(ctx):
        cycle = 0

        async def tick():
            nonlocal cycle
            await ctx.tick()
            cycle += 1
            assert bool(ctx.get(dut.beat)) == (cycle in beats_due), f"beat in cycle {cycle}"
            if cycle in addresses_due:
                assert ctx.get(dut.parameter_address) == addresses_due.pop(cycle)
            if cycle in beats_due:
                level, pools, values = beats_due.pop(cycle)
                assert ctx.get(dut.beat_level) == level
                assert ctx.get(dut.beat_pools) == pools
                got = unpacked(ctx.get(dut.values.as_value()), config.value_width, config.requantizers, signed=True)
                np.testing.assert_array_equal(got, values)
            ctx.set(dut.start, 0)
            ctx.set(dut.done, 0)
            noise.noise(ctx, inputs)

        for job in jobs:
            ctx.set(dut.instruction.as_value(), instruction_bits(job.instruction))
            ctx.set(dut.start, 1)
            await tick()
            outputs = zip(job.levels, job.accumulators, job.activation_sums, job.beats(config), job.slack, strict=True)
            for level, sums, activation_sum, beats, slack in outputs:
                for _ in range(slack):
                    await tick()
                ctx.set(dut.done, 1)
                for signal, value in zip(inputs, (level, packed(sums, width), int(activation_sum)), strict=True):
                    ctx.set(signal, value)
                for beat, (address, *due) in enumerate(beats):
                    when = cycle + dut.LATENCY + beat
                    beats_due[when] = due
                    addresses_due[when - WordMemory.READ_LATENCY] = address
                # The next output comes no sooner than the last one's beats have been taken.
                for _ in beats:
                    await tick()
            for _ in range(dut.LATENCY + 1):
                await tick()
        assert not beats_due

    run_bench(dut, bench, deadline=2000 * len(jobs))


@pytest.mark.parametrize("pe", KINDS)
@pytest.mark.parametrize(("columns", "requantizers"), SHAPES)
def test_beats_and_parameter_addresses(columns, requantizers, pe):
    config = drain_config(columns, requantizers, pe)
    rng = np.random.default_rng(columns * 10 + requantizers)
    full = columns // requantizers
    instructions = [
        Instruction(beats=full, weight_zero_point=-128),
        Instruction(beats=full, parameter_base=57, weight_zero_point=255),
        Instruction(beats=max(1, full // 2), parameter_base=3, weight_zero_point=1),
        Instruction(beats=full, parameter_base=9, parameters_shared=1),
    ]
    check(config, [Job(config, i, rng, slack=slack) for i in instructions for slack in (0, 4)])


@pytest.mark.parametrize("pe", KINDS)
def test_narrow_accumulators_keep_their_sign(pe):
    least = drain_config(4, 2, pe).accumulator_widths[0]
    config = drain_config(4, 2, pe, accumulator_width=least + 1)
    check(config, [Job(config, Instruction(beats=2, weight_zero_point=77), np.random.default_rng(1))])


def test_wide_accumulators():
    config = drain_config(4, 2, activation_bits=16)
    assert config.accumulator_width == 48
    check(config, [Job(config, Instruction(beats=2, weight_zero_point=77), np.random.default_rng(3))])


class TestFaultsAreSeen:
    """Each of these must be reported by the very checker that passes above."""

    def fails(self, change, match):
        config = drain_config(4, 2, PEKind.FOLD)
        job = Job(config, Instruction(beats=2, weight_zero_point=5), np.random.default_rng(2))
        expected = list(job.beats(config))
        change(job)
        job.beats = lambda config: expected
        with pytest.raises(AssertionError, match=match):
            check(config, [job])

    def test_swapped_channels(self):
        def swap(job):
            job.accumulators = job.accumulators[:, [1, 0, 2, 3]]

        self.fails(swap, "Mismatched elements")

    def test_wrong_zero_point(self):
        def move(job):
            job.instruction = Instruction(beats=2, weight_zero_point=6)

        self.fails(move, "Mismatched elements")

    def test_a_beat_too_few(self):
        def drop(job):
            job.instruction = Instruction(beats=1, weight_zero_point=5)

        self.fails(drop, "assert")

    def test_wrong_level(self):
        def confuse(job):
            job.levels = [Level.GROUP if level == Level.COLUMN else level for level in job.levels]

        self.fails(confuse, "assert")
