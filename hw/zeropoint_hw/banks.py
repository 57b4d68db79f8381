"""The banks of the activation memory: a read port and a write port, or one port for both.

Single-port memory is what large memories on small FPGAs are. On iCE40 UltraPlus it is SPRAM: four blocks of 16,384
words of 16 bits that cannot be initialised, of which any nibbles can be written.
"""

from amaranth import Cat, ClockSignal, Const, Instance, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

#: Of an SPRAM.
_SPRAM_WIDTH, _SPRAM_ADDRESS_BITS, _NIBBLE = 16, 14, 4


class _Bank(wiring.Component):
    def __init__(self, width: int, depth: int) -> None:
        self._width, self._depth = width, depth
        super().__init__(
            {
                "read_address": In(range(depth)),
                "read_data": Out(width),
                "write_address": In(range(depth)),
                "write_data": In(width),
                "write_enable": In(1),
            }
        )


class DualPortBank(_Bank):
    """A read and a write in every cycle.

    Parameters
    ----------
    width, depth
        Bits of a word, and words.

    Members
    -------
    read_address : In
        Word to read.
    read_data : Out(width)
        The word, a cycle later.
    write_address, write_data, write_enable : In
        Writes a word.
    """

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.storage = storage = memory.Memory(shape=self._width, depth=self._depth, init=[])
        write, read = storage.write_port(), storage.read_port()
        m.d.comb += [
            read.addr.eq(self.read_address),
            read.en.eq(1),
            self.read_data.eq(read.data),
            write.addr.eq(self.write_address),
            write.data.eq(self.write_data),
            write.en.eq(self.write_enable),
        ]
        return m


class SinglePortBank(_Bank):
    """A read or a write in every cycle: ports as :class:`DualPortBank`, but nothing is read while something is written.

    On iCE40 UltraPlus (a platform whose ``device`` begins with iCE40UP) it consists of SPRAMs, whose words are
    two of the bank's where that has 8 bits; elsewhere synthesis infers what the device has.
    """

    def elaborate(self, platform: object) -> Module:
        m = Module()
        address = Signal.like(self.read_address)
        m.d.comb += address.eq(Mux(self.write_enable, self.write_address, self.read_address))
        if str(getattr(platform, "device", "")).startswith("iCE40UP"):
            self._instantiate(m, address)
            return m
        m.submodules.storage = storage = memory.Memory(shape=self._width, depth=self._depth, init=[])
        write, read = storage.write_port(), storage.read_port()
        m.d.comb += [
            read.addr.eq(address),
            read.en.eq(~self.write_enable),
            self.read_data.eq(read.data),
            write.addr.eq(address),
            write.data.eq(self.write_data),
            write.en.eq(self.write_enable),
        ]
        return m

    def _instantiate(self, m: Module, address: Signal) -> None:
        """Make the bank of SPRAMs: the address's highest bits choose one, those below choose a part of its words."""
        parts = _SPRAM_WIDTH // self._width
        part_bits = (parts - 1).bit_length()
        whole = Cat(address, Const(0, max(0, _SPRAM_ADDRESS_BITS + part_bits - len(address))))
        place, part = whole[:_SPRAM_ADDRESS_BITS], whole[_SPRAM_ADDRESS_BITS : _SPRAM_ADDRESS_BITS + part_bits]
        block = whole[_SPRAM_ADDRESS_BITS + part_bits :]
        blocks = -(-self._depth // (parts << _SPRAM_ADDRESS_BITS))
        # What is read is chosen a cycle later.
        chosen = Signal(range(max(2, blocks * parts)))
        m.d.sync += chosen.eq(Cat(part, block))
        nibbles = self._width // _NIBBLE
        mask = Signal(_SPRAM_WIDTH // _NIBBLE)
        m.d.comb += mask.eq(Const((1 << nibbles) - 1) << part * nibbles if part_bits else ~0)
        read = []
        for index in range(blocks):
            data = Signal(_SPRAM_WIDTH, name=f"data{index}")
            m.submodules[f"spram{index}"] = Instance(
                "SB_SPRAM256KA",
                i_CLOCK=ClockSignal(),
                i_ADDRESS=place,
                i_DATAIN=self.write_data.replicate(parts),
                i_MASKWREN=mask,
                i_WREN=self.write_enable,
                i_CHIPSELECT=1 if blocks == 1 else block == index,
                i_STANDBY=0,
                i_SLEEP=0,
                i_POWEROFF=1,
                o_DATAOUT=data,
            )
            read.append(data)
        m.d.comb += self.read_data.eq(Cat(read).word_select(chosen, self._width))
