"""The weight buffer between loop nest and activation memory: the array gets the words that its loops ask for."""

from collections import deque
from dataclasses import replace

import numpy as np
import pytest
from amaranth.hdl import Cat, Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from support.gateware import instruction_bits, packed
from support.layer_program import array_cycles, random_loops

from zeropoint_hw.array import Array
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import Instruction
from zeropoint_hw.layout import InstructionLayout, delay
from zeropoint_hw.loops import InputAddress, LoopNest
from zeropoint_hw.memory import ActivationMemory, WordMemory
from zeropoint_hw.weight_buffer import SharedStore, WeightWindow, from_end
from zeropoint_sim.bench import run_bench

READ_LATENCY = InputAddress.LATENCY + ActivationMemory.READ_LATENCY
#: Cycles from an array cycle to its word of weights.
WEIGHT_LATENCY = READ_LATENCY + Array.WEIGHT_DELAY


class Fed(wiring.Component):
    """Everything that weights pass, as the accelerator connects it; ``blocked`` is a write of two cycles later."""

    def __init__(self, config, window=WeightWindow):
        self.config, self.window = config, window(config)
        super().__init__(
            {
                "instruction": In(InstructionLayout),
                "start": In(1),
                "busy": In(1),
                "blocked": In(1),
                "load": In(1),
                "load_address": In(range(config.memory_elements)),
                "load_data": In(config.element_bits),
                "valid": Out(1),
                "waiting": Out(1),
                "seek": Out(1),
                "weights": Out(config.word_rows * config.row_bits),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.nest = nest = LoopNest(config)
        m.submodules.addresses = addresses = InputAddress(config)
        m.submodules.window = window = self.window
        m.submodules.store = store = SharedStore(config)
        m.submodules.memory = memory = ActivationMemory(config)
        m.submodules.buffer = buffer = WordMemory(
            config.word_rows * config.row_bits, config.weight_buffer, config.row_bits
        )
        written = delay(m, self.blocked, 1, "written")
        now = delay(m, written, 1, "now")
        m.d.comb += [
            nest.instruction.eq(self.instruction),
            nest.start.eq(self.start),
            nest.hold.eq(self.blocked | window.starved),
            addresses.instruction.eq(self.instruction),
            addresses.moves.eq(nest.moves),
            addresses.at.eq(nest.at),
            addresses.fetch.eq(store.fetch),
            addresses.fetch_address.eq(store.fetch_address),
            window.busy.eq(self.busy),
            window.start.eq(self.start),
            window.weight_base.eq(self.instruction.weight_base),
            *(getattr(window, name).eq(getattr(nest, name)) for name in ("issues", "again", "onward")),
            window.group_address.eq(addresses.group_address),
            window.arrives.eq(store.arrives),
            Cat(store.seek, store.seek_address, store.wanted).eq(Cat(window.seek, window.seek_address, window.wanted)),
            store.free.eq(~nest.valid & ~written),
            memory.read_address.eq(addresses.address),
            memory.read_split.eq(config.lanes),
            # What is written while nothing reads lies beyond the weights.
            memory.write_address.eq(Mux(self.load, self.load_address, 0)),
            memory.write_data.eq(self.load_data),
            memory.write_count.eq(self.load | now),
            buffer.write_enable.eq(store.write_enable),
            buffer.write_address.eq(store.write_address),
            buffer.write_piece.eq(store.write_piece),
            buffer.write_data.eq(memory.read_data),
            buffer.read_address.eq(delay(m, addresses.weight_address, WEIGHT_LATENCY - buffer.READ_LATENCY, "word")),
            self.weights.eq(buffer.read_data),
            self.valid.eq(nest.valid),
            self.waiting.eq(nest.waiting),
            self.seek.eq(window.seek),
        ]
        return m


def buffered(lanes, columns, size, **fields):
    config = AcceleratorConfig(
        lanes=lanes,
        columns=columns,
        requantizers=1,
        weight_store="shared",
        activation_ports=1,
        weight_buffer=size,
        **fields,
    )
    return replace(config, activation_bytes=1024, weight_bytes=WORDS * config.stored_bits // 8)


#: Weight words.
WORDS = 200
#: Words of one row, of two, of four, and of three that take the place of four.
CONFIGS = {
    "1x1": buffered(1, 1, 16),
    "2x2": buffered(2, 2, 8),
    "4x4": buffered(4, 4, 64),
    "2x4-5-bits": buffered(2, 4, 16, pe="shift"),
    "4x2-two-words": buffered(4, 2, 2),
}


def programs(rng, lanes, count):
    """Return random instructions whose weights often follow those of the one before."""
    jobs, following = [], 0
    while len(jobs) < count:
        loops = random_loops(rng, lanes, 2)
        if rng.random() < 0.8:
            loops["weight_base"] = following
        cycles = list(array_cycles(Instruction(**loops), lanes))
        if len(cycles) > 250 or max(cycle.weight_word for cycle in cycles) >= WORDS:
            following = 0
            continue
        jobs.append((Instruction(**loops), cycles))
        following = cycles[-1].weight_word + 1
    return jobs


def check(config, dut, jobs, rng, blocking=0.2):
    """Run jobs one after the other, and hold each array cycle's weights against the word that its loops ask for."""
    words = rng.integers(256, size=(WORDS, config.word_rows * config.lanes))
    rows = config.stored_bits // config.row_bits
    found = {"checked": 0, "waits": 0, "seeks": 0, "kept": 0, "jumps": 0}
    expected = deque()

    async def tick(ctx):
        """Go on to the next cycle."""
        ctx.set(dut.blocked, rng.random() < blocking)
        await ctx.tick()
        for entry in expected:
            entry[0] -= 1
        if expected and expected[0][0] == 0:
            _, cycle = expected.popleft()
            got = ctx.get(dut.weights)
            assert got == packed(words[cycle.weight_word], 8), f"after {found['checked']} cycles: {cycle}"
            found["checked"] += 1

    async def bench(ctx):
        ctx.set(dut.load, 1)
        for word, content in enumerate(words):
            for place, byte in enumerate(content):
                row = word * rows + place // config.lanes
                ctx.set(dut.load_address, config.memory_elements - config.lanes * (row + 1) + place % config.lanes)
                ctx.set(dut.load_data, int(byte))
                await ctx.tick()
        ctx.set(dut.load, 0)
        await ctx.tick().repeat(4)
        ctx.set(dut.busy, 1)
        for number, (instruction, cycles) in enumerate(jobs):
            ctx.set(dut.instruction.as_value(), instruction_bits(instruction))
            ctx.set(dut.start, 1)
            await ctx.delay(0)
            found["kept"] += number > 0 and not ctx.get(dut.seek)
            await tick(ctx)
            ctx.set(dut.start, 0)
            for cycle in cycles:
                limit = 50
                while not ctx.get(dut.valid):
                    found["waits"] += ctx.get(dut.waiting)
                    found["jumps"] += ctx.get(dut.seek)
                    limit -= 1
                    assert limit, f"stuck before {cycle}"
                    await tick(ctx)
                expected.append([WEIGHT_LATENCY, cycle])
                await tick(ctx)
            # The next one begins when the last outputs are on their way to memory, or a program ends.
            for _ in range(int(rng.integers(WEIGHT_LATENCY, 40))):
                await tick(ctx)
            if rng.random() < 0.1:
                ctx.set(dut.busy, 0)
                await tick(ctx)
                ctx.set(dut.busy, 1)

    run_bench(dut, bench, deadline=400_000)
    return found


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_random_programs(config):
    rng = np.random.default_rng(config.lanes + config.columns)
    found = check(config, Fed(config), programs(rng, config.lanes, 12), rng)
    assert found["checked"] > 500
    assert found["waits"] > 100
    assert found["kept"] > 0


def test_a_group_that_fits_is_fetched_once():
    config = CONFIGS["4x4"]
    rng = np.random.default_rng(0)
    # 9 · 7 words, one less than the buffer has, for each of 6 outputs of two groups.
    instruction = Instruction(groups=2, rows=3, columns=2, taps_y=3, taps_x=3, run=28, input_rows=9, row_bytes=9)
    found = check(config, Fed(config), [(instruction, list(array_cycles(instruction, 4)))], rng, blocking=0)
    assert found["checked"] == 2 * 6 * 63
    # Four rows a word; the last of a group's words is asked for when that of the one before is there.
    assert 2 * 63 * 4 <= found["waits"] < 2 * 63 * 4 + 2 * 12
    assert found["jumps"] == 0


def test_a_group_that_does_not_fit_is_fetched_for_each_output():
    config = CONFIGS["4x4"]
    rng = np.random.default_rng(0)
    instruction = Instruction(groups=2, rows=1, columns=2, taps_y=13, taps_x=5, run=4, input_rows=9, row_bytes=9)
    found = check(config, Fed(config), [(instruction, list(array_cycles(instruction, 4)))], rng, blocking=0)
    assert found["checked"] == 4 * 65
    assert 4 * 65 * 4 - 64 <= found["waits"] < 4 * 65 * 4 + 4 * 16


def test_all_rows_of_the_end_of_memory_are_reached():
    config = CONFIGS["4x4"]
    rows = [0, 1, 2, 511]
    constant = [from_end(config, Cat(*(bool(row >> bit & 1) for bit in range(9)))) for row in rows]
    dut = Module()
    seen = []

    async def bench(ctx):
        seen.extend(ctx.get(value) for value in constant)

    run_bench(dut, bench, deadline=10)
    assert seen == [config.memory_elements - 4 * (row + 1) for row in rows]


class Hasty(WeightWindow):
    """Says that a word is there before its last row has been asked for."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        m.d.comb += self.starved.eq(0)
        return m


class Stuck(WeightWindow):
    """Does not go back to a group's first word where the group does not fit."""

    def elaborate(self, platform):
        m = Module()
        m.submodules.whole = whole = WeightWindow(self._config)
        for name in ("busy", "start", "weight_base", "issues", "onward", "group_address", "arrives"):
            m.d.comb += getattr(whole, name).eq(getattr(self, name))
        m.d.comb += whole.again.eq(0)
        for name in ("starved", "wanted", "seek", "seek_address"):
            m.d.comb += getattr(self, name).eq(getattr(whole, name))
        return m


@pytest.mark.parametrize("window", [Hasty, Stuck])
def test_wrong_windows_are_seen(window):
    config = CONFIGS["2x2"]
    rng = np.random.default_rng(1)
    with pytest.raises(AssertionError, match=r"^(after \d+ cycles|stuck before)"):
        check(config, Fed(config, window), programs(rng, config.lanes, 10), rng)
