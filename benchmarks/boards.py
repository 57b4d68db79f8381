"""What networks on boards take: resources, clock, cycles and inferences a second, of builds that are there.

    ZEROPOINT_MODELS=folder python benchmarks/boards.py --build DIR [--board BOARD ...] [--markdown TABLE.md]
    python benchmarks/boards.py --built DIR MODEL [--built DIR MODEL ...] [--json FIGURES.json]

The first builds a network for each board, by `zeropoint build MODEL --board BOARD -o DIR/BOARD`, unless that folder has
one. The second takes builds of any networks.

Resources and the clock are those of build.json. Cycles are counted by the accelerator that was built, simulated with
CXXRTL, on an input of random values; its output is compared with the golden model's, and a difference ends the command.
"Over the link" is the rate at which the line to the host brings inputs, if that is lower than the accelerator's own.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import click
from cost import random_input
from measure import markdown, steps, write_json

from zeropoint import golden
from zeropoint.cli.failures import exit_status
from zeropoint.cli.options import PATH, load_quantized
from zeropoint.compiler import storage
from zeropoint.errors import ZeropointError
from zeropoint.files import atomic_write
from zeropoint_boards import record
from zeropoint_boards.boards import BOARDS
from zeropoint_sim.simulate import simulate

#: What is built for a board: DS-CNN, unless a larger network fits, or only a smaller one does.
NETWORK = "kws_ref_model"
OTHER_NETWORKS = {"ulx3s_85f": "pretrainedResnet_quant", "tang_nano_9k": "hello_world_int8"}
#: The boards whose bitstreams open tools make.
NAMES = tuple(name for name, board in BOARDS.items() if board.device.family.flow is not None)

_HEADS = (
    "board",
    "network",
    "array",
    "MHz",
    "LUT",
    "FF",
    "DSP",
    "block RAM",
    "cycles",
    "µs",
    "inferences/s",
    "over the link",
)

#: Bits on the line for a byte; what frames take besides, of each byte; and bytes of the requests that start the
#: accelerator and fetch the output.
_BYTE_BITS, _FRAME_SHARE, _REQUESTS = 10, 1.05, 30


def built_for(boards: tuple[str, ...], folder: Path) -> Iterator[tuple[Path, Path]]:
    """Build each board's network within a folder, where that has not been done, and yield its folder and its model."""
    for board in boards:
        models = os.environ.get("ZEROPOINT_MODELS")
        if models is None:
            raise ZeropointError("set ZEROPOINT_MODELS to the folder that holds the networks")
        model, output = Path(models, f"{OTHER_NETWORKS.get(board, NETWORK)}.tflite"), folder / board
        if not (output / record.BUILD).exists():
            command = [sys.executable, "-m", "zeropoint", "build", str(model), "--board", board, "-o", str(output)]
            if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
                raise ZeropointError(f"no bitstream for board '{board}'; the line above says why")
        yield output, model


def measure(folder: Path, model: Path) -> dict[str, Any]:
    """Return the figures of a build."""
    built, program, network = record.load(folder), storage.load(folder), load_quantized(model)
    x = random_input(network)
    result = simulate(program, x, golden.run(network, x), engine="cxxrtl")
    if result.mismatches:
        raise ZeropointError(
            f"'{folder}': hardware and golden model of '{model}' differ in {result.mismatches} elements"
        )
    if built.bitstream is None:
        raise ZeropointError(f"'{folder}' holds no bitstream: it was built with --no-run")
    cycles, bits = result.cycles[0], _BYTE_BITS * (_FRAME_SHARE * x[0].nbytes + _REQUESTS)
    return {
        "board": built.board,
        "title": built.details["title"],
        "network": program.name,
        "lanes": program.config.lanes,
        "columns": program.config.columns,
        "clock_mhz": built.clock_hz / 1e6,
        "fmax_mhz": min(each["achieved_mhz"] for each in built.details["timing"].values()),
        "seed": built.details["seed"],
        **built.details["resources"],
        "cycles": cycles,
        "utilization": result.utilization,
        "inferences_per_second": built.clock_hz / cycles,
        "over_the_link": min(built.clock_hz / cycles, built.baud / bits),
        "baud": built.baud,
        "tools": built.details["tools"],
    }


def row(each: dict[str, Any]) -> list[str]:
    """Return a row of the table."""
    return [
        each["title"],
        each["network"],
        f"{each['lanes']} × {each['columns']}",
        f"{each['clock_mhz']:.1f} (reaches {each['fmax_mhz']:.1f})",
        *(f"{each[name]:,}" for name in ("lut", "ff", "dsp", "block_ram", "cycles")),
        f"{1e6 / each['inferences_per_second']:,.0f}",
        f"{each['inferences_per_second']:,.0f}",
        f"{each['over_the_link']:,.0f}",
    ]


@click.command(help=__doc__)
@click.option("--built", nargs=2, type=PATH, multiple=True, metavar="DIR MODEL", help="A build to measure. Repeatable.")
@click.option("--build", "folder", type=PATH, help="Where to build, a folder for each board.")
@click.option("--board", "names", multiple=True, type=click.Choice(NAMES), help="Only these. Repeatable.")
@click.option("--markdown", "table", type=PATH, help="Where to write the table.")
@click.option("--json", "report", type=PATH, help="Where to write all figures.")
def main(
    built: tuple[tuple[Path, Path], ...],
    folder: Path | None,
    names: tuple[str, ...],
    table: Path | None,
    report: Path | None,
) -> None:
    if not built and folder is None:
        raise click.UsageError("say --build DIR, or --built DIR MODEL")
    boards = () if folder is None else names or NAMES
    figures = []
    with steps(len(boards) + len(built)) as step:
        for each, model in chain(built_for(boards, folder or Path()), built):
            step(str(each))
            figures.append(measure(each, model))
    text = markdown(_HEADS, [row(each) for each in figures])
    sys.stdout.write(text)
    if table is not None:
        atomic_write(table, text.encode())
    write_json(report, {"builds": figures})


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(standalone_mode=False)))
