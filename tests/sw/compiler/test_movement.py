"""Operators that move values become copies of few instructions, or none, and write what the golden model says."""

from collections import Counter
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.copies import CONFIG, CONFIGS, DTYPES, array_cycles, offsets
from support.executed import outputs
from support.operators import single, tensor
from support.random_models import ModelBuilder

from zeropoint.compiler.compile import compile_model
from zeropoint.compiler.movement import progressions
from zeropoint.compiler.plan import plan
from zeropoint.compiler.program import Program
from zeropoint.compiler.verify_program import verify
from zeropoint.errors import ZeropointError
from zeropoint.golden import run
from zeropoint.model import Concatenation, Operator, Padding, QuantizedModel, Shape, StridedSlice, Transpose
from zeropoint.model import ResizeNearestNeighbor as Resize
from zeropoint_hw.config import AcceleratorConfig

# Progressions


@pytest.mark.parametrize(
    ("sequence", "count"),
    [
        ([7], 1),
        ([0, 1, 2, 3], 1),
        ([3, 3, 3], 1),
        ([9, 7, 5], 1),
        # Doubled: two interleaved ones, alike, which one pair of loops covers.
        ([0, 0, 1, 1, 2, 2], 1),
        ([0, 0, 0, 4, 4, 4, 8, 8, 8], 1),
        ([0, 5, 1, 6, 2, 7], 1),
        # From three to five: those of even places and those of odd ones.
        ([0, 0, 1, 1, 2], 2),
        ([0, 1, 1, 2, 2], 2),
        ([0, 0, 1, 2, 2, 3], 3),
    ],
)
def test_progressions_are_few(sequence: list[int], count: int) -> None:
    assert len(progressions(sequence)) == count


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_progressions_cover_a_sequence(sequence: list[int]) -> None:
    found = Counter[tuple[int, int]]()
    for progression in progressions(sequence):
        moves = offsets(list(progression.loops))
        found.update((progression.start + write, progression.first + read) for read, write in moves)
    assert found == Counter(enumerate(sequence))


# Operators

SAME: dict[str, Any] = {"name": "layer", "input": "x", "output": "y"}


def compiled(operator: Operator, shape: Shape, config: AcceleratorConfig, dtype: str = "int8") -> Program:
    """Compile a layer, check what it computes, and return the program."""
    source = tensor("x", shape, dtype, 0.1, 3)
    target = tensor("y", operator.output_shape(*(shape,) * len(operator.inputs)), dtype, 0.1, 3)
    model = single(operator, source, target)
    program = compile_model(model, config)
    verify(program)
    x = np.random.default_rng(1).integers(0, 256, (1, *shape), dtype=np.uint8).view(dtype)
    np.testing.assert_array_equal(outputs(program, x[0]), run(model, x)[0])
    return program


@pytest.mark.parametrize(
    ("operator", "shape", "instructions", "cycles"),
    [
        (Transpose(**SAME, permutation=(1, 0, 2)), (6, 5, 16), 1, 60),
        (Transpose(**SAME, permutation=(2, 0, 1)), (6, 5, 16), 1, 480),
        (Transpose(**SAME, permutation=(2, 1, 0)), (8, 5, 16), 1, 640),
        (Transpose(**SAME, permutation=(1, 0)), (6, 50), 1, 300),
        (Transpose(**SAME, permutation=(3, 0, 2, 1)), (4, 3, 2, 5), 2, 120),
        (StridedSlice(**SAME, begin=(1, 0, 8), stride=(2, 1, 1), shape=(2, 5, 8)), (6, 5, 16), 1, 10),
        (StridedSlice(**SAME, begin=(1, 0, 0), stride=(1, 1, 1), shape=(3, 5, 3)), (6, 5, 3), 1, 6),
        (StridedSlice(**SAME, begin=(5, 4, 0), stride=(-1, -2, 1), shape=(6, 3, 16)), (6, 5, 16), 3, 36),
        (StridedSlice(**SAME, begin=(49,), stride=(-3,), shape=(17,)), (50,), 1, 17),
        (Concatenation(**SAME, others=("x",), axis=2), (6, 5, 16), 2, 120),
        (Concatenation(**SAME, others=("x",), axis=1), (6, 5, 3), 2, 24),
        (Concatenation(**SAME, others=("x", "x"), axis=0), (6, 5, 3), 3, 36),
        (Concatenation(**SAME, others=("x",), axis=0), (30,), 2, 8),
        # Doubled rows and columns: one of the loops is that of groups, where channels fill whole beats.
        (Resize(**SAME, size=(12, 10)), (6, 5, 8), 2, 120),
        (Resize(**SAME, size=(12, 15)), (6, 5, 3), 6, 180),
        (Resize(**SAME, size=(12, 5)), (6, 5, 16), 1, 120),
        (Resize(**SAME, size=(3, 5)), (6, 5, 16), 1, 30),
        (Resize(**SAME, size=(12, 10), half_pixel_centers=True), (6, 5, 8), 2, 120),
        (Resize(**SAME, size=(11, 9), align_corners=True), (6, 5, 8), 4, 99),
    ],
)
def test_an_operator_takes_few_instructions_and_cycles(
    operator: Operator, shape: Shape, instructions: int, cycles: int
) -> None:
    program = compiled(operator, shape, CONFIG)
    assert (len(program.instructions), array_cycles(program)) == (instructions, cycles)
    for config in CONFIGS.values():
        for dtype in DTYPES:
            compiled(operator, shape, config, dtype)


