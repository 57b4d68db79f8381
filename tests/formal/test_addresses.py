"""What is read is what the instruction's loops say: addresses, lanes, weights, whatever the sequence of loops is.

The specification keeps an offset for each loop: it grows by the loop's step where that moves on, and is 0 again where
one further out does. A place is the first one and all offsets together; each register has those of some loops on.
"""

import pytest
from amaranth import Cat, Const, Mux, Signal, signed
from support.formal import needs_solver
from support.sources import broken

from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.layout import Level
from zeropoint_hw.loops import InputAddress
from zeropoint_hw.writer import Writer
from zeropoint_sim.formal import Proof, Refuted

pytestmark = needs_solver

CONFIG = AcceleratorConfig()
LOOPS = list(Level)[: Level.END]


class Loops:
    """Loops that move on in any order, and offsets that move with them."""

    def __init__(self, proof):
        self.proof = proof
        self.level = proof.free("level", 4)
        self.goes = proof.free("goes", 1)
        #: The loops have begun, and not ended.
        self.begun = Signal(name="begun")
        begins = self.level == Level.BEGIN
        proof.assume((self.level <= Level.BEGIN) & (self.begun | begins | ~self.goes))
        with proof.m.If(self.goes):
            proof.m.d.sync += self.begun.eq(self.level != Level.END)
        self.moves = Mux(self.goes, Cat(self.level >= level for level in Level), 0)
        self.at = Cat(self.level == level for level in Level)

    def offsets(self, name, width, steps):
        """Return the offset of each loop, the innermost first, modulo a power of two."""
        m, values = self.proof.m, []
        for level in LOOPS:
            if level not in steps:
                values.append(Const(0, width))
                continue
            value = Signal(width, name=f"{name}_{level.name.lower()}")
            with m.If(self.goes & (self.level > level)):
                m.d.sync += value.eq(0)
            with m.Elif(self.goes & (self.level == level)):
                m.d.sync += value.eq(value + steps[level])
            values.append(value)
        return values


def signed_sum(width, first, offsets):
    return sum(offsets, first)[:width].as_signed()


