import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import real_models
from support.engines import need
from support.fpga import need_tools

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "cost.py"
MACS = 307_648


def cost(*arguments, **environment):
    command = [sys.executable, SCRIPT, *map(str, arguments)]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_cycles_of_the_digits_network(tmp_path):
    need("cxxrtl")
    files = "--json", tmp_path / "t.json", "--markdown", tmp_path / "t.md"
    done = cost("--arrays", "2x2", "--networks", "digits", "--no-synthesis", *files)
    assert (done.returncode, done.stderr) == (0, "")
    (array,) = json.loads((tmp_path / "t.json").read_text())["arrays"]
    (counted,) = array["networks"].values()
    assert counted["macs"] == MACS
    assert array["multipliers"] == 4
    assert counted["utilization"] == MACS / 4 / counted["cycles"]
    assert 0.9 < counted["utilization"] < 1
    cell = f"{counted['cycles']:,} ({100 * counted['utilization']:.1f} %)"
    assert cell in done.stdout
    assert (tmp_path / "t.md").read_text().splitlines() == [
        "| array | multipliers | elsewhere | digits |",
        "| --- | ---: | ---: | ---: |",
        f"| 2 × 2 | 4 | {array['other_multipliers']} | {cell} |",
    ]


@pytest.mark.slow
@real_models.needs_models
def test_resources_and_clock(tmp_path):
    need("cxxrtl")
    need_tools()
    options = "--arrays", "1x1", "--networks", "digits", "--seeds", 2, "--json", tmp_path / "t.json"
    done = cost(*options)
    assert (done.returncode, done.stderr) == (0, "")
    (array,) = json.loads((tmp_path / "t.json").read_text())["arrays"]
    taken = array["cost"]
    assert taken["dsp"] == 1 + 4
    assert taken["lut_per_multiplier"] == taken["lut"] > 500
    assert taken["exceeding"] == []
    assert len(taken["fmax_of_seeds"]) == 2
    assert taken["fmax"] == pytest.approx(sum(taken["fmax_of_seeds"].values()) / 2)
    assert 50 < taken["fmax"] < 300
    assert f"{taken['fmax']:.1f}" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--arrays", "8"], "zeropoint: error: Invalid value: '8' is not LANESxCOLUMNS, such as 8x8: "),
        (["--arrays", "3x8"], "lanes must be a power of two from 1 to 64, not 3"),
        (["--networks", "ad01_int8"], "ad01_int8.tflite"),
    ],
)
def test_bad_usage_ends_in_one_line(tmp_path, arguments, line):
    done = cost("--no-synthesis", *arguments, ZEROPOINT_MODELS=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert line in done.stderr
    assert done.stderr.count("\n") == 1


def test_models_that_are_not_named_end_in_one_line():
    variables = {name: value for name, value in os.environ.items() if name != "ZEROPOINT_MODELS"}
    done = subprocess.run([sys.executable, SCRIPT], env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "zeropoint: error: set ZEROPOINT_MODELS to the folder that holds ad01_int8.tflite\n"
