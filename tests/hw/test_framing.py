"""Frames in gateware, against COBS and CRC-32 as others have written them."""

import random
import zlib

import pytest
from cobs import cobs

from zeropoint_hw.framing import CRC_CYCLES, ByteRegister, FrameReceiver, FrameSender
from zeropoint_sim.bench import Stalls, get, put, run_bench


def frames(seed, count):
    """Return frames without their CRC, of any length, with many zeros and with none."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        size = [4, 248, rng.randint(4, 40)][number % 10 if number % 10 < 2 else 2]
        zeros = rng.choice([0, 0.1, 0.9])
        body = bytes(0 if rng.random() < zeros else rng.randint(1, 255) for _ in range(size - 1))
        made.append(bytes([size + 4]) + body)
    return made


def test_a_register_takes_a_byte_that_nobody_wants_yet():
    dut = ByteRegister()
    made = list(b"\0some bytes\xff")

    async def source(ctx):
        await put(ctx, dut.i, made, Stalls(5, 0.3))

    async def sink(ctx):
        await ctx.tick().repeat(9)
        assert ctx.get(dut.o.valid)
        assert await get(ctx, dut.o, len(made), Stalls(6)) == made

    run_bench(dut, source, sink, deadline=200)


def with_crc(frame):
    return frame + zlib.crc32(frame).to_bytes(4, "little")


@pytest.mark.parametrize(("bits", "slow"), [(9, True), (12, False)])
def test_frames_are_sent_with_their_crc(bits, slow):
    made = frames(1, 14)
    line = b"".join(cobs.encode(with_crc(frame)) + b"\0" for frame in made)
    dut = FrameSender(bits)

    async def source(ctx):
        values = [{"data": byte, "last": place == len(frame) - 1} for frame in made for place, byte in enumerate(frame)]
        await put(ctx, dut.i, values, Stalls(1, 0.3))

    async def sink(ctx):
        got = await get(ctx, dut.o, len(line), Stalls(2, 0.95) if slow else None)
        assert bytes(got) == line
        assert not ctx.get(dut.active)

    run_bench(dut, source, sink, deadline=100_000)


def received(pieces, bits=9, expected=b"", stalls=None):
    """Check what a receiver makes of bytes of the line."""
    dut = FrameReceiver(bits)
    line = b"".join(pieces)

    async def source(ctx):
        for byte in line:
            ctx.set(dut.data, byte)
            ctx.set(dut.valid, 1)
            await ctx.tick()
            ctx.set(dut.valid, 0)
            ctx.set(dut.data, byte ^ 0xFF)
            await ctx.tick().repeat(CRC_CYCLES)
        await ctx.tick().repeat(4)

    async def sink(ctx):
        got = await get(ctx, dut.o, len(expected), stalls)
        assert bytes(got) == expected
        await ctx.tick().repeat(20)
        assert not ctx.get(dut.o.valid)

    run_bench(dut, source, sink, deadline=40 * len(line) + 1000)


def test_frames_are_received_and_damaged_ones_dropped():
    rng = random.Random(3)
    pieces, expected = [], b""
    for number, frame in enumerate(frames(4, 30)):
        if len(frame) < 4:
            continue
        line = bytearray(cobs.encode(with_crc(frame)) + b"\0")
        fault = number % 3
        if fault == 1:
            line[rng.randrange(len(line) - 1)] ^= 1 << rng.randrange(8)
        elif fault == 2:
            del line[rng.randrange(len(line) - 1)]
        else:
            expected += with_crc(frame)
        pieces.append(bytes(line))
        # A damaged byte may have ended the frame too early, and its rest is a frame of its own, as damaged.
    received(pieces, expected=expected)


def test_every_single_bit_counts():
    frame = with_crc(b"\x0b\x05\x00\x01\x00\x00\x07")
    line = cobs.encode(frame) + b"\0"
    damaged = []
    for place in range(8 * len(line)):
        copy = bytearray(line)
        copy[place // 8] ^= 1 << place % 8
        # With its last byte damaged it does not end, which a delimiter makes up for.
        damaged.append(bytes(copy) + b"\0")
    received([*damaged, line], expected=frame)


def test_frames_that_do_not_fit_are_dropped_whole():
    frame = with_crc(bytes([204]) + bytes(range(1, 200)))
    line = cobs.encode(frame) + b"\0"
    short = with_crc(b"\x0a\x05\x00\x01\x00\x02")
    # Two of them fit 511 bytes, and after a third one still something short.
    dut = FrameReceiver(9)

    async def source(ctx):
        for byte in line * 3 + cobs.encode(short) + b"\0":
            ctx.set(dut.data, byte)
            ctx.set(dut.valid, 1)
            await ctx.tick()
            ctx.set(dut.valid, 0)
            await ctx.tick().repeat(CRC_CYCLES)
        await ctx.tick().repeat(4)
        assert bytes(await get(ctx, dut.o, 2 * len(frame) + len(short))) == frame * 2 + short
        await ctx.tick().repeat(9)
        assert not ctx.get(dut.o.valid)

    run_bench(dut, source, deadline=50_000)


def test_a_wrong_expectation_is_seen():
    frame = with_crc(b"\x0b\x05\x00\x01\x00\x00\x07")
    with pytest.raises(AssertionError):
        received([cobs.encode(frame) + b"\0"], expected=frame[:-1] + bytes([frame[-1] ^ 1]))
