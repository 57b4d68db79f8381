"""A small network on the netlists that Yosys makes of the whole accelerator: what is placed, cell by cell."""

from dataclasses import replace

import numpy as np
import pytest
from support.engines import assert_exact, need
from support.files import random_input
from support.netlists import NETLISTS, netlist
from support.random_models import ModelBuilder, random_model

from zeropoint import golden
from zeropoint.compiler import compile_model
from zeropoint.compiler.trim import trim
from zeropoint.model import Padding
from zeropoint_boards.boards import find
from zeropoint_boards.netlist_verilog import to_verilog
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_sim import verilog_build
from zeropoint_sim.design import accelerator
from zeropoint_sim.simulate import run_on, simulate
from zeropoint_sim.verilog_engine import VerilogEngine

#: For each kind of netlist an array that its devices would have: with DSP blocks, and with few of them.
CONFIGS = {
    "ecp5": AcceleratorConfig(lanes=2, columns=2),
    "ice40": AcceleratorConfig(lanes=2, columns=2, requantizers=1),
}


def network(kind):
    """Return a network, its program and two inputs."""
    model = random_model(2)
    return model, compile_model(model, trim(model, CONFIGS[kind])), random_input(model, 2)


def run(made, program, x, tensors, output):
    """Run a program on a netlist of its accelerator."""
    text = to_verilog(made, verilog_build.TOP)
    transport = VerilogEngine(need("verilator"), lambda: None, text.encode(), to_verilog=lambda design, name: text)
    try:
        return run_on(transport, program, x, tensors[output], tensors)
    finally:
        transport.close()


def same_before_synthesis(result, program, x, tensors, output):
    """Hold a netlist's run against the same hardware before synthesis."""
    before = simulate(program, x, tensors[output], engine=need("cxxrtl"), golden_tensors=tensors)
    np.testing.assert_array_equal(result.outputs, before.outputs)
    for each in ("cycles", "layers", "stalls", "simulated_cycles"):
        assert getattr(result, each) == getattr(before, each), each


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETLISTS)
def test_every_tensor_and_every_cycle_of_a_network(kind):
    model, program, x = network(kind)
    tensors = golden.run_tensors(model, x)
    result = run(netlist(accelerator(program), kind), program, x, tensors, model.output)
    assert_exact(result)
    same_before_synthesis(result, program, x, tensors, model.output)


def keyword_network():
    """Return a small network of the operators that kws_ref_model has."""
    builder = ModelBuilder(np.random.default_rng(1))
    around = Padding(1, 1, 1, 1)
    current = builder.conv(builder.input(6, 5, 3), 6, (3, 3), stride=(2, 1), padding=around)
    current = builder.depthwise(current, (3, 3), padding=around)
    current = builder.conv(current, 7, (1, 1))
    return builder.build(builder.fully_connected(builder.mean(current), 5))


@pytest.mark.slow
def test_every_tensor_of_a_network_in_spram():
    # The array of an iCEBreaker, whose weights come from flash. Its activations are in the lower bytes of the SPRAMs'
    # words, and its weights in the upper ones.
    model = keyword_network()
    config = trim(model, AcceleratorConfig.from_dict(find("icebreaker").config))
    config = replace(config, activation_bytes=config.lanes << 14)
    program, x = compile_model(model, config), random_input(model, 2)
    tensors = golden.run_tensors(model, x)
    made = netlist(accelerator(program), "ice40")
    assert (made.resources.spram, made.resources.dsp) == (4, 8)
    result = run(made, program, x, tensors, model.output)
    assert (result.faults, result.mismatches, result.exact) == ((), 0, 2)
    same_before_synthesis(result, program, x, tensors, model.output)
