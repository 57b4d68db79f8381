"""Networks quantized to minifloats: formats and scales, biases, means, and noise that mantissas bound."""

from dataclasses import replace
from math import frexp

import numpy as np
import pytest
from support.float_networks import random_network
from support.seeds import shown

from zeropoint import golden
from zeropoint.errors import ZeropointError
from zeropoint.model import AveragePool2D, DepthwiseConv2D, Mean, Pad, Padding, Tensor, zp_file
from zeropoint.numerics import Rounding
from zeropoint.numerics.minifloat import MinifloatFormat, from_order
from zeropoint.quantize import noise_table, quantize
from zeropoint.quantize.minifloat import exponent_bits_for, minifloat_bias, minifloat_weights

X = np.random.default_rng(5).normal(size=(20, 12, 12, 3)).astype(np.float32)


def network_for(seed):
    """Return a random network whose average pool has its padding in front, where it counts."""
    network = random_network(seed)
    operators = []
    for operator in network.operators:
        if isinstance(operator, AveragePool2D):
            operators.append(Pad(name="around", input=operator.input, output="wide", padding=operator.padding))
            operator = replace(operator, input="wide", padding=Padding())
        operators.append(operator)
    wide = Tensor("wide", (5, 5, 8), "float32")
    return replace(network, tensors={**network.tensors, "wide": wide}, operators=tuple(operators))


@pytest.mark.parametrize(("bits", "exponent_bits"), [(8, 4), (8, 5), (6, 3), (5, 4), (8, 6)])
def test_quantized_networks_hold_minifloats_everywhere(bits, exponent_bits):
    form = MinifloatFormat(exponent_bits, bits - 1 - exponent_bits)
    for seed in shown(range(4)):
        network = network_for(seed)
        model = quantize(network, X, scheme="minifloat", bits=bits, exponent_bits=exponent_bits)
        assert model.rounding is Rounding.EVEN
        assert not any(isinstance(operator, Mean | AveragePool2D) for operator in model.operators)
        for tensor in model.tensors.values():
            if tensor.dtype == "int32":
                assert frexp(tensor.scale)[0] == 0.5
            elif tensor.scale != 1 / 256:
                assert (tensor.format, tensor.scale, tensor.zero_point) == (form, 2.0**form.least, 0)
        assert zp_file.dumps(zp_file.loads(zp_file.dumps(model))) == zp_file.dumps(model)
        golden.run(model, model.tensor(model.input).quantize(X))


def test_weights_are_the_nearest_minifloats():
    form = MinifloatFormat(4, 3)
    values = np.array([[0.0, 1.0, -1.0625, 1.1875, 1000.0, -0.3]])
    weights = minifloat_weights(values, 0, np.zeros(1), 0.0, bits=8, exponent_bits=4)
    expected = [0.0, 1.0, -1.0, 1.25, form.greatest, -0.3125]
    np.testing.assert_array_equal(form.decode(from_order(weights.q, form)), [expected])
    assert weights.quantization.scale == (2.0**form.least,)


def test_biases_are_as_fine_as_int32_holds():
    fine = minifloat_bias(np.array([1.0, -0.75]), 2.0**-18, "b")
    assert (fine.scale, fine.data.tolist()) == (2.0**-18, [1 << 18, -3 << 16])
    coarse = minifloat_bias(np.array([1.0, -0.75]), 2.0**-40, "b")
    assert coarse.scale == 2.0**-30
    np.testing.assert_array_equal(coarse.data * coarse.scale, [1.0, -0.75])
    nothing = minifloat_bias(np.zeros(3), 2.0**-124, "b")
    assert (nothing.scale, nothing.data.tolist()) == (2.0**-124, [0, 0, 0])


def test_exponents_reach_the_greatest_value():
    assert [exponent_bits_for(peak, 8) for peak in (0.1, 5.0, 500.0, 513.0, 2.0**17, 2.0**18)] == [4, 4, 4, 5, 5, 6]
    assert [exponent_bits_for(5.0, bits) for bits in (5, 4, 3, 2)] == [4, 3, 2, 1]


def test_longer_mantissas_are_nearer():
    network = network_for(7)
    ratios = []
    for bits in (6, 7, 8):
        model = quantize(network, X, scheme="minifloat", bits=bits, exponent_bits=5)
        layers = [layer.sqnr for layer in noise_table(network, model, X) if layer.kind != "Softmax"]
        ratios.append(np.mean(layers))
    # A bit more is worth about 6 decibels.
    assert np.all(np.diff(ratios) > 3)


def test_means_are_weights():
    network = network_for(3)
    model = quantize(network, X, scheme="minifloat")
    name = next(operator.name for operator in network.operators if isinstance(operator, Mean))
    operator = next(operator for operator in model.operators if operator.name == name)
    assert isinstance(operator, DepthwiseConv2D)


def test_means_that_count_fewer_values_in_padding_are_refused():
    with pytest.raises(
        ZeropointError, match=r"operator 'average' \(AveragePool2D\): there is no such operator for minif"
    ):
        quantize(random_network(0), X, scheme="minifloat")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "minifloat", "bits": 9}, "the scheme 'minifloat' has .* bits, not 9"),
        (
            {"scheme": "minifloat", "bits": 4, "exponent_bits": 4},
            "minifloats of 4 bits have 1 to 3 exponent bits, not 4",
        ),
        ({"scheme": "minifloat", "exponent_bits": 0}, "minifloats of 8 bits have 1 to 7 exponent bits, not 0"),
        ({"scheme": "inq", "exponent_bits": 4}, "exponent bits are for the scheme 'minifloat', not for 'inq'"),
    ],
)
def test_formats_that_are_none(options, message):
    with pytest.raises(ZeropointError, match=message):
        quantize(random_network(0), X, **options)
