"""Which operators share a pass, and which tensors get gaps between their rows."""

from collections.abc import Callable
from math import prod

import numpy as np
import pytest
from support.random_models import ModelBuilder

from zeropoint.compiler.compile import compile_model, partition
from zeropoint.compiler.plan import Step, pairs_rows, plan, row_pitches
from zeropoint.compiler.program import Program
from zeropoint.compiler.verify_program import verify
from zeropoint.golden import run
from zeropoint.model import Conv2D, Padding, QuantizedModel
from zeropoint_hw.config import AcceleratorConfig

Build = Callable[[ModelBuilder, str], str]

CONFIG = AcceleratorConfig()


def model_of(build: Build, *shape: int) -> QuantizedModel:
    builder = ModelBuilder(np.random.default_rng(0))
    return builder.build(build(builder, builder.input(*shape)))


def steps_of(model: QuantizedModel, fuse: bool = True) -> tuple[Step, ...]:
    parts = partition(model)
    output = parts.host[0].input if parts.host else model.output
    return plan(model, parts.hardware, output, fuse)


def labels(build: Build, *shape: int, fuse: bool = True) -> list[str]:
    return [step.label for step in steps_of(model_of(build, *(shape or (9, 9, 3))), fuse)]


# Convolution and pooling


def pooled(window: tuple[int, int], stride: tuple[int, int], padding: Padding | None = None) -> Build:
    def build(builder: ModelBuilder, source: str) -> str:
        conv = builder.conv(source, 4, (1, 1))
        return builder.max_pool(conv, window, stride=stride, padding=padding or Padding())

    return build


FUSED, APART = ["Conv2D+MaxPool2D"], ["Conv2D", "MaxPool2D"]


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (pooled((2, 2), (2, 2)), FUSED),
        (pooled((3, 1), (3, 1)), FUSED),
        (pooled((9, 9), (9, 9)), FUSED),
        (pooled((3, 3), (2, 2)), APART),
        (pooled((2, 2), (2, 1)), APART),
        (pooled((2, 2), (3, 3)), APART),
        (pooled((2, 2), (2, 2), Padding(0, 1, 0, 0)), APART),
        (pooled((2, 2), (2, 2), Padding(0, 0, 1, 0)), APART),
    ],
)
def test_a_pooling_goes_with_its_convolution_where_windows_tile_the_map(build: Build, expected: list[str]) -> None:
    assert labels(build) == expected
    assert labels(build, fuse=False) == APART


@pytest.mark.parametrize(("size", "expected"), [(16, FUSED), (17, APART)])
def test_a_window_beyond_the_instruction_is_a_layer_of_its_own(size: int, expected: list[str]) -> None:
    assert labels(pooled((1, size), (1, size)), 2, 20, 1) == expected
    assert labels(pooled((size, 1), (size, 1)), 20, 2, 1) == expected


def test_a_convolution_that_others_read_too_is_written() -> None:
    def build(builder: ModelBuilder, source: str) -> str:
        conv = builder.conv(source, 4, (1, 1))
        small = builder.max_pool(conv, (2, 2), stride=(2, 2))
        return builder.add(builder.mean(conv), builder.mean(small))

    assert labels(build) == ["Conv2D", "MaxPool2D", "Mean", "Mean", "Add"]


def test_a_convolution_with_two_poolings_is_written() -> None:
    def build(builder: ModelBuilder, source: str) -> str:
        conv = builder.conv(source, 4, (1, 1))
        return builder.add(*(builder.max_pool(conv, (2, 2), stride=(2, 2)) for _ in range(2)))

    assert labels(build) == ["Conv2D", "MaxPool2D", "MaxPool2D", "Add"]


def test_the_output_is_written_even_if_a_pooling_reads_it() -> None:
    model = model_of(pooled((2, 2), (2, 2)), 9, 9, 3)
    conv = model.operators[0].output
    assert [step.label for step in plan(model, model.operators, conv)] == APART


def test_only_a_convolution_takes_a_pooling_along() -> None:
    def build(builder: ModelBuilder, source: str) -> str:
        deep = builder.depthwise(source, (3, 3))
        first = builder.max_pool(deep, (2, 2), stride=(2, 2))
        return builder.max_pool(first, (2, 2), stride=(2, 2))

    assert labels(build) == ["DepthwiseConv2D", "MaxPool2D", "MaxPool2D"]


def test_a_step_with_pooling_writes_the_pooled_tensor_only() -> None:
    model = model_of(pooled((2, 2), (2, 2)), 9, 9, 3)
    (step,) = steps_of(model)
    assert step.output == model.output
    program = compile_model(model, CONFIG)
    assert set(program.tensors) == {model.input, model.output}
    assert [(layer.op, layer.output) for layer in program.layers] == [("Conv2D+MaxPool2D", model.output)]


def test_pooling_the_way_out_is_clamped_as_both_operators_are() -> None:
    """The maximum of clamped values, clamped again, is the clamped maximum: as the golden model has it in two steps."""
    rng = np.random.default_rng(3)
    seen = set()
    for _ in range(40):
        builder = ModelBuilder(rng)
        conv = builder.conv(builder.input(4, 4, 2), 3, (1, 1))
        model = builder.build(builder.max_pool(conv, (2, 2), stride=(2, 2)))
        (instruction,) = compile_model(model, CONFIG).instructions
        values = rng.integers(-128, 128, (64, 4, 4, 2)).astype(np.int8)
        got = run(model, values)
        assert instruction.clamp_low <= got.min() <= got.max() <= instruction.clamp_high
        seen.add((int(got.min()) == instruction.clamp_low, int(got.max()) == instruction.clamp_high))
    # The limits are reached, so they are not just wide.
    assert (True, True) in seen