def address_proof(component=InputAddress, config=CONFIG):
    proof = Proof()
    m, dut = proof.m, proof.add("dut", component(config))
    i = proof.constant("instruction", dut.instruction)
    loops = Loops(proof)
    m.d.comb += [dut.moves.eq(loops.moves), dut.at.eq(loops.at)]
    inside = {}

    def register(name):
        inside[name] = proof.show(f"{name}_", proof.inside("dut", name))
        return inside[name]

    column_x, row_x = (Mux(i.swap_axes, *pair) for pair in ((0, i.x_column_step), (i.x_column_step, 0)))

    def down(step):
        return {Level.COLUMN: Mux(i.swap_axes, step, 0), Level.ROW: Mux(i.swap_axes, 0, step)}

    spaces = {
        "x": (
            config.place_width,
            i.x_first,
            {
                Level.CHUNK: config.lanes,
                Level.TAP_X: i.x_tap_step,
                Level.POOL_X: i.x_pool_step,
                Level.COLUMN: column_x,
                Level.ROW: row_x,
                Level.GROUP: i.x_group_step,
            },
            {
                "x_chunk": Level.CHUNK,
                "x_tap": Level.TAP_X,
                "x_pool": Level.POOL_X,
                "x_output": Level.COLUMN,
                "x_group": Level.GROUP,
            },
        ),
        "y": (
            config.row_width,
            i.y_first,
            {Level.TAP_Y: i.y_tap_step, Level.POOL_Y: i.y_pool_step, **down(i.y_row_step)},
            {"y_tap": Level.TAP_Y, "y_pool": Level.POOL_Y, "y_output": Level.COLUMN},
        ),
        "base": (
            len(dut.address),
            i.input_base,
            {
                Level.TAP_Y: i.input_tap_step,
                Level.POOL_Y: i.input_pool_step,
                **down(i.input_row_step),
            },
            {"base_tap": Level.TAP_Y, "base_pool": Level.POOL_Y, "base_output": Level.COLUMN},
        ),
    }
    for name, (width, first, steps, registers) in spaces.items():
        offsets = loops.offsets(name, width, steps)
        still = (Level.COLUMN, Level.ROW) if name == "x" else (Level.ROW, Level.COLUMN)
        proof.claim(f"{name}_axes", Mux(i.swap_axes, *(offsets[level] for level in still)) == 0)
        # Each register is the one further out and the offsets of the loops between them.
        outer, above = first[:width].as_signed(), len(LOOPS)
        for held, level in reversed(registers.items()):
            value = register(held)
            expected = proof.show(f"expected_{held}", signed_sum(width, outer, offsets[level:above]))
            proof.claim(held, ~loops.begun | (value[:width].as_signed() == expected))
            outer, above = value[:width].as_signed(), level
    address = (inside["base_tap"] + inside["x_chunk"])[: len(dut.address)]
    # What is fetched goes first, and moves nothing.
    fetch, fetch_address = proof.free("fetch", dut.fetch), proof.free("fetch_address", dut.fetch_address)
    expected = Mux(fetch, fetch_address, address)
    proof.claim("address", ~proof.past(loops.begun | fetch) | (dut.address == proof.past(expected)))

    # Words of weights follow each other, anew for each output of a group, or for each tap.
    count, group = Signal.like(dut.weight_address, name="count"), Signal.like(dut.weight_address, name="group_words")
    restarts = Mux(i.weights_per_tap, loops.level >= Level.TAP_X, loops.level >= Level.POOL_X)
    with m.If(loops.goes):
        m.d.sync += count.eq(Mux(restarts, 0, count + 1))
        with m.If(loops.level == Level.BEGIN):
            m.d.sync += group.eq(i.weight_base)
        with m.Elif(~i.weights_per_tap & (loops.level == Level.GROUP)):
            m.d.sync += group.eq(group + count + 1)
    word_group = register("word_group")
    proof.claim("group", ~loops.begun | (word_group == group))
    proof.claim("word", ~loops.begun | (dut.weight_address == (group + count)[: len(dut.weight_address)]))

    left_of_run = register("left")
    chunks = loops.offsets("run", len(left_of_run), {Level.CHUNK: config.lanes})[0]
    proof.claim("left", ~loops.begun | (left_of_run == (i.run - chunks)[: len(left_of_run)]))
    proof.goal(
        "group", loops.begun & (group != i.weight_base) & (address != i.input_base[: len(address)]) & i.swap_axes
    )
    return proof


@pytest.mark.slow
def test_addresses():
    address_proof().prove(2)


def mask_proof(component=InputAddress, beyond=0):
    """Return the claim that lanes are masked which lie outside the feature map or the run, in any state.

    Of the instruction, the verifier of programs checks what is assumed (test_assumptions.py), with no row ``beyond``.
    """
    proof = Proof()
    dut = proof.add("dut", component(CONFIG))
    i = proof.constant("instruction", dut.instruction)
    proof.free("moves", dut.moves)
    proof.free("at", dut.at)
    x, y, left = (proof.show(f"{name}_", proof.inside("dut", name)) for name in ("x_chunk", "y_tap", "left"))
    run = i.run + 1
    proof.assume(i.row_bytes + CONFIG.lanes <= (1 << CONFIG.place_width - 1) + beyond)
    proof.assume(~i.paired_rows | (2 * run <= CONFIG.lanes))

    def in_row(lane):
        return (x + lane >= 0) & (x + lane < i.row_bytes) & (lane <= left)

    def in_map(row):
        return (row >= 0) & (row < i.input_rows)

    lanes = []
    for lane in range(CONFIG.lanes):
        second = [(run == first) & in_row(lane - first) for first in range(1, lane + 1)]
        lanes.append((in_map(y) & in_row(lane)) | (i.paired_rows & in_map(y + 1) & Cat(second).any()))
    expected = proof.show("expected", proof.past(Cat(lanes), InputAddress.MASK_LATENCY))
    proof.claim("mask", proof.show("mask", dut.mask) == expected)
    return proof


def test_masks():
    mask_proof().prove_settled(InputAddress.MASK_LATENCY)


