"""int16 activations against exact arithmetic in Python's own integers and fractions."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from support.fixed_models import FixedBuilder

from zeropoint import golden
from zeropoint.errors import ZeropointError
from zeropoint.model import Add, Mean, Padding, Quantization, Softmax, Sub, Tensor, zp_file
from zeropoint.numerics import Rounding

LIMITS = (-32768, 32767)


def even(real):
    """Return the nearest integer, ties to even."""
    return round(Fraction(real))


def scale(model, name):
    return Fraction(model.tensor(name).scale)


def integers(model, name):
    return model.tensor(name).integers


def clamped(model, operator, value):
    """Return a value within the operator's fused activation, whose ends are multiples of the scale."""
    unit = scale(model, operator.output)
    low, high = LIMITS
    if operator.clamp.low != -np.inf:
        low = max(low, even(Fraction(operator.clamp.low) / unit))
    if operator.clamp.high != np.inf:
        high = min(high, even(Fraction(operator.clamp.high) / unit))
    return min(max(value, low), high)


def layer(model, operator, terms, channel):
    """Return an output of a layer, given the pairs of activations and weights that it sums."""
    total = sum(int(x) * int(w) for x, w in terms)
    if operator.bias is not None:
        total += int(model.tensor(operator.bias).data[channel])
    ratio = scale(model, operator.input) * scale(model, operator.weights) / scale(model, operator.output)
    return clamped(model, operator, even(total * ratio))


def at_the_ends(rng, shape):
    """Random activations, the least and the greatest often."""
    return rng.choice([-32768, 32767, -1, 0, *rng.integers(-32768, 32768, 4)], shape).astype(np.int16)


@pytest.mark.parametrize("seed", range(6))
def test_fully_connected(seed):
    rng = np.random.default_rng(seed)
    builder = FixedBuilder(rng, 16, (16,) if seed % 2 else (8,))
    model = builder.build(builder.fully_connected(builder.input(2, 3, 17), 5), Rounding.EVEN)
    (operator,) = model.operators
    x = at_the_ends(rng, (4, 2, 3, 17))
    weights = integers(model, operator.weights)
    wanted = [[layer(model, operator, zip(row.reshape(-1), weights[c], strict=True), c) for c in range(5)] for row in x]
    np.testing.assert_array_equal(golden.run(model, x), wanted)


@pytest.mark.parametrize("kind", ["conv", "depthwise"])
@pytest.mark.parametrize("seed", range(3))
def test_convolutions(kind, seed):
    rng = np.random.default_rng(seed)
    builder = FixedBuilder(rng, 16, (16,))
    source, padding = builder.input(4, 5, 3), Padding(1, 0, 0, 1)
    if kind == "conv":
        out = builder.conv(source, 4, (2, 3), padding=padding)
    else:
        out = builder.depthwise(source, (2, 3), padding=padding)
    model = builder.build(out, Rounding.EVEN)
    (operator,) = model.operators
    weights = integers(model, operator.weights)
    x = at_the_ends(rng, (2, 4, 5, 3))
    padded = np.pad(x, ((0, 0), (1, 0), (0, 1), (0, 0)))
    got = golden.run(model, x)
    wanted = np.empty_like(got)
    for n, row, column, channel in np.ndindex(got.shape):
        window = padded[n, row : row + 2, column : column + 3]
        if kind == "conv":
            terms = zip(window.reshape(-1), weights[channel].reshape(-1), strict=True)
        else:
            terms = zip(window[..., channel].reshape(-1), weights[..., channel].reshape(-1), strict=True)
        wanted[n, row, column, channel] = layer(model, operator, terms, channel)
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("distance", [0, 3, 15, 17])
@pytest.mark.parametrize("kind", [Add, Sub])
def test_sums(kind, distance):
    """Scales up to 2^15 apart lose nothing before the sum is rounded; beyond that, operands round half up."""
    rng = np.random.default_rng(distance)
    builder = FixedBuilder(rng, 16, (16,))
    builder.input(3, 3, 5)
    constant = Tensor("c", (3, 3, 5), "int16", Quantization((2.0 ** (-14 - distance),)), at_the_ends(rng, (3, 3, 5)))
    builder.tensors["c"] = constant
    builder.tensors["input"] = replace(builder.tensors["input"], quantization=Quantization((2.0**-14,)))
    model = builder.build(builder.binary(kind, "input", "c", constant=True), Rounding.EVEN)
    (operator,) = model.operators
    x = at_the_ends(rng, (3, 3, 3, 5))
    sign = 1 if kind is Add else -1
    unit = Fraction(2) ** (-14 - 14)
    got = golden.run(model, x)
    wanted = []
    for first, second in zip(x.reshape(-1), np.broadcast_to(constant.data, x.shape).reshape(-1), strict=True):
        other = sign * int(second) * scale(model, "c") / unit
        total = int(first) * scale(model, "input") / unit + (other + Fraction(1, 2)) // 1
        wanted.append(clamped(model, operator, even(total * unit / scale(model, operator.output))))
    np.testing.assert_array_equal(got.reshape(-1), wanted)


