"""Train Zeropoint's demo network on Fashion-MNIST and write the files that ship in sw/zeropoint/demo.

Run it as ``python examples/fashion_mnist/train.py``; ``--help`` lists the options, README.md explains the
network. The same seed, number of threads, PyTorch version and kind of processor give the same bytes again.
"""

import hashlib
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

try:
    import click
    import dataset
    import numpy as np
    import onnx
    import onnxruntime
    import onnxscript  # noqa: F401  torch.onnx.export needs it; better missed here than after the training
    import torch
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Table
    from torch import Tensor, nn

    from zeropoint.cli.failures import exit_status
    from zeropoint.errors import ZeropointError
    from zeropoint.files import atomic_write
    from zeropoint.train.onnx_file import export_onnx, strip_notes
except ModuleNotFoundError as missing:
    print(
        f"train.py: there is no Python module '{missing.name}'; install Zeropoint with its extras: "
        "pip install -e '.[train,test]'",
        file=sys.stderr,
    )
    sys.exit(2)

HERE = Path(__file__).resolve().parent
DEMO_FOLDER = HERE.parents[1] / "sw" / "zeropoint" / "demo"

#: How many test images ship with the demo, and how many training images for its calibration: the first ones.
DEMO_IMAGES = 100
CALIBRATION_IMAGES = 200

BATCH_SIZE = 128
PEAK_LEARNING_RATE = 0.1
#: On the scales of the normalizations, too: they are folded into the weights, which are quantized later.
WEIGHT_DECAY = 2e-4
#: For the same reason larger than PyTorch's 1e-5: a channel that hardly varies must not get a huge factor.
NORM_EPSILON = 1e-3
LABEL_SMOOTHING = 0.05
#: The share of the training in which the learning rate rises; then it falls along half a cosine.
WARM_UP = 0.2
#: Augmentation moves each image by up to this many pixels in each direction.
SHIFT = 1
#: How far ONNX Runtime's logits may be from PyTorch's. Both round float32, in different orders.
EXPORT_TOLERANCE = 1e-5


class ConvNorm(nn.Sequential):
    """A convolution without bias, a batch normalization and, unless ``relu`` is None, an activation.

    The padding keeps the height and width, but for the stride.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        relu: type[nn.Module] | None = nn.ReLU,
    ) -> None:
        super().__init__()
        padding = kernel // 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=NORM_EPSILON)
        if relu is not None:
            self.relu = relu()


class Residual(nn.Module):
    """Two depthwise-separable convolutions beside an identity shortcut; their sum goes through a ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise1 = ConvNorm(channels, channels, 3, groups=channels)
        self.pointwise1 = ConvNorm(channels, channels, 1)
        self.depthwise2 = ConvNorm(channels, channels, 3, groups=channels)
        self.pointwise2 = ConvNorm(channels, channels, 1, relu=None)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, of the shape of ``x``."""
        return self.relu(x + self.pointwise2(self.depthwise2(self.pointwise1(self.depthwise1(x)))))


class DemoNetwork(nn.Sequential):
    """The demo network: [N, 1, 28, 28], pixels from 0 to 1, to [N, 10], one logit a class.

    It has the layers of common mobile networks, each at least once. The 28 channels near the end and the 10
    classes are not multiples of 8, so accelerators of 8 or 16 lanes have partly filled groups to deal with.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(1, 8, 3)
        self.depthwise = ConvNorm(8, 8, 3, groups=8)
        self.pointwise = ConvNorm(8, 16, 1, relu=nn.ReLU6)
        self.pool = nn.MaxPool2d(2)
        self.residual = Residual(16)
        self.reduce = ConvNorm(16, 16, 3, stride=2, groups=16)
        self.expand = ConvNorm(16, 28, 1)
        self.head = ConvNorm(28, 40, 3, stride=2)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(40, len(dataset.CLASSES))


@dataclass(frozen=True)
class Metrics:
    """What metrics.json says; accuracies are shares of 1, of the exported float network in ONNX Runtime."""

    test_accuracy: float
    test_images: int
    demo_accuracy: float
    demo_images: int
    parameters: int
    macs: int
    epochs: int
    training_images: int
    seed: int
    threads: int
    torch: str
    onnx_operators: dict[str, int]
    onnx_sha256: str


