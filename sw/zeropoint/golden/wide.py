"""Operators on int16 activations, whose sums do not fit 32 bits: exact in float64, scaled by powers of two alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.arithmetic import AddScaling, add_scaling, clamp_limits, requantize_scaling, weighted_scaling
from zeropoint.errors import ZeropointError
from zeropoint.golden.matmul import float_type
from zeropoint.golden.tables import Array, Kernel
from zeropoint.model import Add, Conv2D, DepthwiseConv2D, FullyConnected, Operator, QuantizedModel, Requantize, Sub
from zeropoint.numerics import Integers, Rounding, multiply_by_quantized_multiplier, requantize

#: The multiplier of a power of two.
_HALF = 1 << 30


class WideOutput:
    """Turns raw sums of products into int16 outputs: ``clamp(even((sum + bias) · 2^(shift − 1)))``.

    Parameters and attributes are those of :class:`zeropoint.golden.output.Output`.

    Raises
    ------
    ZeropointError
        If a scale is no power of two, or sums could be beyond 2^53.
    """

    def __init__(
        self, model: QuantizedModel, operator: Conv2D | DepthwiseConv2D | FullyConnected, weights: npt.NDArray[Any]
    ) -> None:
        source, target = model.tensor(operator.input), model.tensor(operator.output)
        label = f"operator '{operator.name}' ({operator.kind})"
        data = None if operator.bias is None else model.tensor(operator.bias).data
        self.bias = np.zeros(len(weights)) if data is None else data.astype(np.float64)
        greatest = -source.limits[0]
        bound = np.abs(weights).sum(axis=1, dtype=np.int64) * greatest + np.abs(self.bias).astype(np.int64)
        try:
            self.dtype = float_type(int(bound.max()))
        except ValueError as error:
            raise ZeropointError(f"{label}: {error}") from None
        scaling = weighted_scaling(model, operator)
        if np.any(scaling.multiplier != _HALF):
            raise ZeropointError(f"{label}: the scales of 16-bit activations and their weights must be powers of two")
        self.exponent = (scaling.shift - 1).astype(np.int32)
        self.clamp = clamp_limits(target, operator.clamp)

    def __call__(self, sums: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
        """Write the outputs of the raw sums, channels last."""
        # Below 2^53 all of this is exact: the power of two changes an exponent.
        scaled = np.ldexp(sums.reshape(out.shape).astype(np.float64) + self.bias, self.exponent)
        out[...] = np.clip(np.rint(scaled), *self.clamp)


def _sum(model: QuantizedModel, operator: Add | Sub) -> Kernel:
    """ADD and SUB: as of bytes, with fifteen bits of headroom instead of twenty."""
    target, scaling = model.tensor(operator.output), add_scaling(model, operator)
    clamp, output = clamp_limits(target, operator.clamp), scaling.output
    constant = model.tensor(operator.other).data if operator.constant else None

    def kernel(x: Array, y: Array | None = None) -> Array:
        second = constant if y is None else y
        assert second is not None
        sums = _scaled(scaling, x, second)
        out = requantize(sums, output.multiplier, output.shift, target.zero_point, clamp, model.rounding)
        return out.astype(target.dtype)

    return kernel


def _scaled(scaling: AddScaling, x: Array, y: Array) -> Integers:
    first, other = (
        multiply_by_quantized_multiplier(
            values.astype(np.int64) << scaling.left_shift, own.multiplier, own.shift, Rounding.SINGLE
        )
        for values, own in ((x, scaling.input), (y, scaling.other))
    )
    return first + other


def _requantization(model: QuantizedModel, operator: Requantize) -> Kernel:
    """QUANTIZE, RELU and their like."""
    target, scaling = model.tensor(operator.output), requantize_scaling(model, operator)
    clamp = clamp_limits(target, operator.clamp)
    return lambda x: requantize(x, scaling.multiplier, scaling.shift, 0, clamp, model.rounding).astype(target.dtype)


#: What prepares each kind of operator that is a table for bytes.
KERNELS: dict[type[Operator], Callable[[QuantizedModel, Any], Kernel]] = {
    Add: _sum,
    Sub: _sum,
    Requantize: _requantization,
}
