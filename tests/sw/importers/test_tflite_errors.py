"""What the importer refuses: one clear line that names the file and the operator or tensor, and never much memory."""

import struct
import tracemalloc

import numpy as np
import pytest
import tflite
from support import real_models
from support.real_models import MODELS, needs_models
from support.tflite_files import NONE, SAME, VALID, File, read

from zeropoint.errors import ZeropointError
from zeropoint.importers import load, tflite_file, tflite_model, tflite_translate
from zeropoint.model import QuantizedModel

WINDOW = {"Padding": VALID, "StrideH": 1, "StrideW": 1, "FusedActivationFunction": NONE}
QUANTIZE_FIRST = tflite_translate.QUANTIZE_FIRST


def refused(folder, content):
    """Return the message with which a file is refused, without the file's name."""
    path = folder / "model.tflite"
    with pytest.raises(ZeropointError) as caught:
        read(content, folder)
    message = str(caught.value)
    assert message.startswith(f"'{path}': ")
    assert message.isprintable()
    return message.removeprefix(f"'{path}': ")


def one(kind, shapes, output, options=None, constants=(), x=None, y=None, **fields):
    """Return a file of one operator: activations of ``shapes``, then constants, in; ``x`` and ``y`` change tensors."""
    file = File()
    inputs = [file.tensor(f"x{index}", shape) for index, shape in enumerate(shapes)]
    made = [constant(file) for constant in constants]
    target = file.tensor("y", output)
    file.tensors[inputs[0]] |= x or {}
    file.tensors[target] |= y or {}
    file.operator(kind, inputs + made, target, options, **fields)
    return file.build(inputs, [target])


def array(values, dtype="INT32"):
    return lambda file: file.integers(values, dtype)


def weights(shape, dtype="INT8", scale=(0.01,), zero_point=None, **more):
    def add(file):
        return file.tensor("w", shape, dtype, scale, zero_point, np.ones(shape), **more)

    return add


def bias(channels, dtype="INT32"):
    return lambda file: file.tensor("b", (channels,), dtype, (0.001,), data=np.ones(channels))


def small():
    """Return a file with several operators, options and constants."""
    file = File()
    x, c = file.tensor("x", (1, 6, 6, 2)), file.tensor("c", (1, 3, 3, 4), scale=0.05)
    p, r, f = (
        file.tensor("p", (1, 5, 5, 4), scale=0.05),
        file.tensor("r", (1, 100), scale=0.05),
        file.tensor("f", (1, 4)),
    )
    m, y = file.tensor("m", (1, 4), scale=0.2), file.tensor("y", (1, 4), scale=1 / 256, zero_point=-128)
    rng = np.random.default_rng(0)
    w = file.tensor("w", (4, 3, 3, 2), "INT8", [0.01, 0.02, 0.01, 0.03], data=rng.integers(-127, 128, (4, 3, 3, 2)))
    v = file.tensor("v", (4, 100), "INT8", 0.01, data=rng.integers(-127, 128, (4, 100)))
    b = file.tensor("b", (4,), "INT32", 0.001, data=[1, 2, 3, 4])
    file.operator("CONV_2D", [x, w, b], c, "Conv2DOptions", **WINDOW | {"Padding": SAME, "StrideH": 2, "StrideW": 2})
    file.operator("PAD", [c, file.integers([(0, 0), (1, 1), (1, 1), (0, 0)])], p, "PadOptions")
    file.operator("RESHAPE", [p, file.integers([1, -1])], r, "ReshapeOptions")
    file.operator("FULLY_CONNECTED", [r, v, b], f, "FullyConnectedOptions", FusedActivationFunction=NONE)
    file.operator("ADD", [f, f], m, "AddOptions", FusedActivationFunction=NONE)
    file.operator("SOFTMAX", [m], y, "SoftmaxOptions", Beta=1.0)
    return file.build([x], [y])


