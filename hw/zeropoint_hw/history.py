"""The history: the latest activations along the column loop, for depthwise convolution.

A depthwise layer multiplies each channel by its own weights only, so an activation word of as many channels as there
are lanes feeds one PE of each column. Here each lane takes another tap instead: the word that was just read, and those
read one or more positions earlier at the same place in the kernel, which are remembered.
"""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import HISTORY_DEPTH
from zeropoint_hw.layout import LEVEL_WIDTH, Level
from zeropoint_hw.pe import operand_shape


class History(wiring.Component):
    """Gives, with each word of operands, those of earlier positions of the column loop; combinational.

    The words of a position are counted from its first, up to ``HISTORY_DEPTH``; a word's predecessors are those of the
    same number in the positions before it in the same row. Where a row has no earlier position, ``pad`` stands.

    Parameters
    ----------
    config
        Gives ``window_taps`` and the channels.

    Members
    -------
    valid, level : In
        An array cycle, and the loop that moves on after it.
    operands : In(ArrayLayout(operand, channels))
        Its operands.
    pad : In(operand)
        What padding is as an operand.
    taps : Out(ArrayLayout(ArrayLayout(operand, channels), window_taps))
        The operands, the oldest position's first, ``operands`` themselves last.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._older = config.window_taps - 1
        self._operand = operand_shape(config)
        self._word = data.ArrayLayout(self._operand, config.channels)
        super().__init__(
            {
                "valid": In(1),
                "level": In(LEVEL_WIDTH),
                "operands": In(self._word),
                "pad": In(self._operand),
                "taps": Out(data.ArrayLayout(self._word, config.window_taps)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        place = Signal(range(HISTORY_DEPTH))
        age = Signal(range(self._older + 1))
        with m.If(self.valid):
            m.d.sync += place.eq(Mux(self.level >= Level.POOL_X, 0, place + 1))
            with m.If(self.level >= Level.ROW):
                m.d.sync += age.eq(0)
            with m.Elif((self.level == Level.COLUMN) & (age != self._older)):
                m.d.sync += age.eq(age + 1)

        width = self._word.size
        m.submodules.storage = storage = memory.Memory(shape=self._older * width, depth=HISTORY_DEPTH, init=[])
        write, read = storage.write_port(), storage.read_port(domain="comb")
        m.d.comb += [read.addr.eq(place), write.addr.eq(place), write.en.eq(self.valid)]
        for index in range(self._older):
            for channel, tap in enumerate(self.taps[index]):
                stored = read.data[index * width :][channel * self._operand.width :][: self._operand.width].as_signed()
                m.d.comb += tap.eq(Mux(age >= self._older - index, stored, self.pad))
        m.d.comb += [
            self.taps[self._older].eq(self.operands),
            write.data.eq(Cat(self.taps.as_value()[width:])),
        ]
        return m
