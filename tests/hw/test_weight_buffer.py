"""The weight buffer between loop nest and what holds the weights: the array gets the words that its loops ask for."""

from collections import deque
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from amaranth.hdl import Cat, Module, Mux
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from support.gateware import instruction_bits, packed
from support.layer_program import array_cycles, random_loops
from support.sources import broken

from zeropoint_hw.array import Array
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.flash_copier import HEADER_BYTES
from zeropoint_hw.isa import Instruction
from zeropoint_hw.layout import InstructionLayout, delay
from zeropoint_hw.loops import InputAddress, LoopNest
from zeropoint_hw.memory import ActivationMemory, WordMemory
from zeropoint_hw.spi_flash import FlashReader
from zeropoint_hw.weight_buffer import FlashStore, SharedStore, WeightWindow, from_end
from zeropoint_sim.bench import Stalls, run_bench
from zeropoint_sim.flash_model import FlashModel

READ_LATENCY = InputAddress.LATENCY + ActivationMemory.READ_LATENCY
#: Cycles from an array cycle to its word of weights.
WEIGHT_LATENCY = READ_LATENCY + Array.WEIGHT_DELAY


class Buffered(wiring.Component):
    """What weights pass whatever holds them, as the accelerator connects it; ``blocked`` is as good as a write."""

    def __init__(self, config, store, window, **ports):
        self.config, self.store, self.window = config, store, window(config)
        self.nest, self.addresses = LoopNest(config), InputAddress(config)
        width, part = config.buffer_shape
        self.buffer = WordMemory(width, config.weight_buffer, part, registered=config.memory_registers)
        self.words = np.random.default_rng(0).integers(256, size=(WORDS, width // 8))
        super().__init__(
            {
                "instruction": In(InstructionLayout),
                "start": In(1),
                "busy": In(1),
                "blocked": In(1),
                "valid": Out(1),
                "waiting": Out(1),
                "seek": Out(1),
                "weights": Out(width),
            }
            | ports
        )

    def elaborate(self, platform):
        m = Module()
        nest, addresses, window, store, buffer = self.nest, self.addresses, self.window, self.store, self.buffer
        m.submodules.nest, m.submodules.addresses = nest, addresses
        m.submodules.window, m.submodules.store, m.submodules.buffer = window, store, buffer
        m.d.comb += [
            nest.instruction.eq(self.instruction),
            nest.start.eq(self.start),
            nest.hold.eq(self.blocked | window.starved),
            addresses.instruction.eq(self.instruction),
            addresses.moves.eq(nest.moves),
            addresses.at.eq(nest.at),
            window.busy.eq(self.busy),
            window.start.eq(self.start),
            window.weight_base.eq(self.instruction.weight_base),
            *(getattr(window, name).eq(getattr(nest, name)) for name in ("issues", "again", "onward")),
            window.group_address.eq(addresses.group_address),
            window.arrives.eq(store.arrives),
            Cat(store.seek, store.seek_address, store.wanted).eq(Cat(window.seek, window.seek_address, window.wanted)),
            buffer.write_enable.eq(store.write_enable),
            buffer.write_address.eq(store.write_address),
            buffer.write_piece.eq(store.write_piece),
            buffer.read_address.eq(delay(m, addresses.weight_address, WEIGHT_LATENCY - buffer.latency, "word")),
            self.weights.eq(buffer.read_data),
            self.valid.eq(nest.valid),
            self.waiting.eq(nest.waiting),
            self.seek.eq(window.seek),
        ]
        return m

    async def fill(self, ctx):
        """Bring the words to where the store looks for them."""


class Fed(Buffered):
    """Weights lie at the end of the activation memory; ``blocked`` is a write of two cycles later."""

    def __init__(self, config, window=WeightWindow):
        super().__init__(
            *(config, SharedStore(config), window),
            load=In(1),
            load_address=In(range(config.memory_elements)),
            load_data=In(config.element_bits),
        )

    def elaborate(self, platform):
        m = super().elaborate(platform)
        store = self.store
        m.submodules.memory = memory = ActivationMemory(self.config)
        written = delay(m, self.blocked, 1, "written")
        now = delay(m, written, 1, "now")
        m.d.comb += [
            self.addresses.fetch.eq(store.fetch),
            self.addresses.fetch_address.eq(store.fetch_address),
            store.free.eq(~self.nest.valid & ~written),
            memory.read_address.eq(self.addresses.address),
            memory.read_split.eq(self.config.lanes),
            # What is written while nothing reads lies beyond the weights.
            memory.write_address.eq(Mux(self.load, self.load_address, 0)),
            memory.write_data.eq(self.load_data),
            memory.write_count.eq(self.load | now),
            self.buffer.write_data.eq(memory.read_data),
        ]
        return m

    async def fill(self, ctx):
        config = self.config
        rows = config.stored_bits // config.row_bits
        ctx.set(self.load, 1)
        for word, content in enumerate(self.words):
            for place, byte in enumerate(content):
                row = word * rows + place // config.lanes
                ctx.set(self.load_address, config.memory_elements - config.lanes * (row + 1) + place % config.lanes)
                ctx.set(self.load_data, int(byte))
                await ctx.tick()
        ctx.set(self.load, 0)
        await ctx.tick().repeat(4)


class Streamed(Buffered):
    """Weights lie in a flash; ``source`` stands for its reader."""

    def __init__(self, config, store=FlashStore, window=WeightWindow):
        super().__init__(
            *(config, store(config), window),
            read=Out(1),
            stop=Out(1),
            address=Out(24),
            bytes=In(stream.Signature(8)),
        )
        self.image = bytes(HEADER_BYTES) + self.words.astype(np.uint8).tobytes()

    def elaborate(self, platform):
        m = super().elaborate(platform)
        store = self.store
        m.d.comb += [
            self.read.eq(store.start),
            self.stop.eq(~self.busy),
            self.address.eq(store.address),
            self.buffer.write_data.eq(store.write_data),
        ]
        self.connect_reader(m)
        return m

    def connect_reader(self, m):
        wiring.connect(m, wiring.flipped(self.bytes), self.store.bytes)

    def source(self, pauses):
        """Return a bench that gives bytes as ``FlashReader`` may, which is what these tests assume of it.

        A byte that was wanted before may be on offer until the cycle after that of ``start``, and none after that. The
        first one that is wanted now, and each that follows a byte that is taken, comes ``BYTE_CYCLES`` cycles later or,
        with pauses, at any time from then on; the reader itself has a command to send before the first.
        """

        async def source(ctx):
            offered, starting, place, left = False, False, None, None
            while True:
                ctx.set(self.bytes.valid, offered)
                if offered:
                    index = place - self.config.flash_offset
                    ctx.set(self.bytes.payload, self.image[index] if index < len(self.image) else 0xFF)
                else:
                    pauses.noise(ctx, [self.bytes.payload])
                ports = self.read, self.stop, self.address, self.bytes.ready
                _, _, read, stop, address, ready = await ctx.tick().sample(*ports)
                if starting:
                    offered, place, left = False, address, BYTE_CYCLES
                elif stop:
                    offered, left = False, None
                elif offered and ready:
                    offered, place, left = False, place + 1, BYTE_CYCLES
                starting = read
                if left is not None and not offered:
                    left = max(left - 1, 0)
                    offered = left == 0 and not pauses.hold()

        return source


class FromFlash(Streamed):
    """The reader itself, and a model of a flash."""

    def connect_reader(self, m):
        m.submodules.reader = reader = FlashReader()
        m.submodules.flash = flash = FlashModel(self.image, self.config.flash_offset)
        wiring.connect(m, reader.pins, flash.pins)
        wiring.connect(m, reader.o, self.store.bytes)
        m.d.comb += [reader.start.eq(self.read), reader.stop.eq(self.stop), reader.address.eq(self.address)]


#: Cycles that a flash takes for a byte.
BYTE_CYCLES = 16


def sized(lanes, columns, size, **fields):
    config = AcceleratorConfig(lanes=lanes, columns=columns, requantizers=1, weight_buffer=size, **fields)
    return replace(config, activation_bytes=1024, weight_bytes=WORDS * config.stored_bits // 8)


buffered = partial(sized, weight_store="shared", activation_ports=1)
streamed = partial(sized, weight_store="flash", weight_source="flash")

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


#: Words of one byte and of several, in one of which some bits are no one's; without a register, a word is read later.
STREAMING = {
    "1x1": streamed(1, 1, 8),
    "1x1-two-words": streamed(1, 1, 2, memory_registers=False),
    "1x2-two-words": streamed(1, 2, 2),
    "1x4-5-bits": streamed(1, 4, 8, pe="shift"),
    "1x2": streamed(1, 2, 16, memory_registers=False),
}


def job(instruction, lanes):
    """Return an instruction and its array cycles."""
    return instruction, list(array_cycles(instruction, lanes))


def programs(rng, lanes, count, longest=250):
    """Return random instructions whose weights often follow those of the one before."""
    jobs, following = [], 0
    while len(jobs) < count:
        loops = random_loops(rng, lanes, 2)
        if rng.random() < 0.8:
            loops["weight_base"] = following
        instruction, cycles = job(Instruction(**loops), lanes)
        if max(cycle.weight_word for cycle in cycles) >= WORDS:
            following = 0
            continue
        if len(cycles) > longest:
            continue
        jobs.append((instruction, cycles))
        following = cycles[-1].weight_word + 1
    return jobs


def check(dut, jobs, blocking=0.2, sources=()):
    """Run jobs one after the other, and hold each array cycle's weights against the word that its loops ask for."""
    found = {"checked": 0, "waits": 0, "kept": 0, "jumps": 0}
    expected = deque()
    blocked, gaps, ends = Stalls(1, blocking), Stalls(2, 0.93), Stalls(3, 0.1)

    async def tick(ctx):
        """Go on to the next cycle."""
        ctx.set(dut.blocked, blocked.hold())
        _, _, seek, start = await ctx.tick().sample(dut.seek, dut.start)
        found["jumps"] += seek and not start
        for entry in expected:
            entry[0] -= 1
        if expected and expected[0][0] == 0:
            _, cycle = expected.popleft()
            got = ctx.get(dut.weights)
            assert got == packed(dut.words[cycle.weight_word], 8), f"after {found['checked']} cycles: {cycle}"
            found["checked"] += 1

    async def bench(ctx):
        await dut.fill(ctx)
        ctx.set(dut.busy, 1)
        for number, (instruction, cycles) in enumerate(jobs):
            ctx.set(dut.instruction.as_value(), instruction_bits(instruction))
            ctx.set(dut.start, 1)
            await ctx.delay(0)
            found["kept"] += number > 0 and not ctx.get(dut.seek)
            await tick(ctx)
            ctx.set(dut.start, 0)
            for cycle in cycles:
                limit = 4000
                while not ctx.get(dut.valid):
                    found["waits"] += ctx.get(dut.waiting)
                    limit -= 1
                    assert limit, f"stuck before {cycle}"
                    await tick(ctx)
                expected.append([WEIGHT_LATENCY, cycle])
                await tick(ctx)
            # The next one begins when the last outputs are on their way to memory, or a program ends.
            for _ in range(WEIGHT_LATENCY):
                await tick(ctx)
            while gaps.hold():
                await tick(ctx)
            if ends.hold():
                ctx.set(dut.busy, 0)
                await tick(ctx)
                ctx.set(dut.busy, 1)

    run_bench(dut, bench, deadline=400_000, background=sources)
    return found


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_random_programs(config):
    rng = np.random.default_rng(config.lanes + config.columns)
    found = check(Fed(config), programs(rng, config.lanes, 12))
    assert found["checked"] > 500
    assert found["waits"] > 100
    assert found["kept"] > 0


def test_a_group_that_fits_is_fetched_once():
    config = CONFIGS["4x4"]
    # 9 · 7 words, one less than the buffer has, for each of 6 outputs of two groups.
    instruction = Instruction(groups=2, rows=3, columns=2, taps_y=3, taps_x=3, run=28, input_rows=9, row_bytes=9)
    found = check(Fed(config), [job(instruction, 4)], blocking=0)
    assert found["checked"] == 2 * 6 * 63
    # Four rows a word; the last of a group's words is asked for when that of the one before is there.
    assert 2 * 63 * 4 <= found["waits"] < 2 * 63 * 4 + 2 * 12
    assert found["jumps"] == 0


def test_a_group_that_does_not_fit_is_fetched_for_each_output():
    config = CONFIGS["4x4"]
    instruction = Instruction(groups=2, rows=1, columns=2, taps_y=13, taps_x=5, run=4, input_rows=9, row_bytes=9)
    found = check(Fed(config), [job(instruction, 4)], blocking=0)
    assert found["checked"] == 4 * 65
    assert 4 * 65 * 4 - 64 <= found["waits"] < 4 * 65 * 4 + 4 * 16


def check_streamed(dut, jobs, pausing=0.0, blocking=None):
    """As ``check``; if not told, the array is held back as much as brings the buffer to be full at times, or empty."""
    config = dut.config
    if blocking is None:
        blocking = 1 - 1 / (BYTE_CYCLES * config.stored_bits // 8 + 8)
    return check(dut, jobs, blocking, [dut.source(Stalls(4, pausing))])


def small_programs(config):
    return programs(np.random.default_rng(config.columns), config.lanes, 12, longest=60)


def jumps():
    """Return instructions of a few words each that lie apart; each comes while the one before is being followed up."""
    instructions = [Instruction(run=1 + number % 3, weight_base=20 * (number % 7)) for number in range(60)]
    return [job(instruction, 1) for instruction in instructions]


PAUSES = pytest.mark.parametrize("pausing", [0, 0.9], ids=["at-once", "with-pauses"])


@PAUSES
@pytest.mark.parametrize("config", STREAMING.values(), ids=STREAMING)
def test_random_programs_from_a_flash(config, pausing):
    found = check_streamed(Streamed(config), small_programs(config), pausing)
    assert found["checked"] > 200
    assert found["waits"] > 1000
    assert found["kept"] > 0


@PAUSES
def test_jumps_at_any_time(pausing):
    found = check_streamed(Streamed(STREAMING["1x4-5-bits"]), jumps(), pausing, blocking=0.2)
    assert found["checked"] == 120
    assert found["kept"] == 0


@pytest.mark.parametrize("name", ["1x1", "1x2"])
@pytest.mark.parametrize("more", [-1, 0, 1, 7], ids="{:+}-words".format)
def test_a_group_is_streamed_again_only_if_it_does_not_fit(name, more):
    config = STREAMING[name]
    words = config.weight_buffer + more
    instruction = Instruction(groups=3, columns=3, run=words)
    found = check_streamed(Streamed(config), [job(instruction, 1)])
    assert found["checked"] == 3 * 3 * words
    assert found["jumps"] == (3 * 2 if more > 0 else 0)


def test_words_that_come_late_cost_no_more_than_their_bytes():
    instruction = Instruction(groups=3, run=15)
    dut = Streamed(STREAMING["1x2"])
    found = check_streamed(dut, [job(instruction, 1)], blocking=0)
    assert 45 * (2 * BYTE_CYCLES - 1) <= found["waits"] <= 45 * 2 * BYTE_CYCLES + 4


def test_the_flashs_own_reader():
    config = STREAMING["1x2-two-words"]
    found = check(FromFlash(config), jumps()[:20] + small_programs(config), blocking=0.95)
    assert found["checked"] > 200


class TestFaultsAreSeen:
    """Each of these must be reported by the very checker that passes above."""

    @pytest.mark.parametrize(
        ("right", "wrong"),
        [
            ("SETTLING = 6", "SETTLING = 3"),
            ("room = self.wanted & delay", "room = self.wanted | delay"),
            ("(room | (self", "(room & (self"),
        ],
        ids=["soon", "at-once", "never"],
    )
    def test_bytes_taken_at_the_wrong_time(self, right, wrong):
        config = STREAMING["1x1-two-words"]
        with pytest.raises(AssertionError, match=r"^(after \d+ cycles|stuck before)"):
            check_streamed(Streamed(config, broken(FlashStore, right, wrong)), small_programs(config))

    @PAUSES
    @pytest.mark.parametrize("cycles", [0, 1])
    def test_bytes_of_the_read_before(self, cycles, pausing):
        store = broken(FlashStore, "stale.eq(4)", f"stale.eq({cycles})")
        with pytest.raises(AssertionError, match=r"^after \d+ cycles"):
            check_streamed(Streamed(STREAMING["1x4-5-bits"], store), jumps(), pausing, blocking=0.2)


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
        check(Fed(config, window), programs(rng, config.lanes, 10))