def model_of(build: Any, *shape: int) -> QuantizedModel:
    builder = ModelBuilder(np.random.default_rng(0))
    return builder.build(build(builder, builder.input(*shape)))


def moved_in_all_ways(builder: ModelBuilder, source: str) -> str:
    """Read a tensor in every way; a convolution, which reads it too, wants gaps between its rows."""
    moved = [
        builder.conv(source, 1, (3, 2)),
        builder.transpose(source, 1, 0, 2),
        builder.strided_slice(source, (4, 26, 0), (-2, -3, 1), (2, 4, 1)),
        builder.resize(source, (3, 9)),
        builder.pad(source, Padding(1, 1, 1, 1), 9),
        builder.concatenation(0, source, source),
    ]
    return builder.concatenation(0, *(builder.reshape(each, prod(builder.tensors[each].shape)) for each in moved[1:]))


PITCHED: dict[str, Any] = {
    "read": moved_in_all_ways,
    "written by a transposition": lambda b, x: b.conv(b.transpose(x, 1, 0, 2), 2, (3, 2)),
    "written by a concatenation": lambda b, x: b.conv(b.concatenation(1, x, x, x), 2, (3, 2)),
    "written by a slice": lambda b, x: b.conv(b.strided_slice(x, (0, 1, 0), (1, 1, 1), (5, 21, 1)), 2, (3, 2)),
    "written by a resize": lambda b, x: b.conv(b.resize(x, (10, 9)), 2, (3, 2)),
    "written by an addition": lambda b, x: b.conv(b.add_constant(b.transpose(x, 1, 0, 2), 1, 5, 1), 2, (3, 2)),
}


@pytest.mark.parametrize("build", PITCHED.values(), ids=PITCHED)
def test_rows_with_gaps_between_them_are_moved_too(build: Any) -> None:
    model = model_of(build, 5, 27, 1)
    for name, config in CONFIGS.items():
        program = compile_model(model, config)
        verify(program)
        assert any(buffer.size > prod(buffer.shape) for buffer in program.tensors.values()) == (name != "1x1")
        x = np.random.default_rng(1).integers(-128, 128, (1, 5, 27, 1)).astype(np.int8)
        np.testing.assert_array_equal(outputs(program, x[0]), run(model, x)[0])


# Scratch tensors


def test_an_operand_that_is_constant_is_written_before_the_step_that_reads_it() -> None:
    model = model_of(lambda builder, x: builder.requantize(builder.add_constant(builder.requantize(x), 6)), 4, 5, 6)
    steps = plan(model, model.operators, model.output)
    assert [len(step.scratch) for step in steps] == [0, 1, 0]
    (scratch,) = steps[1].scratch
    constant = model.tensor(scratch.source)
    assert (scratch.tensor.shape, scratch.tensor.quantization) == ((4, 5, 6), constant.quantization)
    assert scratch.tensor.name not in model.tensors
    program = compile_model(model, CONFIG)
    assert set(program.tensors) == {model.input, *(operator.output for operator in model.operators)}
    assert [layer.instructions for layer in program.layers] == [1, 2, 1]


