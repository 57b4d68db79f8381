"""Weights that share the activation memory, and memory with one port: networks are bit-exact, and waits are counted."""

from dataclasses import replace

import numpy as np
import pytest
from support.engines import assert_exact, simulated, small
from support.files import random_input
from support.random_models import ModelBuilder, random_model
from support.seeds import shown

from zeropoint import golden
from zeropoint.compiler import compile_model
from zeropoint.compiler.trim import trim
from zeropoint.errors import ZeropointError
from zeropoint.model import Padding
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.requantizer import Requantizer
from zeropoint_hw.weight_buffer import WeightWindow
from zeropoint_sim.simulate import simulate

#: Groups of most layers fit the buffer, and of some they do not.
SHARED = {"weight_store": "shared", "activation_ports": 1, "weight_buffer": 16}
CONFIG = small(AcceleratorConfig(lanes=4, columns=4, **SHARED))
LONG_CONFIGS = {
    "4x4-two-ports": small(AcceleratorConfig(lanes=4, columns=4, **SHARED | {"activation_ports": 2})),
    "4x4-one-port-wide": small(AcceleratorConfig(lanes=4, columns=4, requantizers=2, activation_ports=1)),
    "2x8-fold-two-words": small(AcceleratorConfig(lanes=2, columns=8, pe="fold", **SHARED | {"weight_buffer": 2})),
    "8x4-many-words": small(AcceleratorConfig(lanes=8, columns=4, requantizers=1, **SHARED | {"weight_buffer": 512})),
}


def check(seed, config):
    """Run a random network, and hold what it takes against an accelerator that waits for no memory."""
    model = random_model(seed, 6 + seed % 3, more=seed % 3 > 0)
    result = simulated(model, random_input(model, 1, seed), config)
    assert_exact(result)
    assert result.stalls["memory"] == sum(layer.stall_memory for layer in result.layers)
    return result


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_random_networks(seed):
    assert check(seed, CONFIG).stalls["memory"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("config", LONG_CONFIGS.values(), ids=LONG_CONFIGS)
def test_many_random_networks(config):
    for seed in shown(range(100, 160)):
        check(seed, config)


def network():
    """Return a network in which every layer, channel and tap counts."""
    builder = ModelBuilder(np.random.default_rng(1))
    around = Padding(1, 1, 1, 1)
    current = builder.conv(builder.input(4, 4, 3), 4, (3, 3), padding=around)
    current = builder.depthwise(current, (3, 3), padding=around)
    current = builder.add_constant(builder.conv(current, 5, (1, 1)), 5)
    return builder.build(builder.fully_connected(builder.mean(current), 3))


TINY = AcceleratorConfig(
    lanes=2,
    columns=2,
    tables=0,
    activation_bytes=1024,
    weight_bytes=2048,
    parameter_channels=64,
    program_words=512,
    **SHARED | {"weight_buffer": 8},
)
ONE_PORT = replace(TINY, weight_store="wide", weight_buffer=0)


def simulated_slowly(config):
    """Run the network in Amaranth's simulator, which knows of changes made to classes."""
    model = network()
    x = random_input(model, 1)
    tensors = golden.run_tensors(model, x)
    return simulate(compile_model(model, config), x, tensors[model.output], engine="amaranth", golden_tensors=tensors)


def test_waits_are_all_that_a_narrow_memory_costs():
    wide = simulated_slowly(replace(ONE_PORT, activation_ports=2))
    shared = simulated_slowly(TINY)
    for result in (wide, shared):
        assert_exact(result)
    assert wide.stalls["memory"] == 0
    assert (shared.stalls["busy"], shared.stalls["drain"]) == (wide.stalls["busy"], wide.stalls["drain"])
    assert shared.cycles[0] - wide.cycles[0] == shared.stalls["memory"] + shared.stalls["flush"] - wide.stalls["flush"]


def without(component, *signals):
    """Return how a component is elaborated whose signals stay 0."""
    elaborate = component.elaborate

    def elaborated(self, platform):
        m = elaborate(self, platform)
        m.d.comb += [getattr(self, signal).eq(0) for signal in signals]
        return m

    return elaborated


@pytest.mark.parametrize(
    ("component", "signal", "config"),
    [
        pytest.param(WeightWindow, "starved", TINY, marks=pytest.mark.slow),
        pytest.param(WeightWindow, "seek", TINY, marks=pytest.mark.slow),
        (Requantizer, "announced", ONE_PORT),
    ],
)
def test_an_array_that_does_not_wait_is_seen(component, signal, config, monkeypatch):
    monkeypatch.setattr(component, "elaborate", without(component, signal))
    assert simulated_slowly(config).mismatches > 0


def test_networks_that_do_not_fit_together_are_refused():
    with pytest.raises(ZeropointError, match=r"^'random' does not fit: its weight memory must have \d+ bytes"):
        compile_model(network(), replace(TINY, weight_bytes=64))


def test_trim_leaves_the_memory_that_weights_and_activations_take():
    model = network()
    trimmed = trim(model, replace(TINY, activation_bytes=1 << 16, weight_bytes=1 << 16))
    program = compile_model(model, trimmed)
    assert trimmed.weight_bytes == program.weight_bytes
    assert trimmed.activation_bytes < 512
    assert trimmed.memory_elements < 2 * (trimmed.activation_bytes + trimmed.weight_bytes)
    for less in ({"weight_bytes": trimmed.weight_bytes - 1}, {"activation_bytes": trimmed.activation_bytes - 2}):
        with pytest.raises(ZeropointError, match="does not fit"):
            compile_model(model, replace(trimmed, **less))
