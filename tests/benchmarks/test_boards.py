import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.board import small_network
from support.command_line import zeropoint_command
from support.engines import need

from zeropoint.model import zp_file
from zeropoint_boards import record

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "boards.py"

#: What the device's tools would have said.
RESOURCES = {"lut": 1234, "ff": 567, "dsp": 8, "block_ram": 9, "distributed_ram": 10}


def boards(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_row_of_the_table(tmp_path):
    need("cxxrtl")
    network, _ = small_network()
    model, folder = tmp_path / "model.zp", tmp_path / "out"
    zp_file.save(network, model)
    options = ("--lanes", 1, "--columns", 1, "--frequency", 50, "--no-run", "-o", folder)
    zeropoint_command("build", model, "--board", "ulx3s_85f", *options).done()
    refused = boards("--built", folder, model)
    assert refused.returncode == 2
    assert "holds no bitstream" in refused.stderr

    document = json.loads((folder / record.BUILD).read_text()) | {"bitstream": "top.bit"}
    timing = {"clk": {"constraint_mhz": 50.0, "achieved_mhz": 61.25}}
    document["details"] |= {"resources": RESOURCES, "timing": timing, "seed": 1, "tools": {}}
    (folder / record.BUILD).write_text(json.dumps(document))
    done = boards("--built", folder, model, "--json", tmp_path / "t.json", "--markdown", tmp_path / "t.md")
    assert (done.returncode, done.stderr) == (0, "")
    (figures,) = json.loads((tmp_path / "t.json").read_text())["builds"]
    assert figures["inferences_per_second"] == 50e6 / figures["cycles"]
    # 192 bytes of input at 1 Mbaud, with what frames and requests take besides.
    assert figures["over_the_link"] == min(figures["inferences_per_second"], 1e6 / (10 * (1.05 * 192 + 30)))
    cells = [cell.strip() for cell in (tmp_path / "t.md").read_text().splitlines()[2].split("|")[1:-1]]
    assert cells[0] == "Radiona ULX3S 85F"
    assert cells[2:8] == ["1 × 1", "50.0 (reaches 61.2)", "1,234", "567", "8", "9"]
    assert cells[8] == f"{figures['cycles']:,}"
