"""``zeropoint quantize``: post-training quantization."""

from pathlib import Path

import click

from zeropoint import arrays, importers
from zeropoint.cli import terminal
from zeropoint.cli.options import PATH
from zeropoint.errors import ZeropointError
from zeropoint.files import check_writable
from zeropoint.model import FloatModel, zp_file
from zeropoint.quantize import CalibrationMethod, Scheme, noise_table, quantize

#: The calibration samples on which the noise is measured.
NOISE_SAMPLES = 256


@click.command("quantize")
@click.argument("model", metavar="FLOAT.onnx", type=PATH)
@click.option(
    "--scheme",
    type=click.Choice([scheme.value for scheme in Scheme]),
    required=True,
    help="affine-int8: int8, weights with a scale per output channel. affine-uint8: uint8, a scale and a zero point "
    "per tensor. inq: weights of INQ, 0 and powers of two, which weights that INQ trained are already; activations as "
    "in affine-int8. Ristretto's: pow2, weights are powers of two; fixed, one fixed-point format for the network; "
    "dynamic-fixed, one for each tensor.",
)
@click.option(
    "--bits",
    type=int,
    help="For --scheme inq, weights of 2 to 5 bits [default: 5]; for fixed and dynamic-fixed, weights and activations "
    "of 2 to 8 bits [default: 8].",
)
@click.option(
    "--calibration",
    type=PATH,
    required=True,
    help="Inputs typical of those to come, .npy: the network's real values as floats; or uint8 with "
    "--calibration-scale.",
)
@click.option(
    "--calibration-scale",
    type=float,
    metavar="FLOAT",
    help="What one step of uint8 calibration data is worth, such as 0.00392157 for pixels from 0 to 1.",
)
@click.option(
    "--method",
    type=click.Choice([method.value for method in CalibrationMethod]),
    default=CalibrationMethod.MINMAX.value,
    show_default=True,
    help="How an activation's range follows from its values. minmax: all of them, the choice to begin with. "
    "percentile: all but the outermost, for activations with rare outliers. mse: the range of least squared error of "
    "each tensor by itself; the network's results may still be worse than with minmax, so compare them.",
)
@click.option(
    "--percentile",
    type=float,
    metavar="FLOAT",
    help="For --method percentile: the part of the values, in percent, within either end.  [default: 99.99]",
)
@click.option(
    "--bias-correction/--no-bias-correction",
    default=True,
    show_default=True,
    help="Whether the mean error that rounded weights cause on the calibration data is taken out of the biases.",
)
@click.option("-o", "--output", type=PATH, required=True, metavar="M.zp", help="The quantized network to write.")
def command(
    model: Path,
    scheme: str,
    bits: int | None,
    calibration: Path,
    calibration_scale: float | None,
    method: str,
    percentile: float | None,
    bias_correction: bool,
    output: Path,
) -> None:
    """Quantize a float network, and show for each layer how much noise that adds.

    Calibration data may have the layout of FLOAT.onnx (such as N, channels, height, width) or N, height, width,
    channels.
    """
    if percentile is not None and method != CalibrationMethod.PERCENTILE.value:
        raise click.UsageError("--percentile goes with --method percentile")
    if output.suffix != ".zp":
        raise click.UsageError(f"--output must be a .zp file, not '{output}'")
    check_writable(output, inputs=(model, calibration))
    network = importers.load(model)
    if not isinstance(network, FloatModel):
        raise ZeropointError(f"'{model}' is quantized already; give the float network it was made from")
    x = arrays.load_real(calibration, network, calibration_scale)
    with terminal.progress("Calibrating") as update:
        quantized = quantize(
            network,
            x,
            scheme=scheme,
            bits=bits,
            method=method,
            percentile=99.99 if percentile is None else percentile,
            bias_correction=bias_correction,
            progress=update,
        )
    zp_file.save(quantized, output)
    if warning := quantized.metadata.get("warning"):
        terminal.note(f"warning: {warning}")
    part = x[:NOISE_SAMPLES]
    noise = noise_table(network, quantized, part)
    rows = [[layer.operator, layer.kind, f"{layer.sqnr:.1f}", f"{layer.greatest_error:.4g}"] for layer in noise]
    title = f"Signal to quantization noise on {len(part)} calibration samples"
    terminal.table(title, ["layer", "op", "SQNR (dB)", "greatest error"], rows)
    terminal.note(f"wrote the quantized network to {output}")
