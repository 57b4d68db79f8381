"""What the importer of quantized networks refuses: one clear line that names the node or tensor."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.onnx_models import save
from support.quantized_onnx import Builder

from zeropoint.errors import ZeropointError
from zeropoint.importers import load, onnx_float, onnx_quantized

W = np.arange(-15, 15, dtype=np.int8).reshape(10, 3)
IMAGE = ("N", 4, 9, 7)


def refused(folder: Path, model: onnx.ModelProto) -> str:
    """Return the message with which a model is refused, without the file's name."""
    path = save(model, folder)
    with pytest.raises(ZeropointError) as caught:
        onnx_quantized.read(path)
    message = str(caught.value)
    assert message.startswith(f"'{path}': ")
    assert "\n" not in message
    return message.removeprefix(f"'{path}': ")


def vector(**options: Any) -> Builder:
    return Builder("N", 10, **options).qdq("x", 0.05, 3)


def image() -> Builder:
    return Builder(*IMAGE).qdq("x", 0.05, 3)


def gemm(builder: Builder, weights: str = "w.d", bias: str = "", **attributes: Any) -> onnx.ModelProto:
    """Add a Gemm called ``fc`` with quantized output, and return the model."""
    builder.add("Gemm", f"x.d {weights} {bias}", "y", name="fc", **attributes)
    return builder.qdq("y", 0.1).model("y.d")


# What is not quantized


def test_weights_that_are_not_quantized(tmp_path: Path) -> None:
    message = refused(tmp_path, gemm(vector().constant("w", np.ones((10, 3), np.float32)), "w"))
    assert message == (
        "operator 'fc' (FullyConnected): weights 'w' are not quantized; they must be int8 or uint8 behind a "
        "DequantizeLinear"
    )


def test_activation_that_is_not_quantized(tmp_path: Path) -> None:
    builder = vector().weights("w", W, 0.1).weights("v", W[:3, :3], 0.1)
    builder.add("Gemm", "x.d w.d", "h", name="first").add("Gemm", "h v.d", "y", name="second")
    assert refused(tmp_path, builder.qdq("y", 0.1).model("y.d")) == (
        "operator 'first' (FullyConnected): its output 'h' is not quantized, or in several ways: it goes to "
        "'second' (FullyConnected); it must go through one QuantizeLinear and DequantizeLinear first"
    )


def test_output_that_is_not_quantized(tmp_path: Path) -> None:
    builder = vector().weights("w", W, 0.1).add("Gemm", "x.d w.d", "y", name="fc")
    assert refused(tmp_path, builder.model("y")) == (
        "operator 'fc' (FullyConnected): its output 'y' is not quantized, or in several ways: it goes to the network's "
        "output; it must go through one QuantizeLinear and DequantizeLinear first"
    )


def test_input_that_is_not_quantized(tmp_path: Path) -> None:
    builder = Builder("N", 10).weights("w", W, 0.1).add("Gemm", "x w.d", "y", name="fc").qdq("y", 0.1)
    assert refused(tmp_path, builder.model("y.d")) == (
        "input 'x' is not quantized, or in several ways: it goes to 'fc' (FullyConnected); it must go through one "
        "QuantizeLinear and DequantizeLinear first"
    )


def test_activation_that_is_quantized_in_two_ways(tmp_path: Path) -> None:
    builder = vector().weights("w", W, 0.1).add("Gemm", "x.d w.d", "h", name="fc").qdq("h", 0.1)
    both = builder.parameters("g", 0.2)
    builder.add("QuantizeLinear", f"h {both}", "g.q", name="other").add("DequantizeLinear", f"g.q {both}", "g.d")
    message = refused(tmp_path, builder.add("Add", "h.d g.d", "y").qdq("y", 0.1).model("y.d"))
    assert "its output 'h' is not quantized, or in several ways: it goes to 'QuantizeLinear_h.q' (Quantize" in message


