"""The link at its pins: each request, each refusal, each fault of the line."""

import zlib
from itertools import groupby

import pytest
from cobs import cobs
from support import coverage
from support.gateware import refused
from support.line import Bus, LinkOnBus, Wire

from zeropoint.host.frames import encode
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import Region, Register, address
from zeropoint_hw.link import Link
from zeropoint_hw.protocol import MAX_DATA, VERSION, Request, Status, configuration_digest
from zeropoint_sim.bench import run_bench

CONFIG = AcceleratorConfig(
    lanes=4, columns=4, activation_bytes=4096, weight_bytes=4096, parameter_channels=64, program_words=64
)
DIVISOR = 4
HASH = bytes(range(0xA0, 0xA8))
NONCE = b"\x00\x01\xfe\xff"
WORDS = address(Region.PARAMETERS, 0)
DATA = address(Region.ACTIVATIONS, 0)


class Story:
    """A host that has opened a session, and says what comes back."""

    def __init__(self, wire, dut):
        self.wire, self.dut, self.sequence = wire, dut, 0
        self.ctx = wire._ctx

    async def ask(self, request, arguments=b"", sequence=None):
        """Send a request, by default the next one, and return its answer."""
        number = self.sequence if sequence is None else sequence
        await self.wire.send(encode(number, request, arguments))
        (answer,) = await self.wire.answers(1)
        assert answer.sequence == number
        coverage.answered(request, answer.status)
        if sequence is None and answer.status == Status.DONE:
            self.sequence = (number + 1) % 256
        return answer

    async def done(self, request, arguments=b"", sequence=None):
        answer = await self.ask(request, arguments, sequence)
        assert answer.status == Status.DONE
        return answer.data

    async def write(self, at, data, sequence=None):
        assert await self.done(Request.WRITE, at.to_bytes(3, "little") + bytes(data), sequence) == b""

    async def read(self, at, count, sequence=None):
        return await self.done(Request.READ, at.to_bytes(3, "little") + bytes([count]), sequence)

    async def works(self):
        """Check that the device takes the next request, and does it."""
        await self.write(WORDS, b"\x11\x22\x33\x44")
        assert await self.read(WORDS, 4) == b"\x11\x22\x33\x44"


def tell(story, *, config=CONFIG, opened=True, deadline=200_000, busy_cycles=50, **options):
    """Run a story against a link of its own."""
    dut = LinkOnBus(Link(config, DIVISOR, **options), Bus(busy_cycles))

    async def bench(ctx):
        ctx.set(dut.rx, 1)
        wire = Wire(ctx, dut.rx, dut.tx, DIVISOR)
        await wire.cycles(5)
        host = Story(wire, dut)
        if opened:
            await host.done(Request.IDENTIFY, NONCE)
        await story(host)
        assert not ctx.get(dut.overlap), "memory was accessed during a run"
        await wire.cycles(200)
        assert not ctx.get(dut.active)
        assert not wire.received

    run_bench(dut, bench, deadline=deadline)


def test_identification_says_what_it_is_and_echoes_the_nonce():
    async def story(host):
        data = await host.done(Request.IDENTIFY, NONCE, sequence=77)
        assert data == NONCE + bytes([VERSION, 9, 0]) + configuration_digest(CONFIG) + bytes(8)
        host.sequence = 78
        await host.works()
        # It opens a session at any time.
        await host.done(Request.IDENTIFY, NONCE, sequence=200)
        host.sequence = 201
        await host.works()

    tell(story, opened=False)


def test_nothing_is_done_before_it():
    async def story(host):
        for request, arguments in (
            (Request.READ, bytes(4)),
            (Request.WRITE, WORDS.to_bytes(3, "little") + b"abcd"),
            (Request.LOADED, HASH),
            (Request.RUN, HASH),
            (Request.STEP, bytes(8)),
        ):
            assert (await host.ask(request, arguments)).status == Status.CLOSED
        assert host.ctx.get(host.dut.writes) == 0

    tell(story, opened=False)


