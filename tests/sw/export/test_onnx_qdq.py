"""Networks written as QDQ ONNX files: read back they give the same integers; ONNX Runtime takes them."""

from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.testing import assert_array_equal
from support.files import random_input
from support.quantized_onnx import session, to_file
from support.random_models import ModelBuilder, random_model

import zeropoint.demo
from zeropoint import arrays, golden
from zeropoint.compiler import compile_model
from zeropoint.errors import ZeropointError
from zeropoint.export import onnx_operators, onnx_qdq
from zeropoint.importers import layout, load, onnx_float, onnx_quantized
from zeropoint.model import (
    Add,
    Clamp,
    Conv2D,
    Padding,
    Quantization,
    QuantizedModel,
    Requantize,
    Reshape,
    Softmax,
    Tensor,
)
from zeropoint.numerics import Rounding
from zeropoint.quantize import Scheme, quantize
from zeropoint_hw.config import AcceleratorConfig

DEMO = Path(*zeropoint.demo.__path__)


def round_trip(model: QuantizedModel, folder: Path, count: int = 8) -> QuantizedModel:
    """Write a model, read it back, and compare all outputs; have ONNX Runtime load it."""
    path = folder / "exported.onnx"
    onnx_qdq.write(model, path)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session(path)
    back = onnx_quantized.read(path)
    x = random_input(model, count)
    given, _ = onnx_qdq.file_layout(model, "input")
    assert layout.file_shape(back, "input") == given
    moved = layout.to_model(back, in_file(model, x))
    assert_array_equal(layout.to_file(back, golden.run(back, moved)), out_of_file(model, golden.run(model, x)))
    return back


def in_file(model: QuantizedModel, x: np.ndarray) -> np.ndarray:
    """Return inputs in the layout of the exported file."""
    if model.metadata.get("source") == "onnx":
        return to_file(model, x)
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 else x


def out_of_file(model: QuantizedModel, y: np.ndarray) -> np.ndarray:
    if model.metadata.get("source") == "onnx":
        return layout.to_file(model, y)
    return y.transpose(0, 3, 1, 2) if y.ndim == 4 else y


@pytest.mark.parametrize("seed", range(40))
def test_random_network(tmp_path: Path, seed: int) -> None:
    model = random_model(seed)
    back = round_trip(model, tmp_path)
    assert back.rounding is model.rounding
    # What the same integers mean is the same, too.
    for which in ("input", "output"):
        ours, theirs = (each.tensor(getattr(each, which)) for each in (model, back))
        assert (ours.name, ours.dtype, ours.quantization) == (theirs.name, theirs.dtype, theirs.quantization)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 400))
def test_more_random_networks(tmp_path: Path, seed: int) -> None:
    round_trip(random_model(seed, operators=10), tmp_path, count=3)


@pytest.mark.parametrize("scheme", [Scheme.AFFINE_INT8, Scheme.AFFINE_UINT8])
def test_demo_network(tmp_path: Path, scheme: Scheme) -> None:
    """Everything survives: operators, names, weights, scales; and so does what the file is written from then on."""
    network = load(DEMO / "fashion_mnist.onnx")
    x = arrays.load_real(DEMO / "calibration.npy", network, 1 / 255)
    model = quantize(network, x[:20], scheme=scheme)
    back = round_trip(model, tmp_path, count=3)
    assert back.operators == model.operators
    assert back.tensors.keys() == model.tensors.keys()
    for name, tensor in model.tensors.items():
        other = back.tensor(name)
        assert (other.shape, other.dtype) == (tensor.shape, tensor.dtype)
        if tensor.dtype != "int32":
            assert other.quantization == tensor.quantization
        assert_array_equal(other.data, tensor.data)
    assert back.metadata == model.metadata
    again = onnx_qdq.serialize(onnx_qdq.convert(replace(back, name=model.name)))
    assert again == (tmp_path / "exported.onnx").read_bytes()
    compile_model(back, AcceleratorConfig())


