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
import dataset
import numpy as np
import onnx
import torch
from onnx import numpy_helper
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from zeropoint.cli.failures import exit_status
from zeropoint.errors import ZeropointError
from zeropoint.files import atomic_write
from zeropoint.train import SCHEDULES, Inq, Stage, fit_channel_scales, plot_accuracy, train_inq

DEMO_NETWORK = train.DEMO_FOLDER / "fashion_mnist.onnx"
OUTPUT = train.HERE / "inq"

#: Half of that of the first training; it rises in a tenth of a portion's steps, then falls along half a cosine.
LEARNING_RATE = 0.05
WARM_UP = 0.1
#: The loss is this share of distillation, from the float network at this temperature, the rest being cross-entropy.
DISTILLATION = 0.7
TEMPERATURE = 2
#: The accumulated portions: those published for the width or, at 5 bits, the more gradual ones of the published two.
PORTIONS = {5: SCHEDULES["googlenet"], 4: SCHEDULES["4-bit"], 3: SCHEDULES["3-bit"], 2: SCHEDULES["2-bit"]}
#: The last two portions, whose retraining has least left to train, get more than their share of the steps.
LAST_PORTIONS_WEIGHT = 2
#: For the statistics of the restored normalizations.
STATISTICS_IMAGES = 10000


@dataclass(frozen=True)
class Result:
    """What inq_results.json says of one network; accuracies are shares of 1, of the 10,000 test images."""

    accuracy: float
    portions: list[float]
    accuracies: list[float]
    weights_by_power: dict[str, dict[str, int]]
    onnx_sha256: str


