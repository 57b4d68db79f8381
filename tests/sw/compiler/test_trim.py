"""A trimmed accelerator runs its network exactly, and nothing of it can be left out."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from support.executed import outputs
from support.files import random_input
from support.random_models import ModelBuilder, random_model

from zeropoint.compiler.compile import compile_model
from zeropoint.compiler.trim import memory_use, trim
from zeropoint.compiler.verify_program import verify
from zeropoint.errors import ZeropointError
from zeropoint.golden import run_tensors
from zeropoint.model import Mul, Padding, QuantizedModel
from zeropoint_hw.config import MOST_BITS, AcceleratorConfig, PEKind, WeightSource

CONFIGS = {
    "8x8": AcceleratorConfig(),
    "1x1": AcceleratorConfig(lanes=1, columns=1),
    "4x4-fold": AcceleratorConfig(lanes=4, columns=4, requantizers=2, pe=PEKind.FOLD, weight_source=WeightSource.ROM),
    "8x4": AcceleratorConfig(lanes=8, columns=4, window_taps=5),
}
everywhere = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
#: What a network has no say in.
KEPT = ("lanes", "columns", "requantizer", "pe", "weight_bits", "activation_bits", "exponent_bits", "weight_zero")
KEPT += ("dsp", "weight_source", "digit_bits", "prefetch", "log", "memory_registers")
KEPT += ("weight_store", "weight_buffer", "activation_ports", "flash_offset")


def smaller(config: AcceleratorConfig) -> dict[str, AcceleratorConfig]:
    """Return the configurations that have one thing less, or a memory that is a step smaller, by its field."""
    found = {}
    for name in (field.name for field in fields(config) if field.name not in (*KEPT, "requantizers", "window_taps")):
        value = getattr(config, name)
        if name in MOST_BITS and value == 1:  # 0 stands for what the memory asks for
            continue
        less: Any = False if isinstance(value, bool) else value - config.memories.get(name, (1,))[0]
        try:
            found[name] = replace(config, **{name: less})
        except ValueError:  # it is the least already
            continue
    return {name: other for name, other in found.items() if other != config}


@everywhere
@pytest.mark.parametrize("seed", range(10))
def test_a_trimmed_accelerator_is_exact_and_nothing_can_be_left_out(config: AcceleratorConfig, seed: int) -> None:
    model = random_model(seed, 7, size=7, more=seed % 3 > 0)
    trimmed = trim(model, config)
    assert [getattr(trimmed, name) for name in KEPT] == [getattr(config, name) for name in KEPT]
    assert trimmed.requantizers <= config.requantizers
    program = compile_model(model, trimmed)
    verify(program)
    for name, other in smaller(trimmed).items():
        with pytest.raises(ZeropointError, match=rf"--{name.replace('_', '-')}\b"):
            compile_model(model, other)
    windows = any(instruction.window for instruction in program.instructions)
    assert trimmed.window_taps == (config.window_taps if windows else 1)
    assert trim(model, trimmed) == trimmed
    x = random_input(model, 1, seed)
    np.testing.assert_array_equal(outputs(program, x[0]), run_tensors(model, x)[program.output.tensor][0])


def model_of(*layers: str) -> QuantizedModel:
    """Return a network of a convolution and what ``layers`` name."""
    builder = ModelBuilder(np.random.default_rng(2))
    current = builder.conv(builder.input(6, 6, 8), 8, (3, 3), padding=Padding(1, 1, 1, 1), like="input")
    for layer in layers:
        current = {
            "add": lambda source: builder.add(source, "input"),
            "mul": lambda source: builder.constant(Mul, source, 8),
            "logistic": builder.logistic,
            "depthwise": lambda source: builder.depthwise(source, (3, 3), padding=Padding(1, 1, 1, 1)),
        }[layer](current)
    return builder.build(current)


@pytest.mark.parametrize(
    ("layers", "has"),
    [
        ((), {}),
        (("add",), {"elementwise": True}),
        (("mul",), {"elementwise": True}),
        (("logistic",), {"tables": 1}),
        (("depthwise",), {"window_taps": 3}),
        (("add", "logistic", "depthwise", "logistic"), {"elementwise": True, "tables": 2, "window_taps": 3}),
    ],
)
def test_only_what_a_network_needs_is_there(layers: tuple[str, ...], has: dict[str, Any]) -> None:
    trimmed = trim(model_of(*layers), AcceleratorConfig())
    found = {name: getattr(trimmed, name) for name in ("elementwise", "left_shift", "tables", "window_taps")}
    assert found == {"elementwise": False, "left_shift": False, "tables": 0, "window_taps": 1} | has


def test_what_a_configuration_lacks_is_put_in() -> None:
    bare = AcceleratorConfig(
        elementwise=False,
        left_shift=False,
        tables=0,
        accumulator_width=20,
        activation_bytes=64,
        weight_bytes=128,
        parameter_channels=16,
        program_words=29,
    )
    model = model_of("add", "logistic")
    with pytest.raises(ZeropointError):
        compile_model(model, bare)
    # Only a window cannot be put in: how many taps it has is not the network's to say.
    assert trim(model, bare) == trim(model, AcceleratorConfig())


def test_memory_use_is_that_of_the_program() -> None:
    program = compile_model(model_of("logistic"), AcceleratorConfig())
    used = memory_use(program)
    assert used["weight_bytes"] == program.weights.size
    assert used["program_words"] == 29 * len(program.instructions)
    assert used["tables"] == 1
    assert used["activation_bytes"] >= max(buffer.address + buffer.size for buffer in program.tensors.values())


def test_a_scratch_tensor_counts() -> None:
    builder = ModelBuilder(np.random.default_rng(2))
    x = builder.input(6, 6, 8)
    program = compile_model(builder.build(builder.add_constant(x)), AcceleratorConfig())
    # The input, the output and the constant in the output's shape.
    assert memory_use(program)["activation_bytes"] == 3 * 288


@pytest.mark.parametrize(("channels", "requantizers"), [(8, 8), (16, 4), (32, 2), (64, 1)])
def test_requantizers_keep_up_with_the_array(channels: int, requantizers: int) -> None:
    """A pointwise convolution takes a cycle for 8 input channels; then 8 outputs are to be scaled."""
    builder = ModelBuilder(np.random.default_rng(1))
    model = builder.build(builder.conv(builder.input(12, 12, channels), 8, (1, 1)))
    trimmed = trim(model, AcceleratorConfig())
    assert trimmed.requantizers == requantizers
    assert all(instruction.idle == 0 for instruction in compile_model(model, trimmed).instructions)
    assert trim(model, AcceleratorConfig(requantizers=1)).requantizers == 1
