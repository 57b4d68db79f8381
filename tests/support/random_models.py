"""Random quantized models: any operator, any shape, scales that make the outputs use their range."""

from dataclasses import dataclass, field
from math import inf
from typing import Any

import numpy as np

from zeropoint.model import (
    Add,
    AveragePool2D,
    Clamp,
    Concatenation,
    Conv2D,
    DepthwiseConv2D,
    Format,
    FullyConnected,
    LeakyRelu,
    Logistic,
    MaxPool2D,
    Mean,
    Mul,
    Operator,
    Pad,
    Padding,
    Quantization,
    QuantizedModel,
    Requantize,
    Reshape,
    ResizeNearestNeighbor,
    Softmax,
    StridedSlice,
    Sub,
    Tensor,
    Transpose,
)
from zeropoint.numerics import Rounding
from zeropoint.numerics.power_of_two import PowerOfTwoFormat


@dataclass
class ModelBuilder:
    """Appends operators to a growing model; every method returns the name of the tensor it made."""

    rng: np.random.Generator
    dtype: str = "int8"
    weight_zero_points: bool = False
    #: What weights are codes of, one of these a layer; int8 or uint8 where it is empty, or None is drawn.
    formats: tuple[Format | None, ...] = ()
    tensors: dict[str, Tensor] = field(default_factory=dict)
    operators: list[Operator] = field(default_factory=list)

    def _quantization(self) -> Quantization:
        info = np.iinfo(self.dtype)
        zero = int(
            self.rng.choice([info.min, info.max, int(self.rng.integers(info.min, info.max + 1))], p=[0.2, 0.1, 0.7])
        )
        return Quantization((float(self.rng.uniform(0.02, 0.2)),), (zero,))

    def input(self, *shape: int) -> str:
        self.tensors["input"] = Tensor("input", shape, self.dtype, self._quantization())
        return "input"

    def _add(
        self, operator: type[Operator], source: str, quantization: Quantization | None = None, **fields: Any
    ) -> str:
        name = f"{operator.__name__.lower()}_{len(self.operators)}"
        made = operator(name=name, input=source, output=f"{name}_out", **fields)
        shapes = [self.tensors[each].shape for each in (*made.inputs, *made.constants)]
        if quantization is None:
            quantization = self.tensors[source].quantization if made.keeps_quantization else self._quantization()
        self.tensors[made.output] = Tensor(made.output, made.output_shape(*shapes), self.dtype, quantization)
        self.operators.append(made)
        return made.output

    def _clamp(self) -> Clamp:
        return [Clamp(), Clamp(0, inf), Clamp(0, 6), Clamp(-1, 1)][self.rng.integers(4)]

    def _weights(
        self, source: str, shape: tuple[int, ...], axis: int, depth: int
    ) -> tuple[dict[str, str], Quantization]:
        """Make weights and bias, and an output quantization under which sums of ``depth`` products fill the range."""
        rng, index = self.rng, len(self.operators)
        channels = shape[axis]
        source_scale = self.tensors[source].scale
        form = self.formats[rng.integers(len(self.formats))] if self.formats else None
        if self.weight_zero_points and form is None:
            dtype, count = ["uint8", "int8"][rng.integers(2)], 1
            info = np.iinfo(dtype)
            zeros = (int(rng.integers(info.min, info.max + 1)),)
        else:
            dtype, zeros = "int8", ()
            count = 1 if rng.random() < 0.2 else channels
            info = np.iinfo(dtype)
        scales = rng.uniform(0.5, 1.5, count) * 0.01
        data = rng.integers(info.min, info.max + 1, shape).astype(dtype)
        magnitude = 74.0
        if form is not None:
            codes = (
                form.codes() if isinstance(form, PowerOfTwoFormat) else np.arange(form.limits[0], form.limits[1] + 1)
            )
            dtype = "uint8" if isinstance(form, PowerOfTwoFormat) else "int8"
            data = rng.choice(codes, shape).astype(dtype)
            magnitude = float(np.sqrt(np.mean(np.square(form.decode(codes)))))
        spread = 74 * magnitude * np.sqrt(depth)
        bias = rng.integers(-int(spread) - 1, int(spread) + 1, channels).astype(np.int32)
        weights = Tensor(
            f"weights_{index}",
            shape,
            dtype,
            Quantization(tuple(scales), zeros or (0,) * count, None if count == 1 else axis),
            data,
            form,
        )
        bias_scales = tuple(np.float32(source_scale) * np.float32(scale) for scale in scales)
        self.tensors[weights.name] = weights
        self.tensors[f"bias_{index}"] = Tensor(
            f"bias_{index}",
            (channels,),
            "int32",
            Quantization(bias_scales, (0,) * count, None if count == 1 else 0),
            bias,
        )
        target = self._quantization()
        gain = rng.choice([0.2, 1, 3])
        target = Quantization((float(source_scale * 0.01 * spread / 74 * gain),), target.zero_point)
        names = {"weights": weights.name}
        if rng.random() < 0.8:
            names["bias"] = f"bias_{index}"
        else:
            del self.tensors[f"bias_{index}"]
        return names, target

    def conv(
        self,
        source: str,
        channels: int,
        kernel: tuple[int, int],
        groups: int = 1,
        like: str | None = None,
        **fields: Any,
    ) -> str:
        """Append a convolution, whose output has the quantization of the tensor ``like`` if one is given."""
        depth = self.tensors[source].shape[2] // groups
        names, target = self._weights(source, (channels, *kernel, depth), 0, depth * kernel[0] * kernel[1])
        if like is not None:
            target = self.tensors[like].quantization or target
        return self._add(Conv2D, source, target, groups=groups, clamp=self._clamp(), **names, **fields)

    def depthwise(
        self, source: str, kernel: tuple[int, int], multiplier: int = 1, like: str | None = None, **fields: Any
    ) -> str:
        """Append a depthwise convolution, whose output has the quantization of the tensor ``like`` if one is given."""
        channels = self.tensors[source].shape[2] * multiplier
        names, target = self._weights(source, (*kernel, channels), 2, kernel[0] * kernel[1])
        if like is not None:
            target = self.tensors[like].quantization or target
        return self._add(DepthwiseConv2D, source, target, clamp=self._clamp(), **names, **fields)

    def fully_connected(self, source: str, channels: int) -> str:
        depth = int(np.prod(self.tensors[source].shape))
        names, target = self._weights(source, (channels, depth), 0, depth)
        return self._add(FullyConnected, source, target, clamp=self._clamp(), **names)

    def add(self, source: str, other: str) -> str:
        return self.binary(Add, source, other)

    def binary(self, operator: type[Operator], source: str, other: str, **fields: Any) -> str:
        """Append an Add, Sub or Mul of two activations."""
        return self._add(
            operator, source, self._scaled(operator, source, other), other=other, clamp=self._clamp(), **fields
        )

    def constant(self, operator: type[Operator], source: str, *shape: int, **fields: Any) -> str:
        """Append an Add, Sub or Mul of an activation and a constant of any shape that fits."""
        name, info = f"constant_{len(self.operators)}", np.iinfo(self.dtype)
        data = self.rng.integers(info.min, info.max + 1, shape).astype(self.dtype)
        self.tensors[name] = Tensor(name, shape, self.dtype, self._quantization(), data)
        return self.binary(operator, source, name, constant=True, **fields)

    def add_constant(self, source: str, *shape: int) -> str:
        return self.constant(Add, source, *shape)

    def _scaled(self, operator: type[Operator], source: str, other: str) -> Quantization | None:
        """Return an output quantization under which a product fills the range; a sum does with any."""
        if operator is not Mul:
            return None
        scale = 40 * self.tensors[source].scale * self.tensors[other].scale * self.rng.uniform(0.5, 2)
        return Quantization((float(scale),), self._quantization().zero_point)

    def leaky_relu(self, source: str, alpha: float) -> str:
        return self._add(LeakyRelu, source, alpha=alpha)

    def logistic(self, source: str) -> str:
        least = np.iinfo(self.dtype).min
        return self._add(Logistic, source, Quantization((1 / 256,), (int(least),)))

    def concatenation(self, axis: int, source: str, *others: str, rescales: bool = False) -> str:
        """Append a concatenation, of a quantization of its own, which only uint8 can have, if it ``rescales``."""
        quantization = None if rescales else self.tensors[source].quantization
        return self._add(Concatenation, source, quantization or self._quantization(), others=others, axis=axis)

    def strided_slice(
        self, source: str, begin: tuple[int, ...], stride: tuple[int, ...], shape: tuple[int, ...]
    ) -> str:
        return self._add(StridedSlice, source, begin=begin, stride=stride, shape=shape)

    def transpose(self, source: str, *permutation: int) -> str:
        return self._add(Transpose, source, permutation=permutation)

    def resize(self, source: str, size: tuple[int, int], **fields: bool) -> str:
        return self._add(ResizeNearestNeighbor, source, size=size, **fields)

    def max_pool(self, source: str, window: tuple[int, int], **fields: Any) -> str:
        return self._add(MaxPool2D, source, window=window, clamp=self._clamp(), **fields)

    def average_pool(self, source: str, window: tuple[int, int], **fields: Any) -> str:
        return self._add(AveragePool2D, source, window=window, clamp=self._clamp(), **fields)

    def mean(self, source: str) -> str:
        return self._add(Mean, source)

    def pad(self, source: str, padding: Padding, value: int | None = None) -> str:
        return self._add(Pad, source, padding=padding, value=value)

    def requantize(self, source: str) -> str:
        return self._add(Requantize, source, clamp=self._clamp())

    def reshape(self, source: str, *shape: int) -> str:
        return self._add(Reshape, source, shape=shape)

    def softmax(self, source: str) -> str:
        least = np.iinfo(self.dtype).min
        return self._add(Softmax, source, Quantization((1 / 256,), (int(least),)))

    def build(self, output: str, rounding: Rounding = Rounding.DOUBLE, name: str = "random") -> QuantizedModel:
        return QuantizedModel(name, self.tensors, tuple(self.operators), "input", output, {}, rounding)