@pytest.mark.parametrize("size", [0, 8, MAX_DATA])
def test_words_are_written_and_read_one_after_the_other(size):
    data = bytes((7 * place) % 5 * 50 + (place == 3) for place in range(size))

    async def story(host):
        await host.write(WORDS, data)
        assert await host.read(WORDS, size) == data
        assert host.ctx.get(host.dut.writes) == size // 4
        # From the middle of a word's bytes on there is nothing: what is left of a word is not sent.
        if size:
            assert await host.read(WORDS, size - 1) == data[:-1]

    tell(story)


def test_what_is_left_of_a_word_is_not_written():
    async def story(host):
        await host.write(WORDS, b"\x01\x02\x03\x04\x05\x06")
        assert host.ctx.get(host.dut.writes) == 1
        assert await host.read(WORDS, 8) == b"\x01\x02\x03\x04\0\0\0\0"
        await host.write(WORDS, b"\x09\x08\x07\x06")
        assert await host.read(WORDS, 4) == b"\x09\x08\x07\x06"

    tell(story)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_word_of_activations_is_what_the_bus_carries(size):
    config = AcceleratorConfig(lanes=4, columns=size, activation_bytes=4096, weight_bytes=4096, parameter_channels=64)
    assert config.host_bytes == size
    data = bytes(range(1, 1 + 4 * size))
    start = address(Region.ACTIVATIONS, 8)

    async def story(host):
        await host.write(start, data)
        assert host.ctx.get(host.dut.writes) == 4
        assert await host.read(start, len(data)) == data
        # Addresses go on by as many; the bus of this test has whole words at each.
        assert await host.read(start + size, size) == data[size : 2 * size]

    tell(story, config=config)


def test_a_program_is_known_by_its_hash_until_something_is_written():
    async def story(host):
        async def identity():
            host.sequence = (host.sequence + 1) % 256
            data = await host.done(Request.IDENTIFY, NONCE)
            return data[6], data[-8:]

        assert (await host.ask(Request.RUN, HASH)).status == Status.PROGRAM
        assert (await host.ask(Request.RUN, bytes(8))).status == Status.PROGRAM
        for region in (Region.PROGRAM, Region.PARAMETERS, Region.WEIGHTS, Region.TABLES):
            await host.done(Request.LOADED, HASH)
            assert await identity() == (1, HASH)
            await host.write(address(Region.ACTIVATIONS, 0), bytes(4))
            assert await host.done(Request.RUN, HASH) == b""
            assert host.ctx.get(host.dut.last_command) == 1
            assert await host.done(Request.STEP, HASH) == b""
            assert host.ctx.get(host.dut.last_command) == 2
            for place in (0, 7) if region is Region.PROGRAM else (3,):
                other = bytearray(HASH)
                other[place] ^= 0x10
                assert (await host.ask(Request.RUN, bytes(other))).status == Status.PROGRAM
            await host.write(address(region, 0), bytes(4))
            assert (await identity())[0] == 0
            assert (await host.ask(Request.RUN, HASH)).status == Status.PROGRAM
        assert host.ctx.get(host.dut.runs) == 8

    tell(story, deadline=400_000)


def test_a_program_that_is_built_in_stays():
    config = AcceleratorConfig(**(CONFIG.to_dict() | {"weight_source": "rom"}))

    async def story(host):
        assert (await host.done(Request.IDENTIFY, NONCE, 9))[-12:][4:] == HASH
        host.sequence = 10
        await host.done(Request.RUN, HASH)
        assert (await host.ask(Request.LOADED, bytes(8))).status == Status.PROGRAM
        await host.done(Request.LOADED, HASH)
        await host.write(address(Region.WEIGHTS, 0), bytes(4))
        await host.done(Request.RUN, HASH)
        assert (await host.ask(Request.RUN, bytes(8))).status == Status.PROGRAM

    tell(story, config=config, program_hash=HASH)


