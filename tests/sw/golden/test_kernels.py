"""Every operator against the oracle, and against the exact definitions where the oracle cannot go."""

from dataclasses import replace
from functools import partial
from math import inf

import numpy as np
import pytest
from support import exact, litert, operators
from support.litert import needs_litert, same_padding
from support.operators import chain, single, tensor
from support.seeds import shown

from zeropoint import arithmetic, numerics
from zeropoint.errors import ZeropointError
from zeropoint.golden import run, run_tensors
from zeropoint.model import (
    Add,
    AveragePool2D,
    Clamp,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Mean,
    Quantization,
    Requantize,
    Softmax,
)
from zeropoint.numerics import INT32_MAX, INT32_MIN, Rounding

DTYPES = ["int8", "uint8"]
NONE = Clamp()


def generated(name, dtype, seed):
    """Return a random model of an operator and inputs for it; all there are, where an operator has few."""
    rng = np.random.default_rng([seed, *name.encode()])
    if name == "ADD":
        model = operators.add(rng, dtype, (1, 256, 256))
        return model, operators.every_pair(model)
    model = operators.GENERATORS[name](rng, dtype)
    return model, operators.every_byte(model) if name == "QUANTIZE and RELU" else operators.samples(rng, model, 5)


def assert_same(got, expected):
    for name, values in got.items():
        assert values.dtype == expected[name].dtype, name
        np.testing.assert_array_equal(values, expected[name], name)


def assert_same_as_oracle(model, x):
    assert_same(run_tensors(model, x), litert.run(model, x))


@needs_litert
@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", operators.GENERATORS)
def test_random_models_equal_the_oracle(name, dtype, seed):
    assert_same_as_oracle(*generated(name, dtype, seed))


@needs_litert
@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", operators.GENERATORS)
def test_many_random_models_equal_the_oracle(name, dtype):
    for seed in shown(range(1000, 1100 if name == "ADD" else 1500)):
        assert_same_as_oracle(*generated(name, dtype, seed))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", operators.GENERATORS)
def test_random_models_equal_the_exact_definitions(name, dtype, rounding, seed):
    rng = np.random.default_rng([seed, *name.encode()])
    model = replace(operators.GENERATORS[name](rng, dtype), rounding=rounding)
    x = operators.samples(rng, model, 2)
    assert_same(run_tensors(model, x), exact.run(model, x))


@needs_litert
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["CONV_2D", "FULLY_CONNECTED", "MEAN", "ADD", "SOFTMAX"])
def test_the_exact_definitions_equal_the_oracle(name, dtype):
    rng = np.random.default_rng([99, *name.encode()])
    model = operators.GENERATORS[name](rng, dtype)
    x = operators.samples(rng, model, 2)
    assert_same(exact.run(model, x), litert.run(model, x))


# Directed: weighted layers


def dense(bias, dtype="int8", scales=1.0, output=(1.0, 0), source=(1.0, 0), weights=None, zero_point=0, clamp=NONE):
    """Return a FULLY_CONNECTED layer of 4 inputs; zeros in, biases are the accumulators."""
    bias = np.asarray(bias, np.int32)
    channels, scales = len(bias), np.atleast_1d(np.float32(scales))
    data = np.ones((channels, 4), dtype) if weights is None else weights
    axis = 0 if len(scales) > 1 else None
    product = np.float32(source[0]) * scales
    return single(
        FullyConnected(name="dense", input="x", output="y", weights="w", bias="b", clamp=clamp),
        tensor("x", (data.shape[1],), dtype, *source),
        tensor("w", data.shape, dtype, scales, zero_point, data, axis),
        tensor("b", (channels,), "int32", product, 0, bias, axis),
        tensor("y", (channels,), dtype, *output),
    )


@needs_litert
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("multiplier", [1e-7, 0.01, 0.6, 1.0, 1.9, 3e5])
def test_accumulators_and_left_shifts_wrap_as_in_the_oracle(dtype, multiplier):
    ends = [INT32_MAX, INT32_MAX - 9, INT32_MIN, INT32_MIN + 9, 2**30, -(2**30), 1, -1, 0]
    model = dense(ends, dtype, scales=multiplier, output=(1.0, 7))
    low, high = model.tensor("x").limits
    assert_same_as_oracle(model, np.array([[0] * 4, [low] * 4, [high] * 4, [1, 0, 0, 0]], dtype))


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("multiplier", [1e-7, 0.01, 0.6, 1.0, 1.9, 3e5])
def test_accumulators_wrap_with_both_roundings(multiplier, rounding):
    ends = [INT32_MAX, INT32_MAX - 9, INT32_MIN, INT32_MIN + 9, 2**30, -(2**30), 1, -1, 0]
    model = replace(dense(ends, scales=multiplier, output=(1.0, 7)), rounding=rounding)
    x = np.array([[0] * 4, [-128] * 4, [127] * 4, [1, 0, 0, 0]], np.int8)
    assert_same(run_tensors(model, x), exact.run(model, x))


