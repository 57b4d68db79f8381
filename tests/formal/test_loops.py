"""The loop nest turns its loops as often as it should, and ends, with an output, after all others had time to drain.

Of the instruction, only what the verifier of programs checks is assumed (test_assumptions.py).
"""

import pytest
from amaranth import Cat, Const, Mux, Signal
from support.formal import needs_solver
from support.sources import broken

from zeropoint_hw import loops
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.layout import Level
from zeropoint_hw.loops import LoopNest
from zeropoint_sim.formal import Proof, Refuted

pytestmark = needs_solver

CONFIG = AcceleratorConfig()
_LANE_BITS = CONFIG.lanes.bit_length() - 1
LOOPS = [level.name.lower() + "s_left" for level in Level][: Level.END]


class Nest:
    """A loop nest under any instruction, started whenever it does not run."""

    def __init__(self, component=LoopNest):
        self.proof = proof = Proof()
        self.dut = dut = proof.add("loops", component(CONFIG))
        self.i = proof.constant("instruction", dut.instruction)
        start, self.hold = proof.free("start", dut.start), proof.free("hold", dut.hold)
        self.running = proof.show("running", proof.inside("loops", "running"))
        self.idle_left = proof.show("idle_left", proof.inside("loops", "idle_left"))
        self.left = [proof.show(name, proof.inside("loops", name)) for name in LOOPS]
        proof.assume(~(start & self.running))
        self.start = start
        self.until_output = proof.show("until_output", proof.inside("loops", "until_output"))
        self.working = self.running & (self.idle_left == 0) & ~self.hold
        #: An array cycle, and its last one.
        self.cycle = proof.show("cycle_", dut.valid)
        self.last = proof.show("last", dut.valid & dut.last)
        self.level = proof.show("level", dut.level)


def turning(wrong=0, component=LoopNest):
    """Return claims that each loop takes as many turns as the instruction says, one array cycle after the other.

    The specification counts turns up, the innermost loop first, as the loops of `zeropoint_hw.isa` do.
    """
    nest = Nest(component)
    proof, i, m = nest.proof, nest.i, nest.proof.m
    chunks = i.run[_LANE_BITS:]
    counts = (chunks, i.taps_x, i.taps_y, i.pool_columns, i.pool_rows, i.columns, i.rows, i.groups)
    turns = [Signal.like(left, name=f"turn_{place}") for place, left in enumerate(nest.left)]
    ends = [turn == count[: len(turn)] for turn, count in zip(turns, counts, strict=True)]
    running = Signal(name="turning")
    level, inner = Signal(range(Level.END + 1), name="turned"), 1
    m.d.comb += level.eq(Level.END)
    for place in reversed(range(len(turns))):
        with m.If(~ends[place]):
            m.d.comb += level.eq(place)
    for place, turn in enumerate(turns):
        with m.If(nest.start):
            m.d.sync += turn.eq(0)
        with m.Elif(nest.working & inner):
            m.d.sync += turn.eq(Mux(ends[place], 0, turn + 1))
        inner = inner & ends[place]
        proof.claim(f"left_{place}", ~running | (nest.left[place] == (counts[place] - turn - wrong)[: len(turn)]))
    with m.If(nest.start):
        m.d.sync += running.eq(1)
    with m.Elif(nest.working & inner):
        m.d.sync += running.eq(0)
    proof.claim("running", running == nest.running)
    # An array cycle for each turn of the innermost loop, and none else; what moves on is the loop that turns.
    proof.claim("cycle", nest.cycle == proof.past(nest.working))
    proof.claim("issues", nest.dut.issues == nest.working)
    idle = nest.running & (nest.idle_left != 0)
    proof.claim("stalled", nest.dut.stalled == proof.past(idle))
    proof.claim("waiting", nest.dut.waiting == proof.past(nest.running & ~idle & nest.hold))
    # An output's first cycle follows the last one of the position before; its weights are the group's, or the tap's.
    begins = Signal(init=1, name="begins")
    with m.If(nest.start | nest.working):
        m.d.sync += begins.eq(nest.start | (level >= Level.POOL_X))
    proof.claim("begins", ~nest.running | (proof.inside("loops", "first") == begins))
    proof.claim("first", ~nest.cycle | (nest.dut.first == proof.past(begins)))
    onward = ~i.weights_per_tap & ((level == Level.GROUP) | (level == Level.END))
    again = Mux(i.weights_per_tap, level >= Level.TAP_X, (level >= Level.POOL_X) & ~onward)
    proof.claim("weights", ~nest.working | ((nest.dut.onward == onward) & (nest.dut.again == again)))
    proof.claim("level", ~nest.cycle | (nest.level == proof.past(level)))
    expected = Mux(
        proof.past(nest.start),
        Cat(Const(1, 1).replicate(len(Level))),
        Mux(nest.cycle, Cat(proof.past(level) >= each for each in Level), 0),
    )
    proof.claim("moves", nest.dut.moves == expected)
    at = Cat(Mux(proof.past(nest.start), each == Level.BEGIN, proof.past(level) == each) for each in Level)
    proof.claim("at", ~(nest.cycle | proof.past(nest.start)) | (nest.dut.at == at))
    return proof


