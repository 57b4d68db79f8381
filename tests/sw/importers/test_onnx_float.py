"""Each ONNX operator by itself and with those that fuse with it, against ONNX Runtime."""

from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper
from support.onnx_models import check, kinds, make, node, read, save

from zeropoint.errors import ZeropointError
from zeropoint.model import (
    AveragePool2D,
    Clamp,
    Conv2D,
    DepthwiseConv2D,
    FloatModel,
    FullyConnected,
    MaxPool2D,
    Padding,
    Requantize,
)

RELU = Clamp(0.0, inf)
RNG = np.random.default_rng(1)


def rand(*shape: int) -> npt.NDArray[np.float32]:
    return RNG.standard_normal(shape).astype(np.float32)


def positive(*shape: int) -> npt.NDArray[np.float32]:
    return RNG.uniform(0.5, 2.0, shape).astype(np.float32)


def ints(*values: int) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)


def run(folder: Path, *arguments: Any, **options: Any) -> FloatModel:
    """Make a model, import it and compare it."""
    return check(save(make(*arguments, **options), folder))


@pytest.mark.parametrize(
    ("shape", "weights", "attributes"),
    [
        ((1, 3, 8, 9), (4, 3, 3, 2), {}),
        ((2, 3, 8, 9), (4, 3, 3, 3), {"strides": [2, 3]}),
        (("N", 3, 9, 9), (4, 3, 3, 3), {"dilations": [2, 3]}),
        (("N", 3, 8, 9), (4, 3, 3, 3), {"pads": [1, 0, 2, 3], "strides": [2, 1]}),
        (("N", 4, 6, 6), (6, 2, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
        (("N", 4, 6, 6), (4, 1, 3, 3), {"group": 4}),
        (("N", 4, 6, 6), (8, 1, 3, 2), {"group": 4, "strides": [1, 2]}),
        (("N", 1, 6, 6), (5, 1, 3, 3), {"group": 1}),
        (("N", 3, 7, 8), (4, 3, 3, 2), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        (("N", 3, 7, 8), (4, 3, 3, 2), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
        (("N", 3, 7, 8), (4, 3, 4, 4), {"auto_pad": "SAME_LOWER", "strides": [3, 1]}),
        (("N", 3, 7, 8), (4, 3, 3, 2), {"auto_pad": "VALID", "strides": [2, 2]}),
        (("N", 3, 7, 8), (4, 3, 3, 2), {"auto_pad": "NOTSET", "kernel_shape": [3, 2]}),
        (("N", 3, 20), (4, 3, 5), {}),
        (("N", 3, 20), (4, 3, 5), {"strides": [2], "pads": [3, 1], "dilations": [2]}),
        (("N", 4, 20), (8, 1, 5), {"group": 4, "auto_pad": "SAME_UPPER", "strides": [3]}),
    ],
)
@pytest.mark.parametrize("bias", [False, True])
def test_conv(tmp_path: Path, shape: Any, weights: Any, attributes: Any, bias: bool) -> None:
    constants = {"w": rand(*weights)} | ({"b": rand(weights[0])} if bias else {})
    model = run(tmp_path, [node("Conv", " ".join(["x", *constants]), **attributes)], shape, constants)
    depthwise = attributes.get("group", 1) == shape[1] > 1
    assert kinds(model) == ["DepthwiseConv2D" if depthwise else "Conv2D"]
    (operator,) = model.operators
    assert operator.constants == tuple(constants)
    assert operator.name == "Conv_y"
    assert len(model.tensors) == 2 + len(constants)


def test_metadata_say_how_axes_map(tmp_path: Path) -> None:
    model = run(tmp_path, [node("Conv", "x w")], (1, 3, 5, 6), {"w": rand(2, 3, 3, 3)})
    assert dict(model.metadata) == {
        "source": "onnx",
        "input_shape": "3,5,6",
        "input_permutation": "1,2,0",
        "output_shape": "2,3,4",
        "output_permutation": "1,2,0",
    }
    assert model.tensor("x").shape == (5, 6, 3)
    assert model.name == "model"
    model = run(tmp_path, [node("Conv", "x w")], (1, 3, 7), {"w": rand(2, 3, 3)})
    assert model.metadata["input_permutation"] == "1,0"
    assert model.tensor("x").shape == (1, 7, 3)
    model = run(tmp_path, [node("Gemm", "x w")], (1, 3), {"w": rand(3, 2)})
    assert dict(model.metadata) == {"source": "onnx", "input_shape": "3", "output_shape": "2"}


@pytest.mark.parametrize(
    ("weights", "bias", "attributes"),
    [
        ((6, 4), None, {}),
        ((4, 6), (4,), {"transB": 1}),
        ((6, 4), (1, 4), {"alpha": 0.5, "beta": 3.0}),
        ((6, 4), (), {"beta": 0.25}),
        ((6, 4), (1, 1), {}),
        ((6, 4), (1,), {}),
        ((6, 1), (1,), {}),
    ],
)
def test_gemm(tmp_path: Path, weights: Any, bias: Any, attributes: Any) -> None:
    constants = {"w": rand(*weights)} | ({} if bias is None else {"b": rand(*bias)})
    model = run(tmp_path, [node("Gemm", " ".join(["x", *constants]), **attributes)], ("N", 6), constants)
    assert kinds(model) == ["FullyConnected"]


def test_gemm_with_transposed_input(tmp_path: Path) -> None:
    nodes = [node("Transpose", "x", "t", perm=[1, 0]), node("Gemm", "t w b", transA=1)]
    model = run(tmp_path, nodes, ("N", 6), {"w": rand(6, 4), "b": rand(4)})
    assert kinds(model) == ["FullyConnected"]


def test_matmul_and_add_are_one_operator(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x w", "m"), node("Add", "b m", "a"), node("Relu", "a")]
    model = run(tmp_path, nodes, ("N", 6), {"w": rand(6, 4), "b": rand(4)})
    (operator,) = model.operators
    assert isinstance(operator, FullyConnected)
    assert (operator.name, operator.output, operator.clamp) == ("MatMul_m", "y", RELU)
    assert operator.bias is not None


@pytest.mark.parametrize("shape", [(1, 5, 6), ("N", 3, 5, 6)])
def test_matmul_at_each_position_is_a_convolution(tmp_path: Path, shape: Any) -> None:
    nodes = [node("MatMul", "x w", "m"), node("Add", "m b")]
    model = run(tmp_path, nodes, shape, {"w": rand(6, 4), "b": rand(4)})
    assert kinds(model) == ["Conv2D"]
    # The channels are last in the file already.
    assert "input_permutation" not in model.metadata


def batch_norm(channels: int, prefix: str = "") -> dict[str, npt.NDArray[np.float32]]:
    names = [prefix + name for name in ("gamma", "beta", "mean", "var")]
    return dict(zip(names, (rand(channels), rand(channels), rand(channels), positive(channels)), strict=True))


def test_batch_normalization_in_training(tmp_path: Path) -> None:
    inputs = "x gamma beta mean var"
    for opset, outputs, options in ((9, "y m v sm sv", {}), (15, "y", {"training_mode": 1}), (7, "y", {"spatial": 0})):
        bad = node("BatchNormalization", inputs, outputs, **options)
        with pytest.raises(ZeropointError, match="fixed statistics per channel; export the network in evaluation mode"):
            read(make([bad], (1, 4, 3, 3), batch_norm(4), opset=opset), tmp_path)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("group", [1, 4])
def test_batch_normalization_folds_into_conv(tmp_path: Path, bias: bool, group: int) -> None:
    constants = {"w": rand(8, 4 // group, 3, 3), **({"b": rand(8)} if bias else {}), **batch_norm(8)}
    nodes = [
        node("Conv", "x w b" if bias else "x w", "c", group=group),
        node("BatchNormalization", "c gamma beta mean var", epsilon=0.01),
    ]
    assert kinds(run(tmp_path, nodes, ("N", 4, 6, 6), constants)) == ["Conv2D" if group == 1 else "DepthwiseConv2D"]


def test_batch_normalization_folds_into_gemm_and_into_another(tmp_path: Path) -> None:
    constants = {"w": rand(6, 5), **batch_norm(5, "a"), **batch_norm(5, "b")}
    nodes = [
        node("Gemm", "x w", "g"),
        node("BatchNormalization", "g agamma abeta amean avar", "n"),
        node("BatchNormalization", "n bgamma bbeta bmean bvar"),
    ]
    assert kinds(run(tmp_path, nodes, ("N", 6), constants)) == ["FullyConnected"]


def test_batch_normalization_alone_is_a_depthwise_convolution(tmp_path: Path) -> None:
    nodes = [node("BatchNormalization", "x gamma beta mean var", "n"), node("Relu", "n")]
    model = run(tmp_path, nodes, ("N", 4, 5, 6), batch_norm(4))
    (operator,) = model.operators
    assert isinstance(operator, DepthwiseConv2D)
    assert operator.clamp == RELU
    assert model.tensor(operator.weights).shape == (1, 1, 4)
    model = run(tmp_path, nodes, ("N", 4), batch_norm(4))
    assert kinds(model) == ["Reshape", "DepthwiseConv2D", "Reshape"]
    assert model.tensor(model.output).shape == (4,)


def test_batch_normalization_stays_apart_if_its_input_has_another_reader(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x w", "c"),
        node("BatchNormalization", "c gamma beta mean var", "n"),
        node("Add", "c n"),
    ]
    model = run(tmp_path, nodes, ("N", 3, 5, 6), {"w": rand(4, 3, 3, 3), **batch_norm(4)})
    assert kinds(model) == ["Conv2D", "DepthwiseConv2D", "Add"]


def test_batch_normalization_does_not_cross_an_activation(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x w", "c"),
        node("Relu", "c", "r"),
        node("BatchNormalization", "r gamma beta mean var", "n"),
        node("Relu", "n"),
    ]
    model = run(tmp_path, nodes, ("N", 3, 5, 6), {"w": rand(4, 3, 3, 3), **batch_norm(4)})
    assert kinds(model) == ["Conv2D", "DepthwiseConv2D"]


def test_batch_normalization_of_a_flattened_map_follows_the_element_order(tmp_path: Path) -> None:
    nodes = [
        node("MaxPool", "x", "p", kernel_shape=[2, 2]),
        node("Flatten", "p", "f"),
        node("BatchNormalization", "f gamma beta mean var", "n"),
        node("Gemm", "n w"),
    ]
    run(tmp_path, nodes, ("N", 3, 5, 6), {"w": rand(60, 4), **batch_norm(60)})


def test_relu_fuses_into_what_makes_its_input(tmp_path: Path) -> None:
    model = run(tmp_path, [node("Conv", "x w", "c"), node("Relu", "c")], ("N", 3, 5, 6), {"w": rand(4, 3, 3, 3)})
    (operator,) = model.operators
    assert isinstance(operator, Conv2D)
    assert (operator.name, operator.output, operator.clamp) == ("Conv_c", "y", RELU)


@pytest.mark.parametrize("between", ["Identity", "Flatten", "Dropout"])
def test_relu_fuses_across_what_moves_nothing(tmp_path: Path, between: str) -> None:
    nodes = [node("Conv", "x w", "c"), node(between, "c", "i"), node("Relu", "i", "r"), node("Flatten", "r", "f")]
    nodes.append(node("Gemm", "f v"))
    model = run(tmp_path, nodes, ("N", 3, 5, 6), {"w": rand(4, 3, 3, 3), "v": rand(48, 2)})
    assert kinds(model) == ["Conv2D", "FullyConnected"]


def test_relu_stays_apart_if_another_reader_sees_negative_values(tmp_path: Path) -> None:
    nodes = [node("Conv", "x w", "c"), node("Relu", "c", "r"), node("Add", "c r")]
    model = run(tmp_path, nodes, ("N", 3, 5, 6), {"w": rand(4, 3, 3, 3)})
    assert kinds(model) == ["Conv2D", "Requantize", "Add"]
    assert [getattr(operator, "clamp") for operator in model.operators] == [Clamp(), RELU, Clamp()]  # noqa: B009


def test_relu_of_the_input_stands_alone(tmp_path: Path) -> None:
    model = run(tmp_path, [node("Relu", "x")], ("N", 3, 5, 6))
    (operator,) = model.operators
    assert isinstance(operator, Requantize)
    assert operator.clamp == RELU


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.0, 6.0, Clamp(0, 6)), (-1.0, None, Clamp(-1, inf)), (None, 0.5, Clamp(-inf, 0.5)), (0.0, inf, RELU)],
)
@pytest.mark.parametrize("opset", [7, 10, 11, 13])
def test_clip(tmp_path: Path, low: float | None, high: float | None, expected: Clamp, opset: int) -> None:
    bounds = {name: np.float32(value) for name, value in (("min", low), ("max", high)) if value is not None}
    if opset < 11:
        clip = node("Clip", "c", **{name: float(value) for name, value in bounds.items()})
        constants = {}
    else:
        clip = node("Clip", " ".join(["c", *(name if name in bounds else "-" for name in ("min", "max"))]))
        constants = bounds
    nodes = [node("Conv", "x w", "c"), clip]
    model = run(tmp_path, nodes, ("N", 3, 5, 6), {"w": 3 * rand(4, 3, 3, 3), **constants}, opset=opset)
    (operator,) = model.operators
    assert isinstance(operator, Conv2D)
    assert operator.clamp == expected


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([node("Max", "c zero", "m"), node("Min", "six m")], Clamp(0, 6)),
        ([node("Max", "zero c")], RELU),
        ([node("Min", "c six")], Clamp(-inf, 6)),
    ],
)
def test_maximum_and_minimum_with_a_constant(tmp_path: Path, nodes: list[NodeProto], expected: Clamp) -> None:
    constants = {"w": 3 * rand(4, 3, 3, 3), "zero": np.float32(0), "six": np.float32(6)}
    model = run(tmp_path, [node("Conv", "x w", "c"), *nodes], ("N", 3, 5, 6), constants)
    (operator,) = model.operators
    assert isinstance(operator, Conv2D)
    assert operator.clamp == expected


def test_clip_without_bounds_is_nothing(tmp_path: Path) -> None:
    model = run(tmp_path, [node("Relu", "x", "r"), node("Clip", "r")], ("N", 4))
    assert kinds(model) == ["Requantize"]


def test_activations_in_a_row_intersect(tmp_path: Path) -> None:
    nodes = [node("Gemm", "x w", "g"), node("Clip", "g low high", "c"), node("Relu", "c")]
    constants = {"w": 3 * rand(6, 4), "low": np.float32(-1), "high": np.float32(2)}
    model = run(tmp_path, nodes, ("N", 6), constants)
    (operator,) = model.operators
    assert isinstance(operator, FullyConnected)
    assert operator.clamp == Clamp(0, 2)


def test_add_of_two_activations(tmp_path: Path) -> None:
    nodes = [node("Conv", "x w", "a"), node("Conv", "x v", "b"), node("Add", "a b", "s"), node("Relu", "s")]
    model = run(tmp_path, nodes, ("N", 3, 5, 6), {"w": rand(4, 3, 3, 3), "v": rand(4, 3, 3, 3)})
    assert kinds(model) == ["Conv2D", "Conv2D", "Add"]
    assert model.operators[-1].output == "y"


def test_add_to_itself(tmp_path: Path) -> None:
    assert kinds(run(tmp_path, [node("Add", "x x")], ("N", 3, 5, 6))) == ["Add"]


def test_add_of_maps_that_differ_in_rank_only_within(tmp_path: Path) -> None:
    """The mean is a vector for us and the pool's result a 1 x 1 map; for ONNX they have one shape."""
    nodes = [
        node("GlobalAveragePool", "x", "a"),
        node("MaxPool", "x", "b", kernel_shape=[4, 5]),
        node("Add", "a b"),
    ]
    assert kinds(run(tmp_path, nodes, ("N", 3, 4, 5))) == ["Mean", "MaxPool2D", "Reshape", "Add", "Reshape"]


@pytest.mark.parametrize("shape", [(), (1,), (4, 1, 1), (1, 4, 1, 1)])
def test_add_of_a_constant_folds_into_the_bias(tmp_path: Path, shape: Any) -> None:
    constants = {"w": rand(4, 3, 3, 3), "b": rand(4), "k": rand(*shape)}
    model = run(tmp_path, [node("Conv", "x w b", "c"), node("Add", "c k")], ("N", 3, 5, 6), constants)
    assert kinds(model) == ["Conv2D"]


@pytest.mark.parametrize(
    ("operator", "inputs"), [("Add", "x k"), ("Sub", "x k"), ("Sub", "k x"), ("Mul", "k x"), ("Div", "x k")]
)
@pytest.mark.parametrize("shape", [(), (4, 1, 1)])
def test_arithmetic_with_a_constant(tmp_path: Path, operator: str, inputs: str, shape: Any) -> None:
    model = run(tmp_path, [node(operator, inputs)], ("N", 4, 5, 6), {"k": positive(*shape)})
    (found,) = model.operators
    assert isinstance(found, DepthwiseConv2D)
    assert (found.bias is None) == (operator in ("Mul", "Div"))
    nodes = [node("Conv", "x w", "c"), node(operator, inputs.replace("x", "c"))]
    assert kinds(run(tmp_path, nodes, ("N", 4, 5, 6), {"k": positive(*shape), "w": rand(4, 4, 3, 3)})) == ["Conv2D"]


def test_normalization_of_the_input(tmp_path: Path) -> None:
    nodes = [node("Sub", "x mean", "s"), node("Div", "s std", "d"), node("Conv", "d w", pads=[1, 1, 1, 1])]
    constants = {"mean": rand(1, 3, 1, 1), "std": positive(1, 3, 1, 1), "w": rand(4, 3, 3, 3)}
    assert kinds(run(tmp_path, nodes, ("N", 3, 5, 6), constants)) == ["DepthwiseConv2D", "Conv2D"]


POOLS: list[dict[str, Any]] = [
    {"kernel_shape": [2, 2]},
    {"kernel_shape": [2, 3], "strides": [2, 3]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 4], "strides": [3, 2], "pads": [1, 0, 2, 3]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "VALID"},
    {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [3, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1},
]


@pytest.mark.parametrize("attributes", POOLS)
@pytest.mark.parametrize("size", [(6, 7), (7, 8), (8, 9)])
def test_max_pool(tmp_path: Path, attributes: dict[str, Any], size: tuple[int, int]) -> None:
    model = run(tmp_path, [node("MaxPool", "x", **attributes)], ("N", 3, *size))
    assert kinds(model) == ["MaxPool2D"]


@pytest.mark.parametrize("attributes", POOLS)
@pytest.mark.parametrize("size", [(6, 7), (7, 8), (8, 9)])
@pytest.mark.parametrize("include", [0, 1])
def test_average_pool(tmp_path: Path, attributes: dict[str, Any], size: tuple[int, int], include: int) -> None:
    model = run(
        tmp_path, [node("AveragePool", "x", count_include_pad=include, **attributes)], ("N", 3, *size), opset=19
    )
    padded = include and ("pads" in attributes or "SAME" in attributes.get("auto_pad", ""))
    # SAME with a window that fits as it is adds no padding.
    assert kinds(model) in (
        [["Pad", "AveragePool2D"]] if padded and "pads" in attributes else [["AveragePool2D"], ["Pad", "AveragePool2D"]]
    )


def test_pools_in_one_dimension(tmp_path: Path) -> None:
    nodes = [
        node("MaxPool", "x", "m", kernel_shape=[3], strides=[2], pads=[1, 0]),
        node("AveragePool", "m", kernel_shape=[2], pads=[1, 1], count_include_pad=1),
    ]
    model = run(tmp_path, nodes, ("N", 3, 20))
    assert kinds(model) == ["MaxPool2D", "Pad", "AveragePool2D"]


def test_pool_of_single_elements_is_nothing(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "r"), node("AveragePool", "r", kernel_shape=[1, 1])]
    assert kinds(run(tmp_path, nodes, ("N", 3, 4, 5))) == ["Requantize"]


def test_relu_fuses_into_pools(tmp_path: Path) -> None:
    model = run(tmp_path, [node("MaxPool", "x", "p", kernel_shape=[2, 2]), node("Relu", "p")], ("N", 3, 4, 5))
    (operator,) = model.operators
    assert isinstance(operator, MaxPool2D)
    assert operator.clamp == RELU


AFTER: list[list[NodeProto]] = [
    [node("Flatten", "p", "f")],
    [node("Reshape", "p to_vector", "f")],
    [node("Squeeze", "p last_two", "f")],
    [node("Squeeze", "p last_two", "s"), node("Unsqueeze", "s last_two", "u"), node("Flatten", "u", "f")],
    [node("Identity", "p", "i"), node("Dropout", "i", "d"), node("Flatten", "d", "f")],
    [node("Transpose", "p", "t", perm=[0, 2, 3, 1]), node("Reshape", "t to_vector", "f")],
]


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("pool", ["GlobalAveragePool", "GlobalMaxPool"])
def test_global_pool_and_what_makes_a_vector_of_it(tmp_path: Path, after: list[NodeProto], pool: str) -> None:
    nodes = [node(pool, "x", "p"), *after, node("Gemm", "f w")]
    constants = {"w": rand(3, 4), "to_vector": ints(0, -1), "last_two": ints(2, 3)}
    model = run(tmp_path, nodes, ("N", 3, 4, 5), constants)
    assert kinds(model) == ["Mean" if pool == "GlobalAveragePool" else "MaxPool2D", "FullyConnected"]


def test_global_average_pool_before_a_convolution(tmp_path: Path) -> None:
    nodes = [node("GlobalAveragePool", "x", "p"), node("Conv", "p w", "c"), node("Flatten", "c")]
    model = run(tmp_path, nodes, ("N", 3, 4, 5), {"w": rand(4, 3, 1, 1)})
    assert kinds(model) == ["Mean", "Reshape", "Conv2D", "Reshape"]
    assert model.tensor("y").shape == (4,)


def test_global_average_pool_as_output_keeps_the_files_shape(tmp_path: Path) -> None:
    model = run(tmp_path, [node("GlobalAveragePool", "x")], ("N", 3, 4, 5))
    assert model.metadata["output_shape"] == "3,1,1"
    assert model.tensor(model.output).shape == (1, 1, 3)


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [(2, 3), (-1, -2)])
def test_reduce_mean(tmp_path: Path, opset: int, keepdims: int, axes: tuple[int, int]) -> None:
    mean = (
        node("ReduceMean", "x", "m", axes=axes, keepdims=keepdims)
        if opset < 18
        else node("ReduceMean", "x axes", "m", keepdims=keepdims)
    )
    nodes = [mean, node("Flatten", "m", "f"), node("Gemm", "f w")]
    model = run(tmp_path, nodes, ("N", 3, 4, 5), {"w": rand(3, 4), "axes": ints(*axes)}, opset=opset)
    assert kinds(model) == ["Mean", "FullyConnected"]


