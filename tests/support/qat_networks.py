"""Small networks for quantization-aware training, with statistics and weights of all sizes, and what trains them."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zeropoint.train import Qat

torch.set_num_threads(1)


class Plain(nn.Sequential):
    """A convolution with everything behind it, and a fully-connected layer with a normalization."""

    shape = (3, 9, 9)

    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 6, 3, stride=2, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Flatten(),
            nn.Linear(150, 9),
            nn.BatchNorm1d(9),
            nn.ReLU6(),
            nn.Linear(9, 4, bias=False),
        )


class Depthwise(nn.Module):
    """Depthwise, grouped and dilated convolutions, pools, an activation behind a pool, and one on its own."""

    shape = (4, 12, 12)

    def __init__(self):
        super().__init__()
        self.depthwise = nn.Conv2d(4, 8, 3, padding="same", groups=4, bias=False)
        self.norm1 = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 6, 3, dilation=2, padding=2, groups=2)
        self.norm2 = nn.BatchNorm2d(6, affine=False)
        self.relu = nn.ReLU()
        self.average = nn.AvgPool2d(3, 2)
        self.classifier = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(F.max_pool2d(self.norm1(self.depthwise(x)), 2))
        x = self.relu(self.average(self.norm2(self.grouped(x))))
        x = x.view(x.size(0), -1)
        return self.classifier(F.dropout(x, 0.1))


class Residual(nn.Module):
    """Sums, a layer used twice, and the mean of feature maps."""

    shape = (2, 8, 8)

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 8, 3, padding=1)
        self.body = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.act = nn.ReLU6()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x), inplace=True)
        x = self.act(x + self.body(x))
        x = torch.add(self.body(x), x)
        x += x
        return self.head(torch.flatten(self.pool(x), 1))


class Sequence(nn.Module):
    """One spatial dimension, its mean, and a clamp to −1 … 1."""

    shape = (3, 20)

    def __init__(self):
        super().__init__()
        self.conv1, self.norm = nn.Conv1d(3, 6, 5, stride=2), nn.BatchNorm1d(6, momentum=None)
        self.conv2 = nn.Conv1d(6, 5, 3, padding=1)
        self.clamp = nn.Hardtanh()
        self.pool = nn.MaxPool1d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.clamp(self.conv2(self.norm(self.conv1(x)).relu()))).mean(-1)


NETWORKS = (Plain, Depthwise, Residual, Sequence)


def network(kind: type[nn.Module] = Plain, seed: int = 0) -> nn.Module:
    """Return a network with normalizations that are far from doing nothing."""
    torch.manual_seed(seed)
    made = kind()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.3, 3)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return made


def inputs(made: nn.Module, count: int = 8, seed: int = 1) -> Tensor:
    """Return inputs, not around 0."""
    return torch.randn(count, *made.shape, generator=torch.Generator().manual_seed(seed)) + 0.3


def optimizer(qat: Qat) -> torch.optim.Optimizer:
    """Return one that moves things, and has a memory."""
    return torch.optim.SGD(qat.parameters(), 0.001, momentum=0.9)


def fit(qat: Qat, own: torch.optim.Optimizer, shape: tuple[int, ...], steps: int) -> None:
    """Train a little on noise from torch's own generator."""
    qat.train()
    for _ in range(steps):
        own.zero_grad()
        output = qat(torch.randn(16, *shape) + 0.3)
        (output - 1).square().mean().backward()
        own.step()


def trained(kind: type[nn.Module], scheme: str = "affine-int8", steps: int = 4, **settings) -> Qat:
    """Return a network after some steps of training, in evaluation."""
    made = network(kind)
    qat = Qat(made, scheme, **{"momentum": 0.3, **settings})
    fit(qat, optimizer(qat), made.shape, steps)
    return qat.eval()