def test_changes_of_scale():
    rng = np.random.default_rng(0)
    builder = FixedBuilder(rng, 16, (16,))
    model = builder.build(builder.requantize(builder.input(1, 256, 256)), Rounding.EVEN)
    (operator,) = model.operators
    x = np.arange(-32768, 32768, dtype=np.int16).reshape(1, 1, 256, 256)
    ratio = scale(model, operator.input) / scale(model, operator.output)
    wanted = [clamped(model, operator, even(value * ratio)) for value in range(-32768, 32768)]
    np.testing.assert_array_equal(golden.run(model, x).reshape(-1), wanted)


def test_a_file_holds_it(tmp_path):
    rng = np.random.default_rng(1)
    builder = FixedBuilder(rng, 16, (16, 8))
    model = builder.build(builder.fully_connected(builder.conv(builder.input(4, 4, 3), 5, (3, 3)), 4), Rounding.EVEN)
    zp_file.save(model, tmp_path / "m.zp")
    again = zp_file.load(tmp_path / "m.zp")
    assert again.tensor("input").dtype == "int16"
    x = at_the_ends(rng, (3, 4, 4, 3))
    np.testing.assert_array_equal(golden.run(again, x), golden.run(model, x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rounding": Rounding.SINGLE}, r"int16 activations are rounded to even, not single$"),
        ({"operator": Mean}, r"^operator 'mean_0' \(Mean\): there is no such operator for int16$"),
        ({"operator": Softmax}, r"^operator 'softmax_0' \(Softmax\): there is no such operator for int16$"),
        ({"zero_point": 3}, r"^tensor 'input' is int16 and must have zero points of 0$"),
    ],
)
def test_what_there_is_not_is_refused(change, message):
    builder = FixedBuilder(np.random.default_rng(1), 16, (16,))
    source = builder.input(4, 4, 3)
    if "zero_point" in change:
        quantization = Quantization((0.5,), (change["zero_point"],))
        builder.tensors[source] = replace(builder.tensors[source], quantization=quantization)
    kind = change.get("operator")
    out = builder.fully_connected(source, 4) if kind is None else builder._add(kind, source)
    with pytest.raises(ZeropointError, match=message):
        builder.build(out, change.get("rounding", Rounding.EVEN))


def test_scales_that_are_no_powers_of_two_are_refused():
    builder = FixedBuilder(np.random.default_rng(1), 16, (16,))
    source = builder.input(4, 4, 3)
    builder.tensors[source] = replace(builder.tensors[source], quantization=Quantization((0.3,)))
    model = builder.build(builder.fully_connected(source, 4), Rounding.EVEN)
    with pytest.raises(ZeropointError, match=r"the scales of 16-bit activations and their weights must be powers o"):
        golden.run(model, np.zeros((1, 4, 4, 3), np.int16))


def test_a_wrong_bias_is_seen():
    rng = np.random.default_rng(4)
    builder = FixedBuilder(rng, 16, (16,))
    model = builder.build(builder.fully_connected(builder.input(1, 1, 9), 5), Rounding.EVEN)
    operator = model.operators[0]
    bias = model.tensor(operator.bias)
    other = replace(model, tensors={**model.tensors, bias.name: replace(bias, data=bias.data // 2)})
    x = rng.integers(-300, 300, (4, 1, 1, 9)).astype(np.int16)
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(golden.run(model, x), golden.run(other, x))
