"""Random networks on CXXRTL: every tensor that the hardware writes is the golden model's."""

from dataclasses import replace

import numpy as np
import pytest
from support.engines import SHAPES, assert_exact, simulated, small
from support.files import random_input
from support.random_models import random_model
from support.seeds import shown

from zeropoint import golden
from zeropoint.compiler import compile_model, partition, storage
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_sim.simulate import simulate

#: A simulator is built for each; all models run on it.
CONFIGS = {
    "4x4-fold": SHAPES["4x4-fold"],
    "8x8-mac": AcceleratorConfig(),
}
LONG_CONFIGS = {
    **CONFIGS,
    "4x8-mac": small(AcceleratorConfig(lanes=4, columns=8, requantizers=2)),
    "16x2-fold": small(AcceleratorConfig(lanes=16, columns=2, pe="fold", window_taps=1)),
    "2x16-mac": replace(small(AcceleratorConfig(lanes=2, columns=16, window_taps=2)), weight_bytes=131072),
}


def check(seed, config, operators=6, size=9):
    model = random_model(seed, operators, size)
    result = simulated(model, random_input(model, 2, seed), config)
    assert_exact(result)
    return result


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_random_networks(config, seed):
    check(seed, config)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
@pytest.mark.parametrize("config", LONG_CONFIGS.values(), ids=LONG_CONFIGS)
def test_many_random_networks(config, block):
    for seed in shown(range(1000 + 40 * block, 1040 + 40 * block)):
        check(seed, config, operators=4 + seed % 9, size=5 + seed % 12)


@pytest.mark.parametrize("seed", range(6))
def test_random_networks_with_every_tensor_written(seed, tmp_path):
    model, config = random_model(seed), CONFIGS["4x4-fold"]
    x = random_input(model, 1, seed)
    storage.save(compile_model(model, config, fuse=False), tmp_path / "program")
    tensors = golden.run_tensors(model, x)
    program = storage.load(tmp_path / "program")
    result = simulate(program, x, tensors[model.output], engine="cxxrtl", golden_tensors=tensors)
    assert_exact(result)
    written = {layer.output for layer in result.program.layers}
    assert len(written) == sum(operator.kind != "Reshape" for operator in partition(model).hardware)


def test_the_random_networks_have_every_operator_and_tensors_that_say_something():
    kinds, varied = set(), []
    for seed in shown(range(30)):
        model = random_model(seed)
        kinds |= {operator.kind for operator in model.operators}
        tensors = golden.run_tensors(model, random_input(model, 2, seed))
        varied += [len(np.unique(tensor)) > 1 for tensor in tensors.values()]
    assert kinds >= {"Conv2D", "DepthwiseConv2D", "FullyConnected", "Add", "MaxPool2D", "AveragePool2D", "Mean", "Pad"}
    assert kinds >= {"Requantize", "Softmax"}
    # Some clamp all that comes to one value; what follows them says little.
    assert np.mean(varied) > 0.75
