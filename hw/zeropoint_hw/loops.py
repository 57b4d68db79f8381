"""The loop nest of an instruction: one array cycle after the other, and the addresses that go with each.

Two stages, so that no counter's carry chain ends in an address adder: :class:`LoopNest` says which loop moves on,
:class:`InputAddress` moves the addresses a cycle later.
"""

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.layout import LEVEL_WIDTH, InstructionLayout, Level, chosen


def _log2(value: int) -> int:
    return value.bit_length() - 1


class LoopNest(wiring.Component):
    """Counts through an instruction's loops.

    From the second cycle after ``start``, ``valid`` is asserted for each array cycle, without gaps but for
    ``instruction.idle`` cycles after each output, and where it is held; ``level`` says which loop moves on afterwards,
    ``Level.END`` being the last. ``start`` must not be asserted again before that.

    Parameters
    ----------
    config
        Gives the lanes, and how far to count.

    Members
    -------
    instruction : In(InstructionLayout)
        Held still from ``start`` to the last cycle.
    start : In(1)
        Starts the loops.
    hold : In(1)
        There is no array cycle in the next cycle.
    issues, again, onward : Out(1)
        There is one; the one after it takes the group's first weights again; it takes the next group's.
    moves, at : Out(10)
        In an array cycle, and the one before the first: bit ``l`` says whether a loop of level ``l`` or further out
        moves on, and whether it is that of level ``l``. ``moves`` is 0 in other cycles, where ``at`` is not defined.
    valid : Out(1)
        An array cycle.
    first, last : Out(1)
        The output's first and last array cycle.
    level : Out(4)
        The loop that moves on (``Level``).
    stalled, waiting : Out(1)
        An idle cycle; one that would be an array cycle but for ``hold``.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._lane_bits, self._count_width, self._idle_bits = _log2(config.lanes), config.count_width, config.idle_bits
        self._tap_width, self._pools = config.tap_width, config.max_pooling
        super().__init__(
            {
                "instruction": In(InstructionLayout),
                "start": In(1),
                "hold": In(1),
                "issues": Out(1),
                "again": Out(1),
                "onward": Out(1),
                "moves": Out(len(Level)),
                "at": Out(len(Level)),
                "valid": Out(1),
                "first": Out(1),
                "last": Out(1),
                "level": Out(LEVEL_WIDTH),
                "stalled": Out(1),
                "waiting": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        i = self.instruction
        chunks = i.run[self._lane_bits :]
        chunks, columns, rows, groups = (count[: self._count_width] for count in (chunks, i.columns, i.rows, i.groups))
        taps_x, taps_y = (count[: self._tap_width] for count in (i.taps_x, i.taps_y))
        limits = (chunks, taps_x, taps_y, i.pool_columns, i.pool_rows, columns, rows, groups)
        names = [level.name.lower() for level in Level][: len(limits)]
        left = [Signal(len(limit), name=f"{name}s_left") for limit, name in zip(limits, names, strict=True)]
        # Without max pooling there are no loops over its windows.
        absent = () if self._pools else (Level.POOL_X, Level.POOL_Y)
        counted = [index for index in range(len(left)) if index not in absent]

        running = Signal()
        idle_cycles = i.idle[: self._idle_bits]
        idle_left = Signal.like(idle_cycles)
        idle, working = Signal(), Signal()
        m.d.comb += [idle.eq(idle_left != 0), working.eq(running & ~idle & ~self.hold)]

        # The innermost loop with turns left moves on. The addresses get a bit for each level, and need not decode it;
        # bit `l` of `reaches` is set where all loops inside level `l` end.
        remains, reaches, at = Signal(len(left)), Signal(len(left) + 1), Signal(len(left) + 1)
        m.d.comb += [
            remains.eq(Cat(counter != 0 for counter in left)),
            reaches.eq(Cat(~remains[:index].any() for index in range(len(left) + 1))),
            at.eq(reaches & Cat(remains, 1)),
        ]
        level = Signal(LEVEL_WIDTH)
        m.d.comb += level.eq(Level.END)
        for index in reversed(range(len(left))):
            with m.If(remains[index]):
                m.d.comb += level.eq(index)

        # Between two outputs of a row may lie positions that only shift their taps into the array's history.
        first = Signal(init=1)
        until_output = Signal.like(i.warmup)
        complete = Signal()
        m.d.comb += complete.eq(reaches[Level.POOL_X])
        last = Signal()
        m.d.comb += last.eq(complete & (until_output == 0))

        # As the address of weights moves.
        m.d.comb += [
            self.issues.eq(working),
            self.onward.eq((at[Level.GROUP] | at[Level.END]) & ~i.weights_per_tap),
            self.again.eq(Mux(i.weights_per_tap, reaches[Level.TAP_X], complete & ~self.onward)),
        ]
        m.d.sync += [
            self.moves.eq(Mux(working, reaches, 0)),
            self.at.eq(at),
            self.valid.eq(working),
            self.first.eq(first),
            self.last.eq(last),
            self.level.eq(level),
            self.stalled.eq(running & idle),
            self.waiting.eq(running & ~idle & self.hold),
        ]
        with m.If(self.start):
            m.d.sync += [self.moves.eq(~0), self.at.eq(1 << Level.BEGIN)]
            m.d.sync += [running.eq(1), idle_left.eq(0), first.eq(1), until_output.eq(i.warmup)]
            m.d.sync += [left[index].eq(limits[index]) for index in counted]
        with m.Elif(working):
            m.d.sync += first.eq(complete)
            for index in counted:
                with m.If(reaches[index]):
                    m.d.sync += left[index].eq(Mux(remains[index], left[index] - 1, limits[index]))
            with m.If(reaches[Level.ROW]):
                m.d.sync += until_output.eq(i.warmup)
            with m.Elif(at[Level.COLUMN]):
                m.d.sync += until_output.eq(Mux(until_output == 0, i.emit_every, until_output - 1))
            with m.If(at[Level.END]):
                m.d.sync += running.eq(0)
            with m.Elif(last):
                m.d.sync += idle_left.eq(idle_cycles)
        with m.Elif(idle):
            m.d.sync += idle_left.eq(idle_left - 1)
        return m


class InputAddress(wiring.Component):
    """The addresses of each array cycle: activations, which of the lanes hold any, and weights.

    The weight address comes in the array cycle itself, the activation address ``LATENCY`` cycles and the lane mask
    ``MASK_LATENCY`` cycles later.

    Parameters
    ----------
    config
        Gives the lanes and the memories' sizes.

    Members
    -------
    instruction : In(InstructionLayout)
        Held still until the last mask is out.
    moves, at : In
        As :class:`LoopNest` gives them.
    weight_address : Out
        Word of the weight memory, in the cycle of ``valid`` itself.
    group_address : Out
        The group's first word; after the instruction's last group, the word that follows.
    fetch, fetch_address : In
        Instead of an activation, something else is read from the memory: a cycle without ``valid``.
    address : Out
        Byte address of lane 0's activation, or of what is fetched.
    mask : Out(lanes)
        Which lanes lie in the feature map and in a run; the others stand for ``pad_value``.
    """

    LATENCY = 1
    MASK_LATENCY = 3

    def __init__(self, config: AcceleratorConfig) -> None:
        self._lanes = config.lanes
        self._place_width, self._row_width = config.place_width, config.row_width
        super().__init__(
            {
                "instruction": In(InstructionLayout),
                "moves": In(len(Level)),
                "at": In(len(Level)),
                "weight_address": Out(range(config.weight_words)),
                "group_address": Out(range(config.weight_words)),
                "fetch": In(1),
                "fetch_address": In(range(config.memory_elements)),
                "address": Out(range(config.memory_elements)),
                "mask": Out(config.lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        i = self.instruction
        moves, at = self.moves, self.at

        # Where along the column loop's axis and the row loop's the window moves: the outer one, or the inner one.
        inner_x, outer_x = at[Level.COLUMN] & ~i.swap_axes, at[Level.ROW] & i.swap_axes
        inner_y, outer_y = at[Level.COLUMN] & i.swap_axes, at[Level.ROW] & ~i.swap_axes

        # Bytes within a feature-map row, where the current group, output, pooled output and tap begin; and where it
        # moves on: one of these plus a step.
        x_shape = signed(self._place_width)
        names = ("group", "output", "pool", "tap", "chunk")
        x_group, x_output, x_pool, x_tap, x = (Signal(x_shape, name=f"x_{name}") for name in names)
        x_next = Signal(x_shape)
        x_from = chosen(
            (at[Level.CHUNK], x),
            (at[Level.TAP_X], x_tap),
            (at[Level.TAP_Y] | at[Level.POOL_X], x_pool),
            (at[Level.POOL_Y] | at[Level.COLUMN] | outer_x, x_output),
            (outer_y | at[Level.GROUP], x_group),
            (at[Level.BEGIN], i.x_first),
        )
        x_step = chosen(
            (at[Level.CHUNK], self._lanes),
            (at[Level.TAP_X], i.x_tap_step),
            (at[Level.POOL_X], i.x_pool_step),
            (inner_x | outer_x, i.x_column_step),
            (at[Level.GROUP], i.x_group_step),
        )
        m.d.comb += x_next.eq(x_from + x_step)

        # The feature-map row of the current output, pooled output and tap: its number, and the address of its byte 0.
        y_shape = signed(self._row_width)
        y_output, y_pool, y = (Signal(y_shape, name=f"y_{name}") for name in names[1:4])
        base_output, base_pool, base = (Signal.like(self.address, name=f"base_{name}") for name in names[1:4])
        y_next, base_next = Signal(y_shape), Signal.like(self.address)
        for following, tap, pool, output, first, tap_step, pool_step, row_step in (
            (y_next, y, y_pool, y_output, i.y_first, i.y_tap_step, i.y_pool_step, i.y_row_step),
            (
                *(base_next, base, base_pool, base_output, i.input_base),
                *(i.input_tap_step, i.input_pool_step, i.input_row_step),
            ),
        ):
            origin = chosen(
                (at[Level.TAP_Y], tap),
                (at[Level.POOL_X] | at[Level.POOL_Y], pool),
                (at[Level.COLUMN] | outer_y, output),
                (outer_x | at[Level.GROUP] | at[Level.BEGIN], first),
            )
            step = chosen((at[Level.TAP_Y], tap_step), (at[Level.POOL_Y], pool_step), (inner_y | outer_y, row_step))
            m.d.comb += following.eq(origin + step)

        left = Signal(min(len(i.run), self._place_width))
        word_group, word = (Signal.like(self.weight_address, name=name) for name in ("word_group", "word"))
        m.d.comb += [self.weight_address.eq(word), self.group_address.eq(word_group)]

        # Whatever begins anew at this level moves to the place that is next.
        for level, registers in (
            (Level.CHUNK, [(x, x_next)]),
            (Level.TAP_X, [(x_tap, x_next)]),
            (Level.TAP_Y, [(y, y_next), (base, base_next)]),
            (Level.POOL_X, [(x_pool, x_next), (y_pool, y_next), (base_pool, base_next)]),
            (Level.COLUMN, [(x_output, x_next), (y_output, y_next), (base_output, base_next)]),
            (Level.GROUP, [(x_group, x_next)]),
        ):
            with m.If(moves[level]):
                m.d.sync += [register.eq(value) for register, value in registers]
        with m.If(moves[Level.CHUNK]):
            m.d.sync += left.eq(Mux(at[Level.CHUNK], left - self._lanes, i.run))
            m.d.sync += word.eq(word + 1)
            with m.If(at[Level.BEGIN]):
                m.d.sync += [register.eq(i.weight_base) for register in (word_group, word)]
            with m.Elif(i.weights_per_tap):
                with m.If(moves[Level.TAP_X]):
                    m.d.sync += word.eq(word_group)
            with m.Elif(at[Level.GROUP] | at[Level.END]):
                m.d.sync += word_group.eq(word + 1)
            with m.Elif(moves[Level.POOL_X]):
                m.d.sync += word.eq(word_group)

        m.d.sync += self.address.eq(Mux(self.fetch, self.fetch_address, base + x))

        # Lanes from −x up to row_bytes − x lie in the feature map, lanes up to `left` in the run. Each comparison is of
        # a number's low bits, and asks of the others only whether they are all alike.
        lanes, low = range(self._lanes), _log2(self._lanes)
        # No more is needed of a row's bytes and a map's rows than of places and numbers.
        row_bytes, input_rows = i.row_bytes[: self._place_width], i.input_rows[: self._row_width]
        ahead = Signal(x_shape)
        before, in_rows, in_next_row = Signal(self._lanes), Signal(), Signal()
        m.d.sync += [
            ahead.eq(row_bytes - x),
            before.eq(
                Cat(
                    (~x[-1] | (x[low:].all() & (x[:low] > self._lanes - 1 - lane)))
                    & (left[low:].any() | (left[:low] >= lane))
                    for lane in lanes
                )
            ),
            in_rows.eq((y >= 0) & (y < input_rows)),
            in_next_row.eq((y >= -1) & (y + 1 < input_rows) & i.paired_rows),
        ]
        in_run, rows = Signal(self._lanes), Signal(2)
        m.d.sync += [
            in_run.eq(before & Cat(~ahead[-1] & (ahead[low:-1].any() | (ahead[:low] > lane)) for lane in lanes)),
            rows.eq(Cat(in_rows, in_next_row)),
        ]
        # With paired rows, the lanes after the run's are those of the next row.
        run = (i.run + 1)[: low + 1]
        m.d.sync += self.mask.eq(Mux(rows[0], in_run, 0) | Mux(rows[1], in_run << run, 0))
        return m