def random_model(
    seed: int,
    operators: int = 6,
    size: int = 9,
    more: bool = False,
    formats: tuple[Format | None, ...] = (),
    rounding: Rounding | None = None,
) -> QuantizedModel:
    """Return a random network of about so many operators on feature maps of up to ``size`` squared.

    Parameters
    ----------
    more
        Whether there are operators that the ONNX export does not write, too: those that move values or look them up in
        tables, and SUB and MUL, with and without constants.
    formats
        As of ``ModelBuilder``.
    rounding
        Of the model; None for any but ``Rounding.EVEN``.
    """
    rng = np.random.default_rng(seed)
    builder = ModelBuilder(rng, dtype=["int8", "uint8"][rng.integers(2)], weight_zero_points=bool(rng.random() < 0.5))
    builder.formats = formats
    current = builder.input(*(int(n) for n in rng.integers(3, size + 1, 2)), int(rng.integers(1, 20)))
    for _ in range(operators - 2):
        kind = random_operator
        if more:
            kind = [random_operator, random_movement, _random_elementwise][rng.choice(3, p=[0.4, 0.35, 0.25])]
        current = kind(rng, builder, current)
    if rng.random() < 0.5:
        current = builder.mean(current)
    current = builder.fully_connected(current, int(rng.integers(1, 20)))
    if rng.random() < 0.3:
        current = builder.softmax(current)
    drawn = Rounding.SINGLE if rng.random() < 0.2 else Rounding.DOUBLE
    return builder.build(current, rounding or drawn)


