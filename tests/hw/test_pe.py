import numpy as np
import pytest
from support.codes import decoded
from support.gateware import rows_of

from zeropoint.numerics.minifloat import MinifloatFormat
from zeropoint_hw.config import AcceleratorConfig, PEKind
from zeropoint_hw.isa import Instruction
from zeropoint_hw.pe import PROCESSING_ELEMENTS
from zeropoint_sim.bench import run_bench

#: Zero points of int8 and uint8 weights, the ends of their ranges among them.
ZERO_POINTS = [(0, -128), (0, -1), (0, 0), (0, 127), (1, 1), (1, 0), (1, 128), (1, 255)]


def products(kind, weights_unsigned, zero_point, weights, activations, coded=0, gate=0, **fields):
    """Put one pair of operands a cycle through a PE and return its products."""
    config = AcceleratorConfig(pe=kind, **fields)
    pe = PROCESSING_ELEMENTS[config.pe](config)
    latency = pe.latency(config)
    got = []

    async def bench(ctx):
        ctx.set(pe.weights_unsigned, weights_unsigned)
        ctx.set(pe.weights_coded, coded)
        ctx.set(pe.gate, gate)
        ctx.set(pe.weight_zero_point, zero_point)
        for cycle, (weight, activation) in enumerate([*rows_of(weights, activations), *[(99, 99)] * latency]):
            if cycle >= latency:
                got.append(ctx.get(pe.product) + ctx.get(pe.carry))
            ctx.set(pe.weight, weight & (1 << config.weight_bits) - 1)
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


@pytest.mark.parametrize("dsp", [True, False])
@pytest.mark.parametrize("kind", ["mac", "mixed"])
@pytest.mark.parametrize(("weights_unsigned", "zero_point"), ZERO_POINTS)
def test_mac(weights_unsigned, zero_point, kind, dsp):
    weights, activations = operands(weights_unsigned, np.random.default_rng(zero_point % 999))
    got = products(kind, weights_unsigned, zero_point, weights, activations, dsp=dsp)
    np.testing.assert_array_equal(got, activations * (weights - zero_point))


@pytest.mark.parametrize("dsp", [True, False])
@pytest.mark.parametrize("kind", ["mac", "fold", "mixed"])
def test_without_zero_points_of_weights(kind, dsp):
    weights, activations = operands(0, np.random.default_rng(5))
    got = products(kind, 1, 99, weights, activations, weight_zero_points=False, dsp=dsp)
    np.testing.assert_array_equal(got, activations * weights)


@pytest.mark.parametrize("weights_unsigned", [0, 1])
def test_fold(weights_unsigned):
    weights, activations = operands(weights_unsigned, np.random.default_rng(1))
    # The zero point is not its business.
    got = products("fold", weights_unsigned, 77, weights, activations)
    np.testing.assert_array_equal(got, activations * weights)


@pytest.mark.parametrize("kind", ["mac", "fold", "mixed"])
def test_wrong_signedness_is_seen(kind):
    weights, activations = operands(0, np.random.default_rng(2))
    got = products(kind, 1, 0, weights, activations)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        np.testing.assert_array_equal(got, activations * weights)


def test_wrong_zero_point_is_seen():
    weights, activations = operands(0, np.random.default_rng(3))
    got = products("mac", 0, 1, weights, activations)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        np.testing.assert_array_equal(got, activations * (weights - 2))


@pytest.mark.parametrize("bits", range(2, 8))
def test_narrow_weights(bits):
    weights, activations = operands(0, np.random.default_rng(bits))
    low = -(1 << bits - 1)
    weights = (weights - low) % (1 << bits) + low
    got = products("mac", 0, 0, weights, activations, weight_bits=bits)
    np.testing.assert_array_equal(got, activations * weights)


CODES = [("shift", {"weight_bits": bits, "weight_zero": False}) for bits in (1, 2, 3, 4)]
CODES += [("shift", {"weight_bits": bits}) for bits in (5, 4, 3, 2)]
CODES += [("mixed", {})]


