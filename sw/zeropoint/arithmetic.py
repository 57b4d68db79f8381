"""The integers behind a quantized operator: multipliers, shifts and clamps, derived from scales.

The golden model and the compiler both take them from here, so that each is defined once. How each is derived is that
of TensorFlow Lite's reference kernels, down to the float type in which two scales are multiplied.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import floor

import numpy as np
import numpy.typing as npt

from zeropoint.errors import ZeropointError
from zeropoint.model import (
    Add,
    Clamp,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    LeakyRelu,
    Logistic,
    Mean,
    Mul,
    Operator,
    QuantizedModel,
    Requantize,
    ResizeNearestNeighbor,
    Shape,
    Softmax,
    Sub,
    Tensor,
)
from zeropoint.numerics import DIFFERENCE_BITS, Integers, quantize_multiplier, requantize, round_half_away
from zeropoint.numerics.minifloat import MinifloatFormat


@dataclass(frozen=True, eq=False)
class Scaling:
    """A requantization: ``multiplier`` and ``shift`` (one entry, or one a channel)."""

    multiplier: Integers
    shift: Integers


@dataclass(frozen=True, eq=False)
class FloatScaling:
    """The requantization of minifloats: sums, and their bias shifted left by ``bias_shift``, times 2^``exponent``.

    One entry a channel.
    """

    bias_shift: Integers
    exponent: Integers


@dataclass(frozen=True, eq=False)
class AddScaling:
    """The three scalings of ADD: each input after a left shift of ``left_shift``, then their sum.

    SUB has a negative multiplier for what it subtracts.
    """

    left_shift: int
    input: Scaling
    other: Scaling
    output: Scaling


@dataclass(frozen=True, eq=False)
class LeakyReluScaling:
    """The scalings of LEAKY_RELU: of values from 0 on, and of those below, whose multiplier has the sign of alpha."""

    positive: Scaling
    negative: Scaling


@dataclass(frozen=True)
class SoftmaxScaling:
    """The scaling of SOFTMAX's differences to Q5.26, and the least difference that counts."""

    multiplier: int
    shift: int
    least: int


#: The headroom that ADD gives its int8 and uint8 inputs before scaling (TensorFlow Lite ``kernels/add.cc``).
ADD_LEFT_SHIFT = 20

#: The same for int16.
WIDE_ADD_LEFT_SHIFT = 15


def clamp_limits(tensor: Tensor, clamp: Clamp) -> tuple[int, int]:
    """Return the quantized ends of a fused activation, within the limits of the tensor's dtype.

    Source: TensorFlow Lite ``kernels/kernel_util.cc``, ``CalculateActivationRangeQuantized``.
    """
    low, high = tensor.limits

    def quantized(real: float) -> int:
        if isinstance(tensor.format, MinifloatFormat):
            return int(tensor.quantize(real))
        # An end too great for float32 is beyond the dtype's.
        with np.errstate(over="ignore"):
            steps = float(round_half_away(np.float32(real) / np.float32(tensor.scale)))
        return int(min(max(steps + tensor.zero_point, low), high))

    return quantized(clamp.low), quantized(clamp.high)


def weighted_scaling(model: QuantizedModel, operator: Conv2D | DepthwiseConv2D | FullyConnected) -> Scaling:
    """Return the requantization of a convolution or fully-connected layer, one entry an output channel.

    Input and weight scale are multiplied as float64; but as float32 where there is one weight scale only and the
    operator is FULLY_CONNECTED or its input is uint8 (TensorFlow Lite ``kernels/kernel_util.cc``:
    ``PopulateConvolutionQuantizationParams`` and ``GetQuantizedConvolutionMultipler``).
    """
    source, target = model.tensor(operator.input), model.tensor(operator.output)
    weights = model.tensor(operator.weights)
    assert weights.quantization is not None
    scales = weights.quantization.scale
    single = len(scales) == 1 and (isinstance(operator, FullyConnected) or source.dtype == "uint8")
    scaling = layer_scaling(source.scale, scales, target.scale, single, operator.name)
    channels = target.shape[-1]
    return Scaling(
        np.broadcast_to(scaling.multiplier, (channels,)),
        np.broadcast_to(scaling.shift, (channels,)),
    )


