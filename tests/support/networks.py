"""Random quantized networks in the shape of the MLPerf Tiny models, for whole-network comparisons and timings."""

from math import inf
from typing import Any

import numpy as np

from support.litert import same_padding
from support.operators import Random, chain, tensor
from zeropoint.model import (
    Add,
    AveragePool2D,
    Clamp,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Operator,
    QuantizedModel,
    Reshape,
    Softmax,
    Tensor,
)

RELU = Clamp(0.0, inf)


class Builder:
    """Strings int8 operators together, each with random weights and scales that keep the outputs in use.

    Attributes
    ----------
    last
        The output of the latest operator.
    """

    def __init__(self, rng: Random, shape: tuple[int, ...]) -> None:
        self.rng = rng
        self.operators: list[Operator] = []
        self.last = tensor("x", shape, "int8", 0.02, int(rng.integers(-20, 20)))
        self.tensors: list[Tensor] = [self.last]

    def model(self) -> QuantizedModel:
        return chain(tuple(self.operators), *self.tensors)

    def append(self, operator: Operator, target: Tensor) -> Tensor:
        self.operators.append(operator)
        self.tensors.append(target)
        self.last = target
        return target

    def weighted(
        self, kind: Any, weights: tuple[int, ...], axis: int, source: Tensor | None = None, **fields: Any
    ) -> Tensor:
        """Append a convolution or fully-connected layer with scales per channel."""
        rng, source = self.rng, source or self.last
        name = f"layer{len(self.operators)}"
        channels = weights[axis]
        terms = int(np.prod(weights)) // channels
        # As large as keeps the outputs as large as the inputs after a ReLU (He et al. 2015).
        scales = np.sqrt(2 / terms) / 40 * rng.uniform(0.5, 1.5, channels)
        data = np.clip(np.rint(rng.normal(0, 40, weights)), -127, 127).astype(np.int8)
        bias = rng.integers(-2000, 2000, channels).astype(np.int32)
        self.tensors += [
            tensor(f"{name}/w", weights, "int8", scales, 0, data, axis),
            tensor(f"{name}/b", (channels,), "int32", source.scale * scales, 0, bias, 0),
        ]
        layer = kind(name=name, input=source.name, output=f"{name}/y", weights=f"{name}/w", bias=f"{name}/b", **fields)
        shape = layer.output_shape(source.shape, weights, (channels,))
        relu = fields.get("clamp") == RELU
        return self.append(
            layer, tensor(f"{name}/y", shape, "int8", 0.03, -128 if relu else int(rng.integers(-20, 20)))
        )

    def conv(
        self, channels: int, size: tuple[int, int], stride: int = 1, clamp: Clamp = RELU, source: Tensor | None = None
    ) -> Tensor:
        source = source or self.last
        weights = (channels, *size, source.shape[2])
        padding = same_padding(source.shape[:2], size, (stride, stride))  # type: ignore[arg-type]
        return self.weighted(Conv2D, weights, 0, source, stride=(stride, stride), padding=padding, clamp=clamp)

    def depthwise(self) -> Tensor:
        height, width, channels = self.last.shape
        padding = same_padding((height, width), (3, 3), (1, 1))
        return self.weighted(DepthwiseConv2D, (3, 3, channels), 2, padding=padding, clamp=RELU)

    def head(self, window: tuple[int, int], classes: int) -> QuantizedModel:
        """Append pool, flatten, fully-connected layer and softmax, and return the model."""
        source = self.last
        pool = AveragePool2D(name="pool", input=source.name, output="pooled", window=window, stride=window)
        self.append(pool, tensor("pooled", pool.output_shape(source.shape), "int8", source.scale, source.zero_point))
        size = int(np.prod(self.last.shape))
        flat = Reshape(name="flatten", input="pooled", output="flat", shape=(size,))
        self.append(flat, tensor("flat", (size,), "int8", source.scale, source.zero_point))
        self.weighted(FullyConnected, (classes, size), 0)
        softmax = Softmax(name="softmax", input=self.last.name, output="y")
        self.append(softmax, tensor("y", (classes,), "int8", 1 / 256, -128))
        return self.model()


def resnet8(rng: Random) -> QuantizedModel:
    """Return a network with the shapes of MLPerf Tiny's image classification: 12,501,632 MACs."""
    net = Builder(rng, (32, 32, 3))
    net.conv(16, (3, 3))
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        source = net.last
        net.conv(channels, (3, 3), stride)
        main = net.conv(channels, (3, 3), clamp=Clamp())
        side = source if stride == 1 else net.conv(channels, (1, 1), stride, Clamp(), source)
        name = f"add{len(net.operators)}"
        add = Add(name=name, input=side.name, other=main.name, output=f"{name}/y", clamp=RELU)
        net.append(add, tensor(f"{name}/y", main.shape, "int8", 0.03, -128))
    return net.head((8, 8), 10)


def ds_cnn(rng: Random) -> QuantizedModel:
    """Return a network with the shapes of MLPerf Tiny's keyword spotting: 2,656,768 MACs."""
    net = Builder(rng, (49, 10, 1))
    net.conv(64, (10, 4), 2)
    for _ in range(4):
        net.depthwise()
        net.conv(64, (1, 1))
    return net.head((25, 5), 12)


def lenet(rng: Random) -> QuantizedModel:
    """Return a small CNN on 28 × 28 images."""
    net = Builder(rng, (28, 28, 1))
    net.conv(8, (3, 3), 2)
    net.conv(16, (3, 3), 2)
    net.conv(32, (3, 3), 2)
    return net.head((4, 4), 10)
