"""Tensors and models: frozen, verified when made."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.errors import ZeropointError
from zeropoint.model.elementwise import Add, Logistic, Mul, Sub
from zeropoint.model.formats import Format, format_integers, verify_format
from zeropoint.model.movement import Concatenation
from zeropoint.model.operators import (
    MAX_ELEMENTS,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Operator,
    Pad,
    Requantize,
    Shape,
    Softmax,
)
from zeropoint.numerics import Integers, Rounding, round_half_away
from zeropoint.numerics.dynamic_fixed_point import FixedPointFormat
from zeropoint.numerics.minifloat import MinifloatFormat, from_order, in_order

#: Longer models are refused.
MAX_OPERATORS = 4096


@dataclass(frozen=True)
class Quantization:
    """The affine map ``real = scale · (q − zero_point)`` of a tensor.

    Attributes
    ----------
    scale, zero_point
        One entry for the whole tensor, or one for each index of dimension ``axis``. Scales are float32 values, as in a
        .tflite file.
    axis
        The dimension with its own scale for each index, or None.
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...] = (0,)
    axis: int | None = None

    def __post_init__(self) -> None:
        scale = np.asarray(self.scale, np.float32)
        if scale.ndim != 1 or not scale.size or not np.all(np.isfinite(scale)) or np.any(scale <= 0):
            raise ValueError(f"scales must be finite and positive, not {_brief(self.scale)}")
        if len(self.zero_point) != len(self.scale):
            raise ValueError(f"{len(self.scale)} scales need as many zero points, not {len(self.zero_point)}")
        if self.axis is None and len(self.scale) != 1:
            raise ValueError(f"{len(self.scale)} scales need an axis")
        object.__setattr__(self, "scale", tuple(float(value) for value in scale))
        object.__setattr__(self, "zero_point", tuple(int(value) for value in self.zero_point))


def _brief(values: object) -> str:
    text = repr(values)
    return text if len(text) < 60 else text[:57] + "…"


