"""PEs multiply by what weights stand for: every activation, weight, zero point and sequence of them.

Multipliers of the kinds that have one are replaced by free products: what is shown is that they are given the operands
of the definition, and that the result is theirs. Products with powers of two, and those made of adders, are shown in
full.
"""

import pytest
from amaranth import Const, Module, Mux, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from support.formal import needs_solver, solve
from support.sources import broken

from zeropoint_hw import pe
from zeropoint_hw.barrel import ShiftProduct
from zeropoint_hw.config import WEIGHT_BITS, AcceleratorConfig, PEKind
from zeropoint_hw.lut_multiplier import LutMultiplier
from zeropoint_hw.multiplier import Multiplier
from zeropoint_hw.pe import OPERAND, PROCESSING_ELEMENTS
from zeropoint_sim.formal import Proof, Refuted

pytestmark = needs_solver


def extended(weight, is_unsigned):
    """Return a weight as a number: two's complement, or without a sign."""
    return Mux(is_unsigned, weight, weight.as_signed())


def power(code, exponent_bits, zero):
    """Return what a code of docs/formats.md stands for: sign, exponent, and with ``zero`` a bit that is 0 for a 0."""
    value = Const(1, 1) << code[:exponent_bits] if exponent_bits else Const(1, 1)
    value = Mux(code[exponent_bits], -value, value)
    return Mux(code[exponent_bits + 1], value, 0) if zero else value


class FreeProduct(wiring.Component):
    """The ports of a multiplier, whose product is left to the proof."""

    LATENCY = Multiplier.LATENCY

    def __init__(self, width):
        super().__init__({"a": In(signed(width)), "b": In(signed(width)), "p": Out(signed(2 * width))})

    def elaborate(self, platform):
        return Module()


def multiplying_proof(monkeypatch, kind):
    """Return claims about what a PE with a DSP block multiplies, and what it makes of the product."""
    proof = Proof()
    config = AcceleratorConfig(lanes=1, columns=1, pe=kind)
    multiplier = FreeProduct(OPERAND.width)
    monkeypatch.setattr(pe, "Multiplier", lambda width: multiplier)
    dut = proof.add("pe", PROCESSING_ELEMENTS[kind](config))
    activation, weight = proof.free("activation", dut.activation), proof.free("weight", dut.weight)
    coded, is_unsigned = proof.free("coded", dut.weights_coded), proof.free("unsigned", dut.weights_unsigned)
    zero_point = proof.free("zero_point", dut.weight_zero_point)
    p = proof.free("p", multiplier.p)
    number = extended(weight, is_unsigned)
    expected = number if kind is PEKind.FOLD else number - zero_point
    # A zero point is one of the weights' type.
    proof.assume(Mux(is_unsigned, (zero_point >= 0) & (zero_point <= 255), (zero_point >= -128) & (zero_point <= 127)))
    if kind is PEKind.MIXED:
        proof.assume(~coded | (weight == 0) | weight[4])
        expected = Mux(coded, power(weight, 3, True), expected)
    expected = proof.show("expected", expected)
    proof.claim("activation", proof.show("a", multiplier.a) == activation)
    proof.claim("factor", proof.show("b", multiplier.b) == expected)
    proof.claim("product", dut.product == p)
    proof.claim("carry", dut.carry == 0)
    return proof


MULTIPLYING = (PEKind.MAC, PEKind.FOLD, PEKind.MIXED)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind is PEKind.MAC else pytest.mark.slow) for kind in MULTIPLYING]
)
def test_factors_and_product(monkeypatch, kind):
    multiplying_proof(monkeypatch, kind).check(1)


def folded(sign):
    """Return mac's terms and fold's, and what it subtracts for both zero points, as a question whether they differ."""
    return f"""
    (set-logic QF_NIA)
    (declare-const x Int) (declare-const w Int) (declare-const zx Int) (declare-const zw Int)
    (define-fun mac () Int (* (- x zx) (- w zw)))
    (define-fun bias () Int ({sign} (* zx zw) (* zx w)))
    (assert (not (= mac (+ (- (* x w) (* zw x)) bias))))
    (check-sat)
    """


