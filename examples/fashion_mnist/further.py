"""Training the demo network further: what inq.py and qat.py have in common."""

import copy
from pathlib import Path

import train  # first: it says what to install if a module is missing

# isort: split
import dataset
import numpy as np
import onnx
import torch
from onnx import numpy_helper
from rich.console import Console
from torch import Tensor, nn

from zeropoint.errors import ZeropointError

DEMO_NETWORK = train.DEMO_FOLDER / "fashion_mnist.onnx"

#: The learning rate rises in this share of a portion's steps, then falls along half a cosine.
WARM_UP = 0.1
#: The loss is this share of distillation, from the float network at this temperature, the rest being cross-entropy.
DISTILLATION = 0.7
TEMPERATURE = 2
#: The last two portions, whose retraining has least left to train, get more than their share of the steps.
LAST_PORTIONS_WEIGHT = 2
#: For the statistics of the restored normalizations.
STATISTICS_IMAGES = 10000


def load(data: Path | None, console: Console) -> tuple[dataset.Bytes, dataset.Bytes, dataset.Bytes, dataset.Bytes]:
    """Return training images and labels, test images and labels; PyTorch computes the same bits from here on."""
    if data is None and not dataset.available():
        with console.status(f"Downloading Fashion-MNIST into {dataset.CACHE_FOLDER}"):
            dataset.download()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    # Filling memory that is about to be written takes a quarter of the time, and changes nothing here.
    torch.utils.deterministic.fill_uninitialized_memory = False
    return (*dataset.load("train", data), *dataset.load("test", data))


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, unless it is there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ZeropointError(f"cannot make the folder '{folder}': {error.strerror or error}") from error


class Retraining:
    """The recipe, the same with and without quantization: ``epochs`` in all, divided among the portions.

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
        learning_rate: float,
    ) -> None:
        self._learning_rate = learning_rate
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
            _groups(network), self._learning_rate, momentum=0.9, weight_decay=train.WEIGHT_DECAY, nesterov=True
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self._learning_rate, total_steps=steps, pct_start=WARM_UP, div_factor=10, cycle_momentum=False
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


def _groups(network: nn.Module) -> list[dict[str, object]]:
    """Return the parameters for an optimizer; the ends of ranges, which have no dimension, do not decay."""
    parameters = list(network.parameters())
    ends = [parameter for parameter in parameters if not parameter.dim()]
    others = {"params": [parameter for parameter in parameters if parameter.dim()]}
    return [others, {"params": ends, "weight_decay": 0.0}] if ends else [others]


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
