"""The writer: where in activation memory each beat of results goes."""

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.layout import InstructionLayout, Level, chosen


class Writer(wiring.Component):
    """Counts addresses and channels along with the beats, one a cycle, combinationally.

    Members
    -------
    instruction : In(InstructionLayout)
        Held still.
    start : In(1)
        Loads the first address.
    beat_at : In(10)
        A beat of results: the bit of the level whose loop moves on after it. 0 without a beat.
    address : Out
        Where the beat's first byte goes.
    count : Out
        How many of the beat's bytes are written: 0 without a beat, and fewer than all at the last channels.
    done : Out(1)
        The instruction's last beat.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._beat_bytes, self._count_width = config.requantizers, config.count_width
        super().__init__(
            {
                "instruction": In(InstructionLayout),
                "start": In(1),
                "beat_at": In(len(Level)),
                "address": Out(range(config.memory_elements)),
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
        # Of beats beyond the last channel, which may follow it within a group, none is written.
        left_shape = signed(self._count_width + 1)
        group_left, left = (Signal(left_shape, name=name) for name in ("group_left", "left"))
        m.d.comb += [self.address.eq(beat), self.done.eq(self.beat_at[Level.END])]
        whole_beats = left >> self._beat_bytes.bit_length() - 1
        with m.If(self.beat_at.any() & (left > 0)):
            m.d.comb += self.count.eq(Mux(whole_beats != 0, self._beat_bytes, left))

        # What moves on is one of the registers plus a step, and whatever begins anew there moves with it.
        at, following = self.beat_at, Signal.like(self.address)
        onward = at[Level.CHUNK] | at[Level.END]
        origin = chosen(
            (self.start, i.output_base),
            (at[Level.COLUMN], column),
            (at[Level.ROW], row),
            (at[Level.GROUP], group),
            (onward, beat),
        )
        step = chosen(
            (at[Level.COLUMN], i.output_column_step),
            (at[Level.ROW], i.output_row_step),
            (at[Level.GROUP], i.output_group_step),
            (onward, self._beat_bytes),
        )
        m.d.comb += following.eq(origin + step)
        for register, levels in (
            (beat, [Level.CHUNK, Level.COLUMN, Level.ROW, Level.GROUP, Level.END]),
            (column, [Level.COLUMN, Level.ROW, Level.GROUP]),
            (row, [Level.ROW, Level.GROUP]),
            (group, [Level.GROUP]),
        ):
            with m.If(self.start | Cat(at[level] for level in levels).any()):
                m.d.sync += register.eq(following)

        after = Signal(left_shape)
        m.d.comb += after.eq(left - self._beat_bytes)
        with m.If(self.start):
            m.d.sync += [register.eq(i.output_channels) for register in (group_left, left)]
        with m.Elif(at[Level.COLUMN] | at[Level.ROW]):
            m.d.sync += left.eq(group_left)
        with m.Elif(at.any()):
            m.d.sync += left.eq(after)
            with m.If(at[Level.GROUP]):
                m.d.sync += group_left.eq(after)
        return m
