"""What the importer refuses: one clear line that names the file and the node or tensor, and never much memory."""

import os
import resource
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.onnx_models import make, node, read, save

from zeropoint.errors import ZeropointError
from zeropoint.importers import load, onnx_float, onnx_float_arrays, onnx_float_constants, onnx_float_file

W34 = np.ones((3, 4), np.float32)


def refused(folder: Path, model: onnx.ModelProto | bytes) -> str:
    """Return the message with which a model is refused, without the file's name."""
    path = folder / "model.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    with pytest.raises(ZeropointError) as caught:
        onnx_float.read(path)
    message = str(caught.value)
    assert message.startswith(f"'{path}': ")
    assert "\n" not in message
    return message.removeprefix(f"'{path}': ")


def small() -> onnx.ModelProto:
    return make([node("Gemm", "x w", name="fc")], (1, 3), {"w": W34})


def tensor(name: str, dims: list[int], kind: int = TensorProto.FLOAT, **fields: Any) -> TensorProto:
    found = TensorProto(name=name, dims=dims, data_type=kind)
    for key, value in fields.items():
        setattr(found, key, value)
    return found


def with_weights(weights: TensorProto) -> onnx.ModelProto:
    model = make([node("Gemm", "x w", name="fc")], (1, 3))
    model.graph.initializer.append(weights)
    return model


def external(folder: Path, **entries: str) -> TensorProto:
    weights = tensor("w", [3, 4], data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        weights.external_data.add(key=key, value=value)
    return weights


# Files


@pytest.mark.parametrize("name", ["model.h5", "model", "model.onnx.data"])
def test_load_wants_a_suffix_that_it_knows(tmp_path: Path, name: str) -> None:
    with pytest.raises(ZeropointError, match=rf"^cannot tell what '.*{name}' is: name a \.onnx file .* or a \.zp file"):
        load(tmp_path / name)


@pytest.mark.parametrize("name", ["model.onnx", "MODEL.ONNX"])
def test_load_reads_onnx_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(small().SerializeToString())
    assert load(tmp_path / name).input == "x"


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ZeropointError, match=r"^cannot read '.*nothing\.onnx': No such file or directory"):
        load(tmp_path / "nothing.onnx")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(ZeropointError, match=r"^cannot read '.*folder\.onnx': Is a directory"):
        load(tmp_path / "folder.onnx")


@pytest.mark.parametrize("content", [b"PK\x03\x04 not a model", b"\xff" * 100, b"\n" * 50, bytes(64), b"{}"])
def test_garbage(tmp_path: Path, content: bytes) -> None:
    assert "not an ONNX model" in refused(tmp_path, content)


def test_empty_file_and_model_without_nodes(tmp_path: Path) -> None:
    assert refused(tmp_path, b"") == "not an ONNX model: it has no nodes"
    assert refused(tmp_path, make([], (1, 3))) == "not an ONNX model: it has no nodes"


def test_truncated_at_every_byte(tmp_path: Path) -> None:
    data = small().SerializeToString()
    assert len(data) > 100
    for length in range(len(data)):
        refused(tmp_path, data[:length])


