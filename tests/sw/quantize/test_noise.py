"""The table of quantization noise."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from support.float_networks import fully_connected, random_network

from zeropoint import float_reference, golden
from zeropoint.errors import ZeropointError
from zeropoint.quantize import LayerNoise, Scheme, noise_table, quantize

X = np.random.default_rng(3).normal(size=(20, 12, 12, 3)).astype(np.float32)


def test_the_table_against_its_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_network(4)
    quantized = quantize(model, X, scheme=Scheme.AFFINE_INT8)
    monkeypatch.setattr(float_reference, "_BATCH_BYTES", 100_000)
    table = noise_table(model, quantized, X)
    real = float_reference.run(model, X)
    got = golden.run_tensors(quantized, quantized.tensor("x").quantize(X))
    for row, operator in zip(table, model.operators, strict=True):
        x = real[operator.output].astype(np.float64)
        error = quantized.tensor(operator.output).dequantize(got[operator.output]) - x
        assert (row.operator, row.kind, row.tensor) == (operator.name, operator.kind, operator.output)
        assert row.sqnr == pytest.approx(10 * np.log10((x**2).sum() / (error**2).sum()), abs=1e-3)
        assert row.greatest_error == pytest.approx(np.abs(error).max(), abs=1e-5)


def test_a_damaged_weight_shows_where_it_is() -> None:
    model = random_network(4)
    quantized = quantize(model, X, scheme=Scheme.AFFINE_INT8)
    weights = quantized.tensor("w3")
    assert weights.data is not None
    damaged = replace(weights, data=-weights.data)
    broken = replace(quantized, tensors={**quantized.tensors, "w3": damaged})
    good, bad = ({row.operator: row.sqnr for row in noise_table(model, each, X)} for each in (quantized, broken))
    assert bad["depthwise"] == good["depthwise"]
    assert bad["grouped"] < 10 < 25 < good["grouped"]


def test_no_noise_and_no_signal() -> None:
    model = fully_connected([[0.0]], [0.0])
    x = np.ones((2, 1), np.float32)
    quantized = quantize(model, x, scheme=Scheme.AFFINE_INT8)
    assert noise_table(model, quantized, x) == [LayerNoise("fc", "FullyConnected", "y", inf, 0.0)]
    noisy = replace(
        quantized, tensors={**quantized.tensors, "b": replace(quantized.tensor("b"), data=np.int32([9999]))}
    )
    (row,) = noise_table(model, noisy, x)
    assert row.sqnr == -inf
    assert row.greatest_error > 0


def test_models_of_two_networks_are_an_error() -> None:
    model = fully_connected([[1.0]])
    other = fully_connected([[1.0], [2.0]])
    quantized = quantize(other, np.ones((1, 1), np.float32), scheme=Scheme.AFFINE_INT8)
    with pytest.raises(ZeropointError, match=r"are not of one network: they differ in the activations y$"):
        noise_table(model, quantized, np.ones((1, 1), np.float32))