def test_every_loop_takes_its_turns():
    turning().prove(2)


def ending():
    """Return claims that the nest runs down: its counters are a number that falls in every cycle that is not held."""
    nest = Nest()
    proof, past = nest.proof, nest.proof.past
    # Least significant first: the idle cycles, the innermost loop, and so on.
    rank = Cat(nest.idle_left, *nest.left)
    held = past(nest.hold & (nest.idle_left == 0))
    proof.claim("falls", ~past(nest.running) | ~nest.running | held | (rank < past(rank)))
    proof.claim("waits", ~past(nest.running) | ~held | (nest.running & (rank == past(rank))))
    proof.claim("end", (nest.cycle & (nest.level == Level.END)) == (past(nest.running) & ~nest.running))
    proof.claim("begins", ~past(nest.start) | nest.running)
    return proof


def test_every_instruction_ends():
    ending().prove(2)


def ordered(nest, change=0):
    """Claim of a nest where in a row its outputs come, if its last position brings one (it does without ``change``)."""
    proof, i = nest.proof, nest.i
    columns_left, every = nest.left[Level.COLUMN], i.emit_every + 1
    #: Outputs of a row, less one; and how many come after the one that is awaited.
    row = proof.constant("outputs_of_row", len(columns_left))
    proof.assume(i.columns[: len(columns_left)] == i.warmup + row * every + change)
    left = Signal.like(row, name="outputs_left")
    inner = Cat(nest.left[: Level.COLUMN]) == 0
    with proof.m.If(nest.start | (nest.working & inner & (columns_left == 0))):
        proof.m.d.sync += left.eq(row)
    with proof.m.Elif(nest.working & inner & (nest.until_output == 0)):
        proof.m.d.sync += left.eq(left - 1)
    proof.show("left", left)
    if not change:  # for the induction only
        proof.claim("row", ~nest.running | (left <= row))
        proof.claim("until", ~nest.running | (columns_left == nest.until_output + left * every))
    ends_row = (nest.level >= Level.ROW) & (nest.level <= Level.END)
    proof.claim("last", ~(nest.cycle & ends_row) | nest.last)
    return row


@pytest.mark.slow
def test_a_row_ends_with_an_output():
    nest = Nest()
    ordered(nest)
    nest.proof.prove(2)


