"""Dynamic fixed point on requantizers that only shift: bit for bit."""

from dataclasses import replace

import numpy as np
import pytest
from support import layer_program
from support.engines import assert_exact, simulated, small
from support.executed import outputs
from support.files import random_input
from support.fixed_models import FixedBuilder, random_fixed_model
from support.random_models import ModelBuilder
from support.seeds import shown

from zeropoint import golden
from zeropoint.cli.demo import demo_files
from zeropoint.compiler import compile_model
from zeropoint.compiler.configure import configure
from zeropoint.compiler.verify_program import verify
from zeropoint.errors import ZeropointError
from zeropoint.export import onnx_qdq
from zeropoint.model import AveragePool2D, Mul, Padding, Quantization, Tensor
from zeropoint.numerics import Rounding
from zeropoint.quantize import Scheme, quantize
from zeropoint_hw.config import AcceleratorConfig

WIDTHS = {4: (4,), 6: (2, 5, 8), 8: (8,), 16: (8, 16)}


def config_for(model, lanes=4, columns=4, **entries):
    config = small(configure(model, {"lanes": lanes, "columns": columns, "weight_bytes": 131072, **entries}))
    # Numbers of 16 bits take twice the memory.
    return replace(config, activation_bytes=32768, weight_bytes=131072)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize(("lanes", "columns"), [(4, 4), (8, 2), (2, 8)])
def test_the_layer_program_gives_the_golden_models_bits(bits, lanes, columns):
    for seed in shown(range(4)):
        model = random_fixed_model(seed, bits, WIDTHS[bits], more=seed % 2 == 0)
        config = config_for(model, lanes, columns)
        assert (config.requantizer, config.requantizer_multipliers) == ("shift", 0)
        program = compile_model(model, config)
        verify(program)
        x = random_input(model, 1, seed)
        expected = golden.run_tensors(model, x)[program.output.tensor]
        np.testing.assert_array_equal(outputs(program, x[0]), expected[0])


@pytest.mark.parametrize("bits", WIDTHS)
def test_the_hardware_gives_the_golden_models_bits(bits):
    for seed in shown(range(10, 16)):
        model = random_fixed_model(seed, bits, WIDTHS[bits], more=seed % 2 == 0)
        config = replace(config_for(model), weight_bits=max(8, bits))
        assert_exact(simulated(model, random_input(model, 2, seed), config))


@pytest.mark.slow
@pytest.mark.parametrize(("lanes", "columns"), [(8, 8), (4, 2)])
@pytest.mark.parametrize("bits", WIDTHS)
def test_more_networks_on_hardware(bits, lanes, columns):
    for seed in shown(range(100, 130)):
        model = random_fixed_model(seed, bits, WIDTHS[bits], more=seed % 2 == 0)
        config = replace(config_for(model, lanes, columns), weight_bits=max(8, bits))
        assert_exact(simulated(model, random_input(model, 2, seed), config))


def demo_network(bits, scheme=Scheme.DYNAMIC_FIXED, **options):
    """Return the demo network in fixed point, some images, and the part of all images that it classifies right."""
    network, calibration, images, labels = demo_files()
    model = quantize(network, calibration, scheme=scheme, bits=bits, **options)
    x = model.tensor(model.input).quantize(images)
    right = golden.run(model, x).reshape(len(x), -1).argmax(axis=1) == labels
    return model, x[:1], float(np.mean(right))


#: Accuracies of the demo network in dynamic fixed point: the float network's is 0.89. Four bits everywhere are too few.
ACCURACY = {4: 0.15, 8: 0.89, 16: 0.89}


@pytest.mark.parametrize("bits", ACCURACY)
def test_the_demo_network_needs_no_multiplier_but_the_arrays(bits):
    model, x, accuracy = demo_network(bits, means_as_weights=True)
    assert accuracy >= ACCURACY[bits]
    config = config_for(model)
    assert (config.requantizer, config.weight_bits) == ("shift", bits)
    # The accelerator of the random networks.
    assert_exact(simulated(model, x, replace(config, weight_bits=max(8, bits))))


def test_scales_that_are_no_powers_of_two_choose_multipliers():
    network, calibration, _, _ = demo_files()
    model = quantize(network, calibration, scheme=Scheme.AFFINE_INT8)
    assert configure(model, {}).requantizer == "multiplier"
    message = r"^operator '.+' \(\w+\) scales by other numbers than powers of two down to 2\^-31, which --requantizer "
    with pytest.raises(ZeropointError, match=message + r"shift cannot do; choose --requantizer multiplier$"):
        compile_model(model, configure(model, {"requantizer": "shift"}))