class Retraining:
    """The recipe, for INQ and the float network alike: ``epochs`` in all, divided among the portions.

    Each portion has a generator of its own, so that what is done for it depends on nothing but the seed.
    """

    def __init__(
        self,
        teacher: nn.Module,
        images: dataset.Bytes,
        labels: dataset.Bytes,
        portions: tuple[float, ...],
        epochs: float,
        seed: int,
    ) -> None:
        self._images, self._labels, self._portions, self._seed = images, labels, portions, seed
        self._teacher = copy.deepcopy(teacher).to(memory_format=torch.channels_last).eval()
        self._cross_entropy = nn.CrossEntropyLoss(label_smoothing=train.LABEL_SMOOTHING)
        shares = np.ones(len(portions))
        shares[-2:] = LAST_PORTIONS_WEIGHT
        ends = np.cumsum(shares) / shares.sum() * epochs * (len(images) // train.BATCH_SIZE)
        self._steps = np.diff(np.rint(ends).astype(int), prepend=0)

    def __call__(self, network: nn.Module, portion: float) -> None:
        """Retrain ``network`` after ``portion`` was quantized."""
        index = self._portions.index(portion)
        steps = int(self._steps[index])
        if steps == 0:
            return
        generator = torch.Generator().manual_seed(1000 * self._seed + index)
        batches = train.Augmentation(self._images, self._labels, generator)
        optimizer = torch.optim.SGD(
            network.parameters(), LEARNING_RATE, momentum=0.9, weight_decay=train.WEIGHT_DECAY, nesterov=True
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, LEARNING_RATE, total_steps=steps, pct_start=WARM_UP, div_factor=10, cycle_momentum=False
        )
        network.train()
        done = 0
        while done < steps:
            for inputs, targets in batches.epoch():
                loss = self._loss(network(inputs), inputs, targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                done += 1
                if done == steps:
                    break

    def _loss(self, logits: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        with torch.no_grad():
            taught = (self._teacher(inputs) / TEMPERATURE).softmax(1)
        distance = nn.functional.kl_div((logits / TEMPERATURE).log_softmax(1), taught, reduction="batchmean")
        # Softened logits have gradients smaller by the square of the temperature (Hinton et al. 2015).
        distillation = TEMPERATURE**2 * distance
        return DISTILLATION * distillation + (1 - DISTILLATION) * self._cross_entropy(logits, targets)


def restore(path: Path, images: dataset.Bytes) -> train.DemoNetwork:
    """Return the network in the file ``path``, which train.py wrote, with its normalizations unfolded.

    The file's convolutions have the normalizations folded into them. Any normalization may be put behind a convolution
    if its scale and shift undo it; the statistics are those of ``images``, for which the outputs stay what they were.
    """
    model = onnx.load(path)
    values = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in model.graph.initializer}
    nodes = {node.name: node for node in model.graph.node}
    network = train.DemoNetwork()
    parameters: dict[nn.Module, tuple[Tensor, Tensor]] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            if name not in nodes:
                raise ZeropointError(f"there is no layer '{name}' in '{path}'; train.py writes such a file")
            weight, bias = (values[key] for key in nodes[name].input[1:])
            parameters[module] = weight, bias

    def unfold(block: train.ConvNorm, inputs: tuple[Tensor, ...]) -> None:
        """Give a block its parameters, just before it meets its input."""
        weight, bias = parameters[block.conv]
        block.conv.weight.copy_(weight)
        output = block.conv(inputs[0])
        block.norm.running_mean.copy_(output.mean((0, 2, 3)))
        block.norm.running_var.copy_(output.var((0, 2, 3)))
        block.norm.weight.copy_((block.norm.running_var + block.norm.eps).sqrt())
        block.norm.bias.copy_(bias + block.norm.running_mean)

    blocks = [module for module in network.modules() if isinstance(module, train.ConvNorm)]
    hooks = [block.register_forward_pre_hook(unfold) for block in blocks]
    with torch.no_grad():
        network.classifier.weight.copy_(parameters[network.classifier][0])
        network.classifier.bias.copy_(parameters[network.classifier][1])
        network.eval()(train.to_input(torch.from_numpy(images.copy())))
    for hook in hooks:
        hook.remove()
    return network


def accuracy(network: nn.Module, images: dataset.Bytes, labels: dataset.Bytes) -> float:
    """Return the share of uint8 ``images`` that ``network`` classes right."""
    network.eval()
    with torch.no_grad():
        classes = [network(train.to_input(part)).argmax(1) for part in torch.from_numpy(images.copy()).split(500)]
    return float((torch.cat(classes).numpy() == labels).mean())


def export(network: nn.Module) -> bytes:
    """Return ``network`` as an ONNX file, as train.py writes one."""
    contiguous = copy.deepcopy(network).to(memory_format=torch.contiguous_format).eval()
    return train.export(contiguous).SerializeToString(deterministic=True)


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
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder of Fashion-MNIST's .gz files.  [default: Debian's folder, else the cache, else a download]",
)
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
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=1, show_default=True, help="Random seed.")
@click.option(
    "--limit",
    type=click.IntRange(train.BATCH_SIZE, 60000),
    default=60000,
    show_default=True,
    help="Train on this many of the training images, for a quick trial.",
)
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
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ZeropointError(f"cannot make the folder '{folder}': {error.strerror or error}") from error
    if data is None and not dataset.available():
        with console.status(f"Downloading Fashion-MNIST into {dataset.CACHE_FOLDER}"):
            dataset.download()
    images, labels = dataset.load("train", data)
    test_images, test_labels = dataset.load("test", data)

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    # Filling memory that is about to be written takes a quarter of the time, and changes nothing here.
    torch.utils.deterministic.fill_uninitialized_memory = False

    restored = restore(DEMO_NETWORK, images[:STATISTICS_IMAGES])
    before = accuracy(restored, test_images, test_labels)
    console.print(f"float, as it ships: accuracy {before:.2%}", highlight=False)

    def evaluate(network: nn.Module) -> float:
        return accuracy(network, test_images, test_labels)

    def prepared(bits: int) -> train.DemoNetwork:
        network = copy.deepcopy(restored)
        for block in network.modules():
            if isinstance(block, train.ConvNorm):
                fit_channel_scales(block.conv, block.norm, bits)
        return network.to(memory_format=torch.channels_last)

    def retraining(portions: tuple[float, ...]) -> Retraining:
        return Retraining(restored, images[:limit], labels[:limit], portions, epochs, seed)

    def exported_accuracy(content: bytes) -> float:
        return round(float((train.evaluate(content, test_images).argmax(axis=1) == test_labels).mean()), 6)

    started = time.process_time()
    # The float network gets the same retraining, in the steps of the first width.
    network = prepared(widths[0])
    retrain = retraining(PORTIONS[widths[0]])
    for portion in PORTIONS[widths[0]]:
        retrain(network, portion)
        console.print(f"float, trained on: accuracy {evaluate(network):.2%}", highlight=False)
    after = exported_accuracy(export(network))

    stages: dict[int, list[Stage]] = {}
    results: dict[str, Result] = {}
    for bits in widths:
        network = prepared(bits)
        inq = Inq(network, bits, PORTIONS[bits])
        checkpoint = checkpoints / f"{bits}_bits.pt" if checkpoints else None
        fit = retraining(PORTIONS[bits])
        stages[bits] = train_inq(network, inq, fit, evaluate, checkpoint=checkpoint, console=console)
        content = export(network)
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
