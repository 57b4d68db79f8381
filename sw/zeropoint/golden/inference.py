"""A quantized model over a batch."""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from zeropoint.errors import ZeropointError
from zeropoint.golden import minifloat, wide
from zeropoint.golden.kernels import KERNELS, Kernel
from zeropoint.model import Operator, QuantizedModel
from zeropoint.numerics.minifloat import MinifloatFormat

#: The greatest tensor of the samples that are computed at once takes about this many bytes.
CHUNK_BYTES = 1 << 20

#: Constants prepared by an earlier call, for as long as the model lives.
_PREPARED: WeakKeyDictionary[QuantizedModel, tuple[tuple[Operator, Kernel], ...]] = WeakKeyDictionary()


def run(model: QuantizedModel, x: npt.ArrayLike, progress: Callable[[int], object] | None = None) -> npt.NDArray[Any]:
    """Return the model's output for a batch of quantized inputs.

    Parameters
    ----------
    model
        The model. What is prepared for it is kept until it is deleted.
    x
        Integers ``(n, *input shape)`` of the input's dtype; other integer dtypes are taken if the values fit.
    progress
        Called with the number of samples done, now and then.

    Returns
    -------
    ndarray
        ``(n, *output shape)`` of the output's dtype.

    Raises
    ------
    ZeropointError
        If ``x`` does not fit the model's input, or an operator's scales give no usable multiplier.
    """
    return _run(model, x, (model.output,), progress)[model.output]


def run_tensors(
    model: QuantizedModel, x: npt.ArrayLike, progress: Callable[[int], object] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Return every activation by name, the input first, then in the order of the operators.

    Parameters and errors are those of :func:`run`.
    """
    return _run(model, x, tuple(tensor.name for tensor in model.activations()), progress)


def _run(
    model: QuantizedModel, x: npt.ArrayLike, kept: tuple[str, ...], progress: Callable[[int], object] | None
) -> dict[str, npt.NDArray[Any]]:
    x = _checked(model, x)
    steps = _PREPARED.get(model)
    if steps is None:
        steps = tuple((operator, _kernel(model, operator)) for operator in model.operators)
        _PREPARED[model] = steps
    results = {name: np.empty((len(x), *model.tensor(name).shape), model.tensor(name).dtype) for name in kept}
    last = {name: index for index, (operator, _) in enumerate(steps) for name in operator.inputs}
    size = max(CHUNK_BYTES // max(prod(tensor.shape) for tensor in model.activations()), 1)
    for start in range(0, len(x), size):
        chunk = slice(start, min(start + size, len(x)))
        _run_chunk(steps, last, {model.input: x[chunk]}, {name: array[chunk] for name, array in results.items()})
        if progress is not None:
            progress(chunk.stop)
    return results


def _kernel(model: QuantizedModel, operator: Operator) -> Kernel:
    """Return what computes an operator."""
    source = model.tensor(operator.input)
    others = minifloat.KERNELS if isinstance(source.format, MinifloatFormat) else {}
    others = wide.KERNELS if source.dtype == "int16" else others
    return others.get(type(operator), KERNELS[type(operator)])(model, operator)


def _run_chunk(
    steps: tuple[tuple[Operator, Kernel], ...],
    last: Mapping[str, int],
    live: dict[str, npt.NDArray[Any]],
    results: Mapping[str, npt.NDArray[Any]],
) -> None:
    """Run the operators over ``live``, which holds the input, and write the tensors named by ``results``."""
    for name in live.keys() & results.keys():
        results[name][...] = live[name]
    for index, (operator, kernel) in enumerate(steps):
        output = kernel(*(live[name] for name in operator.inputs))
        if operator.output in results:
            results[operator.output][...] = output
        live[operator.output] = output
        for name in operator.inputs:
            if last[name] == index:
                live.pop(name, None)


def _checked(model: QuantizedModel, x: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return ``x`` in the dtype of the model's input, C-contiguous."""
    tensor, x = model.tensor(model.input), np.asarray(x)
    if x.shape[1:] != tensor.shape or x.ndim == 0:
        raise ZeropointError(
            f"input '{tensor.name}' of model '{model.name}' takes arrays of shape (n, "
            f"{', '.join(map(str, tensor.shape))}), not {x.shape}"
        )
    if x.dtype.kind not in "iu":
        raise ZeropointError(
            f"input '{tensor.name}' of model '{model.name}' takes {tensor.dtype}, not {x.dtype}; "
            "quantize real values with its scale first"
        )
    low, high = tensor.limits
    if x.size and not low <= int(x.min()) <= int(x.max()) <= high:
        raise ZeropointError(
            f"input '{tensor.name}' of model '{model.name}' takes {low} … {high}, not {x.min()} … {x.max()}"
        )
    return np.ascontiguousarray(x, tensor.dtype)
