"""Random quantized models of one operator, for any test that compares two computations of it.

Every function takes a NumPy generator and the dtype of the activations, and returns a verified model that TensorFlow
Lite can express. Biases are laid so that accumulators fall on and next to rounding ties.
"""

from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt

from support.litert import same_padding
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
    Quantization,
    QuantizedModel,
    Requantize,
    Reshape,
    Softmax,
    Tensor,
)
from zeropoint.numerics import Rounding

Random = np.random.Generator
CLAMPS = (Clamp(), Clamp(), Clamp(0.0, inf), Clamp(0.0, 6.0), Clamp(-1.0, 1.0))


def tensor(
    name: str,
    shape: tuple[int, ...],
    dtype: str,
    scale: npt.ArrayLike,
    zero_point: int = 0,
    data: npt.NDArray[Any] | None = None,
    axis: int | None = None,
) -> Tensor:
    """Return a tensor with one scale, or with one for each index of ``axis``."""
    scales = tuple(float(value) for value in np.atleast_1d(np.asarray(scale, np.float32)))
    return Tensor(name, shape, dtype, Quantization(scales, (zero_point,) * len(scales), axis), data)


def single(operator: Operator, *tensors: Tensor, rounding: Rounding = Rounding.DOUBLE) -> QuantizedModel:
    """Return a model of one operator."""
    return chain((operator,), *tensors, rounding=rounding)


def chain(operators: tuple[Operator, ...], *tensors: Tensor, rounding: Rounding = Rounding.DOUBLE) -> QuantizedModel:
    """Return a model of several operators, the first of which reads the model's input."""
    return QuantizedModel(
        operators[0].name,
        {t.name: t for t in tensors},
        operators,
        operators[0].input,
        operators[-1].output,
        rounding=rounding,
    )


def samples(rng: Random, model: QuantizedModel, count: int) -> npt.NDArray[Any]:
    """Return ``count`` inputs: one of zero points only, one of the extremes, the others random."""
    source = model.tensor(model.input)
    low, high = source.limits
    x = rng.integers(low, high + 1, (count, *source.shape)).astype(source.dtype)
    if count > 1:
        x[0] = source.zero_point
        x[1] = rng.choice([low, high], source.shape)
    return x


