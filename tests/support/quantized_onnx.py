"""Quantized ONNX models, made by ONNX Runtime's quantizer or node by node, and what ONNX Runtime makes of them."""

import logging
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import NodeProto, TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from support.files import random_input
from support.onnx_models import make, node, save
from zeropoint import golden
from zeropoint.importers import layout, onnx_quantized
from zeropoint.model import QuantizedModel

Array = npt.NDArray[Any]

_QUANTIZER_TYPES = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}
_ELEMENT_TYPES = {"float32": TensorProto.FLOAT, "int8": TensorProto.INT8, "uint8": TensorProto.UINT8}


class _Samples(CalibrationDataReader):
    def __init__(self, x: Array) -> None:
        self._batches = iter([{"x": x}])

    def get_next(self) -> dict[str, Array] | None:
        return next(self._batches, None)


def quantized(
    model: onnx.ModelProto,
    folder: Path,
    *,
    qdq: bool = True,
    activations: str = "int8",
    weights: str = "int8",
    per_channel: bool = False,
    **options: Any,
) -> Path:
    """Return a float model with input ``x`` as ONNX Runtime quantizes it, calibrated with normal random inputs."""
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(0).standard_normal((64, *shape[1:])).astype(np.float32)
    target = folder / "quantized.onnx"
    # It warns that the model has not been optimized before.
    logging.disable(logging.WARNING)
    try:
        quantize_static(
            save(model, folder),
            target,
            _Samples(x),
            quant_format=QuantFormat.QDQ if qdq else QuantFormat.QOperator,
            activation_type=_QUANTIZER_TYPES[activations],
            weight_type=_QUANTIZER_TYPES[weights],
            per_channel=per_channel,
            **options,
        )
    finally:
        logging.disable(logging.NOTSET)
    return target


class Builder:
    """Writes a quantized model node by node.

    Parameters
    ----------
    shape
        Of input ``x``.
    dtype
        Of the activations, where nothing else is said.
    """

    def __init__(self, *shape: int | str, dtype: str = "int8", opset: int = 17) -> None:
        self._shape, self._dtype, self._opset = shape, dtype, opset
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, Array] = {}

    def add(self, operator: str, inputs: str, output: str, **attributes: Any) -> "Builder":
        self.nodes.append(node(operator, inputs, output, **attributes))
        return self

    def constant(self, name: str, data: npt.ArrayLike) -> "Builder":
        self.constants[name] = np.asarray(data)
        return self

    def parameters(
        self, name: str, scale: npt.ArrayLike, zero_point: npt.ArrayLike = 0, dtype: str | None = None
    ) -> str:
        """Add the constants ``name.s`` and ``name.z``, and return both names."""
        scale = np.asarray(scale, np.float32)
        self.constants[f"{name}.s"] = scale
        self.constants[f"{name}.z"] = np.broadcast_to(zero_point, scale.shape).astype(dtype or self._dtype)
        return f"{name}.s {name}.z"

    def q(self, name: str, scale: float, zero_point: int = 0, dtype: str | None = None) -> "Builder":
        """Quantize ``name`` to ``name.q``."""
        both = self.parameters(name, scale, zero_point, dtype)
        return self.add("QuantizeLinear", f"{name} {both}", f"{name}.q")

    def qdq(self, name: str, scale: float, zero_point: int = 0, dtype: str | None = None) -> "Builder":
        """Quantize ``name`` to ``name.q`` and dequantize that to ``name.d``."""
        self.q(name, scale, zero_point, dtype)
        return self.add("DequantizeLinear", f"{name}.q {name}.s {name}.z", f"{name}.d")

    def dq(self, name: str, scale: float, zero_point: int = 0, dtype: str | None = None) -> "Builder":
        """Dequantize ``name`` to ``name.d``."""
        both = self.parameters(name, scale, zero_point, dtype)
        return self.add("DequantizeLinear", f"{name} {both}", f"{name}.d")

    def weights(
        self, name: str, data: npt.ArrayLike, scale: npt.ArrayLike, zero_point: npt.ArrayLike = 0, **attributes: Any
    ) -> "Builder":
        """Add constant integers ``name``, dequantized to ``name.d``."""
        self.constant(name, data)
        both = self.parameters(name, scale, zero_point, self.constants[name].dtype.name)
        return self.add("DequantizeLinear", f"{name} {both}", f"{name}.d", **attributes)

    def model(self, output: str, kind: str = "float32", source: str = "float32") -> onnx.ModelProto:
        """Return the model with this output; input and output of these types."""
        made = make(self.nodes, self._shape, self.constants, opset=self._opset, outputs=[output])
        made.graph.input[0].type.tensor_type.elem_type = _ELEMENT_TYPES[source]
        made.graph.output[0].type.tensor_type.elem_type = _ELEMENT_TYPES[kind]
        made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        return made


def session(path: Path, *, optimize: bool = False) -> onnxruntime.InferenceSession:
    """Return a session on a model, which runs as the file says it unless it may be optimized."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    # With optimizations, exact sums on every processor.
    options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@cache
def sums_are_exact() -> bool:
    """Return whether ONNX Runtime's integer kernels sum exactly, which without VNNI they do not on x86."""
    builder = Builder(1, 64, dtype="uint8").constant("w", np.full((64, 1), 127, np.int8))
    weights, target = f"w {builder.parameters('w', 1.0, 0, 'int8')}", builder.parameters("y", 1e6)
    both = builder.parameters("x", 1.0)
    model = builder.add("QLinearMatMul", f"x {both} {weights} {target}", "y").model("y", "uint8", "uint8")
    running = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = running.run(None, {"x": np.full((1, 64), 255, np.uint8)})
    return int(found[0, 0]) == 64 * 255 * 127 // 10**6


def to_file(model: QuantizedModel, x: Array) -> Array:
    """Return inputs of the model in the layout of its file."""
    shape, permutation = layout.file_layout(model, "input")
    split = x.reshape(len(x), *(shape[axis] for axis in permutation))
    return np.ascontiguousarray(split.transpose(0, *(1 + int(axis) for axis in np.argsort(permutation))))


def differences(path: Path, count: int = 16, *, optimize: bool = False) -> tuple[QuantizedModel, Array]:
    """Import a file, and return the model and how far ONNX Runtime's outputs are from its, in steps of their scale."""
    operators = {entry.op_type for entry in onnx.load(path).graph.node}
    if operators & {"QLinearConv", "QLinearMatMul", "QGemm"} and not sums_are_exact():
        pytest.skip("on this processor ONNX Runtime saturates sums of products to 16 bits")
    model = onnx_quantized.read(path)
    x = random_input(model, count)
    ours = layout.to_file(model, golden.run(model, x))
    assert len(set(ours.flat)) > 1, "the network's output must depend on something"
    running = session(path, optimize=optimize)
    (source,) = running.get_inputs()
    real = x if "int8" in source.type else model.tensor(model.input).dequantize(x)
    # The file may have a batch of 1.
    results = [running.run(None, {source.name: sample[None]})[0] for sample in to_file(model, real)]
    theirs = np.concatenate(results)
    assert theirs.shape == ours.shape
    if theirs.dtype == np.float32:
        target = model.tensor(model.output)
        theirs = theirs / np.float64(target.scale) + target.zero_point
    return model, theirs.astype(np.float64) - ours
