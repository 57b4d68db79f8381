"""Running models on the simulated hardware in tests."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pytest

from support import coverage
from zeropoint.cli import simulation
from zeropoint.model import QuantizedModel
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_sim import cxxrtl_build, verilog_build
from zeropoint_sim.simulate import SimulationResult


def need(engine: str) -> str:
    """Return ``engine``, or skip the test where its tools are not installed."""
    try:
        if engine == "cxxrtl":
            cxxrtl_build.find_tools()
        elif engine in verilog_build.SIMULATORS:
            verilog_build.find(engine)
    except cxxrtl_build.EngineUnavailable as error:
        pytest.skip(str(error))
    return engine


def simulated(
    model: QuantizedModel,
    x: npt.NDArray[Any],
    config: AcceleratorConfig,
    engine: str = "cxxrtl",
    program: Path | None = None,
    tensors: bool = True,
) -> SimulationResult:
    """Return what the hardware makes of ``x``, every tensor that it writes compared with the golden model."""
    result = simulation.run(model, x, config, engine=need(engine), program=program, tensors=tensors)
    coverage.simulated(model, x, result)
    return result


def assert_exact(result: SimulationResult) -> None:
    """Check that nothing differs, and that the counts agree with each other."""
    assert result.faults == ()
    assert (result.mismatches, result.exact) == (0, len(result.outputs))
    assert len(result.cycles) == len(result.outputs)
    assert min(result.cycles) > 0
    assert 0 < result.utilization <= 1
    assert sum(result.stalls.values()) == result.cycles[-1]
    assert sum(layer.macs for layer in result.layers) == result.program.macs


def small(config: AcceleratorConfig) -> AcceleratorConfig:
    """Return the configuration with memories that random models need, which are built sooner."""
    sizes = {"activation_bytes": 16384, "weight_bytes": 65536, "parameter_channels": 1024, "program_words": 8192}
    sizes["tables"] = 15
    return replace(config, **sizes)


#: Accelerators for all tests that want several: a simulator of each is built once. Lanes divide the channels, or
#: do not; there may be fewer columns, and beats of one channel.
SHAPES = {
    "1x1-mac": small(AcceleratorConfig(lanes=1, columns=1)),
    "4x4-fold": small(AcceleratorConfig(lanes=4, columns=4, pe="fold")),
    "8x4-mac": small(AcceleratorConfig(lanes=8, columns=4, requantizers=2)),
}

#: A test on each of them, the last one in the long suite.
everywhere = pytest.mark.parametrize(
    "config",
    [
        pytest.param(each, marks=[pytest.mark.slow] if name == "8x4-mac" else [], id=name)
        for name, each in SHAPES.items()
    ],
)
