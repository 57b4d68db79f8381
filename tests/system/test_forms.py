"""Small networks that between them have every form of instruction, on Amaranth's simulator.

They are what functional coverage counts on: each has something that none of the others has, as ``make coverage`` shows
where one is left out.
"""

from dataclasses import replace

import numpy as np
import pytest
from support.engines import assert_exact, simulated, small
from support.files import random_input
from support.fixed_models import random_fixed_model
from support.random_minifloats import random_minifloats
from support.random_models import ModelBuilder, random_model

from zeropoint.compiler.configure import configure
from zeropoint.compiler.trim import trim
from zeropoint.model import Mul, Sub
from zeropoint.model.formats import power_of_two
from zeropoint.numerics import Rounding
from zeropoint_hw.config import AcceleratorConfig

INQ = power_of_two(3)
RISTRETTO = power_of_two(3, zero=False)


def array(**entries):
    return AcceleratorConfig(**{"lanes": 4, "columns": 4, **entries})


def sums(seed):
    """Return a network of a sum, a difference and a product of two tensors, and a table at its end."""
    builder = ModelBuilder(np.random.default_rng(seed), "int8")
    x = builder.input(2, 3, 3)
    other = builder.conv(x, 3, (1, 1))
    made = builder.binary(Mul, builder.binary(Sub, x, other), builder.binary(Sub, other, x, reverse=True))
    return builder.build(builder.fully_connected(builder.leaky_relu(made, -0.5), 3), Rounding.DOUBLE)


def pooled():
    """Return a network whose convolution is pooled before it is written."""
    builder = ModelBuilder(np.random.default_rng(1), "int8")
    x = builder.max_pool(builder.conv(builder.input(4, 4, 3), 5, (1, 1)), (2, 2), stride=(2, 2))
    return builder.build(builder.fully_connected(x, 3))


def gated():
    """Return a network with two tables, and what a configuration can leave out."""
    builder = ModelBuilder(np.random.default_rng(4), "uint8")
    x = builder.input(4, 4, 4)
    gate = builder.logistic(builder.depthwise(x, (3, 3)))
    made = builder.binary(Mul, gate, builder.strided_slice(x, (1, 1, 0), (1, 1, 1), (2, 2, 4)))
    return builder.build(builder.fully_connected(builder.leaky_relu(made, 0.2), 3))


def coded(seed, form, **entries):
    """Return a random network whose weights are codes, and what runs it."""
    model = random_model(seed, 4, 5, seed % 3 == 0, (form,), Rounding.EVEN if seed % 2 else None)
    return model, replace(small(configure(model, {"lanes": 4, "columns": 4})), **entries)


def fixed(seed, bits, widths, rounding):
    """Return a random network of dynamic fixed point, and what runs it."""
    model = replace(random_fixed_model(seed, bits, widths, more=seed % 2 == 0), rounding=rounding)
    config = small(configure(model, {"lanes": 4, "columns": 4, "weight_bytes": 65536}))
    return model, replace(config, activation_bytes=32768, weight_bits=max(8, bits))


def integers(seed, operators, size, rounding=None, **entries):
    """Return a random network, and the smallest accelerator that runs it."""
    model = random_model(seed, operators, size)
    model = model if rounding is None else replace(model, rounding=rounding)
    return model, trim(model, array(**entries))


def trimmed(model, **entries):
    return model, trim(model, array(**entries))


def floats():
    model = random_minifloats(3, "e4m3 and narrower weights")
    return model, small(configure(model, {"lanes": 4, "columns": 4}))


FORMS = {
    "powers of two without 0, constants": lambda: coded(43, RISTRETTO),
    "powers of two without 0, copies": lambda: coded(21, RISTRETTO, pe="shift", weight_zero=False, weight_bits=4),
    "powers of two without 0, depthwise": lambda: coded(0, RISTRETTO, pe="shift", weight_zero=False, weight_bits=4),
    "powers of two beside integers": lambda: coded(9, INQ, pe="mixed", weight_bits=8, weight_zero=True),
    "padding": lambda: integers(9, 4, 5, pe="fold"),
    "kernel rows in pairs": lambda: integers(43, 6, 9),
    "minifloats": floats,
    "one requantizer": lambda: (random_model(12, 5, 6), array(requantizers=1)),
    "serial requantizers, rounded once": lambda: integers(
        0, 4, 5, Rounding.SINGLE, lanes=2, columns=2, requantizer="serial"
    ),
    "serial requantizers, to even": lambda: integers(0, 4, 5, Rounding.EVEN, lanes=2, columns=2, requantizer="serial"),
    "fixed point of 16 bits": lambda: fixed(12, 16, (8, 16), Rounding.EVEN),
    "fixed point, rounded half up": lambda: fixed(23, 8, (8,), Rounding.SINGLE),
    "pooled": lambda: trimmed(pooled()),
    "sums": lambda: trimmed(sums(1)),
    "tables in a ROM": lambda: trimmed(gated(), weight_source="rom"),
    "weights in the activation memory": lambda: trimmed(gated(), weight_store="shared"),
    "weights in a flash": lambda: trimmed(pooled(), weight_store="flash", weight_source="flash"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form(form):
    model, config = FORMS[form]()
    inferences = 2 if form == "pooled" else 1
    assert_exact(simulated(model, random_input(model, inferences, 1), config, "amaranth", tensors=False))
