"""What the proofs share: whether there is a solver, questions to it, and a requantizer's definition in Amaranth."""

import ast
import inspect
import subprocess
import sys
import textwrap
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


def broken(component: Any, right: str, wrong: str) -> Any:
    """Return a component's class with a fault: of its source, ``right``, which is there once, is ``wrong``."""
    source = _source(component)
    if source.count(right) != 1:
        raise ValueError(f"{component.__name__} has {right!r} {source.count(right)} times, not once")
    return _made(component, source.replace(right, wrong))


def named(component: Any) -> Any:
    """Return a component's class whose signals all have names, by which proofs find registers.

    Amaranth names a signal after what it is assigned to, but not if several are assigned at once: here they are
    assigned one after the other.
    """

    class OneAfterTheOther(ast.NodeTransformer):
        def visit_Assign(self, node: ast.Assign) -> Any:
            target, values = node.targets[0], node.value
            if not isinstance(target, ast.Tuple) or not isinstance(values, ast.Tuple):
                return node
            pairs = zip(target.elts, values.elts, strict=True)
            return [ast.copy_location(ast.Assign([name], value), node) for name, value in pairs]

    return _made(component, ast.unparse(OneAfterTheOther().visit(ast.parse(_source(component)))))


def _source(component: Any) -> str:
    """Return the text of a class, be it one that was made here."""
    return vars(component).get("_text") or textwrap.dedent(inspect.getsource(component))


def _made(component: Any, source: str) -> Any:
    namespace = dict(vars(sys.modules[component.__module__]))
    exec(source, namespace)
    made = namespace[component.__name__]
    made._text = source
    return made


def wrap(value: Any, bits: int = 32) -> Any:
    """Return a number's lowest bits as a signed one."""
    return value[:bits].as_signed()


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