def test_a_scratch_tensor_is_there_for_its_step_alone() -> None:
    # Three tensors of 120 bytes at a time; where there is no constant, two.
    small = replace(CONFIG, activation_bytes=3 * 120)
    model = model_of(lambda builder, x: builder.requantize(builder.add_constant(builder.requantize(x), 6)), 4, 5, 6)
    compile_model(model, small)
    with pytest.raises(ZeropointError, match=r"must have 360 bytes .*as add_1 reads it"):
        compile_model(model, replace(small, activation_bytes=352))
    without = model_of(lambda builder, x: builder.requantize(builder.requantize(x)), 4, 5, 6)
    compile_model(without, replace(small, activation_bytes=240))


def test_a_scratch_tensor_takes_no_name_that_there_is() -> None:
    model = model_of(lambda builder, x: builder.add_constant(x, 6), 4, 5, 6)
    (step,) = plan(model, model.operators, model.output)
    taken = replace(step.scratch[0].tensor, shape=(3,), data=np.zeros(3, np.int8))
    model = replace(model, tensors={**model.tensors, taken.name: taken})
    (step,) = plan(model, model.operators, model.output)
    assert step.scratch[0].tensor.name == f"{taken.name}'"
    compile_model(model, CONFIG)


# Concatenated tensors whose parts are written where they belong


def two(axis: int, again: bool = False) -> Any:
    """Return what builds two layers and a concatenation of them, the first of which may be read again."""

    def build(builder: ModelBuilder, source: str) -> str:
        first = builder.conv(source, 3, (3, 3), padding=AROUND)
        other = builder.conv(source, 3 if axis < 2 else 5, (1, 1), like=first)
        if again:
            builder.mean(first)
        return builder.concatenation(axis, first, other)

    return build


def layers_of(build: Any, *shape: int, config: AcceleratorConfig = CONFIG) -> list[str]:
    """Return the layers that instructions compute, having checked what they compute."""
    model = model_of(build, *shape)
    program = compile_model(model, config)
    verify(program)
    x = np.random.default_rng(1).integers(-128, 128, (1, *shape)).astype(np.int8)
    np.testing.assert_array_equal(outputs(program, x[0]), run(model, x)[0])
    return [layer.op for layer in program.layers]


AROUND = Padding(1, 1, 1, 1)


def nested(builder: ModelBuilder, source: str) -> str:
    first = builder.conv(source, 3, (1, 1))
    inner = builder.concatenation(0, first, builder.max_pool(builder.conv(source, 3, (1, 1), like=first), (2, 1)))
    outer = builder.concatenation(1, builder.conv(source, 3, (2, 2), like=first, padding=Padding(5, 0, 1, 0)), inner)
    return builder.concatenation(2, outer, builder.strided_slice(outer, (0, 0, 2), (1, 1, -1), (9, 12, 3)))


def deep(builder: ModelBuilder, source: str) -> str:
    """A part of a part of a tensor with gaps must leave them, too."""
    first = builder.conv(source, 3, (1, 1))
    total = builder.add(first, source)
    # Sums have the quantization of a layer that is moved, so that they can be concatenated.
    turned = builder.transpose(total, 1, 0, 2)
    inner = builder.concatenation(0, turned, builder.strided_slice(total, (0, 0, 0), (1, 1, 1), (5, 5, 3)))
    return builder.concatenation(2, inner, builder.resize(total, (11, 5)))


