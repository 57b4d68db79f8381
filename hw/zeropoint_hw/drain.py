"""The drain: from an output's accumulators to beats of as many channels as there are requantizers."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.config import AcceleratorConfig, PEKind
from zeropoint_hw.layout import LEVEL_WIDTH, InstructionLayout, Level, delay


class Drain(wiring.Component):
    """Holds an output's accumulators and hands them on, ``requantizers`` at a time, while the next ones accumulate.

    The first beat comes ``LATENCY`` cycles after ``done``, the others in the cycles that follow it. ``done`` must not
    be asserted again within ``instruction.beats`` cycles: the loop nest's idle cycles see to that.

    Parameters
    ----------
    config
        Gives columns, requantizers and the parameter memory.

    Members
    -------
    instruction : In(InstructionLayout)
        Held still.
    start : In(1)
        Loads the first parameter address.
    done, done_level, accumulators, activation_sum : In
        As the array gives them.
    parameter_address : Out
        Word of the parameter memory; its data are expected with the beat, two cycles later.
    beat : Out(1)
        A beat.
    beat_level : Out(4)
        ``Level.CHUNK`` but in an output's last beat, where it is the loop that moves on after the output.
    beat_pools : Out(1)
        Further outputs of the same pooling window follow this output.
    values : Out(ArrayLayout(signed(32), requantizers))
        The beat's accumulators, the first channel first.
    """

    LATENCY = 3

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        self._accumulator = signed(config.accumulator_width)
        super().__init__(
            {
                "instruction": In(InstructionLayout),
                "start": In(1),
                "done": In(1),
                "done_level": In(LEVEL_WIDTH),
                "accumulators": In(data.ArrayLayout(self._accumulator, config.columns)),
                "activation_sum": In(self._accumulator),
                "parameter_address": Out(range(config.parameter_words)),
                "beat": Out(1),
                "beat_level": Out(LEVEL_WIDTH),
                "beat_pools": Out(1),
                "values": Out(data.ArrayLayout(signed(32), config.requantizers)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, i = self._config, self.instruction
        held = Signal(data.ArrayLayout(self._accumulator, config.columns))
        level = Signal(LEVEL_WIDTH)
        active = Signal()
        left = Signal.like(i.beats)
        with m.If(self.done):
            m.d.sync += [held.eq(self.accumulators), level.eq(self.done_level), active.eq(1), left.eq(i.beats)]
        with m.Elif(active):
            m.d.sync += held.eq(held.as_value() >> config.requantizers * config.accumulator_width)
            m.d.sync += [left.eq(left - 1), active.eq(left != 0)]

        last = active & (left == 0)
        group, address = Signal.like(self.parameter_address), Signal.like(self.parameter_address)
        m.d.comb += self.parameter_address.eq(address)
        with m.If(self.start):
            m.d.sync += [group.eq(i.parameter_base), address.eq(i.parameter_base)]
        with m.Elif(active & ~i.parameters_shared):
            m.d.sync += address.eq(address + 1)
            with m.If(last & (level == Level.GROUP)):
                m.d.sync += group.eq(address + 1)
            with m.Elif(last):
                m.d.sync += address.eq(group)

        now = Signal(data.ArrayLayout(self._accumulator, config.requantizers))
        m.d.sync += now.eq(held.as_value())
        correction = Signal(signed(32))
        if config.pe is PEKind.FOLD:
            held_sum = Signal(self._accumulator)
            with m.If(self.done):
                m.d.sync += held_sum.eq(self.activation_sum)
            m.d.sync += correction.eq(held_sum * i.weight_zero_point)
        m.d.sync += [value.eq(early - correction) for value, early in zip(self.values, now, strict=True)]
        m.d.comb += [
            self.beat.eq(delay(m, active, 2, "active")),
            self.beat_level.eq(delay(m, Mux(last, level, Level.CHUNK), 2, "level")),
            self.beat_pools.eq(delay(m, level < Level.COLUMN, 2, "pools")),
        ]
        return m
