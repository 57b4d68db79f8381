"""Quantized models: groups, constants, and the guarantees about accumulators and multipliers."""

from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.float_networks import AROUND, RELU, float_model, fully_connected, random_network

from zeropoint import arithmetic, float_reference, golden
from zeropoint.errors import ZeropointError
from zeropoint.model import (
    Add,
    AveragePool2D,
    Clamp,
    Conv2D,
    DepthwiseConv2D,
    FloatModel,
    FullyConnected,
    MaxPool2D,
    Mean,
    Pad,
    Padding,
    Quantization,
    QuantizedModel,
    Requantize,
    Reshape,
    Softmax,
)
from zeropoint.quantize import CalibrationMethod, Scheme, noise_table, quantize
from zeropoint.quantize.convert import observed_tensors

every_scheme = pytest.mark.parametrize("scheme", [Scheme.AFFINE_INT8, Scheme.AFFINE_UINT8], ids=lambda s: s.value)
DTYPES = {Scheme.AFFINE_INT8: "int8", Scheme.AFFINE_UINT8: "uint8"}


def data(model: QuantizedModel | FloatModel, name: str) -> npt.NDArray[np.int64]:
    values = model.tensor(name).data
    assert values is not None
    return values.astype(np.int64)


def quantization(model: QuantizedModel, name: str) -> Quantization:
    found = model.tensor(name).quantization
    assert found is not None
    return found


def covered(model: QuantizedModel, name: str) -> tuple[float, float]:
    """The real values of the least and the greatest integer."""
    tensor = model.tensor(name)
    low, high = tensor.dequantize(np.array(tensor.limits))
    return float(low), float(high)


# Which ranges count


def test_groups_and_what_is_observed() -> None:
    model = float_model(
        (8, 8, 2),
        Pad(name="pad", input="x", output="p", padding=AROUND),
        MaxPool2D(name="max", input="p", output="m", window=(2, 2), stride=(2, 2)),
        Conv2D(name="conv", input="m", output="c", weights="w"),
        MaxPool2D(name="max2", input="c", output="d", window=(2, 2), stride=(1, 1)),
        Reshape(name="reshape", input="d", output="r", shape=(64,)),
        AveragePool2D(name="avg", input="d", output="e", window=(2, 2), clamp=RELU),
        Add(name="add", input="r", other="r", output="a"),
        Softmax(name="softmax", input="a", output="s"),
        Reshape(name="again", input="s", output="y", shape=(8, 8)),
        w=np.ones((4, 1, 1, 2)),
    )
    # x and p are only moved on to m; c is only moved on to d, whose values avg reads, and r's add; nobody reads e.
    assert observed_tensors(model) == {"x": ["m"], "c": ["d", "r", "e"], "a": ["a"]}


def test_a_range_is_observed_after_the_fused_clamp() -> None:
    model = fully_connected(np.eye(2), [0.0, 0.0], clamp=Clamp(0.0, 3.0))
    x = np.array([[-8.0, 2.0], [9.0, 1.0]], np.float32)
    quantized = quantize(model, x, scheme=Scheme.AFFINE_INT8, method=CalibrationMethod.MINMAX)
    assert quantization(quantized, "y") == Quantization((3 / 255,), (-128,))
    assert quantization(quantized, "x") == Quantization((17 / 255,), (-8,))


def test_what_a_max_pool_drops_does_not_widen_the_range() -> None:
    model = float_model(
        (2, 1, 1),
        Requantize(name="op", input="x", output="a"),
        MaxPool2D(name="max", input="a", output="y", window=(2, 1), clamp=RELU),
    )
    x = np.array([-100.0, 5.1], np.float32).reshape(1, 2, 1, 1)
    quantized = quantize(model, x, scheme=Scheme.AFFINE_UINT8, method=CalibrationMethod.MINMAX)
    assert quantization(quantized, "a") == quantization(quantized, "y") == Quantization((5.1 / 255,), (0,))
    q = golden.run(quantized, quantized.tensor("x").quantize(x))
    np.testing.assert_allclose(quantized.tensor("y").dequantize(q).ravel(), [5.1], atol=0.3)


def test_what_an_average_pool_reads_does() -> None:
    model = float_model((2, 1, 1), AveragePool2D(name="avg", input="x", output="y", window=(2, 1), clamp=RELU))
    x = np.array([-100.0, 155.0], np.float32).reshape(1, 2, 1, 1)
    quantized = quantize(model, x, scheme=Scheme.AFFINE_UINT8, method=CalibrationMethod.MINMAX)
    assert quantization(quantized, "y") == Quantization((1.0,), (100,))
    np.testing.assert_array_equal(
        golden.run(quantized, np.array([0, 255], np.uint8).reshape(1, 2, 1, 1)).ravel(), [128]
    )


