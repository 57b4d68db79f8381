"""SUB, MUL, LEAKY_RELU, LOGISTIC and concatenations that change scales on CXXRTL, in the middle of networks."""

import numpy as np
import pytest
from support.command_line import zeropoint_command
from support.engines import assert_exact, everywhere, simulated
from support.files import random_input, write_model
from support.random_models import ModelBuilder

from zeropoint.compiler.trim import trim
from zeropoint.model import Mul, QuantizedModel, Sub
from zeropoint.numerics import Rounding
from zeropoint_hw.config import AcceleratorConfig


def every_operator(dtype: str, channels: int, rounding: Rounding = Rounding.DOUBLE) -> QuantizedModel:
    """Return a network in which each operator has inputs and outputs of its own scales."""
    builder = ModelBuilder(np.random.default_rng(channels), dtype)
    x = builder.input(5, 4, channels)
    other = builder.conv(x, channels, (1, 1))
    row = builder.strided_slice(x, (2, 0, 0), (1, 1, 1), (1, 4, channels))
    made = []
    for kind, fields in ((Sub, {}), (Sub, {"reverse": True}), (Mul, {})):
        made += [builder.binary(kind, *pair, **fields) for pair in ((x, other), (other, x), (x, row), (row, other))]
        for shape in ((), (channels,), (4, 1), (5, 4, channels)):
            made.append(builder.constant(kind, other, *shape, **fields))
    made += [builder.leaky_relu(other, alpha) for alpha in (0.1, -0.5, 2.0)]
    logistic = builder.logistic(other)
    gated = builder.binary(Mul, logistic, other)
    made += [logistic, gated, builder.logistic(builder.leaky_relu(gated, 0.3))]
    if dtype == "uint8":
        for axis in range(3):
            made.append(builder.concatenation(axis, x, other, logistic, rescales=True))
    return builder.build(builder.fully_connected(made[-1], 3), rounding, f"every operator of {channels} channels")


@everywhere
@pytest.mark.parametrize(
    ("dtype", "channels", "rounding"),
    [("int8", 3, Rounding.DOUBLE), ("uint8", 9, Rounding.DOUBLE), ("int8", 8, Rounding.SINGLE)],
)
def test_every_operator(config, dtype, channels, rounding):
    model = every_operator(dtype, channels, rounding)
    result = simulated(model, random_input(model, 2, 0), config)
    assert_exact(result)
    kinds = {kind for layer in result.program.layers for kind in layer.op.split("+")}
    assert kinds >= {"Sub", "Mul", "LeakyRelu", "Logistic"}
    assert ("Concatenation" in kinds) == (dtype == "uint8")


def little() -> QuantizedModel:
    """Return a small network with everything that a configuration can leave out but left shifts."""
    builder = ModelBuilder(np.random.default_rng(4), "uint8")
    x = builder.input(6, 5, 4)
    gate = builder.logistic(builder.depthwise(x, (3, 3)))
    made = builder.binary(Mul, gate, builder.strided_slice(x, (1, 1, 0), (1, 1, 1), (4, 3, 4)))
    made = builder.concatenation(2, made, builder.leaky_relu(made, 0.2), rescales=True)
    return builder.build(builder.fully_connected(made, 3))


@pytest.mark.slow
@pytest.mark.parametrize("source", ["ram", "rom"])
def test_a_trimmed_accelerator(source):
    model = little()
    config = trim(model, AcceleratorConfig(lanes=4, columns=4, weight_source=source))
    assert (config.elementwise, config.tables, config.window_taps) == (True, 4, 3)
    assert config.accumulator_width < 32
    assert_exact(simulated(model, random_input(model, 2), config))


def test_trim_on_the_command_line(tmp_path):
    """What is simulated with --trim is what is compiled with it, and has nothing that the network does not need."""
    model, x = write_model(tmp_path, little())
    zeropoint_command("compile", model, "-o", tmp_path / "program", "--lanes", 2, "--columns", 2, "--trim").done()
    report = tmp_path / "report.json"
    arguments = ["--input", x, "--output", tmp_path / "y.npy", "--json", report]
    outcome = zeropoint_command("simulate", model, *arguments, "--program", tmp_path / "program").done()
    assert "bit-exact" in outcome.stdout
    conflict = zeropoint_command("simulate", model, *arguments, "--program", tmp_path / "program", "--trim")
    assert "--program brings its own configuration" in conflict.error()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--tables", 0), "4 more than the 0 of this configuration; --tables 4 makes room"),
        (("--no-elementwise",), "(Mul) works on two tensors, which this configuration leaves out; --elementwise"),
    ],
)
def test_what_a_configuration_leaves_out_is_refused_in_one_line(tmp_path, options, message):
    path, x = write_model(tmp_path, little())
    for command in (
        ("compile", path, "-o", tmp_path / "program", *options),
        ("simulate", path, "--input", x, "--output", tmp_path / "y.npy", *options),
    ):
        assert message in zeropoint_command(*command).error()
    assert not (tmp_path / "program").exists()
