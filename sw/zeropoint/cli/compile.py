"""``zeropoint compile``: a network to memory images."""

from pathlib import Path

import click

from zeropoint.cli import terminal
from zeropoint.cli.options import PATH, Configured, config_options, load_quantized, model_argument, trim_option
from zeropoint.compiler import compile_model, storage, verify_program
from zeropoint.compiler.capacity import MEMORIES
from zeropoint.compiler.program import Program
from zeropoint.compiler.trim import memory_use, trim
from zeropoint.files import check_apart


@click.command("compile")
@model_argument
@click.option("-o", "--output", type=PATH, required=True, help="The folder to write; an earlier program is replaced.")
@config_options
@trim_option
@click.pass_context
def command(ctx: click.Context, model: Path, output: Path, configured: Configured, trimmed: bool) -> None:
    """Compile MODEL for an accelerator: layer program, memory map and weight images, with a manifest.

    The images come as .mem and .hex for $readmemh, .mif, .coe, .bin, and as a C header.
    """
    check_apart(output, model, ctx.params["config"])
    network = load_quantized(model)
    config = configured(network)
    program = compile_model(network, trim(network, config) if trimmed else config)
    verify_program.verify(program)
    storage.save(program, output)
    print_memories(program)
    _print_tensors(program)
    terminal.note(f"wrote the program to {output}")


def print_memories(program: Program) -> None:
    """Print how much of each of the configuration's memories a program takes."""
    config = program.config
    rows = []
    for field, used in memory_use(program).items():
        if size := getattr(config, field):
            rows.append([*MEMORIES[field], used, size, terminal.percent(used / size)])
    sizes = f"{config.lanes} lanes × {config.columns} columns, {config.requantizers} requantizers, {config.pe}"
    terminal.table(f"Memories of {sizes}", ["memory", "unit", "used", "size", "share"], rows)


def _print_tensors(program: Program) -> None:
    rows = []
    for buffer in program.tensors.values():
        role = {program.input.tensor: "input", program.output.tensor: "output"}.get(buffer.tensor, "")
        first = buffer.address * program.config.element_bytes
        size = buffer.memory_bytes
        shape = "×".join(map(str, buffer.shape))
        rows.append([buffer.tensor, f"0x{first:05x}", f"0x{first + size - 1:05x}", size, shape, buffer.dtype, role])
    columns = ["tensor", "first byte", "last byte", "bytes", "shape", "type", "role"]
    terminal.table("Activation memory; places are used again once a tensor is read", columns, rows)