def test_the_same_bytes_every_time(tmp_path: Path) -> None:
    paths = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for path in paths:
        onnx_qdq.write(random_model(3), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert str(tmp_path).encode() not in paths[0].read_bytes()


def test_feature_maps_have_channels_first() -> None:
    proto = onnx_qdq.convert(random_model(1))
    (source,), (target,) = proto.graph.input, proto.graph.output
    height, width, channels = random_model(1).tensor("input").shape
    sizes = [dim.dim_param or dim.dim_value for dim in source.type.tensor_type.shape.dim]
    assert sizes == ["N", channels, height, width]
    assert source.type.tensor_type.elem_type == target.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def chain(builder: ModelBuilder, output: str, **metadata: str) -> QuantizedModel:
    return replace(builder.build(output), metadata=metadata)


@pytest.mark.parametrize(
    ("shape", "metadata"),
    [
        ((5, 6, 3), {"input_shape": "3,5,6", "input_permutation": "1,2,0"}),
        ((5, 6, 3), {}),
        ((1, 6, 3), {"input_shape": "3,6", "input_permutation": "1,0"}),
        ((1, 6, 3), {"input_shape": "6,3"}),
    ],
)
def test_layout_of_the_source_file(tmp_path: Path, shape: tuple[int, ...], metadata: dict[str, str]) -> None:
    """A network from an ONNX file takes the arrays that it took there."""
    builder = ModelBuilder(np.random.default_rng(0))
    model = chain(builder, builder.conv(builder.input(*shape), 4, (1, 2)), source="onnx", **metadata)
    back = round_trip(model, tmp_path)
    assert {key: back.metadata.get(key) for key in metadata} == metadata


@pytest.mark.parametrize("metadata", [{"output_shape": "4,5,5", "output_permutation": "1,2,0"}, {}])
def test_layout_of_the_output(tmp_path: Path, metadata: dict[str, str]) -> None:
    builder = ModelBuilder(np.random.default_rng(0))
    model = chain(builder, builder.conv(builder.input(5, 6, 3), 4, (1, 2)), source="onnx", **metadata)
    back = round_trip(model, tmp_path)
    assert layout.file_shape(back, "output") == ((4, 5, 5) if metadata else (5, 5, 4))


def test_network_that_did_not_come_from_onnx(tmp_path: Path) -> None:
    builder = ModelBuilder(np.random.default_rng(0))
    model = chain(builder, builder.conv(builder.input(5, 6, 3), 4, (1, 2)), source="tflite", float_input="f")
    back = round_trip(model, tmp_path)
    assert back.metadata["input_shape"] == "3,5,6"
    assert back.metadata["source"] == "onnx"
    assert back.metadata["float_input"] == "f"


def single(*operators: object, shape: tuple[int, ...] = (4, 3, 2), **tensors: Tensor) -> QuantizedModel:
    """Return an int8 network of ``operators`` from ``x`` on, whose other activations have given quantizations."""
    first = Tensor("x", shape, "int8", Quantization((0.05,), (3,)))
    return QuantizedModel("m", {"x": first, **tensors}, operators, "x", operators[-1].output)


def tensor(name: str, shape: tuple[int, ...], scale: float = 0.05, zero_point: int = 3, dtype: str = "int8") -> Tensor:
    return Tensor(name, shape, dtype, Quantization((scale,), (zero_point,)))


@pytest.mark.parametrize("shape", [(24,), (1, 1, 24), (1, 24, 1), (3, 2, 4), (2, 12, 1), (4, 6), (2, 3, 2, 2)])
def test_reshape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """The elements keep our order, height, width, channels, though the file's is another."""
    path = tmp_path / "exported.onnx"
    back = Requantize(name="r", input="y", output="z")
    model = single(
        Reshape(name="s", input="x", output="y", shape=shape), back, y=tensor("y", shape), z=tensor("z", shape, 0.04)
    )
    onnx_qdq.write(model, path)
    x = random_input(model, 3)
    ours = golden.run(model, x)
    ours = ours.transpose(0, 3, 1, 2) if ours.ndim == 4 else ours
    (real,) = session(path).run(None, {"x": model.tensor("x").dequantize(x).transpose(0, 3, 1, 2)})
    assert real.shape == ours.shape
    assert np.abs(model.tensor("z").quantize(real).astype(int) - ours).max() <= 1
    if len(shape) < 4:
        round_trip(model, tmp_path)


@pytest.mark.parametrize(
    "clamp", [Clamp(), Clamp(0, inf), Clamp(0, 6), Clamp(-1, 1), Clamp(-inf, 0.1), Clamp(-0.3, inf), Clamp(0.1, 1e39)]
)
def test_activations(tmp_path: Path, clamp: Clamp) -> None:
    operator = Requantize(name="r", input="x", output="y", clamp=clamp)
    back = round_trip(single(operator, y=tensor("y", (4, 3, 2), 0.02)), tmp_path, 200)
    (found,) = back.operators
    assert found.name == "r"
    assert found.clamp.low == np.float32(clamp.low)
    assert found.clamp.high == (np.float32(clamp.high) if clamp.high < 1e38 else inf)


def test_change_of_type(tmp_path: Path) -> None:
    operators = Requantize(name="a", input="x", output="y"), Requantize(name="b", input="y", output="z")
    model = single(*operators, y=tensor("y", (4, 3, 2), 0.06, 200, "uint8"), z=tensor("z", (4, 3, 2), 0.06, 72))
    assert round_trip(model, tmp_path).operators == operators


def test_what_changes_nothing_is_left_out(tmp_path: Path) -> None:
    operators = Requantize(name="a", input="x", output="y"), Requantize(name="b", input="y", output="z")
    model = single(*operators, y=tensor("y", (4, 3, 2)), z=tensor("z", (4, 3, 2), 0.04))
    assert [operator.name for operator in round_trip(model, tmp_path).operators] == ["b"]


@pytest.mark.parametrize(("shape", "beta"), [((7,), 1.0), ((7,), 0.3), ((2, 3, 7), 1.0), ((3, 7), 2.0)])
def test_softmax(tmp_path: Path, shape: tuple[int, ...], beta: float) -> None:
    operator = Softmax(name="s", input="x", output="y", beta=beta)
    target = Tensor("y", shape, "int8", Quantization((1 / 256,), (-128,)))
    back = round_trip(single(operator, shape=shape, y=target), tmp_path)
    (found,) = (each for each in back.operators if isinstance(each, Softmax))
    assert found.beta == np.float32(beta)


def test_output_in_the_middle_and_an_input_that_is_read_twice(tmp_path: Path) -> None:
    sum_ = Add(name="sum", input="x", other="x", output="y")
    last = Requantize(name="last", input="y", output="z", clamp=Clamp(0, inf))
    model = single(sum_, last, y=tensor("y", (4, 3, 2), 0.1), z=tensor("z", (4, 3, 2)))
    assert round_trip(replace(model, output="y"), tmp_path).output == "y"


def test_constants_that_layers_share(tmp_path: Path) -> None:
    """The weights are there once; the bias twice, as its scale is that of the layer's input."""
    w = Tensor(
        "w",
        (2, 1, 1, 2),
        "int8",
        Quantization((0.01, 0.02), (0, 0), 0),
        np.arange(4, dtype=np.int8).reshape(2, 1, 1, 2),
    )
    b = Tensor("b", (2,), "int32", Quantization((1.0,)), np.array([5000, -70], np.int32))
    operators = [
        Conv2D(name=name, input=source, output=target, weights="w", bias="b")
        for name, source, target in (("one", "x", "y"), ("two", "y", "z"))
    ]
    model = single(*operators, y=tensor("y", (4, 3, 2), 0.2), z=tensor("z", (4, 3, 2), 0.002), w=w, b=b)
    names = [entry.name for entry in onnx_qdq.convert(model).graph.initializer]
    assert names.count("w") == 1
    assert {"b", "b_1"} <= set(names)
    round_trip(model, tmp_path)


def test_names_that_the_file_needs_are_taken(tmp_path: Path) -> None:
    """Tensors may be called as those that the export adds."""
    operators = (
        Requantize(name="x.quantized", input="x", output="x.quantized"),
        Requantize(name="y", input="x.quantized", output="x.dequantized"),
    )
    names = {name: tensor(name, (4, 3, 2), 0.04) for name in ("x.quantized", "x.dequantized")}
    names["x.dequantized"] = tensor("x.dequantized", (4, 3, 2), 0.03)
    back = round_trip(single(*operators, **names), tmp_path)
    assert [operator.output for operator in back.operators] == ["x.quantized", "x.dequantized"]


def test_padding_and_strides_have_the_files_order() -> None:
    builder = ModelBuilder(np.random.default_rng(0))
    source = builder.input(9, 8, 3)
    output = builder.conv(source, 4, (3, 2), stride=(2, 1), dilation=(1, 2), padding=Padding(1, 2, 3, 4))
    (conv,) = (node for node in onnx_qdq.convert(builder.build(output)).graph.node if node.op_type == "Conv")
    found = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in conv.attribute}
    assert found == {"kernel_shape": [3, 2], "strides": [2, 1], "dilations": [1, 2], "pads": [1, 3, 2, 4], "group": 1}


