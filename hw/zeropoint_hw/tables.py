"""The tables: any function of a byte, looked up in what the requantizers give."""

from collections.abc import Sequence

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import TABLE_ENTRIES
from zeropoint_hw.layout import LEVEL_WIDTH, InstructionLayout, delay


class Tables(wiring.Component):
    """Replaces each result by the entry of the instruction's table that it numbers, ``LATENCY`` cycles later.

    Results of instructions without a table pass as they are, at once. Every requantizer has a memory of its own.

    Parameters
    ----------
    config
        Gives the tables, of which there must be any, and the requantizers.
    rom
        The tables' entries one after the other where the memory is not writable, else None.

    Members
    -------
    instruction : In(InstructionLayout)
        Says which table; held still.
    announced, ending, beat, beat_level, beat_pools, results : In
        The announcements of a beat and of the last one, and a beat of results, as the requantizers give them.
    looked_up_announced, looked_up_ending, result_beat, result_level, result_pools, looked_up : Out
        The same, looked up.
    write_address : In
        Entry to write; absent, like the others, where ``rom`` is given.
    write_data : In(8)
        What it becomes.
    write_enable : In(1)
        Writes it.
    """

    LATENCY = 2

    def __init__(self, config: AcceleratorConfig, rom: Sequence[int] | None = None) -> None:
        self._config, self._rom = config, rom
        self._entries = config.tables * TABLE_ENTRIES
        results = data.ArrayLayout(8, config.requantizers)
        members = {
            "instruction": In(InstructionLayout),
            "announced": In(1),
            "looked_up_announced": Out(1),
            "ending": In(1),
            "looked_up_ending": Out(1),
            "beat": In(1),
            "beat_level": In(LEVEL_WIDTH),
            "beat_pools": In(1),
            "results": In(results),
            "result_beat": Out(1),
            "result_level": Out(LEVEL_WIDTH),
            "result_pools": Out(1),
            "looked_up": Out(results),
        }
        if rom is None:
            members |= {"write_address": In(range(self._entries)), "write_data": In(8), "write_enable": In(1)}
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        number = self.instruction.table
        image = [] if self._rom is None else [int(entry) for entry in self._rom]
        first = Signal(range(self._entries))
        m.d.comb += first.eq((number - 1) * TABLE_ENTRIES)
        for index, result in enumerate(self.results):
            storage = memory.Memory(shape=8, depth=self._entries, init=image)
            m.submodules[f"table{index}"] = storage
            read = storage.read_port()
            m.d.comb += [read.addr.eq(first | result), read.en.eq(1)]
            if self._rom is None:
                write = storage.write_port()
                m.d.comb += [
                    write.addr.eq(self.write_address),
                    write.data.eq(self.write_data),
                    write.en.eq(self.write_enable),
                ]
            entry = delay(m, read.data, self.LATENCY - 1, f"entry{index}")
            m.d.comb += self.looked_up[index].eq(Mux(number == 0, result, entry))
        tag = Cat(self.announced, self.ending, self.beat, self.beat_level, self.beat_pools)
        late_tag = delay(m, tag, self.LATENCY, "tag")
        result_tag = Cat(self.result_beat, self.result_level, self.result_pools)
        looked_up_tag = Cat(self.looked_up_announced, self.looked_up_ending, result_tag)
        m.d.comb += looked_up_tag.eq(Mux(number == 0, tag, late_tag))
        return m
