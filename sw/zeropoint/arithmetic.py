"""The integers behind a quantized operator: multipliers, shifts and clamps, derived from scales.

The golden model and the compiler both take them from here, so that each is defined once. How each is derived is that
of TensorFlow Lite's reference kernels, down to the float type in which two scales are multiplied.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.errors import ZeropointError
from zeropoint.model import (
    Add,
    Clamp,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Mean,
    QuantizedModel,
    Requantize,
    Tensor,
)
from zeropoint.numerics import Integers, quantize_multiplier, round_half_away


@dataclass(frozen=True, eq=False)
class Scaling:
    """A requantization: ``multiplier`` and ``shift`` (one entry, or one a channel)."""

    multiplier: Integers
    shift: Integers


@dataclass(frozen=True, eq=False)
class AddScaling:
    """The three scalings of ADD: each input after a left shift of ``left_shift``, then their sum."""

    left_shift: int
    input: Scaling
    other: Scaling
    output: Scaling


#: The headroom that ADD gives its int8 and uint8 inputs before scaling (TensorFlow Lite ``kernels/add.cc``).
ADD_LEFT_SHIFT = 20


def clamp_limits(tensor: Tensor, clamp: Clamp) -> tuple[int, int]:
    """Return the quantized ends of a fused activation, within the limits of the tensor's dtype.

    Source: TensorFlow Lite ``kernels/kernel_util.cc``, ``CalculateActivationRangeQuantized``.
    """
    low, high = tensor.limits

    def quantized(real: float) -> int:
        steps = float(round_half_away(np.float32(real) / np.float32(tensor.scale)))
        return int(min(max(steps + tensor.zero_point, low), high))

    return (
        quantized(clamp.low) if np.isfinite(clamp.low) else low,
        quantized(clamp.high) if np.isfinite(clamp.high) else high,
    )


def weighted_scaling(model: QuantizedModel, operator: Conv2D | DepthwiseConv2D | FullyConnected) -> Scaling:
    """Return the requantization of a convolution or fully-connected layer, one entry an output channel.

    A per-tensor FULLY_CONNECTED multiplies input and weight scale as float32, all others as float64
    (TensorFlow Lite ``kernels/kernel_util.cc``: ``GetQuantizedConvolutionMultipler`` and
    ``PopulateConvolutionQuantizationParams``).
    """
    source, target = model.tensor(operator.input), model.tensor(operator.output)
    weights = model.tensor(operator.weights)
    assert weights.quantization is not None
    channels = target.shape[-1]
    scales = np.asarray(weights.quantization.scale, np.float32)
    if isinstance(operator, FullyConnected) and weights.quantization.axis is None:
        product = (np.float32(source.scale) * scales).astype(np.float64)
    else:
        product = np.float64(source.scale) * scales.astype(np.float64)
    scaling = _scaling(product / np.float64(target.scale), operator.name)
    return Scaling(
        np.broadcast_to(scaling.multiplier, (channels,)),
        np.broadcast_to(scaling.shift, (channels,)),
    )


def requantize_scaling(model: QuantizedModel, operator: Requantize) -> Scaling:
    """Return the scaling of a stand-alone requantization."""
    ratio = np.float64(model.tensor(operator.input).scale) / np.float64(model.tensor(operator.output).scale)
    return _scaling(ratio, operator.name)


def add_scaling(model: QuantizedModel, operator: Add) -> AddScaling:
    """Return the scalings of ADD (TensorFlow Lite ``kernels/add.cc``, ``PrepareGeneralOp``).

    The input of larger scale always gets one half exactly: multiplier 2^30 and shift 0.
    """
    first, second = (np.float64(model.tensor(name).scale) for name in operator.inputs)
    twice = 2 * max(first, second)
    output = twice / ((1 << ADD_LEFT_SHIFT) * np.float64(model.tensor(operator.output).scale))
    return AddScaling(
        ADD_LEFT_SHIFT,
        _scaling(first / twice, operator.name),
        _scaling(second / twice, operator.name),
        _scaling(output, operator.name),
    )


def mean_scaling(model: QuantizedModel, operator: Mean) -> Scaling:
    """Return the scaling of MEAN, the element count folded in (TensorFlow Lite ``kernels/internal/reference/reduce.h``).

    The multiplier is divided by the count after it was shifted left as far as 64 bits, a shift of 32 and the result's
    own shift allow.
    """
    source = model.tensor(operator.input)
    count = source.shape[0] * source.shape[1]
    scaling = _scaling(
        np.float64(source.scale) / np.float64(model.tensor(operator.output).scale), operator.name
    )
    multiplier, shift = int(scaling.multiplier), int(scaling.shift)
    extra = min(count.bit_length() - 1, 32, 31 + shift)
    return Scaling(np.asarray((multiplier << extra) // count), np.asarray(shift - extra))


def _scaling(real: npt.ArrayLike, name: str) -> Scaling:
    try:
        return Scaling(*quantize_multiplier(real))
    except ValueError as error:
        raise ZeropointError(f"operator '{name}': its scales give no usable multiplier: {error}") from None
