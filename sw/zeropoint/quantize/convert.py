"""From a float model and the ranges of its activations to a quantized model, by the rules of any scheme.

Operators that pass values through unscaled keep their input's quantization, so that activations form groups: the output
of some other operator, or the model's input, and whatever such operators make of it. A group has one quantization.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from zeropoint import arithmetic
from zeropoint.errors import ZeropointError
from zeropoint.model import (
    Add,
    Conv2D,
    DepthwiseConv2D,
    FloatModel,
    FullyConnected,
    MaxPool2D,
    Mean,
    Operator,
    Pad,
    Quantization,
    QuantizedModel,
    Requantize,
    Reshape,
    Softmax,
    Tensor,
)
from zeropoint.numerics import INT32_MAX, round_half_away
from zeropoint.numerics.minifloat import MinifloatFormat
from zeropoint.quantize.bias_correction import mean_error
from zeropoint.quantize.calibration import Range
from zeropoint.quantize.minifloat import minifloat_bias
from zeropoint.quantize.schemes import LEAST_SCALE, Float64s, Rules, Weighted

# An output's scale is at least this part of the greatest value that its operator could produce. No multiplier is then
# too great for its format, and none that is 1 or more shifts an accumulator out of 32 bits.
_LEAST_OUTPUT = 2.0**-24

# A multiplier is at least this, so that no channel vanishes.
_LEAST_MULTIPLIER = 2.0**-31

# The multiplier of a channel without weights, which leaves its bias ten binary digits below the output's unit.
_IDLE_MULTIPLIER = 2.0**-10

# Below beta · scale = 2^-26, SOFTMAX does not see differences.
_LEAST_EXPONENT = 2.0**-25

#: What the sums of 16-bit networks keep within, whose accumulators have up to 48 bits.
WIDE_MAX = (1 << 47) - 1


def observed_tensors(model: FloatModel) -> dict[str, list[str]]:
    """Return the activations whose ranges a group's quantization must cover, by the name of the group's first.

    It is those that are read as values. A tensor that is only read by MaxPool2D, Pad and Reshape is not: to clip
    before these operators, or after them, is the same. The output of SOFTMAX has a given scale, and its group nothing
    to cover.
    """
    first = activation_groups(model)
    given = _given(model)
    groups: dict[str, list[str]] = {name: [] for name in first.values() if name not in given}
    for name, group in first.items():
        readers = model.consumers(name)
        only_moved = bool(readers) and all(isinstance(reader, MaxPool2D | Pad | Reshape) for reader in readers)
        if group in groups and (name == model.output or not only_moved):
            groups[group].append(name)
    return groups


def activation_groups(model: FloatModel) -> dict[str, str]:
    """Return the first tensor of its group for each activation."""
    first = {model.input: model.input}
    for operator in model.operators:
        first[operator.output] = first[operator.input] if operator.keeps_quantization else operator.output
    return first


def convert(
    model: FloatModel,
    ranges: Mapping[str, Range],
    inputs: Mapping[str, Float64s],
    rules: Rules,
    metadata: Mapping[str, str],
) -> QuantizedModel:
    """Return ``model`` quantized by ``rules``; tensors and operators keep their names.

    Biases are int32 at the product of the scales of input and weights. Weight scales are widened where that is needed
    for the guarantees: no input makes an accumulator exceed int32, in whatever order it is summed, nor its product
    with the multiplier; no multiplier vanishes.

    Parameters
    ----------
    model
        The network.
    ranges
        Of the tensors that :func:`observed_tensors` lists.
    inputs
        What ``bias_correction.mean_inputs`` returns, for the biases that are to be corrected.
    rules
        The scheme.
    metadata
        Of the new model.

    Raises
    ------
    ZeropointError
        If a guarantee cannot be given, naming the operator.
    """
    quantizations = _activations(model, ranges, rules)
    first, given = activation_groups(model), _given(model)
    tensors = {
        tensor.name: Tensor(
            tensor.name,
            tensor.shape,
            rules.dtype,
            quantizations[tensor.name],
            # What SOFTMAX gives has all 8 bits.
            format=None if first[tensor.name] in given else rules.of(first[tensor.name]).format,
        )
        for tensor in model.activations()
    }
    operators: list[Operator] = []
    for operator in model.operators:
        if isinstance(operator, Weighted):
            source, target = tensors[operator.input], tensors[operator.output]
            weights, bias = _constants(model, operator, source, target, inputs.get(operator.name), rules)
            # A constant that two operators share has a scale for each.
            weights = replace(weights, name=_unused(weights.name, operator, model, tensors))
            tensors[weights.name] = weights
            operator = replace(operator, weights=weights.name)
            if bias is not None:
                bias = replace(bias, name=_unused(bias.name, operator, model, tensors))
                tensors[bias.name] = bias
                operator = replace(operator, bias=bias.name)
        operators.append(operator)
    quantized = QuantizedModel(
        model.name, tensors, tuple(operators), model.input, model.output, metadata, rules.rounding
    )
    for operator in quantized.operators:
        scalings = _FLOAT_SCALINGS if isinstance(rules.format, MinifloatFormat) else _SCALINGS
        if scaling := scalings.get(type(operator)):
            scaling(quantized, operator)  # Raises if a multiplier cannot be represented.
    return quantized


_SCALINGS: dict[type[Operator], Any] = {
    Conv2D: arithmetic.weighted_scaling,
    DepthwiseConv2D: arithmetic.weighted_scaling,
    FullyConnected: arithmetic.weighted_scaling,
    Add: arithmetic.add_scaling,
    Mean: arithmetic.mean_scaling,
    Requantize: arithmetic.requantize_scaling,
    Softmax: arithmetic.softmax_scaling,
}


#: The same for minifloats.
_FLOAT_SCALINGS: dict[type[Operator], Any] = dict.fromkeys(
    (Conv2D, DepthwiseConv2D, FullyConnected, Add), arithmetic.float_scaling
)


def _unused(name: str, operator: Operator, model: FloatModel, taken: Mapping[str, Tensor]) -> str:
    """Return ``name``, or a name made from it and the operator's if a tensor has it already."""
    while name in taken:
        name = f"{name}/{operator.name}"
        while name in model.tensors:
            name += "'"
    return name


