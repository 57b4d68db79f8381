"""Operators that put values elsewhere, from .tflite files, against the reference kernels."""

from itertools import permutations

import numpy as np
import pytest
from support.executed import outputs
from support.litert import needs_litert
from support.seeds import shown
from support.tflite_files import File, check, everything, kinds, read

from zeropoint import golden
from zeropoint.compiler import compile_model
from zeropoint.compiler.verify_program import verify
from zeropoint.errors import ZeropointError
from zeropoint.model import Concatenation, Pad, Padding, StridedSlice
from zeropoint_hw.config import AcceleratorConfig

DTYPES = ["int8", "uint8"]


def quantized(dtype, scale=0.1, shift=5):
    return {"dtype": dtype.upper(), "scale": scale, "zero_point": 128 * (dtype == "uint8") + shift}


def refused(folder, file, x, y):
    """Return the message with which a file is refused, from the operator on."""
    with pytest.raises(ZeropointError) as caught:
        read(file.build([x], [y]), folder)
    return str(caught.value).partition("model.tflite': ")[2]


# CONCATENATION


@needs_litert
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [1, 2, 3, -1, -3])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_concatenation(tmp_path, dtype, axis, count):
    file = File()
    x = file.tensor("x", (1, 4, 5, 3), **quantized(dtype))
    shape = [1, 4, 5, 3]
    shape[axis] *= count
    y = file.tensor("y", tuple(shape), **quantized(dtype))
    file.operator("CONCATENATION", [x] * count, y, "ConcatenationOptions", Axis=axis)
    model = check(file, x, y, tmp_path, dtype)
    assert model.operators[0] == Concatenation(
        name="concatenation_0", input="x", output="y", others=("x",) * (count - 1), axis=axis % 4 - 1
    )


@needs_litert
def test_concatenation_of_different_sizes_and_of_vectors(tmp_path):
    file = File()
    x, part = file.tensor("x", (1, 12)), file.tensor("part", (1, 5))
    y = file.tensor("y", (1, 17))
    file.operator("SLICE", [x, file.integers([0, 3]), file.integers([1, 5])], part)
    file.operator("CONCATENATION", [part, x], y, "ConcatenationOptions", Axis=1)
    check(file, x, y, tmp_path)


@needs_litert
@pytest.mark.parametrize("seed", range(20))
def test_concatenation_rescales_uint8(tmp_path, seed):
    rng = np.random.default_rng(seed)
    file = File()
    scales = 10 ** rng.uniform(-2, 0, 3)
    zero_points = rng.integers(0, 256, 3).tolist()
    x, a = (
        file.tensor("x", (1, 256), "UINT8", scales[0], zero_points[0]),
        file.tensor("a", (1, 256), "UINT8", scales[1], 9),
    )
    y = file.tensor("y", (1, 512), "UINT8", max(scales[:2]) * rng.uniform(0.3, 3), zero_points[2])
    file.operator("QUANTIZE", [x], a)
    file.operator("CONCATENATION", [a, x], y, "ConcatenationOptions", Axis=1)
    check(file, x, y, tmp_path, "uint8")


def concatenated(shapes, axis, fused=0):
    file = File()
    x = file.tensor("x", shapes[0])
    inputs = [x]
    for shape in shapes[1:]:
        inputs.append(file.tensor("r", shape))
        file.operator("RESHAPE", [x, file.integers(shape)], inputs[-1])
    y = file.tensor("y", (1, 1))
    file.operator("CONCATENATION", inputs, y, "ConcatenationOptions", Axis=axis, FusedActivationFunction=fused)
    return file, x, y


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([(1, 8), (1, 8)], 0), "puts (1, 8), (1, 8) together along dimension 0, which is not supported"),
        (([(1, 8), (1, 8)], 2), "puts (1, 8), (1, 8) together along dimension 2, which is not supported"),
        (([(1, 8), (1, 8, 1)], 1), "puts (1, 8), (1, 8, 1) together along dimension 1, which is not supported"),
        (([(1, 8, 1), (1, 4, 2)], 1), "the inputs must have the same sizes but for dimension 0, not ((8, 1), (4, 2))"),
        (([(1, 8), (1, 8)], 1, 1), "has a fused activation, which TensorFlow Lite does not know"),
    ],
)
def test_concatenations_that_are_refused(tmp_path, arguments, message):
    file, x, y = concatenated(*arguments)
    assert refused(tmp_path, file, x, y) == f"operator 1 (CONCATENATION), output 'y': {message}"


