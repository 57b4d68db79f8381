"""What a network's operations become, and what is refused by name."""

import re

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: train)")

from support.qat_networks import Depthwise, Plain, Residual, network  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from zeropoint.errors import ZeropointError  # noqa: E402
from zeropoint.train import Qat  # noqa: E402


def steps(kind):
    qat = Qat(network(kind))
    return [
        (type(step).__name__, step.name)
        for step in map(qat.network.get_submodule, targets(qat))
        if hasattr(step, "name")
    ]


def targets(qat):
    return [node.target for node in qat.network.graph.nodes if node.op == "call_module"]


def test_steps_are_named_after_modules_and_operations():
    assert steps(Plain) == [("Input", "input_1"), ("Layer", "0"), ("Layer", "5"), ("Layer", "8")]
    assert steps(Depthwise) == [
        ("Input", "x"),
        ("Layer", "depthwise"),
        ("Moved", "max_pool2d"),
        ("Layer", "grouped"),
        ("AveragePool", "average"),
        ("Moved", "relu"),
        ("Layer", "classifier"),
    ]
    assert steps(Residual) == [
        ("Input", "x"),
        ("Layer", "stem"),
        ("Layer", "body.0"),
        ("Sum", "add"),
        ("Layer", "body.0_1"),
        ("Sum", "add_1"),
        ("Sum", "add_2"),
        ("GlobalMean", "pool"),
        ("Layer", "head"),
    ]


def test_the_model_stays_as_it_is_and_shares_its_parameters():
    made = network(Residual)
    before = [(name, type(module)) for name, module in made.named_modules()]
    qat = Qat(made)
    assert [(name, type(module)) for name, module in made.named_modules()] == before
    assert {id(parameter) for parameter in qat.parameters()} == {id(parameter) for parameter in made.parameters()}


class Custom(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.conv, self.norm, self.function = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), function
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.function(self, x)


@pytest.mark.parametrize(
    ("function", "limits"),
    [
        (F.hardtanh, (-1, 1)),
        (lambda x: F.hardtanh(x, -2, 0.5), (-2, 0.5)),
        (lambda x: F.hardtanh(x, 0, max_val=3), (0, 3)),
        (lambda x: F.hardtanh(input=x, max_val=2.5, inplace=True), (-1, 2.5)),
        (F.hardtanh_, (-1, 1)),
        (lambda x: F.hardtanh_(x, -0.25, 2), (-0.25, 2)),
        (lambda x: F.hardtanh_(x, min_val=-0.25), (-0.25, 1)),
    ],
)
@pytest.mark.parametrize("alone", [False, True])
def test_the_function_hardtanh_is_the_module(function, limits, alone):
    """Fused with a layer, or on its own behind a mean."""

    def outputs(activation):
        torch.manual_seed(3)
        made = Custom(lambda m, x: m.activation(m.conv(x).mean((2, 3)) if alone else m.conv(x)))
        made.activation = activation
        qat = Qat(made).train()
        return qat(x).detach(), qat.eval()(x)

    x = 8 * torch.randn(64, 2, 2, 2, generator=torch.Generator().manual_seed(4))
    got, integers = outputs(function)
    for result, same in zip((got, integers), outputs(nn.Hardtanh(*limits)), strict=True):
        assert torch.equal(result, same)
    # Both limits are reached, but for the rounding to 8 bits.
    assert abs(got.min() - limits[0]) < 0.1
    assert abs(got.max() - limits[1]) < 0.1


def two_inputs():
    class Two(nn.Module):
        def forward(self, x, y):
            return x + y

    return Two()