def moving():
    """Return a file with operators that move values, and those on single elements."""
    file = File()
    x = file.tensor("x", (1, 4, 6, 8))
    halves = [file.tensor(name, (1, 4, 6, 4)) for name in "ab"]
    small, large = file.tensor("small", (1, 2, 3, 4)), file.tensor("large", (1, 4, 6, 4))
    joined, turned = file.tensor("joined", (1, 4, 6, 8)), file.tensor("turned", (1, 8, 4, 6))
    padded, leaky = file.tensor("padded", (1, 9, 4, 6)), file.tensor("leaky", (1, 9, 4, 6))
    p, product = file.tensor("p", (1, 9, 4, 6), scale=1 / 256, zero_point=-128), file.tensor("product", (1, 9, 4, 6))
    y, c = file.tensor("y", (1, 9, 4, 6)), file.tensor("c", (6,), data=range(6))
    value, axis = file.tensor("value", (1,), data=[3]), file.integers(3)
    file.operator("SPLIT", [axis, x], halves, "SplitOptions", NumSplits=2)
    limits = [file.integers(each) for each in ([0, 0, 0, 0], [1, 4, 6, 4], [1, 2, 2, 1])]
    file.operator("STRIDED_SLICE", [halves[0], *limits], small, "StridedSliceOptions", BeginMask=1, EndMask=15)
    file.operator("RESIZE_NEAREST_NEIGHBOR", [small, file.integers([4, 6])], large, "ResizeNearestNeighborOptions")
    file.operator("CONCATENATION", [large, halves[1]], joined, "ConcatenationOptions", Axis=3)
    file.operator("TRANSPOSE", [joined, file.integers([0, 3, 1, 2])], turned, "TransposeOptions")
    file.operator("PADV2", [turned, file.integers([(0, 0), (1, 0), (0, 0), (0, 0)]), value], padded)
    file.operator("LEAKY_RELU", [padded], leaky, "LeakyReluOptions", Alpha=0.1)
    file.operator("LOGISTIC", [leaky], p)
    file.operator("MUL", [p, leaky], product, "MulOptions")
    file.operator("SUB", [c, product], y, "SubOptions")
    return file.build([x], [y])


GENERATED = {"small": small, "moving": moving}


# Files


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ZeropointError, match=r"^cannot read '.*nothing\.tflite': No such file or directory"):
        load(tmp_path / "nothing.tflite")
    (tmp_path / "folder.tflite").mkdir()
    with pytest.raises(ZeropointError, match=r"^cannot read '.*folder\.tflite': Is a directory"):
        load(tmp_path / "folder.tflite")


@pytest.mark.parametrize("content", [b"", b"TFL3", b"PK\x03\x04 not a model", bytes(64), b"{}"])
def test_other_files(tmp_path, content):
    assert refused(tmp_path, content) == "it is not a TensorFlow Lite model: 'TFL3' is missing at its fifth byte"


def test_file_beyond_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(tflite_model, "MAX_FILE_BYTES", 100)
    path = tmp_path / "model.tflite"
    path.write_bytes(small())
    with pytest.raises(ZeropointError, match=r"^cannot read '.*': it is longer than 100 bytes$"):
        load(path)


def test_beginning_alone(tmp_path):
    content = small()
    expected = "it is damaged, or only the first part of a file; convert or copy it again"
    assert refused(tmp_path, content[: len(content) // 2]) == expected
    assert refused(tmp_path, b"\x10\0\0\0TFL3") == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "has version 2 of the schema; 3 is expected"),
        ({"subgraphs": 2}, "has 2 subgraphs; export the network without control flow, as one"),
        ({"subgraphs": 0}, "has 0 subgraphs; export the network without control flow, as one"),
    ],
)
def test_models_of_another_kind(tmp_path, changes, message):
    file = File()
    x, y = file.tensor("x", (1, 8)), file.tensor("y", (1, 8))
    file.operator("QUANTIZE", [x], y)
    assert refused(tmp_path, file.build([x], [y], **changes)) == message


@pytest.mark.parametrize(("inputs", "outputs", "what"), [
    ([0, 1], [2], "input, but it has 2"),
    ([], [2], "input, but it has 0"),
    ([0], [2, 1], "output, but it has 2"),
    ([0], [], "output, but it has 0"),
])  # fmt: skip
def test_one_input_and_one_output(tmp_path, inputs, outputs, what):
    file = File()
    x, z, y = (file.tensor(name, (1, 8)) for name in "xzy")
    file.operator("ADD", [x, z], y, "AddOptions")
    assert refused(tmp_path, file.build(inputs, outputs)) == f"a network must have one {what}; export a part of it"


# References


