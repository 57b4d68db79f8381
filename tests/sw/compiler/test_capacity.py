"""What is said of networks that do not fit, against configurations made as it advises."""

import re
from dataclasses import replace

import numpy as np
import pytest
from support.random_models import ModelBuilder

from zeropoint.compiler import compile_model
from zeropoint.compiler.capacity import MEMORIES, check_fits
from zeropoint.errors import ZeropointError
from zeropoint_hw.config import AcceleratorConfig

CONFIG = AcceleratorConfig(activation_bytes=1024, weight_bytes=4096, parameter_channels=64, program_words=290, tables=1)


@pytest.mark.parametrize("field", MEMORIES)
def test_what_fits_is_not_refused(field: str) -> None:
    check_fits("net", CONFIG, field, getattr(CONFIG, field))


@pytest.mark.parametrize(
    ("field", "needed", "message"),
    [
        (
            "activation_bytes",
            1025,
            "its activation memory must have 1025 bytes (because), 1 more than the 1024 of this configuration; "
            "--activation-bytes 1032 makes room there, --trim wherever it is short",
        ),
        (
            "program_words",
            319,
            "its program memory must have 319 words (because), 29 more than the 290 of this configuration; "
            "--program-words 319 makes room there, --trim wherever it is short",
        ),
        (
            "weight_bytes",
            (8 << 20) + 64,
            "its weight memory must have 8388672 bytes (because), 8384576 more than the 4096 of this configuration; no "
            "option makes room, because weight_bytes must be 128 to 8388608, not 8388672: use a "
            "smaller network",
        ),
    ],
)
def test_messages(field: str, needed: int, message: str) -> None:
    with pytest.raises(ZeropointError, match=f"^'net' does not fit: {re.escape(message)}$"):
        check_fits("net", CONFIG, field, needed, "because")


@pytest.mark.parametrize("config", [CONFIG, replace(CONFIG, lanes=16, columns=2, requantizers=2, window_taps=1)])
def test_a_network_fits_once_all_advice_is_taken(config: AcceleratorConfig) -> None:
    builder = ModelBuilder(np.random.default_rng(1))
    current = builder.input(9, 9, 5)
    for channels in (33, 41, 27, 31) * 3:
        current = builder.conv(current, channels, (1, 1))
    for _ in range(2):
        current = builder.logistic(builder.requantize(current))
    model = builder.build(current)
    for _ in MEMORIES:
        with pytest.raises(ZeropointError) as info:
            compile_model(model, config)
        (option, size) = re.findall(r"; --([a-z-]+) (\d+) makes room there", str(info.value))[0]
        config = replace(config, **{option.replace("-", "_"): int(size)})
    compile_model(model, config)


def test_the_tensors_that_are_in_use_at_once_are_named() -> None:
    builder = ModelBuilder(np.random.default_rng(1))
    first = builder.input(9, 9, 5)
    second = builder.conv(first, 33, (1, 1))
    words = rf"bytes \(where {first}, {second} are in use at once\), \d+ more than the 1024 "
    with pytest.raises(ZeropointError, match=words):
        compile_model(builder.build(second), CONFIG)


def test_networks_beyond_every_memory() -> None:
    builder = ModelBuilder(np.random.default_rng(1))
    model = builder.build(builder.conv(builder.input(300, 300, 12), 12, (1, 1)))
    with pytest.raises(ZeropointError, match="no option makes room, because activation_bytes must be a multiple of 8"):
        compile_model(model, CONFIG)
