"""The memories: activations at any byte address, and weights, parameters and program in whole words."""

from collections.abc import Sequence

from amaranth import Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.banks import DualPortBank, SinglePortBank
from zeropoint_hw.config import AcceleratorConfig, RequantizerKind
from zeropoint_hw.layout import ParameterLayout, delay


class ActivationMemory(wiring.Component):
    """Bytes, read ``lanes`` at a time and written up to ``requantizers`` at a time, both at any byte address.

    What is a byte here is 16 bits where activations have as many.

    Byte ``a`` lies in bank ``a mod lanes``, row ``a div lanes``; each bank has a row address of its own, and a rotation
    brings bank to lane. One read and one write can start in every cycle. A read answers ``READ_LATENCY`` cycles after
    its address and sees the writes of all cycles before that. Bytes beyond the memory's end read as anything
    and are not to be written. With one port (``activation_ports``), what a read answers that starts in the cycle of a
    write is not defined.

    Parameters
    ----------
    config
        Gives lanes, requantizers, size and ports.

    Members
    -------
    read_address : In
        Byte address of lane 0.
    read_split, read_jump : In
        Lanes from ``read_split`` on read ``read_jump`` rows, of ``lanes`` bytes each, further on; held still.
    read_data : Out(ArrayLayout(config.element_bits, lanes))
        Lane ``i`` holds byte ``read_address + i``, or ``read_address + i + lanes · read_jump``.
    write_address : In
        Byte address of the first byte written.
    write_data : In(ArrayLayout(config.element_bits, requantizers))
        Bytes, the first at ``write_address``.
    write_count : In
        How many of them are written; 0 for none.
    """

    READ_LATENCY = 4

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        address = range(config.memory_elements)
        super().__init__(
            {
                "read_address": In(address),
                "read_split": In(range(config.lanes + 1)),
                "read_jump": In(range(config.memory_elements // config.lanes)),
                "read_data": Out(data.ArrayLayout(config.element_bits, config.lanes)),
                "write_address": In(address),
                "write_data": In(data.ArrayLayout(config.element_bits, config.requantizers)),
                "write_count": In(range(config.requantizers + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        lanes, depth = config.lanes, config.memory_elements // config.lanes
        bits = lanes.bit_length() - 1

        def wraps(address: Value, bank: int) -> Value:
            # The byte of this bank among `lanes` consecutive ones lies a row further if they begin in a later bank.
            return address[:bits] > bank

        read_row, jumped_row = self.read_address[bits:], Signal(range(depth))
        m.d.comb += jumped_row.eq(read_row + self.read_jump)
        bank_class = SinglePortBank if config.activation_ports == 1 else DualPortBank
        banks_data = []
        for bank in range(lanes):
            m.submodules[f"bank{bank}"] = storage = bank_class(config.element_bits, depth)

            row = Signal(range(depth), name=f"read_row{bank}")
            out = Signal(config.element_bits, name=f"bank_data{bank}")
            lane = (bank - self.read_address[:bits])[:bits] if bits else Const(0, 1)
            first_row = Mux(lane >= self.read_split, jumped_row, read_row)
            m.d.sync += [row.eq(first_row + wraps(self.read_address, bank)), out.eq(storage.read_data)]
            m.d.comb += storage.read_address.eq(row)
            banks_data.append(out)

            # Which of the bytes written this bank takes, if any.
            place = Signal(bits, name=f"place{bank}") if bits else Const(0, 0)
            if bits:
                m.d.comb += place.eq(bank - self.write_address[:bits])
            write_row = Signal(range(depth), name=f"write_row{bank}")
            write_byte = Signal(config.element_bits, name=f"write_byte{bank}")
            write_enable = Signal(name=f"write_enable{bank}")
            m.d.sync += [
                write_row.eq(self.write_address[bits:] + wraps(self.write_address, bank)),
                write_enable.eq(place < self.write_count),
                write_byte.eq(
                    self.write_data[place[: (config.requantizers - 1).bit_length()]] if bits else self.write_data[0]
                ),
            ]
            m.d.comb += [
                storage.write_address.eq(write_row),
                storage.write_data.eq(write_byte),
                storage.write_enable.eq(write_enable),
            ]

        offset = delay(m, self.read_address[:bits], 3, "offset") if bits else Const(0, 0)
        rotated = Cat(*banks_data)
        for bit in range(bits):
            stage = Signal(config.element_bits * lanes, name=f"rotated{bit}")
            m.d.comb += stage.eq(rotated)
            with m.If(offset[bit]):
                m.d.comb += stage.eq(rotated.rotate_right(config.element_bits << bit))
            rotated = stage
        m.d.sync += self.read_data.eq(rotated)
        return m


class WordMemory(wiring.Component):
    """Words that the pipeline reads whole and the host writes in pieces, or that nothing writes.

    Parameters
    ----------
    width
        Bits of a word.
    depth
        Words.
    piece
        Bits that the host writes at once; divides ``width``.
    rom
        Initial contents where the memory is not writable, else None.
    registered
        Whether words go through a register.

    Attributes
    ----------
    latency : int
        Cycles from an address to its word: ``READ_LATENCY``, or one less without the register.

    Members
    -------
    read_address : In
        Word to read.
    read_data : Out(width)
        The word, ``latency`` cycles later.
    write_address, write_piece, write_data, write_enable : In
        The host's write; absent where ``rom`` is given.
    """

    READ_LATENCY = 2

    def __init__(
        self, width: int, depth: int, piece: int, rom: Sequence[int] | None = None, registered: bool = True
    ) -> None:
        if width % piece:
            raise ValueError(f"a word of {width} bits has no pieces of {piece}")
        if rom is not None and len(rom) > depth:
            raise ValueError(f"{len(rom)} words do not fit a memory of {depth}")
        self._width, self._depth, self._piece, self._rom = width, depth, piece, rom
        self._registered, self.latency = registered, self.READ_LATENCY - (not registered)
        members = {"read_address": In(range(depth)), "read_data": Out(width)}
        if rom is None:
            members |= {
                "write_address": In(range(depth)),
                "write_piece": In(range(width // piece)),
                "write_data": In(piece),
                "write_enable": In(1),
            }
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # The image may be a NumPy array, whose integers Amaranth refuses.
        image = () if self._rom is None else self._rom
        m.submodules.storage = storage = memory.Memory(
            shape=unsigned(self._width), depth=self._depth, init=[int(word) for word in image]
        )
        read = storage.read_port()
        m.d.comb += [read.addr.eq(self.read_address), read.en.eq(1)]
        m.d["sync" if self._registered else "comb"] += self.read_data.eq(read.data)
        if self._rom is None:
            pieces = self._width // self._piece
            write = storage.write_port(granularity=self._piece)
            m.d.comb += [
                write.addr.eq(self.write_address),
                write.data.eq(self.write_data.replicate(pieces)),
                write.en.eq(self.write_enable << self.write_piece),
            ]
        return m


#: A channel's parameters, with the bits that the memory has for each.
_PARAMETERS = (("bias", 32), ("multiplier", 32), ("shift", 8))


class ParameterMemory(wiring.Component):
    """Bias, multiplier and shift of ``requantizers`` channels a word; where requantizers shift, no multiplier.

    Parameters
    ----------
    config
        Gives requantizers and size.
    rom
        Bias, multiplier and shift of each channel where the memory is not writable, else None.

    Members
    -------
    read_address : In
        Word to read.
    read_data : Out(ArrayLayout(ParameterLayout, requantizers))
        The channels' parameters, ``WordMemory.READ_LATENCY`` cycles later; for serial requantizers, which ask long
        before, ``latency`` of the words' memories.
    write_channel : In
        Channel to write; absent, like the others, where ``rom`` is given.
    write_piece : In(2)
        0 for its bias, 1 for its multiplier, 2 for its shift.
    write_data : In(32)
        The value.
    write_enable : In(1)
        Writes it.
    """

    def __init__(self, config: AcceleratorConfig, rom: Sequence[tuple[int, int, int]] | None = None) -> None:
        self._count = config.requantizers
        self._serial = config.requantizer is RequantizerKind.SERIAL
        self._writable = rom is None
        pieces = list(enumerate(_PARAMETERS))
        if config.requantizer is RequantizerKind.SHIFT:
            # Nothing looks at the multipliers.
            del pieces[1]
        self._memories = {
            piece: WordMemory(
                width * self._count,
                config.parameter_words,
                width,
                None if rom is None else self._packed([channel[piece] for channel in rom], width),
                config.memory_registers,
            )
            for piece, (_, width) in pieces
        }
        members = {
            "read_address": In(range(config.parameter_words)),
            "read_data": Out(data.ArrayLayout(ParameterLayout, self._count)),
        }
        if self._writable:
            members |= {
                "write_channel": In(range(config.parameter_channels)),
                "write_piece": In(2),
                "write_data": In(32),
                "write_enable": In(1),
            }
        super().__init__(members)

    def _packed(self, values: list[int], width: int) -> list[int]:
        fields = [int(value) & (1 << width) - 1 for value in values]
        starts = range(0, len(fields), self._count)
        return [
            sum(field << width * place for place, field in enumerate(fields[start : start + self._count]))
            for start in starts
        ]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for piece, words in self._memories.items():
            name, width = _PARAMETERS[piece]
            m.submodules[name] = words
            # Serial requantizers ask for their parameters long before.
            wait = 0 if self._serial else WordMemory.READ_LATENCY - words.latency
            m.d.comb += words.read_address.eq(delay(m, self.read_address, wait, f"{name}_address"))
            for index, channel in enumerate(self.read_data):
                m.d.comb += channel[name].eq(words.read_data.word_select(index, width))
            if self._writable:
                place = (self._count - 1).bit_length()
                m.d.comb += [
                    words.write_address.eq(self.write_channel[place:]),
                    words.write_piece.eq(self.write_channel[:place]),
                    words.write_data.eq(self.write_data),
                    words.write_enable.eq(self.write_enable & (self.write_piece == piece)),
                ]
        return m
