import pytest
from amaranth import Module, Mux, Signal, signed
from amaranth.hdl import Fragment
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from support.formal import needs_solver

from zeropoint.errors import ZeropointError
from zeropoint_sim import formal
from zeropoint_sim.formal import NotShown, Proof, Refuted, Unreachable


class Doubler(wiring.Component):
    """Twice the input, two cycles later."""

    i: In(signed(4))
    o: Out(signed(5))

    def elaborate(self, platform):
        m = Module()
        held = Signal(signed(4))
        m.d.sync += [held.eq(self.i), self.o.eq(held + held)]
        return m


def doubled(difference=0):
    proof = Proof()
    dut = proof.add("dut", Doubler())
    i = proof.free("i", dut.i)
    proof.claim("doubles", proof.show("o", dut.o) == proof.past(2 * i + difference, 2))
    return proof


def counter(limit):
    """A counter from 0 to 3 and round again, and the claim that it stays below a limit."""
    proof = Proof()
    count = Signal(4)
    proof.m.d.sync += count.eq(Mux(count == 3, 0, count + 1))
    proof.claim("below", proof.show("count", count) < limit)
    return proof


@needs_solver
class TestProof:
    def test_what_is_so_is_proved(self):
        doubled().prove_settled(2)

    def test_what_is_not_so_is_refuted(self):
        with pytest.raises(Refuted) as refuted:
            doubled(difference=1).prove_settled(2)
        message, *table = str(refuted.value).splitlines()
        rows = {cells[0]: cells[1:] for cells in map(str.split, table)}
        assert message == "not so: doubles"
        assert rows["cycle"] == ["0", "1", "2"]
        assert int(rows["o"][2]) == 2 * int(rows["i"][0])

    @pytest.mark.slow
    def test_a_counterexample_ends_where_the_claim_first_fails(self):
        with pytest.raises(Refuted, match=r"not so: below\ncycle +0  1  2\ncount  0  1  2$"):
            counter(limit=2).prove(depth=5)

    @pytest.mark.slow
    def test_what_fails_later_than_was_looked(self):
        counter(limit=2).check(depth=2)
        with pytest.raises(Refuted):
            counter(limit=2).check(depth=3)

    def test_what_is_so_but_not_inductive(self):
        with pytest.raises(NotShown, match="no induction over 1 cycles\nnot so: below"):
            counter(limit=5).prove(depth=1)
        counter(limit=4).prove(depth=1)

    @pytest.mark.slow
    def test_a_state_that_is_never_reached_is_one_from_which_a_pipeline_must_settle(self):
        with pytest.raises(Refuted, match="not so: below"):
            counter(limit=4).prove_settled(2)

    @pytest.mark.slow
    def test_goals(self):
        for reached, goal in ((True, 3), (False, 4)):
            proof = Proof()
            dut = proof.add("dut", Doubler())
            i = proof.free("i", dut.i)
            proof.assume(i <= 3)
            proof.goal("far", dut.o == 2 * goal)
            if reached:
                proof.reach(3)
            else:
                with pytest.raises(Unreachable, match="of far, not all are reached within 3 cycles"):
                    proof.reach(3)

    def test_a_proof_of_nothing_is_none(self):
        proof = Proof()
        for show in (proof.prove, proof.check, proof.prove_settled, proof.reach):
            with pytest.raises(ValueError, match=r"^there is nothing to be shown$"):
                show(1)
        Fragment.get(proof.m, None)  # or Amaranth complains that it is not used

    def test_assumptions_that_contradict_each_other_prove_nothing(self):
        proof = doubled(difference=1)
        i = proof.free("other", 4)
        proof.assume((i > 5) & (i < 5))
        with pytest.raises(ZeropointError, match="ssumptions are unsatisfiable"):
            proof.prove(depth=3)


def test_a_missing_solver_is_named(monkeypatch):
    monkeypatch.setattr(formal, "SOLVER", "no-such-solver")
    with pytest.raises(ZeropointError, match=r"^a proof needs the solver no-such-solver; run pip install 'zeropoint\["):
        formal.find()
