"""Convolutions and fully-connected layers in quantization-aware training, with batch normalization folded in.

Sources: Jacob et al. 2018, section 3.2 and figure C.8: weights are folded before they are fake quantized;
Krishnamoorthi, *Quantizing deep convolutional networks for efficient inference*, 2018, section 3.2.2: the correction
from the statistics of a batch to the running ones, and their freeze.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zeropoint.arithmetic import layer_scaling
from zeropoint.errors import ZeropointError
from zeropoint.model import Clamp
from zeropoint.numerics import round_half_away
from zeropoint.quantize.affine import AFFINE_INT8, AFFINE_UINT8
from zeropoint.quantize.convert import greatest_steps, weight_scale_limits
from zeropoint.quantize.schemes import Weights
from zeropoint.train.fake_quantize import Quantizer, fake_quantize_weights
from zeropoint.train.qat_steps import Exported, Step, to_numpy

_RULES = {"int8": AFFINE_INT8, "uint8": AFFINE_UINT8}


@dataclass(frozen=True, eq=False)
class Constants:
    """The weights of a layer, output channels first, and its bias, if it has one, in integers.

    Attributes
    ----------
    weights, bias
        The integers; the bias is int32, at ``products``.
    products
        The scale of the input times each of the weights'.
    """

    weights: Weights
    bias: npt.NDArray[np.int32] | None
    products: npt.NDArray[np.float64]


class Layer(Step):
    """A layer with weights, the normalization behind it, and the activation behind that.

    With a normalization, training normalizes by the statistics of the batch, which are those of the layer with its
    float weights. The weights are nevertheless folded with the running deviation, and quantized so; the outputs are
    then scaled by running over batch deviation. So the quantized weights do not jump from batch to batch. Where the
    statistics are frozen, and in evaluation, the running ones take the place of the batch's.

    Parameters
    ----------
    name, source, output, clamp
        As for :class:`~zeropoint.train.qat_steps.Step`.
    layer
        A Conv1d, Conv2d or Linear.
    norm
        The normalization that takes its output, and is the only one to take it.

    Attributes
    ----------
    frozen
        Whether training uses the running statistics and leaves them as they are.
    """

    def __init__(
        self,
        name: str,
        source: Quantizer,
        output: Quantizer,
        layer: nn.Conv1d | nn.Conv2d | nn.Linear,
        norm: nn.BatchNorm1d | nn.BatchNorm2d | None,
        clamp: Clamp,
    ) -> None:
        super().__init__(name, (source,), output, clamp)
        self.layer, self.norm = layer, norm
        self.frozen = False
        _check(name, layer, norm)

    def compute(self, *values: Tensor) -> Tensor:
        """Return the normalized sums of products with fake quantized weights."""
        (x,) = values
        if isinstance(self.layer, nn.Linear) and x.dim() != 2:
            raise ZeropointError(f"layer '{self.name}' takes shape {tuple(x.shape)}; flatten it to (N, features) first")
        apply, weight, bias = _operation(self.layer), self.layer.weight, self.layer.bias
        if self.norm is None:
            return apply(x, fake_quantize_weights(weight, self.output.dtype), bias)
        mean, variance = self.norm.running_mean, self.norm.running_var
        if batch := self.training and not self.frozen:
            mean, variance = self._statistics(apply(x, weight, None))
        running = (self.norm.running_var + self.norm.eps).sqrt()
        scale = torch.ones_like(running) if self.norm.weight is None else self.norm.weight
        shift = torch.zeros_like(running) if self.norm.bias is None else self.norm.bias
        deviation = (variance + self.norm.eps).sqrt() if batch else running
        weight = weight * (scale / running).reshape(-1, *[1] * (weight.dim() - 1))
        shift = shift + scale / deviation * ((0 if bias is None else bias) - mean)
        if not batch:
            return apply(x, fake_quantize_weights(weight, self.output.dtype), shift)
        y = apply(x, fake_quantize_weights(weight, self.output.dtype), None)
        spread = (-1, *[1] * (y.dim() - 2))
        return y * (running / deviation).reshape(spread) + shift.reshape(spread)

    def _statistics(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance of each channel, and move the running ones, as the normalization itself would.

        ``y`` lacks the bias of the layer.
        """
        norm = self.norm
        assert norm is not None
        count = y.numel() // y.shape[1]
        if count < 2:
            raise ZeropointError(f"layer '{self.name}' is normalized over a single value; train with larger batches")
        dims, spread = [0, *range(2, y.dim())], (-1, *[1] * (y.dim() - 2))
        bias = 0 if self.layer.bias is None else self.layer.bias
        # The sums of squares lose nothing about a point near the mean; torch.var_mean takes several times as long.
        near = (norm.running_mean - bias).detach()
        centered = y - near.reshape(spread)
        offset = centered.mean(dims)
        mean, variance = near + offset + bias, (centered.square().mean(dims) - offset.square()).clamp(min=0)
        with torch.no_grad():
            norm.num_batches_tracked.add_(1)
            weight = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
            norm.running_mean.lerp_(mean, weight)
            norm.running_var.lerp_(variance * (count / (count - 1)), weight)
        return mean, variance

    def constants(self) -> Constants:
        """Return weights and bias as integers, by the rules of the scheme, with the running statistics folded in.

        Raises
        ------
        ZeropointError
            If they are not finite, or sums could exceed an int32 accumulator.
        """
        label = f"layer '{self.name}'"
        values, bias = self._folded()
        if not np.isfinite(values).all() or not np.isfinite(0.0 if bias is None else bias).all():
            raise ZeropointError(f"{label} has weights that are not finite: its training has diverged")
        rules, (source,), target = _RULES[self.output.dtype], self.sources, self.target
        assert source.quantization is not None
        magnitude = np.abs(values).reshape(len(values), -1).sum(axis=1)
        known = np.zeros(len(values)) if bias is None else bias
        steps, count = greatest_steps(source.quantization, rules.limits), prod(values.shape[1:])
        least, idle = weight_scale_limits(magnitude, known, count, steps, source.scale, target.scale, label)
        weights = rules.weights(values, 0, least, idle)
        products = np.multiply(source.scale, weights.quantization.scale)
        if bias is None:
            return Constants(weights, None, products)
        return Constants(weights, round_half_away(bias / products).astype(np.int32), products)

    def _folded(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64] | None]:
        """Return weights and bias with the running statistics folded in."""
        weight, bias = _floats(self.layer.weight), _floats(self.layer.bias)
        assert weight is not None
        if self.norm is None:
            return weight, bias
        mean, variance = _floats(self.norm.running_mean), _floats(self.norm.running_var)
        assert mean is not None
        assert variance is not None
        scale, shift = _floats(self.norm.weight), _floats(self.norm.bias)
        factor = (1.0 if scale is None else scale) / np.sqrt(variance + self.norm.eps)
        offset = (0.0 if bias is None else bias) - mean
        folded: npt.NDArray[np.float64] = (0.0 if shift is None else shift) + offset * factor
        return weight * factor.reshape(-1, *[1] * (weight.ndim - 1)), folded

    def integers(self, *values: Tensor) -> Tensor:
        """Return the outputs, by the arithmetic of CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED."""
        (q,), (source,), constants = values, self.sources, self.constants()
        quantization = constants.weights.quantization
        weights = constants.weights.q.astype(np.float64) - quantization.zero_point[0]
        # Where convolutions are computed by transforms, on some devices, sums are next to integers.
        sums = to_numpy(_operation(self.layer)(q - source.zero_point, torch.from_numpy(weights).to(q)).round())
        spread = (-1, *[1] * (sums.ndim - 2))
        single = len(quantization.scale) == 1 and (isinstance(self.layer, nn.Linear) or self.output.dtype == "uint8")
        scaling = layer_scaling(source.scale, quantization.scale, self.target.scale, single, self.name)
        if constants.bias is not None:
            sums = sums + constants.bias.reshape(spread)
        return self._requantized(sums, scaling.multiplier.reshape(spread), scaling.shift.reshape(spread), q)

    def exported(self) -> nn.Module:
        """Return the layer with integer weights and bias."""
        constants, (source,) = self.constants(), self.sources
        quantization = constants.weights.quantization
        scale = np.asarray(quantization.scale, np.float32)
        scale = scale if quantization.axis is not None else scale.reshape(())
        entries = [(constants.weights.q, scale, quantization.zero_point[0])]
        if constants.bias is not None:
            entries.append((constants.bias, np.asarray(np.float32(source.scale) * scale), 0))
        return Exported(_operation(self.layer), self.clamp, self.target, entries)


