"""Layers with weights: convolution, depthwise convolution, fully-connected."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zeropoint.arithmetic import clamp_limits, float_scaling, weighted_scaling
from zeropoint.compiler.emit import ROUND, Emitter, Place, as_element, input_fields, output_fields
from zeropoint.compiler.pack import PackedWeights, pack_dense, pack_depthwise, pack_window
from zeropoint.compiler.plan import pairs_rows
from zeropoint.errors import ZeropointError
from zeropoint.model import Conv2D, DepthwiseConv2D, FullyConnected, MaxPool2D, QuantizedModel, Tensor
from zeropoint.model.formats import format_integers
from zeropoint.numerics import Integers
from zeropoint.numerics.minifloat import MinifloatFormat
from zeropoint.numerics.power_of_two import PowerOfTwoFormat
from zeropoint_hw.config import PEKind
from zeropoint_hw.isa import HISTORY_DEPTH, Gate


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

    @property
    def coded(self) -> bool:
        """Whether the array, which knows both, is to take the weights as powers of two."""
        return self.emitter.config.pe is PEKind.MIXED and isinstance(self.weights.format, PowerOfTwoFormat)

    @property
    def unsigned(self) -> bool:
        """Whether the weights are uint8."""
        return self.weights.dtype == "uint8" and self.weights.format is None

    @property
    def numbers(self) -> Any:
        """The weights as they are packed: integers, or what stands for minifloats of the array's format."""
        if self.finer is None:
            return self.weights.integers
        assert self.weights.data is not None
        return self.weights.data.astype(np.int64) << self.finer

    @property
    def finer(self) -> int | None:
        """By how many bits the array's minifloats are longer than the weights; None for integers."""
        config, form = self.emitter.config, self.weights.format
        if not isinstance(form, MinifloatFormat):
            return None
        activations = MinifloatFormat(config.exponent_bits, config.activation_bits - 1 - config.exponent_bits)
        if self.source.tensor.format != activations or form.bits > config.weight_bits:
            raise ZeropointError(
                f"operator '{self.operator.name}' ({self.operator.kind}): its minifloats are not those of "
                f"--weight-bits {config.weight_bits} --activation-bits {config.activation_bits} "
                f"--exponent-bits {config.exponent_bits}; leave these options out, so that the network decides"
            )
        return config.weight_bits - form.bits

    def _bias(self, channels: int) -> Integers:
        """Return the bias of each channel."""
        data = None if self.operator.bias is None else self.model.tensor(self.operator.bias).data
        return np.zeros(channels, np.int64) if data is None else data.astype(np.int64)

    def _float_fields(self, packed: PackedWeights, channels: slice) -> dict[str, Any]:
        """Do for minifloats what :meth:`fields` does."""
        config, scaling = self.emitter.config, float_scaling(self.model, self.operator)
        assert self.finer is not None
        assert self.source.tensor.format is not None
        bias = self._bias(len(scaling.exponent))
        axis = 2 if isinstance(self.operator, DepthwiseConv2D) else 0
        magnitudes = np.moveaxis(np.abs(self.weights.integers), axis, 0).reshape(len(bias), -1)
        greatest = format_integers(self.source.tensor.format, np.array([self.source.tensor.limits[1]]))[0]
        worst = max(sum(map(int, row)) for row in magnitudes.tolist()) * int(greatest) << self.finer
        self.emitter.accumulate_up_to(worst, self.operator)
        left, exponent = scaling.bias_shift + self.finer, scaling.exponent - self.finer
        most = max(abs(int(b)) << int(by) for b, by in zip(bias, left, strict=True)) + worst
        if most >= 1 << config.value_width or exponent.min() < -128:
            raise ZeropointError(
                f"operator '{self.operator.name}' ({self.operator.kind}): with its bias, sums reach ±{most}, beyond "
                f"{config.value_width + 1} bits; quantize with more exponent bits"
            )
        return {
            "rounding": ROUND[self.model.rounding],
            "weight_base": self.emitter.add_weights(packed.words, None, self.operator),
            "parameter_base": self.emitter.add_parameters(bias[channels], left[channels], exponent[channels]),
        }

    def fields(self, packed: PackedWeights, channels: slice) -> dict[str, Any]:
        """Emit weights and parameters of some output channels and return the fields that point to them."""
        if self.finer is not None:
            return self._float_fields(packed, channels)
        scaling = weighted_scaling(self.model, self.operator)
        input_zero = self.source.tensor.zero_point
        bias = self._bias(len(scaling.shift))[channels]
        folds = self.emitter.config.pe is PEKind.FOLD
        worst = self._worst_sum(packed, 0 if folds else input_zero, 0 if folds else self.weight_zero)
        self.emitter.accumulate_up_to(worst, self.operator)
        reach = int(np.abs(bias).max(initial=0)) + worst
        self.emitter.shift_left(reach, int(scaling.shift[channels].max()), self.model.rounding, self.operator)
        if folds:
            bias = packed.folded_bias(bias, input_zero, self.weight_zero)
        return {
            "rounding": ROUND[self.model.rounding],
            "weights_unsigned": int(self.unsigned),
            "weights_coded": int(self.coded),
            "weight_zero_point": self.weight_zero,
            "input_zero_point": input_zero,
            "pad_value": as_element(input_zero, self.source.tensor),
            "weight_base": self.emitter.add_weights(
                packed.words, self.weights.integers, self.operator, self.unsigned, self.coded
            ),
            "parameter_base": self.emitter.add_parameters(bias, scaling.multiplier[channels], scaling.shift[channels]),
        }

    def _worst_sum(self, packed: PackedWeights, input_zero: int, weight_zero: int) -> int:
        """Return a bound on the magnitude of an accumulator."""
        low, high = self.source.tensor.limits
        lanes, columns = self.emitter.config.lanes, self.emitter.config.columns
        per_output = packed.places // lanes
        magnitude = np.abs(packed.words - weight_zero).reshape(-1, per_output, columns, lanes)
        return int(magnitude.sum(axis=(1, 3)).max()) * max(abs(low - input_zero), abs(high - input_zero))


