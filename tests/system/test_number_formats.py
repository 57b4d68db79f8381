"""Networks whose weights are powers of two, or of few bits, on the PEs that they choose: bit for bit."""

from dataclasses import replace

import numpy as np
import pytest
from support.engines import assert_exact, simulated, small
from support.executed import outputs
from support.files import random_input
from support.random_models import ModelBuilder, random_model
from support.seeds import shown

from zeropoint import golden
from zeropoint.compiler import compile_model
from zeropoint.compiler.configure import configure
from zeropoint.compiler.verify_program import verify
from zeropoint.errors import ZeropointError
from zeropoint.model import Add
from zeropoint.model.formats import fixed_point, power_of_two
from zeropoint.numerics import Rounding

#: Weights by name: INQ's of all widths, Ristretto's without a 0, narrow integers, and networks that mix them.
FORMATS = {
    "inq5": (power_of_two(3),),
    "inq4": (power_of_two(2),),
    "inq3": (power_of_two(1),),
    "inq2": (power_of_two(0),),
    "inq5-and-2": (power_of_two(3), power_of_two(0)),
    "ristretto": (power_of_two(3, zero=False),),
    "ristretto-and-inq": (power_of_two(3, zero=False), power_of_two(1)),
    "signs": (power_of_two(0, zero=False),),
    "fixed4": (fixed_point(4),),
    "fixed2-and-7": (fixed_point(2), fixed_point(7)),
    "mixed": (power_of_two(3), None),
    "mixed-with-fixed": (power_of_two(2), fixed_point(4), None),
}
PES = {"inq": "shift", "ristretto": "shift", "signs": "shift", "fixed": "mac", "mixed": "mixed"}
everywhere = pytest.mark.parametrize("name", FORMATS)


def config_for(model, lanes, columns):
    return small(configure(model, {"lanes": lanes, "columns": columns, "weight_bytes": 65536}))


def models(name, seeds):
    for seed in shown(seeds):
        rounding = Rounding.EVEN if seed % 2 else None
        yield seed, random_model(seed, more=seed % 3 == 0, formats=FORMATS[name], rounding=rounding)


@everywhere
@pytest.mark.parametrize(("lanes", "columns"), [(4, 4), (8, 2), (2, 8)])
def test_the_layer_program_gives_the_golden_models_bits(name, lanes, columns):
    for seed, model in models(name, range(6)):
        config = config_for(model, lanes, columns)
        program = compile_model(model, config)
        verify(program)
        x = random_input(model, 1, seed)
        expected = golden.run_tensors(model, x)[program.output.tensor]
        np.testing.assert_array_equal(outputs(program, x[0]), expected[0])