def test_reduce_mean_over_length_and_over_the_space_of_channels_last(tmp_path: Path) -> None:
    assert kinds(run(tmp_path, [node("ReduceMean", "x", axes=[2], keepdims=0)], ("N", 3, 9))) == ["Mean"]
    nodes = [node("Transpose", "x", "t", perm=[0, 2, 3, 1]), node("ReduceMean", "t", axes=[1, 2], keepdims=0)]
    assert kinds(run(tmp_path, nodes, ("N", 3, 4, 5))) == ["Mean"]


def test_reduce_mean_over_the_height_of_a_convolution(tmp_path: Path) -> None:
    nodes = [node("Conv", "x w", "c"), node("ReduceMean", "c", "m", axes=[2], keepdims=0), node("Flatten", "m", "f")]
    constants = {"w": rand(3, 2, 1, 1), "v": rand(18, 4)}
    model = run(tmp_path, [*nodes, node("Gemm", "f v")], ("N", 2, 5, 6), constants)
    assert kinds(model) == ["Conv2D", "Reshape", "Mean", "FullyConnected"]


def test_flatten_permutes_the_weights_of_a_gemm(tmp_path: Path) -> None:
    nodes = [node("Conv", "x w", "c"), node("Flatten", "c", "f"), node("Gemm", "f v b", transB=1)]
    model = run(tmp_path, nodes, ("N", 2, 5, 6), {"w": rand(3, 2, 3, 3), "v": rand(4, 36), "b": rand(4)})
    assert kinds(model) == ["Conv2D", "FullyConnected"]
    nodes[2] = node("MatMul", "f u")
    model = run(tmp_path, nodes, ("N", 2, 5, 6), {"w": rand(3, 2, 3, 3), "u": rand(36, 4)})
    assert kinds(model) == ["Conv2D", "FullyConnected"]
    # In one dimension too.
    nodes = [node("Conv", "x w", "c"), node("Flatten", "c", "f"), node("Gemm", "f v")]
    run(tmp_path, nodes, ("N", 2, 9), {"w": rand(3, 2, 3), "v": rand(21, 4)})