def lower_conv(
    model: QuantizedModel,
    operator: Conv2D,
    pool: MaxPool2D | None,
    sources: list[Place],
    target: Place,
    emitter: Emitter,
) -> None:
    """Emit a convolution, one instruction a group, and the max pooling of its outputs if it goes with it."""
    weighted = _Weighted(model, operator, sources[0], emitter)
    config, source = emitter.config, sources[0]
    weights = weighted.numbers
    outputs, kernel_rows, kernel_columns, depth = weights.shape
    # Neighbouring taps are neighbouring bytes unless a dilation or other groups' channels lie between them.
    contiguous = operator.groups == 1 and (operator.dilation[1] == 1 or kernel_columns == 1)
    taps_x, run = (1, kernel_columns * depth) if contiguous else (kernel_columns, depth)
    window = input_fields(source, operator.stride, operator.dilation, operator.padding)
    window |= {"taps_y": kernel_rows, "taps_x": taps_x, "run": run}
    # An odd last row is paired with one whose weights are 0.
    pairs = pairs_rows(operator, run, config) and (kernel_rows % 2 == 0 or config.weight_zero)
    paired = pairs and kernel_rows > 1 and (source.row_pitch - run) % config.lanes == 0
    if paired:
        window |= {
            "paired_rows": 1,
            "pair_step": source.row_pitch - run,
            "taps_y": -(-kernel_rows // 2),
            "input_tap_step": 2 * source.row_pitch,
            "y_tap_step": 2,
        }
    clamp = clamp_limits(model.tensor(operator.output), operator.clamp)
    if pool is not None:
        low, high = clamp_limits(target.tensor, pool.clamp)
        clamp = min(max(clamp[0], low), high), min(max(clamp[1], low), high)
        (pool_rows, pool_columns) = pool.window
        window |= {
            "pool_rows": pool_rows,
            "pool_columns": pool_columns,
            "input_pool_step": window["input_row_step"],
            "y_pool_step": window["y_row_step"],
            "x_pool_step": window["x_column_step"],
            "input_row_step": pool_rows * window["input_row_step"],
            "y_row_step": pool_rows * window["y_row_step"],
            "x_column_step": pool_columns * window["x_column_step"],
        }
    share = outputs // operator.groups
    for group in range(operator.groups):
        channels = slice(group * share, (group + 1) * share)
        rows = weights[channels].reshape(share, kernel_rows * taps_x, run)
        if paired:
            rows = np.pad(rows, ((0, 0), (0, kernel_rows % 2), (0, 0)), constant_values=weighted.weight_zero)
            rows = rows.reshape(share, -1, 2 * run)
        fields = window | output_fields(target, clamp, config.columns)
        fields |= weighted.fields(pack_dense(config, rows, weighted.weight_zero), channels)
        fields["x_first"] += group * depth
        fields["output_base"] += group * share
        fields |= {"output_channels": share, "groups": -(-share // config.columns)}
        emitter.emit(**fields)


def lower_depthwise(
    model: QuantizedModel, operator: DepthwiseConv2D, sources: list[Place], target: Place, emitter: Emitter
) -> None:
    """Emit a depthwise convolution in the way that takes the fewest cycles."""
    weighted = _Weighted(model, operator, sources[0], emitter)
    weights = weighted.numbers
    outputs = weights.shape[2]
    depth = sources[0].map_shape[2]
    multiplier = outputs // depth
    config = emitter.config
    clamp = clamp_limits(target.tensor, operator.clamp)
    window = input_fields(sources[0], operator.stride, operator.dilation, operator.padding)
    sweep = _best_sweep(operator, weights.shape[:2], target, weighted, multiplier)
    if sweep is not None:
        fields = window | output_fields(target, clamp, config.channels)
        fields |= weighted.fields(pack_window(config, sweep.arrange(weights), weighted.weight_zero), slice(None))
        fields |= {"run": min(config.channels, depth), "x_group_step": config.channels, "window": 1}
        fields |= {"gate": emitter.gate(Gate.TAPS)}
        emitter.emit(**(fields | sweep.fields(fields, operator, sources[0], target)))
        return
    window |= {"taps_y": weights.shape[0], "taps_x": weights.shape[1]}
    columns = config.columns
    # Without a code for 0, lanes are told from columns by their numbers.
    if columns % multiplier == 0 and (config.weight_zero or (multiplier == 1 and columns <= config.lanes)):
        packed = pack_depthwise(config, weights.reshape(-1, outputs), weighted.weight_zero, multiplier)
        fields = window | output_fields(target, clamp, columns)
        fields |= weighted.fields(packed, slice(None))
        channels = columns // multiplier
        emitter.emit(**fields, gate=emitter.gate(Gate.OWN), run=min(channels, depth), x_group_step=channels)
        return
    # Each input channel is a convolution of its own.
    for channel in range(depth):
        chosen = slice(channel * multiplier, (channel + 1) * multiplier)
        rows = weights[:, :, chosen].reshape(-1, multiplier, 1).swapaxes(0, 1)
        fields = window | output_fields(target, clamp, columns)
        fields |= weighted.fields(pack_dense(config, rows, weighted.weight_zero), chosen)
        fields["x_first"] += channel
        fields["output_base"] += channel * multiplier
        fields |= {"output_channels": multiplier, "groups": -(-multiplier // columns)}
        emitter.emit(**fields, run=1)


@dataclass(frozen=True)
class _Sweep:
    """A depthwise convolution whose window slides along one axis, so that only its newest taps are read.

    Attributes
    ----------
    axis
        0 to slide down the feature map, 1 to slide along its rows.
    taps
        Kernel size along the axis.
    across
        Kernel size along the other axis.
    lanes
        Taps that the lanes hold at once: the configuration's ``window_taps``.
    stride, pad
        Along the axis; ``pad`` before the first row or column.
    outputs
        Outputs along the axis and along the other.
    """

    axis: int
    taps: int
    across: int
    lanes: int
    stride: int
    pad: int
    outputs: tuple[int, int]

    @property
    def parts(self) -> int:
        """Words read at each position and place across: the taps may need several."""
        return -(-self.taps // self.lanes)

    @property
    def newest(self) -> int:
        """The tap on the last lane, of the first part."""
        return self.lanes - 1 if self.parts > 1 else self.taps - 1

    @property
    def warmup(self) -> int:
        """Positions before the first output that bring its older taps into the history, but for those in padding."""
        return self.lanes - 1 if self.parts > 1 else max(0, self.taps - 1 - self.pad)

    @property
    def positions(self) -> int:
        """Positions for a row (or column) of outputs."""
        return self.warmup + (self.outputs[0] - 1) * self.stride + 1

    @property
    def cycles(self) -> int:
        """Array cycles for a group of channels."""
        return self.positions * self.outputs[1] * self.across * self.parts

    def arrange(self, weights: Any) -> tuple[Any, Any]:
        """Return the weights as ``(words, lanes, channels)``, in the order of reading, and which of them there are."""
        along = np.moveaxis(weights, self.axis, 1)  # across, taps, channels
        last = self.newest + (self.parts - 1) * self.lanes
        before = self.parts * self.lanes - 1 - last
        after = last + 1 - self.taps
        there = np.pad(np.ones(along.shape[:2], bool), ((0, 0), (before, after)))
        padded = np.pad(along, ((0, 0), (before, after), (0, 0)))
        order = (0, 1) if self.axis == 1 else (1, 0)  # tap_y is the outer loop
        shape = (self.across, self.parts, self.lanes)
        padded = padded.reshape(*shape, -1).transpose(*order, 2, 3).reshape(-1, self.lanes, weights.shape[2])
        return padded, there.reshape(shape).transpose(*order, 2).reshape(-1, self.lanes)

    def fields(self, window: dict[str, Any], operator: DepthwiseConv2D, source: Place, target: Place) -> dict[str, Any]:
        """Return the fields in which the sweep differs from a window that is read whole at each position."""
        channels = source.map_shape[2]
        first = self.newest - self.warmup
        common = {"columns": self.positions, "warmup": self.warmup, "emit_every": self.stride}
        if self.axis == 1:
            return common | {
                "taps_y": self.across,
                "taps_x": self.parts,
                "x_first": window["x_first"] + first * channels,
                "x_column_step": channels,
                "x_tap_step": self.lanes * channels,
            }
        return common | {
            "swap_axes": 1,
            "rows": self.outputs[1],
            "taps_y": self.parts,
            "taps_x": self.across,
            "y_first": window["y_first"] + first,
            "input_base": window["input_base"] + first * source.row_pitch,
            "y_row_step": 1,
            "input_row_step": source.row_pitch,
            "y_tap_step": self.lanes,
            "input_tap_step": self.lanes * source.row_pitch,
            "output_column_step": target.row_pitch,
            "output_row_step": target.column_pitch,
        }


def _best_sweep(
    operator: DepthwiseConv2D, kernel: tuple[int, int], target: Place, weighted: "_Weighted", multiplier: int
) -> _Sweep | None:
    """Return the sweep that takes the fewest cycles, or None if reading whole windows takes no more."""
    config = weighted.emitter.config
    # With fold, a weight zero point needs the sum of all lanes' activations, which here differ between columns.
    if config.window_taps == 1 or multiplier != 1 or (config.pe is PEKind.FOLD and weighted.weight_zero):
        return None
    rows, columns, _ = target.map_shape
    plain = rows * columns * kernel[0] * kernel[1]
    best = None
    for axis, pad, outputs in (
        (1, operator.padding.left, (columns, rows)),
        (0, operator.padding.top, (rows, columns)),
    ):
        sweep = _Sweep(axis, kernel[axis], kernel[1 - axis], config.window_taps, operator.stride[axis], pad, outputs)
        fits = sweep.parts * sweep.across <= HISTORY_DEPTH and max(sweep.warmup, sweep.stride - 1) < 16
        cycles = best.cycles if best else plain
        # Lanes without a tap have weights of 0.
        fits = fits and (config.weight_zero or kernel[axis] == config.window_taps)
        if operator.dilation[axis] == 1 and fits and sweep.cycles < cycles:
            best = sweep
    return best


def lower_fully_connected(
    model: QuantizedModel, operator: FullyConnected, sources: list[Place], target: Place, emitter: Emitter
) -> None:
    """Emit a matrix product: a convolution of one pixel."""
    weighted = _Weighted(model, operator, sources[0], emitter)
    weights = weighted.numbers
    packed = pack_dense(emitter.config, weights[:, None, :], weighted.weight_zero)
    vector = replace(sources[0], tensor=replace(sources[0].tensor, shape=(weights.shape[1],)))
    fields = input_fields(vector)
    fields |= output_fields(target, clamp_limits(target.tensor, operator.clamp), emitter.config.columns)
    fields |= weighted.fields(packed, slice(None))
    emitter.emit(**fields, run=weights.shape[1])
