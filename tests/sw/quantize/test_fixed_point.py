"""Fixed point and dynamic fixed point: units that are powers of two, as wide as they need be and no wider."""

from math import frexp

import numpy as np
import pytest
from support.float_networks import random_network
from support.seeds import shown

from zeropoint import float_reference, golden
from zeropoint.model import zp_file
from zeropoint.model.formats import fixed_point
from zeropoint.numerics import Rounding
from zeropoint.quantize import quantize
from zeropoint.quantize.fixed_point import dynamic_rules, fixed_rules

X = np.random.default_rng(5).normal(size=(20, 12, 12, 3)).astype(np.float32)


def is_power_of_two(value):
    return frexp(value)[0] == 0.5


@pytest.mark.parametrize("bits", range(2, 9))
def test_activations_reach_their_range_and_no_further(bits):
    rules = dynamic_rules(bits)
    assert rules.limits == (-(1 << bits - 1), (1 << bits - 1) - 1)
    for low, high in np.random.default_rng(bits).normal(size=(50, 2)) * 10:
        low, high = min(low, -0.01), max(high, 0.0)
        quantization = rules.activations(low, high, 0.0)
        (scale,), peak = quantization.scale, max(-low, high)
        assert quantization.zero_point == (0,)
        assert is_power_of_two(scale)
        assert scale * (1 << bits - 2) < peak <= scale * (1 << bits - 1)


@pytest.mark.parametrize("bits", [8, 5, 3])
def test_weights_are_the_nearest_steps_ties_to_even(bits):
    values = np.array([[0.5, -0.5, 1.5, 2.5, -1.5, -2.5, 0.25, (1 << bits - 1) - 1.0]])
    weights = dynamic_rules(bits).weights(values, 0, np.zeros(1) + 1e-9, 1e-3)
    assert weights.quantization.scale == (1.0,)
    np.testing.assert_array_equal(weights.q, [[0, 0, 2, 2, -2, -2, 0, (1 << bits - 1) - 1]])
    assert weights.format == (fixed_point(bits) if bits < 8 else None)


def test_fixed_point_has_one_unit():
    rules = fixed_rules(8, 5.0)
    assert rules.activations(-0.1, 0.1, 0.0).scale == (2.0**-4,)
    assert rules.weights(np.array([[0.3]]), 0, np.zeros(1) + 1e-9, 1e-3).quantization.scale == (2.0**-4,)


@pytest.mark.parametrize("bits", [8, 6, 3])
@pytest.mark.parametrize("scheme", ["fixed", "dynamic-fixed"])
def test_quantized_networks_have_powers_of_two_everywhere(scheme, bits):
    for seed in shown(range(6)):
        network = random_network(seed)
        model = quantize(network, X, scheme=scheme, bits=bits)
        assert model.rounding is Rounding.EVEN
        units = set()
        for tensor in model.tensors.values():
            scale = tensor.quantization.scale
            if scale == (1 / 256,) and tensor.format is None:  # SOFTMAX's
                continue
            assert all(map(is_power_of_two, scale))
            assert not any(tensor.quantization.zero_point)
            if tensor.dtype != "int32":
                assert tensor.format == (fixed_point(bits) if bits < 8 else None)
                units.add(scale)
        assert len(units) == 1 or scheme == "dynamic-fixed"
        x = model.tensor(model.input).quantize(X[:2])
        low, high = model.tensor(model.input).limits
        assert (x.min(), x.max()) >= (low, low)
        assert x.max() <= high
        for name, values in golden.run_tensors(model, x).items():
            assert values.min() >= model.tensor(name).limits[0]
            assert values.max() <= model.tensor(name).limits[1]
        assert zp_file.dumps(zp_file.loads(zp_file.dumps(model))) == zp_file.dumps(model)


def test_more_bits_are_nearer_to_the_float_network():
    network = random_network(2)
    expected = float_reference.run_output(network, X)
    errors = []
    for bits in (4, 6, 8):
        model = quantize(network, X, scheme="dynamic-fixed", bits=bits)
        got = golden.run(model, model.tensor(model.input).quantize(X))
        errors.append(np.abs(model.tensor(model.output).dequantize(got) - expected).mean())
    assert errors[0] > errors[1] > errors[2]
