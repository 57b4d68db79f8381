"""Layers without weights of their own: pooling, MEAN, ADD, SUB, MUL, changes of scale."""

from typing import Any

import numpy as np

from zeropoint.arithmetic import (
    Scaling,
    add_scaling,
    check_same_scale,
    clamp_limits,
    float_scaling,
    mean_scaling,
    mul_scaling,
    requantize_scaling,
)
from zeropoint.compiler.emit import (
    ROUND,
    Emitter,
    Place,
    as_element,
    flat,
    input_fields,
    output_fields,
)
from zeropoint.compiler.powers import equal_counts, reciprocal
from zeropoint.model import Add, AveragePool2D, MaxPool2D, Mean, Mul, QuantizedModel, Requantize, Sub
from zeropoint.numerics import reciprocal_multiplier, wrap_int32
from zeropoint_hw.config import PEKind, RequantizerKind
from zeropoint_hw.isa import Accumulate, Gate, Round

#: The greatest difference between an activation of 8 bits and its zero point.
_MOST = 255


def _channelwise_fields(source: Place, emitter: Emitter) -> dict[str, int]:
    """Return the fields of a layer that passes lane ``c`` to column ``c``."""
    return {
        "weight_base": emitter.ones(),
        "gate": emitter.gate(Gate.OWN),
        "weights_per_tap": 1,
        "parameters_shared": 1,
        "run": min(emitter.config.channels, source.map_shape[2]),
        "x_group_step": emitter.config.channels,
    }


def lower_max_pool(
    model: QuantizedModel, operator: MaxPool2D, sources: list[Place], target: Place, emitter: Emitter
) -> None:
    """Emit max pooling: the accumulators keep the greatest of the window's taps."""
    fields = input_fields(sources[0], operator.stride, (1, 1), operator.padding)
    fields |= output_fields(target, clamp_limits(target.tensor, operator.clamp), emitter.config.channels)
    fields |= _channelwise_fields(sources[0], emitter)
    fields |= {"taps_y": operator.window[0], "taps_x": operator.window[1], "output_zero_point": 0}
    emitter.emit(
        **fields,
        accumulate=Accumulate.MAX,
        pad_value=as_element(sources[0].tensor.limits[0], sources[0].tensor),
        parameter_base=emitter.identity(),
    )


def lower_average_pool(
    model: QuantizedModel, operator: AveragePool2D, sources: list[Place], target: Place, emitter: Emitter
) -> None:
    """Emit average pooling, one instruction for each rectangle of outputs with the same divisor."""
    # The divisor is the number of taps that lie inside: one instruction for each rectangle of outputs that share it.
    rows, columns, channels = sources[0].map_shape
    out_rows, out_columns, _ = target.map_shape
    (stride_y, stride_x), pad = operator.stride, operator.padding
    emitter.accumulate_up_to(operator.window[0] * operator.window[1] * _MOST, operator)
    for y, height, count_y in equal_counts(rows, out_rows, operator.window[0], stride_y, pad.top):
        for x, width, count_x in equal_counts(columns, out_columns, operator.window[1], stride_x, pad.left):
            scaling, rounding = Scaling(*map(np.asarray, reciprocal_multiplier(count_y * count_x))), Round.SINGLE
            if emitter.config.requantizer is RequantizerKind.SHIFT:
                # Of what is no power of two, the compiler says so later.
                scaling, rounding = reciprocal(count_y * count_x) or scaling, Round.AWAY
            fields: dict[str, Any] = input_fields(sources[0], operator.stride, (1, 1), pad)
            fields |= output_fields(target, clamp_limits(target.tensor, operator.clamp), emitter.config.channels)
            fields |= _channelwise_fields(sources[0], emitter)
            fields |= {
                "taps_y": operator.window[0],
                "taps_x": operator.window[1],
                "rows": height,
                "columns": width,
                "output_zero_point": 0,
                "rounding": rounding,
            }
            fields["y_first"] += y * stride_y
            fields["input_base"] += y * stride_y * sources[0].row_pitch
            fields["x_first"] += x * stride_x * channels
            fields["output_base"] += y * target.row_pitch + x * target.column_pitch
            emitter.emit(**fields, parameter_base=emitter.add_shared_parameters(scaling))


