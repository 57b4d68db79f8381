"""Float networks for the tests of quantizers: small, random, with all operators."""

from math import inf, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.model import (
    Add,
    AveragePool2D,
    Clamp,
    Conv2D,
    DepthwiseConv2D,
    FloatModel,
    FullyConnected,
    MaxPool2D,
    Mean,
    Operator,
    Pad,
    Padding,
    Requantize,
    Reshape,
    Softmax,
    Tensor,
)

RELU = Clamp(0.0, inf)
AROUND = Padding(1, 1, 1, 1)


def float_model(
    input_shape: tuple[int, ...], *operators: Operator, output: str | None = None, **constants: npt.ArrayLike
) -> FloatModel:
    """Return a model of ``operators``, which read ``x`` first; the activations' shapes follow from it."""
    tensors = {"x": Tensor("x", input_shape, "float32")}
    for name, values in constants.items():
        data = np.asarray(values, np.float32)
        tensors[name] = Tensor(name, data.shape, "float32", data=data)
    for operator in operators:
        shapes = [tensors[name].shape for name in (*operator.inputs, *operator.constants)]
        tensors[operator.output] = Tensor(operator.output, operator.output_shape(*shapes), "float32")
    return FloatModel("float network", tensors, operators, "x", output or operators[-1].output)


def fully_connected(weights: npt.ArrayLike, bias: npt.ArrayLike | None = None, **attributes: Any) -> FloatModel:
    """Return a model of one fully-connected layer."""
    constants = {"w": weights} if bias is None else {"w": weights, "b": bias}
    operator = FullyConnected(
        name="fc", input="x", output="y", weights="w", bias=None if bias is None else "b", **attributes
    )
    return float_model((np.shape(weights)[1],), operator, **constants)


def random_network(seed: int) -> FloatModel:
    """Return a residual network with every operator, of inputs (12, 12, 3) of about unit variance."""
    rng = np.random.default_rng(seed)

    def weights(*shape: int, fan_in: int) -> npt.NDArray[np.float64]:
        # Channels of different magnitudes, as training leaves them.
        return rng.normal(size=shape) * np.sqrt(2 / fan_in)

    spread = rng.uniform(0.3, 2, 8)
    return float_model(
        (12, 12, 3),
        Pad(name="pad", input="x", output="padded", padding=Padding(0, 1, 0, 1)),
        Conv2D(name="conv", input="padded", output="a", weights="w1", bias="b1", stride=(2, 2), clamp=RELU),
        DepthwiseConv2D(name="depthwise", input="a", output="b", weights="w2", bias="b2", padding=AROUND),
        Conv2D(name="grouped", input="b", output="c", weights="w3", groups=2, padding=AROUND, clamp=Clamp(0, 6)),
        Add(name="add", input="c", other="a", output="d", clamp=RELU),
        MaxPool2D(name="max", input="d", output="e", window=(2, 2), stride=(2, 2)),
        AveragePool2D(name="average", input="e", output="f", window=(2, 2), padding=AROUND),
        Requantize(name="requantize", input="f", output="g", clamp=Clamp(-1, 2)),
        Mean(name="mean", input="g", output="m"),
        Reshape(name="reshape", input="g", output="r", shape=(prod((4, 4, 8)),)),
        FullyConnected(name="hidden", input="r", output="h", weights="w4", bias="b4"),
        Add(name="join", input="h", other="m", output="j"),
        FullyConnected(name="logits", input="j", output="z", weights="w5", bias="b5"),
        Softmax(name="softmax", input="z", output="y"),
        w1=weights(8, 3, 3, 3, fan_in=27) * spread[:, None, None, None],
        b1=rng.normal(size=8) * 0.2,
        w2=weights(3, 3, 8, fan_in=9) * spread,
        b2=rng.normal(size=8) * 0.2,
        w3=weights(8, 3, 3, 4, fan_in=36),
        w4=weights(8, 128, fan_in=128),
        b4=rng.normal(size=8),
        w5=weights(5, 8, fan_in=8),
        b5=rng.normal(size=5),
    )