def test_metadata_and_rounding(tmp_path: Path) -> None:
    model = replace(
        single(Requantize(name="r", input="x", output="y"), y=tensor("y", (4, 3, 2), 0.1)), rounding=Rounding.SINGLE
    )
    model = replace(model, metadata={"scheme": "affine-int8", "note": "ünïcode, and a line"})
    proto = onnx_qdq.convert(model)
    assert {entry.key: entry.value for entry in proto.metadata_props} == {
        "zeropoint.note": "ünïcode, and a line",
        "zeropoint.rounding": "single",
        "zeropoint.scheme": "affine-int8",
    }
    back = round_trip(model, tmp_path)
    assert back.rounding is Rounding.SINGLE
    assert back.metadata.items() >= model.metadata.items()


# Refusals


def test_operators_that_onnx_cannot_have_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    model = single(
        Requantize(name="r", input="x", output="y"),
        Requantize(name="t", input="y", output="z"),
        y=tensor("y", (4, 3, 2), 0.1),
        z=tensor("z", (4, 3, 2), 0.2),
    )
    softmax = Softmax(name="s", input="x", output="y")
    monkeypatch.delitem(onnx_operators._WRITERS, Softmax)
    target = Tensor("y", (4, 3, 2), "int8", Quantization((1 / 256,), (-128,)))
    onnx_qdq.convert(model)
    with pytest.raises(ZeropointError, match=r"^operator 's' \(Softmax\) cannot be exported to ONNX: only Add, "):
        onnx_qdq.convert(single(softmax, y=target))


def test_scales_whose_product_is_no_float32() -> None:
    w = Tensor("w", (2, 1, 1, 2), "int8", Quantization((1e-38,)), np.ones((2, 1, 1, 2), np.int8))
    b = Tensor("b", (2,), "int32", Quantization((1.0,)), np.zeros(2, np.int32))
    operator = Conv2D(name="c", input="x", output="y", weights="w", bias="b")
    with pytest.raises(
        ZeropointError, match=r"^operator 'c' \(Conv2D\): the product of the scales of input and weights"
    ):
        onnx_qdq.convert(single(operator, y=tensor("y", (4, 3, 2)), w=w, b=b))


def test_file_that_would_be_too_large(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(onnx_qdq, "MAX_FILE_BYTES", 100)
    with pytest.raises(ZeropointError, match=r"^model 'random' would have \d+ bytes as ONNX; 100 at most"):
        onnx_qdq.write(random_model(0), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_a_quantized_file_is_none_for_the_float_importer(tmp_path: Path) -> None:
    onnx_qdq.write(random_model(0), tmp_path / "m.onnx")
    with pytest.raises(ZeropointError, match="export the network before it is quantized"):
        onnx_float.read(tmp_path / "m.onnx")