def float_scaling(model: QuantizedModel, operator: Conv2D | DepthwiseConv2D | FullyConnected | Add) -> FloatScaling:
    """Return the requantization of an operator of minifloats, one entry an output channel.

    Raises
    ------
    ZeropointError
        If scales are no powers of two apart, an output's is so much finer than its sums' that these would shift left
        by more than 1, or a bias has a finer scale than they have.
    """
    target, source = model.tensor(operator.output), model.tensor(operator.input)
    products, bias = np.array([source.scale]), None
    if isinstance(operator, Add):
        if model.tensor(operator.other).scale != source.scale:
            raise ZeropointError(f"operator '{operator.name}' (Add): minifloats that are added must have one scale")
    else:
        weights = model.tensor(operator.weights)
        assert weights.quantization is not None
        products = source.scale * np.array(weights.quantization.scale)
        bias = None if operator.bias is None else model.tensor(operator.bias).quantization
    exponent = _binary_logarithm(products / target.scale, operator)
    left = np.zeros_like(exponent)
    if bias is not None:
        left = _binary_logarithm(np.array(bias.scale) / products, operator)
    if exponent.max() > 1 or exponent.min() < -127 or left.min() < 0:
        raise ZeropointError(
            f"operator '{operator.name}' ({operator.kind}): its scales, which differ by up to "
            f"2^{max(np.abs(exponent).max(), np.abs(left).max())}, are beyond what sums of minifloats take; quantize "
            f"the model again"
        )
    channels = target.shape[-1]
    return FloatScaling(np.broadcast_to(left, (channels,)), np.broadcast_to(exponent, (channels,)))


def check_same_scale(operator: Requantize, source: Tensor, target: Tensor) -> None:
    """Refuse a change of scale between minifloats, whose own exponents are there for that."""
    if source.scale != target.scale:
        raise ZeropointError(f"operator '{operator.name}' ({operator.kind}): minifloats keep their scale")


def _binary_logarithm(ratio: npt.NDArray[np.float64], operator: Operator) -> Integers:
    fraction, exponent = np.frexp(ratio)
    if np.any(fraction != 0.5):
        raise ZeropointError(
            f"operator '{operator.name}' ({operator.kind}): minifloats have scales that are powers of two apart"
        )
    return exponent.astype(np.int64) - 1


def layer_scaling(source: float, weights: Sequence[float], target: float, single: bool, name: str) -> Scaling:
    """Return the requantization of a layer of these scales, one entry a scale of the weights.

    Where ``single``, input and weight scale are multiplied as float32; :func:`weighted_scaling` says where that is.
    """
    scales = np.asarray(weights, np.float32)
    if single:
        with np.errstate(over="ignore", under="ignore"):
            product = (np.float32(source) * scales).astype(np.float64)
    else:
        product = np.float64(source) * scales.astype(np.float64)
    return _scaling(product / np.float64(target), name)


def requantize_scaling(model: QuantizedModel, operator: Requantize) -> Scaling:
    """Return the scaling of a stand-alone requantization.

    The ratio of the scales is a float32 where the operator clamps, as in TensorFlow Lite's RELU
    (``kernels/activations.cc``, ``ReluPrepare``), and a float64 where it does not, as in its QUANTIZE
    (``kernels/quantize.cc``, ``Prepare``).
    """
    source, target = model.tensor(operator.input).scale, model.tensor(operator.output).scale
    ratio = np.float64(source) / np.float64(target)
    if operator.clamp != Clamp():
        with np.errstate(over="ignore", under="ignore"):
            ratio = np.float64(np.float32(source) / np.float32(target))
    return _scaling(ratio, operator.name)


def add_scaling(model: QuantizedModel, operator: Add | Sub) -> AddScaling:
    """Return the scalings of ADD or SUB (TensorFlow Lite ``kernels/add.cc`` and ``sub.cc``, ``Prepare``).

    The input of larger scale always gets one half: multiplier 2^30, negative where it is subtracted, and shift 0. No
    shift is positive.

    Raises
    ------
    ZeropointError
        If an input's scale is 2^19 times the output's or more, which the reference kernel refuses too.
    """
    first, second, target = (model.tensor(name).scale for name in (operator.input, operator.other, operator.output))
    left_shift = WIDE_ADD_LEFT_SHIFT if model.tensor(operator.input).dtype == "int16" else ADD_LEFT_SHIFT
    scaling = sum_scaling(first, second, target, operator.name, operator.kind, left_shift)
    if not isinstance(operator, Sub):
        return scaling
    if operator.reverse:
        return replace(scaling, input=_negative(scaling.input))
    return replace(scaling, other=_negative(scaling.other))


