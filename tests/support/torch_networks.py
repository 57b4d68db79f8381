"""Float networks in PyTorch, trained a little, and their export by both of torch's ONNX exporters."""

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

torch.set_num_threads(1)


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Return a convolution without bias, padded to keep the size, and batch normalization."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


class LeNet5(nn.Module):
    """LeCun et al. 1998 with rectifiers, on 28 x 28 images; flattened with ``view(x.size(0), -1)``."""

    shape = (1, 28, 28)

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = nn.functional.max_pool2d(torch.relu(self.conv2(x)), 2)
        x = x.view(x.size(0), -1)
        x = torch.relu(self.fc1(x))
        return self.fc3(torch.relu(self.fc2(x)))


class MLP(nn.Module):
    """Layers with one-dimensional batch normalization and dropout on a flattened image, to class probabilities."""

    shape = (1, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, 32),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(32, 16, bias=False),
            nn.ReLU(),
            nn.Linear(16, 10),
            nn.Softmax(dim=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class MobileNet(nn.Module):
    """Inverted residuals as in MobileNetV2, with ReLU6, one with a shortcut and one with a stride."""

    shape = (3, 24, 24)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, 8, 3, stride=2), nn.ReLU6())
        self.block1 = self._block(8, 8, 1)
        self.block2 = self._block(8, 12, 2)
        self.head = nn.Sequential(conv_bn(12, 24, 1), nn.ReLU6())
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(24, 10))

    @staticmethod
    def _block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        middle = 3 * inputs
        return nn.Sequential(
            conv_bn(inputs, middle, 1),
            nn.ReLU6(),
            conv_bn(middle, middle, 3, stride=stride, groups=middle),
            nn.ReLU6(),
            conv_bn(middle, outputs, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.block1(x)
        x = self.head(self.block2(x))
        x = nn.functional.adaptive_avg_pool2d(x, (1, 1))
        return self.classifier(torch.flatten(x, 1))


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, which is a strided 1 x 1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_bn(inputs, outputs, 3, stride), nn.ReLU(), conv_bn(outputs, outputs, 3))
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else conv_bn(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class ResNet(nn.Module):
    """A stem with max pooling, three residual blocks, global average pooling by ``mean``."""

    shape = (3, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, 8, 3), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1))
        self.blocks = nn.Sequential(ResidualBlock(8, 8, 1), ResidualBlock(8, 16, 2), ResidualBlock(16, 24, 2))
        self.fc = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks(self.stem(x)).mean(dim=(2, 3)))


class KeywordNet(nn.Module):
    """Convolutions over time: one spatial dimension."""

    shape = (10, 49)

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(10, 16, 5, stride=2, padding=2),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.Conv1d(16, 16, 3, padding=1, groups=16, bias=False),
            nn.Conv1d(16, 12, 1),
            nn.Hardtanh(-2.0, 2.0),
            nn.AvgPool1d(3, 2, padding=1),
            nn.Flatten(),
            nn.Linear(156, 12),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


#: Every network here by name.
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "lenet5": LeNet5,
    "mlp": MLP,
    "mobilenet": MobileNet,
    "resnet": ResNet,
    "keywords": KeywordNet,
}


def trained(name: str, seed: int = 0) -> nn.Module:
    """Return a network in evaluation mode, after a few steps of training on noise.

    Its batch normalization has statistics, scales and offsets that are far from 0 and 1.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = NETWORKS[name]().train()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        for _ in range(4):
            x = 1.5 * torch.randn(16, *input_shape(network)) + 0.5
            loss = nn.functional.mse_loss(network(x), torch.randn(16, network(x).shape[1]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


def input_shape(network: nn.Module) -> tuple[int, ...]:
    """Return the shape of one sample, channels first."""
    shape = network.shape
    assert isinstance(shape, tuple)
    return shape


def export(network: nn.Module, path: Path, *, dynamo: bool = False, dynamic_batch: bool = False) -> Path:
    """Write a network as ONNX, input ``x`` and output ``y``, and return ``path``.

    Parameters
    ----------
    network
        In evaluation mode; its ``shape`` is that of one sample.
    path
        The file; with ``dynamo``, weights may be put into another beside it.
    dynamo
        Whether to take the exporter built on torch.export, or the one built on TorchScript.
    dynamic_batch
        Whether the batch is left open, or is 1.
    """
    # torch.export takes a size of 1 for a constant.
    x = torch.zeros(2 if dynamic_batch else 1, *input_shape(network))
    options: dict[str, object] = {}
    if dynamic_batch and dynamo:
        options["dynamic_shapes"] = ({0: torch.export.Dim("batch")},)
    elif dynamic_batch:
        options["dynamic_axes"] = {"x": {0: "batch"}, "y": {0: "batch"}}
    with warnings.catch_warnings():
        # The older exporter announces its end, the newer one the ends of things that it uses.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (x,), str(path), input_names=["x"], output_names=["y"], dynamo=dynamo, verbose=False, **options
        )
    return path
