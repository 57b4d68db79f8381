"""Bias, requantization and clamp of the accumulators of a convolution or fully-connected layer."""

from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.arithmetic import clamp_limits, weighted_scaling
from zeropoint.golden.matmul import float_type
from zeropoint.model import Conv2D, DepthwiseConv2D, FullyConnected, QuantizedModel
from zeropoint.numerics import INT32_MAX, Integers, Rounding, requantize, wrap_int32

# Accumulators requantized at once: their float64 temporaries stay in a second-level cache.
_PIECE = 1 << 15

# Elements of one row of constants: long enough for SIMD, short enough for a first-level cache.
_WIDTH = 1 << 10

# A right shift up to which float64 holds every bit of a result that is not clamped away (see Output).
_EXACT_SHIFT = 14


class Output:
    """Turns raw sums of products into quantized outputs, exactly as :func:`zeropoint.numerics.requantize` does.

    Parameters
    ----------
    model, operator
        The layer.
    weights
        Its weights less their zero point, as ``(output channels, terms of one sum)``.

    Attributes
    ----------
    dtype
        The float type of the raw sums ``Σ x · w`` of quantized inputs and weights less their zero point.

    Notes
    -----
    The input's zero point needs no subtraction from each ``x``: ``Σ (x − Z) · w = Σ x · w − Z · Σ w``, and the last
    term is a constant of the channel, as the bias is.

    With ``right = max(−shift, 0)`` and ``p = accumulator · multiplier · 2^(shift − 31)``, the two roundings of
    ``DOUBLE`` are one floor: ``floor(p + 1/2 ± 2^−(right + 1))``, plus for an accumulator of 0 or more, minus below,
    and without the last term where ``right`` is 0; ``SINGLE`` is ``floor(p + 1/2)``, ``EVEN`` is ``rint(p)``. ``p`` and
    these sums are whole multiples of ``2^−(31 + right)``, so that float64 has them exactly up to 2^8 if ``right`` is 14
    or less. Beyond 2^8 rounding to float64 is monotonic, and the clamp takes over. Layers outside these limits
    (accumulators that wrap, shifts beyond 14 that give something other than 0) take the integers' way.
    """

    def __init__(
        self, model: QuantizedModel, operator: Conv2D | DepthwiseConv2D | FullyConnected, weights: npt.NDArray[Any]
    ) -> None:
        source, target = model.tensor(operator.input), model.tensor(operator.output)
        bias = np.int64(0) if operator.bias is None else model.tensor(operator.bias).data
        assert bias is not None
        constant = bias - source.zero_point * weights.sum(axis=1, dtype=np.int64)
        greatest = max(abs(limit) for limit in source.limits)
        bound = np.abs(weights).sum(axis=1, dtype=np.int64) * greatest + np.abs(constant)
        self.dtype = float_type(int(bound.max()))
        self.scaling = weighted_scaling(model, operator)
        self.zero_point = target.zero_point
        self.clamp = clamp_limits(target, operator.clamp)
        self.rounding = model.rounding
        repeats = -(-_WIDTH // len(constant))

        def wide(values: npt.ArrayLike, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
            return np.tile(np.broadcast_to(np.asarray(values, dtype), constant.shape), repeats)

        self.constant = wide(constant, self.dtype)
        factor = self._exact_factor(bound)
        self.factor = None if factor is None else wide(factor, np.float64)
        if self.factor is None:
            self.multiplier, self.shift = wide(self.scaling.multiplier, np.int64), wide(self.scaling.shift, np.int64)
            return
        double = (self.rounding is Rounding.DOUBLE) & (self.scaling.shift < 0)
        nudge = wide(np.where(double, np.ldexp(0.5, self.scaling.shift.astype(np.int32)), 0.0), np.float64)
        self.offset: Any = self.zero_point - self.clamp[0]
        if self.rounding is Rounding.EVEN:
            return
        self.offset += 0.5
        self.nudge = nudge.view(np.int64)
        # Below an accumulator of 0 nothing reaches above the zero point: where the clamp begins there, the sign of the
        # nudge does not matter.
        self.signed = self.clamp[0] < self.zero_point
        if not self.signed:
            self.offset = self.offset + nudge

    def _exact_factor(self, bound: Integers) -> npt.NDArray[np.float64] | None:
        """Return the float64 multipliers of the channels, or None if float64 would not give exact outputs."""
        left, right = np.maximum(self.scaling.shift, 0), np.maximum(-self.scaling.shift, 0)
        if np.any(bound > INT32_MAX >> left + 1):
            return None
        factor = np.ldexp(self.scaling.multiplier.astype(np.float64), (self.scaling.shift - 31).astype(np.int32))
        # A channel whose results are all 0 has any small factor.
        vanishing = bound * factor < 0.25
        if np.any((right > _EXACT_SHIFT) & ~vanishing):
            return None
        return np.where(right > _EXACT_SHIFT, 0.0, factor)

    def __call__(self, sums: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
        """Write the outputs of the raw sums, which are overwritten; both C-contiguous, channels last."""
        sums, out = sums.reshape(-1), out.reshape(-1)
        width = self.constant.size
        whole = sums.size - sums.size % width
        step = max(_PIECE // width, 1) * width
        apply = self._integers if self.factor is None else self._floats
        for start in range(0, whole, step):
            piece = slice(start, min(start + step, whole))
            apply(sums[piece].reshape(-1, width), out[piece].reshape(-1, width))
        if whole < sums.size:
            apply(sums[whole:], out[whole:])

    def _floats(self, sums: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
        assert self.factor is not None
        width = sums.shape[-1]
        sums += self.constant[:width]
        scaled = sums.astype(np.float64)
        scaled *= self.factor[:width]
        if self.rounding is Rounding.EVEN:
            np.rint(scaled, out=scaled)
            scaled += self.offset
        elif self.signed:
            # Faster than copysign: the sign's bit of one, all the others of the other.
            nudge = scaled.view(np.int64) & np.int64(-1 << 63)
            nudge |= self.nudge[:width]
            scaled += nudge.view(np.float64)
            scaled += self.offset
        else:
            scaled += self.offset[:width]
        low, high = self.clamp
        np.clip(scaled, 0, high - low, out=scaled)
        # The conversion truncates, which is the floor of what is not negative; uint8 wraps like any two's complement.
        steps = out.view(np.uint8)
        np.copyto(steps, scaled, casting="unsafe")
        steps += np.uint8(low & 0xFF)

    def _integers(self, sums: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
        width = sums.shape[-1]
        accumulator = wrap_int32((sums + self.constant[:width]).astype(np.int64))
        out[...] = requantize(
            accumulator, self.multiplier[:width], self.shift[:width], self.zero_point, self.clamp, self.rounding
        )
