"""ONNX models built node by node, and what ONNX Runtime makes of them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import NodeProto, TensorProto, helper, numpy_helper

from zeropoint import float_reference
from zeropoint.importers import layout, onnx_float
from zeropoint.model import FloatModel

Array = npt.NDArray[Any]
Dims = Sequence[int | str]


def make(
    nodes: Iterable[NodeProto],
    shape: Dims,
    constants: Mapping[str, Array] | None = None,
    *,
    opset: int = 17,
    inputs: Mapping[str, Dims] | None = None,
    outputs: Sequence[str] = ("y",),
) -> onnx.ModelProto:
    """Return a model with input ``x`` of ``shape`` and output ``y``, unless told otherwise."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, list(dims))
            for name, dims in (inputs or {"x": shape}).items()
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(data), name) for name, data in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def node(operator: str, inputs: str, output: str = "y", /, name: str | None = None, **attributes: Any) -> NodeProto:
    """Return a node; ``inputs`` are names separated by blanks, of which ``-`` stands for one left out."""
    names = ["" if entry == "-" else entry for entry in inputs.split()]
    return helper.make_node(operator, names, output.split(), name=name or f"{operator}_{output}", **attributes)


def save(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def read(model: onnx.ModelProto, folder: Path) -> FloatModel:
    return onnx_float.read(save(model, folder))


def check(path: Path, batch: int = 2, seed: int = 0) -> FloatModel:
    """Import a file, and hold the float reference's output against ONNX Runtime's within 1e-4 of its greatest value.

    ``batch`` is taken where the file leaves it open.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    # As the file says it: among the optimizations is one that takes zeros before a MaxPool for padding.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    shape = [size if isinstance(size, int) else batch for size in source.shape]
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    (expected,) = session.run(None, {source.name: x})
    model = onnx_float.read(path)
    outputs = float_reference.run(model, layout.to_model(model, x))
    got = layout.to_file(model, outputs[model.output])
    assert got.shape == expected.shape
    assert np.ptp(expected) > 0, "the network's output must depend on something"
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * float(np.abs(expected).max()))
    return model


def kinds(model: FloatModel) -> list[str]:
    return [operator.kind for operator in model.operators]
