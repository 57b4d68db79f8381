"""What the hardware leaves to the host at the end of a network."""

import numpy as np
import pytest
from support.engines import assert_exact, simulated
from support.files import random_input
from support.random_models import ModelBuilder

from zeropoint.compiler import compile_model, partition
from zeropoint.errors import ZeropointError
from zeropoint.model import QuantizedModel
from zeropoint_hw.config import AcceleratorConfig

CONFIG = AcceleratorConfig(
    lanes=4, columns=4, activation_bytes=1024, weight_bytes=4096, parameter_channels=64, program_words=512
)


def builder() -> tuple[ModelBuilder, str]:
    """Return a builder, and the 2 × 3 × 4 tensor that it has built on the hardware."""
    made = ModelBuilder(np.random.default_rng(4))
    return made, made.conv(made.input(4, 5, 3), 4, (3, 3))


def ending(*steps: str) -> QuantizedModel:
    """Return a network that ends in these steps: ``"softmax"``, or a shape such as ``"6 4"``."""
    made, current = builder()
    for step in steps:
        current = made.softmax(current) if step == "softmax" else made.reshape(current, *map(int, step.split()))
    return made.build(current)


@pytest.mark.parametrize(
    ("steps", "host"),
    [
        (["softmax"], ["Softmax"]),
        (["softmax", "24"], ["Softmax", "Reshape"]),
        (["6 4", "softmax", "4 6", "softmax", "2 12"], ["Softmax", "Reshape", "Softmax", "Reshape"]),
        (["24", "2 3 4"], []),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("engine", ["amaranth", "cxxrtl"])
def test_softmax_and_reshapes_at_the_end(steps, host, engine):
    model = ending(*steps)
    assert [operator.kind for operator in partition(model).host] == host
    result = simulated(model, random_input(model, 2, 1), CONFIG, engine=engine)
    assert_exact(result)
    assert [step.op for step in result.program.host_steps] == host
    assert result.outputs.shape == (2, *model.tensor(model.output).shape)
    assert len(np.unique(result.outputs)) > 2


def test_other_operators_after_softmax_are_refused():
    made, current = builder()
    model = made.build(made.requantize(made.reshape(made.softmax(current), 24)))
    words = r"\(Softmax\) runs on the host, so only Softmax and Reshape may follow it, not '.*' \(Requantize\)"
    with pytest.raises(ZeropointError, match=words):
        compile_model(model, CONFIG)


@pytest.mark.parametrize("output", ["hardware", "host"])
def test_a_host_operator_that_nothing_reads_is_refused(output):
    made, current = builder()
    first = made.softmax(current)
    model = made.build(current if output == "hardware" else made.softmax(current))
    with pytest.raises(ZeropointError, match=rf"so what follows must read its output '{first}', not '.*'; remove what"):
        compile_model(model, CONFIG)