def test_float_network(tmp_path: Path) -> None:
    model = Builder("N", 10).add("Relu", "x", "y").model("y")
    assert refused(tmp_path, model).startswith("input 'x' is not quantized")


# Scales and zero points


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        (np.float32(0), "scale 'k' must be positive and finite"),
        (np.float32(-1), "scale 'k' must be positive and finite"),
        (np.float32(1e-40), "scale 'k' must be positive and finite"),
        (np.float32(np.inf), "scale 'k' must be positive and finite"),
        (np.float16(0.5), "scale 'k' must be one float32 value, or a list of them, not float16 of shape ()"),
        (np.ones((2, 2), np.float32), "scale 'k' must be one float32 value, or a list of them, not float32 of shape"),
        (np.ones(10, np.float32), "zero point 'z' must be 10 integers, like its scale, not int8 of shape ()"),
    ],
)
def test_scales(tmp_path: Path, scale: Any, words: str) -> None:
    builder = Builder("N", 10).constant("k", scale).constant("z", np.int8(0))
    builder.add("QuantizeLinear", "x k z", "q", name="quantize").add("DequantizeLinear", "q k z", "d")
    message = refused(tmp_path, builder.add("Relu", "d", "y").model("y"))
    assert message.startswith(f"node 'quantize' (QuantizeLinear): {words}")


def test_scales_of_an_activation_per_channel(tmp_path: Path) -> None:
    builder = Builder("N", 10).constant("k", np.ones(10, np.float32)).constant("z", np.zeros(10, np.int8))
    builder.add("QuantizeLinear", "x k z", "q", name="quantize").add("Identity", "q", "y")
    assert refused(tmp_path, builder.model("y", "int8")) == (
        "node 'quantize' (QuantizeLinear): has 10 scales for an activation; one for the whole tensor is supported"
    )


def test_zero_points_that_are_not_integers(tmp_path: Path) -> None:
    builder = vector().weights("w", W, 0.1)
    builder.constant("w.z", np.float32(0))
    message = refused(tmp_path, gemm(builder))
    assert message.endswith("zero point 'w.z' must be 1 integers, like its scale, not float32 of shape ()")


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32"])
def test_other_types_of_activations(tmp_path: Path, dtype: str) -> None:
    builder = Builder("N", 10, dtype=dtype).qdq("x", 0.1).add("Relu", "x.d", "y")
    message = refused(tmp_path, builder.model("y"))
    assert message == f"node 'QuantizeLinear_x.q' (QuantizeLinear): quantizes to {dtype}; int8 and uint8 are supported"


def test_types_asked_for_by_attribute(tmp_path: Path) -> None:
    builder = Builder("N", 10, opset=21).constant("k", np.float32(1))
    builder.add("QuantizeLinear", "x k", "y", name="q", output_dtype=TensorProto.INT4)
    assert refused(tmp_path, builder.model("y")).endswith(": quantizes to INT4; int8 and uint8 are supported")
    builder.nodes[0].attribute[0].CopyFrom(helper.make_attribute("output_dtype", "int8"))
    assert refused(tmp_path, builder.model("y")).endswith("has output_dtype of another type; an integer is expected")


def test_scales_that_are_computed(tmp_path: Path) -> None:
    builder = vector().add("ReduceMax", "x.d", "m", keepdims=0).constant("z", np.int8(0))
    model = builder.add("QuantizeLinear", "x.d m z", "y", name="q").model("y", "int8")
    assert "ReduceMax" in refused(tmp_path, model)
    builder.nodes[-2].op_type = "Identity"
    del builder.nodes[-2].attribute[:]
    message = refused(tmp_path, builder.model("y", "int8"))
    assert message == "node 'q' (QuantizeLinear): input 1 must be constant, but is computed or left out"