def test_concatenation_of_int8_is_not_rescaled(tmp_path):
    file = File()
    x, y = file.tensor("x", (1, 8), scale=0.1), file.tensor("y", (1, 16), scale=0.2)
    file.operator("CONCATENATION", [x, x], y, "ConcatenationOptions", Axis=1)
    assert refused(tmp_path, file, x, y) == (
        "operator 'concatenation_0' (Concatenation): input 'x' must have the scale and zero point of 'y'"
    )


# Slices


def sliced(begin, end, stride, output, shape=(1, 6, 7, 3), **masks):
    file = File()
    x, y = file.tensor("x", shape), file.tensor("y", output)
    limits = [file.integers(values) for values in (begin, end, stride)]
    file.operator("STRIDED_SLICE", [x, *limits], y, "StridedSliceOptions", **masks)
    return file, x, y


def random_slice(rng):
    """Return the arguments of a random slice that takes something, with its output's shape."""
    shape = (1, *rng.integers(1, 8, int(rng.integers(1, 4))).tolist())
    while True:
        entries = int(rng.integers(1, len(shape) + 1))
        begin, end = rng.integers(-9, 10, (2, entries)).tolist()
        stride = rng.choice([-2, -1, 1, 1, 1, 2, 3], entries).tolist()
        masks = {name: int(rng.integers(1 << entries)) for name in ("BeginMask", "EndMask")}
        masks["ShrinkAxisMask"] = int(rng.integers(1 << entries)) & int(rng.integers(1 << entries)) & ~1
        # The batch is taken whole.
        masks["BeginMask"], masks["EndMask"], stride[0] = masks["BeginMask"] | 1, masks["EndMask"] | 1, 1
        index = []
        for axis in range(entries):
            first = None if masks["BeginMask"] >> axis & 1 else begin[axis]
            last = None if masks["EndMask"] >> axis & 1 else end[axis]
            if masks["ShrinkAxisMask"] >> axis & 1:
                if not 0 <= begin[axis] < shape[axis]:
                    break
                index.append(begin[axis])
                # The kernel looks at the stride all the same.
                stride[axis] = 1
                masks["BeginMask"] &= ~(1 << axis)
            else:
                index.append(slice(first, last, stride[axis]))
        else:
            output = np.zeros(shape)[tuple(index)].shape
            if 0 not in output:
                return (begin, end, stride, output, shape), masks


@needs_litert
@pytest.mark.parametrize("seed", range(60))
def test_random_slices(tmp_path, seed):
    arguments, masks = random_slice(np.random.default_rng(seed))
    check(*sliced(*arguments, **masks), tmp_path)


@needs_litert
@pytest.mark.slow
def test_many_random_slices(tmp_path):
    for seed in shown(range(100, 1100)):
        test_random_slices(tmp_path, seed)


@needs_litert
@pytest.mark.parametrize(
    ("arguments", "masks"),
    [
        # x[..., 1:3], x[:, 2, ...], x[:, :, newaxis, 1:3], x[:, -1]
        (([0, 1], [0, 3], [1, 1], (1, 6, 7, 2)), {"EllipsisMask": 1}),
        (
            ([0, 2, 0], [0, 3, 0], [1, 1, 1], (1, 7, 3)),
            {"BeginMask": 1, "EndMask": 1, "ShrinkAxisMask": 2, "EllipsisMask": 4},
        ),
        (([0, 0, 0, 1], [0, 0, 0, 3], [1, 1, 1, 1], (1, 6, 1, 2, 3)), {"BeginMask": 3, "EndMask": 3, "NewAxisMask": 4}),
        (([0, -1], [0, 0], [1, 1], (1, 7, 3)), {"BeginMask": 1, "EndMask": 1, "ShrinkAxisMask": 2}),
        (([0, 100], [0, -100], [1, -1], (1, 6, 7, 3)), {"BeginMask": 1, "EndMask": 1}),
    ],
)
def test_ellipses_new_axes_and_ends_out_of_range(tmp_path, arguments, masks):
    check(*sliced(*arguments, **masks), tmp_path)


