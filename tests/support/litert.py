"""The oracle: a :class:`QuantizedModel` as a .tflite file, run by LiteRT's reference kernels.

``to_tflite`` writes any quantized model that TensorFlow Lite can express; ``run`` gives every tensor that the reference
kernels of the pinned interpreter compute for it. ``docs/numerics.md`` says why this interpreter and no other.
"""

import importlib.metadata
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from zeropoint.model import (
    Add,
    AveragePool2D,
    Clamp,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    MaxPool2D,
    Mean,
    Operator,
    Pad,
    Padding,
    QuantizedModel,
    Requantize,
    Reshape,
    Softmax,
    Tensor,
)

#: The version whose reference kernels are gemmlowp's arithmetic; later ones compute FULLY_CONNECTED in float64.
VERSION = "1.2.0"

try:
    found = importlib.metadata.version("ai-edge-litert")
except importlib.metadata.PackageNotFoundError:
    found = "none"

needs_litert = pytest.mark.skipif(
    found != VERSION, reason=f"the oracle is ai-edge-litert {VERSION}, found {found} (no wheels for CPython 3.13)"
)

_ACTIVATIONS = {(-inf, inf): "NONE", (0.0, inf): "RELU", (0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1"}


def run(
    model: QuantizedModel | bytes, x: npt.NDArray[Any], tensors: list[str] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Return every tensor (or ``tensors``) by name, batch first, as the reference kernels compute it from batch ``x``.

    ``model`` is a quantized model, or a .tflite file of batch size ``len(x)``.
    """
    content = model if isinstance(model, bytes) else to_tflite(model, len(x))
    interpreter = interpreter_for(content)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.ascontiguousarray(x))
    interpreter.invoke()
    return {
        detail["name"]: interpreter.get_tensor(detail["index"])
        for detail in interpreter.get_tensor_details()
        if detail["name"] and (tensors is None or detail["name"] in tensors)
    }


def interpreter_for(content: bytes) -> Any:
    """Return an interpreter of the oracle's kind, allocated, that runs on one thread and keeps every tensor."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=content,
        num_threads=1,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    return interpreter


def same_padding(
    image: tuple[int, int], window: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int] = (1, 1)
) -> Padding:
    """Return the padding that TensorFlow Lite calls SAME: the odd row or column goes to the bottom and the right."""
    sides = []
    for size, taps, step, spread in zip(image, window, stride, dilation, strict=True):
        total = max((-(-size // step) - 1) * step + (taps - 1) * spread + 1 - size, 0)
        sides += [total // 2, total - total // 2]
    return Padding(*sides)


def to_tflite(model: QuantizedModel, batch: int) -> bytes:
    """Return ``model`` as a .tflite file for inputs of ``batch`` samples.

    Padding that is neither VALID nor SAME becomes a PAD of its own in front of a convolution.

    Raises
    ------
    ValueError
        If TensorFlow Lite cannot express an operator.
    """
    return _Writer(model, batch).file()


def _activation_of(clamp: Clamp) -> str:
    name = _ACTIVATIONS.get((clamp.low, clamp.high))
    if name is None:
        raise ValueError(f"no activation of TensorFlow Lite clamps to {clamp.low} … {clamp.high}")
    return name


class _Writer:
    def __init__(self, model: QuantizedModel, batch: int) -> None:
        from ai_edge_litert import schema_py_generated

        self.schema: Any = schema_py_generated
        self.model, self.batch = model, batch
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [self.schema.BufferT()]
        self.codes: list[Any] = []
        self.operators: list[Any] = []
        self.index = {tensor.name: self._activation(tensor, tensor.name) for tensor in model.activations()}

    def file(self) -> bytes:
        import flatbuffers

        schema = self.schema
        for operator in self.model.operators:
            self._operator(operator)
        graph = schema.SubGraphT()
        graph.tensors, graph.operators = self.tensors, self.operators
        graph.inputs, graph.outputs = [self.index[self.model.input]], [self.index[self.model.output]]
        root = schema.ModelT()
        root.version, root.description = 3, "zeropoint test"
        root.operatorCodes, root.subgraphs, root.buffers = self.codes, [graph], self.buffers
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(root.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _tensor(self, name: str, shape: tuple[int, ...], dtype: str, data: npt.NDArray[Any] | None) -> int:
        tensor = self.schema.TensorT()
        tensor.name, tensor.shape = name, list(shape)
        tensor.type = getattr(self.schema.TensorType, dtype.upper())
        if data is not None:
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            tensor.buffer = len(self.buffers)
            self.buffers.append(buffer)
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def _quantize(self, index: int, scale: npt.ArrayLike, zero_point: npt.ArrayLike, axis: int = 0) -> int:
        parameters = self.schema.QuantizationParametersT()
        parameters.scale = np.atleast_1d(np.asarray(scale, np.float32))
        parameters.zeroPoint = np.atleast_1d(np.asarray(zero_point, np.int64))
        parameters.quantizedDimension = axis
        self.tensors[index].quantization = parameters
        return index

    def _activation(self, tensor: Tensor, name: str, shape: tuple[int, ...] | None = None) -> int:
        index = self._tensor(name, (self.batch, *(shape or tensor.shape)), tensor.dtype, None)
        return self._quantize(index, tensor.scale, tensor.zero_point)

    def _integers(self, name: str, values: npt.ArrayLike) -> int:
        data = np.asarray(values, np.int32)
        return self._tensor(name, data.shape, "int32", data)

    def _emit(self, kind: str, inputs: list[int], output: int, options: str | None = None, **fields: object) -> None:
        code = self.schema.OperatorCodeT()
        code.builtinCode = getattr(self.schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
        operator = self.schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = len(self.codes), inputs, [output]
        if options is not None:
            operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(self.schema, options + "T")()
            for name, value in fields.items():
                if not hasattr(operator.builtinOptions, name):
                    raise AttributeError(f"{options} has no field {name}")
                setattr(operator.builtinOptions, name, value)
        self.codes.append(code)
        self.operators.append(operator)

    def _fused(self, clamp: Clamp) -> int:
        return int(getattr(self.schema.ActivationFunctionType, _activation_of(clamp)))

    def _constants(self, operator: Conv2D | DepthwiseConv2D | FullyConnected) -> list[int]:
        source, weights = self.model.tensor(operator.input), self.model.tensor(operator.weights)
        quantization = weights.quantization
        assert quantization is not None
        assert weights.data is not None
        data, axis = weights.data, quantization.axis or 0
        if isinstance(operator, DepthwiseConv2D):
            data, axis = data[np.newaxis], 3
        index = self._tensor(weights.name, data.shape, weights.dtype, data)
        self._quantize(index, quantization.scale, quantization.zero_point, axis)
        channels = self.model.tensor(operator.output).shape[-1]
        # The convolutions insist on a bias.
        bias = np.zeros(channels, np.int32) if operator.bias is None else self.model.tensor(operator.bias).data
        assert bias is not None
        scale = np.float32(source.scale) * np.asarray(quantization.scale, np.float32)
        name = operator.bias or f"{operator.name}/bias"
        return [index, self._quantize(self._integers(name, bias), scale, np.zeros(len(scale), np.int64))]

    def _padding(self, operator: Conv2D | DepthwiseConv2D | AveragePool2D | MaxPool2D) -> tuple[int, int]:
        """Return the kind of padding and the tensor to read, after a PAD where neither kind fits."""
        source = self.model.tensor(operator.input)
        window = (
            operator.window
            if isinstance(operator, AveragePool2D | MaxPool2D)
            else self.model.tensor(operator.weights).shape[slice(1, 3) if isinstance(operator, Conv2D) else slice(0, 2)]
        )
        kinds, pad = self.schema.Padding, operator.padding
        same = same_padding(source.shape[:2], window, operator.stride, operator.dilation)  # type: ignore[arg-type]
        if pad == Padding():
            return kinds.VALID, self.index[source.name]
        if pad == same:
            return kinds.SAME, self.index[source.name]
        if isinstance(operator, AveragePool2D | MaxPool2D):
            raise ValueError(f"no pool pads by {pad}")
        height, width, channels = source.shape
        shape = (height + pad.top + pad.bottom, width + pad.left + pad.right, channels)
        padded = self._activation(source, f"{operator.name}/padded", shape)
        self._pad(self.index[source.name], padded, operator.name, pad)
        return kinds.VALID, padded

    def _pad(self, source: int, target: int, name: str, pad: Padding) -> None:
        amounts = self._integers(f"{name}/pad", [(0, 0), (pad.top, pad.bottom), (pad.left, pad.right), (0, 0)])
        self._emit("PAD", [source, amounts], target, "PadOptions")

    def _operator(self, operator: Operator) -> None:
        inputs, output = [self.index[name] for name in operator.inputs], self.index[operator.output]
        match operator:
            case Conv2D() | DepthwiseConv2D():
                padding, inputs[0] = self._padding(operator)
                fields = {
                    "padding": padding,
                    "strideH": operator.stride[0],
                    "strideW": operator.stride[1],
                    "dilationHFactor": operator.dilation[0],
                    "dilationWFactor": operator.dilation[1],
                    "fusedActivationFunction": self._fused(operator.clamp),
                }
                inputs += self._constants(operator)
                if isinstance(operator, Conv2D):
                    self._emit("CONV_2D", inputs, output, "Conv2DOptions", **fields)
                else:
                    channels = self.model.tensor(operator.input).shape[2]
                    fields["depthMultiplier"] = self.model.tensor(operator.weights).shape[2] // channels
                    self._emit("DEPTHWISE_CONV_2D", inputs, output, "DepthwiseConv2DOptions", **fields)
            case FullyConnected():
                self._emit(
                    "FULLY_CONNECTED",
                    inputs + self._constants(operator),
                    output,
                    "FullyConnectedOptions",
                    fusedActivationFunction=self._fused(operator.clamp),
                )
            case Add():
                fused = self._fused(operator.clamp)
                self._emit("ADD", inputs, output, "AddOptions", fusedActivationFunction=fused)
            case AveragePool2D() | MaxPool2D():
                padding, inputs[0] = self._padding(operator)
                self._emit(
                    "AVERAGE_POOL_2D" if isinstance(operator, AveragePool2D) else "MAX_POOL_2D",
                    inputs,
                    output,
                    "Pool2DOptions",
                    padding=padding,
                    strideH=operator.stride[0],
                    strideW=operator.stride[1],
                    filterHeight=operator.window[0],
                    filterWidth=operator.window[1],
                    fusedActivationFunction=self._fused(operator.clamp),
                )
            case Mean():
                axes = self._integers(f"{operator.name}/axes", [1, 2])
                self._emit("MEAN", [*inputs, axes], output, "ReducerOptions", keepDims=False)
            case Pad():
                self._pad(inputs[0], output, operator.name, operator.padding)
            case Requantize():
                activation = _activation_of(operator.clamp)
                if activation == "NONE":
                    self._emit("QUANTIZE", inputs, output, "QuantizeOptions")
                else:
                    self._emit(activation, inputs, output)
            case Reshape():
                shape = self._integers(f"{operator.name}/shape", (self.batch, *operator.shape))
                self._emit(
                    "RESHAPE", [*inputs, shape], output, "ReshapeOptions", newShape=(self.batch, *operator.shape)
                )
            case Softmax():
                self._emit("SOFTMAX", inputs, output, "SoftmaxOptions", beta=operator.beta)
            case _:
                raise ValueError(f"no way to write {operator.kind}")
