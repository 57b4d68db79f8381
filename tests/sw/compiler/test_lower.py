"""The instructions of a layer take as few array cycles as they should, and compute what the golden model does."""

from collections.abc import Callable
from dataclasses import replace
from math import prod

import numpy as np
import pytest
from support.executed import outputs
from support.random_models import ModelBuilder

from zeropoint.compiler.compile import compile_model
from zeropoint.compiler.verify_program import verify
from zeropoint.errors import ZeropointError
from zeropoint.golden import run
from zeropoint.model import Padding, QuantizedModel
from zeropoint_hw.config import AcceleratorConfig, PEKind
from zeropoint_hw.isa import Instruction

Build = Callable[[ModelBuilder, str], str]

CONFIG = AcceleratorConfig(requantizers=4)
SAME = Padding(1, 1, 1, 1)


def model_of(build: Build, *shape: int, seed: int = 0, weight_zero_points: bool = False) -> QuantizedModel:
    builder = ModelBuilder(np.random.default_rng(seed), weight_zero_points=weight_zero_points)
    return builder.build(build(builder, builder.input(*shape)))


def instructions(build: Build, *shape: int, config: AcceleratorConfig = CONFIG) -> tuple[Instruction, ...]:
    program = compile_model(model_of(build, *shape), config)
    verify(program)
    return program.instructions