@needs_litert
def test_the_sum_with_the_zero_point_wraps_as_in_the_oracle():
    below_one = float(np.nextafter(np.float32(1), np.float32(0)))
    model = dense([INT32_MAX, INT32_MAX - 100, INT32_MAX - 200], "uint8", scales=below_one, output=(1.0, 255))
    x = np.zeros((1, 4), np.uint8)
    assert_same_as_oracle(model, x)
    np.testing.assert_array_equal(run(model, x), [[0, 0, 255]])


@needs_litert
@pytest.mark.parametrize("clamp", [Clamp(), Clamp(0.0, inf), Clamp(0.0, 6.0)])
def test_scales_per_channel_of_every_magnitude(clamp):
    rng = np.random.default_rng(5)
    scales = 10.0 ** np.linspace(-12, 4, 65)
    weights = rng.integers(-127, 128, (65, 200)).astype(np.int8)
    bias = rng.integers(-1000, 1000, 65)
    model = dense(bias, scales=scales, output=(0.05, 3), source=(0.02, -5), weights=weights, clamp=clamp)
    assert_same_as_oracle(model, operators.samples(rng, model, 50))


@needs_litert
@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_beyond_float32(dtype):
    rng = np.random.default_rng(6)
    info = np.iinfo(dtype)
    weights = rng.choice([info.min + 1, info.max], (3, 20_000)).astype(dtype)
    model = dense([7, -7, 0], dtype, scales=1e-6, output=(0.5, 100), source=(1.0, 17), weights=weights)
    x = rng.choice([info.min, info.max], (4, 20_000)).astype(dtype)
    x[0] = np.where(weights[0] > 1, info.max, info.min)
    assert_same_as_oracle(model, x)


@needs_litert
@pytest.mark.parametrize("channels", [(1, 1), (257, 2), (2, 257), (257, 257)])
def test_one_and_257_channels(channels):
    rng = np.random.default_rng(7)
    sources, outputs = channels
    data = rng.integers(-127, 128, (outputs, 3, 3, sources)).astype(np.int8)
    model = single(
        Conv2D(name="conv", input="x", output="y", weights="w", padding=same_padding((5, 6), (3, 3), (1, 1))),
        tensor("x", (5, 6, sources), "int8", 0.03, -128),
        tensor("w", data.shape, "int8", rng.uniform(0.001, 0.01, outputs), 0, data, 0),
        tensor("y", (5, 6, outputs), "int8", 0.7, 4),
    )
    assert_same_as_oracle(model, operators.samples(rng, model, 3))


@needs_litert
@pytest.mark.parametrize("zero_point", [-128, -1, 127])
def test_int8_weights_with_a_zero_point(zero_point):
    rng = np.random.default_rng(8)
    weights = rng.integers(-128, 128, (6, 50)).astype(np.int8)
    model = dense(
        [0, 1, 2, 3, 4, 5], scales=0.003, output=(0.5, 3), source=(0.1, -9), weights=weights, zero_point=zero_point
    )
    assert_same_as_oracle(model, operators.samples(rng, model, 40))


@pytest.mark.parametrize("operator", [Conv2D, DepthwiseConv2D])
def test_int8_convolution_weights_with_a_zero_point_equal_the_exact_definition(operator):
    # The reference kernels have none.
    rng = np.random.default_rng(9)
    shape = (3, 2, 2, 3) if operator is Conv2D else (2, 2, 3)
    model = single(
        operator(name="conv", input="x", output="y", weights="w", dilation=(2, 1)),
        tensor("x", (4, 4, 3), "int8", 0.1, 5),
        tensor("w", shape, "int8", 0.02, -77, rng.integers(-128, 128, shape).astype(np.int8)),
        tensor("y", (2, 3, 3), "int8", 0.3, -9),
    )
    x = operators.samples(rng, model, 4)
    assert_same(run_tensors(model, x), exact.run(model, x))


