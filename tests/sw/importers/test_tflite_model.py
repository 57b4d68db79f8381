"""Single operators and small networks from .tflite files, every tensor against the reference kernels."""

from pathlib import Path

import numpy as np
import pytest
from support import operators
from support.litert import needs_litert, to_tflite
from support.seeds import shown
from support.tflite_files import (
    NONE,
    RELU,
    RELU6,
    SAME,
    VALID,
    File,
    assert_same_as_oracle,
    check,
    everything,
    kinds,
    oracle,
    read,
)

from zeropoint.golden import run
from zeropoint.importers import load
from zeropoint.importers.tflite_translate import HANDLERS
from zeropoint.model import Clamp, Conv2D, FullyConnected, Padding, Requantize, zp_file

DTYPES = ["int8", "uint8"]
WINDOW = {"Padding": VALID, "StrideH": 1, "StrideW": 1, "FusedActivationFunction": NONE}


def built(file, source, output):
    return file.build([source], [output])


def conv_weights(file, shape, per_channel=True, source=0.1, seed=0):
    """Add weights and a bias for an input of the scale ``source``."""
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0.002, 0.01, shape[0] if per_channel else 1)
    data = rng.integers(-127, 128, shape)
    weights = file.tensor("w", shape, "INT8", scale, data=data)
    bias = file.tensor("b", shape[:1], "INT32", scale * source, data=rng.integers(-3000, 3000, shape[0]))
    return weights, bias


# Every operator of the generators


@needs_litert
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", operators.GENERATORS)
def test_random_models(tmp_path, name, dtype, seed):
    rng = np.random.default_rng([seed, 77, *name.encode()])
    original = operators.GENERATORS[name](rng, dtype)
    content = to_tflite(original, 1)
    model = read(content, tmp_path)
    x = operators.samples(rng, model, 4)
    assert_same_as_oracle(model, content, x)
    np.testing.assert_array_equal(run(model, x), run(original, x))


@needs_litert
@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", operators.GENERATORS)
def test_many_random_models(tmp_path, name, dtype):
    for seed in shown(range(1000, 1200)):
        test_random_models(tmp_path, name, dtype, seed)


# What becomes of each operator


@needs_litert
@pytest.mark.parametrize("axes", [[1, 2], [2, 1], [-2, -3], [1, -2]])
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_mean_over_height_and_width(tmp_path, axes, keep, dtype):
    file = File()
    middle = 128 * (dtype == "uint8")
    x = file.tensor("x", (1, 5, 7, 3), dtype.upper(), 0.05, middle + 3)
    y = file.tensor("y", (1, 1, 1, 3) if keep else (1, 3), dtype.upper(), 0.03, middle - 5)
    file.operator("MEAN", [x, file.integers(axes)], y, "ReducerOptions", KeepDims=keep)
    model = check(file, x, y, tmp_path, dtype)
    assert kinds(model) == ["Mean", "Reshape"] if keep else ["Mean"]
    assert model.tensor("y").shape == ((1, 1, 3) if keep else (3,))


@needs_litert
@pytest.mark.parametrize("keep", [False, True])
def test_mean_over_the_length_of_a_sequence(tmp_path, keep):
    file = File()
    x, y = file.tensor("x", (1, 40, 3), scale=0.05), file.tensor("y", (1, 1, 3) if keep else (1, 3), scale=0.02)
    file.operator("MEAN", [x, file.integers([1])], y, "ReducerOptions", KeepDims=keep)
    model = check(file, x, y, tmp_path)
    assert kinds(model)[:2] == ["Reshape", "Mean"]


@needs_litert
def test_mean_then_a_fully_connected_layer_reads_the_kept_dimensions(tmp_path):
    file = File()
    x, mean = file.tensor("x", (1, 5, 7, 3), scale=0.05), file.tensor("mean", (1, 1, 1, 3), scale=0.03)
    y = file.tensor("y", (1, 4), scale=0.02)
    file.operator("MEAN", [x, file.integers([1, 2])], mean, "ReducerOptions", KeepDims=True)
    weights = conv_weights(file, (4, 3), False, source=0.03)
    file.operator("FULLY_CONNECTED", [mean, *weights], y, "FullyConnectedOptions")
    check(file, x, y, tmp_path)