def test_a_run_is_answered_when_it_is_done():
    async def story(host):
        await host.done(Request.LOADED, HASH)
        await host.wire.send(encode(host.sequence, Request.RUN, HASH))
        assert await host.wire.answers(1, limit=2500) == []
        (answer,) = await host.wire.answers(1, limit=1500)
        assert answer.status == Status.DONE

    tell(story, busy_cycles=3000)


def test_without_whole_weights_nothing_runs():
    async def story(host):
        await host.write(WORDS, b"abcd")
        await host.done(Request.LOADED, HASH)
        # They are being copied.
        host.ctx.set(host.dut.hold, 1)
        await host.wire.send(encode(host.sequence, Request.RUN, HASH))
        await host.wire.cycles(3000)
        assert not host.wire.received
        assert host.ctx.get(host.dut.runs) == 0
        # They are damaged.
        host.ctx.set(host.dut.unusable, 1)
        host.ctx.set(host.dut.hold, 0)
        (answer,) = await host.wire.answers(1)
        assert (answer.sequence, answer.status) == (host.sequence, Status.WEIGHTS)
        coverage.answered(Request.RUN, answer.status)
        assert (await host.ask(Request.STEP, HASH)).status == Status.WEIGHTS
        assert host.ctx.get(host.dut.runs) == 0
        host.ctx.set(host.dut.unusable, 0)
        await host.done(Request.RUN, HASH)
        assert host.ctx.get(host.dut.runs) == 1

    tell(story)


def test_it_is_active_from_the_first_bit_to_the_last():
    async def story(host):
        await host.done(Request.LOADED, HASH)
        await host.wire.cycles(100)
        assert not host.ctx.get(host.dut.active)
        line = encode(host.sequence, Request.RUN, HASH)
        seen = []

        async def watch(cycles):
            for _ in range(cycles):
                await host.wire.cycles(1)
                seen.append(host.ctx.get(host.dut.active))

        # A frame comes bit by bit, is done, and its answer goes, without a pause.
        for byte in line:
            for bit in [0, *(byte >> place & 1 for place in range(8)), 1]:
                host.ctx.set(host.dut.rx, bit)
                await watch(DIVISOR)
        while not host.wire.received or host.wire.received[-1]:
            await watch(1)
        assert seen.index(1) < 2 * DIVISOR
        first, last = seen.index(1), len(seen) - seen[::-1].index(1)
        # The end of a stop bit is no activity, whichever end of the line sends it.
        gaps = [length for length, value in runs(seen[first:last]) if not value]
        assert max(gaps, default=0) <= DIVISOR
        await watch(4 * DIVISOR)
        assert not seen[-1]
        assert [answer.status for answer in await host.wire.answers(1)] == [Status.DONE]

    tell(story, busy_cycles=500)


def runs(values):
    """Return how often each value comes in a row, and which it is."""
    return [(len(list(group)), value) for value, group in groupby(values)]


def test_what_comes_during_a_run_waits():
    async def story(host):
        await host.done(Request.LOADED, HASH)
        first = host.sequence
        await host.wire.send(encode(first, Request.RUN, HASH))
        start = WORDS.to_bytes(3, "little")
        await host.wire.send(encode(first + 1, Request.WRITE, start + b"abcd"))
        await host.wire.send(encode(first + 2, Request.READ, start + b"\x04"))
        # A host that waits no longer sends them again.
        await host.wire.send(encode(first, Request.RUN, HASH))
        await host.wire.send(encode(first + 1, Request.WRITE, start + b"wxyz"))
        answers = await host.wire.answers(5)
        assert [answer.sequence - first for answer in answers] == [0, 1, 2, 0, 1]
        assert {answer.status for answer in answers} == {Status.DONE}
        assert answers[2].data == b"abcd"
        assert host.ctx.get(host.dut.runs) == 1
        host.sequence += 3
        assert await host.read(WORDS, 4) == b"abcd"

    tell(story, busy_cycles=6000)