# Whole networks


@pytest.fixture(scope="module")
def network() -> FloatModel:
    return random_network(1)


@pytest.fixture(scope="module")
def images() -> npt.NDArray[np.float32]:
    return np.random.default_rng(2).normal(size=(64, 12, 12, 3)).astype(np.float32)


@every_scheme
def test_every_tensor_of_a_network(network: FloatModel, images: npt.NDArray[np.float32], scheme: Scheme) -> None:
    quantized = quantize(network, images, scheme=scheme, method=CalibrationMethod.MINMAX)
    values = float_reference.run(network, images)
    assert [operator.name for operator in quantized.operators] == [operator.name for operator in network.operators]
    assert [tensor.name for tensor in quantized.activations()] == list(values)
    for name, real in values.items():
        tensor = quantized.tensor(name)
        assert tensor.dtype == DTYPES[scheme]
        assert tensor.shape == network.tensor(name).shape
        low, high = covered(quantized, name)
        assert low <= 0 <= high
        # Zero points are whole numbers, so that the ends are within half a step.
        if name not in ("a", "d", "y"):  # Partly dropped by a max pool; Softmax's scale is given.
            assert low <= real.min() + tensor.scale * 0.51
            assert high >= real.max() - tensor.scale * 0.51
    assert quantization(quantized, "y") == Quantization((1 / 256,), (quantized.tensor("y").limits[0],))


@every_scheme
def test_every_constant_of_a_network(network: FloatModel, images: npt.NDArray[np.float32], scheme: Scheme) -> None:
    quantized = quantize(network, images, scheme=scheme, bias_correction=False)
    axes = {Conv2D: 0, DepthwiseConv2D: 2, FullyConnected: 0}
    seen = 0
    for operator in quantized.operators:
        if not isinstance(operator, Conv2D | DepthwiseConv2D | FullyConnected):
            continue
        seen += 1
        weights = quantized.tensor(operator.weights)
        real = network.tensor(operator.weights).data
        assert real is not None
        assert weights.dtype == DTYPES[scheme]
        scale, zero_point = (np.array(part) for part in (weights.quantization.scale, weights.quantization.zero_point))
        if scheme is Scheme.AFFINE_INT8:
            axis = axes[type(operator)]
            assert weights.quantization.axis == axis
            assert len(scale) == real.shape[axis]
            shape = [-1 if dimension == axis else 1 for dimension in range(real.ndim)]
            scale = scale.reshape(shape)
            zero_point = zero_point.reshape(shape)
            assert not zero_point.any()
            assert data(quantized, operator.weights).min() >= -127
        error = np.abs((data(quantized, operator.weights) - zero_point) * scale - real)
        assert np.all(error <= scale * (0.51 if scheme is Scheme.AFFINE_INT8 else 1.01))
        if operator.bias is not None:
            bias = quantized.tensor(operator.bias)
            product = quantized.tensor(operator.input).scale * scale.ravel()
            np.testing.assert_allclose(bias.quantization.scale, product, rtol=1e-7)
            assert set(bias.quantization.zero_point) == {0}
            error = np.abs(data(quantized, operator.bias) * product - network.tensor(operator.bias).data)
            assert np.all(error <= product * 0.51)
        else:
            assert network.operators[quantized.operators.index(operator)].bias is None
    assert seen == 5


BOUNDS = {Scheme.AFFINE_INT8: 25.0, Scheme.AFFINE_UINT8: 20.0}


@every_scheme
@pytest.mark.parametrize("method", CalibrationMethod)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_random_network_keeps_its_signal(seed: int, scheme: Scheme, method: CalibrationMethod) -> None:
    network = random_network(seed)
    x = np.random.default_rng(seed).normal(size=(64, 12, 12, 3)).astype(np.float32)
    table = noise_table(network, quantize(network, x, scheme=scheme, method=method), x)
    assert [row.operator for row in table] == [operator.name for operator in network.operators]
    for row in table:
        assert row.sqnr > BOUNDS[scheme], row


# Guarantees