def test_truncated_message(tmp_path: Path) -> None:
    data = small().SerializeToString()
    expected = "not an ONNX model, or a truncated one; export or copy it again"
    assert refused(tmp_path, data[: len(data) // 2]) == expected


@pytest.mark.parametrize("seed", range(4))
def test_damaged_bytes_never_escape_as_another_error(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    nodes = [
        node("Conv", "x w b", "c", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("BatchNormalization", "c s s s s", "n", epsilon=0.1),
        node("Clip", "n low high", "r"),
        node("Pad", "r pads", "p"),
        node("AveragePool", "p", "a", kernel_shape=[2, 2], count_include_pad=1, pads=[1, 1, 0, 0]),
        node("Shape", "a", "shape"),
        node("Gather", "shape zero", "size", axis=0),
        node("Concat", "size rest", "target", axis=0),
        node("Reshape", "a target", "f"),
        node("Gemm", "f v", "g", transB=1),
        node("Softmax", "g", "y", axis=1),
    ]
    constants: dict[str, Any] = {
        "w": np.ones((4, 2, 3, 3), np.float32),
        "b": np.ones(4, np.float32),
        "s": np.ones(4, np.float32),
        "low": np.float32(0),
        "high": np.float32(6),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "zero": np.array([0]),
        "rest": np.array([-1]),
        "v": np.ones((3, 144), np.float32),
    }
    data = make(nodes, ("N", 2, 8, 8), constants).SerializeToString()
    read(onnx.load_from_string(data), tmp_path)
    path = tmp_path / "model.onnx"
    fine, lines = 0, []
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(rng.integers(1, 4)):
            damaged[rng.integers(len(data))] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            onnx_float.read(path)
            fine += 1
        except ZeropointError as error:
            lines.append(str(error))
    assert not any("\n" in line for line in lines)
    # Most bytes are weights, which may have any value.
    assert 20 < fine < 150


def test_file_beyond_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_float_file, "MAX_FILE_BYTES", 50)
    path = save(small(), tmp_path)
    with pytest.raises(ZeropointError, match="it is longer than 50 bytes"):
        onnx_float.read(path)


def test_names_that_are_not_text(tmp_path: Path) -> None:
    data = small().SerializeToString()
    damaged = data.replace(b"\n\x01x", b"\n\x01\xff")
    assert damaged != data
    assert "names that are not UTF-8" in refused(tmp_path, damaged)


def test_unprintable_names(tmp_path: Path) -> None:
    model = make([node("Gemm", "x w")], (1, 3), {"w": W34}, inputs={"x": (1, 3)})
    model.graph.node[0].output[0] = model.graph.output[0].name = "y\n\x1b[31m"
    assert refused(tmp_path, model) == "has the name 'y\\n\\x1b[31m', which is unprintable or too long; rename it"
    model = small()
    model.graph.node[0].name = "n" * 2000
    assert refused(tmp_path, model) == f"has the name '{'n' * 60}', which is unprintable or too long; rename it"
    model = small()
    model.graph.node[0].name = "n\n"
    model.graph.node[0].input[1] = "missing"
    assert (
        refused(tmp_path, model) == "node 'n\N{REPLACEMENT CHARACTER}' (Gemm) reads 'missing', which nothing computes"
    )


# Graphs


@pytest.mark.parametrize("version", [6, 999, None])
def test_operator_set(tmp_path: Path, version: int | None) -> None:
    model = small()
    del model.opset_import[:]
    if version is not None:
        model.opset_import.add(domain="", version=version)
    newest = onnx.defs.onnx_opset_version()
    found = "unknown" if version is None else version
    expected = f"uses ONNX operator set {found}; export it with a version from 7 to {newest}"
    assert refused(tmp_path, model) == expected


def test_two_inputs(tmp_path: Path) -> None:
    model = make([node("Add", "a b")], (), inputs={"a": (1, 3), "b": (1, 3)})
    assert refused(tmp_path, model) == (
        "a network must have one input, but it has 2 ('a', 'b'); cut out the part to run with onnx.utils.extract_model"
    )


def test_two_outputs_and_none(tmp_path: Path) -> None:
    model = make([node("Relu", "x", "y"), node("Relu", "x", "z")], (1, 3), outputs=["y", "z"])
    assert "must have one output, but it has 2 ('y', 'z')" in refused(tmp_path, model)
    assert "must have one output, but it has 0 (none)" in refused(
        tmp_path, make([node("Relu", "x")], (1, 3), outputs=[])
    )


def test_cyclic_graph(tmp_path: Path) -> None:
    nodes = [
        node("Relu", "c", "y", name="last"),
        node("Add", "x b", "a", name="first"),
        node("Relu", "a", "b", name="second"),
        node("Relu", "a", "c", name="third"),
    ]
    message = refused(tmp_path, make(nodes, (1, 3)))
    assert message in {
        "node 'first' (Add) depends on its own output: the graph has a cycle",
        "node 'second' (Relu) depends on its own output: the graph has a cycle",
    }


def test_node_that_reads_itself(tmp_path: Path) -> None:
    message = refused(tmp_path, make([node("Add", "x y", "y", name="loop")], (1, 3)))
    assert message == "node 'loop' (Add) depends on its own output: the graph has a cycle"


def test_missing_tensor(tmp_path: Path) -> None:
    message = refused(tmp_path, make([node("Gemm", "x w", name="fc")], (1, 3)))
    assert message == "node 'fc' (Gemm) reads 'w', which nothing computes"
    assert refused(tmp_path, make([node("Relu", "x", "z")], (1, 3))) == "nothing computes its output 'y'"


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Relu", "x"), node("Relu", "x")],
        [node("Relu", "x", "x"), node("Relu", "x")],
        [node("Relu", "x", "w"), node("Gemm", "x w")],
    ],
)
def test_tensor_with_two_sources(tmp_path: Path, nodes: Any) -> None:
    message = refused(tmp_path, make(nodes, (1, 3), {"w": W34}))
    assert message in {f"defines the tensor '{name}' twice; each tensor must have one source" for name in "xyw"}


def test_initializer_twice(tmp_path: Path) -> None:
    model = small()
    model.graph.initializer.append(model.graph.initializer[0])
    assert "defines the tensor 'w' twice" in refused(tmp_path, model)


def test_too_many_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_float_file, "MAX_NODES", 1)
    assert refused(tmp_path, small()) == "has 1 nodes and 1 initializers; 1 at most"


