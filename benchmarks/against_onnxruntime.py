"""How far ONNX Runtime's integers are from the golden model's, on the demo network and the images that ship with it.

python benchmarks/against_onnxruntime.py
"""

from dataclasses import replace
from importlib import resources
from pathlib import Path

import click
import numpy as np
import onnxruntime
from rich.console import Console
from rich.table import Table

from zeropoint import arrays, golden, importers
from zeropoint.cli.demo import PIXEL
from zeropoint.export.onnx_runtime import differences
from zeropoint.model import FloatModel
from zeropoint.numerics import Rounding
from zeropoint.quantize import Scheme, quantize

DEMO = Path(str(resources.files("zeropoint"))) / "demo"


def measure(scheme: Scheme, rounding: Rounding) -> list[str]:
    """Return a column of the table: counts and steps of each layer alone, and of the network's output."""
    network = importers.load(DEMO / "fashion_mnist.onnx")
    assert isinstance(network, FloatModel)
    calibration, images = (arrays.load_real(DEMO / f"{name}.npy", network, PIXEL) for name in ("calibration", "images"))
    model = replace(quantize(network, calibration, scheme=scheme), rounding=rounding)
    x = model.tensor(model.input).quantize(images)
    found = differences(model, x)
    output = found[-1]
    assert golden.run(model, x).size == output.elements
    return [
        f"{sum(layer.elements for layer in found):,}",
        f"{sum(layer.alone for layer in found):,}",
        f"{max(layer.alone_greatest for layer in found)}",
        f"{output.elements:,}",
        f"{output.network:,}",
        f"{output.network_greatest}",
    ]


@click.command(help=__doc__)
def main() -> None:
    table = Table("")
    columns = [
        ["integers, each layer alone", "that differ", "steps at most", "outputs", "that differ", "steps at most"]
    ]
    for scheme in Scheme:
        for rounding in (Rounding.DOUBLE, Rounding.SINGLE):
            table.add_column(f"{scheme.value}, {rounding.value}", justify="right")
            columns.append(measure(scheme, rounding))
    for row in zip(*columns, strict=True):
        table.add_row(*row)
    print(f"ONNX Runtime {onnxruntime.__version__}, {len(np.load(DEMO / 'images.npy'))} images")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
