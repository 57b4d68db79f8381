"""What networks on boards take: resources, clock, cycles and inferences a second, of builds that are there.

    zeropoint build MODEL --board BOARD -o DIR
    python benchmarks/boards.py --built DIR MODEL [--built DIR MODEL ...] [--markdown TABLE.md] [--json FIGURES.json]

Resources and the clock are those of build.json. Cycles are counted by the accelerator that was built, simulated with
CXXRTL, on an input of random values; its output is compared with the golden model's, and a difference ends the command.
"Over the link" is the rate at which the line to the host brings inputs, if that is lower than the accelerator's own.
"""

import sys
from pathlib import Path
from typing import Any

import click
from cost import random_input
from measure import markdown, steps, write_json

from zeropoint import golden
from zeropoint.cli.failures import exit_status
from zeropoint.cli.options import load_quantized
from zeropoint.compiler import storage
from zeropoint.errors import ZeropointError
from zeropoint.files import atomic_write
from zeropoint_boards import record
from zeropoint_sim.simulate import simulate

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
@click.option("--built", nargs=2, type=click.Path(path_type=Path), multiple=True, required=True, metavar="DIR MODEL")
@click.option("--markdown", "table", type=click.Path(path_type=Path), help="Where to write the table.")
@click.option("--json", "report", type=click.Path(path_type=Path), help="Where to write all figures.")
def main(built: tuple[tuple[Path, Path], ...], table: Path | None, report: Path | None) -> None:
    figures = []
    with steps(len(built)) as step:
        for folder, model in built:
            step(str(folder))
            figures.append(measure(folder, model))
    text = markdown(_HEADS, [row(each) for each in figures])
    sys.stdout.write(text)
    if table is not None:
        atomic_write(table, text.encode())
    write_json(report, {"builds": figures})


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(standalone_mode=False)))