def code_operands(kind, fields):
    """Every code that has a meaning, with every activation."""
    config = AcceleratorConfig(pe=kind, **fields)
    bits = 5 if config.pe is PEKind.MIXED else config.weight_bits
    codes = np.arange(1 << bits)
    codes = codes[(codes == 0) | (codes >= 1 << bits - 1)] if config.weight_zero else codes
    every = np.stack(np.meshgrid(codes, np.arange(-256, 256)), axis=-1).reshape(-1, 2)
    codes, activations = np.random.default_rng(bits).permutation(every).T
    instruction = Instruction(weights_coded=int(config.pe is PEKind.MIXED))
    return codes, activations, decoded(config, instruction, codes[:, None, None])[:, 0, 0]


@pytest.mark.parametrize(("kind", "fields"), CODES)
def test_powers_of_two(kind, fields):
    codes, activations, weights = code_operands(kind, fields)
    got = products(kind, 0, 0, codes, activations, coded=1, **fields)
    np.testing.assert_array_equal(got, activations * weights)
    assert set(np.abs(weights)) <= {0, *(1 << exponent for exponent in range(8))}


@pytest.mark.parametrize(("kind", "fields"), [code for code in CODES if code[0] == "shift"])
def test_a_gate_makes_any_weight_0(kind, fields):
    codes, activations, weights = code_operands(kind, fields)
    got = products(kind, 0, 0, codes, activations, gate=1, **fields)
    np.testing.assert_array_equal(got, 0 * weights)


def test_a_wrong_code_is_seen():
    codes, activations, weights = code_operands("shift", {"weight_bits": 5})
    got = products("shift", 0, 0, codes ^ 1 * (codes > 0), activations, weight_bits=5)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        np.testing.assert_array_equal(got, activations * weights)


#: Formats of activations and weights: exponent bits, and the bits of each.
FLOATS = [(4, 8, 5), (1, 2, 2), (1, 8, 8), (2, 4, 8), (4, 8, 8), (3, 8, 6), (5, 8, 8), (7, 8, 8)]


def float_operands(exponent_bits, activation_bits, weight_bits):
    """Some thousand pairs of codes, the ends among them, with the integers that they stand for."""
    rng = np.random.default_rng(exponent_bits)
    pairs = []
    for bits in (weight_bits, activation_bits):
        codes = rng.integers(0, 1 << bits, 2000)
        codes[::7] = rng.choice([0, 1, (1 << bits - 1) - 1, 1 << bits - 1, (1 << bits) - 1], len(codes[::7]))
        form = MinifloatFormat(exponent_bits, bits - 1 - exponent_bits)
        significand, shift = form.significands(codes)
        pairs.append((codes, [int(s) << int(by) for s, by in zip(significand, shift, strict=True)]))
    (weights, weight_values), (activations, activation_values) = pairs
    products = [a * w for a, w in zip(activation_values, weight_values, strict=True)]
    # The lane gives the sign at the top of nine bits.
    top = activation_bits - 1
    return weights, (activations & (1 << top) - 1) - (activations >> top << 8), products


@pytest.mark.parametrize("dsp", [True, False])
@pytest.mark.parametrize(("exponent_bits", "activation_bits", "weight_bits"), FLOATS)
def test_minifloat(exponent_bits, activation_bits, weight_bits, dsp):
    fields = {"exponent_bits": exponent_bits, "activation_bits": activation_bits, "weight_bits": weight_bits}
    weights, activations, expected = float_operands(exponent_bits, activation_bits, weight_bits)
    got = products("minifloat", 1, 99, weights, activations, dsp=dsp, **fields)
    assert got.tolist() == expected
    negated = products("minifloat", 1, 99, weights ^ 1 << weight_bits - 1, activations, dsp=dsp, **fields)
    assert (-negated).tolist() == expected != negated.tolist()