def test_reshape_to_a_vector_and_back_to_a_map(tmp_path: Path) -> None:
    nodes = [
        node("MaxPool", "x", "p", kernel_shape=[2, 2]),
        node("Reshape", "p vector", "v"),
        node("Reshape", "v map", "m"),
        node("Conv", "m w"),
    ]
    constants = {"vector": ints(0, -1), "map": ints(-1, 3, 4, 5), "w": rand(2, 3, 3, 3)}
    assert kinds(run(tmp_path, nodes, ("N", 3, 5, 6), constants)) == ["MaxPool2D", "Conv2D"]
    # As 12 channels of 1 x 5: their elements would have to move.
    constants["map"] = ints(-1, 12, 1, 5)
    constants["w"] = rand(2, 12, 1, 1)
    with pytest.raises(ZeropointError, match=r"node 'Conv_y' \(Conv\): .* needs data to be moved"):
        run(tmp_path, nodes, ("N", 3, 5, 6), constants)


def test_reshape_of_a_vector_to_a_map_of_one_channel(tmp_path: Path) -> None:
    nodes = [node("Reshape", "x map", "m"), node("Conv", "m w")]
    model = run(tmp_path, nodes, ("N", 30), {"map": ints(-1, 1, 5, 6), "w": rand(2, 1, 3, 3)})
    assert kinds(model) == ["Reshape", "Conv2D"]
    assert model.tensor("x").shape == (30,)
    with pytest.raises(ZeropointError, match=r"node 'Conv_y' \(Conv\): .* needs data to be moved"):
        run(tmp_path, nodes, ("N", 30), {"map": ints(-1, 2, 3, 5), "w": rand(2, 2, 3, 3)})