def _operation(layer: nn.Conv1d | nn.Conv2d | nn.Linear) -> Callable[..., Tensor]:
    """Return the function of inputs, weights and, if any, biases that a layer computes."""
    if isinstance(layer, nn.Linear):
        return F.linear
    convolve = F.conv1d if isinstance(layer, nn.Conv1d) else F.conv2d
    return partial(_convolved, convolve, (layer.stride, layer.padding, layer.dilation, layer.groups))


def _convolved(
    convolve: Callable[..., Tensor], settings: Sequence[Any], x: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    return convolve(x, weight, bias, *settings)


def _floats(values: Tensor | None) -> npt.NDArray[np.float64] | None:
    return None if values is None else values.detach().to("cpu", torch.float64).numpy()


def _check(name: str, layer: nn.Conv1d | nn.Conv2d | nn.Linear, norm: nn.BatchNorm1d | nn.BatchNorm2d | None) -> None:
    """Refuse a layer that cannot be quantized."""
    if isinstance(layer.weight, nn.UninitializedParameter) or not layer.weight.is_floating_point():
        raise ZeropointError(f"layer '{name}' has weights without a shape yet, or of no float type")
    if not layer.weight.numel():
        raise ZeropointError(f"layer '{name}' has no weights")
    if not isinstance(layer, nn.Linear) and layer.padding_mode != "zeros":
        raise ZeropointError(f"layer '{name}' pads by '{layer.padding_mode}'; only zeros are supported")
    if norm is None:
        return
    if norm.running_mean is None or norm.running_var is None:
        raise ZeropointError(f"the normalization of layer '{name}' has no running statistics, which quantization needs")
    if norm.num_features != layer.weight.shape[0]:
        raise ZeropointError(
            f"a normalization of {norm.num_features} channels follows layer '{name}' of {layer.weight.shape[0]}"
        )
