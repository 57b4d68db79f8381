"""What is read is what the instruction's loops say: addresses, lanes, weights, whatever the sequence of loops is.

The specification keeps an offset for each loop: it grows by the loop's step where that moves on, and is 0 again where
one further out does. A place is the first one and all offsets together; each register has those of some loops on.
"""

import pytest
from amaranth import Cat, Const, Mux, Signal
from support.formal import broken, needs_solver

from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.layout import Level
from zeropoint_hw.loops import InputAddress
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
    proof.claim("address", ~proof.past(loops.begun) | (dut.address == proof.past(address)))

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
    return proof


def test_addresses():
    address_proof().prove(2)


class TestFaultsAreSeen:
    def test_an_origin_of_another_loop(self):
        component = broken(
            InputAddress, "(at[Level.TAP_Y] | at[Level.POOL_X], x_pool)", "(at[Level.TAP_Y] | at[Level.POOL_X], x_tap)"
        )
        with pytest.raises(Refuted, match="not so: "):
            address_proof(component).check(6)