def test_input_without_channels_gets_one(tmp_path: Path) -> None:
    nodes = [node("Unsqueeze", "x axes", "u"), node("Conv", "u w")]
    model = run(tmp_path, nodes, ("N", 7, 6), {"axes": ints(1), "w": rand(2, 1, 3, 3)})
    assert kinds(model) == ["Reshape", "Conv2D"]
    assert model.tensor("x").shape == (1, 7, 6)
    assert "input_permutation" not in model.metadata


@pytest.mark.parametrize("opset", [7, 13])
def test_squeeze_and_unsqueeze(tmp_path: Path, opset: int) -> None:
    old = opset < 13
    nodes = [
        node("Unsqueeze", "x", "u", axes=[2]) if old else node("Unsqueeze", "x two", "u"),
        node("Conv", "u w", "c"),
        node("Squeeze", "c", "s", axes=[2]) if old else node("Squeeze", "c two", "s"),
        node("MaxPool", "s", kernel_shape=[2]),
    ]
    model = run(tmp_path, nodes, ("N", 3, 9), {"two": ints(2), "w": rand(4, 3, 1, 3)}, opset=opset)
    assert kinds(model) == ["Conv2D", "MaxPool2D"]


def test_squeeze_of_all_ones(tmp_path: Path) -> None:
    nodes = [node("GlobalAveragePool", "x", "p"), node("Squeeze", "p", "s"), node("Gemm", "s w")]
    assert kinds(run(tmp_path, nodes, (2, 3, 4, 5), {"w": rand(3, 4)})) == ["Mean", "FullyConnected"]
    with pytest.raises(ZeropointError, match=r"'Squeeze_s' .*removes the batch dimension"):
        read(make(nodes, (1, 3, 4, 5), {"w": rand(3, 4)}), tmp_path)


