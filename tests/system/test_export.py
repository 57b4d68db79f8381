"""``zeropoint export``, and ``zeropoint info --against-onnxruntime``."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from support.command_line import process, zeropoint_command
from support.files import write_array, write_float_network, write_model
from support.random_models import random_model

from zeropoint import golden
from zeropoint.export.onnx_runtime import differences
from zeropoint.importers import layout, load
from zeropoint.model import zp_file


@pytest.fixture
def model(tmp_path: Path) -> tuple[Path, Path]:
    return write_model(tmp_path, random_model(17), 5)


def test_export_and_run(tmp_path: Path, model: tuple[Path, Path]) -> None:
    path, x = model
    target = tmp_path / "m.onnx"
    outcome = zeropoint_command("export", path, "-o", target).done()
    assert outcome.stderr == f"wrote the network to {target}\n"
    zeropoint_command("golden", target, "--input", x, "--output", tmp_path / "y.npy").done()
    network, exported = zp_file.load(path), load(target)
    expected = golden.run(network, np.load(x))
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), layout.to_file(exported, expected))
    assert "quantized network" in zeropoint_command("info", target).done().stdout
    again = tmp_path / "again.onnx"
    process("export", path, "-o", again).done()
    assert again.read_bytes() == target.read_bytes()


def test_export_refuses(tmp_path: Path, model: tuple[Path, Path]) -> None:
    path, _ = model
    error = zeropoint_command("export", path, "-o", tmp_path / "m.zp").error()
    assert "--output must be a .onnx file" in error
    error = zeropoint_command("export", write_float_network(tmp_path), "-o", tmp_path / "m.onnx").error()
    assert "is a float network; quantize it first" in error
    error = zeropoint_command("export", path, "-o", tmp_path / "no" / "m.onnx").error()
    assert "there is no folder" in error


def test_info_against_onnxruntime(tmp_path: Path, model: tuple[Path, Path]) -> None:
    path, x = model
    network = zp_file.load(path)
    expected = differences(network, np.load(x))
    arguments = ("info", path, "--against-onnxruntime", "--input", x)
    facts = json.loads(zeropoint_command(*arguments, "--json").done().stdout)["against_onnxruntime"]
    assert facts["inferences"] == 5
    assert facts["layers"] == [vars(difference) for difference in expected]
    text = zeropoint_command(*arguments).done().stdout
    assert "Integers that ONNX Runtime gives otherwise, for 5 inputs" in text
    for difference in expected:
        assert difference.operator in text


def test_random_inputs_are_those_of_the_seed(model: tuple[Path, Path]) -> None:
    def layers(*options: object) -> object:
        outcome = zeropoint_command("info", model[0], "--against-onnxruntime", "--json", *options).done()
        return json.loads(outcome.stdout)["against_onnxruntime"]

    assert layers() == layers("--samples", 64, "--seed", 0)
    assert layers("--samples", 9) == layers("--samples", 9)
    assert layers("--samples", 9, "--seed", 1) != layers("--samples", 9, "--seed", 2)


def test_info_refuses(tmp_path: Path, model: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path, x = model
    for option in (["--input", x], ["--samples", 3], ["--seed", 3]):
        assert "go with --against-onnxruntime" in zeropoint_command("info", path, *option).error()
    options = ["--against-onnxruntime", "--input", x, "--samples", 3]
    assert "they do not go with --input" in zeropoint_command("info", path, *options).error()
    error = zeropoint_command("info", write_float_network(tmp_path), "--against-onnxruntime").error()
    assert "is a float network; quantize it first" in error
    wrong = write_array(tmp_path, "wrong.npy", np.zeros((3, 1)))
    error = zeropoint_command("info", path, "--against-onnxruntime", "--input", wrong).error()
    assert "wrong.npy" in error
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    error = zeropoint_command("info", path, "--against-onnxruntime").error()
    assert error.endswith("install it with: pip install 'zeropoint[onnxruntime]'")
