"""The top level between its pins: what comes in goes to the core, and what the core says goes out."""

import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from zeropoint_boards.boards import BOARDS
from zeropoint_boards.top import VirtualTop


class Delay(wiring.Component):
    """Says the next cycle what it hears, and the opposite of it by its light."""

    def __init__(self):
        super().__init__({"rx": In(1), "tx": Out(1, init=1), "active": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.tx.eq(self.rx)
        m.d.comb += self.active.eq(~self.tx)
        return m


@pytest.mark.parametrize("name", BOARDS)
def test_levels_reach_the_core_and_come_back(name):
    top = VirtualTop(BOARDS[name], Delay())
    heard = []

    async def bench(ctx):
        for level in (1, 0, 0, 1, 0):
            ctx.set(top.rx, level)
            await ctx.tick()
            heard.append((ctx.get(top.tx), ctx.get(top.active)))

    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert heard == [(1, 0), (0, 1), (0, 1), (1, 0), (0, 1)]
