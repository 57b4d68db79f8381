from collections import deque

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from support.gateware import instruction_bits
from support.layer_program import array_cycles, random_loops

from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import Instruction
from zeropoint_hw.layout import LEVEL_WIDTH, InstructionLayout, Level
from zeropoint_hw.loops import InputAddress, LoopNest
from zeropoint_sim.bench import run_bench


class Loops(wiring.Component):
    """The loop nest and the addresses behind it, as the accelerator connects them."""

    NEST = ("valid", "first", "last", "level", "stalled")

    def __init__(self, config):
        self.config = config
        self.addresses = InputAddress(config)
        super().__init__(
            {
                "instruction": In(InstructionLayout),
                "start": In(1),
                "valid": Out(1),
                "first": Out(1),
                "last": Out(1),
                "level": Out(LEVEL_WIDTH),
                "stalled": Out(1),
                "weight_address": Out(range(config.weight_words)),
                "address": Out(range(config.activation_bytes)),
                "mask": Out(config.lanes),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.nest = nest = LoopNest(self.config)
        m.submodules.addresses = addresses = self.addresses
        m.d.comb += [
            nest.instruction.eq(self.instruction),
            nest.start.eq(self.start),
            addresses.instruction.eq(self.instruction),
            addresses.moves.eq(nest.moves),
            addresses.at.eq(nest.at),
        ]
        for stage, names in ((nest, self.NEST), (addresses, ("weight_address", "address", "mask"))):
            m.d.comb += [getattr(self, name).eq(getattr(stage, name)) for name in names]
        return m


def loops_config(lanes):
    # The largest memory, which random instructions may address anywhere.
    return AcceleratorConfig(lanes=lanes, columns=1, activation_bytes=1 << 20, weight_bytes=lanes << 12)


def check(config, jobs):
    """Run jobs, pairs of the instruction executed and the one expected, as soon after one another as may be."""
    dut = Loops(config)
    lanes = config.lanes
    address_mask = (1 << (config.activation_bytes - 1).bit_length()) - 1
    checked = 0
    masks = deque([None] * (InputAddress.MASK_LATENCY - 1))

    async def tick(ctx, mask=None):
        """Go on to the next cycle, and check the mask of the array cycle that it belongs to."""
        await ctx.tick()
        masks.append(mask)
        expected = masks.popleft()
        assert expected is None or ctx.get(dut.mask) == expected, f"after {checked} cycles"

    async def bench(ctx):
        nonlocal checked
        for given, expected in jobs:
            ctx.set(dut.instruction.as_value(), instruction_bits(given))
            ctx.set(dut.start, 1)
            await ctx.tick()
            assert not ctx.get(dut.valid)
            ctx.set(dut.start, 0)
            await ctx.tick()
            for cycle in array_cycles(expected, lanes):
                where = f"after {checked} cycles, {cycle}"
                assert ctx.get(dut.valid), where
                assert not ctx.get(dut.stalled), where
                got = tuple(ctx.get(signal) for signal in (dut.first, dut.last, dut.level, dut.weight_address))
                assert got == (cycle.first, cycle.last, cycle.level, cycle.weight_word), where
                await tick(ctx, sum(1 << lane for lane in range(lanes) if cycle.mask[lane]))
                assert ctx.get(dut.address) == cycle.addresses[0] & address_mask, where
                checked += 1
                if cycle.last and cycle.level < Level.END:
                    for _ in range(expected.idle):
                        assert ctx.get(dut.stalled), where
                        assert not ctx.get(dut.valid), where
                        await tick(ctx)
            assert not ctx.get(dut.valid)
            assert not ctx.get(dut.stalled)
            for _ in range(InputAddress.MASK_LATENCY - 1):
                await tick(ctx)

    limit = sum(5 + (1 + given.idle) * sum(1 for _ in array_cycles(given, lanes)) for given, _ in jobs)
    run_bench(dut, bench, deadline=limit + 20)
    return checked


@pytest.mark.parametrize("lanes", [1, 2, 8, 16])
def test_random_instructions(lanes):
    config = loops_config(lanes)
    rng = np.random.default_rng(lanes)
    jobs = [Instruction(**random_loops(rng, lanes)) for _ in range(40)]
    masks = {mask for job in jobs for cycle in array_cycles(job, lanes) for mask in [cycle.mask]}
    assert len(masks) > lanes
    assert check(config, [(job, job) for job in jobs]) > 1000


def test_greatest_memory_and_fields():
    config = AcceleratorConfig(lanes=8, columns=1, activation_bytes=1 << 20, weight_bytes=8 << 10)
    base = {"columns": 2, "rows": 2, "taps_y": 2, "taps_x": 2, "run": 16, "input_rows": (1 << 16) - 1}
    jobs = [
        Instruction(
            **base,
            row_bytes=(1 << 20) - 1,
            x_first=-(1 << 20),
            x_column_step=(1 << 20) - 1,
            x_tap_step=9,
            y_first=-(1 << 15),
            y_row_step=(1 << 16) - 1,
            y_tap_step=1 << 15,
        ),
        Instruction(**base, row_bytes=1, x_first=(1 << 20) - 1, x_column_step=1, y_first=(1 << 15) - 1, y_row_step=1),
        Instruction(**base, row_bytes=8, x_first=-8, x_column_step=8, input_base=8, input_row_step=-8),
    ]
    check(config, [(job, job) for job in jobs])


def test_three_by_three_convolution_with_padding():
    # 4 × 5 pixels of 3 channels, stride 2, one pixel of padding: the addresses written out by hand.
    config = loops_config(8)
    layer = Instruction(
        rows=2,
        columns=3,
        taps_y=3,
        run=9,
        input_base=100 - 15,
        input_row_step=30,
        input_tap_step=15,
        y_first=-1,
        y_row_step=2,
        y_tap_step=1,
        input_rows=4,
        x_first=-3,
        x_column_step=6,
        row_bytes=15,
    )
    cycles = list(array_cycles(layer, 8))
    assert [cycle.addresses[0] for cycle in cycles[:6]] == [82, 90, 97, 105, 112, 120]
    assert [sum(cycle.mask) for cycle in cycles[:6]] == [0, 0, 5, 1, 5, 1]
    assert [sum(cycle.mask) for cycle in cycles[12:18]] == [0, 0, 6, 0, 6, 0]
    check(config, [(layer, layer)])


@pytest.mark.parametrize(
    "fault", [{"x_first": 1}, {"input_tap_step": 1}, {"y_first": 1}, {"weight_base": 1}, {"run": -1}]
)
def test_wrong_field_is_seen(fault):
    rng = np.random.default_rng(5)
    ((name, change),) = fault.items()
    jobs = []
    for _ in range(20):
        fields = random_loops(rng, 4)
        jobs.append((Instruction(**fields | {name: max(fields[name] + change, 1)}), Instruction(**fields)))
    with pytest.raises(AssertionError, match=r"^after \d+ cycles"):
        check(loops_config(4), jobs)
