"""Random networks in dynamic fixed point: all scales are powers of two, all zero points 0."""

from dataclasses import replace
from typing import Any

import numpy as np

from support.random_models import ModelBuilder, random_movement, random_operator
from zeropoint.model import (
    Operator,
    Padding,
    Quantization,
    QuantizedModel,
    Tensor,
)
from zeropoint.model.formats import fixed_point
from zeropoint.numerics import Rounding


class FixedBuilder(ModelBuilder):
    """A builder of networks whose activations and weights are integers of ``bits`` bits.

    Parameters
    ----------
    weight_bits
        Of which one is drawn for each layer.
    """

    def __init__(self, rng: np.random.Generator, bits: int, weight_bits: tuple[int, ...]) -> None:
        super().__init__(rng, dtype="int8" if bits <= 8 else "int16")
        self.bits, self.weight_bits = bits, weight_bits
        self.form = fixed_point(bits) if bits < 8 else None

    def _quantization(self) -> Quantization:
        return Quantization((2.0 ** (4 - self.bits - int(self.rng.integers(4))),))

    def input(self, *shape: int) -> str:
        name = super().input(*shape)
        self.tensors[name] = replace(self.tensors[name], format=self.form)
        return name

    def _add(
        self, operator: type[Operator], source: str, quantization: Quantization | None = None, **fields: Any
    ) -> str:
        name = super()._add(operator, source, quantization, **fields)
        self.tensors[name] = replace(self.tensors[name], format=self.form)
        return name

    def _weights(
        self, source: str, shape: tuple[int, ...], axis: int, depth: int
    ) -> tuple[dict[str, str], Quantization]:
        rng, index = self.rng, len(self.operators)
        bits = int(rng.choice(self.weight_bits))
        low, high = fixed_point(bits).limits
        data = rng.integers(low, high + 1, shape).astype(np.int8 if bits <= 8 else np.int16)
        unit = 2.0 ** -int(rng.integers(bits - 2, bits + 2))
        source_scale = self.tensors[source].scale
        form = fixed_point(bits) if bits < 8 else None
        weights = Tensor(f"weights_{index}", shape, data.dtype.name, Quantization((unit,)), data, form)
        spread = 2.0 ** (self.bits + bits - 3) * np.sqrt(depth)
        names = {"weights": weights.name}
        self.tensors[weights.name] = weights
        if rng.random() < 0.8:
            names["bias"] = f"bias_{index}"
            greatest = int(min(spread, 2**31 - 1))
            bias = rng.integers(-greatest, greatest, shape[axis]).astype(np.int32)
            quantization = Quantization((source_scale * unit,))
            self.tensors[names["bias"]] = Tensor(names["bias"], (shape[axis],), "int32", quantization, bias)
        scale = 2.0 ** round(np.log2(source_scale * unit * spread / 2 ** (self.bits - 2)) + rng.integers(-2, 2))
        return names, Quantization((scale,))

    def average_pool(self, source: str, window: tuple[int, int], **fields: Any) -> str:
        """Append an average pooling of counts that are powers of two, or else a max pooling."""
        count = window[0] * window[1]
        if count & count - 1 or self.bits > 8 or fields.get("padding", Padding()) != Padding():
            return self.max_pool(source, window, **fields)
        return super().average_pool(source, window, **fields)

    def mean(self, source: str) -> str:
        """Append a mean, as a convolution where its count is no power of two."""
        height, width, channels = self.tensors[source].shape
        count = height * width
        if count & count - 1 or self.bits > 8:
            return self.reshape(self.depthwise(source, (height, width)), channels)
        return super().mean(source)

    def pad(self, source: str, padding: Padding, value: int | None = None) -> str:
        low, high = self.tensors[source].limits
        return super().pad(source, padding, None if value is None else min(max(value, low), high))


def random_fixed_model(
    seed: int, bits: int, weight_bits: tuple[int, ...] | None = None, operators: int = 6, more: bool = False
) -> QuantizedModel:
    """Return a random network in dynamic fixed point of ``bits`` bits.

    Parameters
    ----------
    weight_bits
        Of weights, if not ``bits``.
    more
        Whether there are operators that move values, and sums with constants, too.
    """
    rng = np.random.default_rng(seed)
    builder = FixedBuilder(rng, bits, weight_bits or (bits,))
    current = builder.input(*(int(n) for n in rng.integers(3, 10, 2)), int(rng.integers(1, 20)))
    for _ in range(operators - 2):
        kind = random_movement if more and rng.random() < 0.4 else random_operator
        current = kind(rng, builder, current)
    if rng.random() < 0.5:
        current = builder.mean(current)
    current = builder.fully_connected(current, int(rng.integers(1, 20)))
    return builder.build(current, Rounding.EVEN, f"fixed {bits} bits")
