"""Shapes, multiply-accumulates and fused activations of operators."""

from math import inf, nan
from typing import Any

import pytest

from zeropoint.model import (
    OPERATORS,
    Add,
    AveragePool2D,
    Clamp,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    MaxPool2D,
    Mean,
    Pad,
    Padding,
    Requantize,
    Reshape,
    Softmax,
)

XY: dict[str, Any] = {"name": "op", "input": "x", "output": "y"}


# Attributes


@pytest.mark.parametrize(("low", "high"), [(1.0, 0.0), (nan, 0.0), (0.0, nan), (inf, inf), (-inf, -inf)])
def test_a_clamp_is_an_interval(low: float, high: float) -> None:
    with pytest.raises(ValueError, match=rf"^an activation must clamp to an interval, not to {low} … {high}$"):
        Clamp(low, high)


@pytest.mark.parametrize(
    ("clamp", "label"),
    [
        (Clamp(), ""),
        (Clamp(0), "relu"),
        (Clamp(0, 6), "relu6"),
        (Clamp(-1, 1), "relu_n1_to_1"),
        (Clamp(-0.5, 2), "clip(-0.5, 2)"),
    ],
)
def test_the_label_of_a_clamp(clamp: Clamp, label: str) -> None:
    assert clamp.label == label


@pytest.mark.parametrize("first", [Clamp(), Clamp(0), Clamp(0, 6), Clamp(-3, -1), Clamp(2, 9)])
@pytest.mark.parametrize("second", [Clamp(), Clamp(0), Clamp(1, 2), Clamp(-9, -5), Clamp(7)])
def test_two_clamps_in_a_row_are_one(first: Clamp, second: Clamp) -> None:
    both = first & second
    for x in (-20.0, -8.0, -6.0, -2.0, -0.5, 0.0, 0.5, 1.5, 3.0, 6.5, 8.0, 20.0):
        once = min(max(x, first.low), first.high)
        assert min(max(x, both.low), both.high) == min(max(once, second.low), second.high)


def test_padding_is_not_negative() -> None:
    with pytest.raises(ValueError, match=r"^padding must not be negative, but is Padding\(top=0, bottom=-1"):
        Padding(0, -1)


