"""Operators on single elements and those that move them: shapes, what is refused, verification, files."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from zeropoint.errors import ZeropointError
from zeropoint.model import (
    Add,
    Concatenation,
    LeakyRelu,
    Logistic,
    Mul,
    Operator,
    Pad,
    Padding,
    Quantization,
    QuantizedModel,
    Requantize,
    ResizeNearestNeighbor,
    Shape,
    StridedSlice,
    Sub,
    Tensor,
    Transpose,
    zp_file,
)
from zeropoint.model.elementwise import broadcast_shape

XY: dict[str, Any] = {"name": "op", "input": "x", "output": "y"}
SLICE: dict[str, Any] = {**XY, "begin": (1, 0), "stride": (2, 1), "shape": (2, 3)}


@pytest.mark.parametrize(
    ("operator", "shapes", "expected"),
    [
        (Sub(**XY, other="z"), [(2, 3), (2, 3)], (2, 3)),
        (Sub(**XY, other="z"), [(2, 1), (1, 3)], (2, 3)),
        (Mul(**XY, other="z"), [(4, 5, 3), (1, 1, 3)], (4, 5, 3)),
        (Mul(**XY, other="z"), [(3,), (4, 5, 3)], (4, 5, 3)),
        (Add(**XY, other="c", constant=True), [(4, 5, 3), (3,)], (4, 5, 3)),
        (Add(**XY, other="c", constant=True), [(4, 5, 3), (1,)], (4, 5, 3)),
        (LeakyRelu(**XY, alpha=0.1), [(2, 3)], (2, 3)),
        (Logistic(**XY), [(7,)], (7,)),
        (Concatenation(**XY, others=("a", "b"), axis=1), [(2, 3), (2, 1), (2, 4)], (2, 8)),
        (Concatenation(**XY, others=(), axis=0), [(2, 3)], (2, 3)),
        (StridedSlice(**SLICE), [(4, 3)], (2, 3)),
        (StridedSlice(**XY, begin=(3,), stride=(-1,), shape=(4,)), [(4,)], (4,)),
        (Transpose(**XY, permutation=(2, 0, 1)), [(4, 5, 6)], (6, 4, 5)),
        (ResizeNearestNeighbor(**XY, size=(7, 2)), [(4, 5, 6)], (7, 2, 6)),
    ],
)
def test_shapes(operator: Operator, shapes: list[Shape], expected: Shape) -> None:
    assert operator.output_shape(*shapes) == expected
    assert operator.macs(expected, *shapes) == 0


@pytest.mark.parametrize(
    ("operator", "shapes", "message"),
    [
        (Sub(**XY, other="z"), [(2, 3), (3, 2)], r"inputs of \(2, 3\) and \(3, 2\) cannot be broadcast to one shape"),
        (Add(**XY, other="z"), [(2, 3), (1, 3)], r"both inputs must have one shape, not \(2, 3\) and \(1, 3\)"),
        (Add(**XY, other="z", constant=True), [(1, 3), (2, 3)], r"a constant of \(2, 3\) cannot be broadcast to"),
        (Mul(**XY, other="z", constant=True), [(3,), (2, 3)], r"a constant of \(2, 3\) cannot be broadcast to \(3,\)"),
        (Concatenation(**XY, others=("a",), axis=2), [(2, 3), (2, 3)], r"an input of \(2, 3\) has no dimension 2"),
        (Concatenation(**XY, others=("a",), axis=-1), [(2, 3), (2, 3)], r"an input of \(2, 3\) has no dimension -1"),
        (Concatenation(**XY, others=("a",), axis=0), [(2, 3), (2, 4)], r"the inputs must have the same sizes but for"),
        (Concatenation(**XY, others=("a",), axis=0), [(2, 3), (3,)], r"the inputs must have the same sizes but for"),
        (StridedSlice(**SLICE), [(4, 3, 1)], r"an input of \(4, 3, 1\) needs a begin, stride and size"),
        (StridedSlice(**SLICE), [(3, 3)], r"2 elements from 1 by 2 do not lie within a dimension of 3"),
        (StridedSlice(**{**SLICE, "shape": (0, 3)}), [(4, 3)], r"0 elements from 1 by 2 do not lie within"),
        (StridedSlice(**XY, begin=(-1,), stride=(1,), shape=(1,)), [(4,)], r"1 elements from -1 by 1 do not lie"),
        (StridedSlice(**XY, begin=(2,), stride=(-1,), shape=(4,)), [(4,)], r"4 elements from 2 by -1 do not lie"),
        (Transpose(**XY, permutation=(0, 0)), [(4, 5)], r"the dimensions of \(4, 5\) cannot be put in the order"),
        (ResizeNearestNeighbor(**XY, size=(2, 2)), [(4, 5)], r"the input must be \(height, width, channels\), not"),
    ],
)
def test_shapes_that_do_not_fit(operator: Operator, shapes: list[Shape], message: str) -> None:
    with pytest.raises(ValueError, match="^" + message):
        operator.output_shape(*shapes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LeakyRelu(**XY, alpha=float("nan")), r"alpha must be finite, not nan"),
        (
            lambda: ResizeNearestNeighbor(**XY, size=(2, 2), align_corners=True, half_pixel_centers=True),
            r"corners cannot be aligned where pixels have half-integer centers",
        ),
        (lambda: ResizeNearestNeighbor(**XY, size=(0, 2)), r"the size must be positive and give \d+ pixels at most"),
        (
            lambda: ResizeNearestNeighbor(**XY, size=(1 << 20, 1 << 20)),
            r"the size must be positive and give \d+ pixels",
        ),
    ],
)
def test_attributes_that_make_no_sense(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + message):
        make()


@pytest.mark.parametrize("shapes", [((2, 3), (3,)), ((1,), (4, 1, 2)), ((5, 1), (1, 7)), ((), (2,)), ((3,), (3,))])
def test_shapes_are_broadcast_as_numpy_does(shapes: tuple[Shape, Shape]) -> None:
    assert broadcast_shape(*shapes) == np.broadcast_shapes(*shapes)
    assert broadcast_shape(*shapes[::-1]) == np.broadcast_shapes(*shapes)


def test_a_constant_operand_is_no_input() -> None:
    assert (Mul(**XY, other="c", constant=True).inputs, Mul(**XY, other="c", constant=True).constants) == (
        ("x",),
        ("c",),
    )
    assert (Mul(**XY, other="z").inputs, Mul(**XY, other="z").constants) == (("x", "z"), ())


# Verification

TENTH = Quantization((0.1,), (3,))


def model(operator: Operator, *others: Tensor, shape: Shape = (4, 4, 2), y: Tensor | None = None) -> QuantizedModel:
    x = Tensor("x", (4, 4, 2), "int8", TENTH)
    target = y or Tensor("y", shape, "int8", TENTH)
    return QuantizedModel("m", {t.name: t for t in (x, target, *others)}, (operator,), "x", "y")


def constant(dtype: str = "int8", quantization: Quantization = TENTH) -> Tensor:
    return Tensor("c", (2,), dtype, quantization, np.zeros(2, dtype))


def test_models_with_constant_operands() -> None:
    found = model(Mul(**XY, other="c", constant=True), constant())
    assert zp_file.loads(zp_file.dumps(found)).operators == found.operators


@pytest.mark.parametrize(
    ("operator", "others", "message"),
    [
        (Mul(**XY, other="c", constant=True), [constant("uint8")], "constant 'c' must be int8 with one scale"),
        (Mul(**XY, other="c", constant=True), [constant("int32")], "constant 'c' must be int8 with one scale"),
        (
            Mul(**XY, other="c", constant=True),
            [constant(quantization=Quantization((0.1, 0.2), (0, 0), 0))],
            "constant 'c' must be int8 with one scale",
        ),
        (Mul(**XY, other="c"), [constant()], "input 'c' is not computed before it"),
        (Mul(**XY, other="x", constant=True), [], "'x' is not a constant tensor"),
        (Logistic(**XY), [], "output 'y' must have scale 1/256"),
        (Pad(**XY, padding=Padding(), value=128), [], "pads with 128, which is not within -128 … 127"),
    ],
)
def test_what_a_model_may_not_hold(operator: Operator, others: list[Tensor], message: str) -> None:
    with pytest.raises(ZeropointError, match=rf"^operator 'op' \({operator.kind}\): {message}$"):
        model(operator, *others)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_only_uint8_is_rescaled_by_concatenation(dtype: str) -> None:
    x, y = Tensor("x", (2,), dtype, TENTH), Tensor("y", (4,), dtype, Quantization((0.2,), (3,)))
    tensors = {"x": x, "y": y}
    concatenation = Concatenation(**XY, others=("x",), axis=0)
    if dtype == "uint8":
        QuantizedModel("m", tensors, (concatenation,), "x", "y")
        return
    with pytest.raises(ZeropointError, match=r"input 'x' must have the scale and zero point of 'y'$"):
        QuantizedModel("m", tensors, (concatenation,), "x", "y")


def test_only_requantize_changes_the_type() -> None:
    y = Tensor("y", (4, 4, 2), "uint8", TENTH)
    model(Requantize(**XY), y=y)
    with pytest.raises(ZeropointError, match=r"inputs and output must all be int8, all uint8 or all int16$"):
        model(LeakyRelu(**XY, alpha=0.5), y=y)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("constant", 1, r"operator 'op' \(Mul\): constant must be true or false, not 1"),
        ("constant", None, r"operator 'op' \(Mul\): constant must be true or false, not None"),
    ],
)
def test_damaged_fields(field: str, value: object, message: str) -> None:
    from zeropoint.model import zp_schema

    found = model(Mul(**XY, other="c", constant=True), constant())
    document = zp_schema.model_to_json(found)
    document["operators"][0][field] = value
    with pytest.raises(ZeropointError, match="^" + message):
        zp_schema.model_from_json(document, {"c": np.zeros(2, np.int8)})


def test_optional_integers_and_lists_of_names_in_files() -> None:
    for operator, shape in (
        (Pad(**XY, padding=Padding(1, 0, 0, 0), value=5), (5, 4, 2)),
        (Pad(**XY, padding=Padding(1, 0, 0, 0)), (5, 4, 2)),
        (Concatenation(**XY, others=("x", "x"), axis=2), (4, 4, 6)),
    ):
        found = model(operator, shape=shape)
        assert zp_file.loads(zp_file.dumps(found)).operators == (operator,)
        assert zp_file.loads(zp_file.dumps(replace(found))).operators == (operator,)
