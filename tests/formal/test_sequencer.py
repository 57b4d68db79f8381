"""The sequencer runs a program's instructions in order, each once, and rests; it reads nothing outside the program."""

import pytest
from amaranth import Mux, Signal
from support.formal import needs_solver
from support.sources import broken

from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import INSTRUCTION_WORDS
from zeropoint_hw.memory import WordMemory
from zeropoint_hw.sequencer import Sequencer
from zeropoint_sim.formal import Proof, Refuted

pytestmark = needs_solver

#: Cycles that fetching an instruction takes.
FETCH = INSTRUCTION_WORDS + WordMemory.READ_LATENCY
IDLE, FETCHING, START, EXECUTE = range(4)


def sequencer_proof(component=Sequencer, wrong=0):
    """Return claims about a sequencer with a program of any length, all whose instructions end at some time."""
    config = AcceleratorConfig()
    proof = Proof()
    m, dut = proof.m, proof.add("sequencer", component(config))
    run, step, written = (proof.free(name, getattr(dut, name)) for name in ("run", "step", "program_written"))
    # The host makes one access at a time.
    proof.assume(run + step + written <= 1)
    data = proof.free("program_data", dut.program_data)
    ending, done = proof.free("ending", dut.ending), proof.free("done", dut.done)
    start, busy = proof.show("start", dut.start), proof.show("busy", dut.busy)
    address = proof.show("address", dut.program_address)
    names = ("asked_words", "arrived_words", "arriving_0", "arriving_1", "fsm_state", "stepping", "trailing", "take")
    asked, arrived, first, second, state, stepping, trailing, take = (
        proof.show(f"{name}_", proof.inside("sequencer", name)) for name in names
    )
    rewind, fetched = proof.inside("sequencer", "rewind"), proof.inside("sequencer", "next_instruction")

    # The program: its last instruction, and no other, has `end`.
    last = proof.constant("last_instruction", range(config.max_instructions))
    proof.assume(last < config.max_instructions)
    at, before = proof.past(address), proof.past(address, 2)
    is_last = before == last * INSTRUCTION_WORDS
    proof.assume(~(second & (arrived == 0)) | (data[0] == is_last))

    # The array: each instruction announces its end once, and is done once after that; one after the other.
    running, open_ = Signal(name="running"), Signal(2, name="open_instructions")
    m.d.sync += [running.eq(start | (running & ~ending)), open_.eq(open_ + start - done)]
    proof.show("running_", running)
    proof.show("open_", open_)
    proof.assume(~ending | (running & (open_ == 1)))
    proof.assume(~done | (open_ > running))

    #: The instruction that is fetched, and that which is under way.
    number, current = Signal.like(last, name="number"), Signal.like(last, name="current")
    with m.If(take):
        m.d.sync += [current.eq(number), number.eq(number + 1)]
        with m.If(fetched[0]):
            m.d.sync += number.eq(0)
    with m.If(rewind):
        m.d.sync += number.eq(0)
    proof.show("number_", number)
    proof.show("current_", current)
    waited = Signal(range(64), name="waited")
    m.d.sync += waited.eq(0)
    with m.If(dut.fetching & (waited != 63)):
        m.d.sync += waited.eq(waited + 1)

    # A run or step that is asked for while nothing goes on goes on until its last instruction is done: the program's
    # last one, or the one of a step. While it does, something is fetched, starts, or is under way.
    accepted = (run | step) & ~busy
    going, single, resting = (Signal(name=name) for name in ("going", "single", "resting"))
    with m.If(accepted):
        m.d.sync += [going.eq(1), single.eq(step), resting.eq(0)]
    with m.Elif(start):
        m.d.sync += resting.eq(single | (current == last))
    with m.Elif(done & (open_ == 1) & resting):
        m.d.sync += going.eq(0)
    proof.claim("goes_on", busy == going)
    proof.claim("progress", ~going | dut.fetching | start | (open_ != 0))
    proof.claim("single", ~going | (stepping == single))
    proof.claim("once", ~start | ~resting)
    # What has been fetched of a program that changes, at rest, is fetched again.
    changed = proof.past(written & ~busy)
    proof.claim("anew", ~changed | ((number == 0) & (arrived == 0) & ~first & ~second))
    # The program begins, or goes on where the last step ended: at the start after its last instruction, or a change.
    follows = Signal(name="follows")
    with m.If(take):
        m.d.sync += follows.eq(number != last)
    with m.Elif((written | run) & ~busy):
        m.d.sync += follows.eq(0)
    proof.claim("restart", dut.restart == (accepted & (run | ~follows)))

    end = dut.instruction.as_value()[0]
    rests = end | stepping
    asks = asked != INSTRUCTION_WORDS
    proof.claim("inside", ~asks | (address < (last + 1) * INSTRUCTION_WORDS - wrong))
    proof.claim("fetched", ~dut.fetching | (waited <= FETCH))
    proof.claim("free", ~start | ~running)
    proof.claim("order", ~proof.past(start) | (end == (current == last)))
    # In turn, or from the start of the program where `restart` says so.
    at_start, restarted = proof.show("at_start_", proof.inside("sequencer", "at_start")), Signal(name="restarted")
    m.d.sync += restarted.eq((restarted | dut.restart) & ~take)
    proof.claim("next", number == Mux(at_start, 0, current + 1))
    proof.claim("again", ~take | ~at_start | restarted | dut.restart)
    proof.claim("waiting", (state != FETCHING) | ~at_start | restarted)
    proof.claim("going", (state != EXECUTE) | rests | ~at_start)
    proof.claim("awaits", (state != EXECUTE) | (rests & (open_ > trailing)) | (~rests & running))
    proof.claim("busy", busy | (~running & (open_ == 0)))

    # What the induction needs: the states, and which words are under way.
    proof.claim("states", going == (state != IDLE))
    proof.claim("rests", ~(going & (state == EXECUTE)) | (resting == rests))
    proof.claim("not_yet", ~going | (state == EXECUTE) | ~resting)
    proof.claim("follows", follows == ~at_start)
    flying = first + second
    bottom = Signal()
    with m.Switch(arrived):
        for words in range(1, INSTRUCTION_WORDS + 1):
            with m.Case(words):
                m.d.comb += bottom.eq(fetched[32 * (INSTRUCTION_WORDS - words)])
    proof.claim("words", (asked <= INSTRUCTION_WORDS) & (asked == arrived + flying))
    proof.claim("asking", ~asks | ((first == (asked > 0)) & (second == (asked > 1))))
    left = INSTRUCTION_WORDS - arrived
    proof.claim("asked", asks | ((left <= 2) & (first == (left == 2)) & (second == (left > 0))))
    proof.claim("waited", ~dut.fetching | (waited <= Mux(asks, asked, arrived + WordMemory.READ_LATENCY)))
    proof.claim("number", (number <= last) & (address == number * INSTRUCTION_WORDS + asked))
    proof.claim("first", ~first | (at == number * INSTRUCTION_WORDS + arrived + second))
    proof.claim("second", ~second | (before == number * INSTRUCTION_WORDS + arrived))
    proof.claim("bottom", (arrived == 0) | (bottom == (number == last)))
    proof.claim("resting", (state == EXECUTE) | (~running & (open_ == trailing)))
    proof.claim("executing", (state != EXECUTE) | (open_ == 1 + trailing))
    proof.claim("trailing", ~trailing | (state != IDLE))
    proof.goal("second_of_three", start & (current == 1) & (last == 2) & (open_ == 1))
    return proof