@needs_litert
def test_a_slice_of_everything_is_a_reshape(tmp_path):
    model = check(*sliced([0, 0], [1, 6], [1, 1], (1, 6, 7, 3)), tmp_path)
    assert kinds(model) == ["Reshape"]


@needs_litert
@pytest.mark.parametrize("size", [[1, 2, -1, 2], [-1, 2, 4, 2]])
def test_slice_by_begin_and_size(tmp_path, size):
    file = File()
    x, y = file.tensor("x", (1, 6, 7, 3)), file.tensor("y", (1, 2, 4, 2))
    file.operator("SLICE", [x, file.integers([0, 3, 3, 1], "INT64"), file.integers(size, "INT64")], y)
    model = check(file, x, y, tmp_path)
    assert model.operators == (
        StridedSlice(name="slice_0", input="x", output="y", begin=(3, 3, 1), stride=(1, 1, 1), shape=(2, 4, 2)),
    )


@needs_litert
@pytest.mark.parametrize(("axis", "count"), [(1, 2), (1, 6), (2, 7), (3, 3), (-1, 3), (3, 1)])
def test_split(tmp_path, axis, count):
    file = File()
    x = file.tensor("x", (1, 6, 7, 3))
    shape = [1, 6, 7, 3]
    shape[axis] //= count
    parts = [file.tensor(f"part{index}", tuple(shape)) for index in range(count)]
    y = file.tensor("y", (1, 6, 7, 3))
    file.operator("SPLIT", [file.integers(axis), x], parts, "SplitOptions", NumSplits=count)
    file.operator("CONCATENATION", parts[::-1], y, "ConcatenationOptions", Axis=axis)
    check(file, x, y, tmp_path)


@needs_litert
@pytest.mark.parametrize("sizes", [[1, 2, 3], [2, -1, 3], [4, 1, 1]])
def test_split_by_sizes(tmp_path, sizes):
    file = File()
    x, y = file.tensor("x", (1, 6, 7, 3)), file.tensor("y", (1, 6, 7, 3))
    found = [6 - 1 - sum(sizes) if size == -1 else size for size in sizes]
    parts = [file.tensor(f"part{index}", (1, size, 7, 3)) for index, size in enumerate(found)]
    file.operator("SPLIT_V", [x, file.integers(sizes), file.integers(1)], parts, "SplitVOptions", NumSplits=3)
    file.operator("CONCATENATION", parts[::-1], y, "ConcatenationOptions", Axis=1)
    check(file, x, y, tmp_path)


@needs_litert
def test_parts_that_nothing_reads_are_left_out(tmp_path):
    file = File()
    x = file.tensor("x", (1, 6))
    parts = [file.tensor(f"part{index}", (1, 2)) for index in range(3)]
    file.operator("SPLIT", [file.integers(1), x], parts, "SplitOptions", NumSplits=3)
    model = check(file, x, parts[1], tmp_path)
    assert [operator.output for operator in model.operators] == ["part1"]


@pytest.mark.parametrize(
    ("kind", "constants", "message"),
    [
        ("STRIDED_SLICE", [[0, 9], [1, 12], [1, 1]], "takes nothing of (1, 8)"),
        ("STRIDED_SLICE", [[0, 0], [1, 8], [1, 0]], "has a stride of 0"),
        ("STRIDED_SLICE", [[0, 0, 0], [1, 8, 1], [1, 1, 1]], "slices (1, 8) by [0, 0, 0], [1, 8, 1] and [1, 1, 1]"),
        ("STRIDED_SLICE", [[0, 0], [1], [1, 1]], "slices (1, 8) by [0, 0], [1] and [1, 1]"),
        ("SLICE", [[0, 0], [1, 9]], "takes [1, 9] from [0, 0] of (1, 8)"),
        ("SLICE", [[0, -1], [1, 1]], "takes [1, 1] from [0, -1] of (1, 8)"),
        ("SLICE", [[0, 8], [1, -1]], "takes nothing of (1, 8)"),
        ("SLICE", [[0, 2**62], [1, 2**62]], f"takes [1, {2**62}] from [0, {2**62}] of (1, 8)"),
        ("SLICE", [[0], [1]], "takes [1] from [0] of (1, 8)"),
        ("SPLIT_V", [[8], [2]], "splits dimension [2] of (1, 8)"),
        ("SPLIT_V", [[9], [1]], "splits dimension 1 of (1, 8) into 1 parts of [9]"),
        ("SPLIT_V", [[4, 4], [1]], "splits dimension 1 of (1, 8) into 1 parts of [4, 4]"),
    ],
)
def test_slices_that_are_refused(tmp_path, kind, constants, message):
    file = File()
    x, y = file.tensor("x", (1, 8)), file.tensor("y", (1, 8))
    options = "StridedSliceOptions" if kind == "STRIDED_SLICE" else None
    file.operator(kind, [x, *(file.integers(values, "INT64") for values in constants)], y, options)
    assert refused(tmp_path, file, x, y) == f"operator 0 ({kind}), output 'y': {message}"


