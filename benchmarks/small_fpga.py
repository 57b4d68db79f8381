"""What fits an iCE40UP5K: whole networks behind a serial line, and which parts take how much.

    python benchmarks/small_fpga.py [--network demo] [--no-place] [--parts]

The accelerator is the one that `zeropoint compile --trim` makes for a network with the options below, with its link, on
any pins. Cycles are counted by simulated hardware (CXXRTL), whose outputs are compared with the golden model's.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import logic_cells
import measure
import numpy as np
from cost import network

from zeropoint.cli.demo import demo_files
from zeropoint.cli.failures import exit_status
from zeropoint.compiler.configure import configure
from zeropoint.compiler.trim import trim
from zeropoint.model import QuantizedModel
from zeropoint.quantize import Scheme, quantize
from zeropoint_boards.devices import DEVICES
from zeropoint_boards.synthesis import synthesize
from zeropoint_hw.linked import LinkedAccelerator

DEVICE = DEVICES["iCE40UP5K"]
#: What placing aims at, in MHz, and the clock cycles of a bit on the line at 115,200 baud.
FREQUENCY, DIVISOR = 24.0, 208
#: 4 × 4 products of bytes, two a DSP block; weights and activations in SPRAM; and whatever costs cycles but no bits.
SMALL: Mapping[str, Any] = {
    "lanes": 4,
    "columns": 4,
    "requantizers": 1,
    "pe": "fold",
    "window_taps": 1,
    "prefetch": False,
    "log": False,
    "memory_registers": False,
    "weight_store": "shared",
    "activation_ports": 1,
}
#: What networks want besides.
WANTED: Mapping[str, Mapping[str, Any]] = {
    "demo": {},
    "kws_ref_model": {"requantizer": "serial", "digit_bits": 4},
}


def model_of(name: str) -> QuantizedModel:
    """Return a network: the demo network in dynamic fixed point, or one of MLPerf Tiny."""
    if name != "demo":
        return network(name)
    floats, calibration, _, _ = demo_files()
    return quantize(floats, calibration, scheme=Scheme.DYNAMIC_FIXED, means_as_weights=True)


def taken_by(name: str, seeds: int, step: Callable[[str], None]) -> dict[str, Any]:
    """Return what a network's accelerator takes of the device, its clock, and an inference's cycles."""
    model = model_of(name)
    config = trim(model, configure(model, {**SMALL, **WANTED[name]}))
    source = model.tensor(model.input)
    low, high = source.limits
    step(f"{name}: cycles")
    x = np.random.default_rng(0).integers(low, high + 1, (2, *source.shape)).astype(source.dtype)
    counted = measure.cycles(model, config, x)
    step(f"{name}: synthesis")
    netlist = synthesize(LinkedAccelerator(config, DIVISOR), DEVICE)
    taken = measure.resources(netlist)
    clock = measure.clock(netlist, seeds, FREQUENCY, step)
    parts = {part: vars(each) for part, each in logic_cells.parts(netlist).items()}
    return {"network": name, "config": config.to_dict(), **counted, **taken, **clock, "parts": parts}


def row(taken: dict[str, Any]) -> list[str]:
    """Return the table's row for a network."""
    cells = f"{taken['sites']['lut']:,}" if taken["sites"] else "not placed"
    figures = [cells, *(f"{taken[name]:,}" for name in ("lut", "ff", "dsp", "block_ram"))]
    fmax, cycles = taken["fmax"], taken["cycles"]
    rate = f"{1e6 * fmax / cycles:,.1f}" if fmax else "not placed"
    return [taken["network"], *figures, measure.fmax_text(taken), f"{cycles:,}", rate]


HEADS = ["network", "logic cells", "LUT", "FF", "DSP", "block RAM", "Fmax in MHz", "cycles", "inferences a second"]


@click.command(help=__doc__)
@click.option("--network", "names", multiple=True, type=click.Choice(tuple(WANTED)), help="Repeatable; default all.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Placements, for the median.")
@click.option("--no-place", is_flag=True, help="No logic cells and no Fmax.")
@click.option("--parts", is_flag=True, help="Also what each part takes.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all figures there.")
def main(names: tuple[str, ...], seeds: int, no_place: bool, parts: bool, json_file: Path | None) -> None:
    names, seeds = names or tuple(WANTED), 0 if no_place else seeds
    with measure.steps(len(names) * (2 + seeds)) as step:
        measured = [taken_by(name, seeds, step) for name in names]
    click.echo(measure.markdown(HEADS, [row(taken) for taken in measured]))
    for taken in measured if parts else ():
        rows = [[part, *(f"{count:,}" for count in each.values())] for part, each in taken["parts"].items()]
        click.echo(measure.markdown([f"part ({taken['network']})", "LUT", "FF", "logic cells, at least"], rows))
    measure.write_json(json_file, {"tools": measure.versions(DEVICE), "networks": measured})


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(standalone_mode=False)))
