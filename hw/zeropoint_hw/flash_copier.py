"""Weights from a SPI flash to the activation memory, at start, with a checksum.

In the flash lies an image: ``MAGIC``; how many bytes of weights there are, 4 bytes; these, as the memory holds them,
from the first row of weights on; and a CRC-32/ISO-HDLC of all that, 4 bytes. Numbers begin with their least significant
byte.
"""

from amaranth import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.framing import SerialCrc

#: What an image begins with.
MAGIC = b"ZPW1"
_NUMBER_BYTES = 4
#: Bytes before the weights.
HEADER_BYTES = len(MAGIC) + _NUMBER_BYTES


class FlashCopier(wiring.Component):
    """Copies an image's weights once after reset, and says whether they are whole.

    Parameters
    ----------
    config
        Gives the memory's size and the image's place.

    Members
    -------
    start, stop, address, bytes
        As :class:`~zeropoint_hw.spi_flash.FlashReader` has them, the other way round.
    busy : Out(1)
        Not all is copied yet.
    failed : Out(1)
        There is no image, or it is damaged.
    crc : Out(32)
        The CRC of an image that is whole.
    write : Out(1)
        ``write_data`` goes to ``write_place``.
    write_place : Out
        Number of a byte of the weights, counted from their first row on.
    write_data : Out(8)
        A byte of the image.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "start": Out(1),
                "stop": Out(1),
                "address": Out(24),
                "bytes": In(stream.Signature(8)),
                "busy": Out(1, init=1),
                "failed": Out(1),
                "crc": Out(32),
                "write": Out(1),
                "write_place": Out(range(config.memory_elements)),
                "write_data": Out(8),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc = crc = SerialCrc()
        byte, taken = self.bytes.payload, self.bytes.valid & self.bytes.ready
        count, left = Signal(range(_NUMBER_BYTES)), Signal(24)
        m.d.comb += [
            self.address.eq(self._config.flash_offset),
            self.crc.eq(crc.crc),
            crc.i.eq(byte),
            self.bytes.ready.eq(self.busy & ~crc.busy),
            self.write_data.eq(byte),
        ]
        last = count == _NUMBER_BYTES - 1
        with m.If(taken):
            m.d.sync += count.eq(count + 1)
        with m.FSM():
            with m.State("START"):
                m.d.comb += [self.start.eq(1), crc.start.eq(1)]
                m.next = "MAGIC"
            with m.State("MAGIC"), m.If(taken):
                m.d.comb += crc.valid.eq(1)
                with m.If(byte != Const(int.from_bytes(MAGIC, "little"), 8 * len(MAGIC)).word_select(count, 8)):
                    m.next = "FAIL"
                with m.Elif(last):
                    m.next = "LENGTH"
            with m.State("LENGTH"), m.If(taken):
                m.d.comb += crc.valid.eq(1)
                # Of the four bytes the last is 0.
                with m.If(~last):
                    m.d.sync += left.eq(Cat(left[8:], byte))
                with m.Else():
                    m.next = "WEIGHTS"
            with m.State("WEIGHTS"):
                with m.If(left == 0):
                    m.d.sync += count.eq(0)
                    m.next = "CRC"
                with m.Elif(taken):
                    m.d.comb += [crc.valid.eq(1), self.write.eq(1)]
                    m.d.sync += [left.eq(left - 1), self.write_place.eq(self.write_place + 1)]
            with m.State("CRC"), m.If(taken):
                with m.If(byte != crc.crc.word_select(count, 8)):
                    m.next = "FAIL"
                with m.Elif(last):
                    m.next = "END"
            with m.State("FAIL"):
                m.d.sync += self.failed.eq(1)
                m.next = "END"
            with m.State("END"):
                m.d.comb += self.stop.eq(self.busy)
                m.d.sync += self.busy.eq(0)
        return m
