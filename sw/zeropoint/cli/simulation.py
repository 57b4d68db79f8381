"""What ``simulate`` and ``demo`` share: a network on simulated hardware, and the tables about it."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeropoint import golden
from zeropoint.cli import terminal
from zeropoint.compiler import compile_model, storage
from zeropoint.compiler.program import Program
from zeropoint.errors import ZeropointError
from zeropoint.files import atomic_write
from zeropoint.model import QuantizedModel, zp_file
from zeropoint_hw.config import AcceleratorConfig

if TYPE_CHECKING:
    from zeropoint_sim.simulate import SimulationResult

Array = npt.NDArray[Any]


def run(
    model: QuantizedModel,
    x: Array,
    config: AcceleratorConfig,
    *,
    engine: str,
    program: Path | None = None,
    trace: Path | None = None,
    tensors: bool = False,
) -> "SimulationResult":
    """Run a network on simulated hardware and compare it with the golden model.

    Parameters
    ----------
    model, x
        The network, and its inputs.
    config, engine
        What to simulate, and how.
    program
        A folder with the compiled network; compiled for ``config`` if None.
    trace
        A VCD file to write.
    tensors
        Whether to compare every tensor that the hardware writes, not only the outputs.
    """
    from zeropoint_sim.simulate import simulate

    compiled = _compiled(model, config) if program is None else loaded(model, program)
    with terminal.progress(f"Running the golden model of {model.name}", len(x)) as update:
        every = golden.run_tensors(model, x, update) if tensors else {model.output: golden.run(model, x, update)}
    with terminal.progress(f"Simulating {model.name}", len(x)) as update:
        return simulate(
            compiled,
            x,
            every[model.output],
            engine=engine,
            trace=trace,
            golden_tensors=every if tensors else None,
            progress=lambda done, _: update(done),
            announce=terminal.note,
        )


def _compiled(model: QuantizedModel, config: AcceleratorConfig) -> Program:
    """Return the program as the files say that "compile" writes."""
    with tempfile.TemporaryDirectory(prefix="zeropoint-") as name:
        folder = Path(name, "program")
        storage.save(compile_model(model, config), folder)
        return storage.load(folder)


def loaded(model: QuantizedModel, folder: Path) -> Program:
    """Return the program in a folder, which must have been compiled from the model."""
    program, digest = storage.load(folder), zp_file.digest(model)
    if program.model_sha256 != digest:
        raise ZeropointError(
            f"the program in '{folder}' was compiled from network '{program.name}' (SHA-256 "
            f"{program.model_sha256[:8]}…), which is not network '{model.name}' ({digest[:8]}…); compile this one"
        )
    return program


def save_report(path: Path, result: "SimulationResult") -> None:
    """Write what ``--json`` asks for."""
    atomic_write(path, (json.dumps(result.to_json(), indent=2, allow_nan=False) + "\n").encode())


def print_result(result: "SimulationResult") -> None:
    """Print the layers, what differs, and the totals."""
    config = result.program.config
    mean = float(np.mean(result.cycles))
    rows = [
        [layer.name, layer.op, layer.macs, layer.cycles, terminal.percent(layer.utilization)] for layer in result.layers
    ]
    total = ["total", "", result.program.macs, round(mean), terminal.percent(result.utilization)]
    sizes = f"{config.lanes} lanes × {config.columns} columns, {config.pe}"
    terminal.table(
        f"Cycles of the last inference on {sizes}", ["layer", "op", "MACs", "cycles", "utilization"], rows, total
    )
    for fault in result.faults:
        index = ", ".join(f"{axis} {position}" for axis, position in zip(fault.axes, fault.index, strict=True))
        terminal.say(
            f"inference {fault.inference}: {fault.elements} elements of tensor '{fault.tensor}' differ, the first at "
            f"{index}: the hardware computes {fault.hardware}, the golden model {fault.golden}"
        )
    terminal.say(f"{result.exact}/{len(result.cycles)} inferences bit-exact")
    least, greatest = min(result.cycles), max(result.cycles)
    spread = f"{least:,}" if least == greatest else f"{mean:,.0f} ({least:,} to {greatest:,})"
    terminal.say(f"cycles per inference: {spread}")
    if waited := result.stalls.get("memory"):
        terminal.say(
            f"of these, the array waited for weights and activations: {waited:,} ({terminal.percent(waited / mean)})"
        )
    speed = f"{result.cycles_per_second:,.0f} simulated cycles a second"
    terminal.say(f"engine: {result.engine}, {result.wall_seconds:.1f} s, {speed}")