class Augmentation:
    """Training batches: each image shifted and, in half of the cases, mirrored, by a generator of its own."""

    def __init__(self, images: dataset.Bytes, labels: dataset.Bytes, generator: torch.Generator) -> None:
        padding = ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT))
        self._padded = torch.from_numpy(np.pad(images, padding))
        self._labels = torch.from_numpy(labels.astype(np.int64))
        self._generator = generator

    def epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all batches of one epoch, in a new random order; what does not fill a batch is left out."""
        order = torch.randperm(len(self._labels), generator=self._generator)
        for chosen in order.split(BATCH_SIZE):
            if len(chosen) == BATCH_SIZE:
                yield self._images(chosen), self._labels[chosen]

    def _images(self, chosen: Tensor) -> Tensor:
        """Return the images of the indices ``chosen``, augmented: one gather, as rows and columns to take."""
        size = self._padded.shape[1] - 2 * SHIFT
        along = torch.arange(size)
        shape = (len(chosen), 1)
        row_shift = torch.randint(2 * SHIFT + 1, shape, generator=self._generator)
        column_shift = torch.randint(2 * SHIFT + 1, shape, generator=self._generator)
        mirrored = torch.rand(shape, generator=self._generator) < 0.5
        rows = along + row_shift
        columns = torch.where(mirrored, along.flip(0), along) + column_shift
        return to_input(self._padded[chosen[:, None, None], rows[:, :, None], columns[:, None, :]])


def to_input(images: Tensor) -> Tensor:
    """Return uint8 images [N, 28, 28] as the network's input: float32 [N, 1, 28, 28], pixels from 0 to 1."""
    return images.unsqueeze(1).float() / 255


