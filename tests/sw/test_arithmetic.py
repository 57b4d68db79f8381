from fractions import Fraction
from math import inf

import numpy as np
import pytest
from support.operators import chain, single, tensor

from zeropoint.arithmetic import (
    ADD_LEFT_SHIFT,
    add_scaling,
    clamp_limits,
    mean_scaling,
    requantize_scaling,
    softmax_scaling,
    weighted_scaling,
)
from zeropoint.errors import ZeropointError
from zeropoint.model import Add, Clamp, FullyConnected, Mean, Requantize, Softmax
from zeropoint.numerics import Rounding, quantize_multiplier

# Scales whose float32 and float64 products and quotients give different multipliers.
A, B, C = 0.1, 0.3, 0.7


def _real(scaling):
    return Fraction(int(scaling.multiplier)) * Fraction(2) ** (int(scaling.shift) - 31)


def _float32(value):
    return Fraction(float(np.float32(value)))


@pytest.mark.parametrize(
    ("clamp", "dtype", "scale", "zero_point", "expected"),
    [
        (Clamp(), "int8", 0.1, 5, (-128, 127)),
        (Clamp(), "uint8", 0.1, 5, (0, 255)),
        (Clamp(0.0, inf), "int8", 0.1, 5, (5, 127)),
        (Clamp(0.0, 6.0), "int8", 0.1, -100, (-100, -40)),
        (Clamp(0.0, 6.0), "int8", 0.01, -100, (-100, 127)),
        (Clamp(-1.0, 1.0), "uint8", 0.1, 128, (118, 138)),
        (Clamp(-1.0, 1.0), "uint8", 0.1, 3, (0, 13)),
        # Ties go away from zero: 0.5 steps are 1, −0.5 steps −1.
        (Clamp(-0.5, 0.5), "int8", 1.0, 0, (-1, 1)),
        # Beyond what a float32 quotient holds.
        (Clamp(-3e38, 3e38), "int8", 1e-30, 0, (-128, 127)),
        (Clamp(-1e300, 1e300), "int8", 0.1, 0, (-128, 127)),
    ],
)
def test_clamp_limits(clamp, dtype, scale, zero_point, expected):
    assert clamp_limits(tensor("y", (1,), dtype, scale, zero_point), clamp) == expected


def _dense(dtype, scales, axis=None):
    shape = (len(scales) if axis == 0 else 2, 3)
    return single(
        FullyConnected(name="layer", input="x", output="y", weights="w"),
        tensor("x", (3,), dtype, A),
        tensor("w", shape, dtype, scales, 0, np.ones(shape, dtype), axis),
        tensor("y", shape[:1], dtype, C),
    )


def test_weighted_scaling_of_one_scale_multiplies_as_float32():
    model = _dense("int8", [B])
    scaling = weighted_scaling(model, model.operators[0])
    product = np.float64(np.float32(A) * np.float32(B))
    multiplier, shift = quantize_multiplier(product / np.float64(np.float32(C)))
    np.testing.assert_array_equal(scaling.multiplier, [multiplier] * 2)
    np.testing.assert_array_equal(scaling.shift, [shift] * 2)


def test_weighted_scaling_of_scales_per_channel_multiplies_as_float64():
    model = _dense("int8", [B, 2 * B], axis=0)
    scaling = weighted_scaling(model, model.operators[0])
    product = np.float64(np.float32(A)) * np.float64(np.float32(B)) * np.array([1, 2])
    multiplier, shift = quantize_multiplier(product / np.float64(np.float32(C)))
    np.testing.assert_array_equal(scaling.multiplier, multiplier)
    np.testing.assert_array_equal(scaling.shift, shift)
    one = _dense("int8", [B])
    assert multiplier[0] != weighted_scaling(one, one.operators[0]).multiplier[0], "these scales tell nothing"


def test_weighted_scaling_of_a_single_channel_is_that_of_one_scale():
    model, one = _dense("int8", [B], axis=0), _dense("int8", [B])
    got = weighted_scaling(model, model.operators[0]).multiplier[0]
    assert got == weighted_scaling(one, one.operators[0]).multiplier[0]


def test_weighted_scaling_names_the_operator_whose_multiplier_is_too_great():
    model = single(
        FullyConnected(name="head", input="x", output="y", weights="w"),
        tensor("x", (1,), "int8", 1e20),
        tensor("w", (1, 1), "int8", 1e20, 0, np.ones((1, 1), np.int8)),
        tensor("y", (1,), "int8", 1.0),
    )
    with pytest.raises(ZeropointError, match=r"^operator 'head': its scales give no usable multiplier: a multiplier"):
        weighted_scaling(model, model.operators[0])


def _requantize(clamp):
    layer = Requantize(name="r", input="x", output="y", clamp=clamp)
    return single(layer, tensor("x", (1,), "int8", A), tensor("y", (1,), "int8", C))


