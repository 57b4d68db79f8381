"""Ranges of activations, observed while the float model runs.

The calibration data are run twice: once for the least and the greatest value of each tensor, once for a histogram
between them. Both are summed up part by part, so that memory is bounded, and neither depends on where the parts end.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from zeropoint import float_reference
from zeropoint.errors import ZeropointError
from zeropoint.model import FloatModel
from zeropoint.quantize.schemes import Float64s, Rules

Range = tuple[float, float]

#: Cells of a histogram: eight for each of 256 quantized values.
BINS = 2048

#: Clipped ends that the search for the least squared error tries on either side of zero.
CANDIDATES = 64


class CalibrationMethod(Enum):
    """How the range of an activation follows from its values on the calibration data.

    Every range is widened to include 0 first.
    """

    #: From the least to the greatest value (Krishnamoorthi 2018, section 3.1.1).
    MINMAX = "minmax"
    #: From the (100 − p)-th to the p-th percentile (Wu et al., Integer Quantization for Deep Learning Inference, 2020,
    #: section 5.2). The high end is the least upper end of a histogram cell below which lie at least p % of the
    #: values, the low end its mirror image: each is within a cell of the exact percentile, and no narrower.
    PERCENTILE = "percentile"
    #: The range for which the quantized values have the least sum of squared errors (Nagel et al., A White Paper on
    #: Neural Network Quantization, 2021, equation 11), among ``low · i/64`` … ``high · j/64`` for i and j in 1 … 64;
    #: the wider of two that are equal. Each histogram cell stands for its values by their mean.
    MSE = "mse"


@dataclass(frozen=True, eq=False)
class Histogram:
    """How many of a tensor's values lie in each of :data:`BINS` equal cells between ``low`` and ``high``.

    Attributes
    ----------
    low, high
        With ``low ≤ 0 ≤ high`` and ``low < high``.
    counts
        The number of values in each cell.
    totals
        The sum of the values in each cell.
    """

    low: float
    high: float
    counts: Float64s
    totals: Float64s

    @classmethod
    def empty(cls, low: float, high: float) -> "Histogram":
        """Return a histogram without values."""
        return cls(low, high, np.zeros(BINS), np.zeros(BINS))

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Count ``values``."""
        flat = values.reshape(-1).astype(np.float64)
        cells = ((flat - self.low) * (BINS / (self.high - self.low))).astype(np.int64)
        np.clip(cells, 0, BINS - 1, out=cells)
        self.counts[...] += np.bincount(cells, minlength=BINS)
        self.totals[...] += np.bincount(cells, flat, BINS)

    def percentile(self, percentile: float) -> Range:
        """Return the range of :attr:`CalibrationMethod.PERCENTILE`."""
        edges = np.linspace(self.low, self.high, BINS + 1)
        # A count just above a whole number is that number, but for the rounding of the percentile.
        needed = self.counts.sum() * percentile / 100 * (1 - 1e-12)
        below, above = np.cumsum(self.counts), np.cumsum(self.counts[::-1])[::-1]
        # The last cell that has enough values is always there: percentile is 100 at most.
        high = edges[1:][np.argmax(below >= needed)]
        low = edges[:-1][BINS - 1 - np.argmax(above[::-1] >= needed)]
        return min(float(low), 0.0), max(float(high), 0.0)

    def least_squares(self, rules: Rules) -> Range:
        """Return the range of :attr:`CalibrationMethod.MSE` for the activations of ``rules``."""
        used = self.counts > 0
        counts = self.counts[used]
        means = self.totals[used] / counts
        lowest, highest = rules.limits
        best, found = np.inf, (self.low, self.high)
        highs = _clipped(self.high)
        for low in _clipped(self.low):
            candidates = [rules.activations(low, high, 0.0) for high in highs]
            scale, zero_point = (
                np.array([getattr(candidate, name) for candidate in candidates]) for name in ("scale", "zero_point")
            )
            q = np.clip(np.rint(means / scale), lowest - zero_point, highest - zero_point)
            errors = np.square(q * scale - means) @ counts
            least = int(np.argmin(errors))
            if errors[least] < best:
                best, found = errors[least], (low, highs[least])
        return found


def _clipped(end: float) -> list[float]:
    """Return the ends that are tried, the widest first."""
    return [end * i / CANDIDATES for i in range(CANDIDATES, 0, -1)] if end else [0.0]


def calibrate(
    model: FloatModel,
    x: npt.ArrayLike,
    tensors: Collection[str],
    rules: Rules,
    method: CalibrationMethod,
    percentile: float,
    progress: Callable[[float], object] = lambda done: None,
) -> tuple[dict[str, Range], list[str]]:
    """Return the range of each of the activations ``tensors``, zero included, and those that had one value only.

    Parameters
    ----------
    model, x
        The network, and inputs for it as ``float_reference.run`` takes them.
    tensors
        Names of activations.
    rules
        The scheme for whose activations the squared error is minimized.
    method, percentile
        How the ranges follow from the values; ``percentile`` is above 50 and 100 at most.
    progress
        Called with the part of the work that is done, 0 … 1.

    Raises
    ------
    ZeropointError
        If ``x`` does not fit the model or is not finite, or some activation overflows float32.
    """
    if not 50 < percentile <= 100:
        raise ZeropointError(f"the calibration percentile must be above 50 and 100 at most, not {percentile}")
    x = float_reference.check_input(model, x)
    passes = 1 if method is CalibrationMethod.MINMAX else 2
    extremes = dict.fromkeys(tensors, (np.inf, -np.inf))
    done = 0
    for values in float_reference.run_batches(model, x):
        for name, (low, high) in extremes.items():
            least, greatest = float(values[name].min()), float(values[name].max())
            if not np.isfinite(least) or not np.isfinite(greatest):
                raise ZeropointError(f"tensor '{name}' becomes NaN or infinite on the calibration data")
            extremes[name] = min(low, least), max(high, greatest)
        done += len(values[model.input])
        progress(done / (passes * len(x)))
    constant = [name for name, (low, high) in extremes.items() if low == high]
    ranges = {name: (min(low, 0.0), max(high, 0.0)) for name, (low, high) in extremes.items()}
    if method is CalibrationMethod.MINMAX:
        return ranges, constant
    histograms = {name: Histogram.empty(low, high) for name, (low, high) in ranges.items() if low < high}
    for values in float_reference.run_batches(model, x):
        for name, histogram in histograms.items():
            histogram.add(values[name])
        done += len(values[model.input])
        progress(done / (passes * len(x)))
    for name, histogram in histograms.items():
        if method is CalibrationMethod.PERCENTILE:
            ranges[name] = histogram.percentile(percentile)
        else:
            ranges[name] = histogram.least_squares(rules)
    return ranges, constant
