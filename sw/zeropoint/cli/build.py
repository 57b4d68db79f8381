"""``zeropoint build``: a network to a board's bitstream."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zeropoint.cli import terminal
from zeropoint.cli.options import PATH, Configured, config_options, load_quantized, model_argument
from zeropoint.compiler import compile_model, storage, verify_program
from zeropoint.compiler.flash_image import FLASH_IMAGE, flash_image
from zeropoint.compiler.options import to_toml
from zeropoint.compiler.program import program_hash
from zeropoint.compiler.trim import trim
from zeropoint.errors import ZeropointError
from zeropoint.files import atomic_folder, check_apart
from zeropoint.host.device import BAUD
from zeropoint_hw.config import AcceleratorConfig, WeightSource, WeightStore

if TYPE_CHECKING:
    from zeropoint_boards.build import Design
    from zeropoint_boards.place import Placement
    from zeropoint_boards.plls import Setting
    from zeropoint_boards.synthesis import Netlist

#: The accelerator's configuration, for "compile --config".
CONFIG = "config.toml"

#: How much longer placing a seed takes than synthesis, for the progress bar.
_SEED_SHARE = 4.0


@click.command("build")
@model_argument
@click.option("--board", "name", required=True, help='The board; "zeropoint boards" lists them.')
@click.option("-o", "--output", type=PATH, required=True, help="The folder to write; an earlier one is replaced.")
@click.option("--frequency", type=click.FloatRange(min=1, max=1000), help="The accelerator's clock in MHz, at most.")
@click.option("--baud", type=click.IntRange(min=300), default=BAUD, show_default=True, help="Of the link to the host.")
@click.option(
    "--seed", type=click.IntRange(0, (1 << 31) - 1), default=1, show_default=True, help="What placing begins with."
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1, max=1000),
    default=1,
    show_default=True,
    help="Take the best of so many seeds.",
)
@click.option(
    "--jobs", type=click.IntRange(min=1, max=256), default=1, show_default=True, help="How many seeds to place at once."
)
@click.option(
    "--trim/--no-trim",
    "trimmed",
    default=True,
    help="Leave out of the accelerator whatever MODEL does not need.  [default: yes]",
)
@click.option(
    "--run/--no-run",
    "runs",
    default=True,
    help="Run the tools; if not, write what they read, among it a script that runs them.  [default: yes]",
)
@config_options
@click.pass_context
def command(
    ctx: click.Context,
    model: Path,
    name: str,
    output: Path,
    frequency: float | None,
    baud: int,
    seed: int,
    seeds: int,
    jobs: int,
    trimmed: bool,
    runs: bool,
    configured: Configured,
) -> None:
    """Build the bitstream that runs MODEL on a board.

    The folder holds the bitstream; what "compile" writes, so that "run" works on it; build.json, which says what it
    takes, what clock it reaches and which tools built it; and config.toml, with which "compile" compiles other networks
    for it. The weights are in the bitstream, but with --weight-source ram, where "run" loads them over the link.
    Nothing is written if the design does not reach its clock. The same MODEL, options and versions of the tools give
    the same bytes.
    """
    from zeropoint_boards import boards, build, fit, record
    from zeropoint_hw.linked import LinkedAccelerator
    from zeropoint_sim.design import rom

    check_apart(output, model, ctx.params["config"])
    board = boards.find(name)
    if runs:
        build.check_flow(board)
    clock, setting = board.clocking(board.frequency if frequency is None else frequency)
    divisor = board.divisor(clock, baud)
    network = load_quantized(model)

    def configuration(defaults: Mapping[str, Any]) -> AcceleratorConfig:
        config = configured(network, defaults)
        return trim(network, config) if trimmed else config

    config = fit.choose(board, configuration)
    if short := fit.shortage(config, board):
        told = f"{name}: {short}; take a smaller array (--lanes, --columns) or network, or another board"
        if runs:
            raise ZeropointError(told)
        terminal.note(f"warning: {told}")
    program = compile_model(network, config)
    verify_program.verify(program)
    built_in = program_hash(program) if program.config.built_in else None
    core = LinkedAccelerator(program.config, divisor, board.buffer_bits, rom(program), built_in)

    with atomic_folder(output) as target:
        design = build.make_design(board, core, clock, setting)
        details = {"title": board.title, "program": program.name, "pll": _pll(setting)}
        files = storage.files_of(program) | {CONFIG: to_toml(program.config).encode()}
        if runs:
            built = _run(design, range(seed, seed + seeds), jobs)
            files[design.flow.bitstream] = built.bitstream
            details |= _details(design, built)
        else:
            files |= {f"project/{name}": data for name, data in design.files.items() if data}
            (target / "project").mkdir()
        if program.config.weight_source is WeightSource.FLASH:
            files[FLASH_IMAGE] = flash_image(program)
        bitstream = design.flow.bitstream if runs else None
        written = record.BuildRecord(board.name, float(clock), baud, divisor, board.buffer_bits, bitstream, details)
        files[record.BUILD] = written.to_bytes()
        for each, data in files.items():
            (target / each).write_bytes(data)
    if runs:
        _print(design, built)
        terminal.note(f'wrote {bitstream} and the program to {output}; "zeropoint program" puts it on the board')
    else:
        terminal.note(
            f"wrote the program to {output}, and the project for the device's tools, with a clock of "
            f"{float(clock) / 1e6:.2f} MHz, to {output / 'project'}"
        )
    if program.config.weight_source is WeightSource.FLASH:
        terminal.note(f"{FLASH_IMAGE} belongs into the board's flash from byte {program.config.flash_offset:#x} on")
    if program.config.weight_store is WeightStore.FLASH:
        terminal.note('the weights stay there, and the array waits for them: "simulate --program" says how long')


@dataclass(frozen=True)
class _Built:
    netlist: "Netlist"
    placements: "list[Placement]"
    bitstream: bytes


def _run(design: "Design", seeds: range, jobs: int) -> _Built:
    """Run the device's tools."""
    from zeropoint_boards import build

    _ = design.flow
    what = f"Building for {design.board.title}"
    with terminal.progress(what, 1 + _SEED_SHARE * len(seeds)) as update:
        netlist = build.synthesize_design(design)
        update(1)
        placed: list[Placement] = []

        def progress(placement: "Placement") -> None:
            placed.append(placement)
            update(1 + _SEED_SHARE * len(placed))

        placements = build.place_design(design, netlist, seeds, jobs, progress)
        best = build.check_timing(design, placements)
        return _Built(netlist, placements, build.pack(design, best))


