"""Whether a fault changes anything: a module with it and without it, compared by Yosys for all inputs and states."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from amaranth.back import rtlil

from zeropoint import tools
from zeropoint.errors import ZeropointError

from .faults import Fault, inserting

#: Seconds that a proof may take, and cycles that a difference may need to be seen.
_LIMIT, _CYCLES = 300, 3

#: What becomes of each of the two.
_PREPARE = (
    "read_rtlil {0}.il; hierarchy -top {0}; proc; flatten; memory_map; dffunmap; opt_clean -purge; design -stash {0}"
)

#: Registers and wires of the same name are assumed to be equal, and each is proved to be so a cycle later.
_SCRIPT = "; ".join(
    [
        *(_PREPARE.format(name) for name in ("gold", "gate")),
        *(f"design -copy-from {name} -as {name} {name}" for name in ("gold", "gate")),
        "equiv_make gold gate both; hierarchy -top both",
        f"equiv_simple -undef -seq {_CYCLES}; equiv_induct -undef -seq {_CYCLES}; equiv_status -assert",
    ]
)


def texts(fault: Fault, components: Sequence[Any]) -> set[tuple[str, str]]:
    """Return the RTLIL of a module without a fault and with it: of each of ``components`` that can have it."""
    found = set()
    for component in components:
        done: set[int] = set()
        with inserting({1: fault}, None, done):
            gate = rtlil.convert(component, name="gate", emit_src=False)
        if done:
            found.add((rtlil.convert(component, name="gold", emit_src=False), gate))
    if not found:
        raise ValueError(f"no component has a place for '{fault}'")
    return found


def is_equivalent(fault: Fault, components: Sequence[Any]) -> bool:
    """Return whether a fault is proved to change nothing in any of ``components``, which differ in what they can do.

    False says nothing: there may be a difference, or no proof within the time.
    """
    return all(_are_equal(gold, gate) for gold, gate in sorted(texts(fault, components)))


def _are_equal(gold: str, gate: str) -> bool:
    with tempfile.TemporaryDirectory(prefix="zeropoint-") as name:
        folder = Path(name)
        (folder / "gold.il").write_text(gold)
        (folder / "gate.il").write_text(gate)
        try:
            tools.run([*tools.yowasp("yosys", "mutation", "sim"), "-q", "-p", _SCRIPT], folder, "Yosys", _LIMIT)
        except tools.TookTooLong:
            return False
        except ZeropointError as error:
            if "unproven" not in str(error):
                raise
            return False
    return True
