from dataclasses import replace

import numpy as np
import pytest
from amaranth.hdl import Module, Mux
from support.banks import BANKS, check_bank
from support.gateware import packed, refused, unpacked

from zeropoint_hw.banks import SinglePortBank
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.memory import ActivationMemory, ParameterMemory, WordMemory
from zeropoint_sim.bench import run_bench


def activation_config(lanes, requantizers, rows):
    return AcceleratorConfig(
        lanes=lanes, columns=lanes, requantizers=requantizers, activation_bytes=lanes * rows, weight_bytes=1 << 13
    )


def replay(config, accesses, memory=ActivationMemory, split=None, jump=0):
    """Put ``accesses`` (read address, write address, bytes written), one a cycle, through a memory full of zeros.

    A bytearray is the model. Every byte that its promise covers is checked: within the memory, and not written in the
    cycle of the read. With one port, it must have been written, as SPRAM is not full of zeros, and nothing is read in
    the cycle of a write. Lanes from ``split`` on read ``jump`` rows further on.
    """
    dut = memory(config)
    split = config.lanes if split is None else split
    size, one_port = config.activation_bytes, config.activation_ports == 1
    model = bytearray(size)
    written_at = np.full(size, -9)
    checked = 0
    pending = {}

    async def bench(ctx):
        nonlocal checked
        ctx.set(dut.read_split, split)
        ctx.set(dut.read_jump, jump)
        for cycle in range(len(accesses) + dut.READ_LATENCY):
            if cycle in pending:
                got = unpacked(ctx.get(dut.read_data.as_value()), 8, config.lanes)
                for lane, byte in pending.pop(cycle).items():
                    assert got[lane] == byte, f"cycle {cycle}, lane {lane}: {got[lane]:#x} instead of {byte:#x}"
                    checked += 1
            if cycle < len(accesses):
                read, write, data = accesses[cycle]
                ctx.set(dut.read_address, read)
                ctx.set(dut.write_address, write)
                ctx.set(dut.write_data.as_value(), packed(data, 8) | 0xA5 << 8 * len(data))
                ctx.set(dut.write_count, len(data))
                places = [read + lane + config.lanes * jump * (lane >= split) for lane in range(config.lanes)]
                pending[cycle + dut.READ_LATENCY] = {
                    lane: model[address]
                    for lane, address in enumerate(places)
                    if address < size and written_at[address] < cycle
                    if not one_port or (written_at[address] >= 0 and not data)
                }
                model[write : write + len(data)] = bytes(data)
                written_at[write : write + len(data)] = cycle
            await ctx.tick()

    run_bench(dut, bench, deadline=len(accesses) + 20)
    return checked


