"""Weights that become powers of two: what training has made stays, all else gets the published levels."""

import numpy as np
import pytest
from support.float_networks import fully_connected, random_network
from support.seeds import shown

from zeropoint import golden
from zeropoint.model import Conv2D, DepthwiseConv2D, FullyConnected
from zeropoint.model.formats import power_of_two
from zeropoint.numerics import Rounding
from zeropoint.numerics.power_of_two import RISTRETTO_POWER_OF_TWO, inq_format, quantize_inq
from zeropoint.quantize import quantize
from zeropoint.quantize.power_of_two import inq_rules, pow2_rules

SHAPES = [((5, 3, 3, 2), 0), ((3, 3, 6), 2), ((4, 7), 0)]
X = np.random.default_rng(5).normal(size=(20, 12, 12, 3)).astype(np.float32)


def inq(values, axis, bits, least=1e-9):
    channels = values.shape[axis]
    return inq_rules(bits).weights(values, axis, np.full(channels, least), 1e-3).tensor("w")


@pytest.mark.parametrize("bits", [2, 3, 4, 5])
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_untrained_weights_get_the_layers_levels(shape, axis, bits):
    values = np.random.default_rng(bits).normal(size=shape)
    tensor = inq(values, axis, bits)
    form = inq_format(float(np.abs(values).max()), bits)
    np.testing.assert_array_equal(tensor.real, form.decode(quantize_inq(values, form)))
    assert (tensor.dtype, tensor.format, tensor.quantization.axis) == ("uint8", power_of_two(bits - 2), None)
    assert len(form.codes()) == 2 ** (bits - 1) + 1
    assert set(np.unique(tensor.data)) <= set(form.codes().tolist())


def test_weights_that_training_has_not_made_powers_of_two_are_named():
    network = random_network(1)
    names = [each.name for each in network.operators if isinstance(each, Conv2D | DepthwiseConv2D | FullyConnected)]
    warning = quantize(network, X, scheme="inq").metadata["warning"]
    assert all(name in warning for name in names)
    assert "train the network with zeropoint.train.Inq" in warning
    trained = fully_connected(np.ldexp(1.0, -np.arange(6).reshape(2, 3)))
    x = np.random.default_rng(1).normal(size=(20, 3)).astype(np.float32)
    assert "warning" not in quantize(trained, x, scheme="inq").metadata
    assert "warning" in quantize(trained, x, scheme="inq", bits=2).metadata


@pytest.mark.parametrize("bits", [2, 3, 4, 5])
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_trained_weights_stay_what_they_are(shape, axis, bits):
    rng = np.random.default_rng(bits)
    form = power_of_two(bits - 2)
    levels = rng.choice(form.levels(), shape) * 2.0**-6
    # As training leaves them: the layer's own levels, the greatest among them.
    levels.flat[0] = form.levels()[-1] * 2.0**-6
    tensor = inq(levels, axis, bits)
    np.testing.assert_array_equal(tensor.real, levels)
    assert tensor.quantization.axis is None


@pytest.mark.parametrize("bits", [2, 3, 4, 5])
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_a_folded_normalization_leaves_each_channel_its_own_scale(shape, axis, bits):
    rng = np.random.default_rng(10 + bits)
    levels = rng.choice(power_of_two(bits - 2).levels(), shape)
    gains = (rng.normal(size=shape[axis]) * 3).astype(np.float32)
    gains[-1] = 0
    others = tuple(dimension for dimension in range(len(shape)) if dimension != axis)
    folded = (levels.astype(np.float32) * np.expand_dims(gains, others)).astype(np.float64)
    tensor = inq(folded, axis, bits)
    assert tensor.quantization.axis == axis
    # Only the rounding of the scale to float32 is left.
    np.testing.assert_allclose(tensor.real, folded, rtol=2.0**-22)
    assert set(np.unique(tensor.data)) <= set(power_of_two(bits - 2).codes().tolist())


def test_weights_a_little_off_are_not_taken_for_trained_ones():
    levels = np.random.default_rng(1).choice(power_of_two(3).levels(), (4, 30)) * np.array([[1.0], [0.3], [2.2], [0.7]])
    assert inq(levels, 0, 5).quantization.axis == 0
    levels[2, 3] *= 1 + 2.0**-14
    assert inq(levels, 0, 5).quantization.axis is None


def test_weights_of_zero():
    tensor = inq(np.zeros((3, 4)), 0, 4)
    np.testing.assert_array_equal(tensor.data, 0)
    assert tensor.quantization.scale == (np.float32(1e-3),)


def test_a_scale_is_at_least_what_the_sums_need():
    tensor = inq(np.full((3, 4), 2.0**-20), 0, 5, least=2.0**-21.5)
    assert tensor.quantization.scale[0] >= 2.0**-21.5
    assert tensor.real[0, 0] in (2.0**-20, 2.0**-21)


@pytest.mark.parametrize(("peak", "moved"), [(0.4, 0), (0.5, 0), (0.6, 0), (0.8, 1), (3.0, 3), (0.001, 0)])
def test_ristrettos_exponents_move_up_where_they_would_clip(peak, moved):
    values = np.random.default_rng(2).uniform(-peak, peak, (6, 20))
    values[0, 0] = peak
    tensor = pow2_rules().weights(values, 0, np.full(6, 1e-9), 1e-3).tensor("w")
    assert tensor.quantization.scale == (2.0 ** (RISTRETTO_POWER_OF_TWO.least + moved),)
    assert tensor.format == power_of_two(3, zero=False)
    large = np.abs(values) > tensor.quantization.scale[0]
    ratio = tensor.real[large] / values[large]
    assert np.all((ratio > 2**-0.5 - 1e-9) & (ratio < 2**0.5 + 1e-9))


@pytest.mark.parametrize(("scheme", "bits"), [("inq", 5), ("inq", 2), ("pow2", None)])
def test_quantized_networks(scheme, bits):
    for seed in shown(range(6)):
        model = quantize(random_network(seed), X, scheme=scheme, bits=bits)
        assert model.rounding is (Rounding.DOUBLE if scheme == "inq" else Rounding.EVEN)
        for operator in model.operators:
            if isinstance(operator, Conv2D | DepthwiseConv2D | FullyConnected):
                form = model.tensor(operator.weights).format
                assert form == (power_of_two(bits - 2) if scheme == "inq" else power_of_two(3, zero=False))
        x = model.tensor(model.input).quantize(X[:2])
        assert golden.run(model, x).shape == (2, *model.tensor(model.output).shape)


def test_sums_that_could_exceed_the_accumulators_are_scaled_down():
    model = quantize(fully_connected(np.full((1, 60_000), 0.9)), np.ones((3, 60_000), np.float32), scheme="inq", bits=5)
    weights = model.tensor(model.operators[0].weights)
    assert np.abs(weights.integers).sum() * 255 < 2**31
