"""What the tests of the virtual board share: one configuration, which is built once, and a small network."""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from support.engines import need
from support.networks import Builder
from zeropoint.compiler import compile_model
from zeropoint.compiler.program import Program
from zeropoint.model import QuantizedModel
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_sim.virtual_board import VirtualBoard

#: Holds the demo network, and DS-CNN.
CONFIG = AcceleratorConfig(
    lanes=4,
    columns=4,
    weight_zero_points=False,
    ties_to_even=False,
    tables=0,
    activation_bytes=16384,
    weight_bytes=24576,
    parameter_channels=640,
    program_words=512,
)


@cache
def small_network(classes: int = 5) -> tuple[QuantizedModel, Program]:
    """Return a network of two layers, and its program."""
    builder = Builder(np.random.default_rng(3), (8, 8, 3))
    builder.conv(4, (3, 3))
    model = builder.head((8, 8), classes)
    return model, compile_model(model, CONFIG)


def inputs(model: QuantizedModel, count: int, seed: int = 0) -> npt.NDArray[Any]:
    """Return random inputs."""
    shape = model.tensor(model.input).shape
    return np.random.default_rng(seed).integers(-128, 128, (count, *shape)).astype(np.int8)


def virtual_board(**options: Any) -> VirtualBoard:
    """Return a virtual board of that configuration, or skip the test where it cannot be built."""
    need("cxxrtl")
    return VirtualBoard(CONFIG, **options)