def test_network_that_does_nothing(tmp_path: Path) -> None:
    assert "has no operators" in refused(tmp_path, make([node("Identity", "x")], (1, 3)))


def test_output_that_is_constant(tmp_path: Path) -> None:
    message = refused(tmp_path, make([node("Identity", "w")], (1, 3), {"w": W34}))
    assert message == "output 'y' does not depend on input 'x'"


def test_output_that_a_node_computes_beside_another(tmp_path: Path) -> None:
    nodes = [node("MaxPool", "x", "p y", kernel_shape=[2, 2])]
    assert "output 'y' is one that its node computes beside the first" in refused(tmp_path, make(nodes, (1, 3, 4, 4)))
    nodes += [node("Cast", "y", "z", to=TensorProto.FLOAT, name="cast")]
    message = refused(tmp_path, make(nodes, (1, 3, 4, 4), outputs=["z"]))
    assert message == "node 'cast' (Cast): reads 'y', an output of another node that is not supported"


def test_sub_graphs(tmp_path: Path) -> None:
    body = helper.make_graph([node("Relu", "x", "z")], "body", [], [helper.make_tensor_value_info("z", 1, (1, 3))])
    branch = node("If", "condition", name="if", then_branch=body, else_branch=body)
    message = refused(tmp_path, make([branch], (1, 3), {"condition": np.array(True)}))
    assert message == "node 'if' (If): sub-graphs are not supported; export the network without control flow"


def test_sparse_initializers(tmp_path: Path) -> None:
    model = small()
    model.graph.sparse_initializer.add()
    assert refused(tmp_path, model) == "has sparse initializers; save it with dense ones"


# Operators


def test_unsupported_operator_is_named_with_those_that_are(tmp_path: Path) -> None:
    message = refused(tmp_path, make([node("Erf", "x", name="gelu")], (1, 3)))
    assert message == (
        "node 'gelu' (Erf): is not supported; export the network without it; supported operators are Add, "
        "AveragePool, BatchNormalization, Cast, "
        "Clip, Constant, Conv, Div, Dropout, Flatten, Gemm, GlobalAveragePool, GlobalMaxPool, Identity, MatMul, "
        "Max, MaxPool, Min, Mul, Pad, ReduceMean, Relu, Reshape, Shape, Softmax, Squeeze, Sub, Transpose, Unsqueeze"
    )


def test_node_without_a_name_is_told_by_its_output(tmp_path: Path) -> None:
    nodes = [node("Sigmoid", "x", "s"), node("Relu", "s")]
    nodes[0].name = ""
    message = refused(tmp_path, make(nodes, (1, 3)))
    assert message.startswith("node without a name, of output 's' (Sigmoid): is not supported")


def test_operator_of_another_domain(tmp_path: Path) -> None:
    custom = node("Magic", "x", name="m", domain="com.example")
    message = refused(tmp_path, make([custom], (1, 3)))
    assert message.startswith(
        "node 'm' (com.example::Magic): is not supported; export the network without it; "
        "if it is a function of the model, inline it with onnx.inliner; supported operators are Add, "
    )


