"""Fake quantization: real values rounded to those that integers stand for, with straight-through gradients.

Sources: Jacob et al., *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference*,
CVPR 2018, section 3 (equation 12) and section 3.1 (averaged ranges); Bhalgat et al., *LSQ+: Improving low-bit
quantization through learnable offsets and better initialization*, CVPR workshops 2020, section 3.1 (learned ranges).
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from zeropoint.errors import ZeropointError
from zeropoint.model import Tensor as Quantized
from zeropoint.quantize.affine import affine_quantization
from zeropoint.quantize.calibration import Range

Ranges = Literal["averaged", "learned"]

#: Of 8 bits.
_LEVELS = 255


class Quantizer(nn.Module):
    """The range of an activation, and its fake quantization.

    The range is widened to contain 0, and the ends are moved to where 0 is one of the quantized values, by
    :func:`~zeropoint.quantize.affine.affine_quantization`: what is simulated is what the quantized network has.

    With *averaged* ranges the ends are exponential moving averages of the least and the greatest value of each batch,
    and no gradient goes to them. *Learned* ranges begin so, while :attr:`active` is false, and are then trained:
    LSQ+'s scale and offset, which are here computed from the ends. The gradients are those of its equations for the
    scale and the offset, by the chain rule, times the square of 255, as a step of an end is a 255th of one of the
    scale; and times its factor of ``1 / sqrt(255 · values of a sample)``. An end that is 0 by the network's
    structure, behind a rectifier, stays.

    Parameters
    ----------
    name
        Of the activation.
    dtype
        ``"int8"`` or ``"uint8"``.
    ranges
        ``"averaged"`` or ``"learned"``.
    momentum
        The weight of a new batch in the averages, in (0, 1].
    positive
        Whether no value is below 0.
    given
        The range, if it is known and neither observed nor learned.

    Attributes
    ----------
    low, high
        The ends, 0-dimensional; parameters where they are learned, else buffers.
    observed
        Whether the ends mean anything yet.
    active
        Whether :meth:`fake` quantizes; :meth:`forward` observes in any case, unless the ends are being learned.
    """

    low: Tensor
    high: Tensor
    observed: Tensor

    def __init__(
        self, name: str, dtype: str, ranges: Ranges, momentum: float, *, positive: bool, given: Range | None = None
    ) -> None:
        super().__init__()
        self.name, self.dtype, self._momentum, self._given = name, dtype, momentum, given is not None
        self.positive = positive
        self.learned = ranges == "learned" and given is None
        self.active = True
        low, high = (torch.tensor(end) for end in given or (0.0, 0.0))
        self._register("low", low, self.learned and not positive)
        self._register("high", high, self.learned)
        self.register_buffer("observed", torch.tensor(given is not None))

    def _register(self, name: str, value: Tensor, learned: bool) -> None:
        if learned:
            self.register_parameter(name, nn.Parameter(value))
        else:
            self.register_buffer(name, value)

    @property
    def range(self) -> Range:
        """The ends as numbers."""
        return float(self.low.detach()), float(self.high.detach())

    @property
    def quantized(self) -> Quantized:
        """The activation, quantized: its scale, its zero point, and its limits. It has no shape.

        Raises
        ------
        ZeropointError
            If nothing was observed yet, or the ends are not finite.
        """
        if not self.observed:
            raise ZeropointError(f"activation '{self.name}' has no range yet: train, or run some batches in training")
        low, high = self.range
        if not abs(low) + abs(high) < torch.inf:
            raise ZeropointError(f"activation '{self.name}' has a range that is not finite: its training has diverged")
        return Quantized(self.name, (), self.dtype, affine_quantization(low, high, self.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Return what :meth:`fake` makes of ``x``; in training, observe it first."""
        learning = self.learned and self.active and bool(self.observed)
        if self.training and not self._given and not learning:
            self._observe(x.detach())
        return self.fake(x)

    def fake(self, x: Tensor) -> Tensor:
        """Return ``x``, quantized and back again if :attr:`active`."""
        if not self.active:
            return x
        values: Tensor = _FakeQuantize.apply(x, self.low, self.high, self.quantized)
        return values

    @torch.no_grad()
    def _observe(self, x: Tensor) -> None:
        least, greatest = torch.aminmax(x)
        for end, seen in ((self.low, least.clamp(max=0)), (self.high, greatest.clamp(min=0))):
            if self.observed:
                end.lerp_(seen.to(end), self._momentum)
            else:
                end.copy_(seen)
        self.observed.fill_(True)


class _FakeQuantize(torch.autograd.Function):
    """Fake quantization; gradients go straight through inside the range, and to its ends if they are parameters.

    Inside is what rounds to one of the 256 values without being clamped, as for PyTorch's own operator.
    That takes one element after another; this takes passes of vectorized operations.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: Tensor, high: Tensor, quantized: Quantized) -> Tensor:
        scale = quantized.scale
        least, greatest = (limit - quantized.zero_point for limit in quantized.limits)
        steps = x / scale
        rounded = steps.round()
        result = rounded.clamp(least, greatest)
        # Where the ends are learned, what to save is more.
        ctx.learned = ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
        if ctx.learned:
            ctx.save_for_backward(result - steps, rounded < least, rounded > greatest)
            # LSQ's factor, for a scale, becomes this for an end.
            ctx.factor = _LEVELS**2 / (_LEVELS * x[0].numel()) ** 0.5
        elif ctx.needs_input_grad[0]:
            ctx.save_for_backward(result == rounded)
        return result.mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        if not ctx.learned:
            (inside,) = ctx.saved_tensors
            return gradient * inside, None, None, None
        error, below, above = ctx.saved_tensors
        passed = gradient * ~(below | above)
        # Of a value inside, the rounding error grows with the scale, the distance between the ends; of one outside,
        # the result is the end.
        rounding = (passed * error).sum() / _LEVELS
        to_low = ((gradient * below).sum() - rounding) * ctx.factor if ctx.needs_input_grad[1] else None
        to_high = ((gradient * above).sum() + rounding) * ctx.factor if ctx.needs_input_grad[2] else None
        return passed, to_low, to_high, None


def fake_quantize_weights(weights: Tensor, dtype: str) -> Tensor:
    """Return a layer's weights, output channels first, as the affine scheme of ``dtype`` quantizes them.

    int8: symmetric, −127 … 127, a scale for each output channel; uint8: one scale and one zero point. Gradients go
    straight through; none goes through the scales. These are the rules of :mod:`zeropoint.quantize.affine`, but that
    ties are rounded in float32, and that no channel's scale is widened, which only idle channels need.
    """
    values = weights.detach()
    if dtype == "uint8":
        quantization = affine_quantization(float(values.min()), float(values.max()), dtype)
        return torch.fake_quantize_per_tensor_affine(
            weights, quantization.scale[0], quantization.zero_point[0], 0, _LEVELS
        )
    peaks = values.abs().flatten(1).amax(1)
    scale = torch.where(peaks > 0, peaks / 127, 1.0).clamp(min=torch.finfo(torch.float32).tiny)
    zero_point = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weights, scale.float(), zero_point, 0, -127, 127)
