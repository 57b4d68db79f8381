"""Channel scales: the function stays, the peaks lie where all levels are, and powers of two fit better."""

import copy
import re

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: train)")

from torch import nn  # noqa: E402

from zeropoint.errors import ZeropointError  # noqa: E402
from zeropoint.train import Inq, fit_channel_scales  # noqa: E402

CASES = {
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, bias=False), lambda: nn.BatchNorm2d(6, eps=1e-3), (8, 4, 7, 7)),
    "depthwise": (lambda: nn.Conv2d(6, 6, 3, groups=6), lambda: nn.BatchNorm2d(6), (8, 6, 7, 7)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3), lambda: nn.BatchNorm1d(6), (8, 4, 9)),
    "conv3d": (lambda: nn.Conv3d(4, 6, 2, groups=2), lambda: nn.BatchNorm3d(6), (8, 4, 3, 3, 3)),
    "transposed 1d": (lambda: nn.ConvTranspose1d(4, 6, 3), lambda: nn.BatchNorm1d(6), (8, 4, 9)),
    "transposed 2d": (
        lambda: nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False),
        lambda: nn.BatchNorm2d(6),
        (8, 4, 7, 7),
    ),
    "transposed square": (lambda: nn.ConvTranspose2d(6, 6, 3, groups=3), lambda: nn.BatchNorm2d(6), (8, 6, 7, 7)),
    "transposed 3d": (lambda: nn.ConvTranspose3d(8, 6, 2, groups=2), lambda: nn.BatchNorm3d(6), (8, 8, 3, 3, 3)),
    "linear": (lambda: nn.Linear(4, 6), lambda: nn.BatchNorm1d(6), (8, 4)),
}


def channel(layer, number):
    """A view of the weights that the output channel ``number`` comes from, by PyTorch's documentation."""
    if not isinstance(layer, nn.modules.conv._ConvTransposeNd):
        return layer.weight.detach()[number]
    group, column = divmod(number, layer.out_channels // layer.groups)
    inputs = layer.in_channels // layer.groups
    return layer.weight.detach()[group * inputs : (group + 1) * inputs, column]


def test_the_weights_of_a_channel_are_what_it_comes_from():
    for case in CASES:
        torch.manual_seed(0)
        layer, inputs = CASES[case][0](), torch.randn(CASES[case][2])
        before = layer(inputs)
        channel(layer, 4).mul_(2)
        changed = (layer(inputs) != before).transpose(0, 1).flatten(1).any(1)
        assert changed.tolist() == [False, False, False, False, True, False], case


def trained(case):
    """A pair whose channels differ by up to 2^10, one of them being zero, with statistics of data."""
    make_layer, make_norm, shape = CASES[case]
    torch.manual_seed(1)
    pair = nn.Sequential(make_layer(), make_norm())
    inputs = torch.randn(shape) + 0.5
    with torch.no_grad():
        factors = torch.tensor([1.0, 3.7, 0.01, 10.0, 0.0, -0.5])
        for number, factor in enumerate(factors):
            channel(pair[0], number).mul_(factor)
        pair[1].weight.uniform_(-2, 2)
        pair[1].bias.uniform_(-2, 2)
        for _ in range(20):
            pair(inputs)
    return pair.double().eval(), inputs.double()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("bits", [2, 5])
def test_the_function_stays(case, bits):
    pair, inputs = trained(case)
    expected = pair(inputs)
    before = copy.deepcopy(pair)
    fit_channel_scales(pair[0], pair[1], bits)
    torch.testing.assert_close(pair(inputs), expected, rtol=1e-12, atol=1e-12)
    peaks = np.array([channel(pair[0], number).abs().max() for number in range(6)])
    alive = peaks > 0
    assert alive.sum() == 5
    assert ((peaks[alive] >= 0.75 - 1e-9) & (peaks[alive] < 1.5)).all()
    # The normalization's change matters: with the old one the output would be another.
    mixed = nn.Sequential(pair[0], before[1]).eval()
    assert (mixed(inputs) - expected).abs().max() > 0.1


@pytest.mark.parametrize("bits", [2, 3, 4, 5])
def test_quantized_channels_point_where_they_did(bits):
    def cosine(scaled):
        pair, _ = trained("conv2d")
        original = pair[0].weight.detach().clone()
        if scaled:
            fit_channel_scales(pair[0], pair[1], bits)
        Inq(pair, bits, (1.0,)).advance()
        alive = [0, 1, 2, 3, 5]
        return nn.functional.cosine_similarity(
            original.flatten(1)[alive], pair[0].weight.detach().flatten(1)[alive]
        ).numpy()

    plain, scaled = cosine(False), cosine(True)
    assert scaled.min() > plain.min() + 0.2
    assert scaled.min() > (0.8 if bits == 2 else 0.9)
    np.testing.assert_array_less(plain, scaled + 0.05)


@pytest.mark.parametrize(
    ("layer", "norm", "bits", "message"),
    [
        (nn.Embedding(4, 6), nn.BatchNorm1d(6), 4, "behind it, not for Embedding and BatchNorm1d"),
        (nn.Linear(4, 6), nn.LayerNorm(6), 4, "behind it, not for Linear and LayerNorm"),
        (nn.Linear(4, 6), nn.BatchNorm1d(6), 4.0, "INQ's bits must be an integer from 2 to 5, not 4.0"),
        (nn.ConvTranspose2d(6, 4, 3), nn.BatchNorm2d(6), 4, "a normalization of 6 channels follows a layer of 4"),
    ],
)
def test_other_layers_and_widths_are_refused(layer, norm, bits, message):
    before = layer.weight.detach().clone()
    with pytest.raises(ZeropointError, match=f"{re.escape(message)}$"):
        fit_channel_scales(layer, norm, bits)
    assert torch.equal(layer.weight, before)


def test_scales_after_inq_are_refused():
    pair, inputs = trained("linear")
    Inq(pair, 4)
    expected = pair(inputs)
    message = "channel scales need a weight that is not parametrized: fit them before Inq is made"
    with pytest.raises(ZeropointError, match=f"^{message}$"):
        fit_channel_scales(pair[0], pair[1], 4)
    assert torch.equal(pair(inputs), expected)


@pytest.mark.parametrize(
    ("norm", "message"),
    [
        (nn.BatchNorm2d(3), "a normalization of 3 channels follows a layer of 6"),
        (
            nn.BatchNorm2d(6, affine=False),
            "channel scales need a normalization with running statistics and an affine scale",
        ),
        (
            nn.BatchNorm2d(6, track_running_stats=False),
            "channel scales need a normalization with running statistics and an affine scale",
        ),
    ],
)
def test_unfit_normalizations_are_refused(norm, message):
    with pytest.raises(ZeropointError, match=f"^{re.escape(message)}$"):
        fit_channel_scales(nn.Conv2d(4, 6, 3), norm, 4)
