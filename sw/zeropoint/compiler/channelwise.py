"""Layers without weights of their own: pooling, MEAN, ADD, changes of scale."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import numpy as np

from zeropoint.arithmetic import Scaling, add_scaling, clamp_limits, mean_scaling, requantize_scaling
from zeropoint.compiler.emit import (
    ROUND,
    Emitter,
    Place,
    as_byte,
    flat,
    input_fields,
    output_fields,
)
from zeropoint.model import Add, AveragePool2D, MaxPool2D, Mean, QuantizedModel, Requantize
from zeropoint.numerics import reciprocal_multiplier, wrap_int32
from zeropoint_hw.config import PEKind
from zeropoint_hw.isa import Accumulate, Round


def _channelwise_fields(source: Place, emitter: Emitter) -> dict[str, int]:
    """Return the fields of a layer that passes lane ``c`` to column ``c``."""
    return {
        "weight_base": emitter.ones(),
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
        pad_value=as_byte(sources[0].tensor.limits[0]),
        parameter_base=emitter.identity(),
    )


def _equal_counts(size: int, outputs: int, window: int, stride: int, before: int) -> Iterator[tuple[int, int, int]]:
    """Yield ``(first output, outputs, taps inside the feature map)`` for each stretch of outputs with equal counts."""

    def inside(output: int) -> int:
        first = output * stride - before
        return min(first + window, size) - max(first, 0)

    for count, members in groupby(range(outputs), key=inside):
        stretch = list(members)
        yield stretch[0], len(stretch), count


def lower_average_pool(
    model: QuantizedModel, operator: AveragePool2D, sources: list[Place], target: Place, emitter: Emitter
) -> None:
    """Emit average pooling, one instruction for each rectangle of outputs with the same divisor."""
    # The divisor is the number of taps that lie inside: one instruction for each rectangle of outputs that share it.
    rows, columns, channels = sources[0].map_shape
    out_rows, out_columns, _ = target.map_shape
    (stride_y, stride_x), pad = operator.stride, operator.padding
    for y, height, count_y in _equal_counts(rows, out_rows, operator.window[0], stride_y, pad.top):
        for x, width, count_x in _equal_counts(columns, out_columns, operator.window[1], stride_x, pad.left):
            multiplier, shift = reciprocal_multiplier(count_y * count_x)
            fields: dict[str, Any] = input_fields(sources[0], operator.stride, (1, 1), pad)
            fields |= output_fields(target, clamp_limits(target.tensor, operator.clamp), emitter.config.channels)
            fields |= _channelwise_fields(sources[0], emitter)
            fields |= {
                "taps_y": operator.window[0],
                "taps_x": operator.window[1],
                "rows": height,
                "columns": width,
                "output_zero_point": 0,
                "rounding": Round.SINGLE,
            }
            fields["y_first"] += y * stride_y
            fields["input_base"] += y * stride_y * sources[0].row_pitch
            fields["x_first"] += x * stride_x * channels
            fields["output_base"] += y * target.row_pitch + x * channels
            scaling = Scaling(np.asarray(multiplier), np.asarray(shift))
            emitter.emit(**fields, parameter_base=emitter.add_shared_parameters(scaling))


def _passed_on(model: QuantizedModel, source: Place, scaling: Scaling, taps: int, emitter: Emitter) -> dict[str, Any]:
    """Return the fields of a layer that sums ``taps`` activations without weights and rescales the sum."""
    zero = source.tensor.zero_point
    folds = emitter.config.pe is PEKind.FOLD
    bias = int(wrap_int32(-taps * zero)) if folds else 0
    return {
        "rounding": ROUND[model.rounding],
        "input_zero_point": zero,
        "pad_value": as_byte(zero),
        "parameter_base": emitter.add_shared_parameters(scaling, bias),
    }


def lower_mean(model: QuantizedModel, operator: Mean, sources: list[Place], target: Place, emitter: Emitter) -> None:
    """Emit MEAN: the whole feature map is one window."""
    rows, columns, _ = sources[0].map_shape
    fields: dict[str, Any] = input_fields(sources[0])
    fields |= output_fields(target, target.tensor.limits, emitter.config.channels)
    fields |= _channelwise_fields(sources[0], emitter)
    fields |= _passed_on(model, sources[0], mean_scaling(model, operator), rows * columns, emitter)
    emitter.emit(**fields, taps_y=rows, taps_x=columns)


def lower_requantize(
    model: QuantizedModel, operator: Requantize, sources: list[Place], target: Place, emitter: Emitter
) -> None:
    """Emit a change of scale."""
    source, target = flat(sources[0]), flat(target)
    fields: dict[str, Any] = input_fields(source)
    fields |= output_fields(target, clamp_limits(target.tensor, operator.clamp), emitter.config.channels)
    fields |= _channelwise_fields(source, emitter)
    fields |= _passed_on(model, source, requantize_scaling(model, operator), 1, emitter)
    emitter.emit(**fields)


def lower_add(model: QuantizedModel, operator: Add, sources: list[Place], target: Place, emitter: Emitter) -> None:
    """Emit ADD: a kernel of two rows that lie in two tensors."""
    scaling = add_scaling(model, operator)
    first, second = (flat(source) for source in sources)
    # One of the two input multipliers is one half exactly; the gateware has a multiplier for the other only.
    swap = (int(scaling.input.multiplier), int(scaling.input.shift)) != (1 << 30, 0)
    halved, other = (second, first) if swap else (first, second)
    general = scaling.input if swap else scaling.other
    fields: dict[str, Any] = input_fields(first)
    fields |= output_fields(flat(target), clamp_limits(target.tensor, operator.clamp), emitter.config.channels)
    fields |= _channelwise_fields(first, emitter)
    # The second operand is a second kernel row: another address, the same row number.
    fields |= {"taps_y": 2, "input_tap_step": second.address - first.address, "y_tap_step": 0}
    emitter.emit(
        **fields,
        accumulate=Accumulate.PAIR,
        rounding=ROUND[model.rounding],
        add_swap=int(swap),
        add_zero_point=halved.tensor.zero_point,
        add_other_zero_point=other.tensor.zero_point,
        add_multiplier=int(general.multiplier),
        add_shift=-int(general.shift),
        parameter_base=emitter.add_shared_parameters(scaling.output),
    )
