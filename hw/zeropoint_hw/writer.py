"""The writer: where in activation memory each beat of results goes."""

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.layout import LEVEL_WIDTH, InstructionLayout, Level


class Writer(wiring.Component):
    """Counts addresses and channels along with the beats, one a cycle, combinationally.

    Members
    -------
    instruction : In(InstructionLayout)
        Held still.
    start : In(1)
        Loads the first address.
    beat, beat_level : In
        A beat of results, and the loop that moves on after it.
    address : Out
        Where the beat's first byte goes.
    count : Out
        How many of the beat's bytes are written: 0 without a beat, and fewer than all at the last channels.
    done : Out(1)
        The instruction's last beat.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._beat_bytes = config.requantizers
        super().__init__(
            {
                "instruction": In(InstructionLayout),
                "start": In(1),
                "beat": In(1),
                "beat_level": In(LEVEL_WIDTH),
                "address": Out(range(config.activation_bytes)),
                "count": Out(range(config.requantizers + 1)),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        i = self.instruction
        group, row, column, beat = (
            Signal.like(self.address, name=name) for name in ("group", "row", "column", "beat_")
        )
        group_left, left = Signal.like(i.output_channels), Signal.like(i.output_channels)
        m.d.comb += [self.address.eq(beat), self.done.eq(self.beat & (self.beat_level == Level.END))]
        with m.If(self.beat):
            m.d.comb += self.count.eq(Mux(left < self._beat_bytes, left, self._beat_bytes))

        after = Signal.like(left)
        m.d.comb += after.eq(Mux(left < self._beat_bytes, 0, left - self._beat_bytes))
        with m.If(self.start):
            m.d.sync += [register.eq(i.output_base) for register in (group, row, column, beat)]
            m.d.sync += [register.eq(i.output_channels) for register in (group_left, left)]
        with m.Elif(self.beat):
            with m.Switch(self.beat_level):
                with m.Case(Level.COLUMN):
                    m.d.sync += [register.eq(column + i.output_column_step) for register in (column, beat)]
                    m.d.sync += left.eq(group_left)
                with m.Case(Level.ROW):
                    m.d.sync += [register.eq(row + i.output_row_step) for register in (row, column, beat)]
                    m.d.sync += left.eq(group_left)
                with m.Case(Level.GROUP):
                    m.d.sync += [register.eq(group + i.output_group_step) for register in (group, row, column, beat)]
                    m.d.sync += [register.eq(after) for register in (group_left, left)]
                with m.Default():
                    m.d.sync += [beat.eq(beat + self._beat_bytes), left.eq(after)]
        return m
