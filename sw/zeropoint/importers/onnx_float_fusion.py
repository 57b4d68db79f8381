"""Passes over a float model: constants and activations move into the operators beside them.

Each takes a model and returns one that computes the same, verified like any other.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from zeropoint.importers.names import Names
from zeropoint.model import (
    Clamp,
    Conv2D,
    DepthwiseConv2D,
    FloatModel,
    FullyConnected,
    Operator,
    Pad,
    Padding,
    QuantizedModel,
    Requantize,
    Reshape,
    Shape,
    Tensor,
)

Array = npt.NDArray[Any]

Model = TypeVar("Model", FloatModel, QuantizedModel)

_Weighted = Conv2D | DepthwiseConv2D | FullyConnected


@dataclass(frozen=True, kw_only=True)
class Affine(Operator):
    """``clamp(scale · x + shift)`` for each channel; only within this importer, and gone when it is done."""

    scale: str
    shift: str
    clamp: Clamp = field(default_factory=Clamp)

    @property
    def constants(self) -> tuple[str, ...]:
        """The constant tensors read, in order."""
        return (self.scale, self.shift)

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the input's shape, if the constants fit it."""
        image, scale, shift = shapes
        if scale != image[-1:] or shift != image[-1:]:
            raise ValueError(f"constants {scale} and {shift} do not fit an input of {image}")
        return image


def fuse(model: FloatModel) -> FloatModel:
    """Run all passes in order."""
    for run in (fold_affine, fold_clamps, fold_pads, lower_affine):
        model = run(model)
    return model


def fold_affine(model: FloatModel, *, keep_weights: bool = False) -> FloatModel:
    """Fold each Affine into the weights and the bias of what makes its input, if nothing else reads that.

    With ``keep_weights``, only those that shift are folded, and weights stay as they are.
    """
    tensors = dict(model.tensors)
    producers: dict[str, Operator] = {}
    for operator in model.operators:
        producer = _sole_producer(model, producers, operator.input)
        folds = isinstance(operator, Affine) and not (keep_weights and np.any(tensors[operator.scale].data != 1))
        if folds and isinstance(producer, Affine | _Weighted) and producer.clamp == Clamp():
            assert isinstance(operator, Affine)
            del producers[producer.output]
            operator = _scaled(producer, operator, tensors)
        producers[operator.output] = operator
    return _rebuilt(model, producers.values(), tensors)


def _scaled(producer: "Affine | _Weighted", affine: Affine, tensors: dict[str, Tensor]) -> Operator:
    """Return ``producer`` with new constants, which are put among ``tensors``, so that it computes ``affine`` too."""

    def data(name: str) -> Array:
        array = tensors[name].data
        assert array is not None
        return array.astype(np.float64)

    def put(name: str, array: Array) -> str:
        tensors[name] = Tensor(name, array.shape, "float32", data=_float32(array))
        return name

    scale, shift = data(affine.scale), data(affine.shift)
    if isinstance(producer, Affine):
        put(producer.scale, data(producer.scale) * scale)
        put(producer.shift, data(producer.shift) * scale + shift)
        return replace(producer, output=affine.output)
    spread = (
        scale if isinstance(producer, DepthwiseConv2D) else scale.reshape(-1, *(1,) * (data(producer.weights).ndim - 1))
    )
    put(producer.weights, data(producer.weights) * spread)
    if producer.bias is not None:
        shift = data(producer.bias) * scale + shift
    # Without a bias of its own, the operator takes the Affine's shift over, name and all.
    return replace(producer, output=affine.output, bias=put(producer.bias or affine.shift, shift))


def fold_clamps(model: FloatModel) -> FloatModel:
    """Fold each clamp that stands alone into what makes its input, if that can clamp and nothing else reads it."""
    producers: dict[str, Operator] = {}
    for operator in model.operators:
        producer = _sole_producer(model, producers, operator.input)
        clamp = getattr(producer, "clamp", None)
        if isinstance(operator, Requantize) and producer is not None and clamp is not None:
            del producers[producer.output]
            fields: dict[str, Any] = {"output": operator.output, "clamp": clamp & operator.clamp}
            operator = replace(producer, **fields)
        producers[operator.output] = operator
    return _rebuilt(model, producers.values(), model.tensors)