def sum_scaling(
    first: float, second: float, target: float, name: str, kind: str = "Add", left_shift: int = ADD_LEFT_SHIFT
) -> AddScaling:
    """Return the scalings of the sum of inputs of these scales; as :func:`add_scaling`."""
    twice = 2 * max(np.float64(first), np.float64(second))
    output = twice / ((1 << left_shift) * np.float64(target))
    if not output < 1 or quantize_multiplier(output)[1] > 0:
        raise ZeropointError(
            f"operator '{name}' ({kind}): the scale of input or other must be below "
            f"2^{left_shift - 1} times the output's; quantize the model again"
        )
    scalings = [_scaling(np.float64(scale) / twice, name) for scale in (first, second)]
    return AddScaling(left_shift, scalings[0], scalings[1], _scaling(output, name))


def _negative(scaling: Scaling) -> Scaling:
    return Scaling(-scaling.multiplier, scaling.shift)


def mul_scaling(model: QuantizedModel, operator: Mul) -> Scaling:
    """Return the scaling of MUL's products (TensorFlow Lite ``kernels/mul.cc``, ``Prepare``): float32 throughout."""
    first, second, target = (
        np.float32(model.tensor(name).scale) for name in (operator.input, operator.other, operator.output)
    )
    with np.errstate(over="ignore", under="ignore"):
        return _scaling(np.float64(first * second / target), operator.name)


def leaky_relu_scaling(model: QuantizedModel, operator: LeakyRelu) -> LeakyReluScaling:
    """Return the scalings of LEAKY_RELU, both computed in float32.

    Source: TensorFlow Lite ``kernels/activations.cc``, ``LeakyReluPrepare``.
    """
    source, target = (np.float32(model.tensor(name).scale) for name in (operator.input, operator.output))
    with np.errstate(over="ignore", under="ignore"):
        alpha = np.float32(operator.alpha)
        positive = _scaling(np.float64(source / target), operator.name)
        negative = _scaling(np.float64(source * np.abs(alpha) / target), operator.name)
    sign = -1 if alpha < 0 else 1
    return LeakyReluScaling(positive, Scaling(sign * negative.multiplier, negative.shift))


def mean_scaling(model: QuantizedModel, operator: Mean) -> Scaling:
    """Return the scaling of MEAN, the element count folded in.

    The multiplier is divided by the count after a left shift by the count's whole binary logarithm, by 32 at most, and
    by no more than leaves the result's own shift at −31 or above. It lies in 2^29 … 2^31−1, or below where that last
    limit holds, whose outputs are all zero points.

    Source: TensorFlow Lite ``kernels/internal/reference/reduce.h``, ``QuantizedMeanOrSum``.
    """
    source, target = model.tensor(operator.input), model.tensor(operator.output)
    return average_scaling(source.scale, target.scale, source.shape[0] * source.shape[1], operator.name)