def test_quantized_network(tmp_path: Path) -> None:
    constants = {"s": np.float32(0.1), "z": np.int8(0)}
    message = refused(tmp_path, make([node("QuantizeLinear", "x s z", name="q")], (1, 3), constants))
    assert message.startswith("node 'q' (QuantizeLinear): is not supported; export the network before it is quantized;")


def constant_nodes(operator: str, inputs: str, **attributes: Any) -> list[Any]:
    return [node(operator, inputs, "k", name="fold", **attributes), node("Add", "x k")]


def test_constants_that_cannot_be_folded(tmp_path: Path) -> None:
    message = refused(tmp_path, make(constant_nodes("Erf", "w"), (1, 4), {"w": W34}))
    assert message.startswith("node 'fold' (Erf): is not supported; export the network without it; supported operators")
    message = refused(tmp_path, make(constant_nodes("MatMul", "w w"), (1, 4), {"w": W34}))
    assert message == ("node 'fold' (MatMul): is not supported on constants alone; fold it before with onnx-simplifier")
    message = refused(tmp_path, make(constant_nodes("Add", "w v"), (1, 4), {"w": W34, "v": np.ones(3, np.float32)}))
    assert message.startswith("node 'fold' (Add): cannot be evaluated: ")
    message = refused(tmp_path, make(constant_nodes("RandomNormal", "", shape=[4]), (1, 4)))
    assert message.startswith("node 'fold' (RandomNormal): is not supported")