def shape_chain(opset: int) -> list[NodeProto]:
    """What torch writes for ``x.view(x.size(0), -1)``, with a Slice and a Cast besides."""
    axes = {"axes": [0]} if opset < 13 else {}
    return [
        node("Shape", "c", "shape"),
        node("Slice", "shape zero one", "sliced"),
        node("Gather", "sliced index", "size", axis=0),
        node("Cast", "size", "cast", to=TensorProto.INT64),
        node("Unsqueeze", "cast" if axes else "cast zero", "unsqueezed", **axes),
        helper.make_node("Constant", [], ["rest"], value=numpy_helper.from_array(ints(-1))),
        node("Concat", "unsqueezed rest", "target", axis=0),
        node("Reshape", "c target", "v"),
    ]


@pytest.mark.parametrize("opset", [10, 13, 17])
@pytest.mark.parametrize("batch", [1, 3, "N"])
def test_shape_arithmetic_folds(tmp_path: Path, opset: int, batch: int | str) -> None:
    nodes = [node("Conv", "x w", "c"), *shape_chain(opset), node("Gemm", "v g b")]
    constants = {"w": rand(3, 2, 3, 3), "g": rand(36, 4), "b": rand(4), "zero": ints(0), "one": ints(1)}
    constants["index"] = np.array(0, np.int64)
    model = run(tmp_path, nodes, (batch, 2, 5, 6), constants, opset=opset)
    assert kinds(model) == ["Conv2D", "FullyConnected"]