def referring(inputs=(0,), outputs=(1,), graph_inputs=(0,), graph_outputs=(1,), code=0, **changes):
    file = File()
    file.tensor("x", (1, 8))
    file.tensor("y", (1, 8))
    file.operator("QUANTIZE", list(inputs), list(outputs))
    file.operators[0]["code"] = code
    file.tensors[0] |= changes
    return file.build(list(graph_inputs), list(graph_outputs))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": (7,)}, "is damaged: it names tensor 7 of 2"),
        ({"inputs": (-2,)}, "is damaged: it names tensor -2 of 2"),
        ({"graph_inputs": (2,)}, "is damaged: it names tensor 2 of 2"),
        ({"graph_outputs": (-1,)}, "is damaged: it names tensor -1 of 2"),
        ({"code": 3}, "is damaged: operator 0 is of kind 3, which the file does not define"),
        ({"buffer": 9}, "tensor 'x' is in buffer 9 of 1"),
        ({"inputs": (1,)}, "operator 0 (QUANTIZE), output 'y': reads tensor 'y', which nothing before it computes"),
        ({"outputs": (1, 0)}, "operator 0 (QUANTIZE), output 'y': writes tensor 'x', which has a value already"),
        ({"outputs": (1, 1)}, "operator 0 (QUANTIZE), output 'y': writes tensor 'y', which has a value already"),
        ({"outputs": (0,)}, "output 'y' is not computed"),
        ({"inputs": ()}, "operator 0 (QUANTIZE), output 'y': lacks input 0"),
        ({"inputs": (-1,)}, "operator 0 (QUANTIZE), output 'y': lacks input 0"),
        ({"graph_outputs": (0,)}, "model 'model' has no operators"),
    ],
)
def test_references(tmp_path, changes, message):
    assert refused(tmp_path, referring(**changes)) == message


def test_operators_out_of_order(tmp_path):
    file = File()
    x, y, z = (file.tensor(name, (1, 8)) for name in "xyz")
    file.operator("QUANTIZE", [y], z)
    file.operator("QUANTIZE", [z], y)
    assert refused(tmp_path, file.build([x], [y])) == (
        "operator 0 (QUANTIZE), output 'z': reads tensor 'y', which nothing before it computes"
    )


# Tensors


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sparse": True}, "tensor 'x' is sparse; convert the model with dense weights"),
        ({"variable": True}, "tensor 'x' is a variable; export the network without state"),
        ({"details": tflite.QuantizationDetails.CustomQuantization},
         "tensor 'x' has a quantization other than by scale and zero point"),
        ({"scale": np.float32([1, 2]), "zero_point": np.zeros(3, np.int64)},
         "tensor 'x' has 2 scales, but 3 zero points"),
        ({"scale": np.float32([1, 2])}, "input 'x' has 2 scales; an activation must have one"),
        ({"scale": np.float32([])}, f"input 'x' has no scale and zero point; {QUANTIZE_FIRST}"),
        ({"scale": np.float32([0])}, "input tensor 'x': scales must be finite and positive, not (0.0,)"),
        ({"scale": np.float32([np.nan])}, "input tensor 'x': scales must be finite and positive, not (nan,)"),
        ({"zero_point": np.array([200])}, "tensor 'x' has a zero point outside -128 … 127"),
        ({"zero_point": np.array([2**63 - 1])}, "tensor 'x' has a zero point outside -128 … 127"),
        ({"type": tflite.TensorType.INT16}, f"input 'x' is int16, but must be int8 or uint8; {QUANTIZE_FIRST}"),
        ({"type": 99}, f"input 'x' is of unknown type 99, but must be int8 or uint8; {QUANTIZE_FIRST}"),
        ({"shape": (2, 8)}, "input 'x' has shape (2, 8), but must have a batch of 1 as its first dimension; "
         "convert the network so"),
        ({"signature": (-1, -1)}, "input 'x' has sizes that are open; convert the network with fixed ones"),
        ({"shape": (1, 1 << 30)}, "tensor 'x' has shape (1, 1073741824); sizes must not be negative and give 268435456 "
         "elements at most"),
        ({"shape": (1, -8)}, "tensor 'x' has shape (1, -8); sizes must not be negative and give 268435456 elements at "
         "most"),
        ({"shape": (1,) * 9}, "has a list of 9 numbers; 8 at most"),
        ({"shape": (1, 0)}, "operator 0 (QUANTIZE), output 'y': its output is declared as (1, 8), but is (1, 0)"),
        ({"shape": (1, 4)}, "operator 0 (QUANTIZE), output 'y': its output is declared as (1, 8), but is (1, 4)"),
        ({"name": "n" * 2000}, "has a name of 2000 bytes; 1024 at most"),
    ],
)  # fmt: skip
def test_tensors(tmp_path, changes, message):
    assert refused(tmp_path, referring(**changes)) == message


