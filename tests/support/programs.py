"""Programs to write, read and take apart, that need no compiler."""

from typing import Any

import numpy as np

from zeropoint.compiler.program import Buffer, HostStep, HostTensor, Layer, Parameters, Program
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import FIELDS, Accumulate, Instruction, Round


def random_instruction(rng: np.random.Generator) -> Instruction:
    """Return an instruction with anything that each field holds."""
    entries: dict[str, Any] = {}
    for field in FIELDS:
        low, high = (-(1 << field.width - 1), 1 << field.width - 1) if field.signed else (0, 1 << field.width)
        entries[field.name] = int(rng.choice([low, high - 1, int(rng.integers(low, high))]))
        entries[field.name] += field.name in Instruction.COUNTS
    entries["accumulate"] = Accumulate(int(rng.integers(len(Accumulate))))
    entries["rounding"] = Round(int(rng.integers(len(Round))))
    return Instruction(**entries)


def random_parameters(rng: np.random.Generator, count: int) -> Parameters:
    """Return parameters with anything that they may hold, the extremes among them."""
    bias = rng.integers(-(2**31), 2**31, count)
    multiplier = rng.integers(0, 2**31, count)
    shift = rng.integers(-31, 31, count)
    bias[:2], multiplier[:2], shift[:2] = (-(2**31), 2**31 - 1), (0, 2**31 - 1), (-31, 30)
    return Parameters(bias.astype(np.int32), multiplier.astype(np.uint32), shift.astype(np.int8))


def make_program(seed: int = 0, **changes: Any) -> Program:
    """Return a program with random contents; it computes nothing."""
    rng = np.random.default_rng(seed)
    config = AcceleratorConfig(lanes=4, columns=2, activation_bytes=4096, weight_bytes=80 * 8, parameter_channels=64)
    first = Buffer("input", 0, (4, 5, 3), "int8", 0.1, -128)
    hidden = Buffer("hidden/Relu;1", 64, (2, 2, 7), "int8", float(np.float32(0.037)), 3)
    last = Buffer("logits", 0, (10,), "int8", 1e-5, 127)
    entries: dict[str, Any] = {
        "config": config,
        "name": "a network",
        "model_sha256": "0123456789abcdef" * 4,
        "instructions": tuple(random_instruction(rng) for _ in range(5)),
        "weights": rng.integers(0, 256, (73, 8), dtype=np.uint8),
        "parameters": random_parameters(rng, 24),
        "tables": rng.integers(0, 256, (2, 256), dtype=np.uint8),
        "input": first,
        "output": last,
        "tensors": {buffer.tensor: buffer for buffer in (first, hidden, last)},
        "layers": (
            Layer("conv", "Conv2D", "hidden/Relu;1", 0, 2, 1_000_000_007),
            Layer("dense", "FullyConnected", "logits", 2, 3, 280),
        ),
        "host_steps": (
            HostStep(
                "softmax",
                "Softmax",
                HostTensor("logits", (10,), "int8", 1e-5, 127),
                HostTensor("probabilities", (10,), "int8", 1 / 256, -128),
                {"beta": 1.5},
            ),
        ),
        "metadata": {"scheme": "affine-int8", "note": 'über\n"alles"'},
    }
    return Program(**(entries | changes))
