"""Weights and biases as integers: those of the file, found again in our order of axes."""

import numpy as np
import numpy.typing as npt

from zeropoint.errors import ZeropointError
from zeropoint.importers.onnx_quantized_translate import Integers
from zeropoint.model import Conv2D, DepthwiseConv2D, FloatModel, FullyConnected, Quantization, Tensor
from zeropoint.numerics import round_half_away

Weighted = Conv2D | DepthwiseConv2D | FullyConnected

#: The integer of a factor in arithmetic with a constant. A power of two, so that the scale is exact.
FACTOR = 64

# How far the quotient of a float32 product and its scale may be from an integer of up to 9 bits.
_CLOSE = 2.0**-12

# Scales of input and weights, multiplied in float32 in one order or another, are a bias's scale up to this.
_SAME = 2.0**-20


def output_axis(operator: Weighted) -> int:
    """Return the dimension of our weights that counts the output channels."""
    return 2 if isinstance(operator, DepthwiseConv2D) else 0


def weights_of(model: FloatModel, operator: Weighted, integers: Integers) -> Tensor:
    """Return the weights of a layer in integers, which stand for exactly the real values in the float model.

    Parameters
    ----------
    model
        It holds the real values, in our order of axes.
    operator
        The layer.
    integers
        What the file has: the scales, and how the integers are written.

    Raises
    ------
    ZeropointError
        If the integers are no int8 or uint8; those with a scale for each channel, no int8 with zero points of 0.
    """
    tensor = model.tensor(operator.weights)
    assert tensor.data is not None
    axis = output_axis(operator) if integers.scale.size > 1 else None
    scale = integers.scale.astype(np.float64)
    spread = scale.reshape([-1 if dimension == axis else 1 for dimension in range(tensor.data.ndim)])
    quotients = tensor.data.astype(np.float64) / spread
    steps = np.rint(quotients)
    if np.any(np.abs(quotients - steps) > _CLOSE):
        raise ZeropointError(
            f"weights '{integers.name}' are changed after they are dequantized, by more than their order; "
            f"fold that into them before the network is quantized"
        )
    if axis is None:
        dtype, zero_point = integers.dtype, integers.zero_point
    else:
        dtype, zero_point = "int8", 0
    values = steps + zero_point
    if dtype not in ("int8", "uint8"):
        raise ZeropointError(f"weights '{integers.name}' are {dtype}; int8 and uint8 are supported")
    bounds = np.iinfo(dtype)
    if values.min() < bounds.min or values.max() > bounds.max:
        how = "with a scale for each channel must be int8 with zero points of 0" if axis is not None else "overflow"
        raise ZeropointError(
            f"weights '{integers.name}' {how}; quantize them symmetrically, or with one scale for the whole tensor"
        )
    quantization = Quantization(tuple(np.atleast_1d(integers.scale)), (zero_point,) * scale.size, axis)
    return Tensor(tensor.name, tensor.shape, dtype, quantization, values.astype(dtype))


def factor_weights(model: FloatModel, operator: Weighted) -> Tensor:
    """Return real factors, one for each channel, as int8 weights of ±64 or 0 at scales of a 64th of their magnitude."""
    tensor = model.tensor(operator.weights)
    assert tensor.data is not None
    axis = output_axis(operator)
    factors = tensor.data.reshape(-1).astype(np.float64)
    scale = np.maximum(np.where(factors == 0, 1.0, np.abs(factors) / FACTOR), np.finfo(np.float32).tiny)
    quantization = Quantization(tuple(scale), (0,) * scale.size, axis)
    data = (np.sign(tensor.data) * FACTOR).astype(np.int8)
    return Tensor(tensor.name, tensor.shape, "int8", quantization, data)


def bias_of(model: FloatModel, operator: Weighted, source: float, weights: Tensor, integers: Integers | None) -> Tensor:
    """Return the bias of a layer as int32, at the product of the scales of its input and its weights.

    Those are the file's own integers, if that is their scale; otherwise the real values are quantized.

    Parameters
    ----------
    model
        It holds the real values.
    operator
        The layer; it has a bias.
    source
        The scale of its input.
    weights
        Its weights, quantized.
    integers
        What the file has, or None if it has floats.

    Raises
    ------
    ZeropointError
        If a value is beyond int32.
    """
    assert operator.bias is not None
    assert weights.quantization is not None
    tensor = model.tensor(operator.bias)
    assert tensor.data is not None
    exact = np.float64(source) * np.asarray(weights.quantization.scale, np.float64)
    values = _own(tensor.data, exact, integers)
    if values is None:
        values = round_half_away(tensor.data.astype(np.float64) / exact)
    bounds = np.iinfo(np.int32)
    if np.any(np.abs(values) > bounds.max):
        raise ZeropointError(
            f"bias '{tensor.name}' is beyond int32 at the product of the scales of input and weights; "
            f"quantize with a greater weight scale"
        )
    tiny, greatest = np.finfo(np.float32).tiny, np.finfo(np.float32).max
    scale = tuple(np.clip(exact, tiny, greatest))
    quantization = Quantization(scale, (0,) * len(scale), None if weights.quantization.axis is None else 0)
    return Tensor(tensor.name, tensor.shape, "int32", quantization, values.astype(np.int32))


def _own(
    real: npt.NDArray[np.float32], exact: npt.NDArray[np.float64], integers: Integers | None
) -> npt.NDArray[np.float64] | None:
    """Return the file's own integers, if they are the real values at ``exact`` scales."""
    if integers is None or integers.dtype != "int32" or integers.data.size not in (1, real.size):
        return None
    if integers.scale.size not in (1, real.size):
        return None
    scale = np.broadcast_to(integers.scale.astype(np.float64).reshape(-1), real.shape)
    if np.any(np.abs(scale - exact) > _SAME * exact):
        return None
    values = np.broadcast_to(integers.data.reshape(-1), real.shape)
    # Something may have been added to the real values, or multiplied.
    same = np.array_equal((values * scale).astype(np.float32), real)
    return values.astype(np.float64) if same else None
