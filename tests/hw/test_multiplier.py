from types import SimpleNamespace

import numpy as np
import pytest
from amaranth.back import rtlil
from support import gateware
from support.gateware import refused

from zeropoint_hw.multiplier import Multiplier


def products(width, a, b):
    """Multiply one pair a cycle."""
    return gateware.products(Multiplier(width), Multiplier.LATENCY, a, b)


@pytest.mark.parametrize("width", [1, 2, 5, 9, 18])
def test_products(width):
    rng = np.random.default_rng(width)
    low, high = -(1 << width - 1), 1 << width - 1
    values = np.unique([low, low + 1, -1, 0, high - 1, *rng.integers(low, high, 40)])
    values = values[(values >= low) & (values < high)]
    a, b = np.stack(np.meshgrid(values, values), -1).reshape(-1, 2).T
    np.testing.assert_array_equal(products(width, a, b), a * b)


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
