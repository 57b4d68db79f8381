"""The writer: where in activation memory each beat of results goes."""

from amaranth import Module, Mux, Signal, signed
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
        self._beat_bytes, self._count_width = config.requantizers, config.count_width
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
        # Of beats beyond the last channel, which may follow it within a group, none is written.
        left_shape = signed(self._count_width + 1)
        group_left, left = Signal(left_shape), Signal(left_shape)
        m.d.comb += [self.address.eq(beat), self.done.eq(self.beat & (self.beat_level == Level.END))]
        whole_beats = left >> self._beat_bytes.bit_length() - 1
        with m.If(self.beat & (left > 0)):
            m.d.comb += self.count.eq(Mux(whole_beats != 0, self._beat_bytes, left))

        # What moves on is one of the registers plus a step, and whatever begins anew there moves with it.
        origin, step, following = (Signal.like(self.address) for _ in range(3))
        with m.Switch(self.beat_level):
            with m.Case(Level.COLUMN):
                m.d.comb += [origin.eq(column), step.eq(i.output_column_step)]
            with m.Case(Level.ROW):
                m.d.comb += [origin.eq(row), step.eq(i.output_row_step)]
            with m.Case(Level.GROUP):
                m.d.comb += [origin.eq(group), step.eq(i.output_group_step)]
            with m.Default():
                m.d.comb += [origin.eq(beat), step.eq(self._beat_bytes)]
        m.d.comb += following.eq(Mux(self.start, i.output_base, origin + step))
        after = Signal(left_shape)
        m.d.comb += after.eq(left - self._beat_bytes)
        outer = self.beat_level == Level.GROUP
        with m.If(self.start | self.beat):
            m.d.sync += beat.eq(following)
            for register, levels in (
                (column, (Level.COLUMN, Level.ROW, Level.GROUP)),
                (row, (Level.ROW, Level.GROUP)),
                (group, (Level.GROUP,)),
            ):
                with m.If(self.start | self.beat_level.matches(*levels)):
                    m.d.sync += register.eq(following)
            with m.If(self.start):
                m.d.sync += [register.eq(i.output_channels) for register in (group_left, left)]
            with m.Elif(self.beat_level.matches(Level.COLUMN, Level.ROW)):
                m.d.sync += left.eq(group_left)
            with m.Else():
                m.d.sync += left.eq(after)
                with m.If(outer):
                    m.d.sync += group_left.eq(after)
        return m