def test_shape_with_start_and_end(tmp_path: Path) -> None:
    nodes = [
        node("Shape", "x", "batch", start=0, end=1),
        node("Concat", "batch rest", "target", axis=0),
        node("Reshape", "x target", "v"),
        node("Gemm", "v w"),
    ]
    run(tmp_path, nodes, ("N", 2, 3, 4), {"rest": ints(-1), "w": rand(24, 4)})


def test_shapes_take_a_constant_of_one_shape(tmp_path: Path) -> None:
    """Constants that shape arithmetic makes, and weights that other nodes of constants make."""
    nodes = [
        node("ConstantOfShape", "dims", "ones", value=numpy_helper.from_array(np.float32([1.5]))),
        node("Mul", "w ones", "scaled"),
        node("Transpose", "scaled", "transposed", perm=[1, 0]),
        node("Identity", "b", "alias"),
        node("Gemm", "x transposed alias"),
    ]
    model = run(tmp_path, nodes, ("N", 6), {"dims": ints(4, 6), "w": rand(4, 6), "b": rand(4)})
    (operator,) = model.operators
    assert operator.constants == ("transposed", "alias")


@pytest.mark.parametrize(
    "attributes",
    [{"value": numpy_helper.from_array(np.float32([1, 2, 3, 4]))}, {"value_floats": [1.0, 2.0, 3.0, 4.0]}],
)
def test_constant(tmp_path: Path, attributes: Any) -> None:
    constant = helper.make_node("Constant", [], ["k"], **attributes)
    assert kinds(run(tmp_path, [constant, node("Gemm", "x w", "g"), node("Add", "g k")], ("N", 6), {"w": rand(6, 4)}))


