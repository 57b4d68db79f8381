"""The requantizer that only shifts computes its definition, whatever its operands."""

import pytest
from amaranth import Const, Mux
from support.formal import needs_solver
from support.sources import broken

from zeropoint_hw import shift_requantizer
from zeropoint_hw.config import AcceleratorConfig, RequantizerKind
from zeropoint_hw.isa import Round
from zeropoint_hw.shift_requantizer import ShiftRequantizerLane
from zeropoint_sim.formal import Proof, Refuted

pytestmark = needs_solver

CONFIG = AcceleratorConfig(lanes=1, columns=1, requantizer=RequantizerKind.SHIFT)
LATENCY = ShiftRequantizerLane.latency


def lane_proof(shift, component=ShiftRequantizerLane):
    """Return the claim about results whose parameters have this shift, whatever comes beside them."""
    proof = Proof()
    lane = proof.add("lane", component(CONFIG))
    i = proof.constant("instruction", lane.instruction)
    value, parameters = proof.free("value", lane.value), proof.free("parameters", lane.parameters)
    bias, rounding = proof.show("bias", parameters.bias), proof.show("rounding", i.rounding)
    low, high = proof.show("clamp_low", i.clamp_low), proof.show("clamp_high", i.clamp_high)
    proof.assume((low >= -256) & (low <= high) & (high <= 255))
    proof.assume(proof.past(parameters.shift, LATENCY) == shift)
    # Where nothing is rounded, it is all the same how.
    proof.assume((rounding != Round.DOUBLE) | (shift >= 1))

    # (value + bias) · 2^(shift − 1), as a quotient: nothing wraps.
    number, by = (value + bias) << 31, 32 - shift
    half = Const(1 << by - 1)
    once = (number + half) >> by
    is_tie = number[:by] == half
    away = (number + half - (number < 0)) >> by
    nearest = Mux(rounding == Round.EVEN, once - (is_tie & once[0]), Mux(rounding == Round.AWAY, away, once))
    clamped = Mux(nearest < low, low, Mux(nearest > high, high, nearest))[: CONFIG.element_bits]
    expected = proof.show("expected", proof.past(clamped, LATENCY))
    proof.claim("result", proof.show("result", lane.result) == expected)
    return proof


FAST = (-7,)


@pytest.mark.parametrize(
    "shift", [pytest.param(shift, marks=[] if shift in FAST else pytest.mark.slow) for shift in range(-30, 32)]
)
def test_result_is_that_of_the_definition(shift):
    lane_proof(shift).prove_settled(LATENCY)


class TestFaultsAreSeen:
    @pytest.mark.slow
    def test_ties_to_odd(self):
        component = broken(ShiftRequantizerLane, "half & (fine.some | low)", "half & (fine.some | ~low)")
        with pytest.raises(Refuted, match="not so: result"):
            lane_proof(-7, component).prove_settled(LATENCY)

    def test_ties_below_zero_rounded_upward(self):
        component = broken(ShiftRequantizerLane, "half & (fine.some | ~sign)", "half")
        with pytest.raises(Refuted, match="not so: result"):
            lane_proof(-7, component).prove_settled(LATENCY)

    def test_the_shift_of_what_comes_next(self, monkeypatch):
        wrong = broken(shift_requantizer.shift_right, 'delay(m, by[:3], 1, "fine_shift")', "by[:3]")
        monkeypatch.setattr(shift_requantizer, "shift_right", wrong)
        with pytest.raises(Refuted, match="not so: result"):
            lane_proof(-7).prove_settled(LATENCY)