def random_operator(rng: np.random.Generator, builder: ModelBuilder, source: str) -> str:
    height, width, channels = builder.tensors[source].shape
    kernel = (int(rng.integers(1, min(4, height) + 1)), int(rng.integers(1, min(4, width) + 1)))
    stride = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    pads = [int(rng.integers(0, size)) for size in (kernel[0], kernel[0], kernel[1], kernel[1])]
    padding = Padding(*pads)
    dilation = (1, 1)
    if rng.random() < 0.3:
        dilation = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
        dilation = tuple(d if (k - 1) * d < n else 1 for d, k, n in zip(dilation, kernel, (height, width), strict=True))
    window = {"stride": stride, "padding": padding}
    match rng.integers(9):
        case 0 | 1:
            return builder.conv(source, int(rng.integers(1, 24)), kernel, dilation=dilation, **window)
        case 2:
            groups = int(rng.choice([g for g in (1, 2, 3, 4) if channels % g == 0]))
            return builder.conv(source, groups * int(rng.integers(1, 6)), kernel, groups, dilation=dilation, **window)
        case 3:
            multiplier = int(rng.integers(1, 4)) if channels < 8 else 1
            return builder.depthwise(source, kernel, multiplier, dilation=dilation, **window)
        case 4:
            return builder.max_pool(source, kernel, **window)
        case 5:
            return builder.average_pool(source, kernel, **window)
        case 6:
            return builder.add(source, builder.conv(source, channels, (1, 1)))
        case 7:
            return builder.pad(source, Padding(*(int(n) for n in rng.integers(0, 3, 4))))
        case _:
            return builder.requantize(source)