@dataclass(frozen=True, eq=False)
class Tensor:
    """An activation, or a constant with its data.

    Attributes
    ----------
    name
        Unique within the model.
    shape
        Without the batch dimension.
    dtype
        ``"float32"``, ``"int8"``, ``"uint8"``, ``"int16"`` or ``"int32"``.
    quantization
        None for float tensors only.
    data
        None for activations; for constants a C-contiguous read-only array of ``shape`` and ``dtype``.
    format
        What the integers are codes of, or None where they are the numbers that ``quantization`` scales.
    """

    name: str
    shape: Shape
    dtype: str
    quantization: Quantization | None = None
    data: npt.NDArray[Any] | None = None
    format: Format | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))
        if self.data is not None:
            data = np.array(self.data, order="C")
            data.setflags(write=False)
            object.__setattr__(self, "data", data)

    @property
    def scale(self) -> float:
        """The scale of a tensor quantized as a whole."""
        assert self.quantization is not None
        assert len(self.quantization.scale) == 1
        return self.quantization.scale[0]

    @property
    def zero_point(self) -> int:
        """The zero point of a tensor quantized as a whole."""
        assert self.quantization is not None
        assert len(self.quantization.zero_point) == 1
        return self.quantization.zero_point[0]

    @property
    def integers(self) -> Integers:
        """A constant's numbers in units of its scale, zero point included: its data, decoded if they are codes."""
        assert self.data is not None
        return self.data.astype(np.int64) if self.format is None else format_integers(self.format, self.data)

    @property
    def bits(self) -> int:
        """The width of an element as memory holds it."""
        return np.dtype(self.dtype).itemsize * 8 if self.format is None else self.format.bits

    @property
    def limits(self) -> tuple[int, int]:
        """The least and greatest integer of an element; of minifloats, those that stand for them."""
        if isinstance(self.format, FixedPointFormat):
            return self.format.limits
        if isinstance(self.format, MinifloatFormat):
            greatest = (1 << self.format.bits - 1) - 1
            return -greatest, greatest
        info = np.iinfo(self.dtype)
        return int(info.min), int(info.max)

    @property
    def real(self) -> npt.NDArray[np.float64]:
        """A constant's real values."""
        assert self.quantization is not None
        scale, zero_point = np.array(self.quantization.scale), np.array(self.quantization.zero_point)
        shape = [1] * len(self.shape)
        shape[self.quantization.axis or 0] = len(scale)
        integers = self.integers.astype(np.float64)
        result: npt.NDArray[np.float64] = (integers - zero_point.reshape(shape)) * scale.reshape(shape)
        return result

    def dequantize(self, q: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return the float32 real values of the activations ``q``."""
        if isinstance(self.format, MinifloatFormat):
            units = np.ldexp(self.format.decode(from_order(q, self.format)), -self.format.least)
            return (units * self.scale).astype(np.float32)
        return np.float32(self.scale) * (np.asarray(q).astype(np.float32) - np.float32(self.zero_point))

    def quantize(self, real: npt.ArrayLike) -> npt.NDArray[Any]:
        """Return ``real`` in the tensor's dtype: rounded to nearest (ties away from zero), saturated.

        Minifloats round ties to even.
        """
        if isinstance(self.format, MinifloatFormat):
            greatest = float(self.format.greatest_integer)
            units = np.clip(np.asarray(real, np.float64) / self.scale, -greatest, greatest)
            codes = self.format.quantize(np.ldexp(units, self.format.least))
            return in_order(codes, self.format).astype(self.dtype)
        ratio = np.asarray(real, np.float32) / np.float32(self.scale)
        low, high = self.limits
        # Clip as floats first: a float beyond int64 has no defined integer.
        q = np.clip(round_half_away(ratio).astype(np.float64) + self.zero_point, low, high)
        return q.astype(self.dtype)


@dataclass(frozen=True, eq=False)
class _Model:
    """What float and quantized models share.

    Attributes
    ----------
    name
        For people; not a path.
    tensors
        Every tensor by name.
    operators
        In an order in which each input is there before it is read.
    input, output
        The names of the one input and the one output.
    metadata
        Free text by key, such as the quantization scheme.
    """

    name: str
    tensors: Mapping[str, Tensor]
    operators: tuple[Operator, ...]
    input: str
    output: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensors", MappingProxyType(dict(self.tensors)))
        object.__setattr__(self, "operators", tuple(self.operators))
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))
        self.verify()

    def tensor(self, name: str) -> Tensor:
        """Return a tensor by name."""
        return self.tensors[name]

    def activations(self) -> Iterator[Tensor]:
        """Yield the input, then the output of each operator in order."""
        yield self.tensors[self.input]
        for operator in self.operators:
            yield self.tensors[operator.output]

    def shapes(self, operator: Operator) -> tuple[Shape, ...]:
        """Return the shapes of an operator's inputs and constants, as its ``output_shape`` takes them."""
        return tuple(self.tensors[name].shape for name in (*operator.inputs, *operator.constants))

    def macs(self, operator: Operator) -> int:
        """Return the multiply-accumulates of one operator for one inference."""
        return operator.macs(self.tensors[operator.output].shape, *self.shapes(operator))

    def consumers(self, tensor: str) -> tuple[Operator, ...]:
        """Return the operators that read an activation."""
        return tuple(operator for operator in self.operators if tensor in operator.inputs)

    def verify(self) -> None:
        """Check names, order, shapes and types.

        Raises
        ------
        ZeropointError
            Naming the tensor or operator, what was expected and what is there.
        """
        if not self.operators:
            raise ZeropointError(f"model '{self.name}' has no operators")
        if len(self.operators) > MAX_OPERATORS:
            raise ZeropointError(f"model '{self.name}' has {len(self.operators)} operators; {MAX_OPERATORS} at most")
        for name, tensor in self.tensors.items():
            if name != tensor.name:
                raise ZeropointError(f"tensor '{tensor.name}' is filed under '{name}'")
            if any(size < 1 for size in tensor.shape) or prod(tensor.shape) > MAX_ELEMENTS:
                raise ZeropointError(
                    f"tensor '{name}' has shape {tensor.shape}; dimensions must be positive "
                    f"and give {MAX_ELEMENTS} elements at most"
                )
            data = tensor.data
            if data is not None and (data.shape != tensor.shape or data.dtype.name != tensor.dtype):
                raise ZeropointError(
                    f"tensor '{name}' is declared {tensor.dtype}{tensor.shape}, "
                    f"but its data are {data.dtype.name}{data.shape}"
                )
            self._verify_tensor(tensor)
        ready = {self.input}
        if self.input not in self.tensors or self.tensors[self.input].data is not None:
            raise ZeropointError(f"the model's input '{self.input}' is not an activation tensor")
        names: set[str] = set()
        for operator in self.operators:
            label = f"operator '{operator.name}' ({operator.kind})"
            if operator.name in names:
                raise ZeropointError(f"{label}: its name is taken by another operator")
            names.add(operator.name)
            for name in operator.inputs:
                if name not in ready:
                    raise ZeropointError(f"{label}: input '{name}' is not computed before it")
            for name in operator.constants:
                if name not in self.tensors or self.tensors[name].data is None:
                    raise ZeropointError(f"{label}: '{name}' is not a constant tensor")
            if operator.output in ready or operator.output not in self.tensors:
                raise ZeropointError(f"{label}: output '{operator.output}' is missing or computed twice")
            if self.tensors[operator.output].data is not None:
                raise ZeropointError(f"{label}: output '{operator.output}' is a constant")
            try:
                shape = operator.output_shape(*self.shapes(operator))
            except ValueError as error:
                raise ZeropointError(f"{label}: {error}") from None
            if shape != self.tensors[operator.output].shape:
                declared = self.tensors[operator.output].shape
                raise ZeropointError(f"{label}: output '{operator.output}' is declared {declared}, but is {shape}")
            self._verify_operator(operator, label)
            ready.add(operator.output)
        if self.output not in ready:
            raise ZeropointError(f"the model's output '{self.output}' is not computed")

    def _verify_tensor(self, tensor: Tensor) -> None:
        raise NotImplementedError

    def _verify_operator(self, operator: Operator, label: str) -> None:
        pass


@dataclass(frozen=True, eq=False)
class FloatModel(_Model):
    """A network of float32 tensors in NHWC layout."""

    def _verify_tensor(self, tensor: Tensor) -> None:
        if tensor.dtype != "float32" or tensor.quantization is not None:
            raise ZeropointError(f"tensor '{tensor.name}' must be float32, not {tensor.dtype}")
        if tensor.data is not None and not np.all(np.isfinite(tensor.data)):
            raise ZeropointError(
                f"tensor '{tensor.name}' has values that are NaN or infinite; train or export the network again"
            )


@dataclass(frozen=True, eq=False)
class QuantizedModel(_Model):
    """A network of integer tensors, whose arithmetic ``docs/numerics.md`` defines.

    Attributes
    ----------
    rounding
        The rounding of every requantization of an accumulator.
    """

    rounding: Rounding = Rounding.DOUBLE

    def _verify_tensor(self, tensor: Tensor) -> None:
        quantization = tensor.quantization
        if tensor.dtype not in ("int8", "uint8", "int16", "int32") or quantization is None:
            raise ZeropointError(
                f"tensor '{tensor.name}' must be int8, uint8, int16 or int32 with scales, not {tensor.dtype}"
            )
        if tensor.dtype == "int16" and any(quantization.zero_point):
            raise ZeropointError(f"tensor '{tensor.name}' is int16 and must have zero points of 0")
        if tensor.data is None and (tensor.dtype == "int32" or quantization.axis is not None):
            raise ZeropointError(f"activation '{tensor.name}' must be int8, uint8 or int16 with one scale")
        if tensor.format is not None:
            self._verify_format(tensor, tensor.format)
        low, high = tensor.limits
        if not all(low <= zero_point <= high for zero_point in quantization.zero_point):
            raise ZeropointError(f"tensor '{tensor.name}' has a zero point outside {low} … {high}")
        if quantization.axis is not None:
            if not 0 <= quantization.axis < len(tensor.shape):
                raise ZeropointError(f"tensor '{tensor.name}' has scales along dimension {quantization.axis}")
            if len(quantization.scale) != tensor.shape[quantization.axis]:
                raise ZeropointError(
                    f"tensor '{tensor.name}' has {len(quantization.scale)} scales "
                    f"for {tensor.shape[quantization.axis]} channels"
                )

    def _verify_format(self, tensor: Tensor, form: Format) -> None:
        verify_format(form, tensor.dtype, f"tensor '{tensor.name}'")
        assert tensor.quantization is not None
        if any(tensor.quantization.zero_point):
            raise ZeropointError(f"tensor '{tensor.name}' is in a number format and must have zero points of 0")
        if tensor.data is None:
            if not isinstance(form, FixedPointFormat | MinifloatFormat):
                raise ZeropointError(
                    f"activation '{tensor.name}' must be integers, fixed point of fewer bits, or minifloats"
                )
            return
        try:
            format_integers(form, tensor.data)
        except ValueError as error:
            raise ZeropointError(f"tensor '{tensor.name}': {error}") from None

    def _verify_operator(self, operator: Operator, label: str) -> None:
        source, target = self.tensors[operator.input], self.tensors[operator.output]
        if operator.keeps_quantization and (
            (source.dtype, source.quantization, source.format) != (target.dtype, target.quantization, target.format)
        ):
            raise ZeropointError(f"{label}: output '{target.name}' must have the scale and zero point of its input")
        if any(isinstance(self.tensors[name].format, MinifloatFormat) for name in (*operator.inputs, operator.output)):
            self._verify_minifloats(operator, label)
        # QUANTIZE goes from the one type to the other, too.
        mixed = any(self.tensors[name].dtype != target.dtype for name in operator.inputs)
        if mixed and not isinstance(operator, Requantize):
            raise ZeropointError(f"{label}: inputs and output must all be int8, all uint8 or all int16")
        if "int16" in (source.dtype, target.dtype):
            self._verify_wide(operator, label)
        if isinstance(operator, Conv2D | DepthwiseConv2D | FullyConnected):
            self._verify_weights(operator, label)
        if isinstance(operator, Softmax) and (target.scale, target.zero_point) != (1 / 256, target.limits[0]):
            raise ZeropointError(f"{label}: output '{target.name}' must have scale 1/256 and the least zero point")
        if isinstance(operator, Logistic) and target.scale != 1 / 256:
            raise ZeropointError(f"{label}: output '{target.name}' must have scale 1/256")
        if isinstance(operator, Pad) and operator.value is not None:
            low, high = target.limits
            if not low <= operator.value <= high:
                raise ZeropointError(f"{label}: pads with {operator.value}, which is not within {low} … {high}")
        if isinstance(operator, Add | Sub | Mul) and operator.constant:
            constant = self.tensors[operator.other]
            assert constant.quantization is not None
            if (constant.dtype, constant.format) != (target.dtype, None) or constant.quantization.axis is not None:
                raise ZeropointError(f"{label}: constant '{constant.name}' must be {target.dtype} with one scale")
        if isinstance(operator, Concatenation) and target.dtype != "uint8":
            self._verify_concatenation(operator, label)

    def _verify_wide(self, operator: Operator, label: str) -> None:
        """Check an operator of which some activation is int16."""
        known = Conv2D | DepthwiseConv2D | FullyConnected | Add | Sub | Requantize | Concatenation
        if not isinstance(operator, known) and (not operator.keeps_quantization or isinstance(operator, AveragePool2D)):
            raise ZeropointError(f"{label}: there is no such operator for int16")
        types = {self.tensors[name].dtype for name in (*operator.inputs, operator.output)}
        if types != {"int16"}:
            raise ZeropointError(f"{label}: inputs and output must all be int16")
        if self.rounding is not Rounding.EVEN:
            raise ZeropointError(f"{label}: int16 activations are rounded to even, not {self.rounding.value}")

    def _verify_minifloats(self, operator: Operator, label: str) -> None:
        """Check an operator of which some activation is a minifloat."""
        computes = isinstance(operator, Conv2D | DepthwiseConv2D | FullyConnected | Add | Requantize | Softmax)
        moves = isinstance(operator, Concatenation) or operator.keeps_quantization
        if isinstance(operator, AveragePool2D) or not (computes or moves):
            raise ZeropointError(f"{label}: there is no such operator for minifloats")
        form = self.tensors[operator.input].format
        others = operator.inputs if isinstance(operator, Softmax) else (*operator.inputs, operator.output)
        for name in others:
            if self.tensors[name].format != form:
                raise ZeropointError(f"{label}: '{name}' must be in the format of '{operator.input}', a minifloat's")
        if getattr(operator, "constant", False):
            raise ZeropointError(f"{label}: minifloats are not added to a constant")

    def _verify_concatenation(self, operator: Concatenation, label: str) -> None:
        target = self.tensors[operator.output]
        for name in operator.inputs:
            if self.tensors[name].quantization != target.quantization:
                raise ZeropointError(f"{label}: input '{name}' must have the scale and zero point of '{target.name}'")

    def _verify_weights(self, operator: Conv2D | DepthwiseConv2D | FullyConnected, label: str) -> None:
        weights = self.tensors[operator.weights]
        assert weights.quantization is not None
        axis = {Conv2D: 0, DepthwiseConv2D: 2, FullyConnected: 0}[type(operator)]
        types = ("int8", "int16") if self.tensors[operator.input].dtype == "int16" else ("int8", "uint8")
        if weights.dtype not in types or weights.quantization.axis not in (None, axis):
            raise ZeropointError(
                f"{label}: weights '{weights.name}' must be {types[0]} or {types[1]}, scaled along {axis} if at all"
            )
        if weights.quantization.axis is not None and any(weights.quantization.zero_point):
            raise ZeropointError(
                f"{label}: weights '{weights.name}' with a scale per channel must have zero points of 0"
            )
        form, own = self.tensors[operator.input].format, weights.format
        floats = isinstance(form, MinifloatFormat), isinstance(own, MinifloatFormat)
        if floats[0] != floats[1]:
            raise ZeropointError(f"{label}: weights '{weights.name}' and input must both be minifloats, or neither")
        if floats[0] and getattr(own, "exponent_bits", 0) != getattr(form, "exponent_bits", 0):
            raise ZeropointError(f"{label}: weights '{weights.name}' must have as many exponent bits as the input")
        if operator.bias is not None and self.tensors[operator.bias].dtype != "int32":
            raise ZeropointError(f"{label}: bias '{operator.bias}' must be int32")
