"""The counters: where the cycles of a program went, and of each of its instructions."""

from amaranth import Module, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.isa import LOG_PIECES, LogEntry

_WORD = 32


class Counters(wiring.Component):
    """Counts cycles by what they were spent on; the parts add up to the whole.

    Parameters
    ----------
    entries
        Instructions that are logged, the first ones of a run; with 0 only ``cycles`` are counted, all else reads 0.

    Members
    -------
    restart : In(1)
        Clears all counters; the program begins in the next cycle.
    busy : In(1)
        The sequencer is at work.
    fetching, working, stalled, waiting : In(1)
        It fetches; the array is fed; the array waits for the drain; or for a memory. All other busy cycles wait for
        last outputs.
    done : In(1)
        An instruction's last cycle.
    cycles, busy_cycles, stall_drain, stall_fetch, stall_flush, stall_memory, instructions : Out(32)
        Counts since ``restart``.
    log_address : In
        ``entry · LOG_PIECES + LogEntry``.
    log_data : Out(32)
        What the log holds there, ``LOG_LATENCY`` cycles later; of an instruction from the second cycle after its
        ``done``.
    """

    LOG_LATENCY = 2

    def __init__(self, entries: int) -> None:
        self._entries = entries
        causes = ("fetching", "working", "stalled", "waiting")
        counts = ("cycles", "busy_cycles", "stall_drain", "stall_fetch", "stall_flush", "stall_memory", "instructions")
        super().__init__(
            {
                **{name: In(1) for name in ("restart", "busy", *causes, "done")},
                **{name: Out(_WORD) for name in counts},
                "log_address": In(range(max(entries, 1) * LOG_PIECES)),
                "log_data": Out(_WORD),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        flushing = self.busy & ~(self.fetching | self.working | self.stalled | self.waiting)
        totals = [(self.cycles, self.busy)]
        if self._entries:
            totals += [
                (self.busy_cycles, self.working),
                (self.stall_drain, self.stalled),
                (self.stall_fetch, self.fetching),
                (self.stall_flush, flushing),
                (self.stall_memory, self.waiting),
                (self.instructions, self.done),
            ]
        for total, event in totals:
            with m.If(self.restart):
                m.d.sync += total.eq(0)
            with m.Elif(event):
                m.d.sync += total.eq(total + 1)
        if not self._entries:
            return m

        # An entry is what the totals are after its instruction; differences are left to who reads them.
        entry = Signal(data.ArrayLayout(_WORD, LOG_PIECES))
        for index, total in {
            LogEntry.CYCLES: self.cycles,
            LogEntry.BUSY: self.busy_cycles,
            LogEntry.STALL_DRAIN: self.stall_drain,
            LogEntry.STALL_MEMORY: self.stall_memory,
        }.items():
            m.d.comb += entry[index].eq(total)
        number, ended = Signal.like(self.instructions), Signal()
        m.d.sync += [number.eq(self.instructions), ended.eq(self.done)]

        m.submodules.log = log = memory.Memory(shape=_WORD * LOG_PIECES, depth=self._entries, init=[])
        write, read = log.write_port(), log.read_port()
        piece_bits = (LOG_PIECES - 1).bit_length()
        piece = Signal(piece_bits)
        m.d.comb += [
            write.addr.eq(number),
            write.data.eq(entry),
            write.en.eq(ended & (number < self._entries)),
            read.addr.eq(self.log_address[piece_bits:]),
            read.en.eq(1),
        ]
        m.d.sync += [piece.eq(self.log_address[:piece_bits]), self.log_data.eq(read.data.word_select(piece, _WORD))]
        return m