def test_scale_left_out(tmp_path: Path) -> None:
    builder = Builder("N", 10).add("QuantizeLinear", "x", "y", name="q")
    assert refused(tmp_path, builder.model("y", "int8")).endswith(
        "input 1 must be constant, but is computed or left out"
    )
    builder = Builder("N", 10).add("QuantizeLinear", "", "y", name="q")
    assert refused(tmp_path, builder.model("y", "int8")).endswith("lacks its input or output")


# Constants


def test_other_types_of_weights(tmp_path: Path) -> None:
    message = refused(tmp_path, gemm(vector().weights("w", W.astype(np.int16), 0.1)))
    assert (
        message == "node 'DequantizeLinear_w.d' (DequantizeLinear): 'w' is int16; int8, uint8 and int32 are supported"
    )
    message = refused(tmp_path, gemm(vector().weights("w", W.astype(np.int32), 0.1)))
    assert message == "operator 'fc' (FullyConnected): weights 'w' are int32; int8 and uint8 are supported"


def test_int32_with_a_zero_point(tmp_path: Path) -> None:
    builder = vector().weights("w", W, 0.1).weights("b", np.zeros(3, np.int32), 0.1, 5)
    assert "'b' is int32, whose zero point must be 0" in refused(tmp_path, gemm(builder, bias="b.d"))


def test_scales_along_another_axis(tmp_path: Path) -> None:
    builder = vector().weights("w", W, np.linspace(0.1, 0.2, 10), axis=0)
    assert refused(tmp_path, gemm(builder)) == (
        "node 'fc' (Gemm): weights 'w' have scales that differ along another dimension than that of output channels"
    )


@pytest.mark.parametrize("axis", [0, -2, 5])
def test_scales_that_do_not_fit_their_axis(tmp_path: Path, axis: int) -> None:
    message = refused(tmp_path, gemm(vector().weights("w", W, [0.1, 0.2, 0.3], axis=axis)))
    assert message.endswith(f"has 3 scales for dimension {axis} of 'w' of shape (10, 3)")


def test_scales_for_blocks(tmp_path: Path) -> None:
    message = refused(tmp_path, gemm(vector(opset=21).weights("w", W, [0.1, 0.2], axis=0, block_size=5)))
    assert message.endswith("has scales for blocks; one for the tensor or for each output channel is supported")


def test_scales_per_channel_with_zero_points(tmp_path: Path) -> None:
    weights = np.arange(30, dtype=np.uint8).reshape(10, 3) * 8
    message = refused(tmp_path, gemm(vector().weights("w", weights, [0.1, 0.2, 0.3], [0, 9, 99], axis=1)))
    assert message == (
        "operator 'fc' (FullyConnected): weights 'w' with a scale for each channel must be int8 with zero points of 0; "
        "quantize them symmetrically, or with one scale for the whole tensor"
    )


def test_weights_changed_after_they_are_dequantized(tmp_path: Path) -> None:
    builder = vector().weights("w", W, 0.1)
    assert refused(tmp_path, gemm(builder, alpha=0.3)) == (
        "operator 'fc' (FullyConnected): weights 'w' are changed after they are dequantized, by more than their order; "
        "fold that into them before the network is quantized"
    )
    message = refused(tmp_path, gemm(vector().weights("w", W, 0.1), alpha=100.0))
    assert "weights 'w' overflow" in message


def test_batch_normalization_after_a_layer(tmp_path: Path) -> None:
    builder = image().weights("w", np.ones((2, 4, 1, 1), np.int8), 0.1)
    for name in ("g", "b", "m", "v"):
        builder.constant(name, np.array([2, 3], np.float32))
    builder.add("Conv", "x.d w.d", "c", name="conv").add("BatchNormalization", "c g b m v", "y", name="norm")
    message = refused(tmp_path, builder.qdq("y", 0.1).model("y.d"))
    assert message.startswith(
        "operator 'conv' (Conv2D): its output 'c' is not quantized, or in several ways: it goes to"
    )


