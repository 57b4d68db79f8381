"""The float reference against torch, operator by operator, and its handling of batches and bad input."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from zeropoint import float_reference
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
    Operator,
    Pad,
    Padding,
    Requantize,
    Reshape,
    Softmax,
    Tensor,
)

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
F = torch.nn.functional

RELU = Clamp(0.0)


def model_of(
    operator: Operator, input_shape: tuple[int, ...], constants: dict[str, npt.NDArray[np.float32]]
) -> FloatModel:
    tensors = {name: Tensor(name, data.shape, "float32", data=data) for name, data in constants.items()}
    tensors["x"] = Tensor("x", input_shape, "float32")
    shape = operator.output_shape(input_shape, *(tensors[name].shape for name in (*operator.inputs[1:], *constants)))
    tensors["y"] = Tensor("y", shape, "float32")
    return FloatModel("single operator", tensors, (operator,), "x", "y")


def nchw(x: npt.NDArray[np.float32]) -> Any:
    return torch.from_numpy(x.astype(np.float64)).permute(0, 3, 1, 2)


def nhwc(x: Any) -> npt.NDArray[np.float64]:
    return x.permute(0, 2, 3, 1).numpy()


def torch_padding(padding: Padding) -> tuple[int, int, int, int]:
    return padding.left, padding.right, padding.top, padding.bottom


def check(operator: Operator, x: npt.NDArray[np.float32], expected: npt.NDArray[Any], **constants: Any) -> None:
    got = float_reference.run(model_of(operator, x.shape[1:], constants), x)
    np.testing.assert_array_equal(got["x"], x)
    assert got["y"].dtype == np.float32
    assert got["y"].shape == expected.shape
    np.testing.assert_allclose(got["y"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "weights", "attributes"),
    [
        ((7, 9, 3), (5, 3, 3, 3), {}),
        ((7, 9, 3), (5, 2, 3, 3), {"stride": (2, 3), "padding": Padding(1, 0, 2, 1), "clamp": RELU}),
        ((9, 9, 2), (4, 3, 2, 2), {"dilation": (2, 3), "padding": Padding(0, 2, 1, 0), "clamp": Clamp(-1, 1)}),
        ((6, 5, 6), (9, 3, 1, 2), {"groups": 3, "padding": Padding(1, 1)}),
        ((6, 5, 4), (4, 2, 2, 1), {"groups": 4, "stride": (2, 2)}),
        ((5, 4, 7), (3, 1, 1, 7), {"stride": (2, 1)}),
        ((5, 4, 2), (3, 5, 4, 2), {}),
    ],
)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("column_bytes", [1, 2000, 1 << 22])
def test_convolution(
    shape: tuple[int, ...],
    weights: tuple[int, ...],
    attributes: dict[str, Any],
    bias: bool,
    column_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(float_reference, "_COLUMN_BYTES", column_bytes)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3, *shape)).astype(np.float32)
    constants = {"w": rng.normal(size=weights).astype(np.float32)}
    if bias:
        constants["b"] = rng.normal(size=weights[0]).astype(np.float32)
    operator = Conv2D(name="op", input="x", output="y", weights="w", bias="b" if bias else None, **attributes)
    expected = F.conv2d(
        F.pad(nchw(x), torch_padding(operator.padding)),
        nchw(constants["w"]),
        torch.from_numpy(constants["b"].astype(np.float64)) if bias else None,
        stride=operator.stride,
        dilation=operator.dilation,
        groups=operator.groups,
    ).clamp(operator.clamp.low, operator.clamp.high)
    check(operator, x, nhwc(expected), **constants)


@pytest.mark.parametrize(
    ("shape", "weights", "attributes"),
    [
        ((7, 9, 3), (3, 3, 3), {}),
        ((7, 9, 3), (3, 2, 6), {"stride": (2, 1), "padding": Padding(1, 0, 0, 2), "clamp": RELU}),
        ((9, 8, 2), (2, 3, 6), {"dilation": (3, 2), "padding": Padding(1, 1, 1, 1)}),
    ],
)
def test_depthwise_convolution(shape: tuple[int, ...], weights: tuple[int, ...], attributes: dict[str, Any]) -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(2, *shape)).astype(np.float32)
    w = rng.normal(size=weights).astype(np.float32)
    b = rng.normal(size=weights[2]).astype(np.float32)
    operator = DepthwiseConv2D(name="op", input="x", output="y", weights="w", bias="b", **attributes)
    # torch lays grouped outputs out channel by channel too: output c · multiplier + j is fed by channel c.
    expected = F.conv2d(
        F.pad(nchw(x), torch_padding(operator.padding)),
        torch.from_numpy(w.astype(np.float64)).permute(2, 0, 1).unsqueeze(1),
        torch.from_numpy(b.astype(np.float64)),
        stride=operator.stride,
        dilation=operator.dilation,
        groups=shape[2],
    ).clamp(operator.clamp.low, operator.clamp.high)
    check(operator, x, nhwc(expected), w=w, b=b)


@pytest.mark.parametrize("shape", [(12,), (2, 3, 2)])
@pytest.mark.parametrize("bias", [False, True])
def test_fully_connected(shape: tuple[int, ...], bias: bool) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(4, *shape)).astype(np.float32)
    constants = {"w": rng.normal(size=(5, 12)).astype(np.float32)}
    if bias:
        constants["b"] = rng.normal(size=5).astype(np.float32)
    operator = FullyConnected(
        name="op", input="x", output="y", weights="w", bias="b" if bias else None, clamp=Clamp(-2, 1)
    )
    expected = F.linear(*(torch.from_numpy(array) for array in (x.reshape(4, 12), *constants.values()))).clamp(-2, 1)
    check(operator, x, expected.numpy(), **constants)


PADDINGS = [Padding(), Padding(1, 1, 1, 1), Padding(0, 2, 1, 0)]


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("clamp", [Clamp(), RELU])
def test_average_pool_does_not_count_padding(padding: Padding, clamp: Clamp) -> None:
    x = np.random.default_rng(4).normal(size=(2, 7, 6, 3)).astype(np.float32)
    operator = AveragePool2D(
        name="op", input="x", output="y", window=(3, 2), stride=(2, 1), padding=padding, clamp=clamp
    )
    total, count = (
        F.avg_pool2d(F.pad(nchw(values), torch_padding(padding)), (3, 2), (2, 1)) for values in (x, np.ones_like(x))
    )
    check(operator, x, nhwc((total / count).clamp(clamp.low, clamp.high)))


def test_average_pool_as_torch_does_it() -> None:
    x = np.random.default_rng(5).normal(size=(2, 7, 6, 3)).astype(np.float32)
    operator = AveragePool2D(name="op", input="x", output="y", window=(3, 3), padding=Padding(1, 1, 1, 1))
    check(operator, x, nhwc(F.avg_pool2d(nchw(x), 3, 1, 1, count_include_pad=False)))


@pytest.mark.parametrize("padding", PADDINGS)
def test_max_pool(padding: Padding) -> None:
    x = np.random.default_rng(6).normal(size=(2, 7, 6, 3)).astype(np.float32) - 3
    operator = MaxPool2D(name="op", input="x", output="y", window=(3, 2), stride=(1, 2), padding=padding)
    expected = F.max_pool2d(F.pad(nchw(x), torch_padding(padding), value=-torch.inf), (3, 2), (1, 2))
    check(operator, x, nhwc(expected))


@pytest.mark.parametrize(
    ("operator", "function"),
    [
        (Mean(name="op", input="x", output="y"), lambda x: x.mean((1, 2))),
        (Pad(name="op", input="x", output="y", padding=Padding(1, 2, 3, 0)), lambda x: F.pad(x, (0, 0, 3, 0, 1, 2))),
        (Requantize(name="op", input="x", output="y"), lambda x: x),
        (Requantize(name="op", input="x", output="y", clamp=Clamp(0, 6)), F.relu6),
        (Reshape(name="op", input="x", output="y", shape=(6, 20)), lambda x: x.reshape(-1, 6, 20)),
        (Softmax(name="op", input="x", output="y", beta=0.5), lambda x: F.softmax(0.5 * x, -1)),
        (Add(name="op", input="x", other="x", output="y", clamp=Clamp(-1, 4)), lambda x: (x + x).clamp(-1, 4)),
    ],
    ids=lambda value: value.kind if isinstance(value, Operator) else "",
)
def test_other_operators(operator: Operator, function: Callable[[Any], Any]) -> None:
    x = 4 * np.random.default_rng(7).normal(size=(3, 5, 4, 6)).astype(np.float32)
    check(operator, x, function(torch.from_numpy(x.astype(np.float64))).numpy())


def test_softmax_of_large_values_does_not_overflow() -> None:
    x = np.array([[1000.0, 1000.0, -1000.0]], np.float32)
    check(Softmax(name="op", input="x", output="y"), x, np.array([[0.5, 0.5, 0.0]]))


# Whole networks


@pytest.fixture
def network() -> FloatModel:
    rng = np.random.default_rng(8)
    activations = {"x": (6, 6, 2), "a": (6, 6, 4), "b": (6, 6, 4), "s": (6, 6, 4), "f": (4,), "y": (3,), "dead": (4,)}
    constants = {"w": (4, 3, 3, 2), "v": (3, 3, 4), "u": (3, 4), "c": (3,)}
    tensors = {name: Tensor(name, shape, "float32") for name, shape in activations.items()} | {
        name: Tensor(name, shape, "float32", data=rng.normal(size=shape).astype(np.float32))
        for name, shape in constants.items()
    }
    around = Padding(1, 1, 1, 1)
    operators = (
        Conv2D(name="conv", input="x", output="a", weights="w", padding=around, clamp=RELU),
        DepthwiseConv2D(name="depthwise", input="a", output="b", weights="v", padding=around),
        Add(name="add", input="a", other="b", output="s", clamp=RELU),
        Mean(name="mean", input="s", output="f"),
        Requantize(name="unused", input="f", output="dead"),
        FullyConnected(name="fc", input="f", output="y", weights="u", bias="c"),
    )
    return FloatModel("residual", tensors, operators, "x", "y")


def test_batches_give_what_one_run_gives(network: FloatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(9).normal(size=(11, 6, 6, 2)).astype(np.float32)
    whole = float_reference.run(network, x)
    assert list(whole) == [tensor.name for tensor in network.activations()]
    monkeypatch.setattr(float_reference, "_BATCH_BYTES", 10_000)
    parts = list(float_reference.run_batches(network, x))
    assert len(parts) > 2
    for name, values in whole.items():
        got = np.concatenate([part[name] for part in parts])
        np.testing.assert_allclose(got, values, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(float_reference.run_output(network, x), whole["y"], rtol=1e-5, atol=1e-6)


def test_an_intermediate_tensor_or_the_input_may_be_the_output(network: FloatModel) -> None:
    x = np.random.default_rng(9).normal(size=(3, 6, 6, 2)).astype(np.float32)
    whole = float_reference.run(network, x)
    for name in ("x", "a", "f"):
        shorter = FloatModel("shorter", network.tensors, network.operators, "x", name)
        np.testing.assert_array_equal(float_reference.run_output(shorter, x), whole[name])


def test_the_input_is_not_written_to(network: FloatModel) -> None:
    x = np.random.default_rng(10).normal(size=(2, 6, 6, 2)).astype(np.float32)
    before = x.copy()
    float_reference.run(network, x)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 6, 6, 3), np.float32), r"'x' takes an array of shape \(N, 6, 6, 2\), not \(2, 6, 6, 3\)"),
        (np.zeros((6, 6, 2), np.float32), r"takes an array of shape \(N, 6, 6, 2\), not \(6, 6, 2\)"),
        (np.float32(1), r"takes an array of shape \(N, 6, 6, 2\), not \(\)"),
        (np.zeros((0, 6, 6, 2), np.float32), r"takes one sample or more, but the array is empty"),
        (np.zeros((1, 6, 6, 2), np.uint8), r"takes float32 values, not uint8"),
        (np.full((1, 6, 6, 2), np.nan, np.float32), r"must be finite, but some are NaN or infinite"),
        (np.full((1, 6, 6, 2), 1e39), r"must be finite, but some are NaN or infinite"),
    ],
)
@pytest.mark.parametrize("function", ["run", "run_batches", "run_output"])
def test_bad_input(network: FloatModel, x: Any, message: str, function: str) -> None:
    with pytest.raises(ZeropointError, match=message):
        list(getattr(float_reference, function)(network, x))
