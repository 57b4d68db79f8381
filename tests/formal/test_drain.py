"""The drain hands on every accumulator once, in order, with its parameters, if outputs leave it the time."""

from dataclasses import replace

import pytest
from amaranth import Mux, Signal
from support.formal import needs_solver
from support.sources import broken

from zeropoint_hw.config import AcceleratorConfig, PEKind
from zeropoint_hw.drain import Drain
from zeropoint_hw.layout import Level
from zeropoint_sim.formal import Proof, Refuted

pytestmark = needs_solver

#: Four beats of one channel.
CONFIG = AcceleratorConfig(lanes=4, columns=4, requantizers=1, accumulator_width=20)
#: What is handed on is corrected by the weights' zero point.
FOLD = replace(CONFIG, pe="fold")


def drain_proof(component=Drain, spared=0, config=CONFIG):
    """Return claims about outputs that follow each other after as many cycles as they have beats, ``spared`` less."""
    proof = Proof()
    m, dut = proof.m, proof.add("drain", component(config))
    i = proof.constant("instruction", dut.instruction)
    start, done = proof.free("start", dut.start), proof.free("done", dut.done)
    level, accumulators = proof.free("done_level", dut.done_level), proof.free("accumulators", dut.accumulators)
    proof.assume((i.beats < CONFIG.columns) & (level <= Level.END))
    proof.assume(~(start & done))

    # The output that is handed on, and the beat: `now` is one that comes two cycles after its parameters' address.
    held, held_level = Signal.like(accumulators.as_value(), name="held"), Signal.like(level, name="held_level")
    correction = Signal(32, name="correction_")
    if config.pe is PEKind.FOLD:
        activation_sum = proof.free("activation_sum", dut.activation_sum)
        with m.If(done):
            m.d.sync += correction.eq(activation_sum * i.weight_zero_point)
    beat, left = Signal(range(CONFIG.columns), name="beat_number"), Signal(range(CONFIG.columns + 1), name="beats_left")
    proof.assume(~done | (left <= spared))
    with m.If(done):
        m.d.sync += [held.eq(accumulators.as_value()), held_level.eq(level), beat.eq(0), left.eq(i.beats)]
    with m.Elif(left != 0):
        m.d.sync += [beat.eq(beat + 1), left.eq(left - 1)]
    going = proof.show("going", proof.past(done | (left != 0)))
    proof.show("beat_number_", beat)
    width = CONFIG.accumulator_width
    ends = proof.past(beat == i.beats)
    expected_level = Mux(ends, proof.past(held_level), Level.CHUNK)
    proof.claim("beat", dut.beat == proof.past(going))
    came = proof.show("came", dut.beat)
    value = proof.show("value", dut.values[0])
    corrected = (held.word_select(beat, width).as_signed() - correction)[: len(value)].as_signed()
    expected = proof.show("expected", proof.past(corrected))
    proof.claim("value", ~came | (value == expected))
    proof.claim("level", ~came | (proof.show("level", dut.beat_level) == expected_level))
    proof.claim("pools", ~came | (dut.beat_pools == (proof.past(held_level) < Level.COLUMN)))

    # Words of parameters: those of a group begin where the last one's ended.
    group = Signal.like(dut.parameter_address, name="group_")
    now = Mux(done, 0, beat + 1)
    asks = proof.show("asks", done | (left != 0))
    asked_level = Mux(done, level, held_level)
    last = now == i.beats
    with m.If(start):
        m.d.sync += group.eq(i.parameter_base)
    with m.Elif(asks & last & (asked_level == Level.GROUP) & ~i.parameters_shared):
        m.d.sync += group.eq(group + i.beats + 1)
    word = (group + Mux(i.parameters_shared, 0, now))[: len(group)]
    started = Signal(name="started")
    m.d.sync += started.eq(started | start)
    proof.assume(started | ~done)
    address = proof.show("address", dut.parameter_address)
    proof.assume(~start | (left == 0))
    proof.claim("word", ~(asks & started) | (address == word))

    # What the induction needs.
    active = proof.inside("drain", "active")
    inside, base = proof.inside("drain", "held"), proof.inside("drain", "group")
    remaining = proof.inside("drain", "left")
    proof.claim("active", active == going)
    proof.claim("left", ~active | ((remaining == left) & (beat + left == i.beats)))
    proof.claim("shifted", ~active | (inside == held >> (beat * width)[:7]))
    proof.claim("held_level", ~active | (proof.inside("drain", "level") == held_level))
    proof.claim("base", ~started | (base == group))
    proof.claim("resting", ~started | (left != 0) | (address == group))
    proof.claim("few", left <= i.beats)
    proof.claim("begun", started | ((left == 0) & ~active))
    proof.goal("ends", came & (dut.beat_level == Level.END) & (proof.past(i.beats) == CONFIG.columns - 1))
    return proof


@pytest.mark.slow
def test_every_accumulator_comes_once():
    drain_proof().prove(3)


def test_every_accumulator_is_corrected():
    drain_proof(config=FOLD).prove(3)


@pytest.mark.slow
def test_such_outputs_are_there():
    drain_proof().reach(9)


class TestFaultsAreSeen:
    def test_a_correction_that_is_added(self):
        component = broken(Drain, "accumulator - correction", "accumulator + correction")
        with pytest.raises(Refuted, match=r"not so: .*value"):
            drain_proof(component, config=FOLD).check(6)

    @pytest.mark.slow
    def test_outputs_that_come_too_soon(self):
        with pytest.raises(Refuted):
            drain_proof(spared=1).check(8)

    @pytest.mark.slow
    def test_a_group_that_does_not_move_on(self):
        component = broken(Drain, "group.eq(address + 1)", "group.eq(address)")
        with pytest.raises(Refuted, match=r"not so: .*(base|word)"):
            drain_proof(component).check(10)
