"""Whole networks on the Verilog that ships: every tensor is the golden model's, every cycle the other engines'."""

from dataclasses import replace

import numpy as np
import pytest
from support.engines import assert_exact, need, simulated
from support.files import random_input
from support.random_models import random_model

from zeropoint import golden
from zeropoint.compiler import compile_model
from zeropoint.compiler.configure import configure
from zeropoint.compiler.trim import trim
from zeropoint.host.driver import Driver
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import Command, Region, Register, address
from zeropoint_sim import cxxrtl_build
from zeropoint_sim.bench import Stalls
from zeropoint_sim.design import accelerator
from zeropoint_sim.verilog_engine import VerilogEngine

#: Of its own for each PE kind, lanes and columns.
CONFIGS = [
    AcceleratorConfig(lanes=4, columns=2, pe="fold"),
    AcceleratorConfig(lanes=2, columns=4, pe="mac", weight_source="rom"),
]


def same(first, second):
    """Check that two engines gave the same outputs, cycles and counters."""
    np.testing.assert_array_equal(first.outputs, second.outputs)
    for each in ("cycles", "layers", "stalls", "simulated_cycles", "mismatches"):
        assert getattr(first, each) == getattr(second, each), each


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["verilator", "icarus"])
@pytest.mark.parametrize("seed", range(4))
def test_random_networks_equal_the_golden_model_and_the_other_engines(seed, engine):
    model = random_model(seed)
    x = random_input(model, 2, seed)
    config = trim(model, CONFIGS[seed % len(CONFIGS)])
    results = [simulated(model, x, config, each) for each in ("cxxrtl", need(engine))]
    assert_exact(results[1])
    same(*results)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["verilator", "icarus"])
def test_programs_change_and_inferences_follow_each_other(engine):
    """One accelerator, loaded with one network after the other; the first comes back at the end."""
    models = [random_model(seed) for seed in (0, 1, 0)]
    sizes = {"activation_bytes": 16384, "weight_bytes": 65536, "parameter_channels": 1024, "program_words": 8192}
    config = replace(AcceleratorConfig(lanes=2, columns=2, tables=15), **sizes)
    programs = [compile_model(model, configure(model, config.to_dict())) for model in models]
    assert len({repr(program.config) for program in programs}) == 1
    identity = cxxrtl_build.design_identity("zeropoint_hw") + repr(programs[0].config).encode()
    transport = VerilogEngine(need(engine), lambda: accelerator(programs[0]), identity)
    try:
        for model, program in zip(models, programs, strict=True):
            driver = Driver(transport, program)
            x = random_input(model, 3)
            expected = golden.run_tensors(model, x)[program.output.tensor]
            for values, golden_values in zip(x, expected, strict=True):
                np.testing.assert_array_equal(driver.run(values).reshape(golden_values.shape), golden_values)
            # Half a run by single steps, given up for a run from the start.
            driver.write(program.input, x[0])
            transport.run(Command.STEP, 100_000)
            np.testing.assert_array_equal(driver.run(x[0]).reshape(expected[0].shape), expected[0])
            assert driver.register(Register.INSTRUCTIONS) == len(program.instructions)
    finally:
        transport.close()


class Stalling:
    """A transport that makes its accesses in pieces, with idle cycles between and the bus inputs held as they were."""

    def __init__(self, transport, stalls):
        self._transport, self._stalls = transport, stalls
        self.run = transport.run

    def _pieces(self, count):
        """Yield the limits of pieces of random lengths."""
        start = 0
        while start < count:
            stop = start + 1
            while stop < count and not self._stalls.hold():
                stop += 1
            yield start, stop
            while self._stalls.hold():
                idle(self._transport)
            start = stop

    def write(self, first, words, stride=1):
        for start, stop in self._pieces(len(words)):
            self._transport.write(first + start * stride, words[start:stop], stride)

    def read(self, first, count, stride=1):
        pieces = [self._transport.read(first + a * stride, b - a, stride) for a, b in self._pieces(count)]
        return np.concatenate(pieces)


def idle(transport, cycles=1, **inputs):
    """Spend clock cycles with other inputs than the bus's."""
    for _ in range(cycles):
        transport._simulation.request("cycle", set=inputs, get=[])


@pytest.fixture(params=["verilator", pytest.param("icarus", marks=pytest.mark.slow)])
def loaded(request):
    """A small network, its program, its golden outputs for some inputs, and an engine that is closed at the end."""
    model = random_model(2)
    config = trim(model, AcceleratorConfig(lanes=2, columns=2))
    program = compile_model(model, config)
    x = random_input(model, 3)
    identity = cxxrtl_build.design_identity("zeropoint_hw") + repr(config).encode()
    transport = VerilogEngine(need(request.param), lambda: accelerator(program), identity)
    yield program, x, golden.run_tensors(model, x)[program.output.tensor], transport
    transport.close()


def test_a_host_that_stalls_at_random_gets_the_same(loaded):
    program, x, expected, transport = loaded
    driver = Driver(Stalling(transport, Stalls(seed=11, probability=0.2)), program)
    cycles = []
    for values, golden_values in zip(x, expected, strict=True):
        np.testing.assert_array_equal(driver.run(values).reshape(golden_values.shape), golden_values)
        cycles.append(driver.register(Register.CYCLES))
    assert len({*cycles}) == 1


def test_a_reset_in_the_middle_of_a_run_leaves_no_trace(loaded):
    program, x, expected, transport = loaded
    driver = Driver(transport, program)
    whole = None
    status = address(Region.CONTROL, Register.STATUS)
    for spent in (None, 1, 17, 100, 251):
        if spent is not None:
            driver.write(program.input, x[1])
            transport.write(status, np.array([Command.RUN], np.uint32))
            idle(transport, spent)
            assert transport.read(status, 1).tolist() == [1]
            idle(transport, 1, rst=1)
            idle(transport, 1, rst=0)
            assert transport.read(status, 1).tolist() == [0]
        np.testing.assert_array_equal(driver.run(x[0]).reshape(expected[0].shape), expected[0])
        cycles = driver.register(Register.CYCLES)
        assert whole in (None, cycles)
        whole = cycles
    assert whole > 260
