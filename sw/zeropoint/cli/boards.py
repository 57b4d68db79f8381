"""``zeropoint boards``: what a network can be built for."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zeropoint.cli import terminal
from zeropoint.cli.options import PATH, load_quantized
from zeropoint.compiler import compile_model
from zeropoint.compiler.configure import configure
from zeropoint.compiler.trim import trim
from zeropoint.errors import ZeropointError
from zeropoint.files import atomic_write, check_writable
from zeropoint_hw.config import AcceleratorConfig, WeightStore

if TYPE_CHECKING:
    from zeropoint.model import QuantizedModel
    from zeropoint_boards.board import Board


@click.command("boards")
@click.argument("models", type=PATH, nargs=-1, metavar="[MODEL]...")
@click.option("--json", "report", type=PATH, help="Where to write the table as JSON.")
def command(models: tuple[Path, ...], report: Path | None) -> None:
    """List the boards that "build" knows, and on which of them each MODEL fits.

    A MODEL fits if the memories and multipliers of the accelerator that "build" would make for it by default are in the
    board's FPGA; logic and the clock are known when it is built.
    """
    from zeropoint_boards.boards import BOARDS

    check_writable(report, inputs=models)
    networks = [(path.stem, load_quantized(path)) for path in models]
    rows = [_entry(board) for board in BOARDS.values()]
    with terminal.progress("Compiling", max(len(networks) * len(BOARDS), 1)) as update:
        for place, (name, network) in enumerate(networks):
            for index, (entry, board) in enumerate(zip(rows, BOARDS.values(), strict=True)):
                entry["models"][name], entry["weights_in_flash"][name] = _fit(board, network)
                update(place * len(BOARDS) + index + 1)
    columns = ["board", "name", "device", "LUT", "DSP", "block RAM", "KiB", "array", "largest", "MHz"]
    table = [
        [
            each["board"],
            each["title"],
            each["device"],
            each["lut"],
            each["dsp"],
            each["block_ram"],
            each["block_ram_bits"] / 8192,
            each["array"],
            each["largest_array"],
            each["clock_mhz"],
            *(short or _fits(each["weights_in_flash"][name]) for name, short in each["models"].items()),
        ]
        for each in rows
    ]
    terminal.table("Boards", [*columns, *(name for name, _ in networks)], table)
    for each in rows:
        if not each["bitstream"]:
            terminal.say(f"{each['board']}: the vendor's tools make the bitstream; --no-run writes a project for them")
    if report is not None:
        atomic_write(report, (json.dumps(rows, indent=2, allow_nan=False) + "\n").encode())


def _entry(board: "Board") -> dict[str, Any]:
    """Return what is known of a board."""
    from zeropoint_boards import fit

    capacity = board.device.capacity
    lanes, columns = fit.largest_array(board)
    deep, wide = board.device.family.block_ram_shapes[0]
    config = AcceleratorConfig.from_dict(dict(board.config))
    return {
        "board": board.name,
        "title": board.title,
        "device": board.device.device,
        "lut": capacity.lut,
        "dsp": capacity.dsp,
        "block_ram": capacity.block_ram,
        "block_ram_bits": capacity.block_ram * deep * wide,
        "array": f"{config.lanes}×{config.columns}",
        "largest_array": f"{lanes}×{columns}",
        "oscillator_mhz": float(board.oscillator) / 1e6,
        "clock_mhz": float(board.clocking(board.frequency)[0]) / 1e6,
        "bitstream": board.device.family.flow is not None,
        "note": board.note,
        "models": {},
        "weights_in_flash": {},
    }


def _fits(weights_in_flash: bool) -> str:
    return "fits, weights stay in flash" if weights_in_flash else "fits"


def _fit(board: "Board", network: "QuantizedModel") -> tuple[str | None, bool]:
    """Return of what a network takes more than a board has, None if it fits; and whether its weights stay in flash."""
    from zeropoint_boards import fit

    try:
        config = fit.choose(board, lambda defaults: trim(network, configure(network, {}, defaults)))
        compile_model(network, config)
    except (ZeropointError, ValueError) as error:
        return str(error), False
    return fit.shortage(config, board) or None, config.weight_store is WeightStore.FLASH
