"""Each weight lies where the array multiplies it by its activation, and every other place adds nothing."""

import numpy as np
import numpy.typing as npt
import pytest

from zeropoint.compiler.pack import PackedWeights, gather, ones, pack_dense, pack_depthwise, pack_window, spread
from zeropoint_hw.config import AcceleratorConfig

Array = npt.NDArray[np.int64]

SIZES = [(1, 1), (2, 4), (4, 2), (8, 8), (16, 2)]


def config_of(sizes: tuple[int, int]) -> AcceleratorConfig:
    lanes, columns = sizes
    unit = lanes * columns
    return AcceleratorConfig(lanes=lanes, columns=columns, activation_bytes=64 * lanes, weight_bytes=64 * unit)


def integers(rng: np.random.Generator, dtype: str, *shape: int) -> npt.NDArray[np.integer]:
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


def zero_point_of(dtype: str) -> int:
    return 117 if dtype == "uint8" else -3


def stored(packed: PackedWeights, config: AcceleratorConfig, dtype: str) -> Array:
    """Return the words' weights, ``(words, columns, lanes)``."""
    return packed.words.reshape(-1, config.columns, config.lanes).astype(np.int64)


def check_sums(packed: PackedWeights, words: Array, columns: list[tuple[slice, int]]) -> None:
    """Hold a channel's sum and places against the words and the column that it was found to lie in."""
    for channel, (mine, column) in enumerate(columns):
        assert packed.sums[channel] == words[mine, column].sum()
        assert packed.places == words[mine, column].size
    assert len(packed.sums) == len(columns)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(("channels", "taps", "run"), [(1, 1, 1), (5, 3, 7), (8, 2, 16), (9, 4, 3)])
def test_dense_words_follow_group_tap_and_chunk(
    sizes: tuple[int, int], channels: int, taps: int, run: int, dtype: str
) -> None:
    config, zero = config_of(sizes), zero_point_of(dtype)
    weights = integers(np.random.default_rng(channels), dtype, channels, taps, run)
    packed = pack_dense(config, weights, zero)
    words = stored(packed, config, dtype)
    expected = []
    for group in range(0, channels, config.columns):
        for tap in range(taps):
            for chunk in range(0, run, config.lanes):
                word = np.full((config.columns, config.lanes), zero)
                for column in range(min(config.columns, channels - group)):
                    for lane in range(min(config.lanes, run - chunk)):
                        word[column, lane] = weights[group + column, tap, chunk + lane]
                expected.append(word)
    np.testing.assert_array_equal(words, expected)
    each = taps * -(-run // config.lanes)
    starts = [channel // config.columns * each for channel in range(channels)]
    check_sums(packed, words, [(slice(s, s + each), c % config.columns) for c, s in enumerate(starts)])


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize(
    ("sizes", "multiplier"),
    # Layers whose multiplier does not divide the columns are packed as dense ones.
    [
        (sizes, multiplier)
        for sizes in [*SIZES, (2, 8), (4, 16)]
        for multiplier in (1, 2, 4)
        if sizes[1] % multiplier == 0
    ],
)
@pytest.mark.parametrize(("inputs", "taps"), [(1, 1), (3, 4), (8, 3), (21, 2)])
def test_a_depthwise_column_reads_its_own_channel(
    sizes: tuple[int, int], inputs: int, taps: int, multiplier: int, dtype: str
) -> None:
    config, zero = config_of(sizes), zero_point_of(dtype)
    weights = integers(np.random.default_rng(inputs), dtype, taps, inputs * multiplier)
    packed = pack_depthwise(config, weights, zero, multiplier)
    words = stored(packed, config, dtype)
    outputs, at_once = inputs * multiplier, config.columns // multiplier
    run = min(at_once, inputs)
    expected = []
    for group in range(0, inputs, at_once):
        for tap in range(taps):
            for chunk in range(0, run, config.lanes):
                word = np.full((config.columns, config.lanes), zero)
                for column in range(config.columns):
                    lane = column // multiplier - chunk
                    output = group * multiplier + column
                    if 0 <= lane < config.lanes and column // multiplier < run and output < outputs:
                        word[column, lane] = weights[tap, output]
                expected.append(word)
    np.testing.assert_array_equal(words, expected)
    each = taps * -(-run // config.lanes)
    starts = [output // config.columns * each for output in range(outputs)]
    check_sums(packed, words, [(slice(s, s + each), c % config.columns) for c, s in enumerate(starts)])


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("sizes", [(2, 4), (4, 2), (8, 8), (16, 2)])
@pytest.mark.parametrize(("channels", "count", "taps"), [(1, 1, 2), (5, 3, 2), (8, 2, 1), (19, 4, 2)])
def test_a_window_has_a_tap_on_each_lane(
    sizes: tuple[int, int], channels: int, count: int, taps: int, dtype: str
) -> None:
    config, zero = config_of(sizes), zero_point_of(dtype)
    rng = np.random.default_rng(channels)
    weights = integers(rng, dtype, count, taps, channels)
    there = rng.random((count, taps)) < 0.7
    packed = pack_window(config, (weights, there), zero)
    words = stored(packed, config, dtype)
    expected = []
    for group in range(0, channels, config.channels):
        for index in range(count):
            word = np.full((config.columns, config.lanes), zero)
            for column in range(min(config.channels, channels - group)):
                for lane in range(taps):
                    if there[index, lane]:
                        word[column, lane] = weights[index, lane, group + column]
            expected.append(word)
    np.testing.assert_array_equal(words, expected)
    starts = [channel // config.channels * count for channel in range(channels)]
    check_sums(packed, words, [(slice(s, s + count), c % config.channels) for c, s in enumerate(starts)])


@pytest.mark.parametrize("sizes", SIZES)
def test_the_word_of_ones_passes_each_lane_to_its_column(sizes: tuple[int, int]) -> None:
    config = config_of(sizes)
    word = ones(config).reshape(config.columns, config.lanes)
    activations = np.arange(1, config.lanes + 1)
    expected = np.pad(activations, (0, config.columns))[: config.columns]
    np.testing.assert_array_equal(word @ activations, expected)


@pytest.mark.parametrize("sizes", SIZES)
def test_the_words_that_pass_the_first_lane_on(sizes: tuple[int, int]) -> None:
    config = config_of(sizes)
    activations = np.arange(7, 7 + config.lanes)
    word = spread(config).reshape(config.columns, config.lanes)
    np.testing.assert_array_equal(word @ activations, np.full(config.columns, 7))
    for count in range(1, config.columns + 1):
        words = gather(config, count).reshape(count, config.columns, config.lanes)
        np.testing.assert_array_equal(words @ activations, 7 * np.eye(count, config.columns, dtype=int))


def test_a_folded_bias_holds_all_that_does_not_depend_on_the_data() -> None:
    rng = np.random.default_rng(0)
    config = config_of((4, 2))
    weights = integers(rng, "uint8", 5, 2, 7)
    packed = pack_dense(config, weights, 90)
    bias = rng.integers(-(2**31), 2**31, 5)
    folded = packed.folded_bias(bias, -77, 90)
    # Lanes past a run take the pad value, which is the input's zero point.
    x = np.pad(rng.integers(-128, 128, (2, 7)), ((0, 0), (0, 1)), constant_values=-77)
    w = np.pad(weights.astype(np.int64), ((0, 0), (0, 0), (0, 1)), constant_values=90)
    wanted = bias + ((x + 77) * (w - 90)).sum(axis=(1, 2))
    got = folded + (x * w).sum(axis=(1, 2)) - 90 * x.sum()
    np.testing.assert_array_equal((got - wanted) % (1 << 32), 0)