def _passed_on(
    model: QuantizedModel, operator: Mean | Requantize, source: Place, scaling: Scaling, taps: int, emitter: Emitter
) -> dict[str, Any]:
    """Return the fields of a layer that sums ``taps`` activations without weights and rescales the sum."""
    emitter.accumulate_up_to(_MOST * taps, operator)
    emitter.shift_left(_MOST * taps, int(scaling.shift), model.rounding, operator)
    zero = source.tensor.zero_point
    folds = emitter.config.pe is PEKind.FOLD
    bias = int(wrap_int32(-taps * zero)) if folds else 0
    return {
        "rounding": ROUND[model.rounding],
        "input_zero_point": zero,
        "pad_value": as_element(zero, source.tensor),
        "parameter_base": emitter.add_shared_parameters(scaling, bias),
    }


def lower_mean(model: QuantizedModel, operator: Mean, sources: list[Place], target: Place, emitter: Emitter) -> None:
    """Emit MEAN: the whole feature map is one window."""
    rows, columns, _ = sources[0].map_shape
    fields: dict[str, Any] = input_fields(sources[0])
    fields |= output_fields(target, target.tensor.limits, emitter.config.channels)
    fields |= _channelwise_fields(sources[0], emitter)
    fields |= _passed_on(model, operator, sources[0], mean_scaling(model, operator), rows * columns, emitter)
    emitter.emit(**fields, taps_y=rows, taps_x=columns)


def lower_requantize(
    model: QuantizedModel, operator: Requantize, sources: list[Place], target: Place, emitter: Emitter
) -> None:
    """Emit a change of scale."""
    source, target = flat(sources[0]), flat(target)
    fields: dict[str, Any] = input_fields(source)
    fields |= output_fields(target, clamp_limits(target.tensor, operator.clamp), emitter.config.channels)
    fields |= _channelwise_fields(source, emitter)
    if emitter.config.pe is PEKind.MINIFLOAT:
        check_same_scale(operator, source.tensor, target.tensor)
        emitter.emit(**fields, parameter_base=emitter.identity())
        return
    fields |= _passed_on(model, operator, source, requantize_scaling(model, operator), 1, emitter)
    emitter.emit(**fields)


def lower_binary(
    model: QuantizedModel, operator: Add | Sub | Mul, sources: list[Place], target: Place, emitter: Emitter
) -> None:
    """Emit ADD, SUB or MUL: a kernel of two rows that lie in two tensors of the output's shape."""
    operands = [flat(place.reshaped(target.tensor.shape)) for place in sources]
    if isinstance(operator, Add) and emitter.config.pe is PEKind.MINIFLOAT:
        scaling = float_scaling(model, operator)
        shared = Scaling(scaling.bias_shift[0], scaling.exponent[0])
        emitter.emit(
            **_pair_fields(operands, operator, target, emitter), parameter_base=emitter.add_shared_parameters(shared)
        )
        return
    fields: dict[str, Any] = {"rounding": ROUND[model.rounding], "accumulate": Accumulate.PAIR}
    if isinstance(operator, Mul):
        output = mul_scaling(model, operator)
        emitter.shift_left(_MOST**2, int(output.shift), model.rounding, operator)
        fields |= {"pair_multiply": 1}
    else:
        pair = add_scaling(model, operator)
        output, own = pair.output, [pair.input, pair.other]
        # One of the two input multipliers is one half exactly; the gateware has a multiplier for the other only, and
        # reads that operand last.
        if (abs(int(own[0].multiplier)), int(own[0].shift)) != (1 << 30, 0):
            operands.reverse()
            own.reverse()
        fields |= {
            "pair_negate": int(own[0].multiplier < 0),
            "pair_other_negate": int(own[1].multiplier < 0),
            "pair_multiplier": abs(int(own[1].multiplier)),
            "pair_shift": -int(own[1].shift),
        }
    emitter.emit(
        **fields,
        **_pair_fields(operands, operator, target, emitter),
        pair_zero_point=operands[0].tensor.zero_point,
        pair_other_zero_point=operands[1].tensor.zero_point,
        parameter_base=emitter.add_shared_parameters(output),
    )


def _pair_fields(operands: list[Place], operator: Add | Sub | Mul, target: Place, emitter: Emitter) -> dict[str, Any]:
    """Return the fields of a kernel of two rows, the second of which is the other operand: another address."""
    first, other = operands
    return {
        **input_fields(first),
        **output_fields(flat(target), clamp_limits(target.tensor, operator.clamp), emitter.config.channels),
        **_channelwise_fields(first, emitter),
        "taps_y": 2,
        "input_tap_step": other.address - first.address,
        "y_tap_step": 0,
    }
