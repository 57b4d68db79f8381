"""Weights in the order in which the array consumes them, and the parameters that go with them.

A weight word holds a weight for each processing element, that of number ``column · lanes + lane``. Words follow each
other as the loop nest meets them: group, kernel row, kernel column, chunk. Places that no weight belongs to hold the
weights' zero point, so that they add nothing.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.numerics import wrap_int32
from zeropoint_hw.config import AcceleratorConfig

Words = npt.NDArray[np.integer]
Weights = npt.NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class PackedWeights:
    """A layer's weights as the weight memory holds them.

    Attributes
    ----------
    words
        The weights as integers, zero points included: ``(words, columns · lanes)``.
    sums
        For each output channel the sum of the weights in every place that the array multiplies for it, int64.
    places
        How many places those are.
    """

    words: Words
    sums: npt.NDArray[np.int64]
    places: int

    def folded_bias(self, bias: npt.NDArray[np.int64], input_zero: int, weight_zero: int) -> npt.NDArray[np.int64]:
        """Return the bias of the ``fold`` PE: all of Σ(x − Zx)(w − Zw) that does not depend on the data.

        Σ(x − Zx)(w − Zw) = Σxw − Zw·Σx − Zx·Σw + n·Zx·Zw (Jacob et al. 2018, equation 7).
        """
        return wrap_int32(bias - input_zero * self.sums + self.places * input_zero * weight_zero)


def pack_dense(config: AcceleratorConfig, weights: Weights, zero_point: int) -> PackedWeights:
    """Pack weights of which every output channel reads the same activations.

    Parameters
    ----------
    weights
        ``(output channels, taps, run)``, where a run is read from consecutive addresses.
    zero_point
        The weights' zero point.
    """
    channels, taps, run = weights.shape
    lanes, columns = config.lanes, config.columns
    groups, chunks = -(-channels // columns), -(-run // lanes)
    padded = np.full((groups * columns, taps, chunks * lanes), zero_point, weights.dtype)
    padded[:channels, :, :run] = weights
    words = padded.reshape(groups, columns, taps, chunks, lanes).transpose(0, 2, 3, 1, 4)
    return PackedWeights(
        words.reshape(-1, columns * lanes),
        padded[:channels].sum(axis=(1, 2), dtype=np.int64),
        taps * chunks * lanes,
    )


def pack_depthwise(config: AcceleratorConfig, weights: Weights, zero_point: int, multiplier: int) -> PackedWeights:
    """Pack weights of which output channel ``c`` reads only input channel ``c // multiplier``.

    Parameters
    ----------
    weights
        ``(taps, output channels)``.
    zero_point
        The weights' zero point.
    multiplier
        Output channels for each input channel; divides ``config.columns``.
    """
    taps, channels = weights.shape
    lanes, columns = config.lanes, config.columns
    groups = -(-channels // columns)
    run = min(columns // multiplier, channels // multiplier)
    chunks = -(-run // lanes)
    words = np.full((groups, taps, chunks, columns, lanes), zero_point, weights.dtype)
    padded = np.full((taps, groups * columns), zero_point, weights.dtype)
    padded[:, :channels] = weights
    for column in range(min(columns, run * multiplier)):
        chunk, lane = divmod(column // multiplier, lanes)
        words[:, :, chunk, column, lane] = padded[:, column::columns].T
    places = taps * chunks * lanes
    sums = weights.sum(axis=0, dtype=np.int64) + (places - taps) * zero_point
    return PackedWeights(words.reshape(-1, columns * lanes), sums, places)


def pack_window(
    config: AcceleratorConfig, weights: tuple[Weights, npt.NDArray[np.bool_]], zero_point: int
) -> PackedWeights:
    """Pack depthwise weights of which each lane holds a tap, and each column a channel.

    Parameters
    ----------
    weights
        ``(words, window taps, channels)``, and which ``(words, window taps)`` there are.
    zero_point
        The weights' zero point.
    """
    taps, there = weights
    count, lanes, channels = taps.shape
    at_once = config.channels
    groups = -(-channels // at_once)
    padded = np.full((count, lanes, groups * at_once), zero_point, taps.dtype)
    padded[:, :, :channels] = np.where(there[:, :, None], taps, zero_point)
    words = np.full((groups, count, config.columns, config.lanes), zero_point, taps.dtype)
    words[:, :, :at_once, :lanes] = padded.reshape(count, lanes, groups, at_once).transpose(2, 0, 3, 1)
    places = count * config.lanes
    sums = np.where(there[:, :, None], taps, 0).sum(axis=(0, 1), dtype=np.int64)
    return PackedWeights(words.reshape(len(words) * count, -1), sums + (places - int(there.sum())) * zero_point, places)


def ones(config: AcceleratorConfig) -> Words:
    """Return the word that passes lane ``c`` on to column ``c``: pooling's, ADD's and MEAN's weights."""
    word = np.zeros((config.columns, config.lanes), np.int64)
    np.fill_diagonal(word, 1)
    return word.reshape(1, -1)


def spread(config: AcceleratorConfig) -> Words:
    """Return the word that passes the first lane on to every column."""
    word = np.zeros((config.columns, config.lanes), np.int64)
    word[:, 0] = 1
    return word.reshape(1, -1)


def gather(config: AcceleratorConfig, count: int) -> Words:
    """Return the words that pass the first lane on to the first column, then to the second, and so on to ``count``."""
    words = np.zeros((count, config.columns, config.lanes), np.int64)
    words[np.arange(count), np.arange(count), 0] = 1
    return words.reshape(count, -1)
