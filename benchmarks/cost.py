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

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import measure
import numpy as np
import numpy.typing as npt
from digits import digits

from zeropoint import importers
from zeropoint.cli import terminal
from zeropoint.cli.failures import exit_status
from zeropoint.compiler.trim import trim
from zeropoint.errors import ZeropointError
from zeropoint.files import atomic_write
from zeropoint.model import QuantizedModel
from zeropoint_boards.devices import DEVICES
from zeropoint_boards.synthesis import synthesize
from zeropoint_hw.accelerator import Accelerator
from zeropoint_hw.config import AcceleratorConfig

NETWORKS = ("ad01_int8", "kws_ref_model", "pretrainedResnet_quant", "digits")
#: The network whose accelerator is synthesized.
SYNTHESIZED = "kws_ref_model"
DEVICE = DEVICES["LFE5U-85F"]
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


def random_input(model: QuantizedModel) -> npt.NDArray[np.generic]:
    """Return two inputs: cycles do not depend on them."""
    source = model.tensor(model.input)
    low, high = source.limits
    return np.random.default_rng(0).integers(low, high + 1, (2, *source.shape)).astype(source.dtype)


def cost(
    model: QuantizedModel, config: AcceleratorConfig, seeds: int, frequency: float, step: Callable[[str], None]
) -> dict[str, Any]:
    """Return what the accelerator for a network takes of the device, and the clock that it reaches."""
    config = trim(model, config)
    step("synthesis")
    netlist = synthesize(Accelerator(config), DEVICE)
    taken = measure.resources(netlist)
    return {
        "config": config.to_dict(),
        **taken,
        "lut_per_multiplier": taken["lut"] / config.multipliers,
        **measure.clock(netlist, seeds, frequency, step),
    }


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
        cells += [
            f"{taken['lut']:,}",
            f"{taken['lut_per_multiplier']:.1f}",
            f"{taken['ff']:,}",
            f"{taken['dsp']} ({array['multipliers']} + {taken['dsp'] - array['multipliers']})",
            f"{taken['block_ram']}",
            measure.fmax_text(taken),
        ]
    return cells


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
    sizes = [
        AcceleratorConfig(lanes=lanes, columns=columns, weight_bytes=1 << 19)
        for lanes, columns in map(measure.array_size, arrays)
    ]
    seeds = 0 if no_place else seeds
    models = {name: network(name) for name in networks}
    synthesized = None if no_synthesis else network(SYNTHESIZED)

    measured = []
    with measure.steps(len(sizes) * (len(models) + (0 if no_synthesis else 1 + seeds))) as show:
        for array, config in zip(arrays, sizes, strict=True):

            def step(what: str, array: str = array) -> None:
                show(f"{array}: {what}")

            entry: dict[str, Any] = {
                "lanes": config.lanes,
                "columns": config.columns,
                "multipliers": config.multipliers,
                "other_multipliers": config.requantizer_multipliers,
                "networks": {},
            }
            for name, model in models.items():
                step(f"cycles of {name}")
                entry["networks"][name] = measure.cycles(model, config, random_input(model))
            if synthesized is not None:
                entry["cost"] = cost(synthesized, config, seeds, frequency, step)
            measured.append(entry)

    versions = measure.versions(DEVICE)
    heads, rows = headings(networks, not no_synthesis), [row(entry, networks) for entry in measured]
    terminal.table(
        f"Cycles (share of the array's multipliers busy); {SYNTHESIZED} on {DEVICE.device}-{DEVICE.speed}", heads, rows
    )
    terminal.say(", ".join(f"{package} {version}" for package, version in versions.items()))
    document = {"device": DEVICE.device, "speed": DEVICE.speed, "tools": versions, "arrays": measured}
    measure.write_json(json_file, document)
    if markdown_file is not None:
        atomic_write(markdown_file, measure.markdown(heads, rows).encode())


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(standalone_mode=False)))
