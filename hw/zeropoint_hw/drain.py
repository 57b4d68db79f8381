"""The drain: from an output's accumulators to beats of as many channels as there are requantizers."""

from amaranth import Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.config import AcceleratorConfig, PEKind, RequantizerKind
from zeropoint_hw.layout import LEVEL_WIDTH, InstructionLayout, Level


class Drain(wiring.Component):
    """Holds an output's accumulators and hands them on, ``requantizers`` at a time, while the next ones accumulate.

    The first beat comes ``LATENCY`` cycles after ``done``, the others in the cycles that follow it, where requantizers
    take one in every cycle; of serial ones, each waits for ``ready``. ``done`` must not be asserted again before all
    have come: the loop nest's idle cycles see to that.

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
    ready : In(1)
        Serial requantizers take a beat in the next cycle.
    parameter_address : Out
        Word of the parameter memory; its data go with the beat of two cycles later.
    beat : Out(1)
        A beat.
    beat_level : Out(4)
        ``Level.CHUNK`` but in an output's last beat, where it is the loop that moves on after the output.
    beat_pools : Out(1)
        Further outputs of the same pooling window follow this output.
    values : Out(ArrayLayout(signed(config.value_width), requantizers))
        The beat's accumulators, the first channel first.
    """

    LATENCY = 2

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
                "ready": In(1),
                "parameter_address": Out(range(config.parameter_words)),
                "beat": Out(1),
                "beat_level": Out(LEVEL_WIDTH),
                "beat_pools": Out(1),
                "values": Out(data.ArrayLayout(signed(config.value_width), config.requantizers)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, i = self._config, self.instruction
        held = Signal(data.ArrayLayout(self._accumulator, config.columns))
        level = Signal(LEVEL_WIDTH)
        active = Signal()
        left = Signal.like(i.beats)
        serial = config.requantizer is RequantizerKind.SERIAL
        goes = active & self.ready if serial else active
        with m.If(self.done):
            m.d.sync += [held.eq(self.accumulators), level.eq(self.done_level), active.eq(1), left.eq(i.beats)]
        with m.Elif(goes):
            m.d.sync += held.eq(held.as_value() >> config.requantizers * config.accumulator_width)
            m.d.sync += [left.eq(left - 1), active.eq(left != 0)]

        # A beat's parameters are asked for a cycle ahead of it; or stay there until it goes to where it takes time.
        asked: Value = self.done | (active & (left != 0))
        asked_last: Value = Mux(self.done, i.beats == 0, left == 1)
        asked_level: Value = Mux(self.done, self.done_level, level)
        if serial:
            asked, asked_last, asked_level = goes, left == 0, level
        group, address = (Signal.like(self.parameter_address, name=name) for name in ("group", "address"))
        m.d.comb += self.parameter_address.eq(address)
        with m.If(self.start):
            m.d.sync += [group.eq(i.parameter_base), address.eq(i.parameter_base)]
        with m.Elif(asked & ~i.parameters_shared):
            m.d.sync += address.eq(address + 1)
            with m.If(asked_last & (asked_level == Level.GROUP)):
                m.d.sync += group.eq(address + 1)
            with m.Elif(asked_last):
                m.d.sync += address.eq(group)

        correction = Signal(signed(32))
        if config.pe is PEKind.FOLD and config.weight_zero_points:
            with m.If(self.done):
                m.d.sync += correction.eq(self.activation_sum * i.weight_zero_point)
        for value, accumulator in zip(self.values, list(held)[: config.requantizers], strict=True):
            m.d.sync += value.eq(accumulator - correction)
        m.d.sync += [
            self.beat.eq(goes),
            self.beat_level.eq(Mux(left == 0, level, Level.CHUNK)),
            self.beat_pools.eq(level < Level.COLUMN),
        ]
        return m