def test_constants_of_the_wrong_length(tmp_path):
    message = refused(
        tmp_path, one("RESHAPE", [(1, 8)], (1, 8), None, [lambda f: f.tensor("s", (3,), "INT32", (), (), [1])])
    )
    assert message == "tensor 's' of int32 and shape (3,) takes 12 bytes, not 4"


def test_constants_of_other_types(tmp_path):
    def int4(file):
        index = weights((5, 8))(file)
        file.tensors[index]["type"] = tflite.TensorType.INT4
        return index

    message = refused(tmp_path, one("FULLY_CONNECTED", [(1, 8)], (1, 5), None, [int4]))
    assert message == "tensor 'w' is int4; constants may be int8, uint8, int32, int64 or float32"


def test_an_input_with_a_value(tmp_path):
    file = File()
    x, y = file.tensor("x", (1, 8), data=np.zeros(8)), file.tensor("y", (1, 8))
    file.operator("QUANTIZE", [x], y)
    assert refused(tmp_path, file.build([x], [y])) == "input 'x' is a constant; convert or copy the file again"


# Operators


def test_operators_that_are_not_supported(tmp_path):
    message = refused(tmp_path, one("COS", [(1, 8)], (1, 8)))
    assert message.startswith(
        "operator 0 (COS), output 'y': is not supported; supported operators are ADD, AVERAGE_POO"
    )
    assert message.endswith("SOFTMAX, SPLIT, SPLIT_V, SQUEEZE, STRIDED_SLICE, SUB, TRANSPOSE")
    message = refused(tmp_path, one("CUSTOM", [(1, 8)], (1, 8)))
    assert message.startswith("operator 0 (custom Custom), output 'y': is not supported; supported operators are ADD, ")


def test_float_networks(tmp_path):
    file = File()
    x, y = (file.tensor(name, (1, 8), "FLOAT32", (), ()) for name in "xy")
    file.operator("SOFTMAX", [x], y, "SoftmaxOptions", Beta=1.0)
    assert refused(tmp_path, file.build([x], [y])) == (
        f"input 'x' is float32, but must be int8 or uint8; {QUANTIZE_FIRST}"
    )


def test_a_float_operator_in_the_midst(tmp_path):
    file = File()
    x, f, y = file.tensor("x", (1, 8)), file.tensor("f", (1, 8), "FLOAT32", (), ()), file.tensor("y", (1, 8))
    file.operator("DEQUANTIZE", [x], f)
    file.operator("QUANTIZE", [f], y)
    message = refused(tmp_path, file.build([x], [y]))
    assert message.startswith("operator 0 (DEQUANTIZE), output 'f': is not supported")


