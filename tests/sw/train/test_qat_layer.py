"""Layers in quantization-aware training: folding is normalization, with its statistics and its gradients."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: train)")

from support.qat_networks import NETWORKS, Plain, Residual, inputs, network  # noqa: E402
from support.seeds import shown  # noqa: E402
from torch import nn  # noqa: E402

from zeropoint.train import Qat, qat_layer  # noqa: E402
from zeropoint.train.qat_layer import Layer  # noqa: E402


@pytest.fixture
def exact_weights(monkeypatch):
    """Weights as they are: what is left of the layers is folding."""
    monkeypatch.setattr(qat_layer, "fake_quantize_weights", lambda weights, dtype: weights)


def double(kind):
    made = network(kind).double()
    for module in made.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return made


def statistics(made):
    return {name: value.numpy().copy() for name, value in made.named_buffers()}


@pytest.mark.usefixtures("exact_weights")
@pytest.mark.parametrize("kind", [Plain, Residual])
def test_training_is_that_of_the_normalization(kind):
    """Outputs, gradients of all parameters, and running statistics, over several steps."""
    made = double(kind)
    reference = copy.deepcopy(made)
    qat = Qat(made, delay=100).train()
    for seed in shown(range(3)):
        x = inputs(made, 8, seed).double()
        expected, got = reference(x), qat(x)
        np.testing.assert_allclose(got.detach(), expected.detach(), rtol=1e-9, atol=1e-9)
        for output in (expected, got):
            output.pow(3).sum().backward()
        for (name, parameter), other in zip(made.named_parameters(), reference.parameters(), strict=True):
            np.testing.assert_allclose(parameter.grad, other.grad, rtol=1e-6, atol=1e-6, err_msg=name)
        for name, value in statistics(reference).items():
            np.testing.assert_allclose(statistics(made)[name], value, rtol=1e-9, err_msg=name)


@pytest.mark.usefixtures("exact_weights")
@pytest.mark.parametrize("frozen", [False, True])
def test_folding_equals_the_normalization_in_evaluation(frozen):
    made = double(Plain)
    reference = copy.deepcopy(made).eval()
    qat = Qat(made, delay=100, freeze=0)
    x = inputs(made).double()
    before = statistics(made)
    if frozen:  # training with frozen statistics uses the running ones, and leaves them
        got = qat.train()(x)
    else:
        for quantizer in qat._quantizers():
            quantizer.fake = lambda x: x
        got = qat.simulate(x)
    np.testing.assert_allclose(got.detach(), reference(x).detach(), rtol=1e-9, atol=1e-9)
    for name, value in statistics(made).items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("kind", NETWORKS)
def test_constants_are_the_folded_weights_within_half_a_step(kind):
    made = network(kind)
    for scheme in ("affine-int8", "affine-uint8"):
        qat = Qat(made, scheme).train()
        qat(inputs(made))
        qat.eval()
        for layer in (module for module in qat.modules() if isinstance(module, Layer)):
            reference = copy.deepcopy(layer.layer).double()
            if layer.norm is not None:
                fuse = (
                    nn.utils.fusion.fuse_linear_bn_weights
                    if isinstance(layer.layer, nn.Linear)
                    else nn.utils.fusion.fuse_conv_bn_weights
                )
                norm = copy.deepcopy(layer.norm).double()
                reference.weight, reference.bias = fuse(
                    reference.weight,
                    reference.bias,
                    norm.running_mean,
                    norm.running_var,
                    norm.eps,
                    norm.weight,
                    norm.bias,
                )
            constants = layer.constants()
            tensor = constants.weights.tensor("w")
            scale = np.array(constants.weights.quantization.scale).reshape(-1, *[1] * (tensor.data.ndim - 1))
            assert np.all(np.abs(tensor.real - reference.weight.detach().numpy()) <= scale * 0.5000001)
            if reference.bias is not None:
                error = constants.bias * constants.products - reference.bias.detach().numpy()
                assert np.all(np.abs(error) <= constants.products * 0.5000001)


def test_weights_do_not_jump_with_the_batch():
    """They are folded with the running deviation, whatever that of the batch is."""
    made = network(Plain)
    made[1].momentum = 0.0
    qat = Qat(made).train()
    seen = []
    layer = qat.network.get_submodule("0")
    real = qat_layer.fake_quantize_weights
    qat_layer.fake_quantize_weights = lambda weights, dtype: seen.append(weights.detach()) or real(weights, dtype)
    try:
        for factor in (1, 100):
            layer(inputs(made) * factor)
    finally:
        qat_layer.fake_quantize_weights = real
    np.testing.assert_array_equal(*seen)
