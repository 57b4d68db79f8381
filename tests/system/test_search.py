"""The search, as the command runs it on the demo network: what it reports is what the network that it writes does."""

import re
from pathlib import Path

import numpy as np
import pytest
from support.command_line import zeropoint_command
from support.engines import assert_exact, simulated

import zeropoint
from zeropoint import arrays, float_reference, golden, importers
from zeropoint.compiler.configure import configure
from zeropoint.model import zp_file

DEMO = Path(zeropoint.__file__).parent / "demo"


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["dynamic-fixed", "minifloat --exponent-bits 4", "pow2"])
def test_the_accuracy_that_is_reported_is_that_of_the_network_that_is_written(tmp_path, scheme):
    network = importers.load(DEMO / "fashion_mnist.onnx")
    x = arrays.load_real(DEMO / "calibration.npy", network, 1 / 255)
    data = ["--calibration", DEMO / "calibration.npy", "--calibration-scale", "0.00392157"]
    command = ["quantize", DEMO / "fashion_mnist.onnx", "--scheme", *scheme.split(), *data, "--acceptable-loss", 8]
    outcome = zeropoint_command(*command, "-o", tmp_path / "m.zp").done()
    model = zp_file.load(tmp_path / "m.zp")
    right = float_reference.run_output(network, x).argmax(axis=1)
    share = float(np.mean(golden.run(model, model.tensor(model.input).quantize(x)).argmax(axis=1) == right))
    reported = re.search(r"accuracy on the calibration data: ([0-9.]+) %", outcome.stdout)
    assert reported is not None
    assert float(reported.group(1)) == pytest.approx(100 * share, abs=0.051)
    assert share >= 0.92
    bits = [int(entry.rpartition(" ")[2]) for entry in model.metadata["bits"].split(", ")]
    assert min(bits) < max(bits) == 8
    inputs = model.tensor(model.input).quantize(x[:2])
    assert_exact(simulated(model, inputs, configure(model, {"lanes": 4, "columns": 4})))
