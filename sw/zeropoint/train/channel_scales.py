"""Channel scales before INQ: what a normalization undoes, so that powers of two fit every channel.

A batch normalization makes the scale of each of its channels arbitrary: multiply a channel's weights by a factor, let
the statistics follow, and the output stays. INQ has one set of levels for a layer. So where the channels of a layer
differ widely, as those of depthwise convolutions do, most channels would have few levels left; with the factors chosen
here each has all. When the normalization is folded afterwards, a channel's weights are its own factor times a level.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from zeropoint.errors import ZeropointError
from zeropoint.numerics.power_of_two import inq_format, quantize_inq
from zeropoint.train.inq import LAYERS, TRANSPOSED, checked_bits

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

#: Peaks to choose from. All in [3/4, 3/2) have the same levels, those of :func:`inq_format`; beyond they repeat.
_PEAKS = np.arange(48, 96) / 64


def fit_channel_scales(layer: nn.Module, norm: nn.Module, bits: int) -> None:
    """Scale each output channel of ``layer``, in place, for INQ with ``bits`` bits, and ``norm`` to undo that.

    Each channel's greatest weight comes to lie in [3/4, 3/2), where the channel and its quantized self differ least in
    direction (the greatest cosine of the angle between them). ``norm(layer(x))`` in evaluation stays what it was, but
    for rounding. Call it before :class:`~zeropoint.train.inq.Inq` is made.

    Parameters
    ----------
    layer
        A convolution, transposed or not, of 1 to 3 dimensions and any groups, or a ``Linear``; without a bias or with
        one.
    norm
        The batch normalization that takes the output of ``layer``, and is the only one to take it. It needs its
        running statistics and its scale (``affine``).
    bits
        2 … 5.

    Raises
    ------
    ZeropointError
        If ``layer`` or ``norm`` is none of these, ``norm`` has not the channels of ``layer``, or not what it needs,
        ``bits`` is another number, or the weight is parametrized (by ``Inq``). Nothing is changed then.
    """
    bits = checked_bits(bits)
    if not isinstance(layer, LAYERS) or not isinstance(norm, _NORMS):
        raise ZeropointError(
            f"channel scales are for a convolution or Linear layer and the batch normalization behind it, not for "
            f"{type(layer).__name__} and {type(norm).__name__}"
        )
    if parametrize.is_parametrized(layer, "weight"):
        raise ZeropointError("channel scales need a weight that is not parametrized: fit them before Inq is made")
    channels = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    if norm.num_features != channels:
        raise ZeropointError(f"a normalization of {norm.num_features} channels follows a layer of {channels}")
    if norm.running_mean is None or norm.running_var is None or not norm.affine:
        raise ZeropointError("channel scales need a normalization with running statistics and an affine scale")
    grouped = _grouped(layer)
    rows = grouped.transpose(1, 2).reshape(channels, -1).to("cpu", torch.float64).numpy()
    factors = torch.from_numpy(_factors(rows, bits)).to(layer.weight)
    with torch.no_grad():
        variance = norm.running_var * factors.square()
        norm.weight *= ((variance + norm.eps) / (norm.running_var + norm.eps)).sqrt() / factors
        norm.running_var.copy_(variance)
        norm.running_mean.mul_(factors)
        grouped *= factors.reshape(len(grouped), 1, -1, *[1] * (grouped.dim() - 3))
        if layer.bias is not None:
            layer.bias *= factors


def _grouped(layer: nn.Module) -> Tensor:
    """Return a view of a layer's weights: ``(groups, inputs, outputs, …)`` of a group, if it is transposed.

    Of other layers it is ``(1, 1, outputs, …)``. Groups and outputs, in this order, are the channels of the output.
    """
    weight = layer.weight.detach()
    if isinstance(layer, TRANSPOSED):
        return weight.unflatten(0, (layer.groups, -1))
    return weight.unsqueeze(0).unsqueeze(0)


def _factors(rows: npt.NDArray[np.float64], bits: int) -> npt.NDArray[np.float64]:
    """Return the best factor of each row; 1 for one of zeros."""
    peaks = np.abs(rows).max(axis=1)
    peaks[peaks == 0] = 1
    form = inq_format(1.0, bits)
    best, factors = np.full(len(rows), -1.0), np.ones(len(rows))
    for peak in _PEAKS:
        scaled = rows * (peak / peaks)[:, np.newaxis]
        levels = form.decode(quantize_inq(scaled, form))
        lengths = np.linalg.norm(scaled, axis=1) * np.linalg.norm(levels, axis=1)
        cosine = (scaled * levels).sum(axis=1) / np.where(lengths > 0, lengths, 1)
        better = cosine > best
        best[better] = cosine[better]
        factors[better] = (peak / peaks)[better]
    return np.where(np.abs(rows).max(axis=1) > 0, factors, 1.0)
