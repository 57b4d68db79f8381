"""Faults of a line: each does what it says, about as often as it says, and the same for the same seed."""

import pytest

from zeropoint_sim.line_faults import Faults, FaultyLine

FRAME = bytes(range(1, 20)) + b"\0"
COUNT = 2000


def carried(**faults):
    line = FaultyLine(Faults(seed=5, **faults))
    return line, line.carry(FRAME * COUNT)


def test_a_line_without_faults_changes_nothing():
    line, out = carried()
    assert out == FRAME * COUNT
    assert line.counts["frames"] == COUNT
    assert line.counts.total() == COUNT


@pytest.mark.parametrize(("fault", "change"), [("lose", -1), ("double", 1), ("damage", 0)])
def test_faults_of_bytes(fault, change):
    line, out = carried(**{fault: 0.01})
    happened = line.counts[fault]
    assert 0.008 < happened / (20 * COUNT) < 0.012
    assert len(out) == 20 * COUNT + change * happened
    if fault == "damage":
        differing = [a ^ b for a, b in zip(out, FRAME * COUNT, strict=True) if a != b]
        assert len(differing) == happened
        assert {bits.bit_count() for bits in differing} == {1}


def test_garbage():
    line, out = carried(garbage=0.01)
    added = len(out) - 20 * COUNT
    assert line.counts["garbage"] < added <= 12 * line.counts["garbage"]


def test_faults_of_frames():
    line, out = carried(lose_frame=0.1)
    assert out == FRAME * (COUNT - line.counts["lose_frame"])
    line, out = carried(double_frame=0.1)
    assert out == FRAME * (COUNT + line.counts["double_frame"])
    line, out = carried(truncate=0.1)
    assert 150 < line.counts["truncate"] < 250
    assert out.count(0) == COUNT - line.counts["truncate"]


def test_the_same_seed_gives_the_same_faults():
    faults = Faults(seed=1, lose=0.01, garbage=0.01, truncate=0.1)
    first, second, other, back = (
        FaultyLine(faults),
        FaultyLine(faults),
        FaultyLine(Faults(2, 0.01, garbage=0.01, truncate=0.1)),
        FaultyLine(faults, "back"),
    )
    whole = first.carry(FRAME * 100)
    # However the bytes come.
    assert whole == b"".join(second.carry(bytes([byte])) for byte in FRAME * 100)
    assert whole != other.carry(FRAME * 100)
    assert whole != back.carry(FRAME * 100)