IMAGE, VECTOR = (1, 3, 6, 6), (1, 3)
CASES: list[tuple[str, Any, tuple[int, ...], dict[str, Any], str]] = [
    ("dilated pool", node("MaxPool", "x", kernel_shape=[2, 2], dilations=[2, 2]), IMAGE, {}, "cannot be dilated"),
    (
        "huge padding",
        node("MaxPool", "x", kernel_shape=[2, 2], pads=[2, 0, 0, 0]),
        IMAGE,
        {},
        "reaches beyond a window",
    ),
    ("negative pads", node("MaxPool", "x", kernel_shape=[2, 2], pads=[-1, 0, 0, 0]), IMAGE, {}, "not negative"),
    ("window too large", node("MaxPool", "x", kernel_shape=[9, 9]), IMAGE, {}, "does not fit an input"),
    ("wrong rank", node("MaxPool", "x", kernel_shape=[2]), IMAGE, {}, "has kernel_shape [2]; 2 that are positive"),
    ("pool of a vector", node("MaxPool", "x", kernel_shape=[2]), VECTOR, {}, "takes a feature map"),
    ("odd auto_pad", node("MaxPool", "x", kernel_shape=[2, 2], auto_pad="ODD"), IMAGE, {}, "has auto_pad 'ODD'"),
    ("softmax over height", node("Softmax", "x", axis=2), IMAGE, {}, "has axis 2; only softmax over the channels"),
    ("softmax over the batch", node("Softmax", "x", axis=0), IMAGE, {}, "has axis 0; only softmax over the channels"),
    ("mean over the batch", node("ReduceMean", "x", axes=[0, 2, 3]), IMAGE, {}, "takes the mean over the batch"),
    ("mean of everything", node("ReduceMean", "x"), IMAGE, {}, "takes the mean over the batch"),
    ("computed weights", node("Conv", "x x"), IMAGE, {}, "input 1 must be constant"),
    ("product of activations", node("Mul", "x x"), IMAGE, {}, "is supported with a constant second input only"),
    ("division of a constant", node("Div", "k x"), VECTOR, {"k": W34[0, :3]}, "constant second input only"),
    ("division by zero", node("Div", "x k"), VECTOR, {"k": np.float32([1, 0, 1])}, "divides by 'k', which has zeros"),
    ("constant too large", node("Add", "x k"), VECTOR, {"k": np.ones((5, 3), np.float32)}, "broadcasts to (N, 3)"),
    ("reflected pad", node("Pad", "x k", mode="reflect"), IMAGE, {"k": np.array([0] * 8)}, "has mode 'reflect'"),
    ("pad of ones", node("Pad", "x k v"), IMAGE, {"k": np.array([0, 0, 1, 0] * 2), "v": np.float32(1)}, "other than 0"),
    ("pad of a batch", node("Pad", "x k"), IMAGE, {"k": np.array([1, 0, 0, 0] * 2)}, "only height and width"),
    ("cropping pad", node("Pad", "x k"), IMAGE, {"k": np.array([0, 0, -1, 0] * 2)}, "not negative"),
    ("cast", node("Cast", "x", to=TensorProto.INT8), VECTOR, {}, "changes the type of values"),
    ("maximum of two", node("Max", "x x"), VECTOR, {}, "is supported with one constant only"),
    ("maximum of three", node("Max", "x k k"), VECTOR, {"k": np.float32(0)}, "is supported with one constant only"),
    ("vector maximum", node("Max", "x k"), VECTOR, {"k": W34[0, :3]}, "takes one float32 value as 'k'"),
    ("empty clip", node("Clip", "x k l"), VECTOR, {"k": np.float32(2), "l": np.float32(1)}, "clip to an interval"),
    ("NaN clip", node("Clip", "x k"), VECTOR, {"k": np.float32(np.nan)}, "'k' has values that are NaN or infinite"),
    ("vector clip", node("Clip", "x k"), VECTOR, {"k": W34[0]}, "takes one float32 value as 'k'"),
    ("training", node("Dropout", "x - t"), VECTOR, {"t": np.array(True)}, "is in training mode"),
    ("batch merged", node("Reshape", "x k"), (2, 3), {"k": np.array([3, 2])}, "merges the batch"),
    ("batch flattened", node("Flatten", "x", axis=0), (2, 3), {}, "merges the batch"),
    ("wrong size", node("Reshape", "x k"), VECTOR, {"k": np.array([1, 4])}, "cannot give the shape (1, 3) the shape"),
    ("deep", node("Reshape", "x k"), VECTOR, {"k": np.array([1] * 9 + [3])}, "10 dimensions; 8 at most"),
    ("squeezed", node("Squeeze", "x k"), VECTOR, {"k": np.array([1])}, "removes dimensions [1] of (N, 3)"),
    ("wrong axis", node("Unsqueeze", "x k"), VECTOR, {"k": np.array([5])}, "has axes (5,), but there are 3 dimensions"),
    ("same axis", node("Unsqueeze", "x k"), VECTOR, {"k": np.array([1, 1])}, "adds a dimension twice"),
    ("permutation", node("Transpose", "x", perm=[0, 0]), VECTOR, {}, "has perm [0, 0]"),
    ("batch last", node("Transpose", "x", perm=[1, 0]), VECTOR, {}, "must have the batch first"),
    ("features", node("Gemm", "x k"), (1, 5), {"k": W34}, "takes 3 features, but its input has 5"),
    ("bias", node("Gemm", "x k b"), VECTOR, {"k": W34, "b": np.ones(5, np.float32)}, "takes a bias of 4 values"),
    ("gemm of a map", node("Gemm", "x k"), IMAGE, {"k": W34}, "takes (N, features) and a constant matrix"),
    ("groups", node("Conv", "x k", group=2), IMAGE, {"k": np.ones((4, 3, 1, 1), np.float32)}, "3 channels in 2 groups"),
    ("kernel", node("Conv", "x k", kernel_shape=[2, 2]), IMAGE, {"k": np.ones((4, 3, 1, 1), np.float32)}, "differs"),
    ("double", node("Gemm", "x k"), VECTOR, {"k": np.ones((3, 4))}, "'k' is float64; export the network in float32"),
    ("odd flag", node("ReduceMean", "x", axes=[1], keepdims=2), VECTOR, {}, "has keepdims 2; 0 or 1 is expected"),
    (
        "unknown attribute",
        node("Relu", "x", alpha=1.0),
        VECTOR,
        {},
        "is not as ONNX defines it: Unrecognized attribute",
    ),
    ("missing input", node("Gemm", "x"), VECTOR, {}, "is not as ONNX defines it"),
    ("wrong type", node("Softmax", "x", axis=1.5), VECTOR, {}, "is not as ONNX defines it"),
    (
        "no channels",
        node("BatchNormalization", "x k k k k"),
        VECTOR,
        {"k": W34[0]},
        "takes four constants of shape (3,)",
    ),
    ("variance", node("BatchNormalization", "x k k k v"), VECTOR, {"k": W34[0, :3], "v": -W34[0, :3]}, "variance 'v'"),
]


