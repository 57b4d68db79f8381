"""From a float model with FakeQuantize operators to a quantized model: the passes, then operator after operator."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from zeropoint.errors import ZeropointError
from zeropoint.importers.names import Names
from zeropoint.importers.onnx_float_fusion import Affine, fold_affine, fold_clamps, fold_pads, lower_affine, renamed
from zeropoint.importers.onnx_quantized_encodings import encodings, share, softmax_encoding
from zeropoint.importers.onnx_quantized_integers import Weighted, bias_of, factor_weights, weights_of
from zeropoint.importers.onnx_quantized_translate import Encoding, FakeQuantize, Integers
from zeropoint.model import (
    AveragePool2D,
    Clamp,
    Conv2D,
    DepthwiseConv2D,
    FloatModel,
    FullyConnected,
    Mean,
    Operator,
    Padding,
    Quantization,
    QuantizedModel,
    Requantize,
    Reshape,
    Softmax,
    Tensor,
)
from zeropoint.numerics import Rounding


def build(
    model: FloatModel, constants: Mapping[str, Integers], rounding: Rounding, metadata: Mapping[str, str]
) -> QuantizedModel:
    """Return the quantized model that a float model with FakeQuantize operators stands for.

    Parameters
    ----------
    model
        As translated.
    constants
        The integers behind its constants.
    rounding, metadata
        Of the quantized model.

    Raises
    ------
    ZeropointError
        If an activation or the weights of a layer are not quantized, or not in a way that is supported.
    """
    model = fold_betas(fold_affine(keep_probabilities(share(model)), keep_weights=True))
    factors = {operator.scale for operator in model.operators if isinstance(operator, Affine)}
    for run in (fold_clamps, fold_pads, lower_affine):
        model = run(model)
    builder = _Builder(model, constants, factors)
    for operator in model.operators:
        builder.add(operator)
    return QuantizedModel(
        model.name,
        builder.tensors,
        tuple(builder.operators),
        model.input,
        builder.named(model.output),
        metadata,
        rounding,
    )


def keep_probabilities(model: FloatModel) -> FloatModel:
    """Remove the quantization of a Softmax that ends the network: its output has one already."""
    producers = {operator.output: operator for operator in model.operators}
    last = producers.get(model.output)
    if not isinstance(last, FakeQuantize) or not isinstance(producers.get(last.input), Softmax):
        return model
    if len(model.consumers(last.input)) > 1 or model.consumers(last.output):
        return model
    tensors = {name: tensor for name, tensor in model.tensors.items() if name != last.output}
    operators = tuple(operator for operator in model.operators if operator is not last)
    return replace(model, tensors=tensors, operators=operators, output=last.input)


def fold_betas(model: FloatModel) -> FloatModel:
    """Fold each Affine that multiplies all channels by one positive factor into the Softmax that alone reads it."""
    scaled: dict[str, Affine] = {}
    operators: list[Operator] = []
    for operator in model.operators:
        affine = scaled.get(operator.input)
        if affine is not None and isinstance(operator, Softmax):
            operators.remove(affine)
            factor = model.tensor(affine.scale).data
            assert factor is not None
            operator = replace(operator, input=affine.input, beta=operator.beta * float(factor[0]))
        elif (
            isinstance(operator, Affine) and len(model.consumers(operator.output)) == 1 and _is_factor(model, operator)
        ):
            scaled[operator.output] = operator
        operators.append(operator)
    used = {model.input, *(name for operator in operators for name in (operator.output, *operator.constants))}
    tensors = {name: tensor for name, tensor in model.tensors.items() if name in used}
    return replace(model, tensors=tensors, operators=tuple(operators))


def _is_factor(model: FloatModel, affine: Affine) -> bool:
    scale, shift = model.tensor(affine.scale).data, model.tensor(affine.shift).data
    assert scale is not None
    assert shift is not None
    return bool(scale[0] > 0 and np.all(scale == scale[0]) and not np.any(shift) and affine.output != model.output)


class _Builder:
    """Adds quantized operators one by one.

    Attributes
    ----------
    tensors, operators
        Of the quantized model, so far.
    """

    def __init__(self, model: FloatModel, constants: Mapping[str, Integers], factors: set[str]) -> None:
        self._model, self._constants, self._factors = model, constants, factors
        self._encodings = encodings(model)
        self._tensor_names = Names(model.tensors)
        self._operator_names = Names(operator.name for operator in model.operators)
        # Of tensors that a FakeQuantize passes on as they are.
        self._same: dict[str, str] = {}
        self.tensors: dict[str, Tensor] = {}
        self.operators: list[Operator] = []
        self._activation(model.input, self._encodings[model.input])

    def named(self, tensor: str) -> str:
        """Return the quantized model's name of an activation."""
        return self._same.get(tensor, tensor)

    def add(self, operator: Operator) -> None:
        """Add what an operator of the float model becomes."""
        target = self._encodings[operator.output]
        source = self._encodings[operator.input]
        if isinstance(operator, FakeQuantize):
            if source == target:
                self._same[operator.output] = self.named(operator.input)
                return
            operator = Requantize(name=operator.name, input=operator.input, output=operator.output)
        operator = renamed(operator, self._same)
        operator = renamed(operator, {name: self._as_type(name, source.dtype) for name in operator.inputs[1:]})
        if isinstance(operator, Weighted):
            try:
                self._add_constants(operator, source)
            except ZeropointError as error:
                raise ZeropointError(f"operator '{operator.name}' ({operator.kind}): {error}") from None
        own = source if operator.keeps_quantization else _as_dtype(target, source.dtype)
        if isinstance(operator, Softmax):
            own = softmax_encoding(source.dtype)
        elif isinstance(operator, Requantize):
            own = target
        if own == target:
            self._emit(operator, target)
        elif isinstance(operator, AveragePool2D) and operator.padding == Padding() and source.dtype == target.dtype:
            self._emit_average(operator, target)
        else:
            between = self._tensor_names.unique(f"{operator.output}.{operator.kind.lower()}")
            self._emit(replace(operator, output=between), own)
            self._requantize(between, operator.output, target)

    def _emit(self, operator: Operator, encoding: Encoding) -> None:
        shapes = [self.tensors[name].shape for name in (*operator.inputs, *operator.constants)]
        self._activation(operator.output, encoding, operator.output_shape(*shapes))
        self.operators.append(operator)

    def _activation(self, name: str, encoding: Encoding, shape: tuple[int, ...] | None = None) -> None:
        shape = self._model.tensor(name).shape if shape is None else shape
        self.tensors[name] = Tensor(name, shape, encoding.dtype, encoding.quantization)

    def _requantize(self, source: str, output: str, encoding: Encoding) -> None:
        name = self._operator_names.unique(f"{output}.requantize")
        self._emit(Requantize(name=name, input=source, output=output), encoding)

    def _as_type(self, name: str, dtype: str) -> str:
        """Return a tensor with the same real values, of the type that an operator's first input has."""
        tensor = self.tensors[name]
        if tensor.dtype == dtype:
            return name
        made = self._tensor_names.unique(f"{name}.{dtype}")
        self._requantize(name, made, _as_dtype(Encoding(tensor.dtype, tensor.scale, tensor.zero_point), dtype))
        return made

    def _emit_average(self, operator: AveragePool2D, target: Encoding) -> None:
        """Add an average that has its output's quantization: a Mean, or a convolution with weights of ``1/n``."""
        source = self.tensors[operator.input]
        if operator.window == source.shape[:2] and operator.clamp == Clamp():
            between = self._tensor_names.unique(f"{operator.output}.mean")
            self._emit(Mean(name=operator.name, input=operator.input, output=between), target)
            shape = (1, 1, *self.tensors[between].shape)
            name = self._operator_names.unique(f"{operator.output}.reshape")
            self._emit(Reshape(name=name, input=between, output=operator.output, shape=shape), target)
            return
        weights = self._tensor_names.unique(f"{operator.output}.weights")
        ones = np.ones((*operator.window, source.shape[2]), np.int8)
        quantization = Quantization((1 / (operator.window[0] * operator.window[1]),))
        self.tensors[weights] = Tensor(weights, ones.shape, "int8", quantization, ones)
        convolution = DepthwiseConv2D(
            name=operator.name,
            input=operator.input,
            output=operator.output,
            weights=weights,
            stride=operator.stride,
            clamp=operator.clamp,
        )
        self._emit(convolution, target)

    def _add_constants(self, operator: Conv2D | DepthwiseConv2D | FullyConnected, source: Encoding) -> None:
        integers = self._constants.get(operator.weights)
        if operator.weights in self._factors:
            weights = factor_weights(self._model, operator)
        elif integers is not None:
            weights = weights_of(self._model, operator, integers)
        else:
            raise ZeropointError(
                f"weights '{operator.weights}' are not quantized; they must be int8 or uint8 behind a DequantizeLinear"
            )
        self.tensors[weights.name] = weights
        if operator.bias is not None:
            own = self._constants.get(operator.bias)
            self.tensors[operator.bias] = bias_of(self._model, operator, source.scale, weights, own)


def _as_dtype(encoding: Encoding, dtype: str) -> Encoding:
    """Return the encoding of the same real values in another type of 8 bits."""
    offset = int(np.iinfo(dtype).min) - int(np.iinfo(encoding.dtype).min)
    return Encoding(dtype, encoding.scale, encoding.zero_point + offset)
