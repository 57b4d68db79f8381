"""Networks as PyTorch's exporters write them: quantized, compiled and simulated, bit for bit."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from support.command_line import zeropoint_command
from support.engines import need

from zeropoint import float_reference, golden, importers
from zeropoint.importers import layout
from zeropoint.model import zp_file

torch_networks = pytest.importorskip("support.torch_networks", reason="needs torch", exc_type=ImportError)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return a function that trains and exports a network once, and returns its path and its inputs' shape."""
    made = {}

    def get(name, dynamo):
        if (name, dynamo) not in made:
            network = torch_networks.trained(name)
            path = tmp_path_factory.mktemp("exported") / f"{name}.onnx"
            torch_networks.export(network, path, dynamo=dynamo)
            made[name, dynamo] = path, torch_networks.input_shape(network)
        return made[name, dynamo]

    return get


@pytest.mark.parametrize("scheme", ["affine-int8", "affine-uint8"])
@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("name", sorted(torch_networks.NETWORKS))
def test_exported_networks(exported, name, dynamo, scheme, tmp_path):
    if dynamo:
        pytest.importorskip("onnxscript", reason="the newer exporter needs onnxscript")
    need("cxxrtl")
    path, shape = exported(name, dynamo)
    rng = np.random.default_rng(0)
    calibration, x = tmp_path / "calibration.npy", tmp_path / "x.npy"
    np.save(calibration, rng.standard_normal((32, *shape)).astype(np.float32))
    real = rng.standard_normal((3, *shape)).astype(np.float32)
    np.save(x, real)
    quantized = tmp_path / "m.zp"
    zeropoint_command("quantize", path, "--scheme", scheme, "--calibration", calibration, "-o", quantized).done()
    files = ["--input", x, "--output", tmp_path / "y.npy"]
    outcome = zeropoint_command("simulate", quantized, *files, "--tensors").done()
    assert "3/3 inferences bit-exact" in outcome.stdout

    # The outputs are in the exported network's layout, and near its own.
    model, network = zp_file.load(quantized), importers.load(path)
    ours = layout.to_model(model, real)
    got = np.load(tmp_path / "y.npy")
    assert_array_equal(got, layout.to_file(model, golden.run(model, model.tensor(model.input).quantize(ours))))
    expected = layout.to_file(network, float_reference.run_output(network, ours))
    error = model.tensor(model.output).dequantize(got) - expected
    assert np.sqrt(np.square(error).mean()) < 0.15 * np.sqrt(np.square(expected).mean())