def test_programs_run_to_their_end():
    sequencer_proof().prove(3)


@pytest.mark.slow
def test_such_programs_are_there():
    sequencer_proof().reach(2 * FETCH + 12)


class TestFaultsAreSeen:
    @pytest.mark.parametrize(
        ("right", "wrong", "claim"),
        [
            ("m.If(self.run | self.step)", "m.If(self.run)", "restart"),
            ("m.If(self.run | self.step)", "m.If(self.step)", "restart"),
            ("stepping.eq(self.step)", "stepping.eq(0)", "single"),
            ("stepping.eq(self.step)", "stepping.eq(1)", "single"),
            ("rewind.eq(self.program_written | (self.run & ~at_start))", "rewind.eq(self.run & ~at_start)", "anew"),
            ("self.restart.eq(self.run | at_start)", "self.restart.eq(1)", "restart"),
            (
                "m.d.comb += self.busy.eq(1)\n                with m.If(self.instruction.end",
                "m.d.comb += self.busy.eq(~self.done)\n                with m.If(self.instruction.end",
                "goes_on",
            ),
        ],
    )
    @pytest.mark.slow
    def test_a_sequencer_that_does_something_else(self, right, wrong, claim):
        with pytest.raises(Refuted, match=rf"not so: .*{claim}"):
            sequencer_proof(broken(Sequencer, right, wrong)).check(FETCH + 8)

    @pytest.mark.slow
    def test_a_program_that_is_not_begun_anew(self):
        component = broken(Sequencer, "            with m.If(next_instruction.end):\n", "            with m.If(0):\n")
        with pytest.raises(Refuted, match=r"not so: .*inside"):
            sequencer_proof(component).check(FETCH + 5)

    @pytest.mark.slow
    def test_a_program_that_is_shorter(self):
        with pytest.raises(Refuted, match="not so: inside"):
            sequencer_proof(wrong=1).check(FETCH)
