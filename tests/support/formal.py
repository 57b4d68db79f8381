"""What the proofs share: whether there is a solver, questions to it, and numbers of so many bits."""

import inspect
import subprocess
import sys
import textwrap
from shutil import which
from typing import Any

import pytest

from zeropoint.errors import ZeropointError
from zeropoint_sim import formal


def _missing() -> str:
    try:
        formal.find()
    except ZeropointError as error:
        return str(error)
    return ""


needs_solver = pytest.mark.skipif(bool(_missing()), reason=_missing() or "-")


def broken(component: Any, right: str, wrong: str) -> Any:
    """Return a component's class with a fault: of its source, ``right``, which is there once, is ``wrong``.

    The class may be one that this has made.
    """
    source = vars(component).get("_source") or textwrap.dedent(inspect.getsource(component))
    if source.count(right) != 1:
        raise ValueError(f"{component.__name__} has {right!r} {source.count(right)} times, not once")
    namespace = dict(vars(sys.modules[component.__module__]))
    source = source.replace(right, wrong)
    exec(source, namespace)
    changed = namespace[component.__name__]
    changed._source = source
    return changed


def wrap(value: Any, bits: int = 32) -> Any:
    """Return a number's lowest bits as a signed one."""
    return value[:bits].as_signed()


def solve(question: str) -> str:
    """Return what the solver answers: ``sat`` or ``unsat``."""
    solver = which(formal.SOLVER, path=formal.program_path())
    assert solver is not None
    return subprocess.run([solver], input=question, capture_output=True, text=True, check=True).stdout.strip()
