"""The weight buffer: words of weights near the array, where the memory that holds them is narrower than the array.

The loop nest reads the words of a group of output channels in order, and for each output again. The buffer is a window
on the words' addresses that begins where the group does: it fills up from a store, in order, while the array takes
words from it; when the array goes on to the next group, so does the window, and what has been fetched ahead stays. Of a
group that is larger than the buffer, the window moves along with the array, and goes back for each output.
"""

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.flash_copier import HEADER_BYTES
from zeropoint_hw.layout import delay
from zeropoint_hw.loops import InputAddress
from zeropoint_hw.memory import ActivationMemory


class WeightWindow(wiring.Component):
    """Counts which words are there, and says when the store has to begin elsewhere.

    Parameters
    ----------
    config
        Gives the sizes of buffer and weight memory.

    Members
    -------
    busy : In(1)
        A program runs; while none does, all that is there is forgotten.
    start : In(1)
        An instruction begins.
    weight_base : In
        Its first word.
    issues, again, onward, group_address : In
        As the loop nest and the addresses behind it give them.
    starved : Out(1)
        The word that the array takes next is not there.
    arrives : In(1)
        The next word is on its way, so that the array can have it if it asks from the next cycle on.
    wanted : Out(1)
        There is room for another word.
    seek : Out(1)
        The next word to arrive is that of ``seek_address``, and no other that was under way.
    seek_address : Out
        Of a word.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config, self._size = config, config.weight_buffer
        address = range(config.weight_words)
        super().__init__(
            {
                "busy": In(1),
                "start": In(1),
                "weight_base": In(address),
                "issues": In(1),
                "again": In(1),
                "onward": In(1),
                "group_address": In(address),
                "starved": Out(1, init=1),
                "arrives": In(1),
                "wanted": Out(1),
                "seek": Out(1),
                "seek_address": Out(address),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        #: Words that are there from the array's next one on, and from the group's first one on.
        ahead, held = Signal(range(self._size + 1)), Signal(range(self._size + 1))
        #: There is no room. A place that has just become free is filled only when the array has read what was there.
        full = Signal()
        #: There is a window; it moves along with the array.
        valid, moving = Signal(), Signal()
        m.d.comb += [
            self.starved.eq(ahead == 0),
            self.wanted.eq(valid & ~full & ~delay(m, full, 1, "full") & ~delay(m, full, 2, "late_full")),
            full.eq(held == self._size),
            self.seek_address.eq(Mux(self.start, self.weight_base, self.group_address)),
        ]

        m.d.sync += [ahead.eq(ahead + self.arrives), held.eq(held + self.arrives)]
        with m.If(self.start):
            m.d.sync += [valid.eq(1), moving.eq(0)]
            # Layers lie one after the other, and what follows the last one has been fetched ahead.
            m.d.comb += self.seek.eq(~valid | (self.weight_base != self.group_address))
        with m.Elif(self.issues):
            m.d.comb += self.seek.eq(self.again & moving)
            rest = Signal.like(ahead)
            m.d.comb += rest.eq(ahead + self.arrives - 1)
            m.d.sync += ahead.eq(Mux(self.again, held + self.arrives, rest))
            with m.If(self.onward | moving):
                m.d.sync += held.eq(rest)
        with m.Elif(valid & self.starved & full):
            m.d.sync += [moving.eq(1), held.eq(0)]
        with m.If(self.seek):
            m.d.sync += [ahead.eq(0), held.eq(0)]
        with m.If(~self.busy):
            m.d.sync += [ahead.eq(0), held.eq(0), valid.eq(0)]
        return m


def from_end(config: AcceleratorConfig, row: Value) -> Value:
    """Return the address in activation memory of a row of weights, which are counted from its end."""
    rows = config.memory_elements // config.lanes
    width = (rows - 1).bit_length()
    return Cat(Const(0, config.lanes.bit_length() - 1), (~(row | Const(0, width)))[:width])


class SharedStore(wiring.Component):
    """Fetches weight words from the end of the activation memory, a row at a time, whenever the array leaves it free.

    Row ``r`` of the weights is the row of that number from the memory's end, so that an address is inverted bits. Rows
    pass through the same pipeline as the array's activations and so cannot come too late, nor overtake a word that the
    array is still to take.

    Parameters
    ----------
    config
        Gives the sizes of weight words and memory.

    Members
    -------
    seek, seek_address, wanted, arrives
        As :class:`WeightWindow` has them, the other way round.
    free : In(1)
        Nothing else reads the memory in the next cycle, nor writes it where it has one port.
    fetch : Out(1)
        A row is read then, and arrives ``LATENCY`` cycles after this one.
    fetch_address : Out
        Of its first activation.
    write_enable, write_address, write_piece : Out
        Where in the buffer the row goes that arrives in this cycle.
    """

    LATENCY = InputAddress.LATENCY + ActivationMemory.READ_LATENCY

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "seek": In(1),
                "seek_address": In(range(config.weight_words)),
                "wanted": In(1),
                "arrives": Out(1),
                "free": In(1),
                "fetch": Out(1),
                "fetch_address": Out(range(config.memory_elements)),
                "write_enable": Out(1),
                "write_address": Out(range(config.weight_buffer)),
                "write_piece": Out(range(config.word_rows)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        rows = config.word_rows
        row_bits, buffer_bits = (rows - 1).bit_length(), (config.weight_buffer - 1).bit_length()

        def step(row: Signal) -> Value:
            """Return what follows a row's number within its word and the word's, side by side."""
            return row + Mux(row[:row_bits] == rows - 1, (1 << row_bits) - rows + 1, 1)

        # The row to be fetched, the row to arrive, and which of the rows under way there are.
        row = Signal(row_bits + len(self.seek_address))
        arriving = Signal(row_bits + buffer_bits)
        under_way = Signal(self.LATENCY)
        m.d.sync += under_way.eq(Cat(self.fetch, under_way))
        pending = under_way.any()
        # After a jump, rows that are under way come first; whatever they are, nobody takes them.
        jumped = Signal()
        m.d.comb += [
            self.fetch.eq(self.wanted & self.free & ~jumped & ~self.seek),
            self.arrives.eq(self.fetch & (row[:row_bits] == rows - 1)),
            self.fetch_address.eq(from_end(config, row)),
            self.write_enable.eq(under_way[-1]),
            Cat(self.write_piece, self.write_address).eq(arriving),
        ]
        with m.If(self.seek):
            m.d.sync += [row.eq(self.seek_address << row_bits), jumped.eq(1)]
        with m.Else():
            m.d.sync += jumped.eq(jumped & pending)
            with m.If(self.fetch):
                m.d.sync += row.eq(step(row))
        with m.If(self.write_enable):
            m.d.sync += arriving.eq(step(arriving))
        with m.Elif(~pending):
            m.d.sync += arriving.eq(row)
        return m


class FlashStore(wiring.Component):
    """Streams weight words from a SPI flash, which holds them one after the other, byte by byte.

    Parameters
    ----------
    config
        Gives the sizes of weight words and buffer, and the image's place.

    Members
    -------
    seek, seek_address, wanted, arrives
        As :class:`WeightWindow` has them, the other way round.
    start, address, bytes
        As :class:`~zeropoint_hw.spi_flash.FlashReader` has them, the other way round.
    write_enable, write_address, write_piece, write_data : Out
        What goes where in the buffer.
    """

    #: Cycles from one in which a byte is taken to that in which it may be written over a word that the array has just
    #: taken, and not yet read.
    SETTLING = 6

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "seek": In(1),
                "seek_address": In(range(config.weight_words)),
                "wanted": In(1),
                "arrives": Out(1),
                "start": Out(1),
                "address": Out(24),
                "bytes": In(stream.Signature(8)),
                "write_enable": Out(1),
                "write_address": Out(range(config.weight_buffer)),
                "write_piece": Out(range(config.stored_bits // 8)),
                "write_data": Out(8),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        size = self._config.stored_bits // 8
        # After a jump a byte may be on offer that belongs to what was read before.
        stale = Signal(3)
        taken, last = self.bytes.valid & self.bytes.ready, self.write_piece == size - 1
        room = self.wanted & delay(m, self.wanted, self.SETTLING, "wanted")
        m.d.comb += [
            self.bytes.ready.eq((stale == 0) & ~self.seek & (room | (self.write_piece != 0))),
            self.arrives.eq(taken & last),
            self.write_enable.eq(taken),
            self.write_data.eq(self.bytes.payload),
        ]
        m.d.sync += self.start.eq(self.seek)
        with m.If(self.seek):
            first = self._config.flash_offset + HEADER_BYTES
            m.d.sync += [
                self.address.eq(self.seek_address * size + first),
                self.write_address.eq(self.seek_address),
                self.write_piece.eq(0),
                stale.eq(4),
            ]
        with m.Else():
            with m.If(stale != 0):
                m.d.sync += stale.eq(stale - 1)
            with m.If(taken):
                m.d.sync += self.write_piece.eq(Mux(last, 0, self.write_piece + 1))
                m.d.sync += self.write_address.eq(self.write_address + last)
        return m