def test_bias_beyond_int32(tmp_path: Path) -> None:
    builder = vector().weights("w", W, 0.1).constant("b", np.array([1, 2, 1e8], np.float32))
    assert refused(tmp_path, gemm(builder, bias="b")) == (
        "operator 'fc' (FullyConnected): bias 'b' is beyond int32 at the product of the scales of input and weights; "
        "quantize with a greater weight scale"
    )


def test_constants_share_one_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = gemm(vector().weights("w", W, 0.1))
    monkeypatch.setattr("zeropoint.importers.onnx_float_translate.MAX_CONSTANT_BYTES", 239)
    message = refused(tmp_path, model)
    assert message.startswith("node 'DequantizeLinear_w.d' (DequantizeLinear): makes constants of more than")
    monkeypatch.setattr("zeropoint.importers.onnx_float_translate.MAX_CONSTANT_BYTES", 240)
    load(save(model, tmp_path))


# Integers


def test_operators_that_cannot_read_integers(tmp_path: Path) -> None:
    message = refused(tmp_path, Builder("N", 10).q("x", 0.1).add("Relu", "x.q", "y", name="r").model("y", "int8"))
    assert message.startswith("node 'r' (Relu): reads the integers 'x.q'; only DequantizeLinear, Flatten, ")
    assert message.endswith("may, and operators whose names begin with QLinear: put a DequantizeLinear between")


def test_integers_quantized_again(tmp_path: Path) -> None:
    model = Builder("N", 10).q("x", 0.1).q("x.q", 0.1).model("x.q.q", "int8")
    assert refused(tmp_path, model).endswith(
        "quantizes 'x.q', which are integers already; put a DequantizeLinear between"
    )


def test_reals_dequantized(tmp_path: Path) -> None:
    message = refused(tmp_path, Builder("N", 10).dq("x", 0.1).model("x.d"))
    assert message.endswith("dequantizes 'x', which are not integers; put a QuantizeLinear before it")


def test_integers_taken_for_something_else(tmp_path: Path) -> None:
    builder = Builder("N", 10).q("x", 0.1)
    both = builder.parameters("other", 0.1, 1)
    message = refused(tmp_path, builder.add("DequantizeLinear", f"x.q {both}", "d").add("Relu", "d", "y").model("y"))
    assert message == (
        "node 'DequantizeLinear_d' (DequantizeLinear): takes 'x.q' for int8 of scale 0.100000001 and zero point 1, but "
        "they are int8 of scale 0.100000001 and zero point 0"
    )


@pytest.mark.parametrize("value", [0, None])
def test_integers_padded_with_something_else(tmp_path: Path, value: int | None) -> None:
    builder = Builder(*IMAGE).q("x", 0.1, 7).constant("p", [0, 0, 1, 1, 0, 0, 1, 1])
    if value is not None:
        builder.constant("v", np.int8(value))
    builder.add("Pad", "x.q p" + " v" * (value is not None), "y", name="pad")
    assert refused(tmp_path, builder.model("y", "int8")) == (
        "node 'pad' (Pad): pads the integers 'x.q' with something other than their zero point"
    )


# Operators


def test_unsupported_operator(tmp_path: Path) -> None:
    message = refused(tmp_path, vector().add("Erf", "x.d", "y", name="erf").qdq("y", 0.1).model("y.d"))
    assert message.startswith(
        "node 'erf' (Erf): is not supported; quantize the network without it; supported operators are Add, "
    )
    listed = message.rpartition("supported operators are ")[2].split(", ")
    assert {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "com.microsoft::QGemm", "Conv"} <= set(listed)


def test_unsupported_operator_on_integers(tmp_path: Path) -> None:
    builder = Builder("N", 10).q("x", 0.1)
    builder.add("QLinearSigmoid", "x.q x.s x.z x.s x.z", "y", name="s", domain="com.microsoft")
    message = refused(tmp_path, builder.model("y", "int8"))
    assert message.startswith("node 's' (com.microsoft::QLinearSigmoid): reads the integers 'x.q'")


