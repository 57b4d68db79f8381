from types import SimpleNamespace

import numpy as np
import pytest
from amaranth.back import rtlil
from support import gateware
from support.gateware import refused

from zeropoint_hw.multiplier import Multiplier, MultiplierPair
from zeropoint_sim.bench import run_bench


def products(width, a, b):
    """Multiply one pair a cycle."""
    return gateware.products(Multiplier(width), Multiplier.LATENCY, a, b)


@pytest.mark.parametrize("width", [1, 2, 9, 5, 18])
def test_products(width):
    rng = np.random.default_rng(width)
    low, high = -(1 << width - 1), 1 << width - 1
    values = np.unique([low, low + 1, -1, 0, high - 1, *rng.integers(low, high, 40)])
    values = values[(values >= low) & (values < high)]
    a, b = np.stack(np.meshgrid(values, values), -1).reshape(-1, 2).T
    np.testing.assert_array_equal(products(width, a, b), a * b)


def pairs(a, b):
    """Multiply two pairs a cycle, given as ``(cycles, 2)``."""
    dut, got = MultiplierPair(), []
    cycles = [*zip(a.tolist(), b.tolist(), strict=True), *[((1, 1), (1, 1))] * MultiplierPair.LATENCY]

    async def bench(ctx):
        for cycle, operands in enumerate(cycles):
            if cycle >= MultiplierPair.LATENCY:
                got.append(gateware.unpacked(ctx.get(dut.p.as_value()), 16, 2, signed=True))
            for signal, values in zip((dut.a, dut.b), operands, strict=True):
                ctx.set(signal.as_value(), gateware.packed(values, 8))
            await ctx.tick()

    run_bench(dut, bench, deadline=len(a) + 10)
    return np.array(got)


def test_pairs_of_products():
    values = np.array([-128, -127, -1, 0, 1, 85, 127, *np.random.default_rng(0).integers(-128, 128, 25)])
    a, b = (side.ravel() for side in np.meshgrid(values, values))
    # The second product of a cycle is of other operands than the first.
    a, b = np.stack([a, np.roll(a, 7)], axis=1), np.stack([b, np.roll(b, 333)], axis=1)
    np.testing.assert_array_equal(pairs(a, b), a * b)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        np.testing.assert_array_equal(pairs(a[:40], b[:40]), (a * b[:, ::-1])[:40])


@pytest.mark.parametrize(
    ("device", "cell", "instances"),
    [("LFE5U-85F", "MULT18X18D", 2), ("iCE40UP5K", "SB_MAC16", 1), (None, "SB_MAC16", 0)],
)
def test_two_products_of_a_block(device, cell, instances):
    platform = None if device is None else SimpleNamespace(device=device)
    assert rtlil.convert(MultiplierPair(), platform=platform).count(f"cell \\{cell}") == instances


def test_swapped_operands_of_other_pairs_are_seen():
    a, b = np.random.default_rng(0).integers(-256, 256, (2, 20))
    with pytest.raises(AssertionError, match="Mismatched elements"):
        np.testing.assert_array_equal(products(9, a, np.roll(b, 1)), a * b)


@pytest.mark.parametrize(("device", "instances"), [("LFE5U-85F", 1), ("iCE40UP5K", 0), (None, 0)])
def test_dsp_block_where_there_is_one(device, instances):
    platform = None if device is None else SimpleNamespace(device=device)
    assert rtlil.convert(Multiplier(9), platform=platform).count("cell \\MULT18X18D") == instances


@pytest.mark.parametrize("width", [0, 19])
def test_width_is_validated(width):
    with refused(ValueError, f"^width must be 1 to 18, not {width}$"):
        Multiplier(width)
