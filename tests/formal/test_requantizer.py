"""The requantizer's lane computes its definition (docs/numerics.md, "Applying a multiplier"), whatever its operands.

Solvers do not prove wide multiplications, so the four partial products of a lane are free: anything that products of
such operands can be. That the lane's four multiplications make up the one of the definition is an identity of
polynomials.
"""

import numpy as np
import pytest
from amaranth import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from support.formal import HALF, needs_solver, output, requantized, scaled, solve, wrap
from support.sources import broken

from zeropoint.numerics import Rounding, requantize
from zeropoint_hw import multiplier, requantizer
from zeropoint_hw.isa import Round
from zeropoint_hw.multiplier import UNSIGNED_WIDTH, Multiplier
from zeropoint_hw.requantizer import RequantizerLane
from zeropoint_hw.shift import ShiftedRight
from zeropoint_sim.formal import Proof, Refuted

pytestmark = needs_solver

LATENCY = RequantizerLane.latency
#: Cycles from a lane's operands to its products.
PRODUCTS = 1 + Multiplier.LATENCY


class FreeProduct(wiring.Component):
    """The ports of a multiplier of 18 bits, whose product is left to the proof."""

    def __init__(self):
        super().__init__({"a": In(signed(18)), "b": In(signed(18)), "p": Out(signed(36))})

    def elaborate(self, platform):
        return Module()


def lane_proof(monkeypatch, shifts):
    """Return claims about a lane, and about results whose shifts lie in a range, whatever comes beside them."""
    proof = Proof()
    products = {name: FreeProduct() for name in ("low", "high", "cross", "cross_too")}
    left = iter(products.values())
    monkeypatch.setattr(multiplier, "Multiplier", lambda width: next(left))
    lane = proof.add("lane", RequantizerLane())
    instruction = output(proof, lane)
    value, parameters = proof.free("value", lane.value), proof.free("parameters", lane.parameters)
    bias, shift = proof.show("bias", parameters.bias), proof.show("shift", parameters.shift)
    proof.assume((shift >= -31) & (shift <= 30))
    under_test = proof.past(shift, LATENCY)
    proof.assume((under_test >= shifts[0]) & (under_test <= shifts[-1]))

    # The operands of the multipliers are the two halves of those of one product.
    low, high, cross, cross_too = products.values()
    x, m = wrap(wrap(value + bias) << Mux(shift > 0, shift, 0)[:5]), parameters.multiplier
    proof.claim("x", (high.a << UNSIGNED_WIDTH) + low.a == proof.past(x))
    proof.claim("m", (high.b << UNSIGNED_WIDTH) + low.b == proof.past(m))
    proof.claim(
        "halves_low", (low.a >= 0) & (low.b >= 0) & (low.a < 1 << UNSIGNED_WIDTH) & (low.b < 1 << UNSIGNED_WIDTH)
    )
    proof.claim("halves_high", (high.a >= -(1 << 14)) & (high.a < 1 << 14) & (high.b >= 0) & (high.b < 1 << 14))
    proof.claim("crossed", (cross.a == high.a) & (cross.b == low.b) & (cross_too.a == low.a) & (cross_too.b == high.b))

    # Products of such halves are as far from 0 as this, or less.
    low_most, high_most = (1 << UNSIGNED_WIDTH) - 1, (1 << 14) - 1
    for name, (least_product, most_product) in {
        "low": (0, low_most**2),
        "high": (-(1 << 14) * high_most, high_most**2),
        "cross": (-(1 << 14) * low_most, high_most * low_most),
        "cross_too": (0, low_most * high_most),
    }.items():
        p = proof.free(name, products[name].p)
        proof.assume((p >= least_product) & (p <= most_product))
    upper = (high.p << UNSIGNED_WIDTH) + low.p[UNSIGNED_WIDTH : 2 * UNSIGNED_WIDTH] + (cross.p + cross_too.p)
    proof.claim("upper", upper == wrap(upper, 46))
    product = proof.show("product", Cat(low.p[:UNSIGNED_WIDTH], upper[:46]).as_signed())

    right = proof.past(Mux(shift < 0, -shift, 0)[:5], PRODUCTS)
    expected = requantized(product, right, *instruction)
    expected = proof.show("expected", proof.past(expected, LATENCY - PRODUCTS))
    proof.claim("result", proof.show("result", lane.result) == expected)
    return proof


#: The right shifts, each for itself; left ones together, since what comes after them is the same for all.
CASES = [range(31), *(range(-right, 1 - right) for right in range(1, 32))]
FAST = (0, -9)


@pytest.mark.parametrize(
    "shifts", [pytest.param(case, marks=[] if case[0] in FAST else pytest.mark.slow, id=f"{case[0]}") for case in CASES]
)
def test_result_is_that_of_the_definition(monkeypatch, shifts):
    lane_proof(monkeypatch, shifts).prove_settled(LATENCY)


def test_each_shift_has_its_case():
    assert sorted(shift for case in CASES for shift in case) == list(range(-31, 31))


