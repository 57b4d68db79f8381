"""A small network on the netlists that Yosys makes of the whole accelerator: what is placed, cell by cell."""

import numpy as np
import pytest
from support.engines import assert_exact, need
from support.files import random_input
from support.netlists import NETLISTS, netlist
from support.random_models import random_model

from zeropoint import golden
from zeropoint.compiler import compile_model
from zeropoint.compiler.trim import trim
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


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETLISTS)
def test_every_tensor_and_every_cycle_of_a_network(kind):
    model, program, x = network(kind)
    tensors = golden.run_tensors(model, x)
    result = run(netlist(accelerator(program), kind), program, x, tensors, model.output)
    assert_exact(result)
    # The same hardware before synthesis.
    before = simulate(program, x, tensors[model.output], engine=need("cxxrtl"), golden_tensors=tensors)
    np.testing.assert_array_equal(result.outputs, before.outputs)
    for each in ("cycles", "layers", "stalls", "simulated_cycles"):
        assert getattr(result, each) == getattr(before, each), each
