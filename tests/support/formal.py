"""What the proofs share: whether there is a solver, questions to it, and a requantizer's definition in Amaranth."""

import subprocess
from shutil import which
from typing import Any

import pytest
from amaranth import Const, Mux

from zeropoint.errors import ZeropointError
from zeropoint_hw.isa import Round
from zeropoint_sim import formal

#: A half in units of a product's last bit before it is shifted right.
HALF = Const(1 << 30, 31)


def _missing() -> str:
    try:
        formal.find()
    except ZeropointError as error:
        return str(error)
    return ""


needs_solver = pytest.mark.skipif(bool(_missing()), reason=_missing() or "-")


def wrap(value: Any, bits: int = 32) -> Any:
    """Return a number's lowest bits as a signed one."""
    return value[:bits].as_signed()


def output(proof: formal.Proof, lane: Any) -> tuple[Any, Any, Any, Any]:
    """Let a requantizer's lane have any instruction; return its rounding, zero point, and the ends of its clamp."""
    i = proof.constant("instruction", lane.instruction)
    rounding, zero_point = proof.show("rounding", i.rounding), proof.show("zero_point", i.output_zero_point)
    low, high = proof.show("clamp_low", i.clamp_low), proof.show("clamp_high", i.clamp_high)
    proof.assume(rounding != Round.AWAY)
    proof.assume((low >= -256) & (low <= high) & (high <= 255))
    return rounding, zero_point, low, high


def scaled(product: Any, right: Any, rounding: Any) -> Any:
    """Return ``product / 2^(31 + right)``, rounded, as docs/numerics.md defines it."""
    high = wrap((product + (1 << 30)) >> 31, 33)
    half, away = Mux(right > 0, (Const(1, 1) << right)[1:], 0), (high < 0) & (right > 0)
    twice = (high + half - away) >> right
    once = (product + (HALF << right)) >> 31 >> right
    is_tie = product & ((HALF << 1 << right) - 1) == HALF << right
    return wrap(Mux(rounding == Round.DOUBLE, twice, Mux(rounding == Round.EVEN, once - (is_tie & once[0]), once)))


def requantized(product: Any, right: Any, rounding: Any, zero_point: Any, low: Any, high: Any) -> Any:
    """Return what becomes of a product: scaled, the zero point added in int32, clamped, as a byte."""
    moved = wrap(scaled(product, right, rounding) + zero_point)
    return Mux(moved < low, low, Mux(moved > high, high, moved))[:8]


def solve(question: str) -> str:
    """Return what the solver answers: ``sat`` or ``unsat``."""
    solver = which(formal.SOLVER, path=formal.program_path())
    assert solver is not None
    return subprocess.run([solver], input=question, capture_output=True, text=True, check=True).stdout.strip()
