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

#: Cycles from the one in which the first word is asked for to the one in which the instruction is there.
FETCH_CYCLES = INSTRUCTION_WORDS + WordMemory.READ_LATENCY


class Fetching(wiring.Component):
    """A sequencer with its program memory, which the host can write."""

    def __init__(self, depth):
        self.config = AcceleratorConfig(program_words=depth)
        super().__init__(
            {
                **{name: In(1) for name in ("run", "step", "done", "program_written")},
                **{name: Out(1) for name in ("restart", "busy", "start", "fetching")},
                "instruction": Out(InstructionLayout),
                "write_address": In(range(depth)),
                "write_data": In(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.sequencer = sequencer = Sequencer(self.config)
        m.submodules.program = program = WordMemory(32, self.config.program_words, 32)
        inputs, outputs = ("run", "step", "done", "program_written"), ("restart", "busy", "start", "fetching")
        m.d.comb += [
            *(getattr(sequencer, name).eq(getattr(self, name)) for name in inputs),
            *(getattr(self, name).eq(getattr(sequencer, name)) for name in outputs),
            self.instruction.eq(sequencer.instruction),
            program.read_address.eq(sequencer.program_address),
            sequencer.program_data.eq(program.read_data),
            program.write_address.eq(self.write_address),
            program.write_data.eq(self.write_data),
            program.write_enable.eq(self.program_written),
        ]
        return m


def program_of(count, seed):
    """Return instructions of random words, of which only the last has ``end`` set."""
    words = np.random.default_rng(seed).integers(1 << 32, size=(count, INSTRUCTION_WORDS))
    end = FIELDS[0]
    assert (end.name, end.word, end.offset) == ("end", 0, 0)
    words[:, 0] = words[:, 0] & ~np.int64(1)
    words[-1, 0] |= 1
    return words


class Story:
    """Follows a sequencer cycle by cycle, and knows when each instruction must have been fetched."""

    def __init__(self, depth, seed=1):
        self.dut = Fetching(depth)
        self.rng = np.random.default_rng(seed)
        self.chapters = []

    def load(self, words):
        """Write a program."""
        self.chapters.append(lambda: self._load(words))

    def command(self, command, words, indices):
        """Give a command and expect these instructions of the program."""
        self.chapters.append(lambda: self._command(command, words, indices))

    def rest(self, cycles):
        self.chapters.append(lambda: self._ticks(cycles))

    def run(self):
        dut = self.dut

        async def bench(ctx):
            self.ctx, self.cycle = ctx, 0
            self.fetched_at = FETCH_CYCLES
            self.at_start = True
            for chapter in self.chapters:
                await chapter()
                assert not ctx.get(dut.busy)
                assert not ctx.get(dut.restart)

        run_bench(dut, bench, deadline=10_000)

    async def _tick(self):
        await self.ctx.tick()
        self.cycle += 1

    async def _ticks(self, cycles):
        for _ in range(cycles):
            await self._tick()

    async def _load(self, words):
        ctx, dut = self.ctx, self.dut
        for index, word in enumerate(words.ravel().tolist()):
            ctx.set(dut.write_address, index)
            ctx.set(dut.write_data, word)
            ctx.set(dut.program_written, 1)
            await self._tick()
            ctx.set(dut.program_written, 0)
        self._fetches_again()

    def _fetches_again(self):
        """The cycle before this one was the last in which fetching began again."""
        self.fetched_at = self.cycle + FETCH_CYCLES
        self.at_start = True

    async def _command(self, command, words, indices):
        ctx, dut, rng = self.ctx, self.dut, self.rng
        ctx.set(getattr(dut, command), 1)
        assert ctx.get(dut.restart) == (command == "run" or self.at_start)
        await self._tick()
        ctx.set(getattr(dut, command), 0)
        if command == "run" and not self.at_start:
            self._fetches_again()
        for index in indices:
            for _ in range(max(1, self.fetched_at + 1 - self.cycle)):
                assert ctx.get(dut.busy)
                assert ctx.get(dut.fetching)
                assert not ctx.get(dut.start)
                await self._tick()
            # The next one is asked for from here on.
            self.fetched_at = self.cycle + FETCH_CYCLES
            self.at_start = index == len(words) - 1
            working = int(rng.choice([2, 10, FETCH_CYCLES - 2, FETCH_CYCLES - 1, FETCH_CYCLES, 60]))
            for cycle in range(working):
                # Commands that come while it is busy are ignored.
                ignored = dut.run if rng.integers(2) else dut.step
                ctx.set(ignored, int(rng.integers(2)))
                assert ctx.get(dut.start) == (cycle == 0)
                assert ctx.get(dut.instruction.as_value()) == packed(words[index], 32), f"instruction {index}"
                assert ctx.get(dut.busy)
                assert not ctx.get(dut.fetching)
                assert not ctx.get(dut.restart)
                ctx.set(dut.done, cycle == working - 1)
                await self._tick()
                ctx.set(ignored, 0)
            ctx.set(dut.done, 0)


def test_runs_to_the_end_and_again():
    story, words = Story(4 * INSTRUCTION_WORDS), program_of(4, seed=0)
    story.load(words)
    for rest in (40, 0, 1, 5, 26):
        story.rest(rest)
        story.command("run", words, [0, 1, 2, 3])
    story.run()


def test_run_while_the_first_instruction_is_being_fetched():
    for rest in (0, 1, 13, FETCH_CYCLES - 1, FETCH_CYCLES):
        story, words = Story(2 * INSTRUCTION_WORDS), program_of(2, seed=rest)
        story.load(words)
        story.rest(rest)
        story.command("run", words, [0, 1])
        story.run()


def test_steps_one_instruction_at_a_time():
    story, words = Story(4 * INSTRUCTION_WORDS), program_of(3, seed=1)
    story.load(words)
    for index in (0, 1, 2, 0, 1, 2, 0):
        story.command("step", words, [index])
        story.rest(index * 15)
    story.run()


def test_run_after_a_step_begins_at_the_start():
    story, words = Story(4 * INSTRUCTION_WORDS), program_of(3, seed=2)
    story.load(words)
    for rest in (0, 7, 50):
        story.command("step", words, [0])
        story.rest(rest)
        story.command("step", words, [1])
        story.rest(rest)
        story.command("run", words, [0, 1, 2])
    story.run()


def test_program_of_one_instruction():
    story, words = Story(INSTRUCTION_WORDS), program_of(1, seed=3)
    story.load(words)
    for command in ("run", "step", "run", "run"):
        story.command(command, words, [0])
    story.run()


def test_another_program_is_fetched_again():
    story = Story(4 * INSTRUCTION_WORDS)
    for seed, rest in ((4, 0), (5, 9), (6, 50)):
        words = program_of(2, seed)
        story.load(words)
        story.rest(rest)
        story.command("step", words, [0])
        # In the middle of this one, too, what was fetched is out of date.
        words = program_of(3, seed + 10)
        story.rest(rest)
        story.load(words)
        story.command("run", words, [0, 1, 2])
    story.run()


@pytest.mark.parametrize("index", [0, 2])
def test_flipped_bit_is_seen(index):
    words = program_of(3, seed=7)
    given = words.copy()
    given[index, 7] ^= 1 << 13
    story = Story(4 * INSTRUCTION_WORDS)
    story.load(given)
    story.command("run", words, [0, 1, 2])
    with pytest.raises(AssertionError, match=f"^instruction {index}"):
        story.run()