def random_movement(rng: np.random.Generator, builder: ModelBuilder, source: str) -> str:
    shape = builder.tensors[source].shape
    match rng.integers(6):
        case 0:
            return _random_concatenation(rng, builder, source)
        case 1:
            return _random_slice(rng, builder, source, int(rng.integers(1, 8)))
        case 2:
            return builder.transpose(source, *(int(axis) for axis in rng.permutation(3)))
        case 3:
            # A whole multiple, or any size.
            sizes = [n * 2 if n < 8 and rng.random() < 0.3 else int(rng.integers(1, 13)) for n in shape[:2]]
            form = [{}, {"align_corners": True}, {"half_pixel_centers": True}][rng.integers(3)]
            return builder.resize(source, (sizes[0], sizes[1]), **form)
        case 4:
            info = np.iinfo(builder.dtype)
            padding = Padding(*(int(n) for n in rng.integers(0, 3, 4)))
            return builder.pad(source, padding, int(rng.integers(info.min, info.max + 1)))
        case _:
            sizes = [1 if rng.random() < 0.4 else n for n in shape]
            return builder.add_constant(source, *sizes[int(rng.integers(4)) :])


def _random_elementwise(rng: np.random.Generator, builder: ModelBuilder, source: str) -> str:
    shape = builder.tensors[source].shape
    kind = [Sub, Mul][rng.integers(2)]
    fields = {"reverse": bool(rng.integers(2))} if kind is Sub else {}
    match rng.integers(6):
        case 0:
            return builder.binary(kind, source, builder.conv(source, shape[2], (1, 1)), **fields)
        case 1:
            # One of the two is broadcast.
            sizes = [1 if rng.random() < 0.5 else n for n in shape]
            other = builder.strided_slice(source, (0, 0, 0), (1, 1, 1), tuple(sizes))
            pair = (source, other) if rng.random() < 0.5 else (other, source)
            return builder.binary(kind, *pair, **fields)
        case 2:
            sizes = [1 if rng.random() < 0.4 else n for n in shape]
            return builder.constant(kind, source, *sizes[int(rng.integers(4)) :], **fields)
        case 3:
            return builder.logistic(source)
        case 4 if builder.dtype == "uint8":
            axis = int(rng.integers(3))
            parts = [source, _random_slice(rng, builder, source, 1 << axis), builder.requantize(source)]
            chosen = [parts[index] for index in rng.permutation(3)[: int(rng.integers(2, 4))]]
            return builder.concatenation(axis, *chosen, rescales=True)
        case _:
            return builder.leaky_relu(source, float(rng.choice([0.1, -0.3, 1.5])))


def _random_slice(rng: np.random.Generator, builder: ModelBuilder, source: str, axes: int) -> str:
    """Slice along the axes whose bits are set in ``axes``."""
    parts = []
    for axis, size in enumerate(builder.tensors[source].shape):
        if not axes >> axis & 1:
            parts.append((0, 1, size))
            continue
        stride = int(rng.choice([-3, -2, -1, 1, 1, 2, 3]))
        count = int(rng.integers(1, (size - 1) // abs(stride) + 2))
        span = (count - 1) * stride
        parts.append((int(rng.integers(max(0, -span), size - max(0, span))), stride, count))
    begin, strides, shape = zip(*parts, strict=True)
    return builder.strided_slice(source, begin, strides, shape)


def _random_concatenation(rng: np.random.Generator, builder: ModelBuilder, source: str) -> str:
    """Put a tensor and others made of it, or layers that read it, beside each other, in any order."""
    axis = int(rng.integers(3))
    if rng.random() < 0.4:
        same = Padding(1, 1, 1, 1)
        channels = builder.tensors[source].shape[2]
        parts = [builder.conv(source, int(rng.integers(1, 10)) if axis == 2 else channels, (1, 1))]
        parts.append(builder.depthwise(source, (3, 3), like=parts[0], padding=same))
        return builder.concatenation(axis, *(parts[index] for index in rng.permutation(2)))
    parts = [source]
    for _ in range(int(rng.integers(1, 3))):
        if rng.random() < 0.7 or builder.tensors[source].shape[axis] > 12:
            parts.append(_random_slice(rng, builder, source, 1 << axis))
        else:
            parts.append(builder.max_pool(source, (1, 1)))
    return builder.concatenation(axis, *(parts[index] for index in rng.permutation(len(parts))))
