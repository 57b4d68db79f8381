"""From operators to instructions: how each layer becomes a loop nest.

Convolutions read a kernel row's taps as one contiguous run of bytes, which NHWC makes them, so that any number of
channels fills the lanes. Layers whose output channels each read their own input channel (depthwise, pooling, MEAN,
ADD, copies) put channels on the lanes and pass lane ``c`` to column ``c`` by weights that are zero elsewhere.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np

from zeropoint.arithmetic import (
    Scaling,
    add_scaling,
    clamp_limits,
    mean_scaling,
    requantize_scaling,
    weighted_scaling,
)
from zeropoint.compiler.pack import PackedWeights, Words, ones, pack_dense, pack_depthwise
from zeropoint.errors import ZeropointError
from zeropoint.model import (
    Add,
    AveragePool2D,
    Clamp,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    MaxPool2D,
    Mean,
    Operator,
    Pad,
    Padding,
    QuantizedModel,
    Requantize,
    Tensor,
)
from zeropoint.numerics import Integers, Rounding, reciprocal_multiplier, wrap_int32
from zeropoint_hw.config import AcceleratorConfig, PEKind
from zeropoint_hw.isa import Accumulate, Instruction, Round

#: The multiplier and shift that change nothing: 2^30 · 2^(1 − 31) = 1.
IDENTITY = Scaling(np.asarray(1 << 30), np.asarray(1))

_ROUND = {Rounding.DOUBLE: Round.DOUBLE, Rounding.SINGLE: Round.SINGLE}


@dataclass
class Emitter:
    """Collects what the layers of a program need, in order."""

    config: AcceleratorConfig
    instructions: list[Instruction] = field(default_factory=list)
    weight_words: list[Words] = field(default_factory=list)
    biases: list[int] = field(default_factory=list)
    multipliers: list[int] = field(default_factory=list)
    shifts: list[int] = field(default_factory=list)
    _ones: int | None = None
    _words: int = 0

    def add_weights(self, words: Words) -> int:
        """Append weight words and return the address of the first."""
        address = self._words
        self.weight_words.append(words)
        self._words += len(words)
        return address

    def ones(self) -> int:
        """Return the address of the word that passes lanes to columns; it is stored once."""
        if self._ones is None:
            self._ones = self.add_weights(ones(self.config))
        return self._ones

    def add_parameters(self, bias: Integers, multiplier: Integers, shift: Integers) -> int:
        """Append channels' parameters, filled up to whole words, and return the address of the first word."""
        address = len(self.biases) // self.config.requantizers
        self.biases += bias.tolist()
        self.multipliers += multiplier.tolist()
        self.shifts += shift.tolist()
        missing = -len(self.biases) % self.config.requantizers
        for values in (self.biases, self.multipliers, self.shifts):
            values += [0] * missing
        return address

    def add_shared_parameters(self, scaling: Scaling, bias: int = 0) -> int:
        """Append one word in which every requantizer has the same parameters, and return its address."""
        count = self.config.requantizers
        return self.add_parameters(
            np.full(count, bias), np.full(count, int(scaling.multiplier)), np.full(count, int(scaling.shift))
        )

    def emit(self, **fields: Any) -> None:
        """Append an instruction; its beats and idle cycles follow from the rest."""
        instruction = Instruction(**fields)
        channels = self.config.columns if not instruction.weights_per_tap else self.config.channels
        beats = -(-min(channels, instruction.output_channels) // self.config.requantizers)
        cycles = instruction.taps_y * instruction.taps_x * -(-instruction.run // self.config.lanes)
        self.instructions.append(replace(instruction, beats=beats, idle=max(0, beats - cycles)))


@dataclass(frozen=True)
class Place:
    """An activation tensor in memory."""

    tensor: Tensor
    address: int

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """The shape as a feature map; a vector is one pixel."""
        shape = self.tensor.shape
        return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (1, 1, int(np.prod(shape)))


def lower(model: QuantizedModel, operator: Operator, places: Mapping[str, int], emitter: Emitter) -> None:
    """Emit the instructions of one operator.

    Parameters
    ----------
    places
        The address of every activation tensor that the operator touches.

    Raises
    ------
    ZeropointError
        If a dimension is beyond what an instruction holds; the message names operator and field.
    """
    sources = [Place(model.tensor(name), places[name]) for name in operator.inputs]
    target = Place(model.tensor(operator.output), places[operator.output])
    try:
        LOWERINGS[type(operator)](model, operator, sources, target, emitter)
    except ValueError as error:
        raise ZeropointError(f"operator '{operator.name}' ({operator.kind}) is too large: {error}") from None


def _output_fields(target: Place, clamp: Clamp, channels_at_once: int) -> dict[str, int]:
    rows, columns, channels = target.map_shape
    low, high = clamp_limits(target.tensor, clamp)
    return {
        "clamp_low": low,
        "clamp_high": high,
        "output_zero_point": target.tensor.zero_point,
        "rows": rows,
        "columns": columns,
        "groups": -(-channels // channels_at_once),
        "output_channels": channels,
        "output_base": target.address,
        "output_group_step": channels_at_once,
        "output_column_step": channels,
        "output_row_step": columns * channels,
    }


def _window_fields(
    source: Place, stride: tuple[int, int], dilation: tuple[int, int], padding: Padding
) -> dict[str, int]:
    rows, columns, channels = source.map_shape
    row_bytes = columns * channels
    return {
        "input_unsigned": int(source.tensor.dtype == "uint8"),
        "input_rows": rows,
        "row_bytes": row_bytes,
        "input_base": source.address - padding.top * row_bytes,
        "input_row_step": stride[0] * row_bytes,
        "input_tap_step": dilation[0] * row_bytes,
        "y_first": -padding.top,
        "y_row_step": stride[0],
        "y_tap_step": dilation[0],
        "x_first": -padding.left * channels,
        "x_column_step": stride[1] * channels,
        "x_tap_step": dilation[1] * channels,
    }


def _byte(value: int) -> int:
    return value & 0xFF


@dataclass(frozen=True)
class _Weighted:
    """What the three layers with weights share: integers, and how a PE kind wants them."""

    model: QuantizedModel
    operator: Conv2D | DepthwiseConv2D | FullyConnected
    source: Place
    emitter: Emitter

    @property
    def weights(self) -> Tensor:
        return self.model.tensor(self.operator.weights)

    @property
    def weight_zero(self) -> int:
        quantization = self.weights.quantization
        assert quantization is not None
        return quantization.zero_point[0]

    def data(self) -> Any:
        assert self.weights.data is not None
        return self.weights.data

    def fields(self, packed: PackedWeights, channels: slice) -> dict[str, Any]:
        """Emit weights and parameters of some output channels and return the fields that point to them."""
        scaling = weighted_scaling(self.model, self.operator)
        input_zero = self.source.tensor.zero_point
        bias = np.zeros(len(scaling.shift), np.int64)
        if self.operator.bias is not None:
            data = self.model.tensor(self.operator.bias).data
            assert data is not None
            bias = data.astype(np.int64)
        bias = bias[channels]
        folds = self.emitter.config.pe is PEKind.FOLD
        self._check_width(packed, 0 if folds else input_zero, 0 if folds else self.weight_zero)
        if folds:
            bias = packed.folded_bias(bias, input_zero, self.weight_zero)
        return {
            "rounding": _ROUND[self.model.rounding],
            "weights_unsigned": int(self.weights.dtype == "uint8"),
            "weight_zero_point": self.weight_zero,
            "input_zero_point": input_zero,
            "pad_value": _byte(input_zero),
            "weight_base": self.emitter.add_weights(packed.words),
            "parameter_base": self.emitter.add_parameters(bias, scaling.multiplier[channels], scaling.shift[channels]),
        }

    def _check_width(self, packed: PackedWeights, input_zero: int, weight_zero: int) -> None:
        """Refuse what might not fit the accumulators; modulo 2^32 is what the arithmetic defines anyway."""
        width = self.emitter.config.accumulator_width
        if width == 32:
            return
        low, high = self.source.tensor.limits
        words = packed.words if self.weights.dtype == "uint8" else packed.words.view(np.int8)
        lanes, columns = self.emitter.config.lanes, self.emitter.config.columns
        per_output = packed.places // lanes
        magnitude = np.abs(words.astype(np.int64) - weight_zero).reshape(-1, per_output, columns, lanes)
        worst = int(magnitude.sum(axis=(1, 3)).max()) * max(abs(low - input_zero), abs(high - input_zero))
        if worst >= 1 << width - 1:
            raise ZeropointError(
                f"operator '{self.operator.name}' ({self.operator.kind}): sums reach ±{worst}, beyond an accumulator "
                f"of {width} bits; choose accumulator_width = {worst.bit_length() + 1} or more"
            )


def _lower_conv(model: QuantizedModel, operator: Conv2D, sources: list[Place], target: Place, emitter: Emitter) -> None:
    weighted = _Weighted(model, operator, sources[0], emitter)
    weights = weighted.data()
    outputs, kernel_rows, kernel_columns, depth = weights.shape
    # Neighbouring taps are neighbouring bytes unless a dilation or other groups' channels lie between them.
    contiguous = operator.groups == 1 and (operator.dilation[1] == 1 or kernel_columns == 1)
    taps_x, run = (1, kernel_columns * depth) if contiguous else (kernel_columns, depth)
    share = outputs // operator.groups
    for group in range(operator.groups):
        channels = slice(group * share, (group + 1) * share)
        packed = pack_dense(
            emitter.config, weights[channels].reshape(share, kernel_rows * taps_x, run), weighted.weight_zero
        )
        fields = _window_fields(sources[0], operator.stride, operator.dilation, operator.padding)
        fields |= _output_fields(target, operator.clamp, emitter.config.columns)
        fields |= weighted.fields(packed, channels)
        fields["x_first"] += group * depth
        fields["output_base"] += group * share
        fields |= {"output_channels": share, "groups": -(-share // emitter.config.columns)}
        emitter.emit(**fields, taps_y=kernel_rows, taps_x=taps_x, run=run)


def _lower_depthwise(
    model: QuantizedModel, operator: DepthwiseConv2D, sources: list[Place], target: Place, emitter: Emitter
) -> None:
    weighted = _Weighted(model, operator, sources[0], emitter)
    weights = weighted.data()
    kernel_rows, kernel_columns, outputs = weights.shape
    depth = sources[0].map_shape[2]
    multiplier = outputs // depth
    window = _window_fields(sources[0], operator.stride, operator.dilation, operator.padding)
    window |= {"taps_y": kernel_rows, "taps_x": kernel_columns}
    columns = emitter.config.columns
    if columns % multiplier == 0:
        packed = pack_depthwise(emitter.config, weights.reshape(-1, outputs), weighted.weight_zero, multiplier)
        fields = window | _output_fields(target, operator.clamp, columns)
        fields |= weighted.fields(packed, slice(None))
        channels = columns // multiplier
        emitter.emit(**fields, run=min(channels, depth), x_group_step=channels)
        return
    # Each input channel is a convolution of its own.
    for channel in range(depth):
        chosen = slice(channel * multiplier, (channel + 1) * multiplier)
        packed = pack_dense(
            emitter.config, weights[:, :, chosen].reshape(-1, multiplier, 1).swapaxes(0, 1), weighted.weight_zero
        )
        fields = window | _output_fields(target, operator.clamp, columns)
        fields |= weighted.fields(packed, chosen)
        fields["x_first"] += channel
        fields["output_base"] += channel * multiplier
        fields |= {"output_channels": multiplier, "groups": -(-multiplier // columns)}
        emitter.emit(**fields, run=1)


def _lower_fully_connected(
    model: QuantizedModel, operator: FullyConnected, sources: list[Place], target: Place, emitter: Emitter
) -> None:
    weighted = _Weighted(model, operator, sources[0], emitter)
    weights = weighted.data()
    packed = pack_dense(emitter.config, weights[:, None, :], weighted.weight_zero)
    vector = replace(sources[0], tensor=replace(sources[0].tensor, shape=(weights.shape[1],)))
    fields = _window_fields(vector, (1, 1), (1, 1), Padding())
    fields |= _output_fields(target, operator.clamp, emitter.config.columns)
    fields |= weighted.fields(packed, slice(None))
    emitter.emit(**fields, run=weights.shape[1])


def _channelwise_fields(source: Place, emitter: Emitter) -> dict[str, int]:
    """Return the fields of a layer that passes lane ``c`` to column ``c``."""
    return {
        "weight_base": emitter.ones(),
        "weights_per_tap": 1,
        "parameters_shared": 1,
        "run": min(emitter.config.channels, source.map_shape[2]),
        "x_group_step": emitter.config.channels,
    }


def _flat(place: Place) -> Place:
    """Return a tensor as rows of single bytes, for layers that treat all alike: rows keep the counts small."""
    rows, columns, channels = place.map_shape
    return replace(place, tensor=replace(place.tensor, shape=(rows, 1, columns * channels)))


def _lower_max_pool(
    model: QuantizedModel, operator: MaxPool2D, sources: list[Place], target: Place, emitter: Emitter
) -> None:
    fields = _window_fields(sources[0], operator.stride, (1, 1), operator.padding)
    fields |= _output_fields(target, operator.clamp, emitter.config.channels)
    fields |= _channelwise_fields(sources[0], emitter)
    fields |= {"taps_y": operator.window[0], "taps_x": operator.window[1], "output_zero_point": 0}
    emitter.emit(
        **fields,
        accumulate=Accumulate.MAX,
        pad_value=_byte(sources[0].tensor.limits[0]),
        parameter_base=emitter.add_shared_parameters(IDENTITY),
    )


def _equal_counts(size: int, outputs: int, window: int, stride: int, before: int) -> Iterator[tuple[int, int, int]]:
    """Yield ``(first output, outputs, taps inside the feature map)`` for each stretch of outputs with equal counts."""

    def inside(output: int) -> int:
        first = output * stride - before
        return min(first + window, size) - max(first, 0)

    for count, members in groupby(range(outputs), key=inside):
        stretch = list(members)
        yield stretch[0], len(stretch), count


def _lower_average_pool(
    model: QuantizedModel, operator: AveragePool2D, sources: list[Place], target: Place, emitter: Emitter
) -> None:
    # The divisor is the number of taps that lie inside: one instruction for each rectangle of outputs that share it.
    rows, columns, channels = sources[0].map_shape
    out_rows, out_columns, _ = target.map_shape
    (stride_y, stride_x), pad = operator.stride, operator.padding
    for y, height, count_y in _equal_counts(rows, out_rows, operator.window[0], stride_y, pad.top):
        for x, width, count_x in _equal_counts(columns, out_columns, operator.window[1], stride_x, pad.left):
            multiplier, shift = reciprocal_multiplier(count_y * count_x)
            fields: dict[str, Any] = _window_fields(sources[0], operator.stride, (1, 1), pad)
            fields |= _output_fields(target, operator.clamp, emitter.config.channels)
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
            fields["input_base"] += y * stride_y * columns * channels
            fields["x_first"] += x * stride_x * channels
            fields["output_base"] += (y * out_columns + x) * channels
            scaling = Scaling(np.asarray(multiplier), np.asarray(shift))
            emitter.emit(**fields, parameter_base=emitter.add_shared_parameters(scaling))


def _passed_on(model: QuantizedModel, source: Place, scaling: Scaling, taps: int, emitter: Emitter) -> dict[str, Any]:
    """Return the fields of a layer that sums ``taps`` activations without weights and rescales the sum."""
    zero = source.tensor.zero_point
    folds = emitter.config.pe is PEKind.FOLD
    bias = int(wrap_int32(-taps * zero)) if folds else 0
    return {
        "rounding": _ROUND[model.rounding],
        "input_zero_point": zero,
        "pad_value": _byte(zero),
        "parameter_base": emitter.add_shared_parameters(scaling, bias),
    }


def _lower_mean(model: QuantizedModel, operator: Mean, sources: list[Place], target: Place, emitter: Emitter) -> None:
    rows, columns, _ = sources[0].map_shape
    fields: dict[str, Any] = _window_fields(sources[0], (1, 1), (1, 1), Padding())
    fields |= _output_fields(target, Clamp(), emitter.config.channels)
    fields |= _channelwise_fields(sources[0], emitter)
    fields |= _passed_on(model, sources[0], mean_scaling(model, operator), rows * columns, emitter)
    emitter.emit(**fields, taps_y=rows, taps_x=columns)


def _lower_requantize(
    model: QuantizedModel, operator: Requantize, sources: list[Place], target: Place, emitter: Emitter
) -> None:
    source, target = _flat(sources[0]), _flat(target)
    fields: dict[str, Any] = _window_fields(source, (1, 1), (1, 1), Padding())
    fields |= _output_fields(target, operator.clamp, emitter.config.channels)
    fields |= _channelwise_fields(source, emitter)
    fields |= _passed_on(model, source, requantize_scaling(model, operator), 1, emitter)
    emitter.emit(**fields)


def _lower_pad(model: QuantizedModel, operator: Pad, sources: list[Place], target: Place, emitter: Emitter) -> None:
    fields: dict[str, Any] = _window_fields(sources[0], (1, 1), (1, 1), operator.padding)
    fields |= _output_fields(target, Clamp(), emitter.config.channels)
    fields |= _channelwise_fields(sources[0], emitter)
    fields |= _passed_on(model, sources[0], IDENTITY, 1, emitter)
    emitter.emit(**fields)


def _lower_add(model: QuantizedModel, operator: Add, sources: list[Place], target: Place, emitter: Emitter) -> None:
    scaling = add_scaling(model, operator)
    first, second = (_flat(source) for source in sources)
    # One of the two input multipliers is one half exactly; the gateware has a multiplier for the other only.
    swap = (int(scaling.input.multiplier), int(scaling.input.shift)) != (1 << 30, 0)
    halved, other = (second, first) if swap else (first, second)
    general = scaling.input if swap else scaling.other
    fields: dict[str, Any] = _window_fields(first, (1, 1), (1, 1), Padding())
    fields |= _output_fields(_flat(target), operator.clamp, emitter.config.channels)
    fields |= _channelwise_fields(first, emitter)
    # The second operand is a second kernel row: another address, the same row number.
    fields |= {"taps_y": 2, "input_tap_step": second.address - first.address, "y_tap_step": 0}
    emitter.emit(
        **fields,
        accumulate=Accumulate.PAIR,
        rounding=Round.DOUBLE,
        add_swap=int(swap),
        add_zero_point=halved.tensor.zero_point,
        add_other_zero_point=other.tensor.zero_point,
        add_multiplier=int(general.multiplier),
        add_shift=-int(general.shift),
        parameter_base=emitter.add_shared_parameters(scaling.output),
    )


_Lowering = Callable[[QuantizedModel, Any, list[Place], Place, Emitter], None]

#: How each operator that the hardware runs becomes instructions.
LOWERINGS: dict[type[Operator], _Lowering] = {
    Conv2D: _lower_conv,
    DepthwiseConv2D: _lower_depthwise,
    FullyConnected: _lower_fully_connected,
    MaxPool2D: _lower_max_pool,
    AveragePool2D: _lower_average_pool,
    Mean: _lower_mean,
    Requantize: _lower_requantize,
    Pad: _lower_pad,
    Add: _lower_add,
}
