"""The loop nest of an instruction: one array cycle after the other, and the addresses that go with each.

Two stages, so that no counter's carry chain ends in an address adder: :class:`LoopNest` says which loop moves on,
:class:`InputAddress` moves the addresses a cycle later.
"""

from amaranth import Module, Mux, Signal, signed
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
    level : Out(4)
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
        limits = (chunks, i.taps_x, i.taps_y, i.pool_columns, i.pool_rows, i.columns, i.rows, i.groups)
        names = [level.name.lower() for level in Level][: len(limits)]
        left = [Signal(len(limit), name=f"{name}s_left") for limit, name in zip(limits, names, strict=True)]

        running = Signal()
        idle_left = Signal.like(i.idle)
        working = Signal()
        m.d.comb += working.eq(running & (idle_left == 0))

        level = Signal(LEVEL_WIDTH)
        m.d.comb += level.eq(Level.END)
        for index in reversed(range(len(left))):
            with m.If(left[index] != 0):
                m.d.comb += level.eq(index)

        # Between two outputs of a row may lie positions that only shift their taps into the array's history.
        first = Signal(init=1)
        until_output = Signal.like(i.warmup)
        complete = Signal()
        m.d.comb += complete.eq(level >= Level.POOL_X)
        last = Signal()
        m.d.comb += last.eq(complete & (until_output == 0))

        m.d.sync += [
            self.valid.eq(working),
            self.first.eq(first),
            self.last.eq(last),
            self.level.eq(level),
            self.stalled.eq(running & ~working),
        ]
        with m.If(self.start):
            m.d.sync += [running.eq(1), idle_left.eq(0), first.eq(1), until_output.eq(i.warmup)]
            m.d.sync += [counter.eq(limit) for counter, limit in zip(left, limits, strict=True)]
        with m.Elif(working):
            m.d.sync += first.eq(complete)
            for index, counter in enumerate(left):
                with m.If(level == index):
                    m.d.sync += counter.eq(counter - 1)
                with m.Elif(level > index):
                    m.d.sync += counter.eq(limits[index])
            with m.If(level >= Level.ROW):
                m.d.sync += until_output.eq(i.warmup)
            with m.Elif(level == Level.COLUMN):
                m.d.sync += until_output.eq(Mux(until_output == 0, i.emit_every, until_output - 1))
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
        Which lanes lie in the feature map and in a run, one cycle later; the others stand for ``pad_value``.
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

        # Where along the column loop's axis and the row loop's the level moves the window.
        along_x = Signal()
        m.d.comb += along_x.eq(Mux(i.swap_axes, level == Level.ROW, level == Level.COLUMN))

        # Bytes within a feature-map row, where the current group, output, pooled output and tap begin.
        x_shape = signed(len(i.x_first) + 1)
        names = ("group", "output", "pool", "tap", "chunk")
        x_group, x_output, x_pool, x_tap, x = (Signal(x_shape, name=f"x_{name}") for name in names)
        x_next = Signal(x_shape)
        with m.Switch(level):
            with m.Case(Level.CHUNK):
                m.d.comb += x_next.eq(x + self._lanes)
            with m.Case(Level.TAP_X):
                m.d.comb += x_next.eq(x_tap + i.x_tap_step)
            with m.Case(Level.TAP_Y):
                m.d.comb += x_next.eq(x_pool)
            with m.Case(Level.POOL_X):
                m.d.comb += x_next.eq(x_pool + i.x_pool_step)
            with m.Case(Level.POOL_Y):
                m.d.comb += x_next.eq(x_output)
            with m.Case(Level.COLUMN, Level.ROW):
                with m.If(along_x):
                    m.d.comb += x_next.eq(x_output + i.x_column_step)
                with m.Elif(level == Level.COLUMN):
                    m.d.comb += x_next.eq(x_output)
                with m.Else():
                    m.d.comb += x_next.eq(x_group)
            with m.Default():
                m.d.comb += x_next.eq(x_group + i.x_group_step)

        # The feature-map row of the current output, pooled output and tap: its number, and the address of its byte 0.
        y_shape = signed(len(i.y_first) + 1)
        y_output, y_pool, y = (Signal(y_shape, name=f"y_{name}") for name in names[1:4])
        base_output, base_pool, base = (Signal.like(self.address, name=f"base_{name}") for name in names[1:4])
        y_next, base_next = Signal(y_shape), Signal.like(self.address)
        with m.Switch(level):
            with m.Case(Level.CHUNK, Level.TAP_X):
                m.d.comb += [y_next.eq(y), base_next.eq(base)]
            with m.Case(Level.TAP_Y):
                m.d.comb += [y_next.eq(y + i.y_tap_step), base_next.eq(base + i.input_tap_step)]
            with m.Case(Level.POOL_X):
                m.d.comb += [y_next.eq(y_pool), base_next.eq(base_pool)]
            with m.Case(Level.POOL_Y):
                m.d.comb += [y_next.eq(y_pool + i.y_pool_step), base_next.eq(base_pool + i.input_pool_step)]
            with m.Case(Level.COLUMN, Level.ROW):
                with m.If(~along_x):
                    m.d.comb += [y_next.eq(y_output + i.y_row_step), base_next.eq(base_output + i.input_row_step)]
                with m.Elif(level == Level.COLUMN):
                    m.d.comb += [y_next.eq(y_output), base_next.eq(base_output)]
                with m.Else():
                    m.d.comb += [y_next.eq(i.y_first), base_next.eq(i.input_base)]
            with m.Default():
                m.d.comb += [y_next.eq(i.y_first), base_next.eq(i.input_base)]

        left = Signal.like(i.run)
        word_group, word = Signal.like(self.weight_address), Signal.like(self.weight_address)
        m.d.comb += self.weight_address.eq(word)

        with m.If(self.start):
            m.d.sync += [register.eq(i.x_first) for register in (x_group, x_output, x_pool, x_tap, x)]
            m.d.sync += [register.eq(i.y_first) for register in (y_output, y_pool, y)]
            m.d.sync += [register.eq(i.input_base) for register in (base_output, base_pool, base)]
            m.d.sync += [register.eq(i.weight_base) for register in (word_group, word)]
            m.d.sync += left.eq(i.run)
        with m.Elif(self.valid):
            m.d.sync += [x.eq(x_next), y.eq(y_next), base.eq(base_next)]
            m.d.sync += left.eq(Mux(level == Level.CHUNK, left - self._lanes, i.run))
            with m.If(level >= Level.TAP_X):
                m.d.sync += x_tap.eq(x_next)
            with m.If(level >= Level.POOL_X):
                m.d.sync += [x_pool.eq(x_next), y_pool.eq(y_next), base_pool.eq(base_next)]
            with m.If(level >= Level.COLUMN):
                m.d.sync += [x_output.eq(x_next), y_output.eq(y_next), base_output.eq(base_next)]
            with m.If(level >= Level.GROUP):
                m.d.sync += x_group.eq(x_next)

            m.d.sync += word.eq(word + 1)
            with m.If(i.weights_per_tap):
                with m.If(level >= Level.TAP_X):
                    m.d.sync += word.eq(word_group)
            with m.Elif(level == Level.GROUP):
                m.d.sync += word_group.eq(word + 1)
            with m.Elif(level >= Level.POOL_X):
                m.d.sync += word.eq(word_group)

        # Lanes from −x up to row_bytes − x lie in the feature map, lanes up to `left` in the run. With paired rows, the
        # lanes after the run's are those of the next row.
        ahead = Signal(x_shape)
        m.d.comb += ahead.eq(i.row_bytes - x)
        # Each comparison is one of a number's low bits, and says of the others only whether they are all alike.
        low, in_run = _log2(self._lanes), Signal(self._lanes)
        far_before, far_from_end, far_from_last = ~x[low:].all(), ahead[low:-1].any(), left[low:].any()
        for lane in range(self._lanes):
            begun = ~x[-1] | (~far_before & (x[:low] > self._lanes - 1 - lane))
            inside = ~ahead[-1] & (far_from_end | (ahead[:low] > lane))
            m.d.comb += in_run[lane].eq(begun & inside & (far_from_last | (left[:low] >= lane)))
        in_rows = (y >= 0) & (y < i.input_rows)
        in_next_row = (y >= -1) & (y + 1 < i.input_rows) & i.paired_rows
        run = (i.run + 1)[: _log2(self._lanes) + 1]
        m.d.sync += [
            self.address.eq(base + x),
            self.mask.eq(Mux(in_rows, in_run, 0) | Mux(in_next_row, in_run << run, 0)),
        ]
        return m