def _telling_accumulators(source, weight, output, count=40):
    """Return accumulators whose outputs differ between float32 and float64 products of two scales."""
    source, weight, output = np.float32(source), np.float32(weight), np.float32(output)
    narrow = numerics.quantize_multiplier(np.float64(source * weight) / np.float64(output))
    wide = numerics.quantize_multiplier(np.float64(source) * np.float64(weight) / np.float64(output))
    real = float(np.float64(source) * np.float64(weight) / np.float64(output))
    ties = (np.arange(-120, 121) + 0.5) / real
    near = (np.floor(ties)[:, None] + np.arange(-3, 5)).ravel().astype(np.int64)
    outputs = [numerics.requantize(near, *scaling, 0, (-128, 127)) for scaling in (narrow, wide)]
    return near[outputs[0] != outputs[1]][:count]


def _telling_scales():
    """Return scales that tell float32 products from float64 ones."""
    rng = np.random.default_rng(10)
    while True:
        source, weight = rng.uniform(0.01, 1, 2)
        output = source * weight * rng.uniform(2e4, 1e5)
        bias = _telling_accumulators(source, weight, output)
        if len(bias) >= 4:
            return source, weight, output, bias


@needs_litert
@pytest.mark.parametrize(
    ("kind", "dtype", "axis"),
    [
        (FullyConnected, "int8", 0),
        *((kind, d, None) for kind in (FullyConnected, Conv2D, DepthwiseConv2D) for d in DTYPES),
    ],
)
def test_the_oracle_tells_how_scales_are_multiplied(kind, dtype, axis, monkeypatch):
    source, weight, output, bias = _telling_scales()
    channels = len(bias)
    shape = {FullyConnected: (channels, 1), Conv2D: (channels, 1, 1, 1), DepthwiseConv2D: (1, 1, channels)}[kind]
    image = (1,) if kind is FullyConnected else (1, 1, 1)
    scales = [weight] * channels if axis == 0 else weight
    model = single(
        kind(name="layer", input="x", output="y", weights="w", bias="b"),
        tensor("x", image, dtype, source, 0),
        tensor("w", shape, dtype, scales, 0, np.ones(shape, dtype), axis),
        tensor("b", (channels,), "int32", np.float32(source) * np.float32(scales), 0, bias.astype(np.int32), axis),
        tensor("y", (*image[:-1], channels), dtype, output, 128 if dtype == "uint8" else 0),
    )
    x = np.zeros((1, *image), dtype)
    assert_same_as_oracle(model, x)

    def other_product(model, operator):
        wide = (kind is not FullyConnected and dtype == "int8") or axis == 0
        scales = np.float32(source), np.float32(weight)
        real = np.float64(scales[0] * scales[1]) if wide else np.float64(scales[0]) * np.float64(scales[1])
        scaling = numerics.quantize_multiplier(np.full(channels, real / np.float64(np.float32(output))))
        return arithmetic.Scaling(*scaling)

    monkeypatch.setattr("zeropoint.golden.output.weighted_scaling", other_product)
    other = replace(model, name="other")
    assert not np.array_equal(run(other, x), run(model, x)), "these scales tell nothing"


@needs_litert
def test_a_single_channel_has_one_scale_however_it_is_declared():
    source, weight, output, bias = _telling_scales()
    for value in bias[:8]:
        model = dense([value], scales=weight, output=(output, 0), source=(source, 0))
        weights = model.tensor("w")
        per_channel = replace(weights, quantization=replace(weights.quantization, axis=0))
        assert_same_as_oracle(replace(model, tensors={**model.tensors, "w": per_channel}), np.zeros((1, 4), np.int8))


@needs_litert
@pytest.mark.parametrize("clamp", [Clamp(), Clamp(0.0, inf)])
def test_the_oracle_tells_how_scales_are_divided(clamp):
    # Bytes are few: scales for which a quotient in the other float type gives another output have to be searched.
    rng = np.random.default_rng(11)
    found = 0
    for _ in range(3000):
        source, output = np.float32(rng.integers(1, 512)), np.float32(rng.integers(1, 512))
        narrow = numerics.quantize_multiplier(np.float64(source / output))
        wide = numerics.quantize_multiplier(np.float64(source) / np.float64(output))
        every = np.arange(256)
        outputs = [numerics.requantize(every, *scaling, 0, (0, 255)) for scaling in (narrow, wide)]
        if not np.array_equal(*outputs):
            found += 1
            model = single(
                Requantize(name="r", input="x", output="y", clamp=clamp),
                tensor("x", (256,), "uint8", source, 0),
                tensor("y", (256,), "uint8", output, 0),
            )
            assert_same_as_oracle(model, every[np.newaxis].astype(np.uint8))
            if found == 5:
                return
    pytest.fail("no scales tell the two apart")