def _activations(model: FloatModel, ranges: Mapping[str, Range], rules: Rules) -> dict[str, Quantization]:
    """Return the quantization of each activation."""
    observed = observed_tensors(model)
    first = activation_groups(model)
    least = dict.fromkeys(observed, LEAST_SCALE)
    for operator in model.operators:
        if isinstance(operator, Softmax) and operator.beta > 0 and (group := first[operator.input]) in least:
            least[group] = max(least[group], _LEAST_EXPONENT / operator.beta)

    def choose(name: str, greatest: float) -> Quantization:
        lows, highs = zip(*(ranges[member] for member in observed[name]), strict=True)
        try:
            with np.errstate(over="raise"):
                activations = rules.of(name).activations
                return activations(min(lows), max(highs), max(least[name], greatest * _LEAST_OUTPUT))
        except (ValueError, FloatingPointError) as error:
            raise ZeropointError(f"tensor '{name}' cannot be quantized: {_brief(error)}") from None

    quantizations = {model.input: choose(model.input, 0.0)}
    for operator in model.operators:
        if operator.keeps_quantization:
            quantizations[operator.output] = quantizations[operator.input]
        elif isinstance(operator, Softmax):
            low = int(np.iinfo(rules.dtype).min)
            quantizations[operator.output] = Quantization((1 / 256,), (low,))
        else:
            inputs = [
                greatest_steps(quantizations[name], rules.of(first[name]).limits) * quantizations[name].scale[0]
                for name in operator.inputs
            ]
            greatest = sum(inputs)
            if isinstance(operator, Weighted):
                magnitude, bias = _magnitudes(model, operator)
                greatest = float((magnitude * inputs[0] + np.abs(bias)).max())
            quantizations[operator.output] = choose(operator.output, greatest)
    return quantizations


def _given(model: FloatModel) -> set[str]:
    """Return the activations whose quantization the operator that makes them gives."""
    return {operator.output for operator in model.operators if isinstance(operator, Softmax)}


def _brief(error: Exception) -> str:
    return "its scale is beyond float32" if isinstance(error, FloatingPointError) else str(error)


def greatest_steps(quantization: Quantization, limits: tuple[int, int]) -> int:
    """Return the greatest magnitude of ``q − zero_point``, for ``q`` within ``limits``."""
    (low, high), zero_point = limits, quantization.zero_point[0]
    return max(high - zero_point, zero_point - low)


def _axis(operator: Weighted) -> int:
    """Return the dimension of the weights that counts the output channels."""
    return 2 if isinstance(operator, DepthwiseConv2D) else 0


def _floats(model: FloatModel, name: str) -> Float64s:
    data = model.tensor(name).data
    assert data is not None  # Verified by the model.
    return data.astype(np.float64)


def _magnitudes(model: FloatModel, operator: Weighted) -> tuple[Float64s, Float64s]:
    """Return, for each output channel, the sum of the weights' magnitudes, and the bias."""
    weights = np.moveaxis(_floats(model, operator.weights), _axis(operator), 0)
    magnitude = np.abs(weights).reshape(len(weights), -1).sum(axis=1)
    bias = np.zeros(len(weights)) if operator.bias is None else _floats(model, operator.bias)
    return magnitude, bias