@pytest.mark.parametrize(
    ("bad", "shape", "constants", "expected"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_unsupported_node(tmp_path: Path, bad: Any, shape: Any, constants: Any, expected: str) -> None:
    bad.name = "bad"
    message = refused(tmp_path, make([bad], shape, constants))
    assert expected in message
    assert message.startswith((f"node 'bad' ({bad.op_type}): ", "initializer 'k'", "output 'y'"))


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        *[
            (
                node("ReduceMean", "c", axes=axes),
                f"takes the mean over dimension {named} of its input; only the mean over height and width together, or "
                f"over height alone, is supported",
            )
            for axes, named in (([1], "1"), ([3], "3"), ([-1], "3"), ([1, 2], "1, 2"))
        ],
        (node("Add", "c pixels"), "takes a constant that varies over channels only, not one of shape (6, 6)"),
        (node("Pad", "c pads"), "pads channels; only height and width can be padded"),
        (node("Add", "c t"), "takes two inputs whose elements lie in the same order"),
    ],
)
def test_unsupported_order_after_a_convolution(tmp_path: Path, bad: Any, expected: str) -> None:
    """Of the input itself such things are possible, as its order can be chosen."""
    bad.name = "bad"
    constants: dict[str, Any] = {
        "w": np.ones((6, 3, 1, 1), np.float32),
        "pixels": np.ones((6, 6), np.float32),
        "pads": np.array([0, 1, 0, 0] * 2),
    }
    nodes = [node("Conv", "x w", "c"), node("Transpose", "c", "t", perm=[0, 2, 1, 3]), bad]
    message = refused(tmp_path, make(nodes, IMAGE, constants))
    assert message.startswith(f"node 'bad' ({bad.op_type}): {expected}")


def test_input_of_other_types_and_shapes(tmp_path: Path) -> None:
    model = small()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    assert refused(tmp_path, model) == "input 'x' must be a float32 tensor; export the network in float32"
    message = refused(tmp_path, make([node("Relu", "x")], (1, 3, "height", 4)))
    assert message == (
        "input 'x' has no fixed size in dimension 2 (height); only the batch may be dynamic: export it with fixed sizes"
    )
    assert "must have a shape with the batch first" in refused(tmp_path, make([node("Relu", "x")], (3,)))
    assert "has 5 dimensions with the batch; 2 to 4" in refused(tmp_path, make([node("Relu", "x")], (1, 2, 3, 4, 5)))


# Data


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(tmp_path: Path, value: float) -> None:
    weights = W34.copy()
    weights[1, 2] = value
    message = refused(tmp_path, make([node("Gemm", "x fc.weight")], (1, 3), {"fc.weight": weights}))
    assert message == ("initializer 'fc.weight' has values that are NaN or infinite; train or export the network again")


def test_weights_that_overflow_when_folded(tmp_path: Path) -> None:
    huge = np.full(4, 3e38, np.float32)
    nodes = [node("Gemm", "x w", "g"), node("Mul", "g huge")]
    message = refused(tmp_path, make(nodes, (1, 3), {"w": 10 * W34, "huge": huge}))
    assert message == "tensor 'w' has values that are NaN or infinite; train or export the network again"


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (tensor("w", [3, 4], raw_data=bytes(47)), "initializer 'w' declares 48 bytes in shape (3, 4), but has 47"),
        (tensor("w", [3, 4], raw_data=bytes(49)), "initializer 'w' declares 48 bytes in shape (3, 4), but has 49"),
        (tensor("w", [3, 4]), "initializer 'w' declares 48 bytes in shape (3, 4), but has 0"),
        (tensor("w", [2**40, 4], raw_data=bytes(48)), "initializer 'w' has shape (1099511627776, 4); 8 dimensions"),
        (tensor("w", [2**24, 2], raw_data=bytes(48)), "declares 134217728 bytes in shape (16777216, 2), but has 48"),
        (tensor("w", [2**62, 2**62]), "initializer 'w' has shape"),
        (tensor("w", [-3, 4], raw_data=bytes(48)), "initializer 'w' has shape (-3, 4)"),
        (tensor("w", [1] * 1000, raw_data=bytes(4)), "initializer 'w' has shape"),
        (tensor("w", [0, 2**40]), "node 'fc' (Gemm): 'w' is empty"),
        (tensor("w", [3, 4], TensorProto.STRING), "initializer 'w' has element type STRING"),
        (tensor("w", [3, 4], TensorProto.BFLOAT16, raw_data=bytes(24)), "has element type BFLOAT16"),
        (tensor("w", [3, 4], 99, raw_data=bytes(48)), "initializer 'w' has element type 99"),
    ],
)
def test_initializer_that_is_not_what_it_declares(tmp_path: Path, weights: TensorProto, expected: str) -> None:
    model = with_weights(weights)
    tracemalloc.start()
    try:
        assert expected in refused(tmp_path, model)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


