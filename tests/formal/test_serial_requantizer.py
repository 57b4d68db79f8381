"""The serial requantizer computes its definition (docs/numerics.md, "Applying a multiplier"), whatever its operands.

Three parts: what its registers hold, step by step, in terms of a product that is written down by the schoolbook method;
what rounding and clamp make of them; and which steps lanes are told to take. That the schoolbook method gives the
product is an identity of polynomials.
"""

import pytest
from amaranth import Const, Module, Mux, Signal, signed
from support.formal import needs_solver, output, requantized, solve, wrap
from support.sources import broken, named

from zeropoint_hw import serial_requantizer
from zeropoint_hw.config import MULTIPLIER_BITS, AcceleratorConfig
from zeropoint_hw.layout import Level
from zeropoint_hw.requantizer import Requantizer
from zeropoint_hw.serial_requantizer import SerialRequantizer, SerialRequantizerLane
from zeropoint_sim.formal import Proof, Refuted

pytestmark = needs_solver


def serial(digit_bits, lanes=1):
    return AcceleratorConfig(
        lanes=lanes, columns=lanes, requantizers=lanes, requantizer="serial", digit_bits=digit_bits
    )


def held(proof):
    """Return a lane's registers."""
    names = ("number", "digits", "right", "product", "half", "some", "every", "rest", "whole")
    return {name: proof.inside("lane", name) for name in names}


def rests(product, shifted):
    """Return what a lane holds of a product that has been shifted right by 31 bits and so many more."""
    out = product[30:61]
    mask = (Const(1, 32) << shifted) - 1
    return {
        "product": (product >> 31 >> shifted)[:32].as_signed(),
        "half": (product[30:62] >> shifted)[0],
        "some": (out & mask).any(),
        "every": (~out & mask)[:31] == 0,
        "rest": product[:30].any(),
    }


def steps_proof(digit_bits, component=SerialRequantizerLane, multiplier=None):
    """Return claims about what a lane holds after any load, or any with this multiplier, and any number of steps."""
    config = serial(digit_bits)
    fill = config.digits * digit_bits - MULTIPLIER_BITS
    proof = Proof()
    m, lane = proof.m, proof.add("lane", named(component)(config))
    proof.constant("instruction", lane.instruction)
    value, parameters = proof.free("value", lane.value), proof.free("parameters", lane.parameters)
    load, multiply, shift = (proof.free(name, getattr(lane, name)) for name in ("load", "multiply", "shift"))
    left_by, right_by = (Mux(by > 0, by, 0)[:5] for by in (parameters.shift, -parameters.shift))
    proof.assume((parameters.shift >= -31) & (parameters.shift <= 30))
    if multiplier is not None:
        proof.assume(parameters.multiplier == multiplier)

    # The definition: what is multiplied, the multiplier's digits, and the product so far, whose unit moves down with
    # each digit, so that the last one leaves that of the product.
    x, right = Signal(signed(32), name="x"), Signal(5, name="right_by")
    digits = Signal(MULTIPLIER_BITS + fill, name="digits_left")
    product, taken = Signal(signed(64), name="product_"), Signal(range(config.digits + 1), name="taken")
    shifted, loaded = Signal(5, name="shifted"), Signal(name="loaded")
    proof.assume(load | loaded | ~(multiply | shift))
    proof.assume(~(multiply & shift))
    proof.assume(load | ~multiply | (~lane.to_left & (taken < config.digits)))
    proof.assume(load | ~shift | (taken == config.digits))
    following = product
    for bit in range(digit_bits):
        following = wrap((following + Mux(digits[bit], x << 31, 0)) >> 1, 64)
    with m.If(load):
        m.d.sync += [
            x.eq(wrap(value + parameters.bias) << left_by),
            digits.eq(parameters.multiplier << fill),
            *(right.eq(right_by), loaded.eq(1), product.eq(0), taken.eq(0), shifted.eq(0)),
        ]
    with m.Elif(multiply):
        m.d.sync += [product.eq(following), taken.eq(taken + 1), digits.eq(digits >> digit_bits)]
    with m.Elif(shift & (shifted != right)):
        m.d.sync += shifted.eq(shifted + 1)

    registers = held(proof)
    left = proof.inside("lane", "left")
    for name, expected in rests(product, shifted).items():
        proof.claim(name, ~loaded | (proof.show(name, registers[name]) == proof.show(f"{name}_expected", expected)))
    proof.claim("number", ~loaded | (wrap(registers["number"] << left) == x))
    proof.claim("digits", ~loaded | (registers["digits"] == digits))
    proof.claim("right", ~loaded | (registers["right"] == right - shifted))
    proof.claim("whole", ~loaded | (registers["whole"] == (right == 0)))
    proof.claim("to_left", lane.to_left == (left != 0))
    proof.claim("to_right", ~loaded | (lane.to_right == (shifted != right)))
    # What the induction needs: there are as many digits left as are not taken, what is below the unit so far is 0, and
    # the product lies between 0 and x, in that unit.
    below = Const((1 << len(digits)) - 1) >> (taken * digit_bits)
    proof.claim("few", ~loaded | ((digits & ~below) == 0))
    proof.claim("filled", ~loaded | (taken > 0) | (digits[:fill] == 0))
    proof.claim("exact", ~loaded | ((product & below) == 0))
    bound = x << 31
    proof.claim("bounded", ~loaded | ((product >= Mux(x < 0, bound, 0)) & (product <= Mux(x < 0, 0, bound))))
    proof.claim("first", ~loaded | (taken == config.digits) | (shifted == 0))
    proof.claim("shifted", ~loaded | (shifted <= right))
    proof.claim("taken", taken <= config.digits)
    proof.goal("done", loaded & (taken == config.digits) & (right > 1) & (shifted == right) & (product[31:] != 0))
    return proof


