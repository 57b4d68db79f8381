"""Verilog as an engine: what ``zeropoint verilog`` writes, in Verilator or Icarus."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeropoint.errors import ZeropointError
from zeropoint.host.transport import bus_words, no_answer, still_busy
from zeropoint_hw.host import HostBusSignature
from zeropoint_hw.isa import Command
from zeropoint_hw.verilog import to_verilog
from zeropoint_sim import verilog_build
from zeropoint_sim.verilog_simulation import VerilogSimulation

#: Words that a request carries.
_CHUNK = 1 << 14


class VerilogEngine:
    """A :class:`zeropoint.host.transport.Transport` to a component's Verilog in a simulator.

    Parameters
    ----------
    simulator
        One of ``verilog_build.SIMULATORS``, which is the engine's name as well.
    make_design, identity, announce
        As :class:`zeropoint_sim.cxxrtl_engine.CxxrtlEngine`.
    trace
        A VCD file to write, with all signals but the memories' contents.
    to_verilog
        Makes Verilog of the component, with the top module ``verilog_build.TOP``; ``identity`` tells apart what it
        makes.

    Raises
    ------
    zeropoint.errors.ZeropointError
        As :func:`zeropoint_sim.verilog_build.build`, and here and later as
        :class:`zeropoint_sim.verilog_simulation.VerilogSimulation`.
    """

    def __init__(
        self,
        simulator: str,
        make_design: Callable[[], Any],
        identity: bytes,
        trace: Path | None = None,
        announce: Callable[[], None] | None = None,
        to_verilog: Callable[[Any, str], str] = to_verilog,
    ) -> None:
        self.name = simulator

        def make_verilog() -> str:
            return to_verilog(make_design(), verilog_build.TOP)

        built = verilog_build.build(simulator, make_verilog, identity, trace=trace is not None, announce=announce)
        inputs = [f"host__{name}" for name, member in HostBusSignature().members.items() if member.flow.name == "Out"]
        self._simulation = VerilogSimulation(built, [*inputs, "rst"], trace)

    @property
    def cycles(self) -> int:  # noqa: D102
        return self._simulation.cycles

    def write(self, address: int, words: NDArray[np.uint32], stride: int = 1) -> None:  # noqa: D102
        values = bus_words(address, words, stride).tolist()
        for start in range(0, max(len(values), 1), _CHUNK):
            part = values[start : start + _CHUNK]
            self._simulation.request("write", address=address + start * stride, values=part, stride=stride)

    def read(self, address: int, count: int, stride: int = 1) -> NDArray[np.uint32]:  # noqa: D102
        bus_words(address, np.broadcast_to(np.uint32(0), count), stride)
        answers = self._simulation.request("read", address=address, count=count, stride=stride)
        if len(answers) < count:
            raise no_answer(address, count, len(answers))
        for index, answer in enumerate(answers):
            if isinstance(answer, str):
                where = address + index * stride
                raise ZeropointError(f"the accelerator answered the read of address {where:#x} with {answer}")
        return np.array(answers, np.uint32)

    def run(self, command: Command, max_cycles: int) -> None:  # noqa: D102
        if not self._simulation.request("run", command=int(command), max_cycles=max_cycles):
            raise still_busy(max_cycles)

    def trace(self, on: bool) -> None:  # noqa: D102
        self._simulation.trace(on)

    def close(self) -> None:  # noqa: D102
        self._simulation.close()