@pytest.mark.parametrize("attributes", [{"stride": (0, 1)}, {"dilation": (1, -1)}])
def test_strides_and_dilations_are_positive(attributes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^strides and dilations must be positive, not \("):
        Conv2D(**XY, weights="w", **attributes)


@pytest.mark.parametrize("padding", [Padding(top=3), Padding(bottom=3), Padding(left=2), Padding(right=2)])
@pytest.mark.parametrize("pool", [MaxPool2D, AveragePool2D])
def test_pooling_windows_always_see_the_input(pool: Any, padding: Padding) -> None:
    with pytest.raises(ValueError, match=r"^padding .* reaches beyond a window of \(3, 2\)$"):
        pool(**XY, window=(3, 2), padding=padding)


def test_pooling_windows_are_not_dilated() -> None:
    with pytest.raises(ValueError, match=r"^a pooling window cannot be dilated$"):
        MaxPool2D(**XY, window=(3, 2), dilation=(2, 2))


# Shapes and multiply-accumulates


@pytest.mark.parametrize(
    ("operator", "shapes", "output", "macs"),
    [
        (Conv2D(**XY, weights="w"), [(5, 6, 3), (8, 3, 2, 3)], (3, 5, 8), 3 * 5 * 8 * 3 * 2 * 3),
        (Conv2D(**XY, weights="w", stride=(2, 3)), [(5, 6, 3), (8, 3, 2, 3)], (2, 2, 8), 2 * 2 * 8 * 18),
        (Conv2D(**XY, weights="w", dilation=(2, 3)), [(5, 6, 3), (8, 3, 2, 3)], (1, 3, 8), 3 * 8 * 18),
        (
            Conv2D(**XY, weights="w", bias="b", padding=Padding(1, 2, 3, 4)),
            [(5, 6, 3), (8, 3, 2, 3), (8,)],
            (6, 12, 8),
            6 * 12 * 8 * 18,
        ),
        (Conv2D(**XY, weights="w", groups=3), [(5, 6, 9), (6, 1, 1, 3)], (5, 6, 6), 5 * 6 * 6 * 3),
        (DepthwiseConv2D(**XY, weights="w"), [(5, 6, 3), (3, 3, 6)], (3, 4, 6), 3 * 4 * 6 * 9),
        (FullyConnected(**XY, weights="w", bias="b"), [(2, 3, 4), (5, 24), (5,)], (5,), 120),
        (Add(**XY, other="z"), [(2, 3), (2, 3)], (2, 3), 0),
        (AveragePool2D(**XY, window=(2, 3), stride=(2, 2)), [(5, 7, 4)], (2, 3, 4), 0),
        (MaxPool2D(**XY, window=(2, 2), padding=Padding(1, 1, 0, 1)), [(5, 7, 4)], (6, 7, 4), 0),
        (Mean(**XY), [(5, 7, 4)], (4,), 0),
        (Pad(**XY, padding=Padding(1, 2, 3, 4)), [(5, 7, 4)], (8, 14, 4), 0),
        (Requantize(**XY), [(5, 7)], (5, 7), 0),
        (Reshape(**XY, shape=(35,)), [(5, 7)], (35,), 0),
        (Softmax(**XY), [(5, 7)], (5, 7), 0),
    ],
)
def test_shapes_and_macs(operator: Any, shapes: list[Any], output: Any, macs: int) -> None:
    assert operator.output_shape(*shapes) == output
    assert operator.macs(output, *shapes) == macs


@pytest.mark.parametrize(
    ("operator", "shapes", "message"),
    [
        (Conv2D(**XY, weights="w"), [(5, 6), (8, 3, 3, 6)], r"the input must be \(height, width, channels\)"),
        (Conv2D(**XY, weights="w"), [(5, 6, 3), (8, 3, 3)], r"the weights must have 4 dimensions, not \(8, 3, 3\)"),
        (Conv2D(**XY, weights="w"), [(5, 6, 3), (8, 6, 3, 3)], r"a window of \(6, 3\) does not fit an input of"),
        (Conv2D(**XY, weights="w"), [(5, 6, 4), (8, 3, 3, 3)], r"4 channels do not fit weights \(8, 3, 3, 3\) in 1 gr"),
        (Conv2D(**XY, weights="w", groups=2), [(5, 6, 4), (7, 3, 3, 2)], r"4 channels do not fit .* in 2 groups"),
        (Conv2D(**XY, weights="w", groups=0), [(5, 6, 4), (7, 3, 3, 2)], r"4 channels do not fit .* in 0 groups"),
        (Conv2D(**XY, weights="w", bias="b"), [(5, 6, 3), (8, 3, 3, 3), (3,)], r"the bias must be \(8,\), not \(3,\)"),
        (
            Conv2D(**XY, weights="w", padding=Padding(2**30, 2**30, 2**30, 2**30), stride=(2**30, 2**30)),
            [(5, 6, 3), (8, 3, 3, 3)],
            r"an input of \(5, 6, 3\) with Padding\(.*\) has over 16777216 elements",
        ),
        (DepthwiseConv2D(**XY, weights="w"), [(5, 6, 3), (3, 3, 4)], r"4 output channels are no multiple of 3 input"),
        (DepthwiseConv2D(**XY, weights="w"), [(5, 6, 3), (1, 3, 3, 3)], r"the weights must have 3 dimensions"),
        (FullyConnected(**XY, weights="w"), [(2, 3), (5, 7)], r"an input of \(2, 3\) does not fit weights \(5, 7\)"),
        (Add(**XY, other="z"), [(2, 3), (3, 2)], r"both inputs must have one shape, not \(2, 3\) and \(3, 2\)"),
        (MaxPool2D(**XY, window=(6, 2)), [(5, 7, 4)], r"a window of \(6, 2\) does not fit an input of \(5, 7\)"),
        (Mean(**XY), [(5,)], r"the input must be \(height, width, channels\), not \(5,\)"),
        (Pad(**XY, padding=Padding(1)), [(5,)], r"the input must be \(height, width, channels\), not \(5,\)"),
        (Reshape(**XY, shape=(4, 9)), [(5, 7)], r"\(5, 7\) cannot be reshaped to \(4, 9\)"),
    ],
)  # fmt: skip
def test_shapes_that_do_not_fit(operator: Any, shapes: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match="^" + message):
        operator.output_shape(*shapes)


def test_the_tensors_that_operators_read() -> None:
    assert Conv2D(**XY, weights="w").constants == ("w",)
    assert Conv2D(**XY, weights="w", bias="b").constants == ("w", "b")
    assert Add(**XY, other="z").inputs == ("x", "z")
    assert Mean(**XY).inputs == ("x",)
    assert Mean(**XY).constants == ()


def test_every_kind_is_filed_under_its_name() -> None:
    assert all(name == cls.__name__ for name, cls in OPERATORS.items())
    assert Mean(**XY).kind == "Mean"
    assert {name for name, cls in OPERATORS.items() if cls.keeps_quantization} == {
        "AveragePool2D",
        "MaxPool2D",
        "Pad",
        "Reshape",
        "ResizeNearestNeighbor",
        "StridedSlice",
        "Transpose",
    }
