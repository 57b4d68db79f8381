"""Frames on the line: COBS between delimiters, with a length before and a CRC-32 after what they carry.

COBS: S. Cheshire, M. Baker, "Consistent Overhead Byte Stuffing", IEEE/ACM Transactions on Networking 7 (2), 1999. The
CRC is CRC-32/ISO-HDLC, that of Ethernet, computed bit by bit: the line is slower than that.
"""

from amaranth import Module, Mux, ResetInserter, Signal
from amaranth.lib import crc, data, memory, stream, wiring
from amaranth.lib.crc import catalog
from amaranth.lib.wiring import In, Out

from zeropoint_hw.protocol import CRC_BYTES, DELIMITER, FRAME_BYTES

#: Cycles from one byte to the next that the CRC takes.
CRC_CYCLES = 9


class FrameBuffer(wiring.Component):
    """A queue of bytes, of which a frame's become visible together, and can be changed or dropped before that.

    Parameters
    ----------
    size_bits
        log2 of its size; it holds a byte less.

    Members
    -------
    tail : Out
        Where the next byte goes.
    full : Out(1)
        There is no place for one.
    write : In(1)
        Writes ``write_data`` to ``write_place``, which is ``tail`` or lies behind it.
    write_place : In
        Where to.
    write_data : In(8)
        What.
    append : In(1)
        ``tail`` moves on.
    commit, drop : In(1)
        What was appended before this cycle becomes visible; or is dropped.
    o : Out(stream.Signature(8))
        Visible bytes, in order.
    """

    def __init__(self, size_bits: int) -> None:
        self._size_bits = size_bits
        super().__init__(
            {
                "tail": Out(size_bits),
                "full": Out(1),
                "write": In(1),
                "write_place": In(size_bits),
                "write_data": In(8),
                "append": In(1),
                "commit": In(1),
                "drop": In(1),
                "o": Out(stream.Signature(8)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.storage = storage = memory.Memory(shape=8, depth=1 << self._size_bits, init=[])
        write, read = storage.write_port(), storage.read_port()
        visible, head, after = (Signal(self._size_bits, name=name) for name in ("visible", "head", "after"))
        m.d.comb += [
            after.eq(self.tail + 1),
            # The byte that is offered is not counted: it has left the memory.
            self.full.eq(after == head),
            write.addr.eq(self.write_place),
            write.data.eq(self.write_data),
            write.en.eq(self.write),
        ]
        with m.If(self.drop):
            m.d.sync += self.tail.eq(visible)
        with m.Elif(self.append):
            m.d.sync += self.tail.eq(after)
        with m.If(self.commit):
            m.d.sync += visible.eq(self.tail)

        m.d.comb += [read.addr.eq(head), read.en.eq(~self.o.valid | self.o.ready), self.o.payload.eq(read.data)]
        with m.If(read.en):
            m.d.sync += self.o.valid.eq(head != visible)
            with m.If(head != visible):
                m.d.sync += head.eq(head + 1)
        return m


class ByteRegister(wiring.Component):
    """Holds a byte of a stream, so that what takes it does not wait for the memory that it comes from."""

    def __init__(self) -> None:
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(8))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.i.ready.eq(~self.o.valid | self.o.ready)
        with m.If(self.i.ready):
            m.d.sync += [self.o.valid.eq(self.i.valid), self.o.payload.eq(self.i.payload)]
        return m


class SerialCrc(wiring.Component):
    """A CRC-32 that takes a byte in ``CRC_CYCLES`` cycles; ``start`` goes before the first one of a frame."""

    def __init__(self) -> None:
        super().__init__(
            {"start": In(1), "i": In(8), "valid": In(1), "busy": Out(1), "crc": Out(32), "match": Out(1)},
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        processor = crc.Processor(catalog.CRC32_ISO_HDLC(data_width=1))
        # Resetting its registers takes no logic, as its own start does in front of each of them.
        m.submodules.processor = ResetInserter(self.start)(processor)
        # A 1 above the byte is at the bottom when all bits are out.
        bits = Signal(9)
        m.d.comb += [
            self.busy.eq(bits[1:].any()),
            processor.data.eq(bits[0]),
            processor.valid.eq(self.busy),
            self.crc.eq(processor.crc),
            self.match.eq(processor.match_detected),
        ]
        with m.If(self.valid):
            m.d.sync += bits.eq(self.i | 0x100)
        with m.Elif(self.busy):
            m.d.sync += bits.eq(bits[1:])
        return m


class FrameReceiver(wiring.Component):
    """Frames from the bytes of a line: those that are whole and undamaged, nothing of all others.

    A frame that is damaged, or for which there is no room, is dropped. Whatever came before, the first frame after a
    delimiter is received.

    Parameters
    ----------
    size_bits
        log2 of the bytes of frames that it holds.

    Members
    -------
    data : In(8)
        A byte of the line.
    valid : In(1)
        It comes in this cycle; from one to the next are more than ``CRC_CYCLES``.
    o : Out(stream.Signature(8))
        Frames, each from its length to its CRC.
    """

    def __init__(self, size_bits: int) -> None:
        self._size_bits = size_bits
        super().__init__({"data": In(8), "valid": In(1), "o": Out(stream.Signature(8))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.buffer = buffer = FrameBuffer(self._size_bits)
        m.submodules.crc = check = SerialCrc()
        wiring.connect(m, wiring.flipped(self.o), buffer.o)

        #: Bytes until the next one that says how many.
        group = Signal(8)
        #: Nothing but the delimiter has come of the frame, and no byte has come out of it.
        fresh, empty = Signal(init=1), Signal(init=1)
        bad = Signal()
        #: Bytes that the frame's length has announced and that are still to come.
        left = Signal(8)

        byte, emit = Signal(8), Signal()
        m.d.comb += [
            buffer.write_place.eq(buffer.tail),
            buffer.write_data.eq(byte),
            buffer.write.eq(emit),
            buffer.append.eq(emit),
            check.i.eq(byte),
            check.valid.eq(emit),
        ]
        with m.If(self.valid):
            with m.If(self.data == DELIMITER):
                good = ~bad & ~empty & (group == 0) & (left == 0) & check.match
                m.d.comb += [buffer.commit.eq(good), buffer.drop.eq(~good), check.start.eq(1)]
                m.d.sync += [group.eq(0), fresh.eq(1), empty.eq(1), bad.eq(0)]
            with m.Else():
                counted = group == 0
                m.d.sync += [fresh.eq(0), group.eq(Mux(counted, self.data, group) - 1)]
                m.d.comb += [emit.eq(~(counted & fresh)), byte.eq(Mux(counted, 0, self.data))]
        with m.If(emit):
            m.d.sync += [empty.eq(0), left.eq(Mux(empty, byte, left) - 1)]
            # Too short to be a frame, longer than announced, or more than there is room for.
            with m.If(buffer.full | Mux(empty, byte[FRAME_BYTES.bit_length() :] == 0, left == 0)):
                m.d.sync += bad.eq(1)
                m.d.comb += [buffer.write.eq(0), buffer.append.eq(0)]
        return m


class FrameSender(wiring.Component):
    """Bytes for a line, of frames that get their CRC here; a frame is sent when it is complete.

    Parameters
    ----------
    size_bits
        log2 of the bytes that wait to be sent: two of the longest frames at least.

    Members
    -------
    i : In(stream.Signature)
        ``data``, a byte of a frame without its CRC, and ``last``.
    o : Out(stream.Signature(8))
        Bytes of the line.
    active : Out(1)
        A frame is being made.
    """

    def __init__(self, size_bits: int) -> None:
        self._size_bits = size_bits
        payload = data.StructLayout({"data": 8, "last": 1})
        super().__init__({"i": In(stream.Signature(payload)), "o": Out(stream.Signature(8)), "active": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.buffer = buffer = FrameBuffer(self._size_bits)
        m.submodules.crc = check = SerialCrc()
        wiring.connect(m, wiring.flipped(self.o), buffer.o)

        #: Where the byte goes that says how far it is to the next 0, and how far it is to the next byte's place.
        code_place = Signal(self._size_bits)
        distance = Signal(8)
        byte, crc_left = Signal(8), Signal(range(CRC_BYTES))

        def put(value: Signal) -> None:
            """Write a byte of the frame, or for a 0 how far it is from the one before, into that one's place."""
            m.d.comb += [
                buffer.write.eq(1),
                buffer.append.eq(1),
                buffer.write_place.eq(Mux(value == 0, code_place, buffer.tail)),
                buffer.write_data.eq(Mux(value == 0, distance, value)),
            ]
            m.d.sync += distance.eq(distance + 1)
            with m.If(value == 0):
                m.d.sync += [code_place.eq(buffer.tail), distance.eq(1)]

        with m.FSM() as fsm:
            with m.State("BEGIN"):
                with m.If(self.i.valid & ~buffer.full & ~check.busy):
                    m.d.comb += [buffer.append.eq(1), check.start.eq(1)]
                    m.d.sync += [code_place.eq(buffer.tail), distance.eq(1)]
                    m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += byte.eq(self.i.payload.data)
                with m.If(~buffer.full & ~check.busy & self.i.valid):
                    m.d.comb += [self.i.ready.eq(1), check.valid.eq(1), check.i.eq(byte)]
                    put(byte)
                    with m.If(self.i.payload.last):
                        m.next = "CRC"
            with m.State("CRC"):
                # Fed with what is the opposite of its own lowest bits, as it is inverted on its way out, the CRC moves
                # down by as many.
                m.d.comb += byte.eq(check.crc[:8])
                with m.If(~buffer.full & ~check.busy):
                    m.d.comb += [check.valid.eq(1), check.i.eq(~byte)]
                    put(byte)
                    m.d.sync += crc_left.eq(crc_left - 1)
                    with m.If(crc_left == 1):
                        m.next = "CODE"
            with m.State("CODE"):
                m.d.comb += [
                    buffer.write.eq(1),
                    buffer.write_place.eq(code_place),
                    buffer.write_data.eq(distance),
                ]
                m.next = "END"
            with m.State("END"):
                with m.If(~buffer.full):
                    m.d.comb += [
                        buffer.write.eq(1),
                        buffer.write_place.eq(buffer.tail),
                        buffer.write_data.eq(DELIMITER),
                        buffer.append.eq(1),
                    ]
                    m.next = "COMMIT"
            with m.State("COMMIT"):
                m.d.comb += buffer.commit.eq(1)
                m.next = "BEGIN"
            m.d.comb += self.active.eq(~fsm.ongoing("BEGIN"))
        return m