def test_fold_and_its_bias_are_mac():
    assert solve(folded("-")) == "unsat"
    assert solve(folded("+")) == "sat"


#: Bits of the exponent in a code, and whether there is a 0.
CODES = [(bits - 1 - zero, zero) for zero in (True, False) for bits in range(1 + zero, 6 - (not zero))]


def shift_proof(formats, wrong=0):
    """Return claims about shifters for several formats, with the same operands."""
    proof = Proof()
    activation, code, gate = proof.free("activation", OPERAND), proof.free("code", 5), proof.free("gate", 1)
    for exponent_bits, zero in formats:
        name = f"{1 + zero + exponent_bits}_bits_{'with' if zero else 'without'}_zero"
        dut = proof.add(name, ShiftProduct(exponent_bits, zero))
        proof.m.d.comb += [dut.activation.eq(activation), dut.code.eq(code), dut.gate.eq(gate)]
        bits = code[: len(dut.code)]
        meant = proof.show(f"weight_{name}", Mux(gate, 0, power(bits, exponent_bits, zero)))
        has_meaning = bits[-1] | (bits == 0) if zero else Const(1, 1)
        expected = proof.past(Mux(has_meaning, activation * meant, 0), dut.latency)
        result = proof.show(f"product_{name}", dut.product + dut.carry + wrong)
        proof.claim(name, ~proof.past(has_meaning, dut.latency) | (result == expected))
    return proof


def test_every_code_of_shift():
    shift_proof([(3, True)]).prove_settled(2)


@pytest.mark.slow
def test_every_code_of_all_formats_of_shift():
    assert {1 + zero + bits for bits, zero in CODES} == {*WEIGHT_BITS[PEKind.SHIFT], 1}
    shift_proof(CODES).prove_settled(2)


def lut_proof(a_width, b_width, multiplier=LutMultiplier):
    """Return the claim that a multiplier made of adders multiplies."""
    proof = Proof()
    dut = proof.add("dut", multiplier(a_width, b_width))
    a, b = proof.free("a", dut.a), proof.free("b", dut.b)
    expected = proof.show("expected", proof.past(a * b, dut.latency))
    proof.claim("product", proof.show("p", dut.p) == expected)
    return proof, dut.latency


@pytest.mark.slow
@pytest.mark.parametrize("widths", [(9, 2), (9, 5), (9, 8)], ids=str)
def test_products_made_of_adders(widths):
    proof, latency = lut_proof(*widths)
    proof.prove_settled(latency)


class TestFaultsAreSeen:
    @pytest.mark.parametrize(
        ("kind", "wrong"),
        [
            pytest.param(PEKind.MAC, pe.FoldPE, id="zero-point-not-subtracted"),
            pytest.param(PEKind.FOLD, pe.MacPE, id="zero-point-subtracted", marks=pytest.mark.slow),
            pytest.param(PEKind.MIXED, pe.MacPE, id="codes-not-decoded", marks=pytest.mark.slow),
            pytest.param(
                PEKind.MIXED,
                broken(pe.MixedPE, ".as_signed() + negative)", ".as_signed())"),
                id="negation-not-completed",
                marks=pytest.mark.slow,
            ),
        ],
    )
    def test_wrong_factor(self, monkeypatch, kind, wrong):
        monkeypatch.setitem(PROCESSING_ELEMENTS, kind, wrong)
        with pytest.raises(Refuted, match="not so: factor"):
            multiplying_proof(monkeypatch, kind).check(1)

    @pytest.mark.slow
    def test_top_row_added_where_it_should_be_subtracted(self):
        proof, latency = lut_proof(9, 5, broken(LutMultiplier, "bit == top", "False"))
        with pytest.raises(Refuted, match="not so: product"):
            proof.check(latency + 1)

    def test_negation_not_completed(self):
        with pytest.raises(Refuted, match="not so: 5_bits_with_zero"):
            shift_proof([(3, True)], wrong=-1).prove_settled(2)
