"""The pooler: max pooling of a layer's outputs before they are written."""

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.layout import LEVEL_WIDTH, InstructionLayout, Level
from zeropoint_hw.pe import extend


class Pooler(wiring.Component):
    """Keeps the greatest of the outputs of a pooling window and lets only that pass, ``LATENCY`` cycles later.

    Outputs of layers without a pooling window pass as they are, which is all of them where the configuration has no
    ``max_pooling``.

    Members
    -------
    instruction : In(InstructionLayout)
        Says whether activations are unsigned; held still.
    beat, beat_level, beat_pools, results : In
        A beat of results; with ``beat_pools``, further outputs of its pooling window follow.
    pooled_at, pooled : Out
        A beat to be written, and the bit of the level whose loop moves on after it; 0 without a beat.
    """

    LATENCY = 1

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        self._beat = data.ArrayLayout(config.element_bits, config.requantizers)
        super().__init__(
            {
                "instruction": In(InstructionLayout),
                "beat": In(1),
                "beat_level": In(LEVEL_WIDTH),
                "beat_pools": In(1),
                "results": In(self._beat),
                "pooled_at": Out(len(Level)),
                "pooled": Out(self._beat),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        passed = self._greatest(m) if self._config.max_pooling else self.results
        m.d.sync += [
            self.pooled_at.eq(Mux(self.beat & ~self.beat_pools, 1 << self.beat_level, 0)),
            self.pooled.eq(passed),
        ]
        return m

    def _number(self, element: Value) -> Value:
        """Return an activation as a signed number."""
        if self._config.element_bits > 8:
            return element.as_signed()
        return extend(element, self.instruction.input_unsigned if self._config.unsigned_activations else Const(0))

    def _greatest(self, m: Module) -> Value:
        """Return the greatest of a beat and the same beat of the outputs before it in the window."""
        beats = self._config.columns // self._config.requantizers
        m.submodules.storage = storage = memory.Memory(shape=self._beat.size, depth=beats, init=[])
        write = storage.write_port()
        # What the next beat is compared with is read with this one, as reading and comparing take too long for a cycle.
        read = storage.read_port()
        # Outputs of a single beat are compared with what has just been written.
        again, written = Signal(), Signal(self._beat.size)

        place, following = Signal(range(beats)), Signal(range(beats))
        begun = Signal()
        last = self.beat_level != Level.CHUNK
        m.d.comb += following.eq(place)
        m.d.sync += place.eq(following)
        with m.If(self.beat):
            m.d.comb += following.eq(Mux(last, 0, place + 1))
            with m.If(last):
                m.d.sync += begun.eq(self.beat_pools)

        m.d.sync += [again.eq(self.beat & (following == place)), written.eq(write.data)]
        kept = Mux(again, written, read.data)
        greatest = []
        for index, result in enumerate(self.results):
            before = kept.word_select(index, self._config.element_bits)
            keep = begun & (self._number(before) > self._number(result))
            greatest.append(Mux(keep, before, result))
        m.d.comb += [
            read.addr.eq(following),
            write.addr.eq(place),
            write.data.eq(Cat(greatest)),
            write.en.eq(self.beat),
        ]
        return Cat(greatest)