@pytest.mark.parametrize(
    ("build", "shape", "layers"),
    [
        (two(0), (5, 6, 4), ["Conv2D"] * 2),
        (two(1), (5, 6, 4), ["Conv2D"] * 2),
        (two(2), (5, 6, 4), ["Conv2D"] * 2),
        (two(2), (5, 1, 4), ["Conv2D"] * 2),
        (two(2), (1, 6, 4), ["Conv2D"] * 2),
        # What a concatenation alone reads is written there; the input, and what others read too, is copied.
        (two(2, again=True), (5, 6, 4), ["Conv2D", "Conv2D", "Mean", "Concatenation"]),
        (
            lambda b, x: b.concatenation(2, *(b.max_pool(x, (2, 2), stride=s, padding=p) for s, p in POOLS)),
            (4, 6, 4),
            ["MaxPool2D", "MaxPool2D"],
        ),
        (
            lambda b, x: b.concatenation(
                2,
                b.average_pool(x, (3, 2), padding=Padding(1, 1, 1, 0)),
                b.pad(b.resize(x, (2, 5)), Padding(1, 1, 1, 0)),
            ),
            (4, 6, 4),
            ["AveragePool2D", "ResizeNearestNeighbor", "Pad"],
        ),
        (lambda b, x: b.concatenation(2, x, x), (4, 6, 4), ["Concatenation"]),
        (lambda b, x: b.concatenation(2, y := b.conv(x, 3, (1, 1)), y), (4, 6, 4), ["Conv2D", "Concatenation"]),
        # Layers that treat all values alike leave no gaps between pixels, but between rows.
        (lambda b, x: b.concatenation(2, y := b.add(x, x), b.max_pool(y, (1, 1))), (4, 6, 4), None),
        (
            lambda b, x: b.concatenation(1, b.transpose(y := b.requantize(x), 1, 0, 2), b.resize(y, (6, 6))),
            (4, 6, 4),
            None,
        ),
        (nested, (5, 6, 4), None),
        (deep, (5, 6, 3), None),
        # Vectors lie one after the other.
        (
            lambda b, x: b.concatenation(0, b.transpose(v := b.mean(x), 0), b.strided_slice(v, (3,), (-1,), (4,))),
            (4, 6, 4),
            ["Mean", "Transpose", "StridedSlice"],
        ),
        # Convolutions that read the whole want gaps between its rows.
        (lambda b, x: b.conv(two(1)(b, x), 2, (2, 1)), (5, 6, 2), ["Conv2D"] * 3),
    ],
)
def test_what_only_a_concatenation_reads_is_written_there(build: Any, shape: Shape, layers: list[str] | None) -> None:
    for config in CONFIGS.values():
        found = layers_of(build, *shape, config=config)
        assert layers is None or found == layers


POOLS = [((1, 1), Padding(0, 1, 0, 1)), ((1, 1), Padding(1, 0, 1, 0))]


@pytest.mark.parametrize("kernel", [(3, 3), (1, 3), (3, 1), (5, 5)])
@pytest.mark.parametrize("stride", [(1, 1), (1, 2), (2, 1)])
@pytest.mark.parametrize("multiplier", [1, 2, 3])
def test_a_depthwise_convolution_writes_its_part(
    kernel: tuple[int, int], stride: tuple[int, int], multiplier: int
) -> None:
    def build(builder: ModelBuilder, source: str) -> str:
        first = builder.depthwise(source, kernel, multiplier, stride=stride)
        pair = [first, builder.depthwise(source, kernel, like=first, stride=stride)]
        return builder.concatenation(2, *pair, builder.conv(source, 6, kernel, 3, like=first, stride=stride))

    assert layers_of(build, 7, 6, 3) == ["DepthwiseConv2D", "DepthwiseConv2D", "Conv2D"]


def test_pooling_on_the_way_out_writes_its_part() -> None:
    def build(builder: ModelBuilder, source: str) -> str:
        conv = builder.conv(source, 5, (1, 1))
        pooled = builder.max_pool(conv, (2, 2), stride=(2, 2))
        return builder.concatenation(2, pooled, builder.conv(source, 2, (2, 2), like=pooled, stride=(2, 2)))

    assert layers_of(build, 6, 8, 3) == ["Conv2D+MaxPool2D", "Conv2D"]


def test_parts_are_copied_where_that_takes_less_memory() -> None:
    """The whole, of 220 bytes, need not be there yet while a tensor of 600 is."""

    def build(builder: ModelBuilder, source: str) -> str:
        first = builder.conv(source, 1, (1, 1))
        wide = builder.conv(source, 30, (1, 1))
        narrow = builder.conv(wide, 5, (1, 1))
        return builder.concatenation(2, first, builder.conv(narrow, 10, (1, 1), like=first))

    large = layers_of(build, 5, 4, 1)
    small = layers_of(build, 5, 4, 1, config=replace(CONFIG, activation_bytes=744))
    assert (large, small) == (["Conv2D"] * 4, ["Conv2D"] * 4 + ["Concatenation"])