# TRANSPOSE


@needs_litert
@pytest.mark.parametrize("order", [*permutations(range(4)), (0, 2, 1), (1, 0, 2), (1, 0)])
def test_transpose(tmp_path, order):
    shape = (1, 4, 5, 3)[: len(order)]
    file = File()
    x, y = file.tensor("x", shape), file.tensor("y", tuple(shape[axis] for axis in order))
    file.operator("TRANSPOSE", [x, file.integers(order)], y, "TransposeOptions")
    model = check(file, x, y, tmp_path)
    moved = [axis for axis in order if axis]
    assert "Transpose" in kinds(model) or moved == sorted(moved)


@needs_litert
def test_transpositions_of_sizes_of_one_are_reshapes(tmp_path):
    file = File()
    x, y = file.tensor("x", (1, 1, 5, 3)), file.tensor("y", (1, 5, 1, 3))
    file.operator("TRANSPOSE", [x, file.integers([0, 2, 1, 3])], y, "TransposeOptions")
    assert kinds(check(file, x, y, tmp_path)) == ["Reshape"]


def test_transpositions_that_are_none(tmp_path):
    file = File()
    x, y = file.tensor("x", (1, 4)), file.tensor("y", (1, 4))
    file.operator("TRANSPOSE", [x, file.integers([0, 2])], y)
    assert refused(tmp_path, file, x, y).endswith("puts the dimensions of (1, 4) in the order (0, 2)")


# RESIZE_NEAREST_NEIGHBOR


def resized(size, output=None, **options):
    file = File()
    x, y = file.tensor("x", (1, 5, 7, 3)), file.tensor("y", output or (1, *size, 3))
    file.operator("RESIZE_NEAREST_NEIGHBOR", [x, file.integers(size)], y, "ResizeNearestNeighborOptions", **options)
    return file, x, y


@needs_litert
@pytest.mark.parametrize("size", [(5, 7), (10, 14), (1, 1), (2, 3), (3, 1), (9, 16), (31, 50), (4, 100), (15, 21)])
@pytest.mark.parametrize("options", [{}, {"AlignCorners": True}, {"HalfPixelCenters": True}])
def test_resize(tmp_path, size, options):
    check(*resized(size, **options), tmp_path)


@needs_litert
@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"AlignCorners": True}, {"HalfPixelCenters": True}])
def test_resize_to_every_size(tmp_path, options):
    for height in range(1, 140):
        check(*resized((height, 140 - height), **options), tmp_path)


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        ((5, 7), {"AlignCorners": True, "HalfPixelCenters": True},
         "corners cannot be aligned where pixels have half-integer centers"),
        ((5,), {}, "resizes to [5], which must be a height and a width"),
        ((-1, 7), {}, "the size must be positive and give 268435456 pixels at most, not (-1, 7)"),
        ((1 << 30, 1 << 30), {},
         "the size must be positive and give 268435456 pixels at most, not (1073741824, 1073741824)"),
        ((1 << 14, 1 << 13), {}, "gives an output of shape (1, 16384, 8192, 3); 268435456 elements at most"),
    ],
)  # fmt: skip
def test_sizes_that_are_refused(tmp_path, size, options, message):
    found = refused(tmp_path, *resized(size, (1, 5, 7, 3), **options))
    assert found == f"operator 0 (RESIZE_NEAREST_NEIGHBOR), output 'y': {message}"


# PADV2


def padded(value, output=(1, 7, 9, 3), **changes):
    file = File()
    x, y = file.tensor("x", (1, 4, 5, 3), zero_point=-9), file.tensor("y", output, zero_point=-9)
    constant = file.tensor("value", **{"shape": (1,), "zero_point": -9, "data": value} | changes)
    amounts = file.integers([(0, 0), (1, 2), (3, 1), (0, 0)])
    file.operator("PADV2", [x, amounts, constant], y, "PadV2Options")
    return file, x, y


