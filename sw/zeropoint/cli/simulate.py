"""``zeropoint simulate``: a network on simulated hardware, compared with the golden model."""

from dataclasses import fields
from pathlib import Path

import click
from click.core import ParameterSource

from zeropoint import arrays
from zeropoint.cli import simulation
from zeropoint.cli.failures import Status
from zeropoint.cli.options import (
    PATH,
    Configured,
    config_options,
    engine_option,
    limit_option,
    load_quantized,
    model_argument,
    trim_option,
)
from zeropoint.compiler.trim import trim
from zeropoint.errors import ZeropointError
from zeropoint.files import atomic_files, check_writable
from zeropoint_hw.config import AcceleratorConfig


@click.command("simulate")
@model_argument
@click.option("--input", type=PATH, required=True, help="Inputs, .npy: quantized integers or real floats.")
@click.option("--output", type=PATH, required=True, help="Where to write the hardware's quantized outputs, .npy.")
@engine_option
@click.option("--json", "report", type=PATH, help="Where to write cycles, utilization and differences as JSON.")
@click.option("--trace", type=PATH, help="Where to write the waveforms of the first inference, .vcd.")
@click.option("--tensors", is_flag=True, help="Compare every tensor that the hardware writes, not only the outputs.")
@limit_option
@click.option("--program", type=PATH, help='Run the program in this folder, which "compile" wrote for MODEL.')
@config_options
@trim_option
@click.pass_context
def command(
    ctx: click.Context,
    model: Path,
    input: Path,
    output: Path,
    engine: str,
    report: Path | None,
    trace: Path | None,
    tensors: bool,
    limit: int | None,
    program: Path | None,
    configured: Configured,
    trimmed: bool,
) -> None:
    """Compile MODEL, run it on the simulated hardware, and compare every output with the golden model, bit for bit.

    The engines load the very files that "compile" writes. The exit status is 1 if anything differs.
    """
    check_writable(output, report, trace, inputs=(model, input, program, ctx.params["config"]))
    options = ("config", "trimmed", *(field.name for field in fields(AcceleratorConfig)))
    if program is not None and any(ctx.get_parameter_source(name) != ParameterSource.DEFAULT for name in options):
        raise ZeropointError("--program brings its own configuration; leave out the options that give another")
    network = load_quantized(model)
    x = arrays.load_input(input, network)[:limit]
    config = configured(network)
    config = trim(network, config) if trimmed else config
    with atomic_files(output, report, trace) as temporary:
        waveforms = temporary[trace] if trace else None
        result = simulation.run(network, x, config, engine=engine, program=program, trace=waveforms, tensors=tensors)
        arrays.save_output(temporary[output], network, result.outputs)
        if report:
            simulation.save_report(temporary[report], result)
    simulation.print_result(result)
    if result.mismatches:
        ctx.exit(Status.DIFFERENT)
