"""Random networks of minifloats: operators, shapes, and values of all sizes."""

from dataclasses import dataclass, field
from math import inf, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.model import (
    Add,
    Clamp,
    Concatenation,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    MaxPool2D,
    Operator,
    Pad,
    Padding,
    Quantization,
    QuantizedModel,
    Requantize,
    Reshape,
    Softmax,
    StridedSlice,
    Tensor,
)
from zeropoint.numerics import Rounding
from zeropoint.numerics.minifloat import MinifloatFormat, in_order

#: Exponent bits, and the bits of activations and of weights, by layer in turn.
FORMATS: dict[str, tuple[int, int, tuple[int, ...]]] = {
    "e4m3": (4, 8, (8,)),
    "e4m3 and narrower weights": (4, 8, (8, 6, 5)),
    "e5m2": (5, 8, (8,)),
    "e3m4": (3, 8, (8, 5)),
    "e2m5": (2, 8, (8,)),
    "e2m1": (2, 4, (4,)),
    "e1m6": (1, 8, (8,)),
    "e1m0": (1, 2, (2,)),
    "e6m1": (6, 8, (8,)),
    "e7m0": (7, 8, (8,)),
}


@dataclass
class _Builder:
    rng: np.random.Generator
    form: MinifloatFormat
    widths: tuple[int, ...]
    tensors: dict[str, Tensor] = field(default_factory=dict)
    operators: list[Operator] = field(default_factory=list)

    def tensor(self, name: str, shape: tuple[int, ...]) -> str:
        self.tensors[name] = Tensor(name, shape, "int8", Quantization((2.0**self.form.least,)), format=self.form)
        return name

    def append(self, kind: type[Operator], source: str, **fields: Any) -> str:
        name = f"{kind.__name__.lower()}_{len(self.operators)}"
        made = kind(name=name, input=source, output=f"{name}_out", **fields)
        shapes = [self.tensors[each].shape for each in (*made.inputs, *made.constants)]
        self.operators.append(made)
        return self.tensor(made.output, made.output_shape(*shapes))

    def weighted(self, kind: type[Operator], source: str, shape: tuple[int, ...], channels: int, **fields: Any) -> str:
        rng, index = self.rng, len(self.operators)
        form = MinifloatFormat(
            self.form.exponent_bits, self.widths[index % len(self.widths)] - 1 - self.form.exponent_bits
        )
        depth = prod(shape) // channels
        weights = codes(rng, form, shape, rng.choice([0.3, 1, 4]) / np.sqrt(depth))
        scale = 2.0**form.least
        name = f"weights_{index}"
        self.tensors[name] = Tensor(name, shape, "int8", Quantization((scale,)), weights, form)
        fields["weights"] = name
        if rng.random() < 0.7:
            unit = scale * 2.0**self.form.least
            # Biases of the size of outputs, finer than those can be, and coarser now and then.
            unit = 2.0 ** max(np.log2(unit), rng.integers(-24, -15))
            bias = rng.normal(0, 1, channels) / unit
            bias = np.clip(bias, -(2.0**31) + 1, 2.0**31 - 1).astype(np.int32)
            fields["bias"] = f"bias_{index}"
            self.tensors[fields["bias"]] = Tensor(fields["bias"], (channels,), "int32", Quantization((unit,)), bias)
        return self.append(kind, source, clamp=self.clamp(), **fields)

    def clamp(self) -> Clamp:
        return [Clamp(), Clamp(0, inf), Clamp(0, 6), Clamp(-1, 1)][self.rng.integers(4)]


def codes(rng: np.random.Generator, form: MinifloatFormat, shape: tuple[int, ...], size: float) -> npt.NDArray[np.int8]:
    """Return minifloats as tensors have them: numbers of about a size, and now and then any."""
    usual = in_order(form.quantize(rng.normal(0, size, shape)), form)
    greatest = (1 << form.bits - 1) - 1
    return np.where(rng.random(shape) < 0.05, rng.integers(-greatest, greatest + 1, shape), usual).astype(np.int8)


def random_minifloats(seed: int, name: str, operators: int = 6, size: int = 8) -> QuantizedModel:
    """Return a network of about so many operators in the formats of that name."""
    rng = np.random.default_rng([seed, sorted(FORMATS).index(name)])
    exponent_bits, bits, widths = FORMATS[name]
    builder = _Builder(rng, MinifloatFormat(exponent_bits, bits - 1 - exponent_bits), widths)
    current = builder.tensor("input", (*(int(n) for n in rng.integers(3, size + 1, 2)), int(rng.integers(1, 12))))
    for _ in range(operators):
        current = _random_operator(rng, builder, current)
    depth = prod(builder.tensors[current].shape)
    current = builder.append(Reshape, current, shape=(depth,))
    outputs = int(rng.integers(2, 12))
    current = builder.weighted(FullyConnected, current, (outputs, depth), outputs)
    if rng.random() < 0.5:
        made = Softmax(name="softmax", input=current, output="probabilities", beta=1.0)
        builder.operators.append(made)
        current = "probabilities"
        builder.tensors[current] = Tensor(current, (outputs,), "int8", Quantization((1 / 256,), (-128,)))
    return QuantizedModel("random", builder.tensors, tuple(builder.operators), "input", current, {}, Rounding.EVEN)


def _random_operator(rng: np.random.Generator, builder: _Builder, source: str) -> str:
    height, width, channels = builder.tensors[source].shape
    kernel = (int(rng.integers(1, min(4, height) + 1)), int(rng.integers(1, min(4, width) + 1)))
    stride = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    padding = Padding(*(int(rng.integers(0, n)) for n in (kernel[0], kernel[0], kernel[1], kernel[1])))
    window = {"stride": stride, "padding": padding}
    match rng.integers(8):
        case 0 | 1:
            groups = int(rng.choice([g for g in (1, 1, 2, 3) if channels % g == 0]))
            made = groups * int(rng.integers(1, 12))
            shape = (made, *kernel, channels // groups)
            return builder.weighted(Conv2D, source, shape, made, groups=groups, **window)
        case 2 | 3:
            made = channels * (int(rng.integers(1, 3)) if channels < 8 else 1)
            return builder.weighted(DepthwiseConv2D, source, (*kernel, made), made, **window)
        case 4:
            return builder.append(MaxPool2D, source, window=kernel, clamp=builder.clamp(), **window)
        case 5:
            other = builder.weighted(Conv2D, source, (channels, 1, 1, channels), channels)
            return builder.append(Add, source, other=other, clamp=builder.clamp())
        case 6:
            if rng.random() < 0.5:
                return builder.append(Pad, source, padding=Padding(*(int(n) for n in rng.integers(0, 3, 4))))
            return builder.append(Requantize, source, clamp=builder.clamp())
        case _:
            part = builder.append(
                StridedSlice, source, begin=(0, 0, 0), stride=(1, 1, 1), shape=(height, width, max(channels - 1, 1))
            )
            return builder.append(Concatenation, source, others=(part,), axis=2)
