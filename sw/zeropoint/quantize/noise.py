"""How far a quantized model's tensors are from the float model's, operator by operator."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint import float_reference, golden
from zeropoint.errors import ZeropointError, quoted_list
from zeropoint.model import FloatModel, QuantizedModel


@dataclass(frozen=True)
class LayerNoise:
    """The noise in one operator's output, that of all operators before it included.

    Attributes
    ----------
    operator, kind, tensor
        The operator's name and kind, and its output's name.
    sqnr
        The signal-to-quantization-noise ratio in decibels, ``10 · log10(Σ x² / Σ (x̂ − x)²)`` over all values x of the
        float model and x̂ of the quantized one. Infinite without noise; −infinite with noise but no signal.
    greatest_error
        The greatest ``|x̂ − x|``.
    """

    operator: str
    kind: str
    tensor: str
    sqnr: float
    greatest_error: float


def noise_table(float_model: FloatModel, quantized: QuantizedModel, x: npt.ArrayLike) -> list[LayerNoise]:
    """Return the noise of each operator's output, in the operators' order.

    Parameters
    ----------
    float_model
        The network.
    quantized
        The same network quantized: it has the float model's activations, of the same names and shapes, and what
        quantization may put in between.
    x
        Inputs, as ``float_reference.run`` takes them; the quantized model gets them quantized with its input's scale.

    Raises
    ------
    ZeropointError
        If the two models are not of one network, or ``x`` does not fit them.
    """
    shapes, others = (
        {tensor.name: tensor.shape for tensor in model.activations()} for model in (float_model, quantized)
    )
    different = sorted(name for name in shapes if shapes[name] != others.get(name))
    if different:
        raise ZeropointError(
            f"models '{float_model.name}' and '{quantized.name}' are not of one network: they differ in the "
            f"activations {quoted_list(different)}"
        )
    signal, noise, greatest = (dict.fromkeys(shapes, 0.0) for _ in range(3))
    for values in float_reference.run_batches(float_model, x):
        source = quantized.tensor(quantized.input)
        got = golden.run_tensors(quantized, source.quantize(values[quantized.input]))
        for name, expected in values.items():
            error = np.abs(quantized.tensor(name).dequantize(got[name]).astype(np.float64) - expected)
            signal[name] += float(np.square(expected, dtype=np.float64).sum())
            noise[name] += float(np.square(error).sum())
            greatest[name] = max(greatest[name], float(error.max()))
    return [
        LayerNoise(
            operator.name,
            operator.kind,
            operator.output,
            _decibels(signal[operator.output], noise[operator.output]),
            greatest[operator.output],
        )
        for operator in quantized.operators
        if operator.output in shapes
    ]


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return np.inf
    return float(10 * np.log10(signal / noise)) if signal > 0 else -np.inf