def rounding_proof(right, component=SerialRequantizerLane):
    """Return the claim that a lane which holds a product, shifted right, makes its definition of it."""
    proof = Proof()
    lane = proof.add("lane", named(component)(serial(1)))
    instruction = output(proof, lane)
    proof.assume(~lane.load & ~lane.multiply & ~lane.shift)
    product, right = proof.constant("product", signed(63)), Const(right, 5)
    registers = held(proof)
    for name, expected in rests(product, right).items():
        proof.assume(registers[name] == expected)
    proof.assume(registers["whole"] == (right == 0))
    expected = proof.show("expected", requantized(product, right, *instruction))
    proof.claim("result", proof.show("result", lane.result) == expected)
    return proof


class AnyLane(SerialRequantizerLane):
    """Has any number of bits to shift by, and goes by the steps that it is told to take; it has no result."""

    def __init__(self, config):
        super().__init__(config)
        self.lefts, self.rights = Signal(5), Signal(5)
        self.left, self.right = Signal(5), Signal(5)

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [self.to_left.eq(self.left != 0), self.to_right.eq(self.right != 0)]
        with m.If(self.load):
            m.d.sync += [self.left.eq(self.lefts), self.right.eq(self.rights)]
        with m.Else():
            m.d.sync += [
                self.left.eq(self.left - self.to_left),
                self.right.eq(self.right - (self.shift & self.to_right)),
            ]
        return m


def most(values):
    first, other = values
    return Mux(first > other, first, other)


def order_proof(monkeypatch, component=SerialRequantizer, digit_bits=8):
    """Return claims about the steps that two lanes are told to take."""
    config, lanes = serial(digit_bits, lanes=2), []

    def any_lane(config):
        lanes.append(AnyLane(config))
        return lanes[-1]

    monkeypatch.setattr(serial_requantizer, "SerialRequantizerLane", any_lane)
    proof = Proof()
    m, dut = proof.m, proof.add("dut", named(component)(config))
    state = proof.show("state", proof.inside("dut", "fsm_state"))
    beat = proof.free("beat", dut.beat)
    level, pools = proof.free("beat_level", dut.beat_level), proof.free("beat_pools", dut.beat_pools)
    lefts, rights = (
        [proof.free(f"{name}{index}", getattr(lane, name)) for index, lane in enumerate(lanes)]
        for name in ("lefts", "rights")
    )
    ready, result = proof.show("ready", dut.ready), proof.show("result_beat", dut.result_beat)
    proof.assume(~beat | proof.past(ready))
    load, multiply, shift = (
        [proof.show(f"{name}{index}", getattr(lane, name)) for index, lane in enumerate(lanes)]
        for name in ("load", "multiply", "shift")
    )

    # A beat is under way, so many digits are taken, and so many cycles have passed.
    under_way, passed = Signal(name="under_way"), Signal(8, name="passed")
    taken = Signal(range(config.digits + 1), name="taken")
    left, right = Signal(5, name="most_left"), Signal(5, name="most_right")
    held_level, held_pools = Signal.like(level, name="held_level"), Signal(name="held_pools")
    with m.If(beat):
        m.d.sync += [under_way.eq(1), taken.eq(0), passed.eq(1), held_level.eq(level), held_pools.eq(pools)]
        m.d.sync += [left.eq(most(lefts)), right.eq(most(rights))]
    with m.Else():
        m.d.sync += [under_way.eq(under_way & ~result), taken.eq(taken + multiply[0]), passed.eq(passed + under_way)]
    lefts_left, rights_left = most([lane.left for lane in lanes]), most([lane.right for lane in lanes])
    multiplied = taken == config.digits
    complete = proof.show("complete", multiplied & (lefts_left == 0) & (rights_left == 0))

    for index in range(2):
        proof.claim(f"load{index}", load[index] == beat)
        going = under_way & ~beat
        proof.claim(f"multiply{index}", ~multiply[index] | (going & (lefts_left == 0) & (taken < config.digits)))
        proof.claim(f"shift{index}", ~shift[index] | (going & multiplied & ~multiply[index]))
        proof.claim(f"alike{index}", (multiply[index] == multiply[0]) & (shift[index] == shift[0]))
    proof.claim("result", ~result | (under_way & complete & proof.past(complete) & proof.past(complete, 2)))
    proof.claim("one", ~beat | ~under_way | result)
    proof.claim("level", ~under_way | ((dut.result_level == held_level) & (dut.result_pools == held_pools)))
    proof.claim("announced", proof.past(dut.announced) == (result & ~held_pools))
    ending = proof.past(dut.ending, Requantizer.NOTICE)
    proof.claim("ending", ending == (result & (held_level == Level.END)))
    # What the compiler reckons with (AcceleratorConfig.beat_cycles): from this cycle on a beat may come in the next.
    cycles = config.beat_cycles(0, 0) + left + right
    proof.claim("in_time", ~under_way | result | (passed < cycles - 1) | ready)
    # What the induction needs.
    resting, shifts_left, multiplies, shifts_right, clamps = (state == number for number in range(5))
    proof.claim("states", state < 5)
    proof.claim("resting", ~resting | ~under_way | result)
    proof.claim("busy", resting | (under_way & ~result))
    before = 1 + left - lefts_left
    proof.claim("left", ~shifts_left | ((passed == before) & (taken == 0) & (rights_left == right)))
    digits_left = proof.inside("dut", "left")
    proof.claim("digits", ~(shifts_left | multiplies) | (digits_left + taken == config.digits - 1))
    proof.claim(
        "multiplying", ~multiplies | ((passed == left + 2 + taken) & (lefts_left == 0) & (rights_left == right))
    )
    after = left + 2 + config.digits + right - rights_left
    proof.claim("shifting", ~shifts_right | ((passed == after) & (lefts_left == 0) & multiplied))
    proof.claim("clamping", ~clamps | ((passed == after + 1) & complete & proof.past(complete)))
    proof.goal("two", proof.past(result & (left != 0)) & (passed == 1) & under_way)
    return proof


