"""The cocotb test that runs in a Verilog simulator and does what a process outside asks for, over a socket.

Each request is a line of JSON, and so is each answer; ``set`` is a mapping of input ports to values::

    {"do": "cycle", "set": {…}, "get": [port, …]}       a clock cycle; the ports' values before its edge
    {"do": "settle", "set": {…}, "get": [port, …]}      no cycle; the ports' values once the inputs have had effect
    {"do": "write", "address", "values", "stride"}      on the port ``host``: see :class:`zeropoint_sim.bus.BusDriver`
    {"do": "read", "address", "count", "stride"}
    {"do": "run", "command", "max_cycles"}

An answer is ``{"values": …, "cycles": …}``, the cycles being those since the start; bits that are neither 0 nor 1 make
a value a text. Time passes only within requests. It ends when the other side closes the socket.
"""

import json
import os
import socket
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, First, ReadOnly, Timer, ValueChange
from cocotb.utils import get_sim_time

from zeropoint_hw.isa import Command
from zeropoint_sim.bus import BusDriver

#: Nanoseconds of a clock cycle, which begins with the falling edge.
PERIOD = 1000

#: The environment variables that name the socket, and the input ports.
SOCKET, INPUTS = "ZEROPOINT_SOCKET", "ZEROPOINT_INPUTS"


def number(handle: Any) -> int | str:
    """Return the value of a port: its bits as a number, or as a text if one is neither 0 nor 1."""
    value = handle.value
    try:
        return int(value)
    except ValueError:
        return str(value)


class Bench:
    """The ports of the design, and its clock."""

    def __init__(self, dut: Any) -> None:
        self._dut = dut
        self._handles: dict[str, Any] = {}
        self.clock = getattr(dut, "clk", None)
        self.cycles = 0

    def handle(self, port: str) -> Any:
        """Return cocotb's handle of a port."""
        if port not in self._handles:
            self._handles[port] = getattr(self._dut, port)
        return self._handles[port]

    async def cycle(self, ports: list[str]) -> list[int | str]:
        """Spend a clock cycle; return the ports' values before its rising edge."""
        values: list[int | str] = []
        if ports:
            await ReadOnly()
            values = [number(self.handle(port)) for port in ports]
        await self.end_of_cycle()
        self.cycles += 1
        return values

    async def end_of_cycle(self) -> None:
        """Wait for the falling edge; without a clock, for as long as that would take."""
        if self.clock is None:
            await Timer(PERIOD, "ns")
        else:
            await FallingEdge(self.clock)

    async def settle(self, ports: list[str]) -> list[int | str]:
        """Return the ports' values once the inputs have had effect; it is not the moment to set others before that."""
        await Timer(1, "ns")
        assert get_sim_time("ns") % PERIOD < PERIOD // 2, "there is not that much time before the clock's edge"
        return [number(self.handle(port)) for port in ports]


class Bus(BusDriver):
    """The host bus of an accelerator."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self._bench = bench
        self._valid, self._data = bench.handle("host__read_valid"), bench.handle("host__read_data")

    def put(self, name: str, value: int) -> None:  # noqa: D102
        self._bench.handle(f"host__{name}").value = value

    async def advance(self) -> int | None:  # noqa: D102
        # A write wants no answer, and none is on its way.
        if self._inputs["write"]:
            await self._bench.end_of_cycle()
            return None
        await ReadOnly()
        answer = self._answer()
        await self._bench.end_of_cycle()
        return answer

    def _answer(self) -> Any:
        return number(self._data) if self._valid.value else None

    async def poll(self, max_cycles: int) -> tuple[int, int, bool]:
        """As in the base class, but asleep while the answers stay the same: much sooner done."""
        asked = answered = 0
        while asked < max_cycles:
            await ReadOnly()
            answer = self._answer()
            left = max_cycles - asked
            began = get_sim_time("ns")
            if answer != 0:
                # Ends in the middle of the last cycle, if nothing changes before.
                limit = Timer(left * PERIOD - PERIOD // 4, "ns")
                await First(ValueChange(self._valid), ValueChange(self._data), limit)
            await self._bench.end_of_cycle()
            spent = round((get_sim_time("ns") - began) / PERIOD)
            asked += spent
            answered += spent if answer is not None else 0
            self.cycles += spent
            if answer == 0:
                return asked, answered, True
        return asked, answered, False


@cocotb.test()
async def serve(dut: Any) -> None:
    """Do what is asked for until nobody asks any more."""
    bench = Bench(dut)
    inputs = json.loads(os.environ[INPUTS])
    for port in inputs:
        bench.handle(port).value = 0
    if bench.clock is not None:
        Clock(bench.clock, PERIOD, "ns").start(start_high=False)
        # The falling edge with which the first cycle begins; nothing has been clocked before.
        await Timer(1, "ns")
    bus: Bus | None = None
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ[SOCKET])
        stream = connection.makefile("rwb")
        while line := stream.readline():
            request = json.loads(line)
            do = request.pop("do")
            values: Any = None
            if do in ("cycle", "settle"):
                for port, value in request["set"].items():
                    bench.handle(port).value = value
                values = await getattr(bench, do)(request["get"])
            else:
                bus = bus or Bus(bench)
                if do == "run":
                    request["command"] = Command(request["command"])
                values = await getattr(bus, do)(**request)
            cycles = bench.cycles + (bus.cycles if bus else 0)
            stream.write(json.dumps({"values": values, "cycles": cycles}).encode() + b"\n")
            stream.flush()