def test_what_was_done_is_not_done_again():
    async def story(host):
        await host.done(Request.LOADED, HASH)
        host.sequence = 250
        await host.done(Request.IDENTIFY, NONCE)
        await host.write(DATA, b"abcd")
        writes, runs = (host.ctx.get(count) for count in (host.dut.writes, host.dut.runs))
        for age in (1, 2, 127):
            old = (host.sequence - age) % 256
            assert await host.done(Request.WRITE, DATA.to_bytes(3, "little") + b"zzzz", old) == b""
            assert await host.done(Request.RUN, HASH, old) == b""
            # Not even with another hash, as it is not looked at.
            assert await host.done(Request.LOADED, bytes(8), old) == b""
            assert await host.read(DATA, 4, old) == b"abcd"
        assert [host.ctx.get(count) for count in (host.dut.writes, host.dut.runs)] == [writes, runs]
        await host.done(Request.RUN, HASH)
        await host.works()

    tell(story)


def test_a_missing_request_is_noticed():
    async def story(host):
        for ahead, request, arguments in (
            (1, Request.WRITE, WORDS.to_bytes(3, "little") + b"abcd"),
            (2, Request.READ, bytes(4)),
            (100, Request.LOADED, HASH),
            (127, Request.STEP, HASH),
            (128, Request.RUN, HASH),
        ):
            number = (host.sequence + ahead) % 256
            assert (await host.ask(request, arguments, number)).status == Status.SEQUENCE
        assert host.ctx.get(host.dut.writes) == 0
        await host.works()

    tell(story)


REFUSED = (
    (6, bytes(1), Status.REQUEST),
    (7, bytes(8), Status.REQUEST),
    (Request.RUN | 8, HASH, Status.REQUEST),
    (255, bytes(8), Status.REQUEST),
    (Request.IDENTIFY, bytes(3), Status.REQUEST),
    (Request.READ, bytes(3), Status.REQUEST),
    (Request.READ, bytes(5), Status.REQUEST),
    (Request.READ, bytes([0, 0, 0, MAX_DATA + 1]), Status.REQUEST),
    (Request.READ, bytes([0, 0, 0, 255]), Status.REQUEST),
    (Request.WRITE, bytes(2), Status.REQUEST),
    (Request.WRITE, bytes(1), Status.REQUEST),
    (Request.RUN, bytes(7), Status.REQUEST),
    (Request.STEP, bytes(9), Status.REQUEST),
    (Request.LOADED, bytes(9), Status.REQUEST),
    (Request.WRITE, address(Region.CONTROL, Register.STATUS).to_bytes(3, "little") + bytes(4), Status.ADDRESS),
    (Request.WRITE, address(Region.LOG, 0).to_bytes(3, "little") + bytes(4), Status.ADDRESS),
    (Request.WRITE, (7 << 21).to_bytes(3, "little") + bytes(4), Status.ADDRESS),
    (Request.STEP, HASH, Status.PROGRAM),
    (Request.RUN, HASH, Status.PROGRAM),
)


def test_what_cannot_be_done_is_refused_and_changes_nothing():
    async def story(host):
        for code, arguments, status in REFUSED:
            answer = await host.ask(code, arguments)
            assert (answer.status, answer.data) == (status, b"")
        # As often as it is asked.
        answer = await host.ask(code, arguments)
        assert answer.status == status
        assert host.ctx.get(host.dut.writes) == 0
        await host.works()

    tell(story)


# The first request of a session, and later an old one: not to be told by its answer, but by what it has done.
GOOD = encode(1, Request.WRITE, WORDS.to_bytes(3, "little") + b"abcd")


def raw(frame):
    """Return a frame on the line with the CRC that it should have."""
    return cobs.encode(frame + zlib.crc32(frame).to_bytes(4, "little")) + b"\0"