CONV = {"options": "Conv2DOptions", **WINDOW}
IMAGE = [(1, 4, 4, 3)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (one("CONV_2D", IMAGE, (1, 2, 2, 4), None, [weights((4, 3, 3, 3))]), "has no options; convert the model again"),
        (one("CONV_2D", IMAGE, (1, 2, 2, 4), **CONV | {"StrideH": 0}, constants=[weights((4, 3, 3, 3))]),
         "has stride (0, 1), dilation (1, 1) and window (3, 3); all must be positive"),
        (one("CONV_2D", IMAGE, (1, 2, 2, 4), **CONV | {"Padding": 7}, constants=[weights((4, 3, 3, 3))]),
         "has the padding 7; SAME and VALID are known"),
        (one("CONV_2D", IMAGE, (1, 2, 2, 4), **CONV | {"FusedActivationFunction": 4},
             constants=[weights((4, 3, 3, 3))]),
         "has the fused activation 4, which is not supported; NONE and RELUs are"),
        (one("CONV_2D", IMAGE, (1, 2, 2, 4), **CONV, constants=[weights((4, 5, 5, 3))]),
         "a window of (5, 5) does not fit an input of (4, 4) with Padding(top=0, bottom=0, left=0, right=0)"),
        (one("CONV_2D", IMAGE, (1, 2, 2, 4), **CONV, constants=[weights((4, 3, 3, 2))]),
         "has 3 input channels, but weights of shape (4, 3, 3, 2)"),
        (one("CONV_2D", IMAGE, (1, 2, 2, 4), **CONV, constants=[weights((4, 27))]),
         "has weights 'w' of shape (4, 27), which it does not know"),
        (one("CONV_2D", IMAGE, (1, 2, 2, 4), **CONV, constants=[weights((4, 3, 3, 3), zero_point=[3])]),
         "has int8 weights 'w' with a zero point other than 0, which TensorFlow Lite's convolutions do not know; "
         "convert the model again"),
        (one("CONV_2D", IMAGE, (1, 2, 2, 4), **CONV, constants=[weights((4, 3, 3, 3), scale=(1, 2, 3, 4), axis=3)]),
         "has weights 'w' with 4 scales along dimension 3, not one for each of the 4 output channels"),
        (one("CONV_2D", IMAGE, (1, 2, 2, 4), **CONV, constants=[weights((4, 3, 3, 3), scale=(1, 2, 3))]),
         "has weights 'w' with 3 scales along dimension 0, not one for each of the 4 output channels"),
        (one("CONV_2D", IMAGE, (1, 2, 2, 4), **CONV, constants=[weights((4, 3, 3, 3), scale=())]),
         f"has weights 'w' without a scale; {QUANTIZE_FIRST}"),
        (one("CONV_2D", IMAGE, (1, 2, 2, 4), **CONV, constants=[weights((4, 3, 3, 3), "FLOAT32")]),
         f"has int8 activations and float32 weights 'w'; {QUANTIZE_FIRST}"),
        (one("CONV_2D", IMAGE, (1, 2, 2, 4), **CONV, constants=[weights((4, 3, 3, 3)), bias(3)]),
         "bias 'b' must be int32 with 4 values, not int32 with 3"),
        (one("CONV_2D", IMAGE, (1, 2, 2, 4), **CONV, constants=[weights((4, 3, 3, 3)), bias(4, "FLOAT32")]),
         "bias 'b' must be int32 with 4 values, not float32 with 4"),
        (one("CONV_2D", IMAGE, (1, 3, 2, 4), **CONV, constants=[weights((4, 3, 3, 3))]),
         "its output is declared as (1, 3, 2, 4), but is (1, 2, 2, 4)"),
        (one("CONV_2D", [(1, 4, 12)], (1, 2, 4), **CONV, constants=[weights((4, 3, 3, 3))]),
         "takes a feature map (1, height, width, channels), not (1, 4, 12)"),
        (one("CONV_2D", IMAGE, (1, 2, 2, 4), **CONV, constants=[weights((4, 3, 3, 3))],
             y={"type": tflite.TensorType.INT16}), f"'y' is int16, but must be int8 or uint8; {QUANTIZE_FIRST}"),
        (one("CONV_2D", IMAGE, (1, 2, 2, 4), **CONV), "lacks input 1"),
        (one("DEPTHWISE_CONV_2D", IMAGE, (1, 2, 2, 3), "DepthwiseConv2DOptions", [weights((3, 3, 3, 3))], **WINDOW),
         "has weights 'w' of shape (3, 3, 3, 3), which it does not know"),
        (one("DEPTHWISE_CONV_2D", IMAGE, (1, 2, 2, 4), "DepthwiseConv2DOptions", [weights((1, 3, 3, 4))], **WINDOW),
         "4 output channels are no multiple of 3 input channels"),
        (one("FULLY_CONNECTED", [(1, 7, 8)], (7, 5), "FullyConnectedOptions", [weights((5, 8))]),
         "takes vectors of 8 values, one a sample, but its input has shape (1, 7, 8)"),
        (one("FULLY_CONNECTED", [(1, 2, 4)], (1, 2, 5), "FullyConnectedOptions", [weights((5, 8))], KeepNumDims=True),
         "keeps its input's dimensions (1, 2, 4), whose last must be 8"),
        (one("FULLY_CONNECTED", [(1, 8)], (1, 5), "FullyConnectedOptions", [weights((5, 8))], WeightsFormat=1),
         "has shuffled weights; convert the model again with a newer converter"),
        (one("MEAN", IMAGE, (1, 4, 3), "ReducerOptions", [array([1])]),
         "is supported over height and width only, not over [1] of (1, 4, 4, 3)"),
        (one("MEAN", IMAGE, (1, 3), "ReducerOptions", [array([0, 1])]),
         "is supported over height and width only, not over [0, 1] of (1, 4, 4, 3)"),
        (one("PAD", IMAGE, (1, 4, 4, 5), None, [array([(0, 0), (0, 0), (0, 0), (1, 1)])]),
         "pads (1, 4, 4, 3) by [[0, 0], [0, 0], [0, 0], [1, 1]]; only height and width, or length, can be padded"),
        (one("PAD", IMAGE, (1, 4, 4, 3), None, [array([(0, 0), (-1, 0), (1, 0), (0, 0)])]),
         "pads (1, 4, 4, 3) by [[0, 0], [-1, 0], [1, 0], [0, 0]]"),
        (one("PAD", IMAGE, (1, 4, 4, 3), None, [array([1, 1])]), "pads (1, 4, 4, 3) by [1, 1]"),
        (one("PAD", IMAGE, (1, 4, 4, 3), None, [array([(0, 0), (2**31 - 1,) * 2, (2**31 - 1,) * 2, (0, 0)])]),
         "gives an output of shape (1, 4294967298, 4294967298, 3); 268435456 elements at most"),
        (one("RESHAPE", [(1, 8)], (1, 7), None, [array([1, 7])]), "gives 8 elements the shape (1, 7)"),
        (one("RESHAPE", [(1, 8)], (1, 8), None, [array([-1, -1])]), "gives 8 elements the shape (-1, -1)"),
        (one("RESHAPE", [(1, 8)], (1, 8), None, [array([-1, 0])]), "gives 8 elements the shape (-1, 0)"),
        (one("RESHAPE", [(1, 8), (1, 2)], (1, 8)), "a network must have one input, but it has 2; export a part of it"),
        (one("RESHAPE", [(1, 8)], (1, 8), None, [array(np.ones(2000))]),
         "reads 'integers_1' of 2000 integers; 1024 at most"),
        (one("SQUEEZE", [(1, 2, 4)], (1, 8)), "makes (1, 8) of (1, 2, 4), but may only add or remove dimensions of 1"),
        (one("SOFTMAX", [(1, 8)], (1, 8)), "has no options; convert the model again"),
    ],
)  # fmt: skip
def test_operators(tmp_path, content, message):
    found = refused(tmp_path, content)
    assert found.startswith("operator 0 (") or found == message
    assert found.rpartition("output 'y': ")[2] == message


