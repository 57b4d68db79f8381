"""The link: a host at the other end of a serial line masters the accelerator's bus."""

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.framing import ByteRegister, FrameReceiver, FrameSender
from zeropoint_hw.host import HostBusSignature
from zeropoint_hw.isa import ADDRESS_WIDTH, REGION_SHIFT, Command, Region, Register, address
from zeropoint_hw.protocol import (
    ADDRESS_BYTES,
    CRC_BYTES,
    FLAG_LOADED,
    FRAME_BYTES,
    HASH_BYTES,
    HEADER_BYTES,
    IDENTITY_BYTES,
    MAX_DATA,
    NONCE_BYTES,
    REQUEST_BYTES,
    VERSION,
    WRITABLE,
    Request,
    Status,
    configuration_digest,
    word_bytes,
    word_step,
)
from zeropoint_hw.uart import UartReceiver, UartTransmitter, check_divisor

#: log2 of the bytes of answers that wait to be sent: two of the longest.
SEND_BITS = 9


class Link(wiring.Component):
    """Answers the requests of a host, in order, as ``docs/link.md`` describes the protocol.

    A request that changes something is carried out once, however often it comes. What comes while a request is under
    way waits in the receive buffer; what does not fit is dropped, as are damaged frames, and is to be sent again.

    Parameters
    ----------
    config
        The accelerator's.
    divisor
        Clock cycles of a bit on the line, 4 at least; see :func:`zeropoint_hw.protocol.divisor`.
    buffer_bits
        log2 of the receive buffer's bytes, 9 to 16.
    program_hash
        The hash of the program that is built in where ``config.built_in``; must be None otherwise.

    Members
    -------
    rx : In(1)
        From the host.
    tx : Out(1)
        To the host.
    host : Out(HostBusSignature())
        The accelerator's bus.
    hold : In(1)
        Requests wait.
    unusable : In(1)
        Nothing can be run: the weights are damaged.
    active : Out(1)
        Something is being received, done or sent.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of that kind or range.
    """

    def __init__(
        self, config: AcceleratorConfig, divisor: int, buffer_bits: int = 9, program_hash: bytes | None = None
    ) -> None:
        rom = config.built_in
        if (program_hash is not None) != rom:
            raise ValueError(
                f"weight_source {config.weight_source!s} and program_hash={program_hash!r} do not go together"
            )
        if program_hash is not None and len(program_hash) != HASH_BYTES:
            raise ValueError(f"program_hash must have {HASH_BYTES} bytes, not {len(program_hash)}")
        if not 9 <= buffer_bits <= 16:
            raise ValueError(f"buffer_bits must be 9 to 16, not {buffer_bits!r}")
        check_divisor(divisor)
        self._config, self._divisor = config, divisor
        self._buffer_bits, self._rom_hash = buffer_bits, program_hash
        super().__init__(
            {
                "rx": In(1),
                "tx": Out(1, init=1),
                "host": Out(HostBusSignature()),
                "hold": In(1),
                "unusable": In(1),
                "active": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.uart_receiver = receiver = UartReceiver(self._divisor)
        m.submodules.uart_transmitter = transmitter = UartTransmitter(self._divisor)
        m.submodules.frame_receiver = requests = FrameReceiver(self._buffer_bits)
        m.submodules.request_byte = request_byte = ByteRegister()
        m.submodules.frame_sender = answers = FrameSender(SEND_BITS)
        wiring.connect(m, answers.o, transmitter.i)
        wiring.connect(m, requests.o, request_byte.i)
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(transmitter.tx),
            requests.data.eq(receiver.data),
            requests.valid.eq(receiver.valid),
        ]
        idle = self._execute(m, request_byte.o, answers.i)
        waiting = requests.o.valid | request_byte.o.valid
        m.d.comb += self.active.eq(
            receiver.active | waiting | ~idle | answers.active | answers.o.valid | transmitter.active
        )
        return m

    def _execute(self, m: Module, requests: wiring.PureInterface, answers: wiring.PureInterface) -> Value:
        """Take requests byte by byte and answer them; return whether there is nothing to do."""
        config, host = self._config, self.host
        rom = self._rom_hash is not None

        #: Bytes of the request that are still to come, its CRC included.
        left = Signal(8)
        sequence, expected = Signal(8), Signal(8)
        request, known = Signal(3), Signal()
        status = Signal(Status)
        #: The session is open: the device has been identified since it was reset.
        opened = Signal()
        #: The request is the next one, and not one that was carried out before.
        due = Signal()
        at = Signal(ADDRESS_WIDTH)
        word = Signal(32)
        #: Counts the bytes of whatever consists of several.
        step = Signal(4)
        #: Bytes that are still to be read.
        count = Signal(8)
        program_hash = Signal(8 * HASH_BYTES, init=int.from_bytes(self._rom_hash or b"", "little"))
        loaded = Signal(init=rom)
        #: The request is as long as it has to be; its hash so far is that of the loaded program.
        fits, matching = Signal(), Signal()

        #: The next byte is a request's length.
        begins = Signal()
        byte, taken = requests.payload, requests.valid & requests.ready
        with m.If(taken):
            m.d.sync += left.eq(Mux(begins, byte, left) - 1)
        region = at[REGION_SHIFT:]
        in_activations = region == Region.ACTIVATIONS
        small, large = (word_bytes(config, each) for each in (Region.ACTIVATIONS, Region.PROGRAM))

        def ends_word() -> Value:
            """Return whether ``step`` counts the last byte of a word."""
            return step[:2] == (Mux(in_activations, small - 1, large - 1) if small != large else large - 1)

        def next_word() -> None:
            steps = (word_step(config, each) for each in (Region.ACTIVATIONS, Region.PROGRAM))
            narrow, wide = steps
            m.d.sync += [at.eq(at + (Mux(in_activations, narrow, wide) if narrow != wide else wide)), step.eq(0)]

        def answer(with_status: Status) -> None:
            m.d.sync += [status.eq(with_status), step.eq(0)]
            m.next = "HEADER"

        # Bytes enter a word at the top; one of fewer bytes is there when it is complete.
        m.d.comb += [
            host.address.eq(at),
            host.write_data.eq(Mux(in_activations, word >> 32 - 8 * small, word) if small != large else word),
        ]
        starts = (request == Request.RUN) | (request == Request.STEP)

        with m.FSM() as fsm:
            with m.State("LENGTH"):
                m.d.comb += [requests.ready.eq(~self.hold), begins.eq(1)]
                with m.If(taken):
                    m.next = "SEQUENCE"
            with m.State("SEQUENCE"):
                m.d.comb += requests.ready.eq(1)
                m.d.sync += sequence.eq(byte)
                with m.If(taken):
                    m.next = "CODE"
            with m.State("CODE"):
                m.d.comb += requests.ready.eq(1)
                m.d.sync += [request.eq(byte), known.eq(byte[3:] == 0), due.eq(sequence == expected), step.eq(0)]
                with m.If(taken):
                    m.next = "CHECK"
            with m.State("CHECK"):
                with m.Switch(request):
                    for each, length in REQUEST_BYTES.items():
                        with m.Case(each):
                            m.d.comb += fits.eq(left == length - HEADER_BYTES)
                    with m.Case(Request.WRITE):
                        # An address and a CRC at least.
                        m.d.comb += fits.eq((left[3:] != 0) | (left[:3] == ADDRESS_BYTES + CRC_BYTES))
                with m.If(~known | ~fits):
                    answer(Status.REQUEST)
                with m.Elif(request == Request.IDENTIFY):
                    m.d.sync += [opened.eq(1), due.eq(1)]
                    m.next = "NONCE"
                with m.Elif(~opened):
                    answer(Status.CLOSED)
                with m.Elif(~due & ~(expected - sequence)[7]):
                    # One of the last 128, which has been done. Reads have no effect: they are done again.
                    with m.If(request == Request.READ):
                        m.next = "ADDRESS"
                    with m.Else():
                        answer(Status.DONE)
                with m.Elif(~due):
                    answer(Status.SEQUENCE)
                with m.Elif((request == Request.READ) | (request == Request.WRITE)):
                    m.next = "ADDRESS"
                with m.Else():
                    m.d.sync += matching.eq(1)
                    m.next = "HASH"

            with m.State("NONCE"):
                # Kept, since from one buffer right into the other is a long way.
                m.d.comb += requests.ready.eq(1)
                with m.If(taken):
                    m.d.sync += [word.eq(Cat(word[8:], byte)), step.eq(step + 1)]
                    with m.If(step == NONCE_BYTES - 1):
                        answer(Status.DONE)
            with m.State("ADDRESS"):
                m.d.comb += requests.ready.eq(1)
                with m.If(taken):
                    m.d.sync += [at.eq(Cat(at[8:], byte)), step.eq(step + 1)]
                    with m.If(step == ADDRESS_BYTES - 1):
                        m.d.sync += step.eq(0)
                        m.next = "REGION"
            with m.State("REGION"):
                with m.If(request == Request.READ):
                    m.next = "COUNT"
                with m.Elif(Cat(Const(each in WRITABLE, 1) for each in range(8)).bit_select(region, 1)):
                    if not rom:
                        with m.If(~in_activations):
                            m.d.sync += loaded.eq(0)
                    m.next = "WRITE"
                with m.Else():
                    answer(Status.ADDRESS)

            with m.State("COUNT"):
                m.d.comb += requests.ready.eq(1)
                m.d.sync += count.eq(byte)
                with m.If(taken):
                    answer(Status.DONE)
                    with m.If(byte > MAX_DATA):
                        answer(Status.REQUEST)
            with m.State("READ"):
                m.d.comb += host.read.eq(1)
                m.next = "WAIT"
            with m.State("WAIT"):
                m.d.sync += word.eq(host.read_data)
                with m.If(host.read_valid):
                    m.next = "BYTES"
            with m.State("BYTES"):
                m.d.comb += [
                    answers.valid.eq(1),
                    answers.payload.data.eq(word[:8]),
                    answers.payload.last.eq(count == 1),
                ]
                with m.If(answers.ready):
                    # What enters at the top is nothing, the same as where it is something, which saves a multiplexer.
                    m.d.sync += [word.eq(Cat(word[8:], byte)), count.eq(count - 1), step.eq(step + 1)]
                    with m.If(answers.payload.last):
                        m.next = "REST"
                    with m.Elif(ends_word()):
                        next_word()
                        m.next = "READ"

            with m.State("WRITE"):
                with m.If(left == CRC_BYTES):
                    answer(Status.DONE)
                with m.Else():
                    m.d.comb += requests.ready.eq(1)
                    with m.If(taken):
                        m.d.sync += [word.eq(Cat(word[8:], byte)), step.eq(step + 1)]
                        with m.If(ends_word()):
                            m.next = "STORE"
            with m.State("STORE"):
                m.d.comb += host.write.eq(1)
                next_word()
                m.next = "WRITE"

            with m.State("HASH"):
                m.d.comb += requests.ready.eq(1)
                with m.If(taken):
                    first = byte if not rom else program_hash[:8]
                    entering = Mux(request == Request.LOADED, first, program_hash[:8])
                    m.d.sync += [
                        program_hash.eq(Cat(program_hash[8:], entering)),
                        matching.eq(matching & (byte == program_hash[:8])),
                        step.eq(step + 1),
                    ]
                    with m.If(step == HASH_BYTES - 1):
                        m.next = "HASHED"
            with m.State("HASHED"):
                m.d.sync += [at.eq(address(Region.CONTROL, Register.STATUS)), word.eq(Command.RUN)]
                with m.If(starts & self.unusable):
                    answer(Status.WEIGHTS)
                with m.Elif(starts & matching & loaded):
                    with m.If(request == Request.STEP):
                        m.d.sync += word.eq(Command.STEP)
                    m.next = "START"
                with m.Elif(starts | (rom & ~matching)):
                    answer(Status.PROGRAM)
                with m.Else():
                    m.d.sync += loaded.eq(1)
                    answer(Status.DONE)
            with m.State("START"):
                m.d.comb += host.write.eq(1)
                m.next = "ASK"
            with m.State("ASK"):
                m.d.comb += host.read.eq(1)
                m.next = "BUSY"
            with m.State("BUSY"):
                with m.If(host.read_valid):
                    m.next = "ASK"
                    with m.If(host.read_data == 0):
                        answer(Status.DONE)

            with m.State("HEADER"):
                done = status == Status.DONE
                identifies, reads = done & (request == Request.IDENTIFY), done & (request == Request.READ)
                more = identifies | (reads & (count != 0))
                length = Mux(identifies, IDENTITY_BYTES, Mux(reads, count + FRAME_BYTES, FRAME_BYTES))
                header = Cat(length[:8], sequence, status, Const(0, 5))
                m.d.comb += [
                    answers.valid.eq(1),
                    answers.payload.data.eq(header.word_select(step[:2], 8)),
                    answers.payload.last.eq((step == HEADER_BYTES - 1) & ~more),
                ]
                with m.If(answers.ready):
                    m.d.sync += step.eq(step + 1)
                    with m.If(step == HEADER_BYTES - 1):
                        with m.If(done & due):
                            m.d.sync += expected.eq(sequence + 1)
                        m.d.sync += step.eq(0)
                        m.next = "REST"
                        with m.If(identifies):
                            m.next = "ECHO"
                        with m.Elif(more):
                            m.next = "READ"

            with m.State("ECHO"):
                m.d.comb += [answers.valid.eq(1), answers.payload.data.eq(word[:8])]
                with m.If(answers.ready):
                    m.d.sync += [word.eq(Cat(word[8:], byte)), step.eq(step + 1)]
                    with m.If(step == NONCE_BYTES - 1):
                        m.d.sync += step.eq(0)
                        m.next = "ABOUT"
            with m.State("ABOUT"):
                about = [VERSION, self._buffer_bits, Mux(loaded, FLAG_LOADED, 0), *configuration_digest(config)]
                with m.Switch(step):
                    for place, value in enumerate(about):
                        with m.Case(place):
                            m.d.comb += answers.payload.data.eq(value)
                m.d.comb += answers.valid.eq(1)
                with m.If(answers.ready):
                    m.d.sync += step.eq(step + 1)
                    with m.If(step == len(about) - 1):
                        m.d.sync += step.eq(0)
                        m.next = "PROGRAM"
            with m.State("PROGRAM"):
                m.d.comb += [
                    answers.valid.eq(1),
                    answers.payload.data.eq(program_hash[:8]),
                    answers.payload.last.eq(step == HASH_BYTES - 1),
                ]
                with m.If(answers.ready):
                    m.d.sync += [program_hash.eq(Cat(program_hash[8:], program_hash[:8])), step.eq(step + 1)]
                    with m.If(answers.payload.last):
                        m.next = "REST"

            with m.State("REST"):
                m.d.comb += requests.ready.eq(left != 0)
                with m.If(left == 0):
                    m.next = "LENGTH"
        return fsm.ongoing("LENGTH")
