"""What distinguishes one quantization scheme from another."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.model import Conv2D, DepthwiseConv2D, FullyConnected, Quantization

Float64s = npt.NDArray[np.float64]

#: The operators with weights.
Weighted = Conv2D | DepthwiseConv2D | FullyConnected


class Scheme(Enum):
    """The schemes by the names that the command line and a model's metadata give them."""

    #: int8 activations with any zero point; int8 weights with a scale per output channel and a zero point of 0.
    AFFINE_INT8 = "affine-int8"
    #: uint8 activations and weights, each tensor with one scale and any zero point.
    AFFINE_UINT8 = "affine-uint8"


@dataclass(frozen=True, eq=False)
class Weights:
    """Quantized weights: integers of the float weights' shape, and what they mean."""

    q: npt.NDArray[Any]
    quantization: Quantization

    def dequantize(self) -> Float64s:
        """Return the real values."""
        scale, zero_point = np.array(self.quantization.scale), np.array(self.quantization.zero_point)
        shape = [1] * self.q.ndim
        if self.quantization.axis is not None:
            shape[self.quantization.axis] = len(scale)
            return (self.q - zero_point.reshape(shape)) * scale.reshape(shape)
        return (self.q.astype(np.float64) - zero_point) * scale


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
    """

    dtype: str
    activations: Callable[[float, float, float], Quantization]
    weights: Callable[[Float64s, int, Float64s, float], Weights]