@needs_litert
@pytest.mark.parametrize("value", [-128, -9, 0, 127])
@pytest.mark.parametrize("shape", [(1,), ()])
def test_padding_with_a_value(tmp_path, value, shape):
    model = check(*padded(np.full(shape, value), shape=shape), tmp_path)
    assert model.operators == (Pad(name="padv2_0", input="x", output="y", padding=Padding(1, 2, 3, 1), value=value),)


@pytest.mark.parametrize(
    ("value", "changes", "message"),
    [
        ([5], {"scale": 0.2}, "pads with 'value', which must have the scale and zero point of its input"),
        ([5], {"zero_point": 0}, "pads with 'value', which must have the scale and zero point of its input"),
        ([5, 5], {"shape": (2,)}, "pads with 'value', which must be one value of int8"),
        ([5], {"dtype": "UINT8"}, "pads with 'value', which must be one value of int8"),
    ],
)
def test_values_that_are_refused(tmp_path, value, changes, message):
    found = refused(tmp_path, *padded(value, **changes))
    assert found == f"operator 0 (PADV2), output 'y': {message}"


# Together


@needs_litert
def test_a_network_that_splits_moves_and_joins(tmp_path):
    """What a feature pyramid does, in small."""
    file = File()
    x = file.tensor("x", (1, 4, 6, 8), scale=0.05, zero_point=-3)
    halves = [file.tensor(name, (1, 4, 6, 4), scale=0.05, zero_point=-3) for name in "ab"]
    small = file.tensor("small", (1, 2, 3, 4), scale=0.05, zero_point=-3)
    large = file.tensor("large", (1, 4, 6, 4), scale=0.05, zero_point=-3)
    joined = file.tensor("joined", (1, 4, 6, 8), scale=0.05, zero_point=-3)
    turned = file.tensor("turned", (1, 8, 4, 6), scale=0.05, zero_point=-3)
    y = file.tensor("y", (1, 8, 4, 6), scale=0.1, zero_point=-100)
    file.operator("SPLIT", [file.integers(3), x], halves, "SplitOptions", NumSplits=2)
    window = {"Padding": 1, "StrideH": 2, "StrideW": 2, "FilterHeight": 2, "FilterWidth": 2}
    file.operator("MAX_POOL_2D", [halves[0]], small, "Pool2DOptions", **window)
    file.operator("RESIZE_NEAREST_NEIGHBOR", [small, file.integers([4, 6])], large, "ResizeNearestNeighborOptions")
    file.operator("CONCATENATION", [large, halves[1]], joined, "ConcatenationOptions", Axis=3)
    file.operator("TRANSPOSE", [joined, file.integers([0, 3, 1, 2])], turned, "TransposeOptions")
    file.operator("LEAKY_RELU", [turned], y, "LeakyReluOptions", Alpha=0.1)
    check(file, x, y, tmp_path, x=everything((4, 6, 8), count=20))


@needs_litert
@pytest.mark.parametrize(
    "made",
    [padded([5]), resized((5, 14)), sliced([0, 1], [1, 3], [1, 1], (1, 2, 7, 3))],
    ids=["pad", "resize", "slice"],
)
def test_what_is_imported_can_be_compiled(tmp_path, made):
    model = check(*made, tmp_path)
    program = compile_model(model, AcceleratorConfig())
    verify(program)
    values = everything(model.tensor(model.input).shape)[:1]
    np.testing.assert_array_equal(outputs(program, values[0]), golden.run(model, values)[0])


def test_the_hardware_runs_concatenations_that_change_scales(tmp_path):
    file = File()
    x = file.tensor("x", (1, 8), dtype="UINT8", scale=0.1, zero_point=5)
    y = file.tensor("y", (1, 16), dtype="UINT8", scale=0.2, zero_point=5)
    file.operator("CONCATENATION", [x, x], y, "ConcatenationOptions", Axis=1)
    model = check(file, x, y, tmp_path, "uint8")
    program = compile_model(model, AcceleratorConfig())
    verify(program)
    values = everything((8,), "uint8")
    for value, expected in zip(values, golden.run(model, values), strict=True):
        np.testing.assert_array_equal(outputs(program, value), expected)