def identity(sign):
    """Return x · m, and the lane's sum of its partial products, as a question whether they can differ."""
    return f"""
    (set-logic QF_NIA)
    (declare-const x_low Int) (declare-const x_high Int) (declare-const m_low Int) (declare-const m_high Int)
    (declare-const kept Int) (declare-const carried Int)
    (define-fun unit () Int {1 << UNSIGNED_WIDTH})
    (assert (= (* x_low m_low) (+ kept (* unit carried))))
    (define-fun upper () Int (+ carried (* x_high m_low) ({sign} (* x_low m_high)) (* unit (* x_high m_high))))
    (define-fun product () Int (* (+ x_low (* unit x_high)) (+ m_low (* unit m_high))))
    (assert (not (= product (+ kept (* unit upper)))))
    (check-sat)
    """


def test_partial_products_make_up_the_product():
    assert solve(identity("+")) == "unsat"
    assert solve(identity("-")) == "sat"


def left_shift_proof(wrong=0):
    """Return the claim that rounding after a left shift is rounding at a place that is that much further down."""
    proof = Proof()
    product, shift, even = proof.free("product", signed(63)), proof.free("shift", 5), proof.free("even", 1)
    proof.assume(shift <= 30)
    half = HALF >> shift
    once = (product + half + wrong) >> (31 - shift)[:5]
    is_tie = product & ((half << 1) - 1) == half
    expected = proof.show("expected", wrap(once - (even & is_tie & once[0])))
    got = scaled(product << shift, Const(0, 5), Mux(even, Round.EVEN, Round.SINGLE))
    proof.claim("same", proof.show("got", got) == expected)
    return proof


@pytest.mark.slow
def test_left_shifts_before_rounding_once():
    left_shift_proof().check(1)


def test_a_wrong_half_is_seen():
    with pytest.raises(Refuted, match="not so: same"):
        left_shift_proof(wrong=1).check(1)


@pytest.mark.parametrize("rounding", Rounding)
def test_the_definition_is_that_of_the_golden_model(rounding):
    # Half of them multiply by 2^30, so that there are ties.
    rng = np.random.default_rng(1)
    count = 400
    right, zero_point = rng.integers(0, 32, count), rng.integers(-256, 256, count)
    ends = np.sort(rng.integers(-256, 256, (2, count)), axis=0)
    m = rng.integers(0, 1 << 31, count)
    m[::2] = 1 << 30
    near = rng.integers(-300, 300, count) * 2.0 ** (31 + right) / np.maximum(m, 1)
    x = np.clip(np.rint(near), -(2**31), 2**31 - 1).astype(np.int64) + rng.integers(-1, 2, count)
    x = np.clip(x, -(2**31), 2**31 - 1)
    inputs = {
        "product": signed(63),
        "right": 5,
        "rounding": Round,
        "zero": signed(9),
        "low": signed(9),
        "high": signed(9),
    }
    signals = {name: Signal(shape, name=name) for name, shape in inputs.items()}
    out, module, got = Signal(8), Module(), []
    module.d.comb += out.eq(requantized(*signals.values()))

    async def bench(ctx):
        for row in zip(x * m, right, zero_point, *ends, strict=True):
            product, shift, zero, low, high = map(int, row)
            values = (product, shift, Round[rounding.name], zero, low, high)
            for signal, value in zip(signals.values(), values, strict=True):
                ctx.set(signal, value)
            got.append(ctx.get(out))

    simulator = Simulator(module)
    simulator.add_testbench(bench)
    simulator.run()
    expected = requantize(x, m, -right, zero_point, tuple(ends), rounding) & 0xFF
    np.testing.assert_array_equal(got, expected)


class TestFaultsAreSeen:
    """Each of these must be refuted by the very proof that passes above."""

    def refuted(self, monkeypatch, right):
        with pytest.raises(Refuted, match="not so: result"):
            lane_proof(monkeypatch, range(-right, 1 - right)).prove_settled(LATENCY)

    def test_ties_rounded_upward(self, monkeypatch):
        rounds_up = ShiftedRight.rounds_up
        monkeypatch.setattr(ShiftedRight, "rounds_up", lambda self, twice, sign: rounds_up(self, 0, sign))
        self.refuted(monkeypatch, 9)

    def test_the_shift_of_what_comes_next(self, monkeypatch):
        wrong = broken(requantizer.shift_right, 'delay(m, by[:3], 1, "fine_shift")', "by[:3]")
        monkeypatch.setattr(requantizer, "shift_right", wrong)
        self.refuted(monkeypatch, 9)

    @pytest.mark.slow
    def test_bits_shifted_out_forgotten(self, monkeypatch):
        shift_right = requantizer.shift_right

        def forgetful(*arguments):
            fine, sign = shift_right(*arguments)
            return ShiftedRight(fine.value, 0, fine.every, fine.lost), sign

        monkeypatch.setattr(requantizer, "shift_right", forgetful)
        self.refuted(monkeypatch, 3)

    @pytest.mark.slow
    def test_a_result_beyond_the_clamp_missed(self, monkeypatch):
        shift_right = requantizer.shift_right

        def narrow(*arguments):
            fine, sign = shift_right(*arguments)
            return ShiftedRight(fine.value, fine.some, fine.every, 0), sign

        monkeypatch.setattr(requantizer, "shift_right", narrow)
        self.refuted(monkeypatch, 1)