@needs_litert
@pytest.mark.parametrize(("stride", "dilation", "padding"), [(1, 1, SAME), (2, 1, VALID), (1, 3, SAME), (3, 1, SAME)])
def test_convolution_of_a_sequence(tmp_path, stride, dilation, padding):
    length = {VALID: -(-(31 - 4) // stride), SAME: -(-31 // stride)}[padding]
    file = File()
    x, image = file.tensor("x", (1, 31, 3)), file.tensor("image", (1, 1, 31, 3))
    conv, y = file.tensor("conv", (1, 1, length, 6), scale=0.05), file.tensor("y", (1, length, 6), scale=0.05)
    file.operator("EXPAND_DIMS", [x, file.integers(1)], image, "ExpandDimsOptions")
    fields = WINDOW | {"Padding": padding, "StrideW": stride, "DilationWFactor": dilation}
    file.operator("CONV_2D", [image, *conv_weights(file, (6, 1, 5, 3))], conv, "Conv2DOptions", **fields)
    file.operator("SQUEEZE", [conv], y, "SqueezeOptions", SqueezeDims=np.array([1], np.int32))
    model = check(file, x, y, tmp_path)
    assert kinds(model) == ["Reshape", "Conv2D", "Reshape"]
    assert [tensor.shape for tensor in model.activations()] == [(31, 3), (1, 31, 3), (1, length, 6), (length, 6)]


@needs_litert
@pytest.mark.parametrize("dtype", ["INT32", "INT64"])
def test_padding_of_maps_and_sequences(tmp_path, dtype):
    file = File()
    x, y = file.tensor("x", (1, 4, 5, 3), zero_point=-9), file.tensor("y", (1, 7, 9, 3), zero_point=-9)
    file.operator("PAD", [x, file.integers([(0, 0), (1, 2), (3, 1), (0, 0)], dtype)], y, "PadOptions")
    model = check(file, x, y, tmp_path)
    assert model.operators[0].padding == Padding(1, 2, 3, 1)
    file = File()
    x, y = file.tensor("x", (1, 20, 3), zero_point=5), file.tensor("y", (1, 24, 3), zero_point=5)
    file.operator("PAD", [x, file.integers([(0, 0), (4, 0), (0, 0)], dtype)], y, "PadOptions")
    assert kinds(check(file, x, y, tmp_path)) == ["Reshape", "Pad", "Reshape"]


def flatten_chain(file, x, y, pack):
    """Add what Keras flattens by for a batch of open size."""
    shape = file.tensor("shape", (4,), "INT32", (), ())
    batch, packed = file.tensor("batch", (), "INT32", (), ()), file.tensor("packed", (2,), "INT32", (), ())
    file.operator("SHAPE", [x], shape, "ShapeOptions", OutType=2)
    limits = [file.integers([value]) for value in (0, 1, 1)]
    file.operator("STRIDED_SLICE", [shape, *limits], batch, "StridedSliceOptions", ShrinkAxisMask=1)
    inputs = [batch, file.integers(pack)]
    file.operator("PACK", inputs, packed, "PackOptions", ValuesCount=2, Axis=0)
    file.operator("RESHAPE", [x, packed], y, "ReshapeOptions")


@needs_litert
@pytest.mark.parametrize("last", [-1, 60])
def test_flattening_by_computed_shapes_leaves_a_reshape(tmp_path, last):
    file = File()
    x = file.tensor("x", (1, 4, 5, 3), signature=(-1, 4, 5, 3))
    y = file.tensor("y", (1, 60), signature=(-1, 60))
    z = file.tensor("z", (1, 10), scale=0.5, signature=(-1, 10))
    flatten_chain(file, x, y, last)
    file.operator("FULLY_CONNECTED", [y, *conv_weights(file, (10, 60), False)], z, "FullyConnectedOptions")
    model = check(file, x, z, tmp_path)
    assert kinds(model) == ["Reshape", "FullyConnected"]


@needs_litert
def test_sizes_that_the_file_leaves_open_are_computed(tmp_path):
    file = File()
    x = file.tensor("x", (1, 4, 5, 3))
    y = file.tensor("y", (1, 1), signature=(-1, -1))
    z = file.tensor("z", (1, 10), scale=0.5, signature=(-1, 10))
    flatten_chain(file, x, y, -1)
    file.operator("FULLY_CONNECTED", [y, *conv_weights(file, (10, 60), False)], z, "FullyConnectedOptions")
    assert check(file, x, z, tmp_path).tensor("y").shape == (60,)


@needs_litert
def test_reshape_without_a_shape_takes_its_output_s(tmp_path):
    file = File()
    x, y = file.tensor("x", (1, 4, 6)), file.tensor("y", (1, 3, 8))
    file.operator("RESHAPE", [x], y, "ReshapeOptions", NewShape=np.array([1, 3, 8], np.int32))
    assert check(file, x, y, tmp_path).tensor("y").shape == (3, 8)


@needs_litert
def test_reshape_may_put_something_else_than_the_batch_first(tmp_path):
    file = File()
    x, y, z = file.tensor("x", (1, 4, 6)), file.tensor("y", (4, 6)), file.tensor("z", (1, 24))
    w = file.tensor("w", (4, 6), scale=1 / 256, zero_point=-128)
    file.operator("RESHAPE", [x, file.integers([4, 6])], y, "ReshapeOptions")
    file.operator("SOFTMAX", [y], w, "SoftmaxOptions", Beta=1.0)
    file.operator("RESHAPE", [w, file.integers([1, -1])], z, "ReshapeOptions")
    file.tensors[z] |= {"scale": np.float32([1 / 256]), "zero_point": np.array([-128])}
    model = check(file, x, z, tmp_path)
    assert [tensor.shape for tensor in model.activations()] == [(4, 6), (4, 6), (4, 6), (24,)]


@needs_litert
@pytest.mark.parametrize("bias", ["there", "left out", "none"])
@pytest.mark.parametrize("shape", [(1, 12), (1, 1, 1, 12), (1, 2, 2, 3)])
def test_fully_connected(tmp_path, bias, shape):
    file = File()
    x, y = file.tensor("x", shape), file.tensor("y", (1, 5), scale=0.05, zero_point=7)
    weights, b = conv_weights(file, (5, 12), False)
    inputs = [x, weights, *{"there": [b], "left out": [-1], "none": []}[bias]]
    file.operator("FULLY_CONNECTED", inputs, y, "FullyConnectedOptions", FusedActivationFunction=RELU6)
    model = check(file, x, y, tmp_path)
    assert model.operators[0].clamp == Clamp(0.0, 6.0)
    assert (model.operators[0].bias is None) == (bias != "there")


@needs_litert
def test_fully_connected_that_keeps_its_input_s_dimensions(tmp_path):
    file = File()
    x, y = file.tensor("x", (1, 1, 1, 12)), file.tensor("y", (1, 1, 1, 5), scale=0.05)
    inputs = [x, *conv_weights(file, (5, 12), False)]
    file.operator("FULLY_CONNECTED", inputs, y, "FullyConnectedOptions", KeepNumDims=True)
    assert kinds(check(file, x, y, tmp_path)) == ["FullyConnected", "Reshape"]


@needs_litert
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("operator", ["RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1"])
@pytest.mark.parametrize("scales", [(0.05, 0.05), (0.05, 0.02), (0.01, 0.5), (0.0001, 0.0001)])
def test_activations_by_themselves(tmp_path, dtype, operator, scales):
    file = File()
    middle = 128 * (dtype == "uint8")
    x = file.tensor("x", (1, 256), dtype.upper(), scales[0], middle - 30)
    y = file.tensor("y", (1, 256), dtype.upper(), scales[1], middle - 100)
    file.operator(operator, [x], y)
    assert kinds(check(file, x, y, tmp_path, dtype)) == ["Requantize"]


@needs_litert
@pytest.mark.parametrize("types", [("INT8", "INT8"), ("UINT8", "INT8"), ("INT8", "UINT8"), ("UINT8", "UINT8")])
@pytest.mark.parametrize("scales", [(0.1, 0.1), (0.1, 0.07), (0.01, 0.5)])
@pytest.mark.parametrize("shift", [0, 9])
def test_changes_of_scale_and_type(tmp_path, types, scales, shift):
    file = File()
    middles = [128 * (dtype == "UINT8") for dtype in types]
    x = file.tensor("x", (1, 256), types[0], scales[0], middles[0])
    y = file.tensor("y", (1, 256), types[1], scales[1], middles[1] + shift)
    file.operator("QUANTIZE", [x], y, "QuantizeOptions")
    model = check(file, x, y, tmp_path, types[0].lower())
    assert model.tensor("y").dtype == types[1].lower()


@needs_litert
def test_a_file_that_takes_and_gives_uint8_around_int8(tmp_path):
    file = File()
    x, q = file.tensor("x", (1, 6, 6, 2), "UINT8", 0.1, 128), file.tensor("q", (1, 6, 6, 2))
    c, y = file.tensor("c", (1, 4, 4, 3), scale=0.05), file.tensor("y", (1, 4, 4, 3), "UINT8", 0.05, 128)
    file.operator("QUANTIZE", [x], q, "QuantizeOptions")
    file.operator("CONV_2D", [q, *conv_weights(file, (3, 3, 3, 2))], c, "Conv2DOptions", **WINDOW)
    file.operator("QUANTIZE", [c], y, "QuantizeOptions")
    model = check(file, x, y, tmp_path, "uint8")
    assert kinds(model) == ["Requantize", "Conv2D", "Requantize"]


@needs_litert
def test_weights_used_twice_are_stored_once(tmp_path):
    file = File()
    x, c, y = (file.tensor(name, (1, 6, 6, 2), scale=0.03) for name in "xcy")
    weights = conv_weights(file, (2, 3, 3, 2))
    fields = WINDOW | {"Padding": SAME}
    file.operator("CONV_2D", [x, *weights], c, "Conv2DOptions", **fields)
    file.operator("CONV_2D", [c, *weights], y, "Conv2DOptions", **fields)
    model = check(file, x, y, tmp_path)
    assert [operator.weights for operator in model.operators] == ["w", "w"]
    # A bias is worth what its layer's input is worth.
    assert len(model.tensors) == 6


@needs_litert
def test_an_addition_of_a_tensor_to_itself(tmp_path):
    file = File()
    x, y = file.tensor("x", (1, 256), zero_point=4), file.tensor("y", (1, 256), scale=0.15)
    file.operator("ADD", [x, x], y, "AddOptions", FusedActivationFunction=RELU)
    check(file, x, y, tmp_path)


# Float ends


def float_ends(file):
    """Return input and output of a network of floats with an int8 core."""
    real = file.tensor("real", (1, 6, 6, 2), "FLOAT32", (), ())
    x, c = file.tensor("x", (1, 6, 6, 2), scale=0.02, zero_point=-7), file.tensor("c", (1, 4, 4, 3), scale=0.05)
    y = file.tensor("y", (1, 4, 4, 3), "FLOAT32", (), ())
    file.operator("QUANTIZE", [real], x, "QuantizeOptions")
    file.operator("CONV_2D", [x, *conv_weights(file, (3, 3, 3, 2))], c, "Conv2DOptions", **WINDOW)
    file.operator("DEQUANTIZE", [c], y, "DequantizeOptions")
    return real, y


@needs_litert
def test_float_ends_are_left_out_and_noted(tmp_path):
    file = File()
    content = built(file, *float_ends(file))
    model = read(content, tmp_path)
    assert kinds(model) == ["Conv2D"]
    assert (model.input, model.output) == ("x", "c")
    assert model.metadata == {"source": "tflite", "float_input": "real", "float_output": "y"}
    x = everything((6, 6, 2))
    real = model.tensor("x").dequantize(x)
    assert_same_as_oracle(model, content, x, real)
    np.testing.assert_array_equal(model.tensor("x").quantize(real), oracle(content, real)["x"].reshape(x.shape))
    np.testing.assert_array_equal(
        model.tensor("c").dequantize(run(model, x)), oracle(content, real)["y"].reshape(-1, 4, 4, 3)
    )


@needs_litert
def test_floats_become_the_integers_that_the_file_s_quantize_gives(tmp_path):
    file = File()
    content = built(file, *float_ends(file))
    source = read(content, tmp_path).tensor("x")
    rng = np.random.default_rng(5)
    steps = rng.integers(-150, 150, (3, 6, 6, 2)) + rng.choice([0, 0.5, 0.4999999, 0.25], (3, 6, 6, 2))
    real = (steps.astype(np.float32) * np.float32(source.scale)).astype(np.float32)
    real[2] = rng.normal(0, 2, (6, 6, 2))
    real[0, 0, 0] = 1e30, -1e5
    found = oracle(content, real)["x"].reshape(real.shape)
    sane = np.abs(real) < 1e20  # Beyond, C++ does not define the conversion.
    np.testing.assert_array_equal(source.quantize(real)[sane], found[sane])


@needs_litert
def test_one_float_end(tmp_path):
    file = File()
    _, y = float_ends(file)
    del file.operators[0]
    content = built(file, 1, y)
    model = read(content, tmp_path)
    assert model.metadata == {"source": "tflite", "float_output": "y"}
    assert_same_as_oracle(model, content, everything((6, 6, 2)))


# Names


def named(names, **more):
    file = File()
    x, y, z = (file.tensor(name, (1, 8), **more) for name in names)
    file.operator("RESHAPE", [x, file.integers([1, 8])], y, "ReshapeOptions")
    file.operator("RESHAPE", [y, file.integers([1, 8])], z, "ReshapeOptions")
    return file.build([x], [z])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["x", "y", "z"], ["x", "y", "z"]),
        (["x", "x", "x"], ["x", "x_1", "x_2"]),
        (["", None, ""], ["tensor_0", "tensor_1", "tensor_2"]),
        (["a\nb", "a\tb", "naïve/α:0"], ["a\ufffdb", "a\ufffdb_1", "naïve/α:0"]),
    ],
)
def test_names_become_unique_and_printable(tmp_path, names, expected):
    model = read(named(names), tmp_path)
    assert [tensor.name for tensor in model.activations()] == expected
    assert zp_file.loads(zp_file.dumps(model)).operators == model.operators


