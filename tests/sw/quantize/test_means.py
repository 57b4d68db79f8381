"""Means as depthwise convolutions: the same values, and nothing else changed."""

from typing import Any

import numpy as np
from support.float_networks import RELU, float_model

from zeropoint import float_reference
from zeropoint.model import (
    AveragePool2D,
    DepthwiseConv2D,
    FloatModel,
    FullyConnected,
    MaxPool2D,
    Mean,
    Operator,
    Padding,
    Reshape,
)
from zeropoint.quantize.means import means_as_weights


def network(*operators: Operator, **constants: Any) -> FloatModel:
    return float_model((6, 5, 3), *operators, **constants)


def same(model: FloatModel, changed: FloatModel) -> None:
    """All tensors that both have are equal, but for the order in which floats are summed."""
    values = np.random.default_rng(0).normal(size=(4, *model.tensor(model.input).shape)).astype(np.float32)
    before, after = (float_reference.run(each, values) for each in (model, changed))
    for name, expected in before.items():
        np.testing.assert_allclose(after[name], expected, rtol=1e-5, atol=1e-6)


def test_average_pool() -> None:
    pool = AveragePool2D(name="pool", input="x", output="pooled", window=(3, 2), stride=(2, 1), clamp=RELU)
    model = network(pool)
    changed = means_as_weights(model)
    (operator,) = changed.operators
    assert isinstance(operator, DepthwiseConv2D)
    assert (operator.name, operator.input, operator.output, operator.stride, operator.clamp, operator.bias) == (
        "pool",
        "x",
        "pooled",
        (2, 1),
        RELU,
        None,
    )
    weights = changed.tensor(operator.weights).data
    assert weights is not None
    np.testing.assert_array_equal(weights, np.full((3, 2, 3), np.float32(1 / 6)))
    same(model, changed)


def test_mean_keeps_its_vector() -> None:
    model = network(
        Mean(name="mean", input="x", output="vector"),
        FullyConnected(name="dense", input="vector", output="scores", weights="w"),
        w=np.arange(6, dtype=np.float32).reshape(2, 3) / 8,
    )
    changed = means_as_weights(model)
    assert [type(operator) for operator in changed.operators] == [DepthwiseConv2D, Reshape, FullyConnected]
    assert changed.tensor("vector").shape == (3,)
    assert changed.tensor(changed.operators[0].output).shape == (1, 1, 3)
    assert changed.output == model.output
    same(model, changed)


def test_names_that_are_taken_are_not_used() -> None:
    model = network(
        MaxPool2D(name="mean/vector", input="x", output="vector/map", window=(2, 2)),
        Mean(name="mean", input="vector/map", output="vector"),
        FullyConnected(name="dense", input="vector", output="scores", weights="mean/weights"),
        **{"mean/weights": np.ones((2, 3), np.float32)},
    )
    same(model, means_as_weights(model))


def test_padding_that_is_not_counted_stays() -> None:
    pool = AveragePool2D(name="pool", input="x", output="pooled", window=(3, 3), padding=Padding(1, 1, 1, 1))
    model = network(pool)
    assert means_as_weights(model) is model


def test_others_stay() -> None:
    model = network(MaxPool2D(name="pool", input="x", output="pooled", window=(2, 2)))
    assert means_as_weights(model) is model
