"""Faults that are put into gateware, on a toy; and that the fast suite sees them, on a sample of the gateware."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from amaranth.hdl import Cat, Const, Fragment, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from mutation import equivalence, faults, sample, selectable, stages, suite
from mutation.__main__ import DETECTED, PROVED, SURVIVING, Verdicts, explain, markdown, share, summary
from support.engines import assert_exact, need, simulated, small
from support.files import random_input
from support.random_models import random_model

from zeropoint.errors import ZeropointError
from zeropoint_hw.config import AcceleratorConfig

ROOT = Path(__file__).parents[2]
KINDS = {
    "dropped operand",
    "inverted",
    "lost assignment",
    "off by one",
    "stuck",
    "swapped operands",
    "wrong comparison",
    "wrong constant",
    "wrong operator",
}


class Toy:
    """Something of everything: a sum with rounding, a choice, conditions, a counter and a handshake."""

    def __init__(self):
        self.a, self.b = Signal(signed(4)), Signal(3)
        self.sum = Signal(signed(6), name="sum")
        self.count, self.ready = Signal(3, init=1, name="count"), Signal(name="ready")
        self.inputs, self.outputs = (self.a, self.b), (self.sum, self.count, self.ready)

    def fragment(self):
        m = Module()
        up, shift = Signal(), Const(1, 2)
        m.d.comb += up.eq((self.b[0] & (self.a > 1)) | (self.b == 6))
        m.d.sync += self.sum.eq(Mux(self.a < -2, self.a - self.b, self.a + (self.b >> shift) + up))
        m.d.comb += self.ready.eq(~(self.a ^ self.b).any())
        with m.If(self.b[1:] == 2):
            m.d.sync += self.count.eq(self.count + 1)
        with m.Elif(self.ready):
            m.d.sync += self.count.eq(Cat(self.b[1:3], self.a[0]))
        return Fragment.get(m, None)


def run(toy, fragment, before=()):
    """Return what the toy's outputs are, after all inputs."""
    simulator = Simulator(fragment)
    simulator.add_clock(1e-6)
    seen = []

    async def bench(ctx):
        for signal, value in before:
            ctx.set(signal, value)
        for step in range(128):
            ctx.set(toy.a, step % 16 - 8)
            ctx.set(toy.b, step // 16 % 8)
            seen.append(tuple(ctx.get(output) for output in toy.outputs))
            await ctx.tick()

    simulator.add_testbench(bench)
    simulator.run()
    return seen


def toy_faults():
    return dict(enumerate(faults.faults_of("toy", Toy().fragment()), 1))


def with_faults(given, number=None):
    """Return the toy's outputs with one of the given faults, and which of them have their place there."""
    toy = Toy()
    fragment = toy.fragment()
    selector = None if number is None else Signal(range(max(given) + 1))
    done = faults.insert("toy", fragment, given, selector)
    return run(toy, fragment, [] if number is None else [(selector, number)]), done


def test_every_kind_of_fault_is_found_and_none_twice():
    found = toy_faults()
    assert {fault.kind for fault in found.values()} == KINDS
    assert len(set(map(str, found.values()))) == len(found) > 60


def test_a_fault_alone_is_what_a_selector_chooses_among_all():
    found = toy_faults()
    toy = Toy()
    faultless = run(toy, toy.fragment())
    assert with_faults(found, 0) == (faultless, set(found))
    different = 0
    for number, fault in found.items():
        alone, done = with_faults({number: fault})
        assert done == {number}
        assert alone == with_faults(found, number)[0], fault
        different += alone != faultless
    # The toy leaves little without a meaning.
    assert different > 0.85 * len(found)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("without the second operand of +", lambda a, b: a + (b >> 1) if a >= -2 else a - b),
        ("operands of - swapped", lambda a, b: a + (b >> 1) + up(a, b) if a >= -2 else b - a),
        ("1+1", lambda a, b: a + (b >> 2) + up(a, b) if a >= -2 else a - b),
        ("choices swapped", lambda a, b: a + (b >> 1) + up(a, b) if a < -2 else a - b),
        ("<= for <", lambda a, b: a + (b >> 1) + up(a, b) if a > -2 else a - b),
        ("one more", lambda a, b: (a + (b >> 1) + up(a, b) if a >= -2 else a - b) + 1),
    ],
)
def test_a_fault_computes_what_its_name_says(change, expected):
    fault = next(fault for fault in toy_faults().values() if (fault.place.target, fault.change) == ("sum", change))
    seen, _ = with_faults({1: fault})
    sums = [(expected(step % 16 - 8, step // 16 % 8) + 32) % 64 - 32 for step in range(128)]
    assert [row[0] for row in seen[1:]] == sums[:-1]


def up(a, b):
    return int((b & 1 and a > 1) or b == 6)


def test_faults_of_another_module_are_left_alone():
    toy = Toy()
    fragment = toy.fragment()
    assert faults.insert("another", fragment, toy_faults(), None) == set()
    other = Toy()
    assert run(toy, fragment) == run(other, other.fragment())


def test_the_sample_is_the_same_each_time_and_has_every_module_and_kind():
    population, components = sample.population()
    chosen = sample.sampled(population, 280, 1)
    assert sample.sampled(population[::-1], 280, 1) == chosen
    assert sample.sampled(population, 280, 2) != chosen
    assert len(set(chosen)) == 280
    modules = {fault.place.module for fault in chosen}
    assert modules == set(components) - {"linked.LinkedAccelerator"}
    assert {fault.kind for fault in chosen} == KINDS
    # Each has tests, which are there.
    for fault in chosen:
        for stage in stages.STAGES:
            assert all((ROOT / path).is_file() for path in stage.tests(fault))
        assert stages.STAGES[0].tests(fault)


class Redundant(wiring.Component):
    """Counts while a and b, c or not; the second of the two terms adds nothing, nor does a counter's third bit."""

    def __init__(self):
        super().__init__({"a": In(1), "b": In(1), "c": In(1), "count": Out(2)})

    def elaborate(self, platform):
        m = Module()
        number = Signal(3)
        with m.If((self.a & self.b) | (self.a & self.b & self.c)):
            m.d.sync += number.eq(number + 1)
        m.d.comb += self.count.eq(number)
        return m


def test_what_is_equal_is_proved_to_be_and_nothing_else():
    need("cxxrtl")
    faults.watch(Redundant, "toy.Redundant")
    component, found = Redundant(), []
    with faults.editing(lambda module, _, fragment: found.extend(faults.faults_of(module, fragment))):
        Fragment.get(component, None)
    changes = {"without the second operand of |": True, "without the first operand of |": False, "- for +": False}
    for change, equal in changes.items():
        fault = next(fault for fault in found if fault.change == change)
        assert equivalence.is_equivalent(fault, [component]) == equal, change


@pytest.mark.parametrize(
    ("test", "is_control"),
    [
        ("tests/hw/test_pe.py::TestFaultsAreSeen::test_wrong_zero_point[a]", True),
        ("tests/hw/test_weight_buffer.py::test_wrong_windows_are_seen[Hasty]", True),
        ("tests/hw/test_pe.py::test_mac", False),
    ],
)
def test_controls_of_tests_judge_no_fault(test, is_control):
    assert suite.is_control(SimpleNamespace(nodeid=test, name=test.split("::")[-1])) == is_control


class Corrected(wiring.Component):
    """Takes off a correction, of which there is none in one of its configurations."""

    def __init__(self, corrects):
        self._corrects = corrects
        super().__init__({"a": In(4), "correction": In(4), "value": Out(4)})

    def elaborate(self, platform):
        m = Module()
        correction = Signal(4)
        if self._corrects:
            m.d.comb += correction.eq(self.correction)
        m.d.sync += self.value.eq(self.a - correction)
        return m


def test_what_differs_in_another_configuration_is_not_equal():
    need("cxxrtl")
    faults.watch(Corrected, "toy.Corrected")
    plain, corrected, found = Corrected(False), Corrected(True), []
    with faults.editing(lambda module, _, fragment: found.extend(faults.faults_of(module, fragment))):
        Fragment.get(plain, None)
    fault = next(fault for fault in found if fault.change == "+ for -")
    assert equivalence.is_equivalent(fault, [plain])
    assert not equivalence.is_equivalent(fault, [plain, corrected])


def entry(fault, state, **more):
    return {"fault": fault, "module": fault, "kind": "stuck", "state": state, **more}


def test_the_share_leaves_out_what_changes_nothing_and_survivors_are_listed():
    entries = [entry("a.A", DETECTED), entry("a.B", PROVED), entry("b.A", SURVIVING, why="so | so")]
    assert share(entries) == 0.5
    rows, total = summary(entries)
    assert rows == [["a", 2, 1, 1, 0, 0], ["b", 1, 0, 0, 0, 1]]
    assert total == ["total", 3, 1, 1, 0, 1]
    assert "| `b.A` | surviving | so | so |" in markdown(entries)


def test_what_nobody_saw_survives_whoever_was_asked():
    verdicts = Verdicts({number: fault for number, fault in toy_faults().items() if number <= 3}, None)
    verdicts.tell(2, state=DETECTED)
    explain(verdicts, {"gateware": "", "faults": {}})
    assert [verdicts.entries[number]["state"] for number in (1, 2, 3)] == [SURVIVING, DETECTED, SURVIVING]


def test_the_document_says_what_the_last_run_has_found():
    entries = json.loads((ROOT / "benchmarks" / "mutation" / "verdicts.json").read_text())["faults"]
    assert len(entries) == 240
    assert share(entries) >= 0.95
    assert markdown(entries).strip() in (ROOT / "docs" / "verification.md").read_text()


def mutation(tmp_path, *arguments, python=()):
    """Run the command; return how it ended and the states of the faults."""
    path = tmp_path / "verdicts.json"
    command = [sys.executable, *python, "-m", "benchmarks.mutation", "--json", path, "--ask", "components", *arguments]
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, command)), cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    return done, [entry["state"] for entry in json.loads(path.read_text())["faults"]]


@pytest.mark.slow
def test_component_tests_see_a_sample(tmp_path):
    sources = [word for name in ("counters", "drain", "pooler", "writer") for word in ("--only", name)]
    done, states = mutation(tmp_path, *sources, "--count", 24, "--seed", 2, "--floor", 0.8)
    assert done.returncode == 0, done.stderr
    assert len(states) == 24
    assert states.count(DETECTED) >= 0.8 * len(states)


def test_files_that_are_not_there_are_refused(tmp_path):
    command = [sys.executable, "-m", "benchmarks.mutation", "--only", "nothing"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no nothing; there are accelerator, array" in " ".join(done.stderr.split())


@pytest.mark.slow
def test_without_comparisons_nothing_is_seen(tmp_path):
    done, states = mutation(tmp_path, "--only", "counters", "--count", 6, "--blind", python=["-O"])
    assert done.returncode != 0
    assert "less than" in done.stderr
    assert len(states) == 6
    assert set(states) == {SURVIVING}


@pytest.mark.slow
def test_all_faults_in_one_accelerator_and_none_chosen_is_exact():
    """The selector reaches each of them, in RTLIL and C++: a network sees many of those of the loops."""
    need("cxxrtl")
    population, _ = sample.population()
    chosen = dict(enumerate(sample.sampled(population, 240, 1), 1))
    config = small(AcceleratorConfig(lanes=4, columns=4, tables=2))
    model = random_model(1)
    x = random_input(model, 1, 1)
    with selectable.selected(chosen, 0):
        assert_exact(simulated(model, x, config))
    seen = []
    loops = [number for number, fault in chosen.items() if fault.place.module.startswith("loops.")]
    for number in loops:
        try:
            with selectable.selected(chosen, number):
                assert_exact(simulated(model, x, config))
        except (ZeropointError, AssertionError):
            seen.append(number)
    assert len(seen) > len(loops) / 3
