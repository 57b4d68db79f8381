"""``zeropoint run``: inference on a board, real or virtual."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from zeropoint import golden
from zeropoint.cli import simulation, terminal
from zeropoint.cli.failures import Status
from zeropoint.cli.options import PATH, limit_option, load_quantized
from zeropoint.compiler import storage
from zeropoint.compiler.program import Program
from zeropoint.compiler.verify_program import verify
from zeropoint.errors import ZeropointError
from zeropoint.files import atomic_files, atomic_write, check_writable
from zeropoint.host.device import BAUD

if TYPE_CHECKING:
    from zeropoint.host import Device
    from zeropoint_boards.record import BuildRecord

#: The file that "build" writes besides what "compile" does; see :mod:`zeropoint_boards.record`.
_BUILD = "build.json"

#: The port that stands for a simulated board.
VIRTUAL = "virtual"


@click.command("run")
@click.argument("folder", type=PATH, metavar="DIR")
@click.option(
    "--port",
    required=True,
    help='The serial port of the board; "virtual" for a simulated accelerator, "virtual:BOARD" for a simulated board.',
)
@click.option("--input", type=PATH, required=True, help="Inputs, .npy: quantized integers or real floats.")
@click.option("--output", type=PATH, required=True, help="Where to write the board's quantized outputs, .npy.")
@click.option(
    "--baud", type=click.IntRange(min=300), help=f"Of the board's link.  [default: what it was built for, or {BAUD}]"
)
@click.option("--check", type=PATH, metavar="MODEL", help="Compare every output with the golden model of MODEL.")
@click.option("--json", "report", type=PATH, help="Where to write cycles, throughput and what the line lost as JSON.")
@limit_option
@click.pass_context
def command(
    ctx: click.Context,
    folder: Path,
    port: str,
    input: Path,
    output: Path,
    baud: int | None,
    check: Path | None,
    report: Path | None,
    limit: int | None,
) -> None:
    """Run the program in DIR, which "build" or "compile" wrote, on the board at a serial port.

    The program is loaded unless the board holds it already. With --check, the exit status is 1 if anything differs from
    the golden model.
    """
    from zeropoint.host import files

    check_writable(output, report, inputs=(folder, input, check))
    expected = None
    model = None if check is None else load_quantized(check)
    program = storage.load(folder) if model is None else simulation.loaded(model, folder)
    verify(program)
    built = _built(folder)
    x = files.load_input(input, program)[:limit]
    if model is not None:
        with terminal.progress(f"Running the golden model of {model.name}", len(x)) as update:
            expected = golden.run(model, x, update)
    with atomic_files(output, report) as temporary, _device(port, baud, program, built) as device:
        with terminal.progress(f"Loading {program.name}") as update:
            device.load(program, lambda done, total: update(done / total))
        with terminal.progress(f"Running {program.name}", len(x)) as update:
            y = device.run(x, lambda done, _: update(done))
        result = _result(device, program, y, expected)
        files.save_output(temporary[output], program, y)
        if report:
            atomic_write(temporary[report], (json.dumps(result, indent=2, allow_nan=False) + "\n").encode())
    _print(result)
    if result.get("mismatches"):
        ctx.exit(Status.DIFFERENT)


def _built(folder: Path) -> "BuildRecord | None":
    """Return what is known of the board that the folder's bitstream is for, if there is one."""
    if not (folder / _BUILD).is_file():
        return None
    from zeropoint_boards import record

    return record.load(folder)


#: A simulated board may be a thousand times slower than a real one; its line loses nothing that were to be sent again.
_SIMULATED_TIMEOUT, _SIMULATED_PATIENCE = 10.0, 300.0


@contextmanager
def _device(port: str, baud: int | None, program: Program, built: "BuildRecord | None") -> Iterator["Device"]:
    """Yield the device at a port, or a virtual board's."""
    from zeropoint.host import Device

    if baud is None:
        baud = built.baud if built else BAUD
    if port != VIRTUAL and not port.startswith(f"{VIRTUAL}:"):
        with Device.open(port, baud=baud) as device:
            yield device
        return
    from zeropoint_sim.virtual_board import VirtualBoard

    options = {} if port == VIRTUAL else _board(port.partition(":")[2], baud, built)

    def building() -> None:
        terminal.note("building the virtual board for this configuration; later runs find it in the cache")

    with (
        VirtualBoard(program.config, program, announce=building, **options) as board,
        Device.open(board.port, baud=baud, timeout=_SIMULATED_TIMEOUT, patience=_SIMULATED_PATIENCE) as device,
    ):
        yield device


def _board(name: str, baud: int, built: "BuildRecord | None") -> dict[str, Any]:
    """Return how a virtual board becomes the one of a name: as it was built, or else as it would be."""
    from zeropoint_boards import boards
    from zeropoint_boards.top import VirtualTop
    from zeropoint_sim.cxxrtl_build import design_identity

    board = boards.find(name)
    if built is not None and built.board != name:
        raise ZeropointError(f"the program was built for {built.board}, not for {name}; build it for that board")
    divisor = built.divisor if built else board.divisor(board.clocking(board.frequency)[0], baud)
    return {
        "divisor": divisor,
        "buffer_bits": built.buffer_bits if built else board.buffer_bits,
        "top": lambda core: VirtualTop(board, core),
        "top_identity": design_identity("zeropoint_boards", "amaranth_boards") + name.encode(),
    }


def _result(device: "Device", program: Program, y: Any, expected: Any) -> dict[str, Any]:
    """Return what ``--json`` writes."""
    report, statistics = device.report, device.statistics
    result: dict[str, Any] = {
        "program": program.name,
        "config": program.config.to_dict(),
        "inferences": len(y),
        "cycles": list(report.cycles),
        "seconds": report.seconds,
        "inferences_per_second": report.inferences_per_second,
        "sent_bytes": statistics.sent_bytes,
        "received_bytes": statistics.received_bytes,
        "repeated_requests": report.repeated,
        "damaged_frames": report.damaged,
        "resets": report.resets,
    }
    if expected is not None:
        differs = (y.reshape(len(y), -1) != expected.reshape(len(y), -1)).sum(axis=1)
        result |= {"mismatches": int(differs.sum()), "exact_inferences": int(np.count_nonzero(differs == 0))}
    return result


def _print(result: dict[str, Any]) -> None:
    cycles = result["cycles"]
    if "mismatches" in result:
        terminal.say(f"{result['exact_inferences']}/{len(cycles)} inferences bit-exact")
    terminal.say(f"inferences: {len(cycles)}, {result['inferences_per_second']:,.1f} a second, link included")
    spread = f"{min(cycles):,}" if min(cycles) == max(cycles) else f"{min(cycles):,} to {max(cycles):,}"
    terminal.say(f"cycles per inference: {spread}")
    if result["repeated_requests"] or result["resets"]:
        terminal.say(
            f"the line: {result['repeated_requests']} requests sent again, {result['damaged_frames']} damaged answers, "
            f"{result['resets']} resets of the board"
        )
