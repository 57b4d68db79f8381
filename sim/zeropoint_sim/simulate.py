"""A compiled program on simulated hardware, compared with the golden model."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.compiler.program import Program
from zeropoint.compiler.verify_program import verify
from zeropoint.errors import ZeropointError
from zeropoint.host.driver import Driver
from zeropoint.host.host_steps import apply_host_steps
from zeropoint.host.transport import Transport
from zeropoint_hw.accelerator import Accelerator
from zeropoint_hw.isa import Register
from zeropoint_sim import cxxrtl_build
from zeropoint_sim.amaranth_engine import AmaranthEngine
from zeropoint_sim.cxxrtl_engine import CxxrtlEngine
from zeropoint_sim.design import accelerator, rom
from zeropoint_sim.verilog_build import SIMULATORS
from zeropoint_sim.verilog_engine import VerilogEngine

ENGINES = ("auto", "amaranth", "cxxrtl", *SIMULATORS)

#: The counters that say what cycles were spent on.
_STALLS = {
    "busy": Register.BUSY,
    "drain": Register.STALL_DRAIN,
    "fetch": Register.STALL_FETCH,
    "flush": Register.STALL_FLUSH,
    "memory": Register.STALL_MEMORY,
}

#: Differing tensors that a result describes.
_FAULTS = 16

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Fault:
    """A tensor in which hardware and golden model differ: how often, and where first, in the order of ``axes``."""

    inference: int
    tensor: str
    elements: int
    index: tuple[int, ...]
    hardware: int
    golden: int

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes of ``index``: a feature map's are these, whatever their order in the model's file."""
        if len(self.index) == 3:
            return ("row", "column", "channel")
        return tuple(f"axis {axis}" for axis in range(len(self.index)))


@dataclass(frozen=True)
class LayerResult:
    """A layer's cycles for one inference, and how much of the array's capacity its MACs are."""

    name: str
    op: str
    macs: int
    cycles: int
    utilization: float
    busy: int
    stall_drain: int
    stall_memory: int


@dataclass(frozen=True)
class SimulationResult:
    """What the hardware computed and what it took.

    Attributes
    ----------
    outputs
        ``(n, *shape)``, host steps applied.
    mismatches
        Elements, over all inferences, in which outputs (and tensors, where asked for) differ from the golden model. An
        output that is the same in both runs, by single layers and as a whole, counts once.
    exact
        Inferences without any.
    faults
        The first differing tensors.
    cycles
        Of each inference, from input loaded to last output written, counted by the hardware.
    layers, stalls
        The last inference's cycles by layer, and by what they were spent on; empty without ``config.log``.
    wall_seconds, simulated_cycles
        What the simulation took, loading included, but not building the simulator.
    """

    program: Program
    engine: str
    outputs: Array
    mismatches: int
    exact: int
    faults: tuple[Fault, ...]
    cycles: tuple[int, ...]
    layers: tuple[LayerResult, ...]
    stalls: Mapping[str, int]
    wall_seconds: float
    simulated_cycles: int
    notes: tuple[str, ...] = field(default=())

    @property
    def utilization(self) -> float:
        """MACs of an inference over those that the array could have done in its cycles."""
        return self.program.macs / (float(np.mean(self.cycles)) * self.program.config.multipliers)

    @property
    def cycles_per_second(self) -> float:
        """Clock cycles simulated in a second, those of loading included."""
        return self.simulated_cycles / max(self.wall_seconds, 1e-9)

    def to_json(self) -> dict[str, Any]:
        """Return what ``zeropoint simulate --json`` writes."""
        config = self.program.config
        return {
            "model": self.program.name,
            "engine": self.engine,
            "config": config.to_dict(),
            "inferences": len(self.cycles),
            "mismatches": self.mismatches,
            "cycles": list(self.cycles),
            "macs": self.program.macs,
            "multipliers": config.multipliers,
            "utilization": self.utilization,
            "layers": [asdict(layer) for layer in self.layers],
            "wall_seconds": self.wall_seconds,
            "cycles_per_second": self.cycles_per_second,
            "requantizer_multipliers": config.requantizer_multipliers,
            "stalls": dict(self.stalls),
            "host_steps": [step.op for step in self.program.host_steps],
            "exact_inferences": self.exact,
            "faults": [asdict(fault) | {"axes": fault.axes} for fault in self.faults],
            "notes": list(self.notes),
        }


def simulate(
    program: Program,
    inputs: Array,
    golden: Array,
    *,
    engine: str = "auto",
    trace: Path | None = None,
    golden_tensors: Mapping[str, Array] | None = None,
    progress: Callable[[int, int], None] | None = None,
    announce: Callable[[str], None] | None = None,
) -> SimulationResult:
    """Run a compiled program on simulated hardware and compare every output with the golden model's.

    Parameters
    ----------
    program
        Verified before it runs.
    inputs
        ``(n, *shape)`` in the input's dtype.
    golden
        The golden model's outputs, ``(n, *shape)``.
    engine
        ``cxxrtl``, ``amaranth``, ``verilator``, ``icarus``, or ``auto``: CXXRTL where its tools are there.
    trace
        A VCD file for the first inference's waveforms.
    golden_tensors
        The golden model's tensors by name: every tensor that the hardware writes is compared with its own.
    progress
        Called with inferences done and in all.
    announce
        Called with one line for people when something takes a while.

    Raises
    ------
    ZeropointError
        If the program or an engine is not usable, or the hardware does not come to an end.
    """
    if engine not in ENGINES:
        raise ZeropointError(f"engine must be one of {', '.join(ENGINES)}, not '{engine}'")
    verify(program)
    if inputs.shape[1:] != program.input.shape or inputs.dtype != program.input.dtype or not len(inputs):
        raise ZeropointError(
            f"input '{program.input.tensor}' takes {program.input.dtype} (n, {str(program.input.shape)[1:-1]}), "
            f"not {inputs.dtype} {inputs.shape}"
        )
    transport, notes = _open(program, engine, trace, announce)
    try:
        return run_on(transport, program, inputs, golden, golden_tensors, trace is not None, progress, notes)
    finally:
        transport.close()


