"""The steps of a network in quantization-aware training: each one operator of the quantized network to come.

A step computes one thing in three ways: :meth:`Step.forward` in floating point with fake quantization, which has
gradients; :meth:`Step.integers` in the integer arithmetic of ``docs/numerics.md``; and :meth:`Step.exported` as the
float operators between QuantizeLinear and DequantizeLinear that an ONNX file has.

Integers are float64 tensors, in which sums of up to 2^53 are exact in any order, and PyTorch's convolutions work.
"""

from collections.abc import Callable, Sequence
from math import inf, prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zeropoint.arithmetic import average_scaling, clamp_limits, sum_scaling
from zeropoint.errors import ZeropointError
from zeropoint.model import Clamp
from zeropoint.model import Tensor as Quantized
from zeropoint.numerics import Integers, multiply_by_quantized_multiplier, requantize, round_half_away, wrap_int32
from zeropoint.train.fake_quantize import Quantizer


def clamped(x: Tensor, clamp: Clamp) -> Tensor:
    """Return the real values ``x``, clamped, by the operation that becomes ONNX's Relu or Clip."""
    if clamp == Clamp():
        return x
    return F.relu(x) if clamp == Clamp(0.0, inf) else F.hardtanh(x, clamp.low, clamp.high)


def to_numpy(q: Tensor) -> Integers:
    """Return integers as NumPy has them."""
    return q.detach().to("cpu", torch.int64).numpy()


class Step(nn.Module):
    """One operator.

    Parameters
    ----------
    name
        Of the operator and its output.
    sources
        The quantizers of its inputs.
    output
        That of its output; one of ``sources`` if the operator keeps its input's quantization.
    clamp
        The fused activation.
    """

    def __init__(self, name: str, sources: Sequence[Quantizer], output: Quantizer, clamp: Clamp) -> None:
        super().__init__()
        self.name, self.clamp = name, clamp
        # A quantizer belongs to the step that made it: tuples do not register what they hold.
        self._sources, self._output = tuple(sources), (output,)
        if output not in self._sources:
            self.quantizer = output

    @property
    def sources(self) -> list[Quantized]:
        """The scales and zero points of the inputs."""
        return [quantizer.quantized for quantizer in self._sources]

    @property
    def output(self) -> Quantizer:
        """The quantizer of the output."""
        return self._output[0]

    @property
    def target(self) -> Quantized:
        """The scale and zero point of the output."""
        return self.output.quantized

    @property
    def limits(self) -> tuple[int, int]:
        """The least and greatest integer of the output, after the activation."""
        return clamp_limits(self.target, self.clamp)

    def compute(self, *values: Tensor) -> Tensor:
        """Return what the operator makes of real values, before activation and quantization."""
        raise NotImplementedError

    def integers(self, *values: Tensor) -> Tensor:
        """Return the integers of the output, given those of the inputs."""
        raise NotImplementedError

    def forward(self, *values: Tensor) -> Tensor:
        """Return the output, fake quantized."""
        return self.output(clamped(self.compute(*values), self.clamp))

    def exported(self) -> nn.Module:
        """Return a module of real values that torch.onnx.export can write."""
        return Exported(self.compute, self.clamp, self.target)

    def _requantized(
        self, sums: npt.ArrayLike, multiplier: npt.ArrayLike, shift: npt.ArrayLike, like: Tensor
    ) -> Tensor:
        """Return int32 sums at the scale of the output, as a tensor where ``like`` is."""
        result = requantize(wrap_int32(sums), multiplier, shift, self.target.zero_point, self.limits)
        return torch.from_numpy(result).to(like)


class Input(Step):
    """The network's input, quantized."""

    def compute(self, *values: Tensor) -> Tensor:
        """Return the value."""
        return values[0]

    def integers(self, *values: Tensor) -> Tensor:
        """Return the real values of the input as integers."""
        (x,) = values
        q = self.target.quantize(x.detach().to("cpu", torch.float32).numpy())
        return torch.from_numpy(q.astype(np.float64)).to(x.device)


class Sum(Step):
    """The sum of two activations of one shape."""

    def compute(self, *values: Tensor) -> Tensor:
        """Return the sum."""
        first, second = values
        if first.shape != second.shape:
            raise ZeropointError(
                f"operation '{self.name}' adds shapes {tuple(first.shape)} and {tuple(second.shape)}; "
                f"they must be the same"
            )
        return first + second

    def integers(self, *values: Tensor) -> Tensor:
        """Return the sum, by the arithmetic of ADD."""
        first, second = self.sources
        scaling = sum_scaling(first.scale, second.scale, self.target.scale, self.name)
        scaled = [
            multiply_by_quantized_multiplier(
                to_numpy(q) - source.zero_point << scaling.left_shift, own.multiplier, own.shift
            )
            for q, source, own in zip(values, (first, second), (scaling.input, scaling.other), strict=True)
        ]
        return self._requantized(scaled[0] + scaled[1], scaling.output.multiplier, scaling.output.shift, values[0])


