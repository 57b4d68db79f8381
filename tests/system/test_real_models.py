"""Networks that nobody in this project made: every tensor that the hardware writes, and the oracle's outputs."""

import pytest
from support import real_models
from support.engines import assert_exact, simulated
from support.real_models import MODELS, needs_models

from zeropoint.compiler.trim import trim
from zeropoint.importers import load
from zeropoint_hw.config import AcceleratorConfig

pytestmark = needs_models


def check(name, config, count):
    model = load(real_models.path(name))
    x = real_models.inputs(name, model, count)
    result = simulated(model, x, config)
    assert_exact(result)
    real_models.assert_oracles(name, x, result.outputs)


@pytest.mark.parametrize("name", MODELS)
def test_hardware_gives_the_oracles_outputs(name):
    check(name, AcceleratorConfig(), 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_hardware_gives_the_oracles_outputs_for_many_inputs(name):
    check(name, AcceleratorConfig(), 12)


@pytest.mark.slow
@pytest.mark.parametrize("pe", ["mac", "fold"])
def test_hardware_without_what_the_network_does_not_need(pe):
    name = "kws_ref_model"
    check(name, trim(load(real_models.path(name)), AcceleratorConfig(pe=pe)), 2)
