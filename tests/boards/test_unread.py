import json

import pytest
from support.fpga import Counter, need_tools

from zeropoint_boards import synthesis
from zeropoint_boards.devices import DEVICES
from zeropoint_boards.place import place
from zeropoint_boards.synthesis import synthesize
from zeropoint_boards.unread import without_unread

DEVICE = DEVICES["LFE5U-85F"]
UNREAD = DEVICE.family.unread


def cell(kind, **ports):
    """A cell; outputs are those whose names begin with o."""
    directions = {port: "output" if port.startswith("o") else "input" for port in ports}
    return {"type": kind, "port_directions": directions, "connections": ports}


def netlist(**cells):
    return {"modules": {"top": {"ports": {"q": {"direction": "output", "bits": [9]}}, "cells": cells}, "other": {}}}


def done(document, outputs):
    return json.loads(without_unread(json.dumps(document).encode(), outputs))


def test_only_the_named_outputs_that_nothing_reads_go():
    def made(end, other):
        return netlist(
            first=cell("chain", i=["0"], o=[5], o_sum=[6]),
            last=cell("chain", i=[5], o=end, o_sum=[7]),
            to_port=cell("chain", i=[5], o=[9]),
            other=cell("table", i=["x"], o=[8]),
            none=cell("chain", i=[6]),
            empty=cell("chain", o=other),
        )

    assert done(made([4], []), {"chain": "o"}) == made(["x"], [])


def test_a_port_that_is_no_output_reads():
    document = netlist(one=cell("chain", o=[5]), two=cell("pad", io=[5]))
    document["modules"]["top"]["cells"]["two"]["port_directions"]["io"] = "inout"
    assert done(document, {"chain": "o"}) == document


def test_without_such_outputs_the_bytes_stay():
    assert without_unread(b"anything", {}) == b"anything"


@pytest.fixture(scope="module")
def counters():
    """A counter's netlist without unread carries, and as Yosys writes it."""
    need_tools()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthesis, "without_unread", lambda netlist, outputs: netlist)
        raw = synthesize(Counter(32), DEVICE)
    return synthesize(Counter(32), DEVICE), raw


def test_a_counter_loses_the_carry_out_of_its_chain_and_nothing_else(counters):
    without, raw = (json.loads(each.json) for each in counters)
    changed = []
    for name, each in raw["modules"]["top"]["cells"].items():
        if without["modules"]["top"]["cells"][name] != each:
            assert each["type"] == "CCU2C"
            each["connections"]["COUT"] = ["x"]
            changed.append(name)
    assert len(changed) == 1
    assert without == raw


def test_it_saves_the_site_that_would_lead_the_carry_out(counters):
    without, raw = (place(each, 100).utilization["TRELLIS_COMB"][0] for each in counters)
    assert raw - without == 2


def test_a_second_time_changes_nothing(counters):
    assert json.loads(without_unread(counters[0].json, UNREAD)) == json.loads(counters[0].json)