class GlobalMean(Step):
    """The mean over all dimensions but batch and channels; these stay, with a size of 1, if ``keep``."""

    def __init__(self, name: str, sources: Sequence[Quantizer], output: Quantizer, axes: int, keep: bool) -> None:
        super().__init__(name, sources, output, Clamp())
        self._axes, self._keep = tuple(range(2, 2 + axes)), keep

    def compute(self, *values: Tensor) -> Tensor:
        """Return the mean."""
        self._check(values[0])
        return values[0].mean(self._axes, keepdim=self._keep)

    def integers(self, *values: Tensor) -> Tensor:
        """Return the mean, by the arithmetic of MEAN."""
        (q,), (source,) = values, self.sources
        self._check(q)
        count = prod(q.shape[2:])
        scaling = average_scaling(source.scale, self.target.scale, count, self.name)
        sums = to_numpy(q).sum(self._axes, keepdims=self._keep) - count * source.zero_point
        return self._requantized(sums, scaling.multiplier, scaling.shift, q)

    def _check(self, x: Tensor) -> None:
        if x.dim() != 2 + len(self._axes):
            raise ZeropointError(
                f"operation '{self.name}' averages {len(self._axes)} dimensions of shape {tuple(x.shape)}; only a mean "
                f"over all of them but batch and channels can be quantized"
            )


class AveragePool(Step):
    """The mean over windows without padding, in the quantization of the input."""

    def __init__(self, name: str, source: Quantizer, window: Any, stride: Any) -> None:
        super().__init__(name, (source,), source, Clamp())
        self._settings = (window, stride)

    def compute(self, *values: Tensor) -> Tensor:
        """Return the means."""
        return F.avg_pool2d(values[0], *self._settings)

    def integers(self, *values: Tensor) -> Tensor:
        """Return the means, by the arithmetic of AVERAGE_POOL_2D."""
        (q,) = values
        window = self._settings[0]
        sums = F.avg_pool2d(q, *self._settings, divisor_override=1).cpu().numpy()
        count = prod(window) if isinstance(window, tuple) else window**2
        return torch.from_numpy(np.clip(round_half_away(sums / count), *self.limits)).to(q)

    def forward(self, *values: Tensor) -> Tensor:
        """Return the means, fake quantized; their range is the input's."""
        return self.output.fake(self.compute(*values))


class Moved(Step):
    """What chooses among quantized values by their order: maximum pooling, or an activation on its own."""

    def __init__(self, name: str, source: Quantizer, function: Callable[[Tensor], Tensor], clamp: Clamp) -> None:
        super().__init__(name, (source,), source, clamp)
        self._function = function

    def compute(self, *values: Tensor) -> Tensor:
        """Return what the operation makes of the values."""
        return self._function(values[0])

    def integers(self, *values: Tensor) -> Tensor:
        """Return what the operation makes of the integers, whose order is that of the real values."""
        return self._function(values[0]).clamp(*self.limits)

    def forward(self, *values: Tensor) -> Tensor:
        """Return values that are quantized already; a clamp's end may not be."""
        return self.output.fake(clamped(self.compute(*values), self.clamp))


class Exported(nn.Module):
    """An operator of real values, and QuantizeLinear and DequantizeLinear behind it.

    Parameters
    ----------
    compute
        The operator, of the inputs and the ``constants``.
    clamp
        Its activation.
    target
        The quantization of the output.
    constants
        Integers, their scales and their zero points: each becomes a DequantizeLinear. Scales that are a list run along
        the first dimension.
    """

    def __init__(
        self,
        compute: Callable[..., Tensor],
        clamp: Clamp,
        target: Quantized,
        constants: Sequence[tuple[npt.NDArray[Any], npt.NDArray[np.float32], int]] = (),
    ) -> None:
        super().__init__()
        self._compute, self._clamp, self._count = compute, clamp, len(constants)
        own = np.asarray(target.zero_point, target.dtype), np.asarray(target.scale, np.float32), target.zero_point
        for index, (q, scale, zero_point) in enumerate((*constants, own)):
            dtype = np.int32 if q.dtype == np.int32 else q.dtype
            for name, value in (("q", q), ("scale", scale), ("zero", np.full(scale.shape, zero_point, dtype))):
                self.register_buffer(f"{name}{index}", torch.from_numpy(np.array(value)))

    def forward(self, *values: Tensor) -> Tensor:
        """Return the real values of the quantized output."""
        constants = [self._dequantized(getattr(self, f"q{index}"), index) for index in range(self._count)]
        x = clamped(self._compute(*values, *constants), self._clamp)
        parameters = (getattr(self, f"scale{self._count}"), getattr(self, f"zero{self._count}"))
        dtype = parameters[1].dtype
        q = torch.onnx.ops.symbolic("QuantizeLinear", (x, *parameters), dtype=dtype, shape=x.shape, version=18)
        return self._dequantized(q, self._count)

    def _dequantized(self, q: Tensor, index: int) -> Tensor:
        scale, zero_point = getattr(self, f"scale{index}"), getattr(self, f"zero{index}")
        result: Tensor = torch.onnx.ops.symbolic(
            "DequantizeLinear",
            (q, scale, zero_point),
            {"axis": 0} if scale.dim() else {},
            dtype=torch.float32,
            shape=q.shape,
            version=18,
        )
        return result
