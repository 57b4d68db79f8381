"""``zeropoint export``: a quantized network as an ONNX file."""

from pathlib import Path

import click

from zeropoint.cli import terminal
from zeropoint.cli.options import PATH, load_quantized, model_argument
from zeropoint.files import check_writable


@click.command("export")
@model_argument
@click.option("-o", "--output", type=PATH, required=True, metavar="M.onnx", help="The ONNX file to write.")
def command(model: Path, output: Path) -> None:
    """Write MODEL as an ONNX file in QDQ form: float operators between DequantizeLinear and QuantizeLinear.

    Feature maps have their channels first, as is usual for ONNX. Other tools compute such a file with floating-point
    scales, and differ from the hardware by a step now and then: "zeropoint info --against-onnxruntime" says how often.
    """
    if output.suffix != ".onnx":
        raise click.UsageError(f"--output must be a .onnx file, not '{output}'")
    check_writable(output, inputs=(model,))
    network = load_quantized(model)
    # Imported here, as onnx takes a second to import.
    from zeropoint.export import onnx_qdq

    onnx_qdq.write(network, output)
    terminal.note(f"wrote the network to {output}")
