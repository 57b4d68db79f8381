"""The comparison notices: each of these faults is put into a compiled program or a model, and is reported as such."""

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from support.command_line import zeropoint_command
from support.engines import need
from support.files import random_input, write_array
from support.random_models import ModelBuilder

from zeropoint.compiler import storage
from zeropoint.model import Padding, Quantization, zp_file
from zeropoint.numerics import Rounding
from zeropoint_hw.isa import Round


def network():
    """Return a network in which every layer, channel and tap counts."""
    builder = ModelBuilder(np.random.default_rng(1))
    around = Padding(1, 1, 1, 1)
    current = builder.input(8, 8, 3)
    current = builder.conv(current, 8, (3, 3), padding=around)
    current = builder.depthwise(current, (3, 3), padding=around)
    current = builder.mean(builder.conv(current, 12, (1, 1)))
    return builder.build(builder.fully_connected(current, 10))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return a folder with a model, inputs for it, and its compiled program."""
    folder = tmp_path_factory.mktemp("whole")
    model = network()
    zp_file.save(model, folder / "model.zp")
    write_array(folder, "x.npy", random_input(model, 4))
    zeropoint_command("compile", folder / "model.zp", "-o", folder / "program").done()
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


def simulate(folder, *options):
    need("cxxrtl")
    files = [folder / "model.zp", "--input", folder / "x.npy", "--output", folder / "y.npy"]
    return zeropoint_command("simulate", *files, "--program", folder / "program", "--json", folder / "r.json", *options)


def differs(folder, *options):
    """Check that the simulation reports a difference, and return the report."""
    outcome = simulate(folder, *options)
    assert outcome.status == 1, (outcome.status, outcome.stdout, outcome.stderr)
    assert outcome.stderr == ""
    report = json.loads((folder / "r.json").read_text())
    assert report["mismatches"] > 0
    assert report["exact_inferences"] < 4
    assert f"{report['exact_inferences']}/4 inferences bit-exact" in outcome.stdout
    fault = report["faults"][0]
    assert fault["hardware"] != fault["golden"]
    assert f"tensor '{fault['tensor']}' differ" in outcome.stdout
    return report


def sealed(program_folder, model=None):
    """Make a program's manifest vouch for what its files hold now, and for another model if one is given."""
    path = program_folder / storage.MANIFEST
    manifest = json.loads(path.read_text())
    if model is not None:
        manifest["model_sha256"] = zp_file.digest(model)
    for image in manifest["images"].values():
        for entry in image["files"].values():
            entry["sha256"] = hashlib.sha256((program_folder / entry["file"]).read_bytes()).hexdigest()
    manifest["sha256"] = storage.manifest_digest(manifest)
    path.write_text(json.dumps(manifest))


def test_without_a_fault_nothing_differs(folder):
    sealed(folder / "program")
    outcome = simulate(folder, "--tensors").done()
    assert "4/4 inferences bit-exact" in outcome.stdout
    assert json.loads((folder / "r.json").read_text())["mismatches"] == 0


def test_a_flipped_bit_in_a_weight_image(folder):
    path = folder / "program" / "weights.mem"
    lines = path.read_text().splitlines()
    # The first word: lane 0 of column 0, the first tap of the first convolution, bit 6.
    index = next(i for i, line in enumerate(lines) if not line.startswith("//"))
    lines[index] = lines[index][:-2] + f"{int(lines[index][-2:], 16) ^ 0x40:02X}"
    path.write_text("\n".join(lines) + "\n")
    # Such a file is not even loaded,
    assert "its contents do not match" in simulate(folder).error()
    # unless somebody vouches for it.
    sealed(folder / "program")
    differs(folder)
    first = differs(folder, "--tensors")["faults"][0]
    assert first["tensor"] == "conv2d_0_out"
    assert first["index"][2] == 0
    assert first["axes"] == ["row", "column", "channel"]
    row, column, channel = first["index"]
    assert f"the first at row {row}, column {column}, channel {channel}: " in simulate(folder, "--tensors").stdout


@pytest.mark.parametrize("memory", ["weights", "parameters", "program"])
def test_every_memory_is_loaded_from_its_file(folder, memory):
    # Zeros in place of what was there.
    path = folder / "program" / f"{memory}.mem"
    lines = path.read_text().splitlines()
    zeros = [line if line.startswith("//") else "0" * len(line) for line in lines]
    assert zeros != lines
    path.write_text("\n".join(zeros) + "\n")
    sealed(folder / "program")
    if memory == "program":
        # Instructions of zeros make no sense, which is noticed before they run.
        assert "instruction 0 (conv2d_0)" in simulate(folder).error()
    else:
        differs(folder)


