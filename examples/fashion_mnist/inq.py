"""Train the demo network by incremental network quantization (INQ) at 5, 4, 3 and 2 bits.

Run it as ``python examples/fashion_mnist/inq.py``; ``--help`` lists the options, README.md says what comes out. The
same seed, PyTorch version and kind of processor give the same bytes again.
"""

import copy
import hashlib
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import train  # first: it says what to install if a module is missing

# isort: split
import click
import further
import numpy as np
import onnx
import torch
from onnx import numpy_helper
from rich.console import Console
from rich.table import Table
from torch import nn

from zeropoint.cli.failures import exit_status
from zeropoint.files import atomic_write
from zeropoint.train import SCHEDULES, Inq, Stage, fit_channel_scales, plot_accuracy, train_inq

OUTPUT = train.HERE / "inq"

#: Half of that of the first training.
LEARNING_RATE = 0.05
#: The accumulated portions: those published for the width or, at 5 bits, the more gradual ones of the published two.
PORTIONS = {5: SCHEDULES["googlenet"], 4: SCHEDULES["4-bit"], 3: SCHEDULES["3-bit"], 2: SCHEDULES["2-bit"]}


@dataclass(frozen=True)
class Result:
    """What inq_results.json says of one network; accuracies are shares of 1, of the 10,000 test images."""

    accuracy: float
    portions: list[float]
    accuracies: list[float]
    weights_by_power: dict[str, dict[str, int]]
    onnx_sha256: str


def check_levels(content: bytes, bits: int) -> None:
    """Raise RuntimeError unless each channel's weights are one factor times 0 or ±2^e, with 2^(bits − 2) exponents.

    In the file the normalizations are folded into the weights; so each channel has a factor of its own.
    """
    model = onnx.load_from_string(content)
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm"):
            continue
        weights = values[node.input[1]]
        # The fully-connected layer has no normalization: one factor for all.
        for channel in weights.reshape(len(weights), -1) if node.op_type == "Conv" else [weights.reshape(-1)]:
            fraction, exponent = np.frexp(np.abs(channel[channel != 0]))
            if fraction.size and (np.ptp(fraction) != 0 or np.ptp(exponent) >= 1 << bits - 2):
                raise RuntimeError(f"'{node.name}' has weights in the file that are not powers of two by a factor")


def powers(histogram: dict[str, dict[float, int]]) -> dict[str, dict[str, int]]:
    """Return the counts of ``histogram`` with the levels written as ``-2^-3``, ``0``, ``2^-3``."""

    def text(level: float) -> str:
        return f"{'-' if level < 0 else ''}2^{np.frexp(level)[1] - 1}" if level else "0"

    return {name: {text(level): count for level, count in counts.items()} for name, counts in histogram.items()}


@click.command()
@train.data_option
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=OUTPUT,
    help="Folder for the networks, results and plot; made if absent.  [default: inq beside this script]",
)
@click.option("--checkpoints", type=click.Path(path_type=Path), help="Folder to save progress to and to go on from.")
@click.option(
    "--bits",
    "widths",
    type=click.IntRange(2, 5),
    multiple=True,
    default=(5, 4, 3, 2),
    show_default=True,
    help="A width to train; repeat it for several.",
)
@click.option(
    "--epochs",
    type=click.FloatRange(0, 1000),
    default=8,
    show_default=True,
    help="Epochs for each width, all portions together, and for the float network.",
)
@train.seed_option
@train.limit_option
@click.help_option("-h", "--help")
def main(
    data: Path | None,
    output: Path,
    checkpoints: Path | None,
    widths: tuple[int, ...],
    epochs: float,
    seed: int,
    limit: int,
) -> None:
    """Train the demo network by INQ and write the networks, inq_results.json and a plot."""
    console = Console()
    widths = tuple(dict.fromkeys(widths))
    for folder in filter(None, (output, checkpoints)):
        further.make_folder(folder)
    images, labels, test_images, test_labels = further.load(data, console)
    restored = further.restore(further.DEMO_NETWORK, images[: further.STATISTICS_IMAGES])
    before = further.accuracy(restored, test_images, test_labels)
    console.print(f"float, as it ships: accuracy {before:.2%}", highlight=False)

    def evaluate(network: nn.Module) -> float:
        return further.accuracy(network, test_images, test_labels)

    def prepared(bits: int) -> train.DemoNetwork:
        network = copy.deepcopy(restored)
        for block in network.modules():
            if isinstance(block, train.ConvNorm):
                fit_channel_scales(block.conv, block.norm, bits)
        return network.to(memory_format=torch.channels_last)

    def retraining(portions: tuple[float, ...]) -> further.Retraining:
        return further.Retraining(restored, images[:limit], labels[:limit], portions, epochs, seed, LEARNING_RATE)

    def exported_accuracy(content: bytes) -> float:
        return round(float((train.evaluate(content, test_images).argmax(axis=1) == test_labels).mean()), 6)

    started = time.process_time()
    # The float network gets the same retraining, in the steps of the first width.
    network = prepared(widths[0])
    retrain = retraining(PORTIONS[widths[0]])
    for portion in PORTIONS[widths[0]]:
        retrain(network, portion)
        console.print(f"float, trained on: accuracy {evaluate(network):.2%}", highlight=False)
    after = exported_accuracy(further.export(network))

    stages: dict[int, list[Stage]] = {}
    results: dict[str, Result] = {}
    for bits in widths:
        network = prepared(bits)
        inq = Inq(network, bits, PORTIONS[bits])
        checkpoint = checkpoints / f"{bits}_bits.pt" if checkpoints else None
        fit = retraining(PORTIONS[bits])
        stages[bits] = train_inq(network, inq, fit, evaluate, checkpoint=checkpoint, console=console)
        content = further.export(network)
        check_levels(content, bits)
        results[str(bits)] = Result(
            accuracy=exported_accuracy(content),
            portions=[stage.portion for stage in stages[bits]],
            accuracies=[round(stage.accuracy, 6) for stage in stages[bits]],
            weights_by_power=powers(inq.histogram()),
            onnx_sha256=hashlib.sha256(content).hexdigest(),
        )
        atomic_write(output / f"{bits}_bits.onnx", content)
    console.print(f"processor time: {(time.process_time() - started) / 60:.1f} minutes", highlight=False)

    summary = {
        "float_accuracy": round(before, 6),
        "float_accuracy_after_further_epochs": after,
        "test_images": len(test_images),
        "further_epochs": epochs,
        "training_images": limit,
        "learning_rate": LEARNING_RATE,
        "seed": seed,
        "torch": torch.__version__,
        "by_bits": {bits: asdict(result) for bits, result in results.items()},
    }
    atomic_write(output / "inq_results.json", (json.dumps(summary, indent=2) + "\n").encode())
    plot_accuracy(
        output / "accuracy.svg",
        {f"{bits} bits": curve for bits, curve in stages.items()},
        baseline=after,
        title="Demo network on Fashion-MNIST, trained by INQ",
    )
    table = Table("Weights", "Accuracy", "Against float", title=f"INQ, written to {output}")
    table.add_row("float, as it ships", f"{before:.2%}", "")
    table.add_row("float, trained on", f"{after:.2%}", "")
    for name, result in results.items():
        table.add_row(f"{name} bits", f"{result.accuracy:.2%}", f"{100 * (result.accuracy - after):+.2f} points")
    console.print(table)


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(standalone_mode=False)))
