"""The loop nest of an instruction: one array cycle after the other, and the addresses that go with each.

Two stages, so that no counter's carry chain ends in an address adder: :class:`LoopNest` says which loop moves on,
:class:`InputAddress` moves the addresses a cycle later.
"""

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.layout import LEVEL_WIDTH, InstructionLayout, Level


def _log2(value: int) -> int:
    return value.bit_length() - 1


class LoopNest(wiring.Component):
    """Counts through an instruction's loops.

    From the second cycle after ``start``, ``valid`` is asserted for each array cycle, without gaps but for
    ``instruction.idle`` cycles after each output; ``level`` says which loop moves on afterwards, ``Level.END`` being
    the last. ``start`` must not be asserted again before that.

    Parameters
    ----------
    config
        Gives the lanes.

    Members
    -------
    instruction : In(InstructionLayout)
        Held still from ``start`` to the last cycle.
    start : In(1)
        Starts the loops.
    valid : Out(1)
        An array cycle.
    first, last : Out(1)
        The output's first and last array cycle.
    level : Out(3)
        The loop that moves on (``Level``).
    stalled : Out(1)
        An idle cycle.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._lane_bits = _log2(config.lanes)
        super().__init__(
            {
                "instruction": In(InstructionLayout),
                "start": In(1),
                "valid": Out(1),
                "first": Out(1),
                "last": Out(1),
                "level": Out(LEVEL_WIDTH),
                "stalled": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        i = self.instruction
        chunks = i.run[self._lane_bits :]
        limits = (chunks, i.taps_x, i.taps_y, i.columns, i.rows, i.groups)
        names = ("chunk", "tap_x", "tap_y", "column", "row", "group")
        left = [Signal(len(limit), name=f"{name}s_left") for limit, name in zip(limits, names, strict=True)]
        at_end = [counter == 0 for counter in left]

        running = Signal()
        idle_left = Signal.like(i.idle)
        first = Signal(init=1)
        working = Signal()
        m.d.comb += working.eq(running & (idle_left == 0))

        level = Signal(LEVEL_WIDTH)
        m.d.comb += level.eq(Level.END)
        for index in reversed(range(len(left))):
            with m.If(~at_end[index]):
                m.d.comb += level.eq(index)
        last = Signal()
        m.d.comb += last.eq(level >= Level.COLUMN)

        m.d.sync += [
            self.valid.eq(working),
            self.first.eq(first),
            self.last.eq(last),
            self.level.eq(level),
            self.stalled.eq(running & ~working),
        ]
        with m.If(self.start):
            m.d.sync += [running.eq(1), idle_left.eq(0), first.eq(1)]
            m.d.sync += [counter.eq(limit) for counter, limit in zip(left, limits, strict=True)]
        with m.Elif(working):
            m.d.sync += first.eq(last)
            for index, counter in enumerate(left):
                with m.If(level == index):
                    m.d.sync += counter.eq(counter - 1)
                with m.Elif(level > index):
                    m.d.sync += counter.eq(limits[index])
            with m.If(level == Level.END):
                m.d.sync += running.eq(0)
            with m.Elif(last):
                m.d.sync += idle_left.eq(i.idle)
        with m.Elif(running):
            m.d.sync += idle_left.eq(idle_left - 1)
        return m


class InputAddress(wiring.Component):
    """The addresses of each array cycle: activations, which of the lanes hold any, and weights.

    The weight address comes in the array cycle itself, the activation address and the lane mask ``LATENCY`` cycles
    later.

    Parameters
    ----------
    config
        Gives the lanes and the memories' sizes.

    Members
    -------
    instruction : In(InstructionLayout)
        Held still.
    start : In(1)
        Loads the first addresses.
    valid, level : In
        An array cycle, as :class:`LoopNest` gives it.
    weight_address : Out
        Word of the weight memory, in the cycle of ``valid`` itself.
    address : Out
        Byte address of lane 0's activation, one cycle later.
    mask : Out(lanes)
        Which lanes lie in the feature map and in the run, one cycle later; the others stand for ``pad_value``.
    """

    LATENCY = 1

    def __init__(self, config: AcceleratorConfig) -> None:
        self._lanes = config.lanes
        super().__init__(
            {
                "instruction": In(InstructionLayout),
                "start": In(1),
                "valid": In(1),
                "level": In(LEVEL_WIDTH),
                "weight_address": Out(range(config.weight_words)),
                "address": Out(range(config.activation_bytes)),
                "mask": Out(config.lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        i = self.instruction
        level = self.level

        # Bytes within a feature-map row, where the current group, output column and tap begin.
        x_shape = signed(len(i.x_first) + 1)
        x_group, x_column, x_tap, x = (
            Signal(x_shape, name=f"x_{name}") for name in ("group", "column", "tap", "chunk")
        )
        x_next = Signal(x_shape)
        with m.Switch(level):
            with m.Case(Level.CHUNK):
                m.d.comb += x_next.eq(x + self._lanes)
            with m.Case(Level.TAP_X):
                m.d.comb += x_next.eq(x_tap + i.x_tap_step)
            with m.Case(Level.TAP_Y):
                m.d.comb += x_next.eq(x_column)
            with m.Case(Level.COLUMN):
                m.d.comb += x_next.eq(x_column + i.x_column_step)
            with m.Case(Level.ROW):
                m.d.comb += x_next.eq(x_group)
            with m.Default():
                m.d.comb += x_next.eq(x_group + i.x_group_step)

        # The feature-map row of the current output row and tap: its number, and the address of its byte 0.
        y_shape = signed(len(i.y_first) + 1)
        y_row, y = Signal(y_shape), Signal(y_shape)
        base_row, base = Signal.like(self.address), Signal.like(self.address)
        left = Signal.like(i.run)
        word_group, word = Signal.like(self.weight_address), Signal.like(self.weight_address)
        m.d.comb += self.weight_address.eq(word)

        with m.If(self.start):
            m.d.sync += [register.eq(i.x_first) for register in (x_group, x_column, x_tap, x)]
            m.d.sync += [register.eq(i.y_first) for register in (y_row, y)]
            m.d.sync += [register.eq(i.input_base) for register in (base_row, base)]
            m.d.sync += [register.eq(i.weight_base) for register in (word_group, word)]
            m.d.sync += left.eq(i.run)
        with m.Elif(self.valid):
            m.d.sync += [x.eq(x_next), left.eq(Mux(level == Level.CHUNK, left - self._lanes, i.run))]
            with m.If(level >= Level.TAP_X):
                m.d.sync += x_tap.eq(x_next)
            with m.If(level >= Level.COLUMN):
                m.d.sync += x_column.eq(x_next)
            with m.If(level >= Level.GROUP):
                m.d.sync += x_group.eq(x_next)

            with m.Switch(level):
                with m.Case(Level.CHUNK, Level.TAP_X):
                    pass
                with m.Case(Level.TAP_Y):
                    m.d.sync += [y.eq(y + i.y_tap_step), base.eq(base + i.input_tap_step)]
                with m.Case(Level.COLUMN):
                    m.d.sync += [y.eq(y_row), base.eq(base_row)]
                with m.Case(Level.ROW):
                    m.d.sync += [register.eq(y_row + i.y_row_step) for register in (y_row, y)]
                    m.d.sync += [register.eq(base_row + i.input_row_step) for register in (base_row, base)]
                with m.Default():
                    m.d.sync += [register.eq(i.y_first) for register in (y_row, y)]
                    m.d.sync += [register.eq(i.input_base) for register in (base_row, base)]

            m.d.sync += word.eq(word + 1)
            with m.If(i.weights_per_tap):
                with m.If(level >= Level.TAP_X):
                    m.d.sync += word.eq(word_group)
            with m.Else():
                with m.If((level == Level.COLUMN) | (level == Level.ROW)):
                    m.d.sync += word.eq(word_group)
                with m.Elif(level == Level.GROUP):
                    m.d.sync += word_group.eq(word + 1)

        # Lanes from −x up to row_bytes − x lie in the feature map, lanes up to `left` in the run.
        ahead = Signal(x_shape)
        m.d.comb += ahead.eq(i.row_bytes - x)
        in_rows = (y >= 0) & (y < i.input_rows)
        mask = [in_rows & (x >= -lane) & (ahead > lane) & (left >= lane) for lane in range(self._lanes)]
        m.d.sync += [self.address.eq(base + x), self.mask.eq(Cat(*mask))]
        return m
