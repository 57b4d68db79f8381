"""Tests of the fast suite on faulty gateware: a process for each fault, which ends at the first test that fails."""

import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import filterfalse, zip_longest
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Fragment
from amaranth.sim import Simulator

from .faults import Fault, inserting

#: Processor seconds after which a test of known cost is taken to hang: so many, and so many times its cost.
_PATIENCE, _TIMES = 8, 5
#: What a test is taken to cost, in processor seconds, before it has run.
_GUESS = 3.0
#: Processor seconds that each fault gets, in tests of designs that have it; what is left after them gets all it needs.
_FIRST = 6.0


@dataclass(frozen=True)
class Verdict:
    """What became of a fault.

    Attributes
    ----------
    detected
        Whether a test failed, or did not end.
    test
        Which one; empty if it was none of them.
    reason
        The first line of what it said.
    seconds
        Processor seconds until then.
    """

    detected: bool
    test: str
    reason: str
    seconds: float


@dataclass
class Known:
    """What is known of tests.

    Attributes
    ----------
    seconds
        Processor seconds that a test takes.
    passing
        Those of which it has been seen that they pass without a fault.
    blind
        Of a fault, by its name, the tests that do not see it.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    passing: list[str] = field(default_factory=list)
    blind: dict[str, list[str]] = field(default_factory=dict)


class Runs:
    """A plugin of pytest that runs the collected tests again and again, each time with another fault.

    Parameters
    ----------
    faults
        By number.
    tests
        Returns the paths of the test files for a fault.
    around
        Returns a context for a fault's number, 0 for none, within which tests are run.
    told
        Called with each number and its verdict.
    known
        What earlier runs have found.
    patience
        Processor seconds after which a test of unknown cost is taken to hang.
    """

    def __init__(
        self,
        faults: Mapping[int, Fault],
        tests: Callable[[Fault], Sequence[str]],
        around: Callable[[int], Any],
        told: Callable[[int, Verdict], None],
        known: "Known",
        patience: int,
    ) -> None:
        self._faults, self._tests, self._around, self._told = faults, tests, around, told
        self._known, self._patience = known, patience
        self._kills: Counter[tuple[str, str]] = Counter()
        self._reports: list[Any] = []
        self.verdicts: dict[int, Verdict] = {}
        self.problem = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Collect what tests say."""
        self._reports.append(report)

    def pytest_runtestloop(self, session: Any) -> bool:
        """Run them."""
        if session.testsfailed or not session.items:
            self.problem = "tests cannot be collected"
            return True
        by_file: dict[str, list[Any]] = {}
        root = Path(session.config.rootpath)
        for item in filterfalse(is_control, session.items):
            by_file.setdefault(item.path.relative_to(root).as_posix(), []).append(item)
        left = dict(self._faults)
        for budget in (_FIRST, float("inf")):
            for number, fault in list(left.items()):
                items = [item for path in self._tests(fault) for item in by_file.get(path, ())]
                if not items:
                    self.problem = f"there is no test for {fault}"
                    return True
                if self._decided(number, items, budget):
                    del left[number]
                if self.problem:
                    return True
        return True

    def _decided(self, number: int, items: Sequence[Any], budget: float) -> bool:
        """Run tests on a fault, those that have not run yet; return whether it is known now what becomes of it."""
        blind = self._known.blind.setdefault(str(self._faults[number]), [])
        module = self._faults[number].place.module

        def rank(item: Any) -> float:
            """Order tests: those first that are quick and have seen much of the module."""
            return self._known.seconds.get(item.nodeid, _GUESS) / (1 + self._kills[module, item.nodeid])

        new = sorted((item for item in items if item.nodeid not in blind), key=rank)
        answer = self._forked(number, new, budget)
        if answer["ended"] > 0:
            self.problem = f"a test run ended with {answer['ended']} on {self._faults[number]}"
            return True
        verdict = self._judged(answer)
        passed = {test: seconds for test, seconds in answer["seconds"].items() if test != verdict.test}
        self._known.seconds |= passed
        blind += passed
        self._kills[module, verdict.test] += 1
        if verdict.test and not self._passes(next(item for item in items if item.nodeid == verdict.test)):
            self.problem = f"{verdict.test} fails without a fault"
        if not verdict.detected and len(passed) < len(new):
            return False
        self.verdicts[number] = verdict
        self._told(number, verdict)
        return True

    def _passes(self, item: Any) -> bool:
        """Return whether a test that has failed passes without a fault, which is tried once."""
        test = item.nodeid
        if test not in self._known.passing:
            answer = self._forked(0, [item], float("inf"))
            if answer["failed"] or answer["ended"]:
                return False
            self._known.passing.append(test)
            self._known.seconds |= answer["seconds"]
        return True

    @staticmethod
    def _judged(answer: dict[str, Any]) -> Verdict:
        spent = sum(answer["seconds"].values())
        if answer["ended"]:
            hangs = answer["ended"] in (-signal.SIGXCPU, -signal.SIGKILL)
            reason = "does not end" if hangs else f"the simulator dies of signal {-answer['ended']}"
            return Verdict(True, answer["at"], reason, answer["spent"])
        if answer["failed"]:
            return Verdict(True, *answer["failed"], spent)
        return Verdict(False, "", "", spent)

    def _forked(self, number: int, items: Sequence[Any], budget: float) -> dict[str, Any]:
        """Run tests in a process of their own, and return what it says."""
        with tempfile.TemporaryDirectory(prefix="zeropoint-") as name:
            answer, at = Path(name, "answer.json"), Path(name, "at.txt")
            sys.stdout.flush()
            sys.stderr.flush()
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    nowhere = os.open(os.devnull, os.O_RDWR)
                    for descriptor in (0, 1, 2):
                        os.dup2(nowhere, descriptor)
                    answer.write_text(json.dumps(self._run(number, items, at, budget)))
                    status = 0
                finally:
                    os._exit(status)
            _, status = os.waitpid(child, 0)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            told = json.loads(answer.read_text()) if answer.is_file() else {"failed": [], "seconds": {}}
            last = at.read_text() if at.is_file() else ""
            return {**told, "at": last, "ended": os.waitstatus_to_exitcode(status), "spent": spent}

    def _run(self, number: int, items: Sequence[Any], at: Path, budget: float) -> dict[str, Any]:
        seconds: dict[str, float] = {}
        spent = 0.0
        with ExitStack() as stack:
            if number:
                done: set[int] = set()
                stack.enter_context(inserting({number: self._faults[number]}, None, done))
                if budget == _FIRST:
                    stack.enter_context(_only_where(done))
            stack.enter_context(self._around(number))
            for item, following in zip_longest(items, items[1:]):
                if spent >= budget:
                    break
                self._reports.clear()
                at.write_text(item.nodeid)
                self._limit(item.nodeid)
                began = time.process_time() + sum(os.times()[2:4])
                item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
                spent += (cost := time.process_time() + sum(os.times()[2:4]) - began)
                if budget == _FIRST and any(report.skipped for report in self._reports):
                    continue
                seconds[item.nodeid] = cost
                for report in self._reports:
                    if report.failed:
                        return {"failed": [item.nodeid, _reason(report)], "seconds": seconds}
        return {"failed": [], "seconds": seconds}

    def _limit(self, test: str) -> None:
        """Have the system end this process if a test takes far longer than it should."""
        spent = time.process_time()
        known = self._known.seconds.get(test)
        limit = self._patience if known is None else _PATIENCE + _TIMES * known
        _, most = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (int(spent + limit) + 1, most))


