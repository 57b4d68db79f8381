"""Means as convolutions, for formats and hardware that have no multiplier to divide with.

The mean of a window of n values is their sum of products with weights of 1/n. As a depthwise convolution it needs
nothing that other layers do not have: the scheme's weights hold 1/n, and rounding comes once, at the output.
"""

from dataclasses import replace

import numpy as np

from zeropoint.model import (
    AveragePool2D,
    DepthwiseConv2D,
    FloatModel,
    Mean,
    Operator,
    Padding,
    Reshape,
    Tensor,
)


def means_as_weights(model: FloatModel) -> FloatModel:
    """Return ``model`` with its means as depthwise convolutions, whose weights are all 1 divided by the count.

    AveragePool2D and Mean become DepthwiseConv2D of the same name, without bias; a Mean has a Reshape after it, since
    it gives a vector. Their outputs keep their names, and all else is as it was. An AveragePool2D whose windows reach
    into padding stays, because it counts fewer values there. The model itself is returned if nothing is to be done.
    """
    tensors = dict(model.tensors)
    names = {operator.name for operator in model.operators}
    operators: list[Operator] = []

    def constant(operator: Operator, window: tuple[int, int]) -> str:
        channels = model.tensor(operator.input).shape[2]
        name = _unused(f"{operator.name}/weights", tensors)
        weights = np.full((*window, channels), 1 / (window[0] * window[1]), np.float32)
        tensors[name] = Tensor(name, weights.shape, "float32", data=weights)
        return name

    for operator in model.operators:
        if isinstance(operator, AveragePool2D) and operator.padding == Padding():
            operators.append(
                DepthwiseConv2D(
                    name=operator.name,
                    input=operator.input,
                    output=operator.output,
                    weights=constant(operator, operator.window),
                    stride=operator.stride,
                    clamp=operator.clamp,
                )
            )
        elif isinstance(operator, Mean):
            height, width, channels = model.tensor(operator.input).shape
            output = _unused(f"{operator.output}/map", tensors)
            tensors[output] = Tensor(output, (1, 1, channels), "float32")
            weights = constant(operator, (height, width))
            operators.append(DepthwiseConv2D(name=operator.name, input=operator.input, output=output, weights=weights))
            name = _unused(f"{operator.name}/vector", names)
            names.add(name)
            operators.append(Reshape(name=name, input=output, output=operator.output, shape=(channels,)))
        else:
            operators.append(operator)
    return model if len(tensors) == len(model.tensors) else replace(model, tensors=tensors, operators=tuple(operators))


def _unused(name: str, taken: dict[str, Tensor] | set[str]) -> str:
    """Return ``name``, or one made from it that nothing has yet."""
    while name in taken:
        name += "'"
    return name
