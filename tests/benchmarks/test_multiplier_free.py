import json
import subprocess
import sys
from pathlib import Path

import multiplier_free
import numpy as np
import pytest
from comparison_plot import plot
from multiplier_free import KINDS
from support.engines import need
from support.fpga import need_tools

from zeropoint_boards.devices import DEVICES

SCRIPT = Path(multiplier_free.__file__)
SHIFT = ["shift-5", "shift-4", "shift-3", "shift-2"]


def compare(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("operand_bits", [8, 9])
def test_resources_of_single_pes(tmp_path, operand_bits):
    need_tools()
    files = "--json", tmp_path / "t.json", "--markdown", tmp_path / "t.md"
    done = compare("--part", "pes", "--operand-bits", operand_bits, "--no-place", *files)
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads((tmp_path / "t.json").read_text())
    pes = document["pes"]
    assert set(pes) == set(KINDS)
    assert set(document) == {"array", "operand_bits", "images", "device", "speed", "tools", "pes"}
    for device in ("ecp5", "ice40"):
        luts = {name: pes[name][device]["lut"] for name in KINDS}
        # Fewer bits take less; all of them less than an int8 MAC without a DSP block, however it is made.
        assert luts["shift-5"] > luts["shift-4"] > luts["shift-3"] >= luts["shift-2"]
        assert 1.5 * luts["shift-5"] < luts["mac-lut"] < luts["mac-inferred"]
        assert [pes[name][device]["dsp"] for name in KINDS] == [1, 0, 0, 0, 0, 0, 0]
    # The scale: a good PE for 8 bits in 62 LUT and 57, an int8 MAC in LUTs in 158 as rows of adders.
    assert pes["shift-5"]["ecp5"]["lut"] <= {8: 62, 9: 66}[operand_bits]
    assert pes["shift-5"]["ice40"]["lut"] <= {8: 57, 9: 60}[operand_bits]
    assert pes["mac-lut"]["ecp5"]["lut"] <= 158
    lines = (tmp_path / "t.md").read_text().splitlines()
    assert lines[0] == f"Single PEs, activations of {operand_bits} bits, accumulators of 24 bits:"
    assert len(lines) == 4 + len(KINDS)
    five = pes["shift-5"]["ecp5"]
    assert f"| shift, 5 bits | {five['lut']} | {five['ff']} | 0 | not placed |" in lines[-4]


@pytest.mark.parametrize(
    ("more", "held", "by"),
    [
        ({"lut": 3200, "ff": 1600, "dsp": 0}, 836, "lut"),
        ({"lut": 32, "ff": 64, "dsp": 0}, 83640 // 2, "ff"),
        ({"lut": 3200, "ff": 64, "dsp": 32, "block_ram": -1}, 156, "dsp"),
    ],
)
def test_how_many_pes_fill_a_device(more, held, by):
    found = multiplier_free.held(more, (8, 8), DEVICES["LFE5U-85F"])
    assert (found["held"], found["held_by"]) == (held, by)
    assert found["sites_per_pe"] == {resource: count / 32 for resource, count in more.items() if count > 0}


def test_fewer_images_are_the_first_ones():
    few, all_of_them = multiplier_free.images(None, 7), multiplier_free.images(None, None)
    np.testing.assert_array_equal(few.pixels, all_of_them.pixels[:7])
    np.testing.assert_array_equal(few.labels, all_of_them.labels[:7])
    assert few.pixels.shape == (7, 28, 28, 1)
    assert 0.9 < few.pixels.max() <= 1
    assert few.source.startswith("7 ")


@pytest.mark.slow
def test_accelerators(tmp_path):
    need("cxxrtl")
    need_tools()
    kinds = [option for name in ("mac-dsp", "mac-lut", "shift-3") for option in ("--kind", name)]
    options = "--part", "accelerators", *kinds, "--array", "2x2", "--images", 100, "--no-place"
    done = compare(*options, "--json", tmp_path / "t.json")
    assert (done.returncode, done.stderr) == (0, "")
    measured = json.loads((tmp_path / "t.json").read_text())["accelerators"]
    dsp, lut, shift = (measured[name] for name in ("mac-dsp", "mac-lut", "shift-3"))
    assert dsp["dsp"] - 4 == lut["dsp"] == shift["dsp"] > 0
    assert dsp["accuracy"] == lut["accuracy"] > 0.85
    assert shift["accuracy"] >= 0.8
    assert shift["cycles"] == pytest.approx(dsp["cycles"], rel=0.01)
    assert shift["lut"] < lut["lut"]
    assert shift["block_ram"] <= dsp["block_ram"]
    assert shift["config"]["weight_bits"] == 3
    assert f"{dsp['cycles']:,}" in done.stdout


@pytest.mark.slow
def test_clocks_and_how_many_pes_fill_a_device(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra: train)")
    need_tools()
    options = "--part", "pes", "--part", "arrays", "--kind", "mac-dsp", "--kind", "shift-3", "--array", "2x4"
    done = compare(*options, "--json", tmp_path / "t.json", "--plot", tmp_path / "t.svg")
    assert (done.returncode, done.stderr) == (0, "")
    measured = json.loads((tmp_path / "t.json").read_text())
    arrays = measured["arrays"]
    assert (arrays["mac-dsp"]["held"], arrays["mac-dsp"]["held_by"]) == (156, "dsp")
    assert (arrays["shift-3"]["held"] > 1000, arrays["shift-3"]["held_by"]) == (True, "lut")
    for name in ("mac-dsp", "shift-3"):
        assert 200 < measured["pes"][name]["ecp5"]["fmax"] < 500
        assert 40 < measured["pes"][name]["ice40"]["fmax"] < 200
    drawn = (tmp_path / "t.svg").read_text()
    assert f">{arrays['shift-3']['held']:,}</text>" in drawn


def test_a_plot_shows_what_was_measured_and_has_the_same_bytes_again(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra: train)")
    names = {name: kind.name for name, kind in KINDS.items()}
    entry = {"accuracy": 0.875, "lut": 12345, "dsp": 7, "fmax": None}
    measured = {
        "accelerators": {"shift-5": entry},
        "arrays": {"mac-dsp": {"sites_per_pe": {}, "fmax": 99, "held": 156}},
    }
    plot(tmp_path / "a.svg", names, measured)
    plot(tmp_path / "b.svg", names, measured)
    drawn = (tmp_path / "a.svg").read_text()
    for text in ("87.5 %", "12,345", "156", "–", "shift, 5 bits", "int8 MAC in DSP blocks"):
        assert f">{text}</text>" in drawn
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--array", "8"], "zeropoint: error: Invalid value: '8' is not LANESxCOLUMNS, such as 8x8: "),
        (["--array", "8x1"], "arrays of 8x1 PEs have no half to compare with; say 2 columns or more"),
        (["--plot", "a.jpg"], "a.jpg': name a file that ends in .svg or .png"),
        (["--kind", "fold"], "'fold' is not one of"),
        (["--networks", "none", "--kind", "shift-5"], "none/5_bits.onnx'; python examples/fashion_mnist/inq.py trains"),
    ],
)
def test_bad_usage_ends_in_one_line(arguments, line):
    done = compare(*arguments, "--images", 1, "--no-place")
    assert (done.returncode, done.stdout) == (2, "")
    assert line in done.stderr
    assert done.stderr.count("\n") == 1