def test_typed_data_of_the_wrong_length(tmp_path: Path) -> None:
    weights = tensor("w", [3, 4])
    weights.float_data.extend([1.0] * 11)
    assert "declares 48 bytes in shape (3, 4), but has 44" in refused(tmp_path, with_weights(weights))


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({"location": "missing.bin"}, "initializer 'w' has its data in the file 'missing.bin', which is missing; copy"),
        ({"location": "../secret.bin"}, "initializer 'w' has its data in '../secret.bin', outside the model's folder"),
        ({"location": "a/../../secret.bin"}, "in 'a/../../secret.bin', outside the model's folder"),
        ({"location": "/etc/passwd"}, "initializer 'w' has its data in '/etc/passwd', outside the model's folder"),
        ({"location": "link.bin"}, "initializer 'w' has its data in 'link.bin', outside the model's folder"),
        ({"location": "data.bin\0"}, "outside the model's folder"),
        ({}, "initializer 'w' has its data in '', outside the model's folder"),
        ({"location": "."}, "which is missing"),
        ({"location": "data.bin", "length": "44"}, "declares 48 bytes in shape (3, 4), but has 44"),
        ({"location": "data.bin", "offset": "4"}, "has its data at bytes 4 … 52 of 'data.bin', which has 48"),
        ({"location": "data.bin", "offset": "-4"}, "has its data at bytes -4 … 44 of 'data.bin', which has 48"),
        ({"location": "data.bin", "offset": "four"}, "has an offset or length of external data that is no number"),
        ({"location": "data.bin", "offset": "9" * 5000}, "that is no number"),
    ],
)
def test_external_data_elsewhere_or_short(tmp_path: Path, entries: dict[str, str], expected: str) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(48))
    (folder / "data.bin").write_bytes(W34.tobytes())
    os.symlink(tmp_path / "secret.bin", folder / "link.bin")
    assert expected in refused(folder, with_weights(external(folder, **entries)))


def test_external_data_in_a_folder_within(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "w.bin").write_bytes(bytes(8) + W34.tobytes())
    model = read(with_weights(external(tmp_path, location="weights/w.bin", offset="8")), tmp_path)
    np.testing.assert_array_equal(model.tensor("w").data, W34.T)


def test_external_data_named_many_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_float_arrays, "MAX_CONSTANT_BYTES", 100)
    (tmp_path / "w.bin").write_bytes(W34.tobytes())
    nodes = [node("Gemm", "x w", "a"), node("Gemm", "x w1", "b"), node("Gemm", "x w2", "c")]
    nodes += [node("Add", "a b", "d"), node("Add", "c d")]
    model = make(nodes, (1, 3))
    for name in ("w", "w1", "w2"):
        weights = external(tmp_path, location="w.bin")
        weights.name = name
        model.graph.initializer.append(weights)
    assert "brings its constants beyond 100 bytes" in refused(tmp_path, model)


# Sizes that a few bytes can declare


HUGE = 2**40


