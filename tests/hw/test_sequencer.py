import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from support.gateware import packed

from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import FIELDS, INSTRUCTION_WORDS
from zeropoint_hw.layout import InstructionLayout
from zeropoint_hw.memory import WordMemory
from zeropoint_hw.sequencer import Sequencer
from zeropoint_sim.bench import run_bench

#: Cycles of a fetch: asking for the words, the memory's latency, and noticing that the last has arrived.
FETCH_CYCLES = INSTRUCTION_WORDS + WordMemory.READ_LATENCY + 1


class Fetching(wiring.Component):
    """A sequencer with its program memory."""

    def __init__(self, words):
        self.words = words
        super().__init__(
            {
                **{name: In(1) for name in ("run", "step", "done")},
                **{name: Out(1) for name in ("restart", "busy", "start", "fetching")},
                "instruction": Out(InstructionLayout),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = AcceleratorConfig(program_words=len(self.words))
        m.submodules.sequencer = sequencer = Sequencer(config)
        m.submodules.program = program = WordMemory(32, len(self.words), 32, self.words)
        m.d.comb += [
            *(getattr(sequencer, name).eq(getattr(self, name)) for name in ("run", "step", "done")),
            *(getattr(self, name).eq(getattr(sequencer, name)) for name in ("restart", "busy", "start", "fetching")),
            self.instruction.eq(sequencer.instruction),
            program.read_address.eq(sequencer.program_address),
            sequencer.program_data.eq(program.read_data),
        ]
        return m


def program_of(count, rng):
    """Return instructions of random words, of which only the last has ``end`` set."""
    words = rng.integers(1 << 32, size=(count, INSTRUCTION_WORDS))
    end = FIELDS[0]
    assert (end.name, end.word, end.offset) == ("end", 0, 0)
    words[:, 0] = words[:, 0] & ~np.int64(1)
    words[-1, 0] |= 1
    return words


def check(words, commands, given=None):
    """Give commands, pairs of ``run`` or ``step`` and the instructions expected, and follow each cycle by cycle."""
    dut = Fetching((words if given is None else given).ravel())
    rng = np.random.default_rng(1)

    async def bench(ctx):
        async def tick():
            await ctx.tick()
            # Commands that come while it is busy are ignored.
            ctx.set(dut.run, 0)
            ctx.set(dut.step, 0)
            if ctx.get(dut.busy) and not rng.integers(4):
                ctx.set(dut.run if rng.integers(2) else dut.step, 1)

        for command, indices in commands:
            assert not ctx.get(dut.busy)
            assert not ctx.get(dut.restart)
            ctx.set(getattr(dut, command), 1)
            assert ctx.get(dut.restart) == (indices[0] == 0)
            await tick()
            for index in indices:
                for _ in range(FETCH_CYCLES):
                    assert ctx.get(dut.busy)
                    assert ctx.get(dut.fetching)
                    assert not ctx.get(dut.start)
                    assert not ctx.get(dut.restart)
                    await tick()
                assert ctx.get(dut.start)
                for cycle in range(int(rng.integers(2, 20))):
                    assert ctx.get(dut.start) == (cycle == 0)
                    assert ctx.get(dut.instruction.as_value()) == packed(words[index], 32), f"instruction {index}"
                    assert ctx.get(dut.busy)
                    assert not ctx.get(dut.fetching)
                    await tick()
                ctx.set(dut.done, 1)
                assert ctx.get(dut.instruction.as_value()) == packed(words[index], 32)
                await tick()
                ctx.set(dut.done, 0)
            ctx.set(dut.run, 0)
            ctx.set(dut.step, 0)
            for _ in range(int(rng.integers(1, 4))):
                assert not ctx.get(dut.busy)
                await ctx.tick()

    run_bench(dut, bench, deadline=100 * sum(len(indices) for _, indices in commands))


def test_runs_to_the_end_and_again():
    check(program_of(3, np.random.default_rng(0)), [("run", [0, 1, 2]), ("run", [0, 1, 2])])


def test_steps_one_instruction_at_a_time():
    words = program_of(3, np.random.default_rng(1))
    check(words, [("step", [0]), ("step", [1]), ("step", [2]), ("step", [0])])


def test_run_after_a_step_begins_at_the_start():
    check(program_of(3, np.random.default_rng(2)), [("step", [0]), ("step", [1]), ("run", [0, 1, 2]), ("step", [0])])


def test_program_of_one_instruction():
    check(program_of(1, np.random.default_rng(3)), [("run", [0]), ("step", [0]), ("run", [0])])


@pytest.mark.parametrize("index", [0, 2])
def test_flipped_bit_is_seen(index):
    words = program_of(3, np.random.default_rng(5))
    given = words.copy()
    given[index, 7] ^= 1 << 13
    with pytest.raises(AssertionError, match=f"^instruction {index}"):
        check(words, [("run", [0, 1, 2])], given)