def train(
    images: dataset.Bytes,
    labels: dataset.Bytes,
    epochs: int,
    seed: int,
    after_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> DemoNetwork:
    """Return a network trained on uint8 ``images`` [N, 28, 28]; all randomness comes from ``seed``.

    ``after_epoch`` is called with the number of epochs done and the mean loss of the last.
    """
    torch.manual_seed(seed)  # the initial weights
    batches = Augmentation(images, labels, torch.Generator().manual_seed(seed))
    network = DemoNetwork()
    # Half as long again without it, at these channel counts.
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        network.parameters(), PEAK_LEARNING_RATE, momentum=0.9, weight_decay=WEIGHT_DECAY, nesterov=True
    )
    steps = len(images) // BATCH_SIZE
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_LEARNING_RATE, total_steps=epochs * steps, pct_start=WARM_UP
    )
    loss_function = nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING)
    network.train()
    for epoch in range(1, epochs + 1):
        total = 0.0
        for inputs, targets in batches.epoch():
            loss = loss_function(network(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        after_epoch(epoch, total / steps)
    return network.to(memory_format=torch.contiguous_format).eval()


def export(network: DemoNetwork) -> onnx.ModelProto:
    """Return ``network`` as a float ONNX model with a free batch size; the exporter folds the normalizations."""
    model = export_onnx(network, (1, 28, 28), "image", "logits")
    _name_by_module(model, network)
    strip_notes(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def evaluate(model: bytes, images: dataset.Bytes) -> np.ndarray:
    """Return the logits [N, 10] that ONNX Runtime computes with the file ``model`` for uint8 ``images``."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    inputs = to_input(torch.from_numpy(images.copy())).numpy()
    return np.concatenate([session.run(None, {"image": batch})[0] for batch in np.array_split(inputs, 10)])


def export_difference(network: DemoNetwork, images: dataset.Bytes, logits: np.ndarray) -> float:
    """Return how far ``logits`` are, at most, from those of ``network``, as a share of the largest logit."""
    with torch.no_grad():
        expected = network(to_input(torch.from_numpy(images.copy()))).numpy()
    return float(np.abs(logits - expected).max() / np.abs(expected).max())


def count_macs(network: DemoNetwork) -> int:
    """Return the multiply-accumulates of the convolutions and of the fully-connected layer for one image."""
    total = 0

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        total += output.numel() * layer.weight[0].numel()

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        network(torch.zeros(1, 1, 28, 28))
    for hook in hooks:
        hook.remove()
    return total


def count_parameters(model: onnx.ModelProto) -> int:
    """Return the number of weights and biases, the normalizations being folded into them."""
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    return sum(sizes[name] for layer in layers for name in layer.input[1:])


def _name_by_module(model: onnx.ModelProto, network: nn.Module) -> None:
    """Name nodes and tensors after the modules of ``network``; the exporter numbers them.

    The exporter's record of a node's origin is not part of its interface: where it is absent, the name stays.
    """
    inner = {name for name, module in network.named_modules() if any(module.children())}
    kept = {value.name for value in (*model.graph.input, *model.graph.output)}
    new_names: dict[str, str] = {}
    for node in model.graph.node:
        record = {entry.key: entry.value for entry in node.metadata_props}.get("pkg.torch.onnx.name_scopes")
        scopes = record.strip("[]").replace("'", "").split(", ") if record else []
        if len(scopes) < 2 or len(node.output) != 1:
            continue
        weight = node.input[1] if node.op_type in ("Conv", "Gemm") else ""
        if weight.endswith(".weight"):
            # A folded normalization is recorded as the origin of its convolution.
            name = weight.removesuffix(".weight")
        else:
            name = f"{scopes[-2]}.{node.op_type.lower()}" if scopes[-2] in inner else scopes[-2]
        if name in new_names.values():
            continue
        node.name = name
        if node.output[0] not in kept:
            new_names[node.output[0]] = name
        for biases in node.input[2:3] if weight else []:
            new_names[biases] = f"{name}.bias"
    for node in model.graph.node:
        node.input[:] = [new_names.get(name, name) for name in node.input]
        node.output[:] = [new_names.get(name, name) for name in node.output]
    for value in (*model.graph.value_info, *model.graph.initializer):
        value.name = new_names.get(value.name, value.name)


def _npy(array: np.ndarray) -> bytes:
    """Return ``array`` as an .npy file."""
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array), allow_pickle=False)
    return file.getvalue()


def _json(metrics: Metrics) -> bytes:
    return (json.dumps(asdict(metrics), indent=2) + "\n").encode()


#: What all scripts of this folder that train can be told.
data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder of Fashion-MNIST's .gz files.  [default: Debian's folder, else the cache, else a download]",
)
seed_option = click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=1, show_default=True, help="Random seed."
)
limit_option = click.option(
    "--limit",
    type=click.IntRange(BATCH_SIZE, 60000),
    default=60000,
    show_default=True,
    help="Train on this many of the training images, for a quick trial.",
)


@click.command()
@data_option
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Folder for the demo's files; made if absent.  [default: sw/zeropoint/demo of this repository]",
)
@click.option(
    "--metrics",
    "metrics_path",
    type=click.Path(path_type=Path),
    help="File for the metrics.  [default: metrics.json beside this script, or in the folder of --output]",
)
@click.option("--epochs", type=click.IntRange(1, 1000), default=18, show_default=True, help="Epochs.")
@seed_option
@click.option(
    "--threads",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Threads to compute with; another number rounds differently and so gives another network.",
)
@limit_option
@click.option(
    "--min-accuracy",
    type=click.FloatRange(0, 1),
    default=0.88,
    show_default=True,
    help="Write nothing, and exit with status 1, if the test accuracy is below.",
)
@click.help_option("-h", "--help")
def main(
    data: Path | None,
    output: Path | None,
    metrics_path: Path | None,
    epochs: int,
    seed: int,
    threads: int,
    limit: int,
    min_accuracy: float,
) -> None:
    """Train the demo network on Fashion-MNIST and write the files of sw/zeropoint/demo."""
    console = Console()
    folder = output or DEMO_FOLDER
    metrics_path = metrics_path or (output / "metrics.json" if output else HERE / "metrics.json")
    try:
        # Before the training, so that a mistyped name costs no minutes.
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ZeropointError(f"cannot make the folder '{folder}': {error.strerror or error}") from error
    if not metrics_path.parent.is_dir():
        raise ZeropointError(f"cannot write '{metrics_path}': there is no folder '{metrics_path.parent}'")
    if data is None and not dataset.available():
        with console.status(f"Downloading Fashion-MNIST into {dataset.CACHE_FOLDER}"):
            dataset.download()
    images, labels = dataset.load("train", data)
    test_images, test_labels = dataset.load("test", data)

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("epochs"), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("Training", total=epochs)

        def after_epoch(epoch: int, loss: float) -> None:
            progress.console.print(f"epoch {epoch:3} of {epochs}: training loss {loss:.4f}", highlight=False)
            progress.advance(task)

        network = train(images[:limit], labels[:limit], epochs, seed, after_epoch)

    model = export(network)
    content = model.SerializeToString(deterministic=True)
    logits = evaluate(content, test_images)
    difference = export_difference(network, test_images, logits)
    if not difference <= EXPORT_TOLERANCE:
        raise RuntimeError(f"ONNX Runtime and PyTorch differ by {difference:.1e} of the largest logit")
    correct = logits.argmax(axis=1) == test_labels
    metrics = Metrics(
        test_accuracy=round(float(correct.mean()), 6),
        test_images=len(correct),
        demo_accuracy=round(float(correct[:DEMO_IMAGES].mean()), 6),
        demo_images=DEMO_IMAGES,
        parameters=count_parameters(model),
        macs=count_macs(network),
        epochs=epochs,
        training_images=limit,
        seed=seed,
        threads=threads,
        torch=torch.__version__,
        onnx_operators=dict(sorted(Counter(node.op_type for node in model.graph.node).items())),
        onnx_sha256=hashlib.sha256(content).hexdigest(),
    )
    if metrics.test_accuracy < min_accuracy:
        print(
            f"train.py: wrote nothing: test accuracy {metrics.test_accuracy:.2%}, below {min_accuracy:.2%}",
            file=sys.stderr,
        )
        raise click.exceptions.Exit(1)

    files = {
        "fashion_mnist.onnx": content,
        "images.npy": _npy(test_images[:DEMO_IMAGES, :, :, np.newaxis]),
        "labels.npy": _npy(test_labels[:DEMO_IMAGES]),
        "calibration.npy": _npy(images[:CALIBRATION_IMAGES, :, :, np.newaxis]),
        "LICENSE.fashion-mnist": LICENSE.encode(),
        "README.md": DEMO_README.encode(),
    }
    for name, file_content in files.items():
        atomic_write(folder / name, file_content)
    atomic_write(metrics_path, _json(metrics))

    table = Table("Measured", "Value", title=f"Demo network, written to {folder}")
    table.add_row("Float accuracy, 10,000 test images", f"{metrics.test_accuracy:.2%}")
    table.add_row(f"Float accuracy, the demo's {DEMO_IMAGES}", f"{metrics.demo_accuracy:.2%}")
    table.add_row("Parameters", f"{metrics.parameters:,}")
    table.add_row("Multiply-accumulates for one image", f"{metrics.macs:,}")
    table.add_row("ONNX Runtime against PyTorch", f"{difference:.1e} of the largest logit")
    console.print(table)


DEMO_README = f"""\
# Files of the demo network

| File | Content |
| --- | --- |
| `fashion_mnist.onnx` | The float network: `image`, float32 [N, 1, 28, 28], to `logits`, float32 [N, 10]. |
| `images.npy` | The first {DEMO_IMAGES} test images of Fashion-MNIST, uint8 [{DEMO_IMAGES}, 28, 28, 1]. |
| `labels.npy` | Their classes, uint8 [{DEMO_IMAGES}]. |
| `calibration.npy` | The first {CALIBRATION_IMAGES} training ones, uint8 [{CALIBRATION_IMAGES}, 28, 28, 1]. |
| `LICENSE.fashion-mnist` | The licence of the images. |

The network is trained by this project on the training images of
[Fashion-MNIST](https://github.com/zalandoresearch/fashion-mnist). No image was picked by hand: they are the
first ones in the order of the data set. The network takes pixels divided by 255. This command, run from the
root of the repository, writes all files here, this one too:

    python examples/fashion_mnist/train.py

`examples/fashion_mnist` describes the network and says how accurate it is.
"""

LICENSE = """\
The images in images.npy and calibration.npy, and the labels in labels.npy, are part of Fashion-MNIST
(https://github.com/zalandoresearch/fashion-mnist), which is under this licence:

The MIT License (MIT)

Copyright (c) 2017 Zalando SE, https://tech.zalando.com

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial
portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES
OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(standalone_mode=False)))