@pytest.mark.parametrize("opset", [7, 11, 18])
def test_pad_folds_into_the_convolution_after_it(tmp_path: Path, opset: int) -> None:
    constants = {"w": rand(4, 3, 3, 3)}
    if opset < 11:
        pad = node("Pad", "x", "p", pads=[0, 0, 1, 2, 0, 0, 3, 0])
    elif opset < 18:
        pad = node("Pad", "x pads value", "p")
        constants |= {"pads": ints(0, 0, 1, 2, 0, 0, 3, 0), "value": np.float32(0)}
    else:
        pad = node("Pad", "x pads - axes", "p")
        constants |= {"pads": ints(1, 2, 3, 0), "axes": ints(2, -1)}
    model = run(tmp_path, [pad, node("Conv", "p w", pads=[1, 1, 0, 0])], ("N", 3, 5, 6), constants, opset=opset)
    (operator,) = model.operators
    assert isinstance(operator, Conv2D)
    assert operator.padding == Padding(top=2, bottom=3, left=3, right=0)


def test_pad_stays_before_what_does_not_pad_with_zeros(tmp_path: Path) -> None:
    nodes = [node("Pad", "x pads", "p"), node("MaxPool", "p", kernel_shape=[2, 2])]
    pads = ints(0, 0, 1, 1, 0, 0, 1, 1)
    model = run(
        tmp_path,
        [node("Sub", "x k", "s"), *[node("Pad", "s pads", "p"), nodes[1]]],
        ("N", 3, 4, 5),
        {"pads": pads, "k": np.float32(9)},
    )
    assert kinds(model) == ["DepthwiseConv2D", "Pad", "MaxPool2D"]
    nodes = [node("Pad", "x pads", "p"), node("Conv", "p w", "c"), node("GlobalMaxPool", "p", "m")]
    nodes += [node("GlobalMaxPool", "c", "d"), node("Add", "m d")]
    model = run(tmp_path, nodes, ("N", 3, 4, 5), {"pads": pads, "w": rand(3, 3, 3, 3)})
    assert kinds(model)[0] == "Pad"


def test_pad_of_channels_last_and_of_one_dimension(tmp_path: Path) -> None:
    nodes = [
        node("Pad", "x pads", "p"),
        node("Transpose", "p", "t", perm=[0, 3, 1, 2]),
        node("Conv", "t w"),
    ]
    pads = ints(0, 1, 2, 0, 0, 0, 1, 0)
    model = run(tmp_path, nodes, ("N", 5, 6, 3), {"pads": pads, "w": rand(4, 3, 3, 3)})
    assert kinds(model) == ["Conv2D"]
    nodes = [node("Pad", "x pads", "p"), node("Conv", "p w")]
    model = run(tmp_path, nodes, ("N", 3, 9), {"pads": ints(0, 0, 2, 0, 0, 1), "w": rand(4, 3, 3)})
    assert kinds(model) == ["Conv2D"]


@pytest.mark.parametrize(
    ("opset", "axis", "shape"),
    [
        (7, None, ("N", 5)),
        (11, 1, ("N", 5)),
        (13, None, ("N", 5)),
        (13, 1, ("N", 5)),
        (13, 1, ("N", 5, 3, 4)),
        (13, -3, ("N", 5, 3, 4)),
        (13, -1, ("N", 3, 4, 5)),
        (11, 1, ("N", 3, 4, 5)),
        (11, 1, ("N", 5, 1, 1)),
        (13, 2, ("N", 4, 5)),
    ],
)
def test_softmax(tmp_path: Path, opset: int, axis: int | None, shape: Any) -> None:
    attributes = {} if axis is None else {"axis": axis}
    nodes = [node("Relu", "x", "r"), node("Softmax", "r", **attributes)]
    model = run(tmp_path, nodes, shape, opset=opset)
    assert kinds(model)[0] == "Requantize"
    assert "Softmax" in kinds(model)


def test_network_with_channels_last_at_its_borders(tmp_path: Path) -> None:
    nodes = [
        node("Transpose", "x", "t", perm=[0, 3, 1, 2]),
        node("Conv", "t w b", "c", auto_pad="SAME_UPPER", strides=[2, 2]),
        node("Relu", "c", "r"),
        node("Transpose", "r", perm=[0, 2, 3, 1]),
    ]
    model = run(tmp_path, nodes, ("N", 6, 7, 3), {"w": rand(4, 3, 3, 3), "b": rand(4)})
    assert kinds(model) == ["Conv2D"]
    assert dict(model.metadata) == {"source": "onnx", "input_shape": "6,7,3", "output_shape": "3,4,4"}
    # Flattened in that order, the weights need no permutation, and get none.
    nodes += [node("Flatten", "y", "f"), node("Gemm", "f v", "z")]
    weights = rand(48, 2)
    model = run(tmp_path, nodes, ("N", 6, 7, 3), {"w": rand(4, 3, 3, 3), "b": rand(4), "v": weights}, outputs=["z"])
    np.testing.assert_array_equal(model.tensor("v").data, weights.T)