def weight_scale_limits(
    magnitude: Float64s, bias: Float64s, count: int, steps: int, source: float, target: float, label: str
) -> tuple[Float64s, float]:
    """Return the least scale of each output channel's weights that gives the guarantees, and one for idle channels.

    Parameters
    ----------
    magnitude, bias
        The sum of the magnitudes of each channel's weights, and its bias.
    count
        How many products each output sums.
    steps
        The greatest magnitude of ``q - zero_point`` of the inputs.
    source, target
        The scales of inputs and outputs.
    label
        Names the operator in messages.

    Raises
    ------
    ZeropointError
        If there are too many products for an accumulator.
    """
    room = _room(count, steps)
    if room <= 0:
        bits = _greatest_sum(steps).bit_length() + 1
        raise ZeropointError(
            f"{label}: each output sums {count} products, more than an accumulator of {bits} bits can take"
        )
    unit = target / source
    least = (magnitude * steps + np.abs(bias) / source) / room
    # The bias is an int32 whatever the sums are; its correction takes little of what is left.
    least = np.maximum(least, np.abs(bias) / source / (INT32_MAX * 0.999))
    return np.maximum(least, max(unit * _LEAST_MULTIPLIER, LEAST_SCALE / min(source, 1.0))), unit * _IDLE_MULTIPLIER


def _room(count: int, steps: int) -> float:
    """Return what the quantized values of an accumulator may amount to without the rounding of its weights."""
    # |q_w| is at most |w| / scale + 1 with any rounding of weights and zero point; as much again is for the correction
    # of the bias, which is rounded too. The millionth is for the scales' own rounding to float32.
    return (_greatest_sum(steps) - 1) * (1 - 1e-6) - 2 * count * steps


def _greatest_sum(steps: int) -> int:
    """Return the greatest sum that accumulators take: those of activations beyond a byte's are wider."""
    return INT32_MAX if steps <= 255 else WIDE_MAX


def _constants(
    model: FloatModel, operator: Weighted, source: Tensor, target: Tensor, inputs: Float64s | None, rules: Rules
) -> tuple[Tensor, Tensor | None]:
    """Return the quantized weights and bias of an operator; given its mean ``inputs``, with the bias corrected."""
    if isinstance(rules.format, MinifloatFormat):
        return _float_constants(model, operator, source, inputs, rules)
    values = _floats(model, operator.weights)
    magnitude, bias = _magnitudes(model, operator)
    count = values.size // len(bias)
    assert source.quantization is not None
    steps = greatest_steps(source.quantization, source.limits)
    label = f"operator '{operator.name}' ({operator.kind})"
    least, idle = weight_scale_limits(magnitude, bias, count, steps, source.scale, target.scale, label)
    try:
        with np.errstate(over="raise"):
            choose = rules.layers.get(operator.name, rules.weights)
            weights = choose(values, _axis(operator), least, idle)
            products = np.multiply(source.scale, weights.quantization.scale)
            quantization = Quantization(tuple(products), (0,) * len(products), None if len(products) == 1 else 0)
    except (ValueError, FloatingPointError) as error:
        raise ZeropointError(f"{label}: its weights cannot be quantized: {_brief(error)}") from None
    constant = weights.tensor(operator.weights)
    distances = np.abs(constant.integers - weights.quantization.zero_point[0])
    sums = np.moveaxis(distances, _axis(operator), 0).reshape(len(bias), -1).sum(axis=1)
    # Weights that are no nearer than a power of two may be more than the bound above reckons with.
    if np.any(sums * steps + np.abs(bias) / products > _room(count, steps) + count * steps):
        bits = _greatest_sum(steps).bit_length() + 1
        raise ZeropointError(f"{label}: its sums could exceed an accumulator of {bits} bits; choose another scheme")
    if inputs is not None:
        bias = _corrected(bias, operator, constant.real - values, inputs, source)
    elif operator.bias is None:
        return constant, None
    q = round_half_away(bias / products).astype(np.int32)
    return constant, Tensor(operator.bias or f"{operator.name}/bias", q.shape, "int32", quantization, q)


def _corrected(bias: Float64s, operator: Weighted, errors: Float64s, inputs: Float64s, source: Tensor) -> Float64s:
    """Return a bias without the mean of what errors of the weights do to outputs."""
    # A mean beyond the input's range, as calibration may clip it, is not what the accumulator will see.
    ends = source.dequantize(np.array(source.limits)).astype(np.float64)
    return np.asarray(bias - mean_error(operator, errors, np.clip(inputs, *ends)))


def _float_constants(
    model: FloatModel, operator: Weighted, source: Tensor, inputs: Float64s | None, rules: Rules
) -> tuple[Tensor, Tensor | None]:
    """Do for minifloats, whose sums have no limit, what :func:`_constants` does."""
    values = _floats(model, operator.weights)
    _, bias = _magnitudes(model, operator)
    weights = rules.layers.get(operator.name, rules.weights)(values, _axis(operator), np.zeros(len(bias)), 0.0)
    constant = weights.tensor(operator.weights)
    if inputs is not None:
        bias = _corrected(bias, operator, constant.real - values, inputs, source)
    elif operator.bias is None:
        return constant, None
    unit = source.scale * weights.quantization.scale[0]
    return constant, minifloat_bias(bias, unit, operator.bias or f"{operator.name}/bias")
