"""The mean error that quantized weights make, taken out of the bias.

Rounding weights shifts the mean of an output by the weights' errors times the mean of the inputs that they meet. That
mean is known from the calibration data, and its effect is a constant: it is subtracted from the bias. What is gained
is little where each channel has a scale of its own, and much where small channels share the scale of large ones.

Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, ICCV 2019, section 4.2,
with the means of the inputs observed on calibration data, padding included.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from zeropoint import float_reference
from zeropoint.model import DepthwiseConv2D, FloatModel, FullyConnected
from zeropoint.quantize.schemes import Float64s, Weighted


def mean_inputs(
    model: FloatModel, x: npt.ArrayLike, progress: Callable[[float], object] = lambda done: None
) -> dict[str, Float64s]:
    """Return, by the name of each operator with weights, the mean of the inputs that meet each tap of its window.

    The means are over all samples and output positions, padding counted as 0: of shape ``(kernel_height,
    kernel_width, in)`` for convolutions, depthwise or not, and ``(in,)`` for fully-connected layers. Parameters,
    progress and errors are those of :func:`~zeropoint.quantize.calibration.calibrate`.
    """
    x = float_reference.check_input(model, x)
    sums: dict[str, Float64s] = {}
    done = 0
    for values in float_reference.run_batches(model, x):
        for operator in model.operators:
            if isinstance(operator, Weighted):
                weights = model.tensor(operator.weights).shape
                seen = _sum_of_means(operator, values[operator.input], weights)
                sums[operator.name] = sums.get(operator.name, 0.0) + seen
        done += len(values[model.input])
        progress(done / len(x))
    return {name: total / len(x) for name, total in sums.items()}


def _sum_of_means(operator: Weighted, x: float_reference.Floats, weights: tuple[int, ...]) -> Float64s:
    """Return the sum over the samples of the means over the output positions."""
    if isinstance(operator, FullyConnected):
        return x.reshape(len(x), -1).sum(axis=0, dtype=np.float64)
    window = weights[:2] if isinstance(operator, DepthwiseConv2D) else weights[1:3]
    result = np.empty((*window, x.shape[3]))
    padded = float_reference.pad(x, operator.padding)
    for i, j, seen in float_reference.taps(padded, (window[0], window[1]), operator.stride, operator.dilation):
        result[i, j] = seen.sum(axis=(0, 1, 2), dtype=np.float64) / (seen.shape[1] * seen.shape[2])
    return result


def mean_error(operator: Weighted, error: Float64s, inputs: Float64s) -> Float64s:
    """Return the mean error of each output channel, given the weights' errors and :func:`mean_inputs`."""
    if isinstance(operator, FullyConnected):
        return error @ inputs
    if isinstance(operator, DepthwiseConv2D):
        return (error * np.repeat(inputs, error.shape[2] // inputs.shape[2], axis=2)).sum(axis=(0, 1))
    out, height, width, channels = error.shape
    grouped = error.reshape(operator.groups, out // operator.groups, height, width, channels)
    split = inputs.reshape(height, width, operator.groups, channels)
    return np.einsum("gohwc,hwgc->go", grouped, split).reshape(out)
