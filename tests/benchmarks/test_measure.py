import click
import cost
import measure
import numpy as np
import pytest
from digits import digits
from support.engines import need

from zeropoint.errors import ZeropointError
from zeropoint.tools import TookTooLong
from zeropoint_boards.devices import DEVICES
from zeropoint_boards.place import Placement
from zeropoint_boards.synthesis import Netlist
from zeropoint_hw.config import AcceleratorConfig

DEVICE = DEVICES["LFE5U-85F"]


def netlist(**cells):
    return Netlist(DEVICE, b"", cells)


def placed(monkeypatch, never_ends=()):
    """Let placing reach 100 MHz more for each seed, and list the seeds that are tried."""
    tried = []

    def place(netlist, frequency, seed, limit):
        tried.append(seed)
        if seed in never_ends:
            raise TookTooLong("place and route did not end")
        return Placement(seed, {"clk": 100.0 * seed}, dict.fromkeys(DEVICE.family.sites.values(), (seed, 99)))

    monkeypatch.setattr(measure, "place", place)
    return tried


def clock(seeds, **cells):
    return measure.clock(netlist(**cells), seeds, 120, lambda what: None)


def test_the_clock_is_the_median_of_the_seeds(monkeypatch):
    tried = placed(monkeypatch)
    found = clock(3)
    assert (found["fmax"], found["fmax_of_seeds"]) == (200, {1: 100, 2: 200, 3: 300})
    assert found["sites"] == dict.fromkeys(DEVICE.family.sites, 3)
    assert tried == [1, 2, 3]


def test_a_seed_that_does_not_end_makes_room_for_the_next(monkeypatch):
    placed(monkeypatch, never_ends=[1, 3])
    assert clock(2)["fmax_of_seeds"] == {2: 200, 4: 400}


@pytest.mark.parametrize(("seeds", "cells", "tries"), [(2, {}, 4), (0, {}, 0), (2, {"MULT18X18D": 157}, 0)])
def test_without_a_placement_there_is_no_clock(monkeypatch, seeds, cells, tries):
    tried = placed(monkeypatch, never_ends=range(9))
    assert clock(seeds, **cells) == {"fmax": None, "fmax_of_seeds": {}, "sites": {}}
    assert len(tried) == tries


def test_a_cell_says_why_there_is_no_clock():
    assert measure.fmax_text({"fmax": 99.96, "exceeding": []}) == "100.0"
    assert measure.fmax_text({"fmax": None, "exceeding": []}) == "not placed"
    assert measure.fmax_text({"fmax": None, "exceeding": ["272 of 156 dsp"]}) == "does not fit: 272 of 156 dsp"


@pytest.mark.slow
def test_hardware_that_differs_ends_the_measurement(monkeypatch):
    need("cxxrtl")
    model, config = digits(), AcceleratorConfig(lanes=2, columns=2, weight_bytes=1 << 19)
    real = measure.golden.run

    def wrong(*arguments):
        outputs = np.array(real(*arguments))
        outputs.flat[3] ^= 1
        return outputs

    monkeypatch.setattr(measure.golden, "run", wrong)
    with pytest.raises(ZeropointError, match=r"^digits: hardware and golden model differ in 1 elements$"):
        measure.cycles(model, config, cost.random_input(model))


@pytest.mark.parametrize("text", ["8", "8x8x8", "axb", "3x8", "0x1", "128x1"])
def test_an_array_that_cannot_be_is_refused(text):
    with pytest.raises(click.BadParameter, match=f"^'{text}' is not LANESxCOLUMNS, such as 8x8: "):
        measure.array_size(text)
    assert measure.array_size("16x2") == (16, 2)