def _zero_point(rng: Random, dtype: str) -> int:
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    return int(rng.choice([low, high, (low + high + 1) // 2, rng.integers(low, high + 1)]))


def _scale(rng: Random) -> float:
    return float(np.float32(10 ** rng.uniform(-3, 0.3)))


def _activation(rng: Random, name: str, shape: tuple[int, ...], dtype: str, scale: float | None = None) -> Tensor:
    return tensor(name, shape, dtype, _scale(rng) if scale is None else scale, _zero_point(rng, dtype))


def _weighted(
    rng: Random, operator: Callable[..., Any], source: Tensor, weights: tuple[int, ...], axis: int, **fields: Any
) -> QuantizedModel:
    """Return a model of a weighted operator with random weights and telling biases."""
    channels, dtype = weights[axis], source.dtype
    terms = int(np.prod(weights)) // channels
    fields = {"name": "layer", "input": "x", "output": "y", "weights": "w", **fields}
    without_bias = operator(**fields)
    scale = float(10 ** rng.uniform(-2.3, -1))
    y = _activation(rng, "y", without_bias.output_shape(source.shape, weights), dtype, scale)
    # Weights that spread random sums over the outputs; now and then all saturate, and the multiplier is 1 and more.
    wide = rng.random() < 0.15
    per_channel = dtype == "int8" and bool(rng.integers(2))
    spread = rng.uniform(0.9, 4) if wide else rng.uniform(0.2, 2) * 80 / (np.sqrt(terms) * 75 * 75)
    ratio = spread * rng.uniform(0.5, 2, channels if per_channel else 1)
    # The reference kernels know zero points other than 0 of uint8 weights, and of int8 ones in FULLY_CONNECTED only.
    zero_point = _zero_point(rng, dtype) if dtype == "uint8" or (operator is FullyConnected and not per_channel) else 0
    data = rng.integers(0 if dtype == "uint8" else -127, 256 if dtype == "uint8" else 128, weights).astype(dtype)
    w = tensor("w", weights, dtype, ratio * scale / source.scale, zero_point, data, axis if per_channel else None)
    assert w.quantization is not None
    if rng.random() < 0.1:
        return single(without_bias, source, w, y)
    product = source.scale * np.float64(w.quantization.scale)
    # The accumulators on either side of a rounding tie within the outputs, as the sample of zero points gives them.
    ties = rng.integers(y.limits[0] - y.zero_point, y.limits[1] - y.zero_point, channels) + 0.5
    bias = (np.floor(ties * y.scale / product) + rng.integers(0, 2, channels)).astype(np.int32)
    b = tensor("b", (channels,), "int32", product, 0, bias, 0 if len(product) > 1 else None)
    return single(operator(**fields, bias="b"), source, w, b, y)


def _window(rng: Random, image: tuple[int, int], dilated: bool) -> dict[str, Any]:
    """Return a window that fits, its stride, dilation, padding and activation."""
    stride = tuple(int(v) for v in rng.integers(1, 4, 2))
    dilation = tuple(int(v) for v in rng.integers(1, 3, 2)) if dilated and rng.random() < 0.3 else (1, 1)
    window = tuple(
        int(rng.integers(1, min(5, (size - 1) // spread + 1) + 1)) for size, spread in zip(image, dilation, strict=True)
    )
    fields: dict[str, Any] = {"stride": stride, "clamp": CLAMPS[rng.integers(len(CLAMPS))]}
    if dilated:
        fields["dilation"] = dilation
    kind = rng.integers(3 if dilated else 2)
    if kind == 1:
        fields["padding"] = same_padding(image, window, stride, dilation)  # type: ignore[arg-type]
    elif kind == 2:
        fields["padding"] = Padding(*(int(v) for v in rng.integers(0, 3, 4)))
    return {"window": window, **fields}


def _image(rng: Random, channels: tuple[int, ...] = (1, 2, 3, 4, 8, 17)) -> tuple[int, int, int]:
    return int(rng.integers(1, 10)), int(rng.integers(1, 10)), int(rng.choice(channels))


def conv2d(rng: Random, dtype: str) -> QuantizedModel:
    image = _image(rng)
    fields = _window(rng, image[:2], True)
    window = fields.pop("window")
    groups = image[2] if rng.random() < 0.1 else 2 if image[2] % 2 == 0 and rng.random() < 0.2 else 1
    weights = (int(rng.integers(1, 7)) * groups, *window, image[2] // groups)
    return _weighted(rng, Conv2D, _activation(rng, "x", image, dtype), weights, 0, groups=groups, **fields)


def depthwise_conv2d(rng: Random, dtype: str) -> QuantizedModel:
    image = _image(rng)
    fields = _window(rng, image[:2], True)
    weights = (*fields.pop("window"), image[2] * int(rng.choice([1, 1, 1, 2, 3])))
    return _weighted(rng, DepthwiseConv2D, _activation(rng, "x", image, dtype), weights, 2, **fields)


def fully_connected(rng: Random, dtype: str) -> QuantizedModel:
    shape = _image(rng) if rng.random() < 0.3 else (int(rng.integers(1, 200)),)
    weights = (int(rng.choice([1, 2, 5, 10, 33])), int(np.prod(shape)))
    clamp = CLAMPS[rng.integers(len(CLAMPS))]
    return _weighted(rng, FullyConnected, _activation(rng, "x", shape, dtype), weights, 0, clamp=clamp)


def add(rng: Random, dtype: str, shape: tuple[int, int, int] = (1, 16, 16)) -> QuantizedModel:
    """ADD of two rows of the input, each brought to a scale of its own by a depthwise convolution that selects it."""
    source = _activation(rng, "x", (2, *shape[1:]), dtype, 1.0)
    layers, tensors = [], [source]
    scales = [_scale(rng), _scale(rng)]
    output = sum(scales) * float(rng.uniform(0.2, 1.5))
    if rng.random() < 0.3:
        # Powers of two, which make many ties.
        scales[1] = scales[0] * 2.0 ** int(rng.integers(-3, 4))
        output = max(scales) * 2.0 ** int(rng.integers(-1, 3))
    for row, (name, scale) in enumerate(zip("ab", scales, strict=True)):
        target = _activation(rng, name, shape, dtype, scale)
        data = np.zeros((2, 1, shape[2]), dtype)
        data[row] = 1
        tensors += [target, tensor(f"select {name}", data.shape, dtype, target.scale, 0, data)]
        layers.append(DepthwiseConv2D(name=f"take {name}", input="x", output=name, weights=f"select {name}"))
    order = rng.permutation(["a", "b"])
    clamp = CLAMPS[rng.integers(len(CLAMPS))]
    layers.append(Add(name="add", input=str(order[0]), other=str(order[1]), output="y", clamp=clamp))
    return chain(tuple(layers), *tensors, _activation(rng, "y", shape, dtype, output))


def every_pair(model: QuantizedModel) -> npt.NDArray[Any]:
    """Return the input of an :func:`add` model of shape (1, 256, 256) that gives ADD every pair of bytes."""
    every = np.arange(256, dtype=np.uint8).view(model.tensor(model.input).dtype)
    a, b = (model.tensor(name).zero_point - model.tensor("x").zero_point for name in "ab")
    # The selection moves zero points only; pairs whose value would leave the dtype saturate there.
    low, high = model.tensor("x").limits
    pairs = np.stack(np.meshgrid(every, every, indexing="ij")).astype(np.int64) - np.array([a, b])[:, None, None]
    return np.clip(pairs, low, high).astype(every.dtype)[np.newaxis]


def _pool(rng: Random, dtype: str, operator: Callable[..., Any]) -> QuantizedModel:
    image = _image(rng)
    layer = operator(name="pool", input="x", output="y", **_window(rng, image[:2], False))
    source = _activation(rng, "x", image, dtype)
    return single(layer, source, tensor("y", layer.output_shape(image), dtype, source.scale, source.zero_point))


def average_pool2d(rng: Random, dtype: str) -> QuantizedModel:
    return _pool(rng, dtype, AveragePool2D)


def max_pool2d(rng: Random, dtype: str) -> QuantizedModel:
    return _pool(rng, dtype, MaxPool2D)


def mean(rng: Random, dtype: str) -> QuantizedModel:
    source = _activation(rng, "x", _image(rng), dtype)
    scale = source.scale if rng.random() < 0.3 else source.scale * float(rng.uniform(0.05, 2))
    return single(
        Mean(name="mean", input="x", output="y"), source, _activation(rng, "y", source.shape[2:], dtype, scale)
    )


def pad(rng: Random, dtype: str) -> QuantizedModel:
    source = _activation(rng, "x", _image(rng), dtype)
    layer = Pad(name="pad", input="x", output="y", padding=Padding(*(int(v) for v in rng.integers(0, 4, 4))))
    return single(layer, source, tensor("y", layer.output_shape(source.shape), dtype, source.scale, source.zero_point))


def requantize(rng: Random, dtype: str) -> QuantizedModel:
    source = _activation(rng, "x", (256,), dtype)
    scale = source.scale * float(np.exp(rng.uniform(-3, 1)))
    layer = Requantize(name="requantize", input="x", output="y", clamp=CLAMPS[rng.integers(len(CLAMPS))])
    return single(layer, source, _activation(rng, "y", (256,), dtype, scale))


def every_byte(model: QuantizedModel) -> npt.NDArray[Any]:
    """Return the 256 values of the input of a :func:`requantize` model."""
    return np.arange(256, dtype=np.uint8).view(model.tensor(model.input).dtype)[np.newaxis]


def reshape(rng: Random, dtype: str) -> QuantizedModel:
    source = _activation(rng, "x", _image(rng), dtype)
    shape = (source.shape[2], source.shape[0] * source.shape[1]) if rng.integers(2) else (int(np.prod(source.shape)),)
    layer = Reshape(name="reshape", input="x", output="y", shape=shape)
    return single(layer, source, tensor("y", shape, dtype, source.scale, source.zero_point))


def softmax(rng: Random, dtype: str) -> QuantizedModel:
    depth = int(rng.choice([1, 2, 3, 10, 12, 100, 257]))
    shape = (int(rng.integers(1, 4)), int(rng.integers(1, 4)), depth) if rng.random() < 0.3 else (depth,)
    source = _activation(rng, "x", shape, dtype, float(10 ** rng.uniform(-4, 1)))
    layer = Softmax(name="softmax", input="x", output="y", beta=float(rng.choice([1.0, 1.0, 0.5, 3.7])))
    return single(layer, source, tensor("y", shape, dtype, 1 / 256, np.iinfo(dtype).min))


#: Every generator, by the name of TensorFlow Lite's operator.
GENERATORS: dict[str, Callable[[Random, str], QuantizedModel]] = {
    "CONV_2D": conv2d,
    "DEPTHWISE_CONV_2D": depthwise_conv2d,
    "FULLY_CONNECTED": fully_connected,
    "ADD": add,
    "AVERAGE_POOL_2D": average_pool2d,
    "MAX_POOL_2D": max_pool2d,
    "MEAN": mean,
    "PAD": pad,
    "QUANTIZE and RELU": requantize,
    "RESHAPE": reshape,
    "SOFTMAX": softmax,
}
