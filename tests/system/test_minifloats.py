"""Networks of minifloats: the golden model against rational arithmetic, and the hardware against the golden model."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from support.engines import assert_exact, simulated, small
from support.executed import outputs
from support.random_minifloats import FORMATS, codes, random_minifloats
from support.random_models import random_model
from support.seeds import shown

from zeropoint import golden
from zeropoint.compiler import compile_model
from zeropoint.compiler.configure import configure
from zeropoint.compiler.verify_program import verify
from zeropoint.errors import ZeropointError
from zeropoint.model import Conv2D, FullyConnected, zp_file
from zeropoint.model.formats import format_integers
from zeropoint.numerics.minifloat import MinifloatFormat, from_order, in_order

everywhere = pytest.mark.parametrize("name", FORMATS)


def inputs(model, count, seed=0):
    tensor = model.tensor(model.input)
    return codes(np.random.default_rng(seed), tensor.format, (count, *tensor.shape), 1.0)


def config_for(model, lanes=4, columns=4, **entries):
    return small(configure(model, {"lanes": lanes, "columns": columns, "weight_bytes": 65536, **entries}))


def nearest(value, form):
    """Return the minifloat nearest to a fraction, by trying all; of two, the one IEEE 754 takes."""
    every = np.arange(1 << form.bits - 1)
    magnitudes = [Fraction(*float(each).as_integer_ratio()) for each in form.decode(every)]
    distances = [abs(each - abs(value)) for each in magnitudes]
    least = min(distances)
    among = [code for code, distance in enumerate(distances) if distance == least]
    even = next((code for code in among if code % 2 == 0 or len(among) == 1), among[-1])
    if form.mantissa_bits == 0 and 0 not in among:
        even = among[-1]
    return -even if value < 0 else even


@everywhere
def test_layers_are_the_nearest_minifloats_to_exact_sums(name):
    """Convolutions and fully-connected layers, an output here and there, in Python's fractions."""
    seen = 0
    for seed in shown(range(8)):
        model = random_minifloats(seed, name)
        tensors = golden.run_tensors(model, inputs(model, 1, seed))
        for operator in model.operators:
            if not isinstance(operator, Conv2D | FullyConnected) or getattr(operator, "groups", 1) != 1:
                continue
            source, target, weights = map(model.tensor, (operator.input, operator.output, operator.weights))
            x = padded(source.dequantize(tensors[operator.input][0]), getattr(operator, "padding", None))
            w = weights.format.decode(from_order(weights.data, weights.format))
            rng = np.random.default_rng(seed)
            for _ in range(4):
                place = tuple(int(rng.integers(n)) for n in target.shape)
                window = x.reshape(-1)
                if isinstance(operator, Conv2D):
                    y, z = (at * by for at, by in zip(place, operator.stride, strict=False))
                    window = x[y : y + w.shape[1], z : z + w.shape[2]].reshape(-1)
                total = sum(
                    (
                        Fraction(float(a)) * Fraction(float(b))
                        for a, b in zip(window, w[place[-1]].reshape(-1), strict=True)
                    ),
                    Fraction(),
                )
                if operator.bias is not None:
                    bias = model.tensor(operator.bias)
                    total += int(bias.data[place[-1]]) * Fraction(bias.scale)
                low, high = target.quantize(np.clip([operator.clamp.low, operator.clamp.high], -1e30, 1e30))
                assert tensors[operator.output][0][place] == min(max(nearest(total, target.format), low), high)
                seen += 1
    assert seen > 30


def padded(x, padding):
    if padding is None:
        return x
    return np.pad(x, ((padding.top, padding.bottom), (padding.left, padding.right), (0, 0)))


@everywhere
def test_the_layer_program_gives_the_golden_models_bits(name):
    if FORMATS[name][0] > 4:
        pytest.skip("the slow model of the layer program adds in 64 bits")
    for seed in shown(range(5)):
        model = random_minifloats(seed, name)
        program = compile_model(model, config_for(model))
        verify(program)
        x = inputs(model, 1, seed)
        expected = golden.run_tensors(model, x)[program.output.tensor]
        np.testing.assert_array_equal(outputs(program, x[0]), expected[0])


