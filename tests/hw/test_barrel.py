import numpy as np
import pytest
from support.gateware import refused, rows_of

from zeropoint_hw.barrel import ShiftProduct
from zeropoint_sim.bench import run_bench

#: Exponent bits, and whether there is a 0: INQ with 2 to 5 bits, and formats without a 0.
FORMATS = [(bits, zero) for bits in range(4) for zero in (False, True)]


def products(dut, activations, codes, gates):
    """Put one pair of operands a cycle through a ShiftProduct; return its products and carries."""
    got = []

    async def bench(ctx):
        for cycle, (activation, code, gate) in enumerate(
            [*rows_of(activations, codes, gates), *[(-1, 0, 0)] * dut.latency]
        ):
            if cycle >= dut.latency:
                got.append((ctx.get(dut.product), ctx.get(dut.carry)))
            ctx.set(dut.activation, activation)
            ctx.set(dut.code, code)
            ctx.set(dut.gate, gate)
            await ctx.tick()

    run_bench(dut, bench, deadline=len(activations) + 10)
    return np.array(got).T


def values(exponent_bits, zero):
    """Return the codes that have a meaning, and what docs/formats.md says that they mean, in units of 2^least."""
    powers = 1 << np.arange(1 << exponent_bits)
    meant = np.concatenate([powers, -powers])
    codes = np.arange(len(meant))
    return (np.append(codes + len(meant), 0), np.append(meant, 0)) if zero else (codes, meant)


def operands(exponent_bits, zero, rng):
    """Every code, gated and not, with all kinds of activations, in random order."""
    codes, meant = values(exponent_bits, zero)
    activations = np.concatenate([[-256, -255, -128, -1, 0, 1, 127, 128, 255], rng.integers(-256, 256, 30)])
    which, activation, gate = np.stack(np.meshgrid(np.arange(len(codes)), activations, [0, 1]), -1).reshape(-1, 3).T
    order = rng.permutation(len(which))
    which, activation, gate = which[order], activation[order], gate[order]
    return activation, codes[which], gate, np.where(gate, 0, activation * meant[which])


@pytest.mark.parametrize(("exponent_bits", "zero"), FORMATS)
def test_products(exponent_bits, zero):
    activations, codes, gates, expected = operands(exponent_bits, zero, np.random.default_rng(exponent_bits))
    product, carry = products(ShiftProduct(exponent_bits, zero), activations, codes, gates)
    np.testing.assert_array_equal(product + carry, expected)


@pytest.mark.parametrize(("exponent_bits", "zero"), FORMATS)
def test_carries_are_the_signs_of_weights_other_than_0(exponent_bits, zero):
    activations, codes, gates, _ = operands(exponent_bits, zero, np.random.default_rng(9))
    product, carry = products(ShiftProduct(exponent_bits, zero), activations, codes, gates)
    meant = dict(zip(*values(exponent_bits, zero), strict=True))
    weights = np.where(gates, 0, [meant[code] for code in codes])
    np.testing.assert_array_equal(carry, weights < 0)
    np.testing.assert_array_equal(product[weights == 0], 0)


def test_operands_of_another_width():
    activations = np.arange(-8, 8).repeat(8)
    codes = np.tile(np.arange(8), 16)
    product, carry = products(ShiftProduct(2, False, operand_width=4), activations, codes, np.zeros(128))
    np.testing.assert_array_equal(product + carry, activations * values(2, False)[1][codes])


@pytest.mark.parametrize(("exponent_bits", "zero"), FORMATS)
def test_wrong_products_are_seen(exponent_bits, zero):
    activations, codes, gates, expected = operands(exponent_bits, zero, np.random.default_rng(3))
    # The sign, the lowest bit of the exponent if there is one, and the gate.
    for wrong in [
        (codes ^ 1 << exponent_bits, gates),
        (codes, 1 - gates),
        *([(codes ^ 1, gates)] if exponent_bits else []),
    ]:
        product, carry = products(ShiftProduct(exponent_bits, zero), activations, *wrong)
        with pytest.raises(AssertionError, match="Mismatched elements"):
            np.testing.assert_array_equal(product + carry, expected)


def test_products_without_their_carries_are_seen():
    activations, codes, gates, expected = operands(3, True, np.random.default_rng(4))
    product, _ = products(ShiftProduct(3, True), activations, codes, gates)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        np.testing.assert_array_equal(product, expected)


@pytest.mark.parametrize("exponent_bits", [-1, 4])
def test_exponent_bits_are_validated(exponent_bits):
    with refused(ValueError, f"^exponent_bits must be 0 to 3, not {exponent_bits}$"):
        ShiftProduct(exponent_bits, True)


def test_operand_width_is_validated():
    with refused(ValueError, "^operand_width must be 1 or more, not 0$"):
        ShiftProduct(3, True, 0)
