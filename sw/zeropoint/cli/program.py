"""``zeropoint program``: a bitstream onto a board."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import click

from zeropoint.cli import terminal
from zeropoint.cli.options import PATH
from zeropoint.compiler import storage
from zeropoint.compiler.flash_image import FLASH_IMAGE, flash_image
from zeropoint.errors import ZeropointError
from zeropoint.files import read_bytes

#: More than any bitstream, or flash, of the boards.
_MAX_BYTES = 1 << 25
#: The program that does it, for nearly every board.
LOADER = "openFPGALoader"


@click.command("program")
@click.argument("folder", type=PATH, metavar="DIR")
@click.option("--flash", is_flag=True, help="Write it to the board's flash, from which it starts at power-on.")
def command(folder: Path, flash: bool) -> None:
    """Put the bitstream in DIR, which "build" wrote, on the board that it was built for, with openFPGALoader.

    Weights that the board reads from its flash are written there first. Where openFPGALoader is not installed, the
    command says what to do instead.
    """
    from zeropoint_boards import boards, record

    built = record.load(folder)
    board = boards.find(built.board)
    if built.bitstream is None:
        raise ZeropointError(
            f"'{folder}' holds no bitstream: it was built with --no-run; run the device's tools on its project first"
        )
    file = folder / built.bitstream
    if not file.is_file():
        raise ZeropointError(f"'{file}' is not there; build the model again")
    if hashlib.sha256(read_bytes(file, _MAX_BYTES)).hexdigest() != built.details.get("bitstream_sha256"):
        raise ZeropointError(f"'{file}' is not what \"build\" wrote: its SHA-256 differs; build the model again")
    image = folder / FLASH_IMAGE
    offset = None
    if image.is_file():
        program = storage.load(folder)
        offset = program.config.flash_offset
        if read_bytes(image, _MAX_BYTES) != flash_image(program):
            raise ZeropointError(f"'{image}' is not what \"build\" wrote: its weights differ; build the model again")
    if not board.programmer:
        weights = "" if offset is None else f"{board.weights_loading.format(file=image, offset=offset)}, and "
        raise ZeropointError(f"{LOADER} does not know {board.title}; {weights}{board.loading.format(file=file)}")
    calls = [] if offset is None else [[LOADER, "-b", board.programmer, "-f", "-o", str(offset), str(image)]]
    calls.append([LOADER, "-b", board.programmer, *(["-f"] if flash else []), str(file)])
    found = shutil.which(LOADER)
    if found is None:
        raise ZeropointError(
            f"{LOADER} is not installed; install it (Debian and Ubuntu: apt install openfpgaloader; others: "
            f"https://trabucayre.github.io/openFPGALoader) and run: {' && '.join(map(' '.join, calls))}"
        )
    if board.note:
        terminal.note(board.note)
    for call in calls:
        status = subprocess.run([found, *call[1:]], check=False).returncode
        if status:
            raise ZeropointError(
                f"{LOADER} failed with status {status}; is {board.title} connected, and may you use it?"
            )
    terminal.note(f"{board.title} runs {file}")