@needs_litert
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [12.0, 4.0, 2.4, 2.0, 6 / 6.5, 6 / 8.5, 0.1, 0.0235, 1e-3])
@pytest.mark.parametrize("clamp", [Clamp(0.0, 6.0), Clamp(-1.0, 1.0)])
def test_ends_of_activations_that_are_ties(clamp, scale, dtype):
    middle = 10 if dtype == "int8" else 128
    model = dense(np.arange(-140, 141), dtype, scales=scale, output=(scale, middle), clamp=clamp)
    assert_same_as_oracle(model, np.zeros((1, 4), dtype))


# Directed: the others


def sum_of(first, second, output, dtype="int8"):
    """Return ADD of the input and the input at another scale, which it takes two steps to reach."""
    between = float(np.sqrt(np.float64(first[0]) * second[0]))
    return chain(
        (
            Requantize(name="r", input="x", output="between"),
            Requantize(name="s", input="between", output="z"),
            Add(name="add", input="x", other="z", output="y"),
        ),
        tensor("x", (256,), dtype, *first),
        tensor("between", (256,), dtype, between, first[1]),
        tensor("z", (256,), dtype, *second),
        tensor("y", (256,), dtype, *output),
    )


@needs_litert
@pytest.mark.parametrize("ratio", [1.0, 2.0**-4, 2.0**-20, 1e-9, 1e-15, 2.0**4, 2.0**20, 1e9])
@pytest.mark.parametrize("dtype", DTYPES)
def test_add_of_scales_far_apart(ratio, dtype):
    middle = 0 if dtype == "int8" else 128
    scale = 0.1 * ratio
    model = sum_of((0.1, middle + 3), (scale, middle - 7), (1.7 * max(0.1, scale), middle + 20), dtype)
    assert_same_as_oracle(model, operators.every_byte(model))


@needs_litert
def test_add_at_the_finest_output_scale():
    scale = float(np.nextafter(np.float32(2.0**-19), np.float32(1)))
    model = sum_of((1.0, 0), (1.0, 1), (scale, 0))
    assert_same_as_oracle(model, operators.every_byte(model))


@needs_litert
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", [(2, 2), (4, 4), (1, 2), (3, 3), (5, 2), (16, 16)])
def test_average_pool_of_every_tie(dtype, window):
    # Windows of one value but for their last taps, which make the sum run through every remainder.
    taps = window[0] * window[1]
    info = np.iinfo(dtype)
    base = np.arange(info.min, info.max)[:, np.newaxis]
    more = np.arange(taps) < np.arange(taps)[:, np.newaxis, np.newaxis]
    x = (base + more).astype(dtype).reshape(-1, 1, *window, 1)[:, 0]
    model = single(
        AveragePool2D(name="pool", input="x", output="y", window=window),
        tensor("x", (*window, 1), dtype, 0.1, 3),
        tensor("y", (1, 1, 1), dtype, 0.1, 3),
    )
    assert_same_as_oracle(model, x[:: max(len(x) // 4000, 1)])


@needs_litert
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (7, 7), (64, 64), (3, 1000)])
@pytest.mark.parametrize("ratio", [1e-6, 0.5, 1.0, 1.0 / 3, 2.0, 40.0])
def test_mean_of_every_size(dtype, size, ratio):
    rng = np.random.default_rng(12)
    model = single(
        Mean(name="mean", input="x", output="y"),
        tensor("x", (*size, 3), dtype, 0.1, 100),
        tensor("y", (3,), dtype, 0.1 / ratio, 90),
    )
    assert_same_as_oracle(model, operators.samples(rng, model, 8))


def probabilities(depth, scale, dtype="int8", beta=1.0):
    return single(
        Softmax(name="softmax", input="x", output="y", beta=beta),
        tensor("x", (depth,), dtype, scale, 0),
        tensor("y", (depth,), dtype, 1 / 256, np.iinfo(dtype).min),
    )


@needs_litert
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [3e-8, 1e-4, 0.004, 0.05, 0.3, 7.9, 8.0, 15.99, 16.0, 31.0, 32.0, 1e4, 1e30])
def test_softmax_of_every_scale(dtype, scale):
    model = probabilities(10, scale, dtype)
    rng = np.random.default_rng(13)
    x = operators.samples(rng, model, 64)
    # Near the maximum, where the probabilities are shared.
    x[32:] = np.iinfo(dtype).max - rng.integers(0, 8, x[32:].shape)
    assert_same_as_oracle(model, x)


