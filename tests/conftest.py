"""Options of the test suite, and functional coverage, which is collected where it is asked for."""

import time

import pytest
from support import coverage

from zeropoint_sim import cxxrtl_build
from zeropoint_sim.bench import Stalls

#: When this process began.
_BEGAN = time.monotonic()

#: Under which a worker of pytest-xdist hands over what it has counted.
_HANDED_OVER = "functional_coverage"


def pytest_addoption(parser):
    parser.addoption(
        "--engine",
        choices=["amaranth", "verilator", "icarus", "ecp5", "ice40"],
        help="run all component tests on this engine alone (tests/hw)",
    )
    parser.addoption(
        "--functional-coverage",
        action="store_true",
        help="count what the hardware was made to do (support.coverage), report it, and fail below the floor",
    )
    parser.addoption(
        "--minutes",
        type=float,
        help="begin no test after so many minutes; those that are left are skipped, and the summary says so",
    )
    parser.addoption(
        "--stall-seed",
        type=int,
        default=0,
        help="add this to the seeds of all random stalls, which gives others, the same again for the same number",
    )


def pytest_runtest_setup(item):
    minutes = item.config.getoption("--minutes")
    if minutes is not None and time.monotonic() - _BEGAN > 60 * minutes:
        pytest.skip(f"the {minutes:g} minutes are over")


def pytest_configure(config):
    Stalls.others = config.getoption("--stall-seed")
    if config.getoption("--functional-coverage"):
        coverage.TALLY.on = True


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Take over what a worker has counted."""
    coverage.TALLY.update(getattr(node, "workeroutput", {}).get(_HANDED_OVER, {}))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    if not session.config.getoption("--functional-coverage"):
        return
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput[_HANDED_OVER] = dict(coverage.TALLY)
    elif exitstatus == pytest.ExitCode.OK and _can_be_enough() and not coverage.is_enough(coverage.TALLY):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    if config.getoption("--functional-coverage"):
        terminalreporter.section("functional coverage")
        for line in coverage.table(coverage.TALLY):
            terminalreporter.write_line(line)
        if not _can_be_enough():
            terminalreporter.write_line("the floor does not hold here: without a C++ compiler some tests are skipped")


def _can_be_enough():
    """Return whether the tests can run that are on CXXRTL."""
    try:
        cxxrtl_build.find_tools()
    except cxxrtl_build.EngineUnavailable:
        return False
    return True