def greatest_accumulator(model: QuantizedModel, operator: Any) -> npt.NDArray[np.int64]:
    """The sum of the magnitudes of all terms of an accumulator, for the worst input, one a channel."""
    weights = model.tensor(operator.weights)
    axis = 2 if isinstance(operator, DepthwiseConv2D) else 0
    zero_point = np.array(weights.quantization.zero_point)[0]
    magnitudes = np.abs(np.moveaxis(data(model, operator.weights) - zero_point, axis, 0))
    source = model.tensor(operator.input)
    steps = max(abs(limit - source.zero_point) for limit in source.limits)
    worst = magnitudes.reshape(len(magnitudes), -1).sum(axis=1) * steps
    return worst if operator.bias is None else worst + np.abs(data(model, operator.bias))


def check_guarantees(model: QuantizedModel) -> None:
    for operator in model.operators:
        if isinstance(operator, Conv2D | DepthwiseConv2D | FullyConnected):
            scaling = arithmetic.weighted_scaling(model, operator)
            worst = greatest_accumulator(model, operator)
            assert np.all(worst < 2**31)
            assert np.all(worst << np.maximum(scaling.shift, 0) < 2**31)
            assert np.all(scaling.multiplier > 0)
        elif isinstance(operator, Add):
            arithmetic.add_scaling(model, operator)
        elif isinstance(operator, Mean):
            arithmetic.mean_scaling(model, operator)
        elif isinstance(operator, Requantize):
            arithmetic.requantize_scaling(model, operator)
        elif isinstance(operator, Softmax):
            arithmetic.softmax_scaling(model, operator)


def steps_off(model: FloatModel, quantized: QuantizedModel, x: npt.NDArray[np.float32]) -> float:
    """The greatest error of the output, in steps of its scale."""
    tensor = quantized.tensor(quantized.output)
    got = tensor.dequantize(golden.run(quantized, quantized.tensor("x").quantize(x)))
    return float(np.abs(got - float_reference.run_output(model, x)).max() / tensor.scale)


X = np.array([[1.0, -1.0], [0.5, 1.0], [-1.0, 0.0]], np.float32)


@every_scheme
@pytest.mark.parametrize(
    ("weights", "bias", "tolerance"),
    [
        ([[0.0, 0.0], [0.5, -0.25]], [0.7, 0.1], 1),  # A channel without weights: its bias remains.
        ([[0.0, 0.0], [0.0, 0.0]], [0.7, -0.3], 1),
        ([[0.0, 0.0], [0.0, 0.0]], [0.0, 0.0], 0),
        ([[1e-30, 0.0], [0.5, -0.25]], [0.7, 0.1], 1),  # Its bias, at the weights' scale, would overflow.
        ([[1e-12, 0.0], [1e-12, 1e-12]], [0.7, 0.1], 1),
        ([[1e-4, 2e-4], [1e-4, -2e-4]], [1e5, 3e4], 1),
        ([[1e-38, 0.0], [0.0, 1e-38]], None, 1),
        ([[1e30, -1e30], [1e29, 0.0]], [1e28, 0.0], 3),
        ([[1e6, 1e6], [-1e6, -1e6]], [0.0, 0.0], 3),
    ],
)
def test_degenerate_layers(scheme: Scheme, weights: Any, bias: Any, tolerance: float) -> None:
    model = fully_connected(weights, bias)
    quantized = quantize(model, X, scheme=scheme)
    check_guarantees(quantized)
    # With one scale for all uint8 weights a small channel beside a large one vanishes, but its bias does not.
    assert steps_off(model, quantized, X) <= tolerance


@every_scheme
def test_an_accumulator_that_would_overflow_gets_wider_weights(scheme: Scheme) -> None:
    # 2^17 products of 255 · 127 are beyond 2^31.
    count = 1 << 17
    model = fully_connected(np.ones((2, count)) * [[1.0], [-0.5]])
    x = np.ones((2, count), np.float32) * [[1.0], [0.5]]
    quantized = quantize(model, x.astype(np.float32), scheme=scheme)
    check_guarantees(quantized)
    assert quantization(quantized, "w").scale[0] > 1.5 / (127 if scheme is Scheme.AFFINE_INT8 else 255)
    greatest = greatest_accumulator(quantized, quantized.operators[0]).max()
    assert greatest > 2**30
    assert steps_off(model, quantized, x.astype(np.float32)) <= 4


def test_a_sum_of_too_many_products_is_an_error() -> None:
    count = 1 << 24
    model = fully_connected(np.ones((1, count), np.float32))
    with pytest.raises(ZeropointError, match=r"^operator 'fc' \(FullyConnected\): each output sums 16777216"):
        quantize(model, np.ones((1, count), np.float32), scheme=Scheme.AFFINE_INT8)


