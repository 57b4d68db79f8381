import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.spi_flash import FlashReader
from zeropoint_sim.bench import Stalls, get, run_bench
from zeropoint_sim.flash_model import FlashModel

OFFSET = 0x123400


class Quick(FlashReader):
    """Does not wait as long as a slow flash wants it."""

    WAKE_CYCLES = 64


class Read(wiring.Component):
    """A reader and the flash that it reads."""

    def __init__(self, image, wake_cycles=50):
        self._image, self._wake_cycles = image, wake_cycles
        super().__init__({"start": In(1), "address": In(24), "stop": In(1), "o": Out(stream.Signature(8))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.reader = reader = Quick()
        m.submodules.flash = flash = FlashModel(self._image, OFFSET, self._wake_cycles)
        wiring.connect(m, reader.pins, flash.pins)
        wiring.connect(m, reader.o, wiring.flipped(self.o))
        m.d.comb += [reader.start.eq(self.start), reader.address.eq(self.address), reader.stop.eq(self.stop)]
        return m


def check(dut, image, reads, stalls=None):
    """Read from some places, each as many bytes, and compare them with the image; beside it there are ones."""
    contents = dict(enumerate(image, OFFSET))

    async def bench(ctx):
        for address, count in reads:
            ctx.set(dut.address, address)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            # A byte of the read before may be on offer until the flash is left.
            await ctx.tick().repeat(2)
            expected = [contents.get(place % (1 << 24), 0xFF) for place in range(address, address + count)]
            assert await get(ctx, dut.o, count, stalls) == expected, hex(address)

    run_bench(dut, bench, deadline=2000 + sum(1000 + 200 * count for _, count in reads))


@pytest.mark.parametrize("pausing", [0, 0.95], ids=["at-once", "with-pauses"])
def test_bytes_from_anywhere(pausing):
    rng = np.random.default_rng(0)
    image = rng.integers(256, size=300, dtype=np.uint8).tobytes()
    reads = [(OFFSET, 20), (OFFSET + 255, 9), (OFFSET + 290, 14), (OFFSET - 3, 6), (OFFSET + 7, 1), (0, 2)]
    check(Read(image), image, reads, Stalls(1, pausing))


def test_a_byte_is_there_before_it_is_wanted():
    dut = Read(b"\x5a")

    async def bench(ctx):
        ctx.set(dut.address, OFFSET)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        await ctx.tick().repeat(300)
        assert ctx.get(dut.o.valid)
        assert await get(ctx, dut.o, 1) == [0x5A]

    run_bench(dut, bench, deadline=500)


def test_a_flash_that_is_asked_too_early_sleeps_on():
    image = bytes(range(32))
    with pytest.raises(AssertionError, match="0x123400"):
        check(Read(image, wake_cycles=80), image, [(OFFSET, 4)])


def test_a_wrong_byte_is_seen():
    image = bytes(range(32))
    with pytest.raises(AssertionError, match="0x123405"):
        check(Read(image), bytes([*image[:7], 99, *image[8:]]), [(OFFSET, 4), (OFFSET + 5, 4)])
