"""``zeropoint run`` on the virtual board: the demo network, a shared model, and what goes wrong."""

import json

import numpy as np
import pytest
from support import real_models
from support.board import CONFIG, inputs, small_network, virtual_board
from support.command_line import zeropoint_command
from support.engines import need

from zeropoint import golden, importers, quantize
from zeropoint.cli.demo import demo_files
from zeropoint.compiler import compile_model, storage
from zeropoint.host import Device
from zeropoint.model import zp_file
from zeropoint.quantize.schemes import Scheme


@pytest.fixture
def small(tmp_path):
    """Return a folder with a model, its program and inputs."""
    model, program = small_network()
    storage.save(program, tmp_path / "program")
    zp_file.save(model, tmp_path / "model.zp")
    np.save(tmp_path / "x.npy", inputs(model, 4))
    return tmp_path


def run(folder, *options, port="virtual"):
    need("cxxrtl")
    files = ("--input", folder / "x.npy", "--output", folder / "y.npy")
    return zeropoint_command("run", folder / "program", "--port", port, *files, *options)


def test_outputs_are_written_and_compared(small):
    model, _ = small_network()
    outcome = run(small, "--check", small / "model.zp", "--json", small / "report.json").done()
    assert "4/4 inferences bit-exact" in outcome.stdout
    assert "a second, link included" in outcome.stdout
    expected = golden.run(model, inputs(model, 4))
    np.testing.assert_array_equal(np.load(small / "y.npy"), expected)
    report = json.loads((small / "report.json").read_text())
    assert (report["inferences"], report["mismatches"], report["exact_inferences"], report["resets"]) == (4, 0, 4, 0)
    assert len(report["cycles"]) == 4


def test_floats_are_quantized_and_nothing_need_be_compared(small):
    model, _ = small_network()
    tensor = model.tensor(model.input)
    real = (inputs(model, 2).astype(np.float32) - tensor.zero_point) * np.float32(tensor.scale)
    np.save(small / "x.npy", real)
    outcome = run(small, "--limit", 1).done()
    assert "bit-exact" not in outcome.stdout
    np.testing.assert_array_equal(np.load(small / "y.npy"), golden.run(model, inputs(model, 2)[:1]))


def test_a_difference_is_seen(small, monkeypatch):
    """The negative control: a board that computes something else."""
    computed = Device.run

    def wrong(self, x, progress=None):
        y = computed(self, x, progress).copy()
        y[1].reshape(-1)[2] ^= 1
        return y

    monkeypatch.setattr(Device, "run", wrong)
    outcome = run(small, "--check", small / "model.zp")
    assert outcome.status == 1
    assert "3/4 inferences bit-exact" in outcome.stdout


def test_a_board_at_a_port(small):
    with virtual_board() as board:
        run(small, "--check", small / "model.zp", port=board.port).done()


def test_what_cannot_be_run_is_said_in_one_line(small):
    assert "cannot open the port '/dev/nosuch'" in run(small, port="/dev/nosuch").error()
    assert "there is no board 'nosuch'; there are icebreaker, " in run(small, port="virtual:nosuch").error()
    other, _ = small_network(classes=6)
    zp_file.save(other, small / "other.zp")
    assert "was compiled from network" in run(small, "--check", small / "other.zp").error()
    np.save(small / "x.npy", np.zeros((1, 8, 8, 4), np.int8))
    assert "expected int8 or floats of shape (N, 8, 8, 3)" in run(small).error()
    assert not (small / "y.npy").exists()


def on_the_board(model, x):
    program = compile_model(model, CONFIG)
    with virtual_board() as board, Device.open(board.port, program) as device:
        np.testing.assert_array_equal(device.run(x), golden.run(model, x))
        assert device.report.resets == 0


def test_the_demo_network_is_bit_exact():
    network, calibration, images, _ = demo_files()
    model = quantize.quantize(network, calibration, scheme=Scheme("affine-int8"))
    on_the_board(model, model.tensor(model.input).quantize(images[:5]))


@real_models.needs_models
def test_keyword_spotting_is_bit_exact():
    model = importers.load(real_models.path("kws_ref_model"))
    on_the_board(model, real_models.inputs("kws_ref_model", model, 1))
