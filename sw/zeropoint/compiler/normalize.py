"""Rewrites that leave every value as it is and suit the array better."""

from dataclasses import replace

import numpy as np

from zeropoint.model import Conv2D, DepthwiseConv2D, Operator, QuantizedModel, Tensor


def normalize(model: QuantizedModel) -> QuantizedModel:
    """Return the model with each depthwise convolution of a single input channel as the convolution that it is.

    A convolution reads a kernel row at once; a depthwise convolution would read its taps one by one.
    """
    tensors = dict(model.tensors)
    operators: list[Operator] = []
    for operator in model.operators:
        if isinstance(operator, DepthwiseConv2D) and model.tensor(operator.input).shape[2] == 1:
            weights = _as_convolution(model.tensor(operator.weights))
            tensors[weights.name] = weights
            operator = Conv2D(
                name=operator.name,
                input=operator.input,
                output=operator.output,
                weights=weights.name,
                bias=operator.bias,
                stride=operator.stride,
                dilation=operator.dilation,
                padding=operator.padding,
                clamp=operator.clamp,
            )
        operators.append(operator)
    return replace(model, tensors=tensors, operators=tuple(operators))


def _as_convolution(weights: Tensor) -> Tensor:
    """Return depthwise weights ``(height, width, out)`` as ``(out, height, width, 1)`` under a name of their own."""
    assert weights.data is not None
    assert weights.quantization is not None
    data = np.moveaxis(weights.data, 2, 0)[..., None]
    axis = None if weights.quantization.axis is None else 0
    return replace(
        weights,
        name=f"{weights.name} as convolution",
        shape=data.shape,
        data=data,
        quantization=replace(weights.quantization, axis=axis),
    )
