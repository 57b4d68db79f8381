"""Train the demo network with quantization in the loop, and compare it with quantization after training.

Run it as ``python examples/fashion_mnist/qat.py``; ``--help`` lists the options, README.md says what comes out. The
same seed, PyTorch version and kind of processor give the same bytes again.
"""

import copy
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import train  # first: it says what to install if a module is missing

# isort: split
import click
import further
import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from torch import Tensor

from zeropoint import golden
from zeropoint.cli.failures import exit_status
from zeropoint.files import atomic_write
from zeropoint.importers import layout, onnx_float, onnx_quantized
from zeropoint.model import QuantizedModel
from zeropoint.quantize import quantize
from zeropoint.train import Qat

OUTPUT = train.HERE / "qat"

#: A fifth of that of the first training.
LEARNING_RATE = 0.02
SCHEMES = ("affine-int8", "affine-uint8")
RANGES = ("averaged", "learned")
#: The share of the training after which the statistics of the normalizations are frozen.
FREEZE = 5 / 6
#: The weight of a batch in the averages of ranges. They are as old as a few hundred batches.
MOMENTUM = 0.01
#: For quantization after training.
CALIBRATION_IMAGES = 1000
BATCH = 500


@dataclass(frozen=True)
class Result:
    """What qat_results.json says of one network; accuracies are shares of 1, of the 10,000 test images.

    The accuracy is that of the golden model on the exported file. ``unequal_values`` counts the outputs in which the
    network's own evaluation differs from it: none. The last two compare the network in floating point, fake quantized.
    """

    accuracy: float
    unequal_values: int
    values: int
    simulated_accuracy: float
    simulated_values_that_differ: int
    onnx_sha256: str


def float_model_accuracies(
    content: bytes, calibration: Tensor, inputs: np.ndarray, labels: np.ndarray
) -> dict[str, float]:
    """Return the accuracy of a float network in ONNX, quantized after training, by scheme."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "float.onnx"
        file.write_bytes(content)
        model = onnx_float.read(file)
    data = layout.to_model(model, calibration.numpy())
    return {scheme: share(golden_output(quantize(model, data, scheme=scheme), inputs), labels) for scheme in SCHEMES}


def golden_output(model: QuantizedModel, inputs: np.ndarray) -> np.ndarray:
    """Return the integers that the golden model makes of real inputs in the file's layout."""
    return golden.run(model, model.tensor(model.input).quantize(layout.to_model(model, inputs)))


def share(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of images whose greatest output is that of their class, the first of equal ones."""
    return round(float((outputs.argmax(axis=1) == labels).mean()), 6)


def parts(inputs: Tensor) -> Iterator[Tensor]:
    """Yield batches."""
    yield from inputs.split(BATCH)


def measure(qat: Qat, content: bytes, inputs: Tensor, labels: np.ndarray) -> Result:
    """Return what there is to say of a trained network and of its exported file."""
    qat.eval()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        file.write_bytes(content)
        model = onnx_quantized.read(file)
    outputs = golden_output(model, inputs.numpy())
    own = np.concatenate([qat(part).numpy() for part in parts(inputs)])
    with torch.no_grad():
        simulated = np.concatenate([qat.simulate(part).numpy() for part in parts(inputs)])
    target = model.tensor(model.output)
    return Result(
        accuracy=share(outputs, labels),
        unequal_values=int((own != target.dequantize(outputs)).sum()),
        values=outputs.size,
        simulated_accuracy=share(simulated, labels),
        simulated_values_that_differ=int((target.quantize(simulated) != outputs).sum()),
        onnx_sha256=hashlib.sha256(content).hexdigest(),
    )


@click.command()
@train.data_option
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=OUTPUT,
    help="Folder for the networks and results; made if absent.  [default: qat beside this script]",
)
@click.option(
    "--epochs",
    type=click.FloatRange(0, 1000, min_open=True),
    default=1,
    show_default=True,
    help="Epochs for each network, the float one included.",
)
@train.seed_option
@train.limit_option
@click.help_option("-h", "--help")
def main(data: Path | None, output: Path, epochs: float, seed: int, limit: int) -> None:
    """Train the demo network by quantization-aware training and write the networks and qat_results.json."""
    console = Console()
    further.make_folder(output)
    images, labels, test_images, test_labels = further.load(data, console)
    inputs = train.to_input(torch.from_numpy(test_images.copy()))
    calibration = train.to_input(torch.from_numpy(images[:CALIBRATION_IMAGES].copy()))
    restored = further.restore(further.DEMO_NETWORK, images[: further.STATISTICS_IMAGES])
    retrain = further.Retraining(restored, images[:limit], labels[:limit], (1.0,), epochs, seed, LEARNING_RATE)
    freeze = round(FREEZE * epochs * (limit // train.BATCH_SIZE))

    before = further.accuracy(restored, test_images, test_labels)
    shipped = float_model_accuracies(further.DEMO_NETWORK.read_bytes(), calibration, inputs.numpy(), test_labels)
    results: dict[str, dict[str, Result]] = {scheme: {} for scheme in SCHEMES}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    started = time.process_time()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("Networks", total=1 + len(SCHEMES) * len(RANGES))
        # The float network gets the same training.
        network = copy.deepcopy(restored).to(memory_format=torch.channels_last)
        retrain(network, 1.0)
        after = further.accuracy(network, test_images, test_labels)
        trained = float_model_accuracies(further.export(network), calibration, inputs.numpy(), test_labels)
        progress.console.print(f"float: accuracy {after:.2%}, quantized after training {trained}", highlight=False)
        progress.advance(task)
        for scheme in SCHEMES:
            for ranges in RANGES:
                network = copy.deepcopy(restored).to(memory_format=torch.channels_last)
                qat = Qat(network, scheme, ranges=ranges, momentum=MOMENTUM, freeze=freeze, input_range=(0.0, 1.0))
                retrain(qat, 1.0)
                file = output / f"{scheme.removeprefix('affine-')}_{ranges}.onnx"
                qat.eval().export(file, inputs[:BATCH])
                result = results[scheme][ranges] = measure(qat, file.read_bytes(), inputs, test_labels)
                progress.console.print(f"{scheme}, {ranges} ranges: {result}", highlight=False)
                progress.advance(task)
    console.print(f"processor time: {(time.process_time() - started) / 60:.1f} minutes", highlight=False)

    summary = {
        "float_accuracy": round(before, 6),
        "float_accuracy_after_further_epochs": round(after, 6),
        "after_training": shipped,
        "after_training_with_further_epochs": trained,
        "test_images": len(test_images),
        "further_epochs": epochs,
        "training_images": limit,
        "calibration_images": CALIBRATION_IMAGES,
        "learning_rate": LEARNING_RATE,
        "seed": seed,
        "torch": torch.__version__,
        "in_training": {
            scheme: {ranges: asdict(result) for ranges, result in found.items()} for scheme, found in results.items()
        },
    }
    atomic_write(output / "qat_results.json", (json.dumps(summary, indent=2) + "\n").encode())
    table = Table("Network", "float", *SCHEMES, title=f"Accuracy, written to {output}")
    table.add_row("as it ships", f"{before:.2%}", *(f"{value:.2%}" for value in shipped.values()))
    table.add_row("trained on", f"{after:.2%}", *(f"{value:.2%}" for value in trained.values()))
    for ranges in RANGES:
        row = (f"{results[scheme][ranges].accuracy:.2%}" for scheme in SCHEMES)
        table.add_row(f"quantized in training, {ranges} ranges", "", *row)
    console.print(table)


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(standalone_mode=False)))
