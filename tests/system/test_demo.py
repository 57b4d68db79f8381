"""The demo network on the hardware: every image, both engines, arrays of several shapes, all schemes."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from support import engines
from support.command_line import process, zeropoint_command
from support.engines import assert_exact, need, simulated

import zeropoint
from zeropoint import arrays, golden, importers
from zeropoint.compiler import storage
from zeropoint.compiler.configure import configure
from zeropoint.model import zp_file
from zeropoint.quantize import BITS, Scheme, quantize
from zeropoint_hw.config import AcceleratorConfig

DEMO = Path(zeropoint.__file__).parent / "demo"


@cache
def demo(scheme=Scheme.AFFINE_INT8, bits=None):
    """Return the demo's network, quantized, and its inputs."""
    network = importers.load(DEMO / "fashion_mnist.onnx")
    paths = [DEMO / "calibration.npy", DEMO / "images.npy"]
    calibration, images = (arrays.load_real(path, network, 1 / 255) for path in paths)
    model = quantize(network, calibration, scheme=scheme, bits=bits)
    return model, model.tensor(model.input).quantize(images)


def test_all_images_are_bit_exact(tmp_path):
    need("cxxrtl")
    folder = tmp_path / "results"
    outcome = zeropoint_command("demo", "-o", folder).done()
    assert "100/100 inferences bit-exact" in outcome.stdout
    assert "engine: cxxrtl" in outcome.stdout
    report = json.loads((folder / "report.json").read_text())
    assert report["inferences"] == 100
    assert report["mismatches"] == 0
    model, x = demo()
    assert zp_file.dumps(zp_file.load(folder / "fashion_mnist.zp")) == zp_file.dumps(model)
    assert_array_equal(np.load(folder / "inputs.npy"), x)
    outputs = np.load(folder / "outputs.npy")
    assert_array_equal(outputs, golden.run(model, x))
    labels = np.load(DEMO / "labels.npy")
    right = int((outputs.argmax(-1) == labels).sum())
    assert right >= 85
    assert f"accuracy quantized, affine-int8: {right}/100" in outcome.stdout
    # What was kept can be run again.
    again = tmp_path / "y.npy"
    files = [folder / "fashion_mnist.zp", "--input", folder / "inputs.npy", "--output", again, "--limit", 3]
    zeropoint_command("simulate", *files, "--program", folder / "program").done()
    assert_array_equal(np.load(again), outputs[:3])


SHAPES = [
    engines.SHAPES["1x1-mac"],
    engines.SHAPES["4x4-fold"],
    AcceleratorConfig(lanes=8, columns=8),
    *(
        pytest.param(config, marks=pytest.mark.slow)
        for config in (
            AcceleratorConfig(lanes=16, columns=8),
            AcceleratorConfig(lanes=16, columns=4, pe="fold", requantizers=1),
            AcceleratorConfig(lanes=4, columns=16, requantizers=2),
            AcceleratorConfig(lanes=32, columns=2, pe="fold"),
            AcceleratorConfig(lanes=1, columns=8, weight_source="rom"),
        )
    ),
]


def shapes_and_schemes():
    """All shapes, with all schemes that share a simulator; the others, in the long suite, on two shapes."""
    for shape in SHAPES:
        config, marks = (shape.values[0], shape.marks) if hasattr(shape, "marks") else (shape, ())
        for scheme in Scheme:
            if scheme is Scheme.MINIFLOAT:
                continue
            own = scheme in (Scheme.INQ, Scheme.POW2)
            if own and (config.lanes, config.columns) not in ((4, 4), (4, 16)):
                continue
            name = f"{config.lanes}x{config.columns}-{config.pe}-{scheme.value}"
            yield pytest.param(config, scheme, id=name, marks=[*marks, pytest.mark.slow] if own else marks)


@pytest.mark.parametrize(("config", "scheme"), list(shapes_and_schemes()))
def test_arrays_of_every_shape(config, scheme):
    model, x = demo(scheme)
    wanted = configure(model, {})
    if wanted.pe == "shift":
        config = replace(config, pe="shift", weight_bits=wanted.weight_bits, weight_zero=wanted.weight_zero)
    result = simulated(model, x[:2], config)
    assert_exact(result)
    assert len(np.unique(result.outputs)) > 10
    assert result.program.macs == 560_736


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [2, 8])
def test_arrays_of_minifloats(lanes):
    model, x = demo(Scheme.MINIFLOAT)
    assert_exact(simulated(model, x[:2], configure(model, {"lanes": lanes, "columns": 4})))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "bits"),
    [(scheme, bits) for scheme, widths in BITS.items() for bits in widths],
    ids=lambda value: getattr(value, "value", value),
)
def test_every_width_of_every_scheme(scheme, bits):
    """On the processing elements that the network chooses, with weights as wide in memory as they are."""
    model, x = demo(scheme, bits)
    config = configure(model, {"lanes": 4, "columns": 2})
    assert config.weight_bits == bits
    assert_exact(simulated(model, x[:2], config))


@pytest.mark.slow
def test_without_a_compiler_the_demo_runs_two_images_in_amaranth(tmp_path):
    folder = tmp_path / "results"
    outcome = process("demo", "-o", folder, environment={"PATH": "/nonexistent", "CXX": ""}).done()
    assert "2/2 inferences bit-exact" in outcome.stdout
    assert "engine: amaranth" in outcome.stdout
    assert "using Amaranth's simulator" in outcome.stderr
    assert "apt install g++" in outcome.stderr
    assert "simulating 2 of 100 images" in outcome.stderr
    slow = json.loads((folder / "report.json").read_text())
    # Both engines agree to the cycle.
    model, x = demo()
    result = simulated(model, x[:2], AcceleratorConfig(), tensors=False)
    fast = json.loads(json.dumps(result.to_json()))
    assert {key for key in fast if fast[key] != slow[key]} == {"engine", "notes", "wall_seconds", "cycles_per_second"}
    assert result.simulated_cycles == pytest.approx(slow["wall_seconds"] * slow["cycles_per_second"])


def test_the_program_of_the_demo_can_be_compiled_alone(tmp_path):
    model, _ = demo()
    zp_file.save(model, tmp_path / "m.zp")
    zeropoint_command("compile", tmp_path / "m.zp", "-o", tmp_path / "program").done()
    assert storage.load(tmp_path / "program").macs == 560_736
