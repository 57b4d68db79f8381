"""``zeropoint quantize``: post-training quantization."""

from pathlib import Path
from typing import Any

import click

from zeropoint import arrays, importers
from zeropoint.cli import terminal
from zeropoint.cli.options import PATH
from zeropoint.errors import ZeropointError
from zeropoint.files import check_writable
from zeropoint.model import FloatModel, zp_file
from zeropoint.quantize import CalibrationMethod, Found, Scheme, noise_table, quantize, search

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
    "dynamic-fixed, one for each tensor; minifloat, small floating-point numbers.",
)
@click.option(
    "--bits",
    type=int,
    help="For --scheme inq, weights of 2 to 5 bits [default: 5]; for pow2, weights of 4; for fixed, dynamic-fixed and "
    "minifloat, weights and activations of 2 to 8 bits [default: 8], for the first two also of 16.",
)
@click.option(
    "--exponent-bits",
    type=int,
    help="For --scheme minifloat: the exponents' bits, 1 to --bits less 1 [default: 4, or what the greatest value "
    "wants].",
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
@click.option(
    "--means-as-weights",
    is_flag=True,
    help="Compute means as convolutions, with weights of 1 divided by the count: accelerators whose requantizers only "
    "shift (--requantizer shift) have no other way to divide.",
)
@click.option(
    "--acceptable-loss",
    type=float,
    metavar="POINTS",
    help="For --scheme dynamic-fixed, minifloat and pow2: look for the fewest bits, of each layer's weights, of its "
    "outputs and of the inputs, with which the accuracy on the calibration data is at most so many percentage points "
    "below the float network's.",
)
@click.option(
    "--labels",
    type=PATH,
    help="For --acceptable-loss: the right class of each calibration sample, .npy. Without it, the float network's "
    "classes count as right.",
)
@click.option("-o", "--output", type=PATH, required=True, metavar="M.zp", help="The quantized network to write.")
def command(
    model: Path,
    scheme: str,
    bits: int | None,
    exponent_bits: int | None,
    calibration: Path,
    calibration_scale: float | None,
    method: str,
    percentile: float | None,
    bias_correction: bool,
    means_as_weights: bool,
    acceptable_loss: float | None,
    labels: Path | None,
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
    if labels is not None and acceptable_loss is None:
        raise click.UsageError("--labels goes with --acceptable-loss")
    if bits is not None and acceptable_loss is not None:
        raise click.UsageError("--acceptable-loss looks for the bits; leave out --bits")
    check_writable(output, inputs=(model, calibration, labels))
    network = importers.load(model)
    if not isinstance(network, FloatModel):
        raise ZeropointError(f"'{model}' is quantized already; give the float network it was made from")
    x = arrays.load_real(calibration, network, calibration_scale)
    options: dict[str, Any] = {
        "scheme": Scheme(scheme),
        "method": CalibrationMethod(method),
        "percentile": 99.99 if percentile is None else percentile,
        "bias_correction": bias_correction,
        "exponent_bits": exponent_bits,
        "means_as_weights": means_as_weights,
    }
    if acceptable_loss is None:
        with terminal.progress("Calibrating") as update:
            quantized = quantize(network, x, bits=bits, **options, progress=update)
    else:
        classes = None if labels is None else arrays.load_labels(labels)
        with terminal.progress("Searching") as update:
            found = search(network, x, classes, acceptable_loss=acceptable_loss / 100, **options, progress=update)
        quantized = found.model
        _print_found(found)
    zp_file.save(quantized, output)
    if warning := quantized.metadata.get("warning"):
        terminal.note(f"warning: {warning}")
    part = x[:NOISE_SAMPLES]
    noise = noise_table(network, quantized, part)
    rows = [[layer.operator, layer.kind, f"{layer.sqnr:.1f}", f"{layer.greatest_error:.4g}"] for layer in noise]
    title = f"Signal to quantization noise on {len(part)} calibration samples"
    terminal.table(title, ["layer", "op", "SQNR (dB)", "greatest error"], rows)
    terminal.note(f"wrote the quantized network to {output}")


def _print_found(found: Found) -> None:
    """Print the bits of each group, and the accuracy of each width by itself."""
    rows = []
    for group, trials in found.alone.items():
        curve = ", ".join(f"{trial.bits[group]}: {terminal.percent(trial.accuracy)}" for trial in trials)
        rows.append([group, found.bits[group], curve])
    exponents = "" if found.exponent_bits is None else f", with {found.exponent_bits} exponent bits"
    title = f"Narrowest formats, of {len(found.trials)} networks tried{exponents}"
    terminal.table(title, ["group", "bits", "accuracy with so many bits in this group alone"], rows)
    terminal.say(
        f"accuracy on the calibration data: {terminal.percent(found.accuracy)}, "
        f"of the float network {terminal.percent(found.float_accuracy)}"
    )
