"""``zeropoint verilog``: a network as Verilog with weight images."""

from pathlib import Path

import click

from zeropoint.cli import terminal
from zeropoint.cli.compile import print_memories
from zeropoint.cli.options import PATH, Configured, config_options, load_quantized, model_argument, trim_option
from zeropoint.compiler import compile_model, storage, verify_program
from zeropoint.compiler.datasheet import datasheet
from zeropoint.compiler.flash_image import FLASH_IMAGE, flash_image
from zeropoint.compiler.loading import load_file
from zeropoint.compiler.trim import trim
from zeropoint.files import atomic_folder, check_apart
from zeropoint_hw.config import WeightSource

#: The accelerator, the writes that load it, and what there is to know about both.
VERILOG, LOAD, DATASHEET = "zeropoint.v", "load.mem", "README.md"


@click.command("verilog")
@model_argument
@click.option("-o", "--output", type=PATH, required=True, help="The folder to write; an earlier one is replaced.")
@config_options
@trim_option
@click.pass_context
def command(ctx: click.Context, model: Path, output: Path, configured: Configured, trimmed: bool) -> None:
    """Compile MODEL and write the accelerator for it as Verilog, for another tool flow.

    The folder holds what "compile" writes, so that "simulate --program" runs it, and besides: zeropoint.v, the
    accelerator (with the weights in it if --weight-source is rom); load.mem, the writes to the host bus that load the
    program (if it is ram); flash.bin, which belongs into the SPI flash (if it is flash); and README.md, which says what
    ports there are and how to use them.
    """
    check_apart(output, model, ctx.params["config"])
    network = load_quantized(model)
    config = configured(network)
    program = compile_model(network, trim(network, config) if trimmed else config)
    verify_program.verify(program)

    # Imported here, as Amaranth takes long to import.
    from zeropoint_hw.accelerator import Accelerator
    from zeropoint_hw.verilog import to_verilog
    from zeropoint_sim.design import rom

    with atomic_folder(output) as target:
        files = storage.files_of(program) | {DATASHEET: datasheet(program, VERILOG, LOAD).encode()}
        if program.config.weight_source is WeightSource.RAM:
            files[LOAD] = load_file(program)
        if program.config.weight_source is WeightSource.FLASH:
            files[FLASH_IMAGE] = flash_image(program)
        with terminal.progress("Writing Verilog", 1):
            files[VERILOG] = to_verilog(Accelerator(program.config, rom(program))).encode()
        for name, data in files.items():
            (target / name).write_bytes(data)
    print_memories(program)
    terminal.note(f"wrote the Verilog to {output}")
