"""Operators that move values, and constant operands, on CXXRTL: every tensor is the golden model's."""

import numpy as np
import pytest
from support.engines import assert_exact, everywhere, simulated
from support.files import random_input
from support.random_models import ModelBuilder, random_model
from support.seeds import shown

from zeropoint.model import Padding, QuantizedModel


def every_movement(dtype: str, channels: int) -> QuantizedModel:
    """Return a network in which each operator that moves values has inputs of its own."""
    builder = ModelBuilder(np.random.default_rng(channels), dtype)
    least = int(np.iinfo(dtype).min)
    x = builder.input(5, 4, channels)
    padded = builder.pad(x, Padding(1, 0, 2, 1), least + 77)
    slices = [
        builder.strided_slice(padded, (0, 0, 0), (1, 1, 1), (6, 7, channels)),
        builder.strided_slice(padded, (5, 6, 0), (-1, -2, 1), (6, 4, channels)),
        builder.strided_slice(padded, (4, 0, channels - 1), (-2, 3, -1), (2, 3, channels)),
    ]
    wide = builder.concatenation(1, *slices[:2])
    tall = builder.concatenation(0, wide, wide)
    deep = builder.concatenation(2, tall, tall, tall)
    for permutation in ((0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        builder.transpose(slices[2], *permutation)
    for size in ((10, 8), (7, 3), (3, 9)):
        builder.resize(x, size)
        builder.resize(x, size, align_corners=True)
        builder.resize(x, size, half_pixel_centers=True)
    for shape in ((), (channels,), (4, 1), (5, 1, 1), (1, 4, channels), (5, 4, channels)):
        builder.add_constant(x, *shape)
    vector = builder.reshape(builder.strided_slice(x, (0, 1, 0), (1, 1, 1), (5, 1, channels)), 5 * channels)
    halves = builder.strided_slice(vector, (5 * channels - 1,), (-2,), (channels,))
    matrix = builder.transpose(builder.reshape(builder.concatenation(0, vector, halves), 6, channels), 1, 0)
    builder.transpose(builder.reshape(x, 2, 2, 5, channels), 3, 1, 0, 2)
    mean = builder.mean(deep)
    summary = builder.concatenation(0, mean, mean)
    assert builder.tensors[matrix].shape == (channels, 6)
    return builder.build(builder.fully_connected(summary, 3), name=f"every movement of {channels} channels")


@everywhere
@pytest.mark.parametrize(("dtype", "channels"), [("int8", 3), ("uint8", 9), ("int8", 8)])
def test_every_movement(config, dtype, channels):
    model = every_movement(dtype, channels)
    result = simulated(model, random_input(model, 2, 0), config)
    assert_exact(result)
    compared = {layer.output for layer in result.program.layers}
    # Of these concatenations, all parts have been written where they belong.
    nothing_to_do = {"concatenation_4_out"}
    assert compared | nothing_to_do == {each.output for each in model.operators if each.kind != "Reshape"}
    assert not compared & nothing_to_do


@everywhere
@pytest.mark.parametrize("seed", range(15))
def test_random_networks(config, seed):
    model = random_model(seed, operators=7, more=True)
    assert_exact(simulated(model, random_input(model, 2, seed), config))


@pytest.mark.slow
@everywhere
@pytest.mark.parametrize("block", range(10))
def test_many_random_networks(config, block):
    for seed in shown(range(2000 + 30 * block, 2030 + 30 * block)):
        model = random_model(seed, operators=4 + seed % 9, more=True)
        assert_exact(simulated(model, random_input(model, 2, seed), config))


def test_the_random_networks_have_every_form():
    kinds = {operator.kind for seed in range(15) for operator in random_model(seed, 7, more=True).operators}
    assert kinds >= {"Concatenation", "StridedSlice", "Transpose", "ResizeNearestNeighbor", "Pad", "Add"}
