import numpy as np
import pytest

from zeropoint_hw.counters import Counters
from zeropoint_hw.isa import LOG_PIECES, LogEntry
from zeropoint_sim.bench import run_bench

TOTALS = ("cycles", "busy_cycles", "stall_drain", "stall_fetch", "stall_flush", "stall_memory", "instructions")
#: What a busy cycle is spent on.
CAUSES = FETCH, WORK, STALL, FLUSH, WAIT = range(5)


class Run:
    """A run of a program: the causes of each instruction's cycles, and where it pauses between steps."""

    def __init__(self, rng, instructions, longest=12):
        self.instructions = [rng.choice(CAUSES, rng.integers(1, longest)).tolist() for _ in range(instructions)]
        self.pauses = rng.integers(3, size=instructions).tolist()

    def totals(self):
        causes = [cause for cycles in self.instructions for cause in cycles]
        counts = [causes.count(cause) for cause in (WORK, STALL, FETCH, FLUSH, WAIT)]
        assert sum(counts) == len(causes)
        return [len(causes), *counts, len(self.instructions)]

    def log(self):
        taken = [(len(cycles), *(cycles.count(cause) for cause in (WORK, STALL, WAIT))) for cycles in self.instructions]
        return [tuple(row) for row in np.cumsum(taken, axis=0).tolist()]


#: Instructions that are logged.
ENTRIES = 23


def check(runs, entries=ENTRIES):
    dut = Counters(entries)

    async def bench(ctx):
        for run in runs:
            ctx.set(dut.restart, 1)
            await ctx.tick()
            ctx.set(dut.restart, 0)
            for cycles, pause in zip(run.instructions, run.pauses, strict=True):
                for place, cause in enumerate(cycles):
                    ctx.set(dut.busy, 1)
                    ctx.set(dut.fetching, cause == FETCH)
                    ctx.set(dut.working, cause == WORK)
                    ctx.set(dut.stalled, cause == STALL)
                    ctx.set(dut.waiting, cause == WAIT)
                    ctx.set(dut.done, place == len(cycles) - 1)
                    await ctx.tick()
                for signal in (dut.busy, dut.fetching, dut.working, dut.stalled, dut.waiting, dut.done):
                    ctx.set(signal, 0)
                for _ in range(pause):
                    await ctx.tick()
            assert [ctx.get(getattr(dut, name)) for name in TOTALS] == run.totals()
            for index, entry in list(enumerate(run.log()))[:entries]:
                got = []
                for piece in LogEntry:
                    ctx.set(dut.log_address, index * LOG_PIECES + piece)
                    await ctx.tick().repeat(dut.LOG_LATENCY)
                    got.append(ctx.get(dut.log_data))
                assert tuple(got) == entry, f"entry {index}"

    run_bench(dut, bench, deadline=50_000)


def test_parts_add_up_and_each_instruction_is_logged():
    rng = np.random.default_rng(0)
    check([Run(rng, count) for count in (1, 20, 5)])


def test_log_ends_where_it_is_full():
    check([Run(np.random.default_rng(1), ENTRIES + 30, longest=3)])
    check([Run(np.random.default_rng(1), count) for count in (1, 2)], entries=1)


def test_wrong_count_is_seen():
    run = Run(np.random.default_rng(2), 5)
    run.log = lambda: [(cycles + 1, *rest) for cycles, *rest in Run.log(run)]
    with pytest.raises(AssertionError, match=r"^entry 0"):
        check([run])