@pytest.mark.parametrize(
    ("window", "padding", "kind"),
    [
        ((2, 2), Padding(), "shift"),
        ((2, 2), Padding(1, 0, 0, 1), "shift"),
        ((3, 3), Padding(), "multiplier"),
        ((4, 4), Padding(1, 1, 1, 1), "multiplier"),
    ],
)
def test_counts_of_averages_choose_requantizers(window, padding, kind):
    builder = ModelBuilder(np.random.default_rng(0))
    operator = AveragePool2D(name="pool", input="input", output="out", window=window, padding=padding)
    builder.tensors["input"] = Tensor("input", (6, 6, 3), "int8", Quantization((0.5,)))
    shape = operator.output_shape((6, 6, 3))
    builder.tensors["out"] = Tensor("out", shape, "int8", Quantization((0.5,)))
    builder.operators.append(operator)
    model = builder.build("out", Rounding.EVEN)
    assert configure(model, {}).requantizer == kind
    config = small(configure(model, {"lanes": 4, "columns": 4, "requantizer": "shift"}))
    if kind == "multiplier":
        with pytest.raises(ZeropointError, match=r"; choose --requantizer multiplier, or quantize with --means-as-w"):
            compile_model(model, config)
        return
    every = np.arange(-128, 128).astype(np.int8)
    x = np.random.default_rng(1).choice(every, (3, 6, 6, 3))
    program = compile_model(model, config)
    for values, expected in zip(x, golden.run(model, x), strict=True):
        np.testing.assert_array_equal(outputs(program, values), expected)


@pytest.mark.parametrize(
    ("rounding", "zero_point", "operator", "problem"),
    [
        (Rounding.DOUBLE, 0, None, "rounds twice"),
        (Rounding.EVEN, 3, None, "has outputs with a zero point"),
        (Rounding.EVEN, 0, Mul, "multiplies two tensors"),
    ],
)
def test_what_shifts_do_not_do_is_refused(rounding, zero_point, operator, problem):
    builder = FixedBuilder(np.random.default_rng(0), 8, (8,))
    out = builder.conv(builder.input(3, 3, 5), 5, (1, 1))
    builder.tensors[out] = replace(
        builder.tensors[out], quantization=replace(builder.tensors[out].quantization, zero_point=(zero_point,))
    )
    if operator is not None:
        out = builder.binary(operator, "input", out)
    model = builder.build(out, rounding)
    assert configure(model, {}).requantizer == "multiplier"
    config = configure(model, {"requantizer": "shift"})
    with pytest.raises(
        ZeropointError, match=rf"^operator '\w+' \(\w+\) {problem}, which --requantizer shift cannot do; "
    ):
        compile_model(model, config)
    program = compile_model(model, replace(config, requantizer="multiplier"))
    with pytest.raises(ZeropointError, match=r"which is not for requantizer = shift$"):
        verify(replace(program, config=config))


def test_a_fault_of_the_shifter_is_seen(monkeypatch):
    model = random_fixed_model(13, 4)
    rounded = layer_program.shifted
    monkeypatch.setattr(layer_program, "shifted", lambda a, s, r, c: rounded(a + (1 << max(-s, 0)), s, r, c))
    program = compile_model(model, config_for(model))
    x = random_input(model, 1, 13)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        np.testing.assert_array_equal(outputs(program, x[0]), golden.run(model, x)[0])


def test_activations_of_another_width_are_refused(tmp_path):
    wide, narrow = random_fixed_model(1, 16), random_fixed_model(1, 8)
    assert configure(wide, {}).activation_bits == configure(wide, {}).weight_bits == 16
    for model, bits, own in ((wide, 8, 16), (narrow, 16, 8)):
        message = rf"has activations of {own} bits, which --pe mac --activation-bits {bits} does not take"
        with pytest.raises(ZeropointError, match=message):
            compile_model(model, configure(model, {"activation_bits": bits}))
    with pytest.raises(ZeropointError, match=r"its output has 16 bits, which QDQ does not say; quantize with 8 for"):
        onnx_qdq.write(wide, tmp_path / "m.onnx")


def test_wide_configurations_shift_and_have_no_tables():
    config = AcceleratorConfig(activation_bits=16, requantizer="multiplier", tables=3, weight_zero_points=True)
    assert (config.requantizer, config.tables, config.weight_zero_points) == ("shift", 0, False)
    assert (config.weight_bits, config.accumulator_width, config.activation_elements) == (16, 48, 32768)
    with pytest.raises(ValueError, match=r"^activation_bits must be 8 for pe = fold, not 16$"):
        AcceleratorConfig(activation_bits=16, pe="fold")


@pytest.mark.slow
def test_wide_multipliers_of_adders():
    model = random_fixed_model(13, 16)
    config = replace(config_for(model, 2, 2), weight_bits=16, dsp=False)
    assert_exact(simulated(model, random_input(model, 1, 13), config))


@pytest.mark.slow
def test_the_other_engine_agrees():
    model = random_fixed_model(15, 16)
    config = replace(config_for(model, 2, 2), weight_bits=16, weight_bytes=65536)
    assert_exact(simulated(model, random_input(model, 1, 15), config, "amaranth"))