def every_write_then_every_read(config, rng):
    """Every count of bytes at every offset within a word, then reads of every byte address."""
    size, accesses = config.activation_bytes, []
    for offset in range(config.lanes):
        for count in range(config.requantizers + 1):
            row = int(rng.integers(size // config.lanes - 1)) * config.lanes
            accesses.append((0, row + offset, rng.integers(256, size=count).tolist()))
    # The last bytes too.
    accesses += [
        (0, size - count, rng.integers(256, size=count).tolist()) for count in range(config.requantizers, 0, -1)
    ]
    accesses += [(0, 0, [])] * 2
    accesses += [(address, 0, []) for address in range(size)]
    return accesses


def at_random(config, rng, count):
    """Reads and writes in the same cycles, close together."""
    size, accesses = config.activation_bytes, []
    for _ in range(count):
        write_count = int(rng.integers(config.requantizers + 1))
        write = int(rng.integers(size - write_count + 1))
        read = int(np.clip(write + rng.integers(-2 * config.lanes, 2 * config.lanes + 1), 0, size - 1))
        accesses.append((read, write, rng.integers(256, size=write_count).tolist()))
    return accesses


@pytest.mark.parametrize(
    ("lanes", "requantizers", "rows"), [(1, 1, 11), (2, 1, 8), (2, 2, 7), (4, 4, 6), (8, 4, 13), (8, 8, 4), (16, 2, 3)]
)
def test_activations_at_any_address(lanes, requantizers, rows):
    config = activation_config(lanes, requantizers, rows)
    rng = np.random.default_rng(lanes * 100 + requantizers)
    accesses = every_write_then_every_read(config, rng) + at_random(config, rng, 400)
    assert replay(config, accesses) > 300 * lanes


@pytest.mark.parametrize(("lanes", "rows"), [(1, 11), (2, 16), (4, 13), (8, 16)])
def test_activations_from_two_rows(lanes, rows):
    config = activation_config(lanes, 1, rows)
    rng = np.random.default_rng(lanes)
    for split in {0, 1, lanes // 2, lanes - 1, lanes}:
        assert replay(config, at_random(config, rng, 150), split=split, jump=int(rng.integers(rows // 2))) > 40 * lanes


@pytest.mark.parametrize(
    ("lanes", "requantizers", "rows"), [(2, 1, 1 << 15), (1, 1, 1 << 16), (4, 4, 1 << 15), (2, 2, 1 << 16)]
)
def test_activations_with_one_port(lanes, requantizers, rows):
    # On iCE40 UltraPlus a bank is an SPRAM, half of each word for the first rows and half for those from 16,384 on, or
    # several.
    config = replace(activation_config(lanes, requantizers, rows), activation_ports=1)
    rng, accesses = np.random.default_rng(lanes), []
    starts = [0, lanes * (rows // 2) - 9, lanes * rows - 40, lanes * (rows // 2 + 7), lanes * 7]
    writes = [start + place for start in starts for place in range(36)]
    for _ in range(2):
        for write in rng.permutation(writes).tolist():
            # What is read while something is written changes too; then there is another address in every cycle.
            reads = np.maximum(0, rng.choice(writes, 4) - rng.integers(lanes, size=4)).tolist()
            data = rng.integers(256, size=1 + int(rng.integers(requantizers))).tolist()
            accesses += [(reads[0], write, data), *((read, write, []) for read in reads[1:])]
    assert replay(config, accesses) > 500 * lanes


@pytest.mark.parametrize(("width", "depth"), BANKS)
def test_a_bank_with_one_port(width, depth):
    check_bank(SinglePortBank(width, depth), width, depth)


def test_activations_beside_a_negative_address():
    # Padding on the left reads from before the feature map; the lanes beyond it must be right all the same.
    config = activation_config(4, 4, 6)
    dut = ActivationMemory(config)

    async def bench(ctx):
        ctx.set(dut.read_split, 4)
        ctx.set(dut.write_data.as_value(), 0x44332211)
        ctx.set(dut.write_count, 4)
        await ctx.tick()
        ctx.set(dut.write_count, 0)
        for before in (1, 2, 3):
            ctx.set(dut.read_address, -before)
            await ctx.tick().repeat(dut.READ_LATENCY)
            got = unpacked(ctx.get(dut.read_data.as_value()), 8, 4)
            assert got[before:] == [0x11, 0x22, 0x33, 0x44][: 4 - before]

    run_bench(dut, bench, deadline=100)


class Forgetful(ActivationMemory):
    """Loses what a write carries into the next row."""

    def elaborate(self, platform):
        m = Module()
        m.submodules.whole = whole = ActivationMemory(self._config)
        room = self._config.lanes - self.write_address % self._config.lanes
        m.d.comb += [
            whole.read_address.eq(self.read_address),
            whole.read_split.eq(self.read_split),
            self.read_data.eq(whole.read_data),
            whole.write_address.eq(self.write_address),
            whole.write_data.eq(self.write_data),
            whole.write_count.eq(Mux(self.write_count > room, room, self.write_count)),
        ]
        return m


def test_lost_bytes_are_seen():
    config = activation_config(4, 4, 6)
    accesses = every_write_then_every_read(config, np.random.default_rng(1))
    with pytest.raises(AssertionError, match=r"^cycle \d+, lane \d: 0x\w+ instead of 0x\w+"):
        replay(config, accesses, Forgetful)


@pytest.mark.parametrize(("width", "depth", "piece"), [(32, 5, 32), (64, 7, 32), (512, 3, 32), (8, 9, 8), (24, 6, 8)])
def test_words_written_in_pieces(width, depth, piece):
    dut = WordMemory(width, depth, piece)
    rng = np.random.default_rng(width)
    pieces = width // piece
    model = [[0] * pieces for _ in range(depth)]

    async def bench(ctx):
        for round_ in range(3):
            for place in rng.permutation(depth * pieces):
                word, part = divmod(int(place), pieces)
                enable = int(round_ == 0 or rng.integers(2))
                value = int(rng.integers(1 << piece))
                ctx.set(dut.write_address, word)
                ctx.set(dut.write_piece, part)
                ctx.set(dut.write_data, value)
                ctx.set(dut.write_enable, enable)
                await ctx.tick()
                if enable:
                    model[word][part] = value
            ctx.set(dut.write_enable, 0)
            # One read a cycle.
            for cycle in range(depth + dut.READ_LATENCY):
                if cycle >= dut.READ_LATENCY:
                    word = cycle - dut.READ_LATENCY
                    assert ctx.get(dut.read_data) == packed(model[word], piece)
                ctx.set(dut.read_address, cycle % depth)
                await ctx.tick()

    run_bench(dut, bench, deadline=1000)


def test_words_in_a_rom():
    words = [0xDEADBEEF, 0, 0xFFFFFFFF, 7]
    dut = WordMemory(32, 6, 32, np.array(words, np.uint32))
    assert not hasattr(dut, "write_enable")

    async def bench(ctx):
        for address, word in enumerate([*words, 0, 0]):
            ctx.set(dut.read_address, address)
            await ctx.tick().repeat(dut.READ_LATENCY)
            assert ctx.get(dut.read_data) == word

    run_bench(dut, bench, deadline=100)


def test_word_memory_is_validated():
    with refused(ValueError, r"^a word of 24 bits has no pieces of 16$"):
        WordMemory(24, 4, 16)
    with refused(ValueError, r"^5 words do not fit a memory of 4$"):
        WordMemory(8, 4, 8, [0] * 5)


CHANNELS = [
    (-(1 << 31), 0, -31),
    ((1 << 31) - 1, (1 << 31) - 1, 30),
    (-1, 1 << 30, 0),
    (5, 6, -7),
    (8, 9, 1),
    (0, 1, 2),
]


def check_parameters(dut, count, channels, first_writes=()):
    """Read every word of a parameter memory, one a cycle, and hold it against ``channels``."""
    words = len(channels) // count

    async def bench(ctx):
        for channel, piece, value in first_writes:
            ctx.set(dut.write_channel, channel)
            ctx.set(dut.write_piece, piece)
            ctx.set(dut.write_data, value & 0xFFFFFFFF)
            ctx.set(dut.write_enable, 1)
            await ctx.tick()
        if first_writes:
            # What is on the bus without an access is not written.
            ctx.set(dut.write_enable, 0)
            for channel, piece, value in first_writes:
                ctx.set(dut.write_channel, channel)
                ctx.set(dut.write_piece, piece)
                ctx.set(dut.write_data, (value ^ 0x5A5A5A5A) & 0xFFFFFFFF)
                await ctx.tick()
        for cycle in range(words + WordMemory.READ_LATENCY):
            if cycle >= WordMemory.READ_LATENCY:
                start = (cycle - WordMemory.READ_LATENCY) * count
                got = [(c.bias, c.multiplier, c.shift) for c in (ctx.get(dut.read_data[i]) for i in range(count))]
                assert got == list(channels[start : start + count])
            ctx.set(dut.read_address, cycle % words)
            await ctx.tick()

    run_bench(dut, bench, deadline=200)


@pytest.mark.parametrize("count", [1, 2])
def test_parameters_from_the_host(count):
    config = AcceleratorConfig(lanes=2, columns=2, requantizers=count, parameter_channels=6)
    writes = [(channel, piece, value) for channel, row in enumerate(CHANNELS) for piece, value in enumerate(row)]
    # Each piece is written twice, in another order, so that a piece that spills over another is found out.
    order = np.random.default_rng(count).permutation(len(writes))
    first = [(channel, piece, ~value) for channel, piece, value in writes]
    check_parameters(ParameterMemory(config), count, CHANNELS, first + [writes[place] for place in order])


@pytest.mark.parametrize("count", [1, 2])
def test_parameters_in_a_rom(count):
    config = AcceleratorConfig(lanes=2, columns=2, requantizers=count, parameter_channels=8)
    dut = ParameterMemory(config, np.array(CHANNELS, np.int32))
    assert not hasattr(dut, "write_enable")
    check_parameters(dut, count, [*CHANNELS, (0, 0, 0), (0, 0, 0)])


def test_swapped_parameters_are_seen():
    config = AcceleratorConfig(lanes=2, columns=2, requantizers=2, parameter_channels=6)
    with pytest.raises(AssertionError):
        check_parameters(ParameterMemory(config, [CHANNELS[1], CHANNELS[0], *CHANNELS[2:]]), 2, CHANNELS)