# Row pitches


def pitches(build: Build, *shape: int, config: AcceleratorConfig = CONFIG) -> dict[str, int]:
    model = model_of(build, *shape)
    return row_pitches(model, steps_of(model), model.output, config)


def conv(kernel: tuple[int, int], **fields: object) -> Build:
    return lambda builder, source: builder.conv(source, 4, kernel, **fields)


@pytest.mark.parametrize(
    ("build", "shape", "expected"),
    [
        # A run of 3 bytes: the next row's follows in the bank after it, so rows lie 3 apart, modulo 8 lanes.
        (conv((3, 3)), (5, 28, 1), {"input": 35}),
        (conv((3, 3)), (5, 27, 1), {"input": 27}),
        (conv((2, 4)), (5, 8, 1), {"input": 12}),
        (conv((3, 1)), (5, 7, 4), {"input": 28}),
        (conv((3, 3), stride=(2, 2), padding=Padding(1, 1, 1, 1)), (5, 28, 1), {"input": 35}),
        # Five bytes twice are more than the lanes.
        (conv((5, 5)), (8, 28, 1), {}),
        (conv((3, 3)), (5, 28, 3), {}),
        # There is no second row, or it is not the next one.
        (conv((1, 3)), (5, 28, 1), {}),
        (conv((3, 3), dilation=(2, 1)), (9, 28, 1), {}),
        (conv((2, 1), groups=2), (5, 28, 2), {}),
    ],
)
def test_rows_lie_so_that_two_of_them_are_read_at_once(build: Build, shape: tuple[int, ...], expected) -> None:
    found = pitches(build, *shape)
    assert found == expected
    program = compile_model(model_of(build, *shape), CONFIG)
    verify(program)
    assert {bool(instruction.paired_rows) for instruction in program.instructions} == {bool(expected)}
    if expected:
        assert program.input.row_pitch == expected["input"]


@pytest.mark.parametrize(
    ("lanes", "expected"), [(2, {}), (4, {}), (8, {"input": 35}), (16, {"input": 35}), (32, {"input": 35})]
)
def test_lanes_decide_whether_rows_go_together(lanes: int, expected: dict[str, int]) -> None:
    config = AcceleratorConfig(lanes=lanes, columns=2, activation_bytes=1 << 14, weight_bytes=lanes << 10)
    assert pitches(conv((3, 3)), 5, 28, 1, config=config) == expected


def two_readers(other: Build) -> Build:
    def build(builder: ModelBuilder, source: str) -> str:
        return builder.add(builder.mean(builder.conv(source, 1, (3, 3))), builder.mean(other(builder, source)))

    return build


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (lambda builder, source: builder.conv(source, 1, (5, 3)), {"input": 35}),
        (lambda builder, source: builder.conv(source, 1, (7, 7)), {"input": 35}),
        (lambda builder, source: builder.max_pool(source, (2, 2)), {"input": 35}),
        (lambda builder, source: builder.pad(source, Padding(1, 1, 1, 1)), {"input": 35}),
        # Another run wants another pitch.
        (lambda builder, source: builder.conv(source, 1, (2, 2)), {}),
        # These go through all bytes without a step from row to row.
        (lambda builder, source: builder.add(source, source), {}),
        (lambda builder, source: builder.reshape(source, 28, 9, 1), {}),
    ],
)
def test_all_readers_must_take_the_gaps(other: Build, expected: dict[str, int]) -> None:
    build = two_readers(other)
    assert pitches(build, 9, 28, 1) == expected
    verify(compile_model(model_of(build, 9, 28, 1), CONFIG))


def test_a_fully_connected_reader_takes_no_gaps() -> None:
    def build(builder: ModelBuilder, source: str) -> str:
        return builder.add(builder.mean(builder.conv(source, 4, (3, 3))), builder.fully_connected(source, 4))

    assert pitches(build, 9, 28, 1) == {}
    verify(compile_model(model_of(build, 9, 28, 1), CONFIG))


def test_an_output_and_a_reshaped_tensor_have_no_gaps() -> None:
    def reshaped(builder: ModelBuilder, source: str) -> str:
        return builder.conv(builder.reshape(source, 5, 28, 1), 4, (3, 3))

    assert pitches(reshaped, 140) == {}

    def inner(builder: ModelBuilder, source: str) -> str:
        return builder.conv(builder.conv(source, 1, (1, 1)), 4, (3, 3))

    model = model_of(inner, 5, 28, 16)
    middle = model.operators[0].output
    assert row_pitches(model, steps_of(model), model.output, CONFIG) == {middle: 35}
    assert row_pitches(model, steps_of(model), middle, CONFIG) == {}


def test_a_pitched_tensor_takes_its_gaps_in_memory_and_no_more() -> None:
    program = compile_model(model_of(conv((3, 3)), 5, 28, 1), CONFIG)
    assert program.input.size == 4 * 35 + 28
    assert gaps(program) == {"input": 4 * 7}


def gaps(program: Program) -> dict[str, int]:
    sizes = {name: buffer.size - prod(buffer.shape) for name, buffer in program.tensors.items()}
    return {name: size for name, size in sizes.items() if size}


def test_pairing_is_for_runs_of_half_the_lanes() -> None:
    model = model_of(conv((3, 4)), 5, 9, 1)
    (operator,) = model.operators
    assert isinstance(operator, Conv2D)
    assert [pairs_rows(operator, run_bytes, CONFIG) for run_bytes in (1, 4, 5)] == [True, True, False]
    assert not pairs_rows(model_of(pooled((2, 2), (2, 2)), 9, 9, 3).operators[1], 1, CONFIG)
