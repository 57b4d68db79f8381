"""A .tflite file with everything in the middle of a network that the hardware runs by pairs, tables and copies."""

import json

import numpy as np
import pytest
from support.command_line import zeropoint_command
from support.engines import need
from support.files import write_array
from support.tflite_files import NONE, SAME, File, everything


def network(dtype: str, tail: bool) -> bytes:
    """Return a file: a convolution gated by its own logistic, leaky, sliced, joined and classified."""
    file, rng = File(), np.random.default_rng(1)
    middle = 128 if dtype == "uint8" else 0
    kind, least = dtype.upper(), int(np.iinfo(dtype).min)

    def made(name: str, *shape: int, scale: float = 0.05, zero_point: int = middle) -> int:
        return file.tensor(name, shape, kind, scale, zero_point)

    def weights(name: str, *shape: int) -> tuple[int, int]:
        data = rng.integers(-90, 90, shape) + middle
        bias = rng.integers(-500, 500, shape[0])
        return (
            file.tensor(name, shape, kind, 0.01, middle, data),
            file.tensor(f"{name}_bias", (shape[0],), "INT32", 0.0005, 0, bias),
        )

    x = made("x", 1, 6, 6, 3)
    conv = made("conv", 1, 6, 6, 8)
    strides = {"StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1}
    file.operator("CONV_2D", [x, *weights("w", 8, 3, 3, 3)], conv, "Conv2DOptions", Padding=SAME, **strides)
    gate = made("gate", 1, 6, 6, 8, scale=1 / 256, zero_point=least)
    file.operator("LOGISTIC", [conv], gate)
    gated = made("gated", 1, 6, 6, 8, scale=0.04)
    file.operator("MUL", [conv, gate], gated, "MulOptions", FusedActivationFunction=NONE)
    rest = made("rest", 1, 6, 6, 8, scale=0.03)
    file.operator("SUB", [conv, gated], rest, "SubOptions", FusedActivationFunction=NONE)
    leaky = made("leaky", 1, 6, 6, 8)
    file.operator("LEAKY_RELU", [rest], leaky, "LeakyReluOptions", Alpha=0.2)
    part = made("part", 1, 6, 6, 3)
    file.operator("SLICE", [leaky, file.integers([0, 0, 0, 2]), file.integers([1, 6, 6, 3])], part)
    # Only uint8 may change scales.
    joined = made("joined", 1, 6, 6, 11, scale=0.06 if dtype == "uint8" else 0.05)
    file.operator("CONCATENATION", [conv, part], joined, "ConcatenationOptions", Axis=3)
    flat = made("flat", 1, 396, scale=0.06 if dtype == "uint8" else 0.05)
    file.operator("RESHAPE", [joined, file.integers([1, 396])], flat)
    output = made("logits", 1, 10, scale=0.2)
    file.operator("FULLY_CONNECTED", [flat, *weights("dense", 10, 396)], output, "FullyConnectedOptions")
    if tail:
        probabilities = made("probabilities", 1, 10, scale=1 / 256, zero_point=least)
        file.operator("SOFTMAX", [output], probabilities, "SoftmaxOptions", Beta=1.0)
        output = probabilities
    return file.build([x], [output])


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_a_network_with_a_bit_of_everything(tmp_path, dtype):
    need("cxxrtl")
    path = tmp_path / "net.tflite"
    path.write_bytes(network(dtype, tail=True))
    x = write_array(tmp_path, "x.npy", everything((6, 6, 3), dtype))

    facts = json.loads(zeropoint_command("info", path, "--json").done().stdout)
    assert facts["refused"] is None
    runs_on = {layer["op"]: layer["runs_on"] for layer in facts["layers"]}
    assert runs_on.pop("Softmax") == "host"
    assert set(runs_on) >= {"Conv2D", "Logistic", "Mul", "Sub", "LeakyRelu", "StridedSlice", "Concatenation"}
    assert set(runs_on.values()) == {"hardware"}

    y, report = tmp_path / "y.npy", tmp_path / "report.json"
    arguments = ["--input", x, "--output", y, "--json", report, "--tensors", "--engine", "cxxrtl"]
    zeropoint_command("simulate", path, *arguments).done()
    zeropoint_command("golden", path, "--input", x, "--output", tmp_path / "golden.npy").done()
    np.testing.assert_array_equal(np.load(y), np.load(tmp_path / "golden.npy"))
    assert len(np.unique(np.load(y))) > 3
    result = json.loads(report.read_text())
    assert result["mismatches"] == 0
    # What info says of the hardware is what ran there; a reshape takes no instruction.
    ran = {kind for layer in result["layers"] for kind in layer["op"].split("+")}
    assert ran == {layer["op"] for layer in facts["layers"] if layer["runs_on"] == "hardware"} - {"Reshape"}


def test_info_says_why_a_softmax_in_the_middle_is_refused(tmp_path):
    file = File()
    x = file.tensor("x", (1, 8))
    y = file.tensor("y", (1, 8), scale=1 / 256, zero_point=-128)
    z = file.tensor("z", (1, 8), scale=1 / 256, zero_point=-128)
    file.operator("SOFTMAX", [x], y, "SoftmaxOptions", Beta=1.0)
    file.operator("LOGISTIC", [y], z)
    path = tmp_path / "net.tflite"
    path.write_bytes(file.build([x], [z]))
    outcome = zeropoint_command("info", path).done()
    assert "the hardware cannot run this network: operator 'softmax_0' (Softmax) runs on the host" in outcome.stderr
    assert "'logistic_1' (Logistic)" in outcome.stderr
