"""Operators that are tables, against exact rationals: both roundings, where the oracle has only one."""

import numpy as np
import pytest
from support import exact
from support.operators import single, tensor

from zeropoint.arithmetic import add_scaling, clamp_limits, leaky_relu_scaling, mul_scaling
from zeropoint.errors import ZeropointError
from zeropoint.golden import run
from zeropoint.model import Add, Clamp, LeakyRelu, Mul, Sub
from zeropoint.numerics import Rounding

XY = {"name": "op", "input": "x", "output": "y"}


def bytes_of(dtype):
    return np.arange(256, dtype=np.uint8).view(dtype)


def model_of(operator, dtype, rng, rounding):
    info = np.iinfo(dtype)
    scales = 10.0 ** rng.uniform(-2, 0, 2)
    whole = scales[0] * scales[1] * 50 if isinstance(operator, Mul) else scales.max()
    zero_points = rng.integers(info.min, info.max + 1, 3).tolist()
    tensors = [
        tensor("x", (256,), dtype, scales[0], zero_points[0]),
        tensor("y", (256,), dtype, whole * rng.uniform(0.2, 2), zero_points[1]),
    ]
    if isinstance(operator, Add | Sub | Mul):
        # One constant for all bytes, and another, in turn.
        data = rng.choice(bytes_of(dtype), 256)
        tensors.append(tensor("c", (256,), dtype, scales[1], zero_points[2], data))
    return single(operator, *tensors, rounding=rounding)


def expected(model, x):
    """Return the outputs for the bytes ``x``, one number at a time."""
    (operator,), rounding = model.operators, model.rounding
    source, target = model.tensor("x"), model.tensor("y")
    out = []
    for index, q in enumerate(x.tolist()):
        difference = q - source.zero_point
        if isinstance(operator, LeakyRelu):
            scaling = leaky_relu_scaling(model, operator)
            own = scaling.positive if difference >= 0 else scaling.negative
            total, clamp = difference, target.limits
        else:
            constant = model.tensor("c")
            other, clamp = int(constant.data[index]) - constant.zero_point, clamp_limits(target, operator.clamp)
            if isinstance(operator, Mul):
                total, own = difference * other, mul_scaling(model, operator)
            else:
                scaling = add_scaling(model, operator)
                total = sum(
                    exact.scaled(each << 20, int(part.multiplier), int(part.shift), rounding)
                    for each, part in ((difference, scaling.input), (other, scaling.other))
                )
                own = scaling.output
        parameters = int(own.multiplier), int(own.shift), target.zero_point
        out.append(exact.requantized(total, *parameters, clamp, rounding))
    return out


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize(
    "operator",
    [
        Add(**XY, other="c", constant=True, clamp=Clamp(0, 6)),
        Sub(**XY, other="c", constant=True),
        Sub(**XY, other="c", constant=True, reverse=True, clamp=Clamp(0)),
        Mul(**XY, other="c", constant=True),
        LeakyRelu(**XY, alpha=0.3),
        LeakyRelu(**XY, alpha=-1.7),
    ],
    ids=lambda operator: operator.kind,
)
def test_tables_equal_the_exact_definitions(operator, dtype, rounding, seed):
    model = model_of(operator, dtype, np.random.default_rng(seed), rounding)
    x = bytes_of(dtype)
    np.testing.assert_array_equal(run(model, x[np.newaxis])[0], expected(model, x))


@pytest.mark.parametrize("scale", [2.0**-19, 1e-20, 1e-38])
@pytest.mark.parametrize("kind", [Add, Sub])
def test_outputs_too_fine_for_a_sum(kind, scale):
    model = single(
        kind(**XY, other="c", constant=True),
        tensor("x", (2,), "int8", 1.0),
        tensor("c", (1,), "int8", 0.5, 0, np.ones(1, np.int8)),
        tensor("y", (2,), "int8", scale),
    )
    message = rf"^operator 'op' \({kind.__name__}\): the scale of input or other must be below 2\^19 times the output's"
    with pytest.raises(ZeropointError, match=message):
        run(model, np.zeros((1, 2), np.int8))


@pytest.mark.parametrize("operator", [Mul(**XY, other="c", constant=True), LeakyRelu(**XY, alpha=3e38)])
def test_multipliers_that_are_none(operator):
    tensors = [tensor("x", (2,), "int8", 3e38), tensor("y", (2,), "int8", 1.0)]
    if isinstance(operator, Mul):
        tensors.append(tensor("c", (1,), "int8", 3e38, 0, np.ones(1, np.int8)))
    with pytest.raises(
        ZeropointError, match=r"^operator 'op': its scales give no usable multiplier: a multiplier must"
    ):
        run(single(operator, *tensors), np.zeros((1, 2), np.int8))


@pytest.mark.parametrize("count", [1, 5000])
@pytest.mark.parametrize("shape", [(1,), (3,), (5, 1), (4, 5, 3)])
def test_operands_are_broadcast(count, shape):
    rng = np.random.default_rng(0)
    data = rng.integers(-128, 128, shape).astype(np.int8)
    model = single(
        Mul(**XY, other="c", constant=True),
        tensor("x", (4, 5, 3), "int8", 1.0),
        tensor("c", shape, "int8", 1.0, 0, data),
        tensor("y", (4, 5, 3), "int8", 100.0),
    )
    x = rng.integers(-128, 128, (count, 4, 5, 3)).astype(np.int8)
    whole = single(
        Mul(**XY, other="c", constant=True),
        model.tensor("x"),
        tensor("c", (4, 5, 3), "int8", 1.0, 0, np.broadcast_to(data, (4, 5, 3))),
        model.tensor("y"),
    )
    np.testing.assert_array_equal(run(model, x), run(whole, x))
