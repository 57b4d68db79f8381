import numpy as np
import pytest
from support.gateware import rows_of

from zeropoint_hw.pe import PROCESSING_ELEMENTS, FoldPE, MacPE
from zeropoint_sim.bench import run_bench

#: Zero points of int8 and uint8 weights, the ends of their ranges among them.
ZERO_POINTS = [(0, -128), (0, -1), (0, 0), (0, 127), (1, 0), (1, 1), (1, 128), (1, 255)]


def products(pe, weights_unsigned, zero_point, weights, activations):
    """Put one pair of operands a cycle through a PE and return its products."""
    got = []

    async def bench(ctx):
        ctx.set(pe.weights_unsigned, weights_unsigned)
        ctx.set(pe.weight_zero_point, zero_point)
        for cycle, (weight, activation) in enumerate([*rows_of(weights, activations), *[(99, 99)] * pe.LATENCY]):
            if cycle >= pe.LATENCY:
                got.append(ctx.get(pe.product))
            ctx.set(pe.weight, weight & 0xFF)
            ctx.set(pe.activation, activation)
            await ctx.tick()

    run_bench(pe, bench, deadline=len(weights) + 20)
    return np.array(got)


def operands(weights_unsigned, rng):
    """Every weight with the ends of the activations' range and with random ones."""
    activations = np.concatenate([[-256, -255, -128, -1, 0, 1, 127, 128, 255], rng.integers(-256, 256, 3)])
    weights = np.arange(256) - (0 if weights_unsigned else 128)
    pairs = np.stack(np.meshgrid(weights, activations), axis=-1).reshape(-1, 2)
    return rng.permutation(pairs).T


@pytest.mark.parametrize(("weights_unsigned", "zero_point"), ZERO_POINTS)
def test_mac(weights_unsigned, zero_point):
    weights, activations = operands(weights_unsigned, np.random.default_rng(zero_point % 999))
    got = products(MacPE(), weights_unsigned, zero_point, weights, activations)
    np.testing.assert_array_equal(got, activations * (weights - zero_point))


@pytest.mark.parametrize("weights_unsigned", [0, 1])
def test_fold(weights_unsigned):
    weights, activations = operands(weights_unsigned, np.random.default_rng(1))
    # The zero point is not its business.
    got = products(FoldPE(), weights_unsigned, 77, weights, activations)
    np.testing.assert_array_equal(got, activations * weights)


@pytest.mark.parametrize("kind", PROCESSING_ELEMENTS)
def test_wrong_signedness_is_seen(kind):
    weights, activations = operands(0, np.random.default_rng(2))
    got = products(PROCESSING_ELEMENTS[kind](), 1, 0, weights, activations)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        np.testing.assert_array_equal(got, activations * weights)


def test_wrong_zero_point_is_seen():
    weights, activations = operands(0, np.random.default_rng(3))
    got = products(MacPE(), 0, 1, weights, activations)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        np.testing.assert_array_equal(got, activations * (weights - 2))
