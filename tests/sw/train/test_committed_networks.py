"""The networks that examples/fashion_mnist/inq.py wrote: what the results say is what the files hold."""

import hashlib
import json
from fractions import Fraction
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

FOLDER = Path(__file__).resolve().parents[3] / "examples" / "fashion_mnist" / "inq"
RESULTS = FOLDER / "inq_results.json"

pytestmark = pytest.mark.skipif(not RESULTS.exists(), reason="the examples are not here")


def results():
    return json.loads(RESULTS.read_text())


def layers(bits):
    """The weights by layer: rows of channels, one row for the layer without a normalization."""
    model = onnx.load(FOLDER / f"{bits}_bits.onnx")
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            weights = values[node.input[1]]
            yield node.name, weights.reshape(len(weights) if node.op_type == "Conv" else 1, -1)


def is_power_of_two(ratio, exponents):
    """Whether ``ratio``, of a magnitude to the greatest, is 2^0 … 2^-(exponents - 1), exactly."""
    return ratio in {Fraction(1, 2**n) for n in range(exponents)}


@pytest.mark.parametrize("bits", [5, 4, 3, 2])
def test_each_channel_is_one_factor_times_levels(bits):
    exponents = 2 ** (bits - 2)
    found = {}
    for name, rows in layers(bits):
        found[name] = rows.size
        for row in rows.tolist():
            greatest = max(map(abs, row))
            for weight in filter(None, row):
                assert is_power_of_two(Fraction(abs(weight)) / Fraction(greatest), exponents), (name, weight)
    counts = results()["by_bits"][str(bits)]["weights_by_power"]
    # Every layer, with as many codes as the format has, and all of its weights.
    assert {name: sum(levels.values()) for name, levels in counts.items()} == found
    assert len(found) == 11
    assert {len(levels) for levels in counts.values()} == {2 ** (bits - 1) + 1}
    # Zeros are the same in the file, whatever the factors are.
    assert {name: int((rows == 0).sum()) for name, rows in layers(bits)} == {
        name: levels["0"] for name, levels in counts.items()
    }


def test_the_check_would_notice():
    assert not is_power_of_two(Fraction(3, 4), 8)
    assert not is_power_of_two(Fraction(1, 2), 1)
    # 5-bit weights are not 4-bit ones.
    ratios = [Fraction(abs(w)) / Fraction(max(map(abs, r))) for _, m in layers(5) for r in m.tolist() for w in r if w]
    assert not all(is_power_of_two(ratio, 4) for ratio in ratios)


@pytest.mark.parametrize("bits", [5, 4, 3, 2])
def test_the_files_are_those_that_were_measured(bits):
    content = (FOLDER / f"{bits}_bits.onnx").read_bytes()
    assert hashlib.sha256(content).hexdigest() == results()["by_bits"][str(bits)]["onnx_sha256"]


@pytest.mark.parametrize(("bits", "loss"), [(5, 0.002), (4, 0.005), (3, 0.025)])
def test_accuracy_is_near_that_of_the_float_network_after_as_many_epochs(bits, loss):
    found = results()
    assert found["test_images"] == 10000
    result = found["by_bits"][str(bits)]
    assert result["accuracy"] >= found["float_accuracy_after_further_epochs"] - loss
    assert result["portions"][-1] == 1
    assert len(result["portions"]) == len(result["accuracies"])
