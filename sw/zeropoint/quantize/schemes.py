"""What distinguishes one quantization scheme from another."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.model import Conv2D, DepthwiseConv2D, Format, FullyConnected, Quantization, Tensor
from zeropoint.numerics import Rounding

Float64s = npt.NDArray[np.float64]

#: The least scale: below it, float32 has fewer digits.
LEAST_SCALE = float(np.finfo(np.float32).tiny)

#: The operators with weights.
Weighted = Conv2D | DepthwiseConv2D | FullyConnected


class Scheme(Enum):
    """The schemes by the names that the command line and a model's metadata give them."""

    #: int8 activations with any zero point; int8 weights with a scale per output channel and a zero point of 0.
    AFFINE_INT8 = "affine-int8"
    #: uint8 activations and weights, each tensor with one scale and any zero point.
    AFFINE_UINT8 = "affine-uint8"
    #: int8 activations with any zero point; INQ's weights: 0 and ±2^n2 … ±2^n1, in 5, 4, 3 or 2 bits.
    INQ = "inq"
    #: Ristretto's multiplier-free networks: int8 activations in dynamic fixed point; weights ±2^−8 … ±2^−1 in 4 bits.
    POW2 = "pow2"
    #: Ristretto's fixed point: one fractional length for the whole network.
    FIXED = "fixed"
    #: Ristretto's dynamic fixed point: a fractional length for each layer's inputs, weights and outputs.
    DYNAMIC_FIXED = "dynamic-fixed"
    #: Ristretto's minifloats: a sign, exponent and mantissa bits; sums are exact.
    MINIFLOAT = "minifloat"


@dataclass(frozen=True, eq=False)
class Weights:
    """Quantized weights: integers of the float weights' shape, or codes for them, and what they mean."""

    q: npt.NDArray[Any]
    quantization: Quantization
    format: Format | None = None

    def tensor(self, name: str) -> Tensor:
        """Return them as a constant."""
        return Tensor(name, self.q.shape, self.q.dtype.name, self.quantization, self.q, self.format)


#: How weights become integers; ``Rules.weights`` says of what.
WeightsFunction = Callable[[Float64s, int, Float64s, float], Weights]


@dataclass(frozen=True)
class Rules:
    """How one scheme quantizes; what all schemes have in common is in ``convert``.

    Attributes
    ----------
    dtype
        Of all activations: ``"int8"`` or ``"uint8"``.
    activations
        ``activations(low, high, least)`` returns the quantization of an activation whose values lie in
        ``low`` … ``high``, with ``low ≤ 0 ≤ high``. Its scale is at least ``least``.
    weights
        ``weights(values, axis, least, idle)`` returns the weights ``values``, float64 with the output channels along
        dimension ``axis``. The scale of each channel is at least its entry of ``least``, and about ``idle`` where all
        weights that share the scale are zero, so that any would do.
    rounding
        Of the requantizations.
    format
        What activations are codes of, if they are not all integers of ``dtype``.
    layers
        By an operator's name, what it has instead of ``weights``.
    groups
        By the name of a group's first activation (see ``convert``), whose rules it follows instead of these.
    """

    dtype: str
    activations: Callable[[float, float, float], Quantization]
    weights: WeightsFunction
    rounding: Rounding = Rounding.DOUBLE
    format: Format | None = None
    layers: Mapping[str, WeightsFunction] = field(default_factory=dict)
    groups: Mapping[str, "Rules"] = field(default_factory=dict)

    def of(self, group: str) -> "Rules":
        """Return the rules that a group of activations follows."""
        return self.groups.get(group, self)

    @property
    def limits(self) -> tuple[int, int]:
        """The least and greatest activation."""
        return Tensor("", (), self.dtype, format=self.format).limits