FAULTS = {
    "nothing": b"",
    "delimiters": bytes(5),
    "garbage before it": b"\x55\xaa\xff\x01\x80\x00",
    "a byte is lost": GOOD[:7] + GOOD[8:],
    "the first byte is lost": GOOD[1:],
    "the delimiter before it is lost": GOOD[:-1] + GOOD,
    "a byte comes twice": GOOD[:5] + GOOD[4:],
    "a bit is wrong": GOOD[:6] + bytes([GOOD[6] ^ 4]) + GOOD[7:],
    "the CRC is wrong": GOOD[:-2] + bytes([GOOD[-2] ^ 1]) + GOOD[-1:],
    "a code is wrong": bytes([GOOD[0] ^ 1]) + GOOD[1:],
    "the host stops in its middle": GOOD[:9],
    "the length is too small": raw(bytes([13]) + cobs.decode(GOOD[:-1])[1:-4]),
    "the length is too large": raw(bytes([16]) + cobs.decode(GOOD[:-1])[1:-4]),
    "it is too short": raw(b"\x07\x01\x02"),
    "there is nothing but a CRC": raw(b""),
    "it is longer than any": bytes([200]) * 700 + b"\0",
}


def test_a_damaged_frame_is_dropped_and_the_next_one_is_taken():
    async def story(host):
        for fault, line in FAULTS.items():
            await host.wire.send(line)
            assert await host.wire.answers(1, limit=300) == [], fault
            assert host.ctx.get(host.dut.writes) == 0, fault
            # A host that has to send again begins with a delimiter.
            await host.wire.send(b"\0")
            assert await host.read(DATA, 4) == bytes(4), fault
        await host.works()

    tell(story)


def test_the_frame_of_the_faults_is_taken_when_it_is_whole():
    async def story(host):
        await host.wire.send(GOOD)
        (answer,) = await host.wire.answers(1)
        assert (answer.sequence, answer.status) == (1, Status.DONE)
        assert host.ctx.get(host.dut.writes) == 1

    tell(story)


def test_a_byte_without_stop_bit_is_none():
    async def story(host):
        await host.wire.send(GOOD[:5])
        await host.wire.send(GOOD[5:6], stop=0)
        await host.wire.cycles(10 * DIVISOR)
        await host.wire.send(GOOD[6:])
        assert await host.wire.answers(1, limit=1000) == []
        # A line that is held low is no frame.
        host.ctx.set(host.dut.rx, 0)
        await host.wire.cycles(100 * DIVISOR)
        host.ctx.set(host.dut.rx, 1)
        await host.wire.cycles(20 * DIVISOR)
        await host.wire.send(b"\0")
        await host.works()

    tell(story)


def test_more_than_fits_the_buffer_is_dropped_and_nothing_of_it_is_done():
    async def story(host):
        await host.done(Request.LOADED, HASH)
        first = host.sequence
        await host.wire.send(encode(first, Request.RUN, HASH))
        data = bytes(range(1, 201))
        start = address(Region.ACTIVATIONS, 0).to_bytes(3, "little")
        for place in range(1, 4):
            await host.wire.send(encode(first + place, Request.WRITE, start + data))
        answers = await host.wire.answers(4, limit=30_000)
        assert [answer.sequence - first for answer in answers] == [0, 1, 2]
        host.sequence += 3
        await host.works()

    tell(story, busy_cycles=40_000)


def test_what_cannot_be_built_is_refused():
    with refused(ValueError, r"^divisor must be 4 to 1048576, not 3$"):
        Link(CONFIG, 3)
    with refused(TypeError, r"^divisor must be an integer, not 4.0$"):
        Link(CONFIG, 4.0)
    with refused(ValueError, r"^buffer_bits must be 9 to 16, not 8$"):
        Link(CONFIG, 4, 8)
    with refused(ValueError, r"^weight_source ram and program_hash=b'' do not go together$"):
        Link(CONFIG, 4, program_hash=b"")
    rom = AcceleratorConfig(weight_source="rom")
    with refused(ValueError, r"^weight_source rom and program_hash=None do not go together$"):
        Link(rom, 4)
    with refused(ValueError, r"^program_hash must have 8 bytes, not 3$"):
        Link(rom, 4, program_hash=b"abc")