def array_cycles(found: tuple[Instruction, ...], lanes: int = 8) -> int:
    """Return the array cycles of instructions, which is the product of each one's loop counts."""
    return sum(
        prod((i.groups, i.rows, i.columns, i.pool_rows, i.pool_columns, i.taps_y, i.taps_x, -(-i.run // lanes)))
        for i in found
    )


def depthwise(kernel: tuple[int, int], multiplier: int = 1, **fields: object) -> Build:
    return lambda builder, source: builder.depthwise(source, kernel, multiplier, **fields)


def conv(channels: int, kernel: tuple[int, int], **fields: object) -> Build:
    return lambda builder, source: builder.conv(source, channels, kernel, **fields)


# Array cycles


@pytest.mark.parametrize(
    ("build", "shape", "cycles"),
    [
        # Chunks of eight bytes of a kernel row's 3 · 16.
        (conv(8, (3, 3), padding=SAME), (10, 10, 16), 100 * 3 * 6),
        (conv(9, (3, 3), padding=SAME), (10, 10, 16), 2 * 100 * 3 * 6),
        (conv(8, (1, 1)), (10, 10, 16), 100 * 2),
        # A dilation leaves a run for each tap.
        (conv(8, (3, 3), dilation=(1, 2)), (10, 10, 4), 8 * 6 * 3 * 3),
        # Each half of the channels is an instruction.
        (conv(4, (3, 3), groups=2), (10, 10, 16), 2 * 64 * 3 * 3),
        # First layers: two kernel rows of three bytes at a time; three rows of nine bytes in two chunks each.
        (conv(8, (3, 3), padding=SAME), (28, 28, 1), 28 * 28 * 2),
        (conv(8, (2, 4)), (28, 28, 1), 27 * 25 * 1),
        (conv(8, (5, 3)), (28, 28, 1), 24 * 26 * 3),
        (conv(8, (3, 3), padding=SAME), (28, 28, 3), 28 * 28 * 3 * 2),
        (lambda builder, source: builder.fully_connected(source, 17), (100,), 3 * 13),
        # Each tap is a cycle for eight channels.
        (lambda builder, source: builder.max_pool(source, (3, 2)), (6, 6, 16), 2 * 4 * 5 * 6),
    ],
)
def test_array_cycles_of_a_layer(build: Build, shape: tuple[int, ...], cycles: int) -> None:
    assert array_cycles(instructions(build, *shape)) == cycles


def sweeps(
    kernel: tuple[int, int], size: tuple[int, int, int], config: AcceleratorConfig = CONFIG, **fields: object
) -> tuple[int, int, int, int, int]:
    """Return how a depthwise layer's one instruction goes about it, and its array cycles."""
    (only,) = found = instructions(depthwise(kernel, **fields), *size, config=config)
    return only.window, only.swap_axes, only.warmup, only.emit_every, array_cycles(found, config.lanes)


def test_a_depthwise_kernel_of_three_by_three_takes_three_cycles_for_an_output_of_eight_channels() -> None:
    # One more position a row brings the first output's older taps.
    assert sweeps((3, 3), (24, 24, 8), padding=SAME) == (1, 0, 1, 1, 24 * 25 * 3)
    assert sweeps((3, 3), (24, 24, 20), padding=SAME) == (1, 0, 1, 1, 3 * 24 * 25 * 3)
    # All older taps of the first output lie in padding: no position without output.
    assert sweeps((3, 3), (24, 24, 8), padding=Padding(0, 0, 2, 0)) == (1, 0, 0, 1, 22 * 24 * 3)


def test_a_window_slides_along_the_axis_that_costs_less() -> None:
    assert sweeps((3, 3), (30, 10, 8), padding=SAME) == (1, 1, 1, 1, 10 * 31 * 3)
    assert sweeps((3, 3), (10, 30, 8), padding=SAME) == (1, 0, 1, 1, 10 * 31 * 3)
    assert sweeps((3, 1), (10, 10, 8)) == (1, 1, 2, 1, 10 * 10 * 1)
    assert sweeps((1, 3), (10, 10, 8)) == (1, 0, 2, 1, 10 * 10 * 1)
    # Strides: all columns are read, but only every second row.
    assert sweeps((3, 3), (9, 9, 8), stride=(2, 1)) == (1, 0, 2, 1, 4 * 9 * 3)
    assert sweeps((3, 3), (9, 9, 8), stride=(1, 2)) == (1, 1, 2, 1, 4 * 9 * 3)
    assert sweeps((3, 3), (9, 9, 8), stride=(2, 2)) == (1, 0, 2, 2, 4 * 9 * 3)
    # Dilated along its rows, it still slides down.
    assert sweeps((3, 3), (9, 9, 8), dilation=(1, 2)) == (1, 1, 2, 1, 5 * 9 * 3)


def test_more_taps_than_the_window_take_more_words_a_position() -> None:
    # Five taps take two words of three taps each, for each of five rows across.
    assert sweeps((5, 5), (12, 12, 8), padding=Padding(2, 2, 2, 2)) == (1, 0, 2, 1, 12 * 14 * 5 * 2)
    wide = replace(CONFIG, window_taps=5)
    assert sweeps((5, 5), (12, 12, 8), wide, padding=Padding(2, 2, 2, 2)) == (1, 0, 2, 1, 12 * 14 * 5)


@pytest.mark.parametrize(
    ("config", "kernel", "fields"),
    [
        (replace(CONFIG, window_taps=1), (3, 3), {}),
        (CONFIG, (3, 3), {"dilation": (2, 2)}),
        (CONFIG, (1, 1), {}),
        (CONFIG, (3, 3), {"stride": (9, 9)}),
    ],
)
def test_whole_windows_are_read_where_sliding_is_impossible_or_takes_longer(
    config: AcceleratorConfig, kernel: tuple[int, int], fields: dict[str, tuple[int, int]]
) -> None:
    (only,) = instructions(depthwise(kernel, **fields), 12, 12, 8, config=config)
    assert (only.window, only.swap_axes, only.warmup, only.emit_every) == (0, 0, 0, 1)
    assert only.taps_y * only.taps_x == prod(kernel)


def test_fold_slides_only_where_weights_have_no_zero_point() -> None:
    fold = replace(CONFIG, pe=PEKind.FOLD)
    for zero_points, window in ((False, 1), (True, 0)):
        model = model_of(depthwise((3, 3)), 12, 12, 8, weight_zero_points=zero_points)
        assert [i.window for i in compile_model(model, fold).instructions] == [window]
        assert [i.window for i in compile_model(model, CONFIG).instructions] == [1]


def test_a_depth_multiplier_reads_whole_windows() -> None:
    (only,) = instructions(depthwise((3, 3), 2), 12, 12, 8)
    assert (only.window, only.groups, only.run) == (0, 2, 4)
    # Three does not divide eight columns: a convolution for each channel.
    assert len(instructions(depthwise((3, 3), 3), 12, 12, 5)) == 5


def test_pooling_on_the_way_out_takes_no_cycles_of_its_own() -> None:
    def build(builder: ModelBuilder, source: str) -> str:
        return builder.max_pool(builder.conv(source, 8, (3, 3), padding=SAME), (2, 2), stride=(2, 2))

    model = model_of(build, 10, 11, 8)
    (fused,) = compile_model(model, CONFIG).instructions
    convolution, pooling = compile_model(model, CONFIG, fuse=False).instructions
    assert (fused.rows, fused.columns, fused.pool_rows, fused.pool_columns) == (5, 5, 2, 2)
    # The last column, which no window takes, is not computed.
    assert array_cycles((fused,)) == 10 * 10 * 9
    assert array_cycles((convolution, pooling)) == 10 * 11 * 9 + 25 * 4


@pytest.mark.parametrize(
    ("build", "shape", "idle"),
    [
        (conv(8, (1, 1)), (4, 4, 8), 3),
        (conv(8, (1, 1)), (4, 4, 17), 1),
        (conv(8, (1, 1)), (4, 4, 32), 0),
        (conv(2, (1, 1)), (4, 4, 8), 0),
        # A window's positions without output are time to drain.
        (depthwise((1, 3), stride=(1, 2)), (4, 9, 8), 2),
        (depthwise((1, 2), stride=(1, 2), padding=Padding(0, 0, 1, 0)), (4, 9, 8), 3),
    ],
)
def test_idle_cycles_let_the_drain_keep_up(build: Build, shape: tuple[int, ...], idle: int) -> None:
    config = AcceleratorConfig(requantizers=2)
    assert [i.idle for i in instructions(build, *shape, config=config)] == [idle]


def test_a_kernel_beyond_the_instruction_is_refused_by_name() -> None:
    model = model_of(conv(1, (1, 4097), dilation=(1, 2)), 1, 8193, 1)
    config = AcceleratorConfig(weight_bytes=1 << 20)
    with pytest.raises(ZeropointError, match=r"^operator 'conv2d_0' \(Conv2D\) is too large: .*taps_x holds 0 to 4095"):
        compile_model(model, config)


# What they compute


LAYERS: dict[str, tuple[Build, tuple[int, ...]]] = {
    "paired rows": (conv(3, (3, 2), padding=SAME), (5, 6, 1)),
    "pairs of even rows": (conv(2, (4, 2), stride=(2, 1)), (8, 5, 1)),
    "pooled": (
        lambda b, x: b.max_pool(b.conv(x, 5, (3, 3), padding=SAME), (2, 3), stride=(2, 3)),
        (5, 7, 2),
    ),
    "paired and pooled": (
        lambda b, x: b.max_pool(b.conv(x, 3, (2, 2), padding=SAME), (2, 2), stride=(2, 2)),
        (5, 6, 2),
    ),
    "along rows": (depthwise((3, 3), padding=SAME), (4, 7, 5)),
    "down": (depthwise((3, 3), padding=SAME), (7, 4, 5)),
    "along with stride": (depthwise((2, 3), stride=(1, 2), padding=Padding(0, 1, 2, 1)), (3, 8, 3)),
    "down with stride": (depthwise((2, 1), stride=(2, 1), padding=Padding(1, 0, 0, 0)), (7, 3, 9)),
    "parts": (depthwise((4, 5), padding=Padding(1, 2, 2, 1)), (5, 6, 3)),
    "pitched, pooled again": (
        lambda b, x: b.max_pool(b.depthwise(b.conv(x, 1, (1, 1)), (3, 3)), (2, 2)),
        (6, 7, 1),
    ),
}
CONFIGS = {
    "8x8": replace(CONFIG, requantizers=2),
    "fold": replace(CONFIG, pe=PEKind.FOLD, columns=4),
    "narrow": AcceleratorConfig(lanes=4, columns=8, window_taps=2),
    "no window": replace(CONFIG, window_taps=1),
    "four taps": replace(CONFIG, window_taps=4),
}


@pytest.mark.parametrize("config", list(CONFIGS.values()), ids=list(CONFIGS))
@pytest.mark.parametrize("layer", list(LAYERS))
@pytest.mark.parametrize("weight_zero_points", [False, True], ids=["symmetric", "asymmetric"])
def test_instructions_compute_what_the_golden_model_does(
    layer: str, config: AcceleratorConfig, weight_zero_points: bool
) -> None:
    build, shape = LAYERS[layer]
    model = model_of(build, *shape, seed=len(layer), weight_zero_points=weight_zero_points)
    values = np.random.default_rng(1).integers(-128, 128, shape).astype(np.int8)
    golden = run(model, values[None])[0]
    for fuse in (True, False):
        program = compile_model(model, config, fuse)
        verify(program)
        np.testing.assert_array_equal(outputs(program, values), golden)


@pytest.mark.parametrize(
    ("layer", "change"),
    [
        ("paired rows", {"pair_step": 0}),
        ("pooled", {"x_pool_step": 0}),
        ("pooled", {"input_pool_step": 0}),
        ("along rows", {"warmup": 0, "columns": 7}),
        ("down", {"swap_axes": 0}),
        ("down", {"window": 0}),
    ],
)
def test_a_wrong_field_is_noticed(layer: str, change: dict[str, int]) -> None:
    build, shape = LAYERS[layer]
    model = model_of(build, *shape)
    values = np.random.default_rng(1).integers(-128, 128, shape).astype(np.int8)
    program = compile_model(model, CONFIGS["8x8"])
    wrong = replace(program, instructions=(replace(program.instructions[0], **change),))
    with pytest.raises(AssertionError, match="Mismatched elements"):
        np.testing.assert_array_equal(outputs(wrong, values), run(model, values[None])[0])