def choose_engine(engine: str) -> tuple[str, str]:
    """Return the engine that ``auto`` stands for here, and a note if it is the slow one; other engines as they are."""
    if engine != "auto":
        return engine, ""
    try:
        cxxrtl_build.find_tools()
    except cxxrtl_build.EngineUnavailable as error:
        return "amaranth", f"using Amaranth's simulator, which is far slower: {error}"
    return "cxxrtl", ""


def run_on(
    transport: Transport,
    program: Program,
    inputs: Array,
    golden: Array,
    golden_tensors: Mapping[str, Array] | None = None,
    tracing: bool = False,
    progress: Callable[[int, int], None] | None = None,
    notes: tuple[str, ...] = (),
) -> SimulationResult:
    """Run a compiled program on hardware that a transport leads to; as :func:`simulate`, which opens one.

    Parameters
    ----------
    transport
        Left open.
    tracing
        Whether to record the first inference's waveforms.
    notes
        For the result.
    """
    began = time.perf_counter()
    driver = Driver(transport, program)
    outputs, cycles = [], []
    faults: list[Fault] = []
    mismatches = exact = 0
    for index, values in enumerate(inputs):
        checks: list[tuple[str, Array, Array]] = []
        if golden_tensors is not None:
            made = driver.run_layers(values)
            checks = [(tensor, made[tensor], golden_tensors[tensor][index]) for tensor in made]
        if tracing and index == 0:
            transport.trace(True)
        raw = driver.run(values)
        if tracing and index == 0:
            transport.trace(False)
        output = apply_host_steps(program, raw[None])
        outputs.append(output[0])
        cycles.append(driver.register(Register.CYCLES))
        name = program.host_steps[-1].output.tensor if program.host_steps else program.output.tensor
        if not any(tensor == name and np.array_equal(values, output[0]) for tensor, values, _ in checks):
            checks.append((name, output[0], golden[index]))
        found = [fault for check in checks if (fault := _compare(index, *check))]
        mismatches += sum(fault.elements for fault in found)
        exact += not found
        faults += found[: _FAULTS - len(faults)]
        if progress is not None:
            progress(index + 1, len(inputs))
    return SimulationResult(
        program=program,
        engine=transport.name,
        outputs=np.stack(outputs),
        mismatches=mismatches,
        exact=exact,
        faults=tuple(faults),
        cycles=tuple(cycles),
        layers=_layers(program, driver),
        stalls={name: driver.register(register) for name, register in _STALLS.items()} if program.config.log else {},
        wall_seconds=time.perf_counter() - began,
        simulated_cycles=transport.cycles,
        notes=notes,
    )


def _compare(inference: int, tensor: str, hardware: Array, golden: Array) -> Fault | None:
    differing = np.argwhere(hardware.reshape(golden.shape) != golden)
    if not len(differing):
        return None
    first = tuple(int(position) for position in differing[0])
    values = int(hardware.reshape(golden.shape)[first]), int(golden[first])
    return Fault(inference, tensor, len(differing), first, *values)


def _layers(program: Program, driver: Driver) -> tuple[LayerResult, ...]:
    """Return what each layer of the last run took, if the accelerator has kept a log of it."""
    if not program.config.log:
        return ()
    log = driver.log()
    results = []
    for layer in program.layers:
        records = log[layer.first_instruction : layer.first_instruction + layer.instructions]
        cycles = sum(record.cycles for record in records)
        utilization = layer.macs / (cycles * program.config.multipliers)
        busy, drain = sum(record.busy for record in records), sum(record.stall_drain for record in records)
        memory = sum(record.stall_memory for record in records)
        results.append(LayerResult(layer.name, layer.op, layer.macs, cycles, utilization, busy, drain, memory))
    return tuple(results)


def _open(
    program: Program, engine: str, trace: Path | None, announce: Callable[[str], None] | None
) -> tuple[Transport, tuple[str, ...]]:
    def make_design() -> Accelerator:
        return accelerator(program)

    def building() -> None:
        if announce is not None:
            announce("building the simulator for this configuration; later runs find it in the cache")

    engine, note = choose_engine(engine)
    if note and announce is not None:
        announce(note)
    if engine == "amaranth":
        return AmaranthEngine(make_design(), trace), (note,) if note else ()
    identity = cxxrtl_build.design_identity("zeropoint_hw") + repr((program.config, rom(program))).encode()
    if engine == "cxxrtl":
        return CxxrtlEngine(make_design, identity, trace, building), ()
    return VerilogEngine(engine, make_design, identity, trace, building), ()