SUPPORTED = "is not supported; supported are Conv1d, Conv2d and Linear layers"


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (nn.Sequential(nn.Conv2d(2, 2, 1), nn.Sigmoid()), f"operation '1' (Sigmoid) {SUPPORTED}"),
        (nn.Sequential(nn.ConvTranspose2d(2, 2, 1)), f"operation '0' (ConvTranspose2d) {SUPPORTED}"),
        (Custom(lambda m, x: x * 2), f"operation 'mul' (mul) {SUPPORTED}"),
        (Custom(lambda m, x: torch.cat([x, x])), f"operation 'cat' (cat) {SUPPORTED}"),
        (Custom(lambda m, x: x + 1), "operation 'add' (add) adds something else than two activations"),
        (Custom(lambda m, x: torch.add(x, x, alpha=2)), "operation 'add' (add) adds something else than two"),
        (Custom(lambda m, x: x * m.scale), "the network computes with 'scale' itself; put it into a layer"),
        (Custom(lambda m, x: x if x.sum() > 0 else -x), "torch.fx cannot follow the network: symbolically traced"),
        (Custom(lambda m, x: (x, x)), "the network returns something else than one activation"),
        (two_inputs(), "the network takes 'y' besides its input; only one input is supported"),
        (
            Custom(lambda m, x: (lambda y: m.norm(y) + y)(m.conv(x))),
            "operation 'norm' (BatchNorm2d) is not the only one to take the output of a layer, and cannot be folded",
        ),
        (
            nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1)),
            "operation '0' (BatchNorm2d) is not the only one to take the output of a layer, and cannot be folded",
        ),
        (nn.Sequential(nn.AvgPool2d(2, padding=1)), "operation '0' (AvgPool2d) pads, rounds sizes up or divides by"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(2)), "operation '0' (AdaptiveAvgPool2d) averages over something else"),
        (Custom(lambda m, x: x.mean()), "operation 'mean' (mean) averages over something else"),
        (nn.Sequential(nn.MaxPool2d(2, return_indices=True)), "operation '0' (MaxPool2d) returns indices"),
        (nn.Sequential(nn.Hardtanh(1, 2)), "operation '0' (Hardtanh) clamps to an interval without 0"),
        (Custom(lambda m, x: F.hardtanh(x, 1, 2)), "operation 'hardtanh' (hardtanh) clamps to an interval without 0"),
        (
            Custom(lambda m, x: F.hardtanh(m.conv(x), max_val=0)),
            "operation 'hardtanh' (hardtanh) clamps to an interval without 0",
        ),
        (
            Custom(lambda m, x: F.hardtanh(x, -1, x.shape[0])),
            "operation 'hardtanh' (hardtanh) clamps to limits that are not numbers",
        ),
        (nn.Sequential(nn.Conv2d(2, 2, 3, padding_mode="circular", padding=1)), "layer '0' pads by 'circular'; only"),
        (
            nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(5)),
            "a normalization of 5 channels follows layer '0' of 4",
        ),
        (
            nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False)),
            "the normalization of layer '0' has no running statistics, which quantization needs",
        ),
        (lambda: nn.Sequential(nn.Linear(0, 4)), "layer '0' has no weights"),
        (lambda: nn.Sequential(nn.LazyLinear(4)), "layer '0' has weights without a shape yet, or of no float type"),
    ],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors", "ignore:Lazy modules")
def test_what_cannot_be_quantized_is_refused_by_name(made, message):
    made = made if isinstance(made, nn.Module) else made()
    with pytest.raises(ZeropointError, match=f"^{re.escape(message)}") as caught:
        Qat(made)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("function", "shape", "message"),
    [
        (lambda m, x: x + m.conv(x)[:, :1], (2, 4, 4), "operation 'getitem' (getitem) is not supported"),
        (lambda m, x: x + x.mean((2, 3), keepdim=True), (2, 4, 4), "operation 'add' adds shapes (4, 2, 4, 4) and (4, "),
        (lambda m, x: x.mean(-1), (2, 4, 4), "operation 'mean' averages 1 dimensions of shape (4, 2, 4, 4); only"),
        (lambda m, x: F.relu(m.norm(m.conv(x))), (2, 1, 1), None),
    ],
)
def test_shapes_that_do_not_fit_are_refused_when_they_are_seen(function, shape, message):
    if message is None:
        with pytest.raises(ZeropointError, match=r"^layer 'conv' is normalized over a single value; train with larger"):
            Qat(Custom(function)).train()(torch.zeros(1, *shape))
        return
    with pytest.raises(ZeropointError, match=f"^{re.escape(message)}"):
        Qat(Custom(function)).train()(torch.zeros(4, *shape))


def test_a_linear_layer_of_feature_maps_is_refused():
    with pytest.raises(
        ZeropointError, match=r"^layer '0' takes shape \(4, 2, 3\); flatten it to \(N, features\) first$"
    ):
        Qat(nn.Sequential(nn.Linear(3, 4))).train()(torch.zeros(4, 2, 3))
