"""Functional coverage counts what it says, and a suite that leaves something out falls below the floor."""

import subprocess
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from support import coverage
from support.layer_program import array_cycles

from zeropoint.numerics import Rounding, requantize
from zeropoint_hw.config import AcceleratorConfig, RequantizerKind
from zeropoint_hw.isa import Instruction, Round

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tally(monkeypatch):
    """A tally of a test's own."""
    tally = coverage.Tally()
    tally.on = True
    monkeypatch.setattr(coverage, "TALLY", tally)
    return tally


def hit(tally, group):
    return {name.removeprefix(f"{group}: ") for name, count in tally.items() if count and name.startswith(f"{group}: ")}


def convolution(rng):
    """A convolution of a map of 1 channel, anywhere about the map."""
    height, width, taps = (int(n) for n in rng.integers(1, 6, 3))
    return Instruction(
        rows=int(rng.integers(1, 5)),
        columns=int(rng.integers(1, 5)),
        taps_y=taps,
        run=int(rng.integers(1, 6)),
        y_first=int(rng.integers(-4, 4)),
        y_row_step=int(rng.integers(1, 3)),
        y_tap_step=1,
        x_first=int(rng.integers(-4, 4)),
        x_column_step=int(rng.integers(1, 3)),
        input_rows=height,
        row_bytes=width,
        input_row_step=width,
        input_tap_step=width,
        swap_axes=int(rng.integers(2)),
        paired_rows=0,
    )


@pytest.mark.parametrize("seed", range(40))
def test_padding_is_where_the_loops_read_beyond_the_map(tally, seed):
    i, config = convolution(np.random.default_rng(seed)), AcceleratorConfig(lanes=8, columns=8)
    expected = set()
    for cycle in array_cycles(i, config.lanes):
        # The address says the byte of the row; which row it is, the loops do.
        down = cycle.column if i.swap_axes else cycle.row
        along = cycle.row if i.swap_axes else cycle.column
        for tap in range(i.taps_y):
            y = i.y_first + down * i.y_row_step + tap * i.y_tap_step
            for x in range(start := i.x_first + along * i.x_column_step, start + i.run):
                v = "top" if y < 0 else "bottom" if y >= i.input_rows else ""
                h = "left" if x < 0 else "right" if x >= i.row_bytes else ""
                expected |= {v, h, f"{v} {h}" if v and h else ""} if v or h else {"in"}
    coverage._pad(i, config)
    outside = expected - {"", "in"}
    assert hit(tally, "padding") - {"none"} == outside
    assert ("none" in hit(tally, "padding")) == (not outside)


def test_ties_and_clamps_are_those_of_the_definition(tally):
    rng = np.random.default_rng(1)
    for rounding in Rounding:
        for kind in [RequantizerKind.MULTIPLIER, RequantizerKind.SERIAL] * 150:
            accumulator, shift = int(rng.integers(-600, 600)), int(rng.integers(-6, 3))
            multiplier = int(rng.choice([1 << 30, 3 << 29]))
            tally.clear()
            coverage.scaled(kind, accumulator, multiplier, shift, 3, (-100, 100), rounding)
            real = Fraction(accumulator * multiplier) * Fraction(2) ** (shift - 31)
            if rounding is Rounding.DOUBLE:
                high = Fraction(accumulator << max(shift, 0)) * multiplier / 2**31
                first_tie = f"first tie {'below' if high < 0 else 'above'} 0"
                assert (first_tie in hit(tally, f"{kind} double")) == (high % 1 == 0.5)
                real = Fraction(int((high + Fraction(1, 2)) // 1)) / 2 ** max(-shift, 0)
            seen = hit(tally, f"{kind} {rounding.value}")
            assert ("no tie" in seen) == (real % 1 != 0.5)
            if real % 1 == 0.5:
                assert f"tie {'below' if real < 0 else 'above'} 0" in seen
            unclamped = int(requantize(accumulator, multiplier, shift, 3, (-(1 << 31), (1 << 31) - 1), rounding))
            assert ("clamped below" in seen, "clamped above" in seen) == (unclamped < -100, unclamped > 100)
            assert {name.partition(":")[0] for name in tally} == {f"{kind} {rounding.value}"}


@pytest.mark.parametrize(
    ("rounding", "rounded"),
    [
        (Round.SINGLE, lambda real: (real + Fraction(1, 2)) // 1),
        (Round.EVEN, round),
        (Round.AWAY, lambda real: int(real + Fraction(1 if real > 0 else -1, 2))),
    ],
)
def test_ties_and_clamps_of_what_only_shifts_are_those_of_the_definition(tally, rounding, rounded):
    rng = np.random.default_rng(2)
    for bits in (8, 16):
        for _ in range(300):
            total, shift = int(rng.integers(-600, 600)), int(rng.integers(-6, 3))
            tally.clear()
            coverage.shifted(bits, np.array([total]), np.array([shift]), (-100, 100), rounding)
            real, seen = total * Fraction(2) ** (shift - 1), hit(tally, f"shift to {bits} bits {rounding.name.lower()}")
            tie = {f"tie {'below' if real < 0 else 'above'} 0"} if real % 1 == 0.5 else {"no tie"}
            assert seen & {"tie below 0", "tie above 0", "no tie"} == tie
            ends = {
                "clamped below": rounded(real) < -100,
                "clamped above": rounded(real) > 100,
                "least output, not clamped": rounded(real) == -100,
                "greatest output, not clamped": rounded(real) == 100,
            }
            assert seen & ends.keys() == {name for name, reached in ends.items() if reached}


def test_nothing_is_sampled_where_it_is_not_asked_for(tally):
    tally.on = False
    coverage.scaled(RequantizerKind.SERIAL, 1, 1 << 30, 0, 0, (-128, 127), Rounding.DOUBLE)
    coverage.shifted(8, np.array([1]), np.array([0]), (-128, 127), Round.AWAY)
    assert not tally


def test_a_bin_that_is_not_hit_is_named_and_too_little():
    everything = Counter(dict.fromkeys(coverage.BINS, 1))
    assert coverage.is_enough(everything)
    assert "NOT HIT" not in "\n".join(coverage.table(everything))
    for name in coverage.BINS:
        assert not coverage.is_enough(everything - Counter([name]))
        assert f"NOT HIT: {name}" in coverage.table(everything - Counter([name]))


def suite(*arguments):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/hw/test_counters.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_suite_that_leaves_something_out_fails_and_a_part_of_it_does_not():
    asked = suite("--functional-coverage", "--engine", "amaranth")
    assert asked.returncode == 1, asked.stdout
    assert "NOT HIT: line: damage" in asked.stdout
    assert "failed" not in asked.stdout
    assert suite("--engine", "amaranth").returncode == 0