def fold_pads(model: FloatModel) -> FloatModel:
    """Fold each Pad into the convolutions that read it, if nothing else does: they pad with zeros too."""
    pads = {
        operator.output: operator
        for operator in model.operators
        if isinstance(operator, Pad)
        and operator.output != model.output
        and all(isinstance(reader, Conv2D | DepthwiseConv2D) for reader in model.consumers(operator.output))
    }
    operators: list[Operator] = []
    for operator in model.operators:
        pad = pads.get(operator.input)
        if pad is not None and isinstance(operator, Conv2D | DepthwiseConv2D):
            operator = replace(operator, input=pad.input, padding=_sum(pad.padding, operator.padding))
        if operator.output not in pads:
            operators.append(operator)
    return _rebuilt(model, operators, model.tensors)


def _sum(first: Padding, second: Padding) -> Padding:
    return Padding(
        first.top + second.top, first.bottom + second.bottom, first.left + second.left, first.right + second.right
    )


def lower_affine(model: FloatModel) -> FloatModel:
    """Make each Affine that is left a depthwise convolution with a 1 x 1 kernel."""
    tensors = dict(model.tensors)
    names = Names((*tensors, *(operator.name for operator in model.operators)))
    operators: list[Operator] = []
    for operator in model.operators:
        if isinstance(operator, Affine):
            operators += _depthwise(operator, tensors, names)
        else:
            operators.append(operator)
    return _rebuilt(model, operators, tensors)


def _depthwise(affine: Affine, tensors: dict[str, Tensor], names: Names) -> list[Operator]:
    """Return the convolution, and what makes a feature map of a vector before it and a vector after it."""
    scale, shift = tensors[affine.scale], tensors[affine.shift]
    assert scale.data is not None
    assert shift.data is not None
    tensors[affine.scale] = replace(scale, shape=(1, 1, *scale.shape), data=scale.data[None, None])
    convolution = DepthwiseConv2D(
        name=affine.name,
        input=affine.input,
        output=affine.output,
        weights=affine.scale,
        bias=affine.shift if np.any(shift.data) else None,
        clamp=affine.clamp,
    )
    shape = tensors[affine.input].shape
    if len(shape) == 3:
        return [convolution]
    before, after = (names.unique(f"{affine.output}.{what}") for what in ("map", "scaled"))
    for name in (before, after):
        tensors[name] = Tensor(name, (1, 1, *shape), "float32")
    return [
        Reshape(name=before, input=affine.input, output=before, shape=(1, 1, *shape)),
        replace(convolution, input=before, output=after),
        Reshape(name=after, input=after, output=affine.output, shape=shape),
    ]


def rename_output(model: Model, name: str) -> Model:
    """Give the model's output this name, unless another tensor has it or the output is the input."""
    old = model.output
    if name in model.tensors or old == model.input:
        return model
    tensors = {key: tensor for key, tensor in model.tensors.items() if key != old}
    tensors[name] = replace(model.tensors[old], name=name)
    operators = tuple(renamed(operator, {old: name}) for operator in model.operators)
    return replace(model, tensors=tensors, operators=operators, output=name)


def renamed(operator: Operator, names: Mapping[str, str]) -> Operator:
    """Return an operator with other names for some of its activations."""
    fields = {key: getattr(operator, key, "") for key in ("input", "other", "output")}
    return replace(operator, **{key: names[name] for key, name in fields.items() if name in names})


def _sole_producer(model: FloatModel, producers: Mapping[str, Operator], tensor: str) -> Operator | None:
    """Return what makes a tensor, if one operator reads it and nobody else."""
    return producers.get(tensor) if tensor != model.output and len(model.consumers(tensor)) == 1 else None


def _rebuilt(model: FloatModel, operators: Iterable[Operator], tensors: Mapping[str, Tensor]) -> FloatModel:
    """Return the model with other operators, and of the tensors those that are used."""
    operators = tuple(operators)
    used = {model.input, *(operator.output for operator in operators)}
    used.update(name for operator in operators for name in operator.constants)
    kept = {name: tensor for name, tensor in tensors.items() if name in used}
    return replace(model, tensors=kept, operators=operators)


def _float32(array: Array) -> Array:
    with np.errstate(over="ignore"):  # Values beyond float32 become infinite, which the model refuses.
        return array.astype(np.float32)