def changed(folder, change):
    """Save the program with one instruction changed: ``change`` returns an instruction, or None to pass over it."""
    program = storage.load(folder / "program")
    instructions = list(program.instructions)
    index, new = next((i, new) for i, old in enumerate(instructions) if (new := change(old)) is not None)
    assert new != instructions[index]
    instructions[index] = new
    storage.save(replace(program, instructions=tuple(instructions)), folder / "program")


def test_a_wrong_zero_point_of_an_input(folder):
    changed(folder, lambda i: replace(i, input_zero_point=i.input_zero_point + 1))
    assert differs(folder, "--tensors")["faults"][0]["tensor"] == "conv2d_0_out"


def test_a_wrong_zero_point_of_an_output(folder):
    changed(folder, lambda i: replace(i, output_zero_point=i.output_zero_point - 1))
    differs(folder)


def test_a_wrong_rounding(folder):
    # Single and double rounding differ for few accumulators: in the first layer's 512 outputs of an image, for some.
    changed(folder, lambda i: replace(i, rounding=Round.SINGLE))
    report = differs(folder, "--tensors")
    assert report["faults"][0]["tensor"] == "conv2d_0_out"
    assert abs(report["faults"][0]["hardware"] - report["faults"][0]["golden"]) == 1


def test_a_wrong_value_beyond_the_edge(folder):
    changed(folder, lambda i: replace(i, pad_value=(i.pad_value + 8) % 256))
    differs(folder)


def test_swapped_channels(folder):
    program = storage.load(folder / "program")
    weights = program.weights.copy()
    lanes = program.config.lanes
    weights[0, :lanes], weights[0, lanes : 2 * lanes] = weights[0, lanes : 2 * lanes].copy(), weights[0, :lanes].copy()
    assert not np.array_equal(weights, program.weights)
    storage.save(replace(program, weights=weights), folder / "program")
    report = differs(folder, "--tensors")
    assert report["faults"][0]["tensor"] == "conv2d_0_out"


def test_swapped_parameters(folder):
    program = storage.load(folder / "program")
    bias = program.parameters.bias.copy()
    bias[[0, 1]] = bias[[1, 0]]
    storage.save(replace(program, parameters=replace(program.parameters, bias=bias)), folder / "program")
    differs(folder)


def exchange(folder, change):
    """Put another model in place of the one that the program was compiled from, which is told and then concealed."""
    model = zp_file.load(folder / "model.zp")
    other = change(model)
    zp_file.save(other, folder / "model.zp")
    error = simulate(folder).error()
    assert f"the program in '{folder / 'program'}' was compiled from network '{model.name}'" in error
    assert f"is not network '{other.name}'" in error
    assert not (folder / "y.npy").exists()
    sealed(folder / "program", other)


def test_another_networks_program(folder):
    def change(model):
        name = model.operators[0].weights
        weights = model.tensor(name)
        return replace(model, tensors={**model.tensors, name: replace(weights, data=np.flip(weights.data, 0))})

    exchange(folder, change)
    differs(folder)


def test_another_networks_scale(folder):
    def change(model):
        target = model.tensor(model.operators[0].output)
        other = replace(target, quantization=Quantization((target.scale * 1.05,), (target.zero_point,)))
        return replace(model, tensors={**model.tensors, target.name: other})

    exchange(folder, change)
    differs(folder)


def test_another_rounding_of_the_model(folder):
    exchange(folder, lambda model: replace(model, rounding=Rounding.SINGLE))
    differs(folder, "--tensors")


def test_a_program_of_another_shape(folder):
    builder = ModelBuilder(np.random.default_rng(0))
    builder.fully_connected(builder.input(5), 3)
    write_array(folder, "x.npy", np.zeros((1, 5), np.int8))
    exchange(folder, lambda model: builder.build("fullyconnected_0_out"))
    assert "input 'input' takes" in simulate(folder).error()


def test_a_program_with_options_of_another_configuration(folder):
    file = folder / "c.toml"
    file.touch()
    # 8 is the default, and the file says nothing; they are refused for being given.
    for options in (["--lanes", 4], ["--lanes", 8], ["--pe", "mac"], ["--config", file]):
        assert "--program brings its own configuration" in simulate(folder, *options).error()