@pytest.mark.parametrize("operator", ["DynamicQuantizeLinear", "MatMulInteger"])
def test_scales_at_run_time(tmp_path: Path, operator: str) -> None:
    builder = Builder("N", 10).qdq("x", 0.1).add(operator, "x.d", "y", name="d")
    message = refused(tmp_path, builder.model("y", "uint8"))
    assert message.startswith(
        f"node 'd' ({operator}): is not supported; its scales are computed at run time: quantize the network statically"
    )


def q_linear(operator: str, inputs: str = "x.q x.s x.z x.s x.z", **attributes: Any) -> onnx.ModelProto:
    builder = (
        Builder(*IMAGE).q("x", 0.1).constant("w", np.ones((2, 4, 1, 1), np.int8)).constant("b", np.zeros(2, np.int32))
    )
    builder.constant("k", np.ones(2, np.float32)).constant("h", np.float16(1))
    domain = "" if operator in ("QLinearConv", "QLinearMatMul") else "com.microsoft"
    return builder.add(operator, inputs, "y", name="bad", domain=domain, **attributes).model("y", "int8")


REFUSED: list[tuple[Callable[[], onnx.ModelProto], str]] = [
    (lambda: q_linear("QLinearGlobalAveragePool", channels_last=1), "has channels_last 1; only feature maps with"),
    (lambda: q_linear("QLinearGlobalAveragePool", channels_last=2), "has channels_last 2; 0 or 1 is expected"),
    (lambda: q_linear("QLinearSoftmax", axis=1, opset=11), "acts as in operator set 11, of which only axis -1"),
    (lambda: q_linear("QLinearSoftmax", opset=11), "acts as in operator set 11, of which only axis -1"),
    (lambda: q_linear("QLinearSoftmax", axis="all"), "has axis of another type; an integer is expected"),
    (lambda: q_linear("QLinearSoftmax", "x.q x.s"), "lacks input 3, a scale"),
    (lambda: q_linear("QLinearSoftmax", "- x.s"), "lacks input 0"),
    (
        lambda: q_linear("QLinearConv", "x.q x.s x.z w x.s x.z x.s x.z b", kernel_shape=[9, 9]),
        "has a kernel_shape that",
    ),
    (lambda: q_linear("QLinearConv", "x.q h x.z w x.s x.z x.s x.z b"), "scale 'h' must be a float32 constant"),
    (lambda: q_linear("QLinearConv", "x.q k x.z w x.s x.z x.s x.z b"), "scale 'k' and alpha must be single values"),
    (lambda: q_linear("QGemm", "x.q x.s x.z w x.s x.z b", alpha="one"), "scale 'x.s' and alpha must be single values"),
    (lambda: q_linear("QLinearAdd", "x.q x.s x.z w x.s x.z x.s x.z", a=1), "is not as ONNX defines it"),
]


@pytest.mark.parametrize(("model", "words"), REFUSED, ids=[words[:30] for _, words in REFUSED])
def test_operators_on_integers(tmp_path: Path, model: Callable[[], onnx.ModelProto], words: str) -> None:
    made = model()
    operator = made.graph.node[-1].op_type
    domain = made.graph.node[-1].domain
    label = f"{domain}::{operator}" if domain else operator
    assert refused(tmp_path, made).startswith(f"node 'bad' ({label}): {words}")


def test_qgemm_with_float_output(tmp_path: Path) -> None:
    builder = Builder("N", 10).q("x", 0.1).constant("w", W)
    builder.add("QGemm", "x.q x.s x.z w x.s x.z", "y", name="fc", domain="com.microsoft")
    assert refused(tmp_path, builder.model("y")).startswith(
        "operator 'fc' (FullyConnected): its output 'y' is not quantized"
    )


# Files


def test_unknown_rounding(tmp_path: Path) -> None:
    model = vector().add("Relu", "x.d", "y").qdq("y", 0.1).model("y.d")
    helper.set_model_props(model, {"zeropoint.rounding": "never"})
    message = "its metadata say zeropoint.rounding = 'never'; 'double' or 'single' or 'even' is expected"
    assert refused(tmp_path, model) == message


