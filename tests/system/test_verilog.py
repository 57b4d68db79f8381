"""``zeropoint verilog``: what it writes is whole, the same every time, and a program's folder besides."""

import hashlib
import json
import re
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from support.command_line import process, zeropoint_command
from support.engines import need
from support.files import write_model
from support.random_models import random_model

from zeropoint.compiler import storage
from zeropoint_hw.verilog import to_verilog
from zeropoint_sim.design import accelerator

OPTIONS = ["--lanes", 2, "--columns", 2, "--trim"]


@pytest.mark.parametrize("source", ["ram", "rom"])
def test_the_folder_holds_verilog_and_the_program(tmp_path, source):
    model, _ = write_model(tmp_path, random_model(2))
    outcome = zeropoint_command("verilog", model, "-o", tmp_path / "v", *OPTIONS, "--weight-source", source).done()
    assert "weight memory" in outcome.stdout
    assert outcome.stderr == f"wrote the Verilog to {tmp_path / 'v'}\n"
    program = storage.load(tmp_path / "v")
    text = (tmp_path / "v" / "zeropoint.v").read_text()
    assert text == to_verilog(accelerator(program))
    assert (tmp_path / "v" / "load.mem").exists() == (source == "ram")
    assert ("load.mem" in (tmp_path / "v" / "README.md").read_text()) == (source == "ram")
    # Weights are in the Verilog where nothing can write them; 2 × 2 of 8 bits make words of 32.
    word = max((int.from_bytes(bytes(word), "little") for word in program.weights), default=0)
    assert bool(re.search(rf"= 32'd{word};", text)) == (source == "rom")


def test_the_same_bytes_in_another_process_and_place(tmp_path):
    model, _ = write_model(tmp_path, random_model(2))
    digests = []
    for seed, folder in enumerate(("a", "elsewhere/b")):
        (tmp_path / folder).parent.mkdir(exist_ok=True)
        environment = {"PYTHONHASHSEED": str(seed)}
        process("verilog", model, "-o", tmp_path / folder, *OPTIONS, environment=environment).done()
        files = sorted((tmp_path / folder).iterdir())
        digests.append([(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files])
        assert not [path.name for path in files if str(tmp_path).encode() in path.read_bytes()]
    assert digests[0] == digests[1]


def test_a_folder_of_others_is_not_replaced(tmp_path):
    model, _ = write_model(tmp_path, random_model(2))
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "mine.v").touch()
    error = zeropoint_command("verilog", model, "-o", tmp_path / "v", *OPTIONS).error()
    assert "holds files that Zeropoint did not write there (mine.v)" in error
    assert [path.name for path in (tmp_path / "v").iterdir()] == ["mine.v"]


def test_what_does_not_fit_is_refused(tmp_path):
    model, _ = write_model(tmp_path, random_model(2))
    error = zeropoint_command("verilog", model, "-o", tmp_path / "v", "--weight-bytes", 32).error()
    assert "weight" in error
    assert not (tmp_path / "v").exists()


def test_the_folder_is_a_program_to_simulate(tmp_path):
    model, x = write_model(tmp_path, random_model(2), count=1)
    zeropoint_command("verilog", model, "-o", tmp_path / "v", *OPTIONS).done()
    files = ["--input", x, "--output", tmp_path / "y.npy", "--program", tmp_path / "v"]
    zeropoint_command("simulate", model, *files, "--engine", "amaranth").done()
    assert np.load(tmp_path / "y.npy").size


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("icarus", "engine icarus needs Icarus Verilog, and iverilog is not there; install it (Debian and Ubuntu: apt"),
        ("verilator", "engine verilator needs perl; install it (Debian and Ubuntu: apt install perl)"),
    ],
)
def test_a_missing_simulator_is_one_line_that_says_how_to_get_it(tmp_path, engine, message):
    need(engine)
    model, x = write_model(tmp_path, random_model(2), count=1)
    files = ["--input", x, "--output", tmp_path / "y.npy"]
    outcome = process("simulate", model, *files, "--engine", engine, environment={"PATH": str(tmp_path)})
    assert outcome.error().startswith(f"zeropoint: error: {message}")
    assert not (tmp_path / "y.npy").exists()


@pytest.mark.parametrize("engine", ["verilator", pytest.param("icarus", marks=pytest.mark.slow)])
def test_simulate_on_the_verilog_with_waveforms_and_tensors(tmp_path, engine):
    model, x = write_model(tmp_path, random_model(2), count=2)
    files = ["--input", x, "--output", tmp_path / "y.npy", "--trace", tmp_path / "t.vcd", "--json", tmp_path / "r.json"]
    outcome = zeropoint_command("simulate", model, *files, "--tensors", "--engine", need(engine), *OPTIONS).done()
    assert f"engine: {engine}" in outcome.stdout
    assert "2/2 inferences bit-exact" in outcome.stdout
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["engine"], report["mismatches"]) == (engine, 0)
    # Two edges of the clock in each cycle of the first inference, with its input and output.
    edges = (tmp_path / "t.vcd").read_text().count("\n#")
    assert 2 * report["cycles"][0] < edges < 2 * report["cycles"][0] + 1000


#: Executed before a command: the simulator is asked for reads without end, and SIGINT arrives meanwhile.
INTERRUPTED = """
import os, signal, threading
signal.signal(signal.SIGINT, signal.default_int_handler)
from zeropoint_sim import verilog_simulation
real = verilog_simulation.VerilogSimulation.request
def request(self, do, **given):
    if do != "run":
        return real(self, do, **given)
    open("pid", "w").write(str(self._child.pid))
    threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
    return real(self, "read", address=0, count=10**9, stride=0)
verilog_simulation.VerilogSimulation.request = request
"""


def alive(group):
    """Return the states of a process group's processes, but for those that are only waited for."""
    states = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, of = path.read_text().rpartition(")")[2].split()[:3]
            states += [state] if int(of) == group and state not in "ZX" else []
    return states


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc here")
def test_an_interrupted_simulation_leaves_no_process_and_no_file(tmp_path):
    need("verilator")
    model, x = write_model(tmp_path, random_model(2), count=1)
    before = sorted(entry.name for entry in tmp_path.iterdir())
    files = ["--input", x, "--output", tmp_path / "y.npy", "--trace", tmp_path / "t.vcd"]
    arguments = ["simulate", model, *files, "--engine", "verilator", *OPTIONS]
    outcome = process(*arguments, before=INTERRUPTED, folder=tmp_path)
    assert outcome.status == 130, outcome
    pid = int((tmp_path / "pid").read_text())
    (tmp_path / "pid").unlink()
    assert alive(pid) == []
    assert sorted(entry.name for entry in tmp_path.iterdir()) == before