@contextmanager
def _only_where(done: set[int]) -> Iterator[None]:
    """Have a test skipped that begins with the simulation of a design which has no fault, as it will hardly see one."""
    begin = Simulator.__init__

    def init(self: Simulator, toplevel: Any) -> None:
        done.clear()
        fragment = Fragment.get(toplevel, None)
        if not done:
            pytest.skip("there is no place for the fault")
        begin(self, fragment)

    Simulator.__init__ = init
    try:
        yield
    finally:
        Simulator.__init__ = begin


def is_control(item: Any) -> bool:
    """Return whether a test is a control of another one: it has a fault of its own, and says nothing of this one."""
    return "seen" in item.name or "Faults" in item.nodeid


def _reason(report: Any) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = (crash.message if crash else str(report.longrepr)).splitlines()
    return next((line for line in lines if line.strip()), "")[:160]


def run(
    faults: Mapping[int, Fault],
    selection: Sequence[str],
    tests: Callable[[Fault], Sequence[str]],
    around: Callable[[int], Any],
    told: Callable[[int, Verdict], None],
    known: Known,
    patience: int,
) -> dict[int, Verdict]:
    """Return what tests say to each fault.

    Parameters
    ----------
    faults
        By number, from 1.
    selection
        What pytest collects: files, node ids, options.
    tests, around, told, known, patience
        As :class:`Runs`.

    Raises
    ------
    RuntimeError
        If a test fails without a fault.
    """
    if not faults:
        return {}
    runs = Runs(faults, tests, around, told, known, patience)
    options = ["-qq", "--no-header", "--no-summary", "-s", "-m", "not slow", "-p", "no:cacheprovider"]
    if not __debug__:
        blind = ["--assert=plain", "-W", "ignore::pytest.PytestConfigWarning"]
        options += blind
    pytest.main([*options, *selection], plugins=[runs])
    if runs.problem or len(runs.verdicts) < len(faults):
        raise RuntimeError(runs.problem or "pytest has ended early")
    return runs.verdicts