def test_requantize_scaling_divides_as_float32_only_where_it_clamps():
    scale, relu = _requantize(Clamp()), _requantize(Clamp(0.0, inf))
    double = quantize_multiplier(np.float64(np.float32(A)) / np.float64(np.float32(C)))[0]
    narrow = quantize_multiplier(np.float64(np.float32(A) / np.float32(C)))[0]
    assert double != narrow, "these scales tell nothing"
    assert requantize_scaling(scale, scale.operators[0]).multiplier == double
    assert requantize_scaling(relu, relu.operators[0]).multiplier == narrow


def _add(first, second, output):
    return chain(
        (
            Requantize(name="r", input="x", output="z"),
            Add(name="sum", input="x", other="z", output="y"),
        ),
        tensor("x", (1,), "int8", first),
        tensor("z", (1,), "int8", second),
        tensor("y", (1,), "int8", output),
    )


@pytest.mark.parametrize(("first", "second"), [(A, B), (B, A), (C, C), (3e-7, 0.9)])
def test_the_greater_scale_of_add_gets_one_half_exactly(first, second):
    model = _add(first, second, C)
    scaling = add_scaling(model, model.operators[1])
    assert scaling.left_shift == ADD_LEFT_SHIFT == 20
    greater, lesser = (scaling.input, scaling.other) if first >= second else (scaling.other, scaling.input)
    assert (int(greater.multiplier), int(greater.shift)) == (2**30, 0)
    assert int(lesser.shift) <= 0
    ratio = _float32(min(first, second)) / _float32(max(first, second)) / 2
    assert abs(_real(lesser) / ratio - 1) < 2.0**-30
    output = 2 * _float32(max(first, second)) / 2**20 / _float32(C)
    assert abs(_real(scaling.output) / output - 1) < 2.0**-30


def test_add_refuses_outputs_too_fine_for_its_headroom():
    model = _add(1.0, 1.0, 2.0**-19)
    with pytest.raises(
        ZeropointError, match=r"^operator 'sum' \(Add\): the scale of input or other must be below 2\^19"
    ):
        add_scaling(model, model.operators[1])
    fine = _add(1.0, 1.0, float(np.nextafter(np.float32(2.0**-19), np.float32(1))))
    assert add_scaling(fine, fine.operators[1]).output.shift == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (5, 5), (8, 8), (49, 10), (1000, 1)])
def test_mean_scaling_holds_the_count(size):
    model = single(
        Mean(name="mean", input="x", output="y"),
        tensor("x", (*size, 3), "int8", A),
        tensor("y", (3,), "int8", C),
    )
    scaling = mean_scaling(model, model.operators[0])
    assert 2**29 <= int(scaling.multiplier) < 2**31
    # The division rounds down.
    ratio = _float32(A) / _float32(C) / (size[0] * size[1])
    assert -(2.0**-28) < _real(scaling) / ratio - 1 < 2.0**-30


def test_mean_scaling_keeps_its_shift_at_minus_31_or_above():
    model = single(
        Mean(name="mean", input="x", output="y"),
        tensor("x", (8, 8, 3), "int8", 2.0**-30),
        tensor("y", (3,), "int8", 1.0),
    )
    scaling = mean_scaling(model, model.operators[0])
    # 2^-30 is 2^30 · 2^(-29 - 31); two more are left of the six binary places of 64.
    assert (int(scaling.multiplier), int(scaling.shift)) == (2**26, -31)


def _softmax(scale, beta=1.0, rounding=Rounding.DOUBLE):
    return single(
        Softmax(name="softmax", input="x", output="y", beta=beta),
        tensor("x", (4,), "int8", scale),
        tensor("y", (4,), "int8", 1 / 256, -128),
        rounding=rounding,
    )


@pytest.mark.parametrize(("scale", "beta"), [(0.1, 1.0), (0.003, 0.7), (1.0, 3.0), (2.0**-25, 1.0)])
def test_softmax_scaling(scale, beta):
    model = _softmax(scale, beta)
    scaling = softmax_scaling(model, model.operators[0])
    real = _float32(scale) * _float32(beta)
    assert abs(_real(scaling) / (real * 2**26) - 1) < 2.0**-30
    # The last difference that the left shift keeps in 32 bits with its 5 integer bits.
    assert scaling.least == -(31 * 2**26 // 2**scaling.shift)


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("scale", [16.0, 31.0, 1e3, 1e30])
def test_softmax_scaling_ends_where_the_integers_end(scale, rounding):
    model = _softmax(scale, rounding=rounding)
    scaling = softmax_scaling(model, model.operators[0])
    assert (scaling.multiplier, scaling.shift, scaling.least) == (2**31 - 2, 30, -1)


@pytest.mark.parametrize(("scale", "beta"), [(2.0**-26, 1.0), (0.1, 0.0), (0.1, -1.0)])
def test_softmax_refuses_scales_that_vanish(scale, beta):
    model = _softmax(scale, beta)
    with pytest.raises(
        ZeropointError, match=r"^operator 'softmax' \(Softmax\): beta times the scale of input 'x' must be"
    ):
        softmax_scaling(model, model.operators[0])
