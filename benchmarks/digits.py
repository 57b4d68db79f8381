"""A CNN for 28 × 28 digits of 307,648 MACs, with random weights: others' generators have been measured on it."""

import numpy as np

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