def test_float_importer_refuses_integer_inputs(tmp_path: Path) -> None:
    model = Builder("N", 10, dtype="uint8").dq("x", 0.1).add("Relu", "x.d", "y").model("y", source="uint8")
    with pytest.raises(ZeropointError, match="input 'x' must be a float32 tensor; export the network in float32"):
        onnx_float.read(save(model, tmp_path))


def test_other_types_of_the_input(tmp_path: Path) -> None:
    model = Builder("N", 10).dq("x", 0.1).add("Relu", "x.d", "y").model("y")
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT16
    assert refused(tmp_path, model) == "input 'x' must be a float32 tensor; export the network in float32"


def everything() -> onnx.ModelProto:
    """Return a small network that uses most of the importer."""
    builder = Builder("N", 2, 6, 6).qdq("x", 0.1, 3)
    builder.weights("w", np.ones((2, 2, 3, 3), np.int8), [0.1, 0.2], axis=0)
    builder.weights("b", np.ones(2, np.int32), np.float32(0.1) * np.array([0.1, 0.2], np.float32), axis=0)
    builder.add("Conv", "x.d w.d b.d", "c", pads=[1] * 4).add("Relu", "c", "r").q("r", 0.1, -128)
    builder.add("MaxPool", "r.q", "m", kernel_shape=[2, 2], strides=[2, 2])
    weights = builder.constant("v", np.ones((2, 2, 1, 1), np.int8)).parameters("v", 0.1)
    target = builder.parameters("g", 0.2)
    builder.constant("u", np.ones(2, np.int32))
    builder.add("QLinearConv", f"m r.s r.z v {weights} {target} u", "g")
    builder.add("QLinearAdd", f"g {target} m r.s r.z {target}", "s", domain="com.microsoft")
    builder.add("DequantizeLinear", f"s {target}", "s.d").add("Flatten", "s.d", "f")
    builder.constant("t", np.ones((18, 4), np.float32))
    both = builder.parameters("t", [0.1] * 4, [0] * 4)
    builder.add("QuantizeLinear", f"t {both}", "t.q", axis=1).add("DequantizeLinear", f"t.q {both}", "t.d", axis=1)
    return builder.add("MatMul", "f t.d", "y").qdq("y", 0.1).model("y.d")


@pytest.mark.parametrize("seed", range(4))
def test_damaged_bytes_never_escape_as_another_error(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = everything().SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    onnx_quantized.read(path)
    fine, lines = 0, []
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(rng.integers(1, 4)):
            damaged[rng.integers(len(data))] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            onnx_quantized.read(path)
            fine += 1
        except ZeropointError as error:
            lines.append(str(error))
    assert not any("\n" in line for line in lines)
    assert 10 < fine < 140


def test_attributes_of_any_type(tmp_path: Path) -> None:
    """Every attribute that the importer may look at, given each type that ONNX has."""
    values: list[Any] = [1, -7, 2**40, 0.5, "text", [1, 2], [0.5], ["a"], numpy_helper.from_array(W)]
    names = ("axis", "block_size", "output_dtype", "saturate", "opset", "channels_last", "alpha", "transB", "keepdims")
    model = everything()
    lines = []
    for position, entry in enumerate(model.graph.node):
        if "Linear" not in entry.op_type:
            continue
        for name in names:
            for value in values:
                changed = onnx.ModelProto()
                changed.CopyFrom(model)
                attributes = changed.graph.node[position].attribute
                kept = [attribute for attribute in attributes if attribute.name != name]
                del attributes[:]
                attributes.extend([*kept, helper.make_attribute(name, value)])
                path = save(changed, tmp_path)
                try:
                    onnx_quantized.read(path)
                except ZeropointError as error:
                    lines.append(str(error))
    assert len(lines) > 100
    assert not any("\n" in line for line in lines)
