"""``zeropoint golden``: the golden model over an array file."""

from pathlib import Path

import click

from zeropoint import arrays, golden
from zeropoint.cli import terminal
from zeropoint.cli.options import PATH, load_quantized, model_argument
from zeropoint.files import atomic_files, check_writable


@click.command("golden")
@model_argument
@click.option("--input", type=PATH, required=True, help="Inputs, .npy: quantized integers or real floats.")
@click.option("--output", type=PATH, required=True, help="Where to write the quantized outputs, .npy.")
@click.option("--tensors", type=PATH, help="Where to write every activation by name, .npz; feature maps as NHWC.")
def command(model: Path, input: Path, output: Path, tensors: Path | None) -> None:
    """Run the golden model of MODEL, which says what the hardware must compute, bit for bit.

    Inputs may have the layout of the file that the network was imported from (such as N, channels, height, width) or
    N, height, width, channels; outputs get the layout of that file.
    """
    check_writable(output, tensors, inputs=(model, input))
    network = load_quantized(model)
    x = arrays.load_input(input, network)
    with terminal.progress(f"Running {network.name}", len(x)) as update:
        every = golden.run_tensors(network, x, update) if tensors else {network.output: golden.run(network, x, update)}
    y = every[network.output]
    with atomic_files(output, tensors) as temporary:
        arrays.save_output(temporary[output], network, y)
        if tensors:
            arrays.save_tensors(temporary[tensors], every)
    terminal.note(f"wrote {len(y)} outputs to {output}")
