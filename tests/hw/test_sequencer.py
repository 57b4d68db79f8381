import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from support.gateware import packed

from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import FIELDS, INSTRUCTION_WORDS
from zeropoint_hw.layout import InstructionLayout, delay
from zeropoint_hw.memory import WordMemory
from zeropoint_hw.sequencer import Sequencer
from zeropoint_sim.bench import run_bench

#: Cycles from the one in which the first word is asked for to the one in which the instruction is there.
FETCH_CYCLES = INSTRUCTION_WORDS + WordMemory.READ_LATENCY
INPUTS = ("run", "step", "ending", "done", "program_written")
OUTPUTS = ("restart", "busy", "start", "retired", "fetching")


class Fetching(wiring.Component):
    """A sequencer with its program memory, which the host can write.

    Each input named in ``again`` comes once more a cycle later, and each in ``late`` only then: what must not be.
    """

    def __init__(self, depth, again=(), late=()):
        self.config = AcceleratorConfig(program_words=depth)
        self.again, self.late = again, late
        super().__init__(
            {
                **{name: In(1) for name in INPUTS},
                **{name: Out(1) for name in OUTPUTS},
                "instruction": Out(InstructionLayout),
                "write_address": In(range(depth)),
                "write_data": In(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.sequencer = sequencer = Sequencer(self.config)
        m.submodules.program = program = WordMemory(32, self.config.program_words, 32)
        for name in INPUTS:
            given = getattr(self, name)
            if name in (*self.again, *self.late):
                later = delay(m, given, 1, f"{name}_later")
                given = later if name in self.late else given | later
            m.d.comb += getattr(sequencer, name).eq(given)
        m.d.comb += [
            *(getattr(self, name).eq(getattr(sequencer, name)) for name in OUTPUTS),
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


#: Cycles from an instruction's start to its ``ending``; those after which the next one is just fetched, among them.
WORKING = (5, 10, FETCH_CYCLES - 1, FETCH_CYCLES, FETCH_CYCLES + 1, 80)


class Story:
    """Follows a sequencer cycle by cycle, and knows when each instruction must have been fetched.

    Parameters
    ----------
    depth
        Words of the program memory.
    lags, working
        What to draw from: cycles from an instruction's ``ending`` to its ``done``, and from its ``start`` to
        ``ending``, both included.
    faults
        For :class:`Fetching`.
    """

    def __init__(self, depth, seed=1, lags=(1, 2, 3, 4), working=WORKING, **faults):
        self.dut = Fetching(depth, **faults)
        self.rng = np.random.default_rng(seed)
        self.lags, self.working = lags, working
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
            self.done_at = None
            for chapter in self.chapters:
                await chapter()
                assert not ctx.get(dut.busy)
                assert not ctx.get(dut.restart)

        run_bench(dut, bench, deadline=10_000)

    async def _tick(self):
        await self.ctx.tick()
        self.cycle += 1
        self.ctx.set(self.dut.done, self.cycle == self.done_at)

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
        ctx, dut = self.ctx, self.dut
        ctx.set(getattr(dut, command), 1)
        assert ctx.get(dut.restart) == (command == "run" or self.at_start)
        await self._tick()
        ctx.set(getattr(dut, command), 0)
        if command == "run" and not self.at_start:
            self._fetches_again()
        for index in indices:
            await self._awaited(index)
            # The next one is asked for from here on.
            self.fetched_at = self.cycle + FETCH_CYCLES
            self.at_start = index == len(words) - 1
            await self._executed(index, words[index], rests=command == "step" or self.at_start)

    async def _awaited(self, index):
        """Expect ``start`` in this cycle, or in the one after the instruction is fetched."""
        ctx, dut = self.ctx, self.dut
        while self.cycle <= self.fetched_at:
            assert ctx.get(dut.busy)
            assert ctx.get(dut.fetching), f"instruction {index} is not awaited"
            assert not ctx.get(dut.start), f"instruction {index} starts early"
            assert not ctx.get(dut.retired)
            await self._tick()

    async def _executed(self, index, words, rests):
        """Expect the instruction to be held from ``start`` to ``ending``, or to its own ``done`` if rest follows."""
        ctx, dut, rng = self.ctx, self.dut, self.rng
        working, lag = int(rng.choice(self.working)), int(rng.choice(self.lags))
        over = working - 1 + (lag if rests else 0)
        for cycle in range(over + 1):
            # Commands that come while it is busy are ignored.
            ignored = dut.run if rng.integers(2) else dut.step
            ctx.set(ignored, int(rng.integers(2)))
            if cycle == working - 1:
                ctx.set(dut.ending, 1)
                # The one before must be through by now.
                assert self.done_at is None or self.done_at < self.cycle
                self.done_at = self.cycle + lag
            assert ctx.get(dut.busy), f"instruction {index} rests early"
            assert ctx.get(dut.start) == (cycle == 0), f"instruction {index} starts late"
            assert ctx.get(dut.retired) == (cycle == over), f"instruction {index} retires early or late"
            assert ctx.get(dut.instruction.as_value()) == packed(words, 32), f"instruction {index} differs"
            assert not ctx.get(dut.fetching)
            assert not ctx.get(dut.restart)
            await self._tick()
            ctx.set(dut.ending, 0)
            ctx.set(ignored, 0)


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


@pytest.mark.parametrize("after_start", [1, 2, 3])
def test_done_of_the_one_before_ends_nothing(after_start):
    words = program_of(3, seed=8)
    # Each is fetched when the one before is ending, and starts in the next cycle.
    story = Story(4 * INSTRUCTION_WORDS, lags=(after_start + 1,), working=(FETCH_CYCLES + 1, 60))
    story.load(words)
    for rest in (0, 50):
        story.rest(rest)
        story.command("run", words, [0, 1, 2])
    story.run()


@pytest.mark.parametrize("lag", [1, 2, 3])
def test_done_while_the_next_one_is_awaited(lag):
    words = program_of(3, seed=9)
    story = Story(4 * INSTRUCTION_WORDS, lags=(lag,), working=(5, FETCH_CYCLES - 2, FETCH_CYCLES - 1, FETCH_CYCLES))
    story.load(words)
    for _ in range(6):
        story.command("run", words, [0, 1, 2])
    story.run()


def fault_is_seen(match, **faults):
    words = program_of(2, seed=10)
    story = Story(4 * INSTRUCTION_WORDS, lags=(2,), working=(FETCH_CYCLES + 1, 60), **faults)
    story.load(words)
    story.command("run", words, [0, 1])
    with pytest.raises(AssertionError, match=match):
        story.run()


def test_second_done_is_seen():
    # The first one is that of the instruction before; another makes the sequencer rest before its time.
    fault_is_seen("^instruction 1 retires early", again=["done"])


def test_late_ending_is_seen():
    fault_is_seen("^instruction 0 retires early or late", late=["ending"])


@pytest.mark.parametrize("index", [0, 2])
def test_flipped_bit_is_seen(index):
    words = program_of(3, seed=7)
    given = words.copy()
    given[index, 7] ^= 1 << 13
    story = Story(4 * INSTRUCTION_WORDS)
    story.load(given)
    story.command("run", words, [0, 1, 2])
    with pytest.raises(AssertionError, match=f"^instruction {index} differs"):
        story.run()