@pytest.mark.parametrize(
    "name", ["inq5", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ristretto", "mixed"))]
)
def test_the_hardware_gives_the_golden_models_bits(name):
    """Without constants, of which a network on ``shift`` has none, all models run on one simulator."""
    for seed, model in models(name, (1, 2, 4, 5, 7, 8)):
        assert_exact(simulated(model, random_input(model, 2, seed), on_one(name, model)))


@pytest.mark.slow
@everywhere
@pytest.mark.parametrize(("lanes", "columns"), [(8, 8), (4, 2)])
def test_more_networks_on_hardware(name, lanes, columns):
    for seed, model in models(name, range(100, 130)):
        assert_exact(simulated(model, random_input(model, 2, seed), on_one(name, model, lanes, columns)))


def on_one(name, model, lanes=4, columns=4):
    """Return one configuration for all networks of a name, which may not have all of its formats."""
    forms = FORMATS[name]
    config = config_for(model, lanes, columns)
    if any(form is None for form in forms) or name.startswith("mixed"):
        return replace(config, pe="mixed", weight_bits=8, weight_zero=True)
    if name.startswith("fixed"):
        # A constant takes 8 bits.
        return replace(config, weight_bits=max(config.weight_bits, *(form.bits for form in forms)))
    zero = any(form.zero for form in forms)
    bits = max(form.exponent_bits for form in forms) + 1 + zero
    if str(config.pe) == "mixed":  # constants
        return config
    return replace(config, pe="shift", weight_zero=zero, weight_bits=bits)


@everywhere
def test_weights_choose_the_processing_elements(name):
    model = random_model(1, formats=FORMATS[name], operators=9)
    config = config_for(model, 4, 4)
    forms = {tensor.format for tensor in model.tensors.values() if tensor.data is not None and tensor.dtype != "int32"}
    if forms == set(FORMATS[name]):
        assert config.pe == PES[name.rstrip("0123456789").split("-")[0].rstrip("0123456789")]
    widths = [form.bits for form in forms if form is not None]
    if config.pe == "shift":
        zero = any(form.zero for form in forms)
        assert config.weight_bits == max(form.exponent_bits for form in forms) + 1 + zero
    elif None not in forms and config.pe == "mac":
        assert config.weight_bits == max(widths)
    assert configure(model, {"lanes": 4, "columns": 4, "pe": "mixed"}).pe == "mixed"


def test_packed_weights_take_their_own_width():
    sizes = {}
    for name in ("inq5", "inq4", "inq3", "inq2", "ristretto", "fixed4"):
        model = random_model(2, formats=FORMATS[name])
        program = compile_model(model, config_for(model, 4, 4))
        assert program.images[1].width == 16 * program.config.weight_bits
        sizes[name] = program.weight_bytes / len(program.weights) / 16
    assert sizes == {"inq5": 5 / 8, "inq4": 4 / 8, "inq3": 3 / 8, "inq2": 2 / 8, "ristretto": 4 / 8, "fixed4": 4 / 8}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"pe": "shift"}, r"^operator '\w+' \(\w+\): .* is not ±2\^0 … ±2\^7 or 0, with --pe shift --weight-bits 5; "),
        (
            {"weight_bits": 4},
            r"^operator '\w+' \(\w+\): weight -?\d+ does not fit 4 bits, which hold -8 to 7, with --pe",
        ),
    ],
)
def test_weights_that_the_array_does_not_hold_are_refused(entries, message):
    model = random_model(3, formats=(None,))
    with pytest.raises(ZeropointError, match=message):
        compile_model(model, configure(model, entries))


def test_wide_codes_do_not_fit_a_narrow_array():
    model = random_model(3, formats=FORMATS["inq5"])
    with pytest.raises(ZeropointError, match=r"is not ±2\^0 … ±2\^1 or 0, with --pe shift --weight-bits 3; leave"):
        compile_model(model, configure(model, {"pe": "shift", "weight_bits": 3}))


def test_a_weight_of_0_is_refused_where_there_is_no_code_for_it():
    model = random_model(3, formats=FORMATS["inq3"])
    with pytest.raises(
        ZeropointError, match=r"^operator '\w+' \(\w+\): 0\.0 is not ±2\^0 … ±2\^1, with .* --no-weight-zero; "
    ):
        compile_model(model, configure(model, {"weight_zero": False}))


@pytest.mark.parametrize("value", [0, 3])
def test_constants_are_refused_where_weights_are_powers_of_two_alone(value):
    builder = ModelBuilder(np.random.default_rng(0), formats=FORMATS["ristretto"])
    model = builder.build(builder.constant(Add, builder.conv(builder.input(4, 4, 3), 5, (1, 1)), 1))
    constant = model.tensor(model.operators[-1].other)
    tensors = {**model.tensors, constant.name: replace(constant, data=np.full_like(constant.data, value))}
    model = replace(model, tensors=tensors)
    assert configure(model, {}).pe == "mixed"
    with pytest.raises(
        ZeropointError, match=rf"^constants: {value}\.0 is not ±2\^0 … ±2\^7, with --pe shift --weight-bits 4"
    ):
        compile_model(model, configure(model, {"pe": "shift", "weight_bits": 4, "weight_zero": False}))


@pytest.mark.parametrize(
    ("name", "entries", "chosen"),
    [
        ("ristretto", {"weight_bits": 4}, ("shift", 4, False)),
        ("ristretto", {"weight_bits": 0}, ("shift", 4, False)),
        ("ristretto", {"weight_zero": True}, ("shift", 5, True)),
        ("ristretto", {"pe": "shift"}, ("shift", 4, False)),
        ("inq3", {"weight_bits": 5}, ("shift", 5, True)),
        ("inq2", {"lanes": 1, "columns": 1}, ("shift", 2, True)),
        ("fixed4", {"weight_bits": 6}, ("mac", 6, True)),
    ],
)
def test_what_is_given_counts_and_the_rest_follows(name, entries, chosen):
    config = configure(random_model(3, formats=FORMATS[name]), entries)
    assert (str(config.pe), config.weight_bits, config.weight_zero) == chosen