def test_outputs_in_other_orders(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "r"), node("Transpose", "r", perm=[0, 3, 1, 2])]
    model = run(tmp_path, nodes, ("N", 3, 5, 6))
    assert model.metadata["output_permutation"] == "2,0,1"
    nodes = [node("Relu", "x", "r"), node("Transpose", "r", perm=[0, 2, 1])]
    model = run(tmp_path, nodes, ("N", 3, 5))
    assert model.metadata["input_permutation"] == "1,0"
    assert "output_permutation" not in model.metadata
    nodes = [node("Gemm", "x w", "g"), node("Squeeze", "g one")]
    model = run(tmp_path, nodes, ("N", 3), {"w": rand(3, 1), "one": ints(1)})
    assert model.metadata["output_shape"] == ""


def test_flattened_map_as_output_is_refused(tmp_path: Path) -> None:
    nodes = [node("MaxPool", "x", "p", kernel_shape=[2, 2]), node("Flatten", "p")]
    with pytest.raises(ZeropointError, match=r"output 'y': .* needs data to be moved; export the network without it"):
        read(make(nodes, (1, 3, 4, 4)), tmp_path)


def test_names_are_those_of_the_file_where_it_has_them(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x w", "a", name="same"),
        node("Conv", "a w", "b", name="same"),
        node("Conv", "b w", "c"),
        node("Identity", "c", "y"),
    ]
    nodes[2].name = ""
    data = rand(3, 3, 3, 3)
    # ONNX Runtime refuses nodes of one name.
    model = read(make(nodes, ("N", 3, 9, 9), {"w": data}), tmp_path)
    assert [operator.name for operator in model.operators] == ["same", "same_1", "c"]
    assert [operator.output for operator in model.operators] == ["a", "b", "y"]
    assert [operator.constants for operator in model.operators] == [("w",), ("w_1",), ("w_2",)]
    again = read(make(nodes, ("N", 3, 9, 9), {"w": data}), tmp_path)
    assert list(again.tensors) == list(model.tensors)


def test_names_made_up_here_take_none_of_the_file(tmp_path: Path) -> None:
    """Names that this importer would make up for constants, reshapes and pads are there already, and come later."""
    nodes = [
        node("Mul", "x k", "a", name="scaled"),
        node("Relu", "a", "scaled.scale", name="a.map"),
        node("Add", "scaled.scale k", "scaled.shift", name="b"),
        node("Relu", "scaled.shift", "a.map", name="a.scaled"),
        node("Unsqueeze", "a.map two", "u"),
        node("AveragePool", "u", "a.scaled", name="p", kernel_shape=[2, 1], pads=[1, 0, 1, 0], count_include_pad=1),
        node("MaxPool", "a.scaled", "p.pad", name="p.pad", kernel_shape=[2, 1]),
        node("Flatten", "p.pad", "y"),
    ]
    # Above 0, so that the first activation lets something pass.
    model = run(tmp_path, nodes, ("N", 3), {"k": np.float32([0.5, 1, 2]), "two": ints(2, 3)}, opset=19)
    assert len({operator.name for operator in model.operators}) == len(model.operators)


def test_nodes_need_no_order_and_unused_ones_do_not_matter(tmp_path: Path) -> None:
    nodes = [node("Relu", "c"), node("Erf", "x", "unused"), node("Conv", "x w", "c")]
    model = read(
        make(nodes, ("N", 3, 5, 6), {"w": rand(4, 3, 3, 3), "other": np.array([np.nan], np.float32)}), tmp_path
    )
    assert kinds(model) == ["Conv2D"]


def test_initializers_may_be_listed_as_inputs(tmp_path: Path) -> None:
    model = make([node("Gemm", "x w")], ("N", 3), {"w": rand(3, 2)}, inputs={"x": ("N", 3), "w": (3, 2)})
    check(save(model, tmp_path))


def test_typed_data_and_raw_data_are_alike(tmp_path: Path) -> None:
    weights = rand(3, 2)
    model = make([node("Gemm", "x w")], ("N", 3))
    model.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, (3, 2), weights.reshape(-1).tolist()))
    assert not model.graph.initializer[0].HasField("raw_data")
    np.testing.assert_array_equal(check(save(model, tmp_path)).tensor("w").data, weights.T)


def test_external_data(tmp_path: Path) -> None:
    weights, bias = rand(3, 2), rand(2)
    model = make([node("Gemm", "x w b")], ("N", 3), {"w": weights, "b": bias})
    onnx.save(model, str(tmp_path / "m.onnx"), save_as_external_data=True, location="data.bin", size_threshold=0)
    assert (tmp_path / "data.bin").stat().st_size >= 32
    found = check(tmp_path / "m.onnx")
    np.testing.assert_array_equal(found.tensor("w").data, weights.T)
    np.testing.assert_array_equal(found.tensor("b").data, bias)


def test_dimensions_of_a_pool_are_kept(tmp_path: Path) -> None:
    model = run(tmp_path, [node("AveragePool", "x", kernel_shape=[2, 3], strides=[1, 2])], ("N", 3, 5, 7))
    (operator,) = model.operators
    assert isinstance(operator, AveragePool2D)
    assert (operator.window, operator.stride) == ((2, 3), (1, 2))