def test_activations_keep_their_names_before_constants(tmp_path):
    file = File()
    x, y = file.tensor("x", (1, 12)), file.tensor("w", (1, 5), scale=0.05)
    file.operator("FULLY_CONNECTED", [x, *conv_weights(file, (5, 12), False)], y, "FullyConnectedOptions")
    model = read(built(file, x, y), tmp_path)
    assert model.operators == (
        FullyConnected(name="fully_connected_0", input="x", output="w", weights="w_1", bias="b"),
    )


def test_operators_are_named_by_kind_and_place(tmp_path):
    model = read(named("xyz"), tmp_path)
    assert [operator.name for operator in model.operators] == ["reshape_0", "reshape_1"]


def test_operators_that_the_output_does_not_need_are_left_out(tmp_path):
    file = File()
    x, y, z = file.tensor("x", (1, 8)), file.tensor("y", (1, 8)), file.tensor("z", (1, 8), "FLOAT32", (), ())
    file.operator("COS", [x], z)
    file.operator("QUANTIZE", [x], y, "QuantizeOptions")
    model = read(built(file, x, y), tmp_path)
    assert kinds(model) == ["Requantize"]
    assert "z" not in model.tensors


def test_a_convolution_s_fields(tmp_path):
    file = File()
    x, y = file.tensor("x", (1, 9, 9, 4)), file.tensor("y", (1, 5, 3, 6))
    fields = {"Padding": SAME, "StrideH": 2, "StrideW": 3, "FusedActivationFunction": RELU}
    file.operator("CONV_2D", [x, *conv_weights(file, (6, 3, 2, 2))], y, "Conv2DOptions", **fields)
    model = read(built(file, x, y), tmp_path)
    assert model.operators == (
        Conv2D(
            name="conv_2d_0",
            input="x",
            output="y",
            weights="w",
            bias="b",
            stride=(2, 3),
            padding=Padding(1, 1, 0, 0),
            clamp=Clamp(0.0, np.inf),
            groups=2,
        ),
    )


# The way in


@pytest.mark.parametrize("name", ["model.tflite", "MODEL.TFLITE"])
def test_load_reads_tflite_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(named("xyz"))
    assert load(tmp_path / name).input == "x"


def test_requantize_alone_may_change_the_type(tmp_path):
    from zeropoint.errors import ZeropointError

    file = File()
    x, y = file.tensor("x", (1, 8)), file.tensor("y", (1, 8), "UINT8", 0.1, 0)
    file.operator("RESHAPE", [x, file.integers([1, 8])], y, "ReshapeOptions")
    with pytest.raises(ZeropointError, match="must have the scale and zero point of its input"):
        read(built(file, x, y), tmp_path)
    file.operators.clear()
    file.operator("QUANTIZE", [x], y, "QuantizeOptions")
    model = read(built(file, x, y), tmp_path)
    assert model.operators == (Requantize(name="quantize_0", input="x", output="y"),)


# What the page says


def test_the_page_lists_every_operator():
    page = (Path(__file__).parents[3] / "docs" / "tflite.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| ")]
    named = {word.strip(",;") for row in rows for word in row.split() if word.strip(",;").isupper()}
    assert named - {"|"} == set(HANDLERS)
