import numpy as np
import pytest
from support.gateware import packed, unpacked

from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.history import History
from zeropoint_hw.isa import HISTORY_DEPTH
from zeropoint_hw.layout import Level
from zeropoint_sim.bench import Stalls, run_bench

WIDTH = 9
PAD = -77
#: Positions and words of a position.
ROWS = [(1, 1), (2, 1), (9, 1), (5, 3), (4, HISTORY_DEPTH), (7, 2)]


def history_config(lanes, columns, window_taps):
    return AcceleratorConfig(lanes=lanes, columns=columns, window_taps=window_taps)


def random_rows(config, seed):
    rng = np.random.default_rng(seed)
    return [rng.integers(-256, 256, (*size, config.channels)) for size in ROWS]


def check(config, rows, stalls=None, given=None):
    """Sweep over ``rows``, arrays ``(positions, words, channels)``: each word must come with those before it."""
    dut = History(config)
    taps, channels = config.window_taps, config.channels
    noise = Stalls(seed=1)

    async def bench(ctx):
        ctx.set(dut.pad, PAD)
        for index, words in enumerate(rows):
            positions, numbers = words.shape[:2]
            padded = np.pad(words, ((taps - 1, 0), (0, 0), (0, 0)), constant_values=PAD)
            for position, number in np.ndindex(positions, numbers):
                while stalls and stalls.hold():
                    noise.noise(ctx, [dut.level, dut.operands.as_value()])
                    await ctx.tick()
                level = Level.CHUNK if number % 3 else Level.TAP_Y
                if number == numbers - 1:
                    level = Level.COLUMN if position < positions - 1 else (Level.ROW, Level.GROUP, Level.END)[index % 3]
                ctx.set(dut.valid, 1)
                ctx.set(dut.level, level)
                ctx.set(dut.operands.as_value(), packed((given or rows)[index][position, number], WIDTH))
                got = unpacked(ctx.get(dut.taps.as_value()), WIDTH, taps * channels, signed=True)
                expected = padded[position : position + taps, number]
                np.testing.assert_array_equal(np.reshape(got, expected.shape), expected)
                await ctx.tick()
                ctx.set(dut.valid, 0)

    run_bench(dut, bench, deadline=1000)


@pytest.mark.parametrize(("lanes", "columns", "window_taps"), [(2, 1, 2), (2, 2, 2), (4, 8, 3), (8, 2, 5), (8, 8, 8)])
def test_words_of_earlier_positions(lanes, columns, window_taps):
    config = history_config(lanes, columns, window_taps)
    check(config, random_rows(config, seed=lanes), Stalls(seed=2, probability=0.3))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_swapped_words_are_seen(axis):
    config = history_config(4, 4, 3)
    rows = random_rows(config, seed=3)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        check(config, rows, given=[np.flip(words, axis) for words in rows])
