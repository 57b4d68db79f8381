"""Cycles of whole networks on several arrays, counted by simulated hardware and checked against the golden model.

    ZEROPOINT_MODELS=folder python benchmarks/throughput.py [--array 8x8 --array 4x4 …]

Networks are the .tflite files in the folder that ZEROPOINT_MODELS names, and a CNN for 28 × 28 digits
of 307,648 MACs with random weights. Inputs are random: cycles do not depend on them.
"""

import os
import tempfile
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from zeropoint import golden, importers
from zeropoint.compiler import compile_model
from zeropoint.compiler.storage import load, save
from zeropoint.model import (
    Clamp,
    Conv2D,
    FullyConnected,
    MaxPool2D,
    Operator,
    Padding,
    Quantization,
    QuantizedModel,
    Tensor,
)
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_sim.simulate import REQUANTIZER_MULTIPLIERS, simulate

RELU = Clamp(0.0, float("inf"))


def digits() -> QuantizedModel:
    """Return conv 3×3 8, max pool, conv 3×3 16, max pool, fully-connected 32 and 10, with random int8 weights."""
    rng = np.random.default_rng(0)
    tensors = {"image": Tensor("image", (28, 28, 1), "int8", Quantization((1 / 255,), (-128,)))}
    operators: list[Operator] = []

    def append(kind: type[Operator], name: str, shape: tuple[int, ...], **fields: object) -> None:
        source = operators[-1].output if operators else "image"
        weights = fields.pop("shape_of_weights", None)
        quantization = tensors[source].quantization
        if weights is not None:
            data = rng.integers(-127, 128, weights).astype(np.int8)
            tensors[f"{name}/weights"] = Tensor(f"{name}/weights", data.shape, "int8", Quantization((0.01,)), data)
            fields["weights"] = f"{name}/weights"
            quantization = Quantization((0.1,), (-128,))
        tensors[name] = Tensor(name, shape, "int8", quantization)
        operators.append(kind(name=name, input=source, output=name, **fields))

    same = Padding(1, 1, 1, 1)
    append(Conv2D, "conv1", (28, 28, 8), shape_of_weights=(8, 3, 3, 1), padding=same, clamp=RELU)
    append(MaxPool2D, "pool1", (14, 14, 8), window=(2, 2), stride=(2, 2))
    append(Conv2D, "conv2", (14, 14, 16), shape_of_weights=(16, 3, 3, 8), padding=same, clamp=RELU)
    append(MaxPool2D, "pool2", (7, 7, 16), window=(2, 2), stride=(2, 2))
    append(FullyConnected, "dense1", (32,), shape_of_weights=(32, 784), clamp=RELU)
    append(FullyConnected, "dense2", (10,), shape_of_weights=(10, 32))
    return QuantizedModel("digits", tensors, tuple(operators), "image", "dense2")


def measure(model: QuantizedModel, lanes: int, columns: int) -> list[str]:
    """Return a row of the table for a network on an array."""
    config = AcceleratorConfig(lanes=lanes, columns=columns, weight_bytes=1 << 19)
    source = model.tensor(model.input)
    low, high = source.limits
    x = np.random.default_rng(0).integers(low, high + 1, (2, *source.shape)).astype(source.dtype)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "program")
        save(compile_model(model, config), folder)
        result = simulate(load(folder), x, golden.run(model, x))
    cycles = result.cycles[0]
    return [
        model.name,
        f"{lanes} × {columns}",
        f"{result.program.macs:,}",
        f"{result.program.macs / config.multipliers:,.0f}",
        f"{cycles:,}",
        f"{100 * result.utilization:.1f} %",
        f"{config.multipliers} + {config.requantizers * REQUANTIZER_MULTIPLIERS}",
        "yes" if result.mismatches == 0 else f"NO: {result.mismatches}",
    ]


@click.command(help=__doc__)
@click.option("--array", "arrays", multiple=True, default=["8x8"], show_default=True, help="LANESxCOLUMNS.")
def main(arrays: tuple[str, ...]) -> None:
    models = [digits()]
    folder = os.environ.get("ZEROPOINT_MODELS")
    for path in sorted(Path(folder).rglob("*.tflite")) if folder else []:
        models.append(importers.load(path))
    table = Table(title="Cycles from input loaded to last output written")
    for column in ("network", "array", "MACs", "ideal", "cycles", "busy", "multipliers: array + rest", "exact"):
        table.add_column(column, justify="left" if column == "network" else "right")
    for array in arrays:
        lanes, columns = (int(size) for size in array.split("x"))
        for model in models:
            table.add_row(*measure(model, lanes, columns))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