@needs_litert
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [0.01, 0.08])
def test_softmax_of_every_pair(dtype, scale):
    every = np.arange(256, dtype=np.uint8).view(dtype)
    pairs = np.stack(np.meshgrid(every, every), axis=-1).reshape(-1, 2)
    assert_same_as_oracle(probabilities(2, scale, dtype), pairs)


@needs_litert
@pytest.mark.parametrize("depth", [255, 256, 257, 510, 511])
def test_softmax_of_equal_values_up_to_the_most_that_the_oracle_takes(depth):
    model = probabilities(depth, 0.1)
    x = np.zeros((3, depth), np.int8)
    x[1, 0] = 1
    x[2, ::2] = 1
    assert_same_as_oracle(model, x)


def test_softmax_of_more_values_than_its_sum_holds_is_refused():
    model = probabilities(4096, 0.1)
    with pytest.raises(
        ZeropointError, match=r"^operator 'softmax' \(Softmax\): input 'x' has 4096 values to normalize"
    ):
        run(model, np.zeros((1, 4096), np.int8))
    longest = probabilities(4095, 0.1)
    assert run(longest, np.zeros((1, 4095), np.int8)).max() == -128


# Negative controls: each mistake must show in the very cases above.


def _dropped_rounding(model, name):
    return replace(model, rounding=Rounding.SINGLE)


def _changed(model, name, change):
    return replace(model, tensors={**model.tensors, name: change(model.tensor(name))})


def _wrong_zero_point(model, name):
    def moved(t):
        zero_point = t.zero_point + (1 if t.zero_point < t.limits[1] else -1)
        return replace(t, quantization=Quantization(t.quantization.scale, (zero_point,)))

    return _changed(model, name, moved)


def _swapped_channels(model, name):
    return _changed(model, "w", lambda t: replace(t, data=np.roll(t.data, 1, axis=-1 if t.data.ndim == 3 else 0)))


def _flipped_bit(model, name):
    def flipped(t):
        data = t.data.copy()
        data.reshape(-1).view(np.uint8)[0] ^= 0x40
        return replace(t, data=data)

    return _changed(model, "w", flipped)


@needs_litert
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "mistake",
    [
        _dropped_rounding,
        partial(_wrong_zero_point, name="x"),
        partial(_wrong_zero_point, name="y"),
        _swapped_channels,
        _flipped_bit,
    ],
    ids=["dropped rounding", "input zero point", "output zero point", "swapped channels", "flipped bit"],
)
@pytest.mark.parametrize("name", ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"])
def test_a_mistake_in_a_weighted_layer_is_noticed(name, mistake, dtype):
    noticed = 0
    for seed in range(15):
        model, x = generated(name, dtype, seed)
        wrong = mistake(model) if isinstance(mistake, partial) else mistake(model, name)
        noticed += not np.array_equal(run(wrong, x), litert.run(model, x)["y"])
    assert noticed >= 3


@needs_litert
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["ADD", "MEAN", "QUANTIZE and RELU"])
def test_a_dropped_rounding_elsewhere_is_noticed(name, dtype):
    noticed = 0
    for seed in range(15):
        model, x = generated(name, dtype, seed)
        got = run(replace(model, rounding=Rounding.SINGLE), x)
        noticed += not np.array_equal(got, litert.run(model, x)["y"])
    assert noticed


@needs_litert
def test_a_wrong_exponential_is_noticed(monkeypatch):
    model = probabilities(10, 0.05)
    x = operators.samples(np.random.default_rng(14), model, 20)

    def steeper(*args):
        return (numerics.exponentials(*args) * 0.99 ** np.arange(256)).astype(np.int64)

    monkeypatch.setattr("zeropoint.golden.kernels.exponentials", steeper)
    assert not np.array_equal(run(model, x), litert.run(model, x)["y"])


@needs_litert
def test_what_tensorflow_lite_cannot_express_is_refused():
    layer = Requantize(name="r", input="x", output="y", clamp=Clamp(0.0, 3.0))
    model = single(layer, tensor("x", (3,), "int8", 1.0), tensor("y", (3,), "int8", 1.0))
    with pytest.raises(ValueError, match=r"^no activation of TensorFlow Lite clamps to 0.0 … 3.0$"):
        litert.to_tflite(model, 1)