def limited(test: Callable[[], str]) -> str:
    """Run ``test`` where asking for a gigabyte fails."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), before[1]))
    try:
        return test()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads this process's size from /proc")
@pytest.mark.parametrize(
    ("nodes", "shape", "constants", "expected"),
    [
        ([node("Relu", "x")], (1, HUGE), {}, "input 'x' has shape (1, 1099511627776)"),
        ([node("Relu", "x")], (1, 2**62, 2**62, 2**62), {}, "input 'x' has shape"),
        (
            [node("Conv", "x w", name="c", pads=[HUGE, 0, 0, 0])],
            (1, 3, 4, 4),
            {"w": np.ones((1, 3, 1, 1), np.float32)},
            "node 'c' (Conv): ",
        ),
        (
            [node("Pad", "x pads", name="p")],
            (1, 3, 4, 4),
            {"pads": np.array([0, 0, HUGE, 0, 0, 0, 0, 0])},
            "node 'p' (Pad): ",
        ),
        (constant_nodes("ConstantOfShape", "d"), (1, 4), {"d": np.array([HUGE])}, "would make constants of 439804651"),
        (constant_nodes("Expand", "k1 d"), (1, 4), {"d": np.array([HUGE, HUGE]), "k1": W34[:1, :1]}, "would make"),
        (constant_nodes("Tile", "k1 d"), (1, 4), {"d": np.array([HUGE]), "k1": W34[0]}, "would make constants of"),
        (
            constant_nodes("Range", "a b c"),
            (1, 4),
            {"a": np.array(0), "b": np.array(HUGE), "c": np.array(1)},
            "would make constants of",
        ),
        (constant_nodes("Pad", "k1 d"), (1, 4), {"d": np.array([0, HUGE]), "k1": W34[0]}, "would make constants of"),
    ],
    ids=["vector", "map", "conv pads", "pad", "ConstantOfShape", "Expand", "Tile", "Range", "constant pad"],
)
def test_huge_sizes_are_refused_before_memory_is_asked_for(
    tmp_path: Path, nodes: Any, shape: Any, constants: Any, expected: str
) -> None:
    assert expected in limited(lambda: refused(tmp_path, make(nodes, shape, constants)))


def test_attribute_given_twice(tmp_path: Path) -> None:
    bad = node("Flatten", "x", name="bad", axis=1)
    bad.attribute.append(helper.make_attribute("axis", 0))
    assert refused(tmp_path, make([bad], VECTOR)) == "node 'bad' (Flatten): has the attribute 'axis' twice"


def test_huge_batch_is_only_a_number(tmp_path: Path) -> None:
    nodes = [node("Shape", "x", "s"), node("Reshape", "x s", "r"), node("Gemm", "r w")]
    model = limited(lambda: str(read(make(nodes, (HUGE, 3), {"w": W34}), tmp_path).tensor("y").shape))
    assert model == "(4,)"


def test_folded_constants_share_one_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zeropoint.importers import onnx_float_translate

    nodes = [node("Identity", "w", "a"), node("Identity", "a", "b"), node("Gemm", "x b")]
    model = make(nodes, (1, 3), {"w": W34})
    monkeypatch.setattr(onnx_float_translate, "MAX_CONSTANT_BYTES", 96)
    read(model, tmp_path)
    monkeypatch.setattr(onnx_float_translate, "MAX_CONSTANT_BYTES", 95)
    assert refused(tmp_path, model).startswith("node 'Identity_b' (Identity): would make constants of 48 bytes")


def test_every_foldable_operator_is_one_of_onnx() -> None:
    assert all(onnx.defs.has(operator) for operator in onnx_float_constants.FOLDABLE)


def test_constant_of_strings(tmp_path: Path) -> None:
    nodes = [helper.make_node("Constant", [], ["k"], name="k", value_string="text"), node("Add", "x k")]
    message = refused(tmp_path, make(nodes, (1, 3)))
    assert message.startswith("node 'k' (Constant): must have one of the attributes value, value_float")
    nodes[0] = helper.make_node("Constant", [], ["k"], name="k", value=helper.make_tensor("t", 8, [1], [b"text"]))
    assert "attribute 'value' has element type STRING" in refused(tmp_path, make(nodes, (1, 3)))


def test_external_data_of_an_attribute(tmp_path: Path) -> None:
    value = numpy_helper.from_array(W34[0], "t")
    (tmp_path / "k.bin").write_bytes(value.raw_data)
    value.ClearField("raw_data")
    value.data_location = TensorProto.EXTERNAL
    value.external_data.add(key="location", value="k.bin")
    nodes = [node("Gemm", "x w", "g"), helper.make_node("Constant", [], ["k"], value=value), node("Add", "g k")]
    model = read(make(nodes, (1, 3), {"w": W34}), tmp_path)
    np.testing.assert_array_equal(model.tensor(model.operators[0].constants[1]).data, W34[0])