def spaced(change=0):
    """Return claims that from one output to the next are as many cycles as it has beats, in small loops."""
    nest = Nest()
    proof, i = nest.proof, nest.i
    row = ordered(nest)
    proof.assume((i.run >> _LANE_BITS < 4) & (i.taps_x < 4) & (i.taps_y < 4) & (i.columns < 32))
    chunks, taps_x, taps_y = ((limit + 1)[:3] for limit in (i.run >> _LANE_BITS, i.taps_x, i.taps_y))
    position = (chunks * taps_x * taps_y)[:7]
    beats = i.beats + 1
    # What the verifier of programs asks of `idle`.
    proof.assume(i.idle < 1 << CONFIG.idle_bits)
    for applies, positions in (
        ((i.pool_rows != 0) | (i.pool_columns != 0), 1),
        (row != 0, i.emit_every + 1),
        ((i.rows != 0) | (i.groups != 0), i.warmup + 1),
    ):
        proof.assume(~applies | (i.idle + positions * position >= beats + change))
    limits = {Level.POOL_X: i.pool_columns, Level.POOL_Y: i.pool_rows, Level.ROW: i.rows, Level.GROUP: i.groups}
    limits |= {Level.CHUNK: i.run >> _LANE_BITS, Level.TAP_X: i.taps_x, Level.TAP_Y: i.taps_y}
    for level, limit in limits.items():
        proof.claim(f"limit_{level.name.lower()}", ~nest.running | (nest.left[level] <= limit))

    inner = Cat(nest.left[: Level.POOL_X]) == 0
    output = proof.show("output", nest.working & inner & (nest.until_output == 0))
    since, before = Signal(8), Signal()
    with proof.m.If(nest.start):
        proof.m.d.sync += before.eq(0)
    with proof.m.Elif(output):
        proof.m.d.sync += [before.eq(1), since.eq(1)]
    with proof.m.Elif(since != 255):
        proof.m.d.sync += since.eq(since + 1)
    proof.show("since", since)
    chunks_left, x_left, y_left = nest.left[Level.CHUNK][:2], nest.left[Level.TAP_X][:2], nest.left[Level.TAP_Y][:2]
    ahead = nest.idle_left + chunks_left + chunks * (x_left + taps_x * y_left) + nest.until_output * position
    proof.claim("ahead", ~nest.running | ~before | (since == 255) | (since + ahead >= beats))
    proof.claim("output", (nest.dut.valid & nest.dut.last) == proof.past(output))
    proof.claim("spaced", ~output | ~before | (since >= beats))
    several = (i.beats == 3) & (row == 1) & (i.warmup == 1) & (i.emit_every == 1) & (i.groups == 1)
    proof.goal("ends", several & (nest.level == Level.END) & nest.last)
    return proof


@pytest.mark.slow
def test_outputs_leave_the_drain_its_time():
    spaced().prove(2)


@pytest.mark.slow
def test_such_instructions_are_there():
    spaced().reach(20)


class TestFaultsAreSeen:
    @pytest.mark.slow
    def test_a_turn_too_few(self):
        with pytest.raises(Refuted, match=r"not so: .*left_0"):
            turning(wrong=1).check(6)

    def test_a_loop_that_moves_on_too_soon(self):
        component = broken(LoopNest, "m.If(reaches[index])", "m.If(reaches[max(index - 1, 0)])")
        with pytest.raises(Refuted, match=r"not so: .*left_"):
            turning(component=component).check(6)

    def test_loops_that_begin_anew_where_they_should_go_on(self, monkeypatch):
        monkeypatch.setattr(loops, "Mux", lambda test, yes, no: Mux(test, no, yes))
        with pytest.raises(Refuted, match="not so: falls"):
            ending().check(6)

    @pytest.mark.slow
    def test_rows_that_go_on_after_their_last_output(self):
        nest = Nest()
        ordered(nest, change=1)
        with pytest.raises(Refuted, match="not so: last"):
            nest.proof.check(6)

    @pytest.mark.slow
    def test_too_few_idle_cycles(self):
        with pytest.raises(Refuted, match=r"not so: .*spaced"):
            spaced(change=-1).check(12)