def test_registers_hold_the_product():
    steps_proof(1).prove(1)


def test_such_products_are_there():
    steps_proof(8).reach(12)


FAST = (0, 9)


@pytest.mark.parametrize(
    "right", [pytest.param(right, marks=[] if right in FAST else pytest.mark.slow) for right in range(32)]
)
def test_result_is_that_of_the_definition(right):
    rounding_proof(right).prove_settled(2)


def identity(unit):
    """Return whether x times a digit, added to what x times the digits before was, may not be x times them all."""
    return f"""
    (set-logic QF_NIA)
    (declare-const x Int) (declare-const taken Int) (declare-const digit Int) (declare-const unit Int)
    (define-fun product () Int (* x taken))
    (assert (not (= (+ product (* {unit} digit x)) (* x (+ taken (* unit digit))))))
    (check-sat)
    """


def test_digits_make_up_the_product():
    assert solve(identity("unit")) == "unsat"
    assert solve(identity("2 unit")) == "sat"


@pytest.mark.parametrize("digit_bits", [1, 8])
def test_lanes_take_all_steps_in_order_and_in_time(monkeypatch, digit_bits):
    order_proof(monkeypatch, digit_bits=digit_bits).prove(3)


def test_such_beats_are_there(monkeypatch):
    order_proof(monkeypatch).reach(16)


class TestFaultsAreSeen:
    @pytest.mark.parametrize(
        ("right", "wrong", "claim"),
        [
            ("rest | half | Cat", "rest | Cat", "rest"),
            ("every.eq(every & half)", "every.eq(every | half)", "every"),
            ("self.shift & self.to_right", "self.shift", "right"),
            ("self.value + parameters.bias", "self.value - parameters.bias", "number"),
            ("number.eq(number << 1)", "number.eq(number << 2)", "number"),
        ],
    )
    def test_a_step(self, right, wrong, claim):
        with pytest.raises(Refuted, match=f"not so: .*{claim}"):
            steps_proof(8, broken(SerialRequantizerLane, right, wrong), multiplier=0x50000001).check(10)

    @pytest.mark.parametrize(
        ("right", "wrong"),
        [
            ("half & (some | rest | product[0])", "half & (some | product[0])"),
            ("Mux(sign, ~all_set, ~none_set)", "~none_set"),
            ("late_sign ^ (edge & (moved[10] == late_sign))", "late_sign"),
        ],
    )
    def test_a_rounding_or_an_end(self, right, wrong):
        with pytest.raises(Refuted, match="not so: result"):
            rounding_proof(0, broken(SerialRequantizerLane, right, wrong)).prove_settled(2)

    @pytest.mark.parametrize(
        ("right", "wrong", "claim"),
        [
            ("to_right | lane.to_right", "lane.to_right", "clamping"),
            ("left.eq(self._config.digits - 1)", "left.eq(self._config.digits - 2)", "digits"),
            ("self.ready.eq(1), self.announced", "self.ready.eq(0), self.announced", "in_time"),
        ],
    )
    def test_an_order(self, monkeypatch, right, wrong, claim):
        with pytest.raises(Refuted, match=f"not so: .*{claim}"):
            order_proof(monkeypatch, broken(SerialRequantizer, right, wrong)).check(24)