def test_options_of_another_operator(tmp_path):
    content = one("CONV_2D", IMAGE, (1, 2, 2, 4), "Pool2DOptions", [weights((4, 3, 3, 3))], **WINDOW)
    assert refused(tmp_path, content) == "is damaged: operator 0 (CONV_2D) has another operator's options"


def test_softmax_of_another_scale(tmp_path):
    message = refused(tmp_path, one("SOFTMAX", [(1, 8)], (1, 8), "SoftmaxOptions", Beta=1.0))
    assert message == "operator 'softmax_0' (Softmax): output 'y' must have scale 1/256 and the least zero point"


# Damage


def attempt(content, folder):
    """Return the model in a file, or None if the importer refuses it with one line."""
    path = folder / "model.tflite"
    path.write_bytes(content)
    try:
        return tflite_model.read(path)
    except ZeropointError as error:
        message = str(error)
    assert message.startswith(f"'{path}': ")
    assert message.isprintable()
    return None


def truncated(folder, content, step):
    whole = attempt(content, folder)
    assert isinstance(whole, QuantizedModel)
    for length in (*range(0, len(content) - 50, step), *range(len(content) - 50, len(content))):
        part = attempt(content[:length], folder)
        # Only zeros that fill up the last word may be missing.
        assert part is None or len(content) - length < 8


@pytest.mark.parametrize("name", GENERATED)
def test_truncated(tmp_path, name):
    truncated(tmp_path, GENERATED[name](), 11)


@pytest.mark.slow
@pytest.mark.parametrize("name", GENERATED)
def test_truncated_at_every_byte(tmp_path, name):
    truncated(tmp_path, GENERATED[name](), 1)


WORDS = [0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x10000, 0]


def replaced(folder, content, values, step=4):
    """Replace a word at a time, with the values in turn; each file may ask for little memory only."""
    tracemalloc.start()
    found = []
    for index, position in enumerate(range(0, len(content) - 3, step)):
        word = struct.pack("<I", values[index % len(values)])
        found.append(attempt(content[:position] + word + content[position + 4 :], folder))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20
    refusals = sum(model is None for model in found)
    assert 100 < refusals < len(found)