def writer_proof(component=Writer):
    """Return claims about where beats go, and how many bytes of them, whatever the sequence of loops is."""
    proof = Proof()
    m, dut = proof.m, proof.add("dut", component(CONFIG))
    i = proof.constant("instruction", dut.instruction)
    start, level, beat = proof.free("start", dut.start), proof.free("level", 4), proof.free("beat", 1)
    begun = Signal(name="begun")
    ends = (level == Level.END) & beat
    proof.assume(Cat(level == each for each in (Level.CHUNK, Level.COLUMN, Level.ROW, Level.GROUP, Level.END)).any())
    # An instruction starts when no other is being written.
    proof.assume(~(start & beat) & (begun | ~beat))
    m.d.sync += begun.eq((begun | start) & ~ends)
    m.d.comb += dut.beat_at.eq(Mux(beat, 1 << level, 0))

    size, width = CONFIG.requantizers, len(dut.address)
    steps = {
        Level.CHUNK: size,
        Level.COLUMN: i.output_column_step,
        Level.ROW: i.output_row_step,
        Level.GROUP: i.output_group_step,
    }
    offsets = {each: Signal(width, name=f"offset_{each.name.lower()}") for each in steps}
    for each, offset in offsets.items():
        with m.If(start | (beat & (level > each))):
            m.d.sync += offset.eq(0)
        with m.Elif(beat & (level == each)):
            m.d.sync += offset.eq(offset + steps[each])
    outer = outer_base = i.output_base[:width]
    for name, each in (("group", Level.GROUP), ("row", Level.ROW), ("column", Level.COLUMN), ("beat_", Level.CHUNK)):
        register = proof.show(f"{name}_at", proof.inside("dut", name))
        proof.claim(name, ~begun | (register == (outer + offsets[each])[:width]))
        outer = register
    proof.claim("address", dut.address == outer)

    # Channels that are still to be written, and those of the group's beats so far.
    shape = signed(CONFIG.count_width + 1)
    channels, passed = Signal(shape, name="channels"), Signal(shape, name="passed")
    with m.If(start):
        m.d.sync += [channels.eq(i.output_channels), passed.eq(0)]
    with m.Elif(beat & (level == Level.GROUP)):
        m.d.sync += [channels.eq(channels - passed - size), passed.eq(0)]
    with m.Elif(beat):
        m.d.sync += passed.eq(Mux(level == Level.CHUNK, passed + size, 0))
    remaining = proof.show("remaining", (channels - passed)[: shape.width].as_signed())
    count = Mux(remaining < 0, 0, Mux(remaining > size, size, remaining))
    proof.claim("channels", ~begun | (proof.inside("dut", "left") == remaining))
    proof.claim("groups", ~begun | (proof.inside("dut", "group_left") == channels))
    proof.claim("count", dut.count == Mux(beat, count[: len(dut.count)], 0))
    proof.goal("last", ends & (dut.count == 1) & (dut.address != outer_base))
    return proof


def test_what_is_written():
    writer_proof().prove(2)


@pytest.mark.slow
def test_such_loops_are_there():
    address_proof().reach(6)
    writer_proof().reach(8)


class TestFaultsAreSeen:
    @pytest.mark.slow
    def test_an_origin_of_another_loop(self):
        component = broken(
            InputAddress, "(at[Level.TAP_Y] | at[Level.POOL_X], x_pool)", "(at[Level.TAP_Y] | at[Level.POOL_X], x_tap)"
        )
        with pytest.raises(Refuted, match="not so: "):
            address_proof(component).check(6)

    def test_a_lane_too_many(self):
        component = broken(InputAddress, "self._lanes - 1 - lane", "self._lanes - 2 - lane")
        with pytest.raises(Refuted, match="not so: mask"):
            mask_proof(component).prove_settled(InputAddress.MASK_LATENCY)

    @pytest.mark.slow
    def test_a_row_longer_than_the_verifier_accepts(self):
        with pytest.raises(Refuted, match="not so: mask"):
            mask_proof(beyond=1).prove_settled(InputAddress.MASK_LATENCY)

    @pytest.mark.slow
    def test_a_row_that_begins_where_the_last_one_ended(self):
        component = broken(Writer, "(at[Level.ROW], row),", "(at[Level.ROW], column),")
        with pytest.raises(Refuted, match="not so: "):
            writer_proof(component).check(6)