@every_scheme
def test_outputs_that_hardly_vary_keep_multipliers_in_range(scheme: Scheme) -> None:
    # The calibration data cancel, but other inputs would not.
    model = fully_connected([[1e6, -1e6]], [1e-9])
    quantized = quantize(model, np.ones((4, 2), np.float32), scheme=scheme)
    check_guarantees(quantized)
    # An input beyond the calibrated range saturates, and does not wrap round.
    tensor = quantized.tensor("x")
    q = golden.run(quantized, np.array([[tensor.limits[1], tensor.zero_point]], tensor.dtype))
    assert q[0, 0] == quantized.tensor("y").limits[1]


@every_scheme
@pytest.mark.parametrize("value", [0.0, 1e-44, 1e-30, 3.0, -2.5, 1e30])
def test_constant_activations(scheme: Scheme, value: float) -> None:
    model = float_model(
        (2, 2, 1),
        Conv2D(name="conv", input="x", output="a", weights="w", bias="b", clamp=RELU),
        Add(name="add", input="a", other="a", output="s"),
        Requantize(name="requantize", input="s", output="r", clamp=Clamp(-1.0, inf)),
        Mean(name="mean", input="r", output="y"),
        w=np.ones((1, 1, 1, 1)),
        b=np.zeros(1),
    )
    x = np.full((3, 2, 2, 1), value, np.float32)
    quantized = quantize(model, x, scheme=scheme)
    check_guarantees(quantized)
    assert steps_off(model, quantized, x) <= 3


@every_scheme
@pytest.mark.parametrize("beta", [1.0, 1e-3, 1e3])
@pytest.mark.parametrize("spread", [0.0, 1e-9, 1.0, 1e20])
def test_softmax_of_any_logits(scheme: Scheme, spread: float, beta: float) -> None:
    model = float_model(
        (3,), Requantize(name="op", input="x", output="z"), Softmax(name="softmax", input="z", output="y", beta=beta)
    )
    x = np.array([[-1.0, 0.0, 1.0], [0.5, 0.25, -0.5]], np.float32) * np.float32(spread)
    quantized = quantize(model, x, scheme=scheme)
    check_guarantees(quantized)
    golden.run(quantized, quantized.tensor("x").quantize(x))


def test_a_constant_of_two_operators_gets_a_scale_for_each() -> None:
    model = float_model(
        (2,),
        FullyConnected(name="one", input="x", output="a", weights="w", bias="b"),
        FullyConnected(name="two", input="a", output="y", weights="w", bias="b"),
        w=[[3.0, 1.0], [2.0, -2.0]],
        b=[1.0, 2.0],
        **{"b/two": np.zeros(1)},
    )
    quantized = quantize(model, X, scheme=Scheme.AFFINE_INT8)
    assert [operator.constants for operator in quantized.operators] == [("w", "b"), ("w/two", "b/two'")]
    np.testing.assert_array_equal(data(quantized, "w"), data(quantized, "w/two"))
    assert quantization(quantized, "b") != quantization(quantized, "b/two'")
    assert steps_off(model, quantized, X) <= 2


@every_scheme
def test_scales_beyond_float32_are_an_error(scheme: Scheme) -> None:
    model = fully_connected([[1e30, 0.0], [0.0, 1e30]])
    with pytest.raises(ZeropointError, match=r"^tensor 'y' becomes NaN or infinite on the calibration data$"):
        quantize(model, X * 1e30, scheme=scheme)
    model = fully_connected([[1e30, -1e30]])
    x = np.full((1, 2), 1e30, np.float32)
    with np.errstate(all="ignore"), pytest.raises(ZeropointError, match=r"'y'|'fc'"):
        quantize(model, x, scheme=scheme)


def test_padding_is_exact_zero() -> None:
    model = float_model((1, 1, 1), Pad(name="pad", input="x", output="y", padding=Padding(1, 1, 1, 1)), output="y")
    x = np.array([3.0, 5.0, -1.0], np.float32).reshape(3, 1, 1, 1)
    for scheme in Scheme:
        quantized = quantize(model, x, scheme=scheme)
        got = golden.run(quantized, quantized.tensor("x").quantize(x))
        real = quantized.tensor("y").dequantize(got)
        assert set(real[:, 0].ravel()) == {0.0}