@pytest.mark.parametrize("name", ["e4m3 and narrower weights", pytest.param("e2m1", marks=pytest.mark.slow)])
def test_the_hardware_gives_the_golden_models_bits(name):
    for seed in shown(range(6)):
        model = random_minifloats(seed, name)
        config = replace(config_for(model), weight_bits=max(FORMATS[name][2]))
        assert_exact(simulated(model, inputs(model, 2, seed), config))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "lanes", "columns", "dsp"),
    [
        *((name, 2, 4, index % 2 == 0) for index, name in enumerate(FORMATS)),
        ("e4m3", 8, 8, False),
        ("e5m2", 4, 2, True),
    ],
)
def test_more_networks_on_hardware(name, lanes, columns, dsp):
    for seed in shown(range(100, 116)):
        model = random_minifloats(seed, name)
        config = replace(config_for(model, lanes, columns, dsp=dsp), weight_bits=max(FORMATS[name][2]))
        assert_exact(simulated(model, inputs(model, 2, seed), config))


@everywhere
def test_files_hold_minifloats(name, tmp_path):
    model = random_minifloats(3, name)
    zp_file.save(model, tmp_path / "m.zp")
    again = zp_file.load(tmp_path / "m.zp")
    assert zp_file.dumps(again) == zp_file.dumps(model)
    x = inputs(model, 3)
    np.testing.assert_array_equal(golden.run(again, x), golden.run(model, x))


@everywhere
def test_the_network_decides(name):
    exponent_bits, bits, widths = FORMATS[name]
    model = random_minifloats(4, name)
    config = config_for(model)
    there = {tensor.format.bits for key, tensor in model.tensors.items() if key.startswith("weights")}
    assert there <= set(widths)
    assert (config.pe, config.exponent_bits, config.activation_bits) == ("minifloat", exponent_bits, bits)
    assert config.weight_bits == max(there)
    assert compile_model(model, config).images[1].width == 16 * max(there)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"pe": "mac"}, "computes with minifloats, which --pe mac does not; leave the option out"),
        ({"exponent_bits": 3}, "its minifloats are not those of --weight-bits 8 --activation-bits 8 --exponent-bits 3"),
        ({"weight_bits": 6}, "its minifloats are not those of --weight-bits 6 --activation-bits 8"),
        ({"accumulator_width": 37}, "beyond an accumulator of 37 bits; --accumulator-width 40 makes room"),
    ],
)
def test_what_does_not_go_together_is_refused(entries, words):
    model = random_minifloats(9, "e4m3")
    with pytest.raises(ZeropointError) as raised:
        compile_model(model, config_for(model, **entries))
    assert words in str(raised.value)


def test_integers_are_refused_by_the_minifloat_array():
    model = random_model(1)
    with pytest.raises(ZeropointError, match="computes with integers, which --pe minifloat does not"):
        compile_model(model, config_for(model, pe="minifloat"))


def test_a_changed_weight_is_seen():
    model = random_minifloats(1, "e4m3")
    name = next(operator.weights for operator in reversed(model.operators) if isinstance(operator, FullyConnected))
    tensor = model.tensor(name)
    changed = tensor.data.copy()
    changed[:, ::2] = np.where(changed[:, ::2] > 100, 90, changed[:, ::2] + 20)
    other = replace(model, tensors={**model.tensors, name: replace(tensor, data=changed)})
    x = inputs(model, 4)
    program = compile_model(other, config_for(model))
    got = np.stack([outputs(program, each) for each in x])
    assert np.any(got != golden.run_tensors(model, x)[program.output.tensor])


def test_order_is_that_of_values():
    form = MinifloatFormat(3, 2)
    every = np.arange(1 << form.bits)
    integers = in_order(every, form)
    order = np.argsort(form.decode(every), kind="stable")
    assert np.all(np.diff(integers[order]) >= 0)
    np.testing.assert_array_equal(form.decode(from_order(integers, form)), form.decode(every))
    units = format_integers(form, integers)
    np.testing.assert_array_equal(units * 2.0**form.least, form.decode(every))
    with pytest.raises(ValueError, match="codes of 5 bits must be 0 to 31, not 32"):
        from_order([32], form)