def average_scaling(source: float, target: float, count: int, name: str) -> Scaling:
    """Return the scaling of the sum of ``count`` values, between these scales; as :func:`mean_scaling`."""
    scaling = _scaling(np.float64(source) / np.float64(target), name)
    multiplier, shift = int(scaling.multiplier), int(scaling.shift)
    extra = min(count.bit_length() - 1, 32, 31 + shift)
    return Scaling(np.asarray((multiplier << extra) // count), np.asarray(shift - extra))


def softmax_scaling(model: QuantizedModel, operator: Softmax) -> SoftmaxScaling:
    """Return the scaling of SOFTMAX's differences from the maximum.

    Source: TensorFlow Lite ``kernels/internal/quantization_util.cc``, ``PreprocessSoftmaxScaling`` and
    ``CalculateInputRadius``.

    Raises
    ------
    ZeropointError
        If ``beta`` times the input's scale is 2^−26 or less, where the differences vanish in Q5.26.
    """
    fraction_bits = 31 - DIFFERENCE_BITS
    real = np.float64(np.float32(operator.beta)) * np.float64(model.tensor(operator.input).scale) * 2.0**fraction_bits
    if not real > 1.0:
        raise ZeropointError(
            f"operator '{operator.name}' (Softmax): beta times the scale of input '{operator.input}' must be above "
            f"2^-{fraction_bits}, not {real / 2.0**fraction_bits}"
        )
    # Beyond the cap a difference of one is −16 or less, whose exponential adds nothing to sum or output: every cap from
    # here on gives the same outputs, the reference's (2^31 − 1, or 2^30 − 1 for single rounding) among them.
    scaling = _scaling(min(real, 2.0**30 - 1), operator.name)
    shift = int(scaling.shift)
    return SoftmaxScaling(
        int(scaling.multiplier), shift, -floor((2**DIFFERENCE_BITS - 1) * 2.0 ** (fraction_bits - shift))
    )


def logistic_table(model: QuantizedModel, operator: Logistic) -> Integers:
    """Return the outputs of LOGISTIC for the 256 values of its input, in the order of their bytes.

    The logistic function is computed in float32, the exponential within it rounded to float32.

    Source: TensorFlow Lite ``kernels/activations.cc``, ``SigmoidPrepare`` and ``PopulateLookupTable``.
    """
    source, target = model.tensor(operator.input), model.tensor(operator.output)
    steps = (_every(source) - source.zero_point).astype(np.float32)
    with np.errstate(over="ignore", under="ignore"):
        real = np.float32(source.scale) * steps
        exponential = np.exp(-real.astype(np.float64)).astype(np.float32)
        result = np.float32(1) / (np.float32(1) + exponential)
    rounded = round_half_away(result / np.float32(target.scale))
    return np.clip(rounded.astype(np.int64) + target.zero_point, *target.limits)


def leaky_relu_table(model: QuantizedModel, operator: LeakyRelu) -> Integers:
    """Return the outputs of LEAKY_RELU for the 256 values of its input, in the order of their bytes.

    One multiplier holds from 0 on, another below.
    """
    source, target = model.tensor(operator.input), model.tensor(operator.output)
    scaling = leaky_relu_scaling(model, operator)
    differences = _every(source) - source.zero_point
    positive, negative = (
        requantize(differences, own.multiplier, own.shift, target.zero_point, target.limits, model.rounding)
        for own in (scaling.positive, scaling.negative)
    )
    return np.where(differences >= 0, positive, negative)


def concatenation_table(source: Tensor, target: Tensor) -> Integers:
    """Return what CONCATENATION makes of the 256 values of an input, in the order of their bytes.

    Values stay where scale and zero point do; otherwise, which only uint8 knows, they are rescaled in float32.

    Source: TensorFlow Lite ``kernels/internal/reference/concatenation.h``, ``ConcatenationWithScaling``.
    """
    every = _every(source)
    if source.quantization == target.quantization:
        return every
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        scale = np.float32(source.scale) * (np.float32(1) / np.float32(target.scale))
        rounded = round_half_away(every.astype(np.float32) * scale + np.float32(-source.zero_point) * scale)
    if not np.all(np.abs(rounded) < 2.0**31):
        raise ZeropointError(
            f"tensor '{source.name}' has too great a scale to be put into '{target.name}'; quantize the model again"
        )
    return np.clip(rounded.astype(np.int64) + target.zero_point, *target.limits)


def nearest_neighbors(operator: ResizeNearestNeighbor, sizes: Shape) -> tuple[Integers, Integers]:
    """Return the rows and the columns of a feature map of ``sizes`` that RESIZE_NEAREST_NEIGHBOR takes.

    Source: TensorFlow Lite ``kernels/internal/reference/resize_nearest_neighbor.h``, ``GetNearestNeighbor``.
    """
    rows, columns = (
        _nearest(size, outputs, operator.align_corners, operator.half_pixel_centers)
        for size, outputs in zip(sizes[:2], operator.size, strict=True)
    )
    return rows, columns


def _nearest(size: int, outputs: int, align_corners: bool, half_pixel_centers: bool) -> Integers:
    inner = align_corners and outputs > 1
    scale = np.float32(size - inner) / np.float32(outputs - inner)
    position = (np.arange(outputs, dtype=np.float32) + np.float32(0.5 * half_pixel_centers)) * scale
    nearest = round_half_away(position) if align_corners else np.floor(position)
    return np.minimum(nearest.astype(np.int64), size - 1)


def _every(tensor: Tensor) -> Integers:
    """Return the 256 values of an 8-bit tensor, in the order of their bytes."""
    return np.arange(256, dtype=np.uint8).view(tensor.dtype).astype(np.int64)


def _scaling(real: npt.ArrayLike, name: str) -> Scaling:
    try:
        return Scaling(*quantize_multiplier(real))
    except ValueError as error:
        raise ZeropointError(f"operator '{name}': its scales give no usable multiplier: {error}") from None