@pytest.mark.parametrize("name", GENERATED)
def test_words_replaced(tmp_path, name):
    replaced(tmp_path, GENERATED[name](), WORDS, 12)


@pytest.mark.slow
@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("name", GENERATED)
def test_every_word_replaced_by(tmp_path, name, word):
    replaced(tmp_path, GENERATED[name](), [word])


def damaged(content, rng):
    """Return a file with a few wrong bytes, or a wrong word, or without its end."""
    changed = bytearray(content)
    # Most of a file is weights, which may have any value: go for the rest as often.
    for _ in range(rng.integers(1, 4)):
        position = int(rng.integers(len(content)))
        if rng.random() < 0.3:
            changed[position : position + 4] = struct.pack("<i", int(rng.choice([-1, 1, 1 << 30, -(1 << 31), 100])))
        else:
            changed[position] = int(rng.integers(256))
    return bytes(changed[: len(changed) if rng.random() < 0.9 else int(rng.integers(len(changed)))])


def fuzz(content, seed, count, folder):
    rng = np.random.default_rng(seed)
    found = [attempt(damaged(content, rng), folder) for _ in range(count)]
    refusals = sum(model is None for model in found)
    assert refusals, "the damage does nothing"
    return refusals


@pytest.mark.parametrize("name", GENERATED)
def test_damaged_files(tmp_path, name):
    assert 50 < fuzz(GENERATED[name](), 0, 300, tmp_path) < 300


@needs_models
@pytest.mark.parametrize("name", MODELS)
def test_damaged_real_models(tmp_path, name):
    fuzz(real_models.path(name).read_bytes(), 1, 40, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("name", GENERATED)
def test_many_damaged_files(tmp_path, name, seed):
    fuzz(GENERATED[name](), seed, 3000, tmp_path)


@needs_models
@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_many_damaged_real_models(tmp_path, name):
    fuzz(real_models.path(name).read_bytes(), 2, 2000, tmp_path)


# Little files that ask for much


def test_constants_named_many_times_take_no_more_than_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(tflite_translate, "MAX_CONSTANT_BYTES", 1000)
    file = File()
    x, last = file.tensor("x", (1, 1)), None
    w, b = file.tensor("w", (50, 1), data=np.ones((50, 1))), file.tensor("b", (50,), "INT32", data=np.ones(50))
    for index in range(8):
        q, y = file.tensor(f"q{index}", (1, 1)), file.tensor(f"y{index}", (1, 50))
        file.operator("QUANTIZE", [x], q)
        file.operator("FULLY_CONNECTED", [q, w, b], y, "FullyConnectedOptions")
        if last is not None:
            z = file.tensor(f"z{index}", (1, 50))
            file.operator("ADD", [last, y], z, "AddOptions")
            y = z
        last = y
    assert refused(tmp_path, file.build([x], [last])).endswith("needs constants of more than 1000 bytes in all")


def test_shapes_packed_over_and_over(tmp_path):
    file = File()
    x, y = file.tensor("x", (1, 8)), file.tensor("y", (1, 8))
    packed = file.integers([1] * 64)
    for _ in range(10):
        more = file.tensor("more", (), "INT32", (), ())
        file.operator("PACK", [packed] * 512, more, "PackOptions", Axis=0)
        packed = more
    file.operator("RESHAPE", [x, packed], y)
    assert refused(tmp_path, file.build([x], [y])).endswith("gives 32768 integers; 1024 at most")


@pytest.mark.parametrize(("limit", "message"), [
    ("MAX_NODES", "has 6 operators; 5 at most"),
    ("MAX_TENSORS", "has 12 tensors; 5 at most"),
])  # fmt: skip
def test_numbers_of_operators_and_tensors(tmp_path, monkeypatch, limit, message):
    monkeypatch.setattr(tflite_file, limit, 5)
    assert refused(tmp_path, small()) == message


def test_lists_of_scales_and_operands(tmp_path):
    many = np.ones((1 << 16) + 1, np.float32)
    assert refused(tmp_path, referring(scale=many, zero_point=many.astype(np.int64))).startswith(
        "has a list of 65537 n"
    )
    assert refused(tmp_path, referring(inputs=[0] * 2000)) == "has a list of 2000 numbers; 1024 at most"