def _pll(setting: "Setting | None") -> dict[str, Any] | None:
    """Return a PLL's setting as JSON holds it, frequencies as fractions of Hz."""
    if setting is None:
        return None
    return {key: each if isinstance(each, int) else str(each) for key, each in asdict(setting).items()}


def _details(design: "Design", built: _Built) -> dict[str, Any]:
    """Return what ``build.json`` says of what the tools did."""
    from zeropoint_boards import build

    device, best = design.board.device, built.placements[0]
    return {
        "device": device.device,
        "package": device.package,
        "resources": asdict(built.netlist.resources),
        "cells": dict(built.netlist.cells),
        "utilization": {site: list(counts) for site, counts in best.utilization.items()},
        "timing": {
            clock: {"constraint_mhz": best.goals[clock], "achieved_mhz": reached}
            for clock, reached in best.clocks.items()
        },
        "critical_paths": {
            clock: {"from": begin, "to": end, "ns": round(delay, 3)}
            for clock, (begin, end, delay) in best.critical_paths.items()
        },
        "seed": best.seed,
        "seeds": {str(each.seed): each.fmax for each in sorted(built.placements, key=lambda each: each.seed)},
        "tools": build.tool_versions(device),
        "rtlil_sha256": hashlib.sha256(design.rtlil.encode()).hexdigest(),
        "bitstream_sha256": hashlib.sha256(built.bitstream).hexdigest(),
    }


def _print(design: "Design", built: _Built) -> None:
    device, placement = design.board.device, built.placements[0]
    rows = []
    for resource, taken in asdict(built.netlist.resources).items():
        site = device.family.sites.get(resource, "")
        if site in placement.utilization:
            used, held = placement.utilization[site]
            rows.append([resource, taken, used, held, terminal.percent(used / held)])
    reached = f"reaches {placement.fmax:.2f} MHz with seed {placement.seed}"
    title = f"{design.board.title}: {device.device} at {float(design.clock) / 1e6:.2f} MHz; {reached}"
    terminal.table(title, ["resource", "synthesized", "placed", "of", "share"], rows)
