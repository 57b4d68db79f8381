"""Arrays in a file's order of axes to the model's, and back, by what an importer noted in the metadata."""

from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.errors import ZeropointError
from zeropoint.model import FloatModel, QuantizedModel, Shape

Array = npt.NDArray[Any]


def file_shape(model: FloatModel | QuantizedModel, which: str) -> Shape:
    """Return the shape without batch that the ``"input"`` or the ``"output"`` has in the file the model came from."""
    text = model.metadata.get(f"{which}_shape")
    if text is None:
        return model.tensor(getattr(model, which)).shape
    return tuple(int(size) for size in text.split(",") if size)


def to_model(model: FloatModel | QuantizedModel, x: Array) -> Array:
    """Return inputs of the file's shape ``(N, …)`` in the model's order and shape.

    Raises
    ------
    ZeropointError
        If ``x`` has another shape.
    """
    shape = file_shape(model, "input")
    if x.shape[1:] != shape or x.ndim != len(shape) + 1:
        expected = ", ".join(("N", *map(str, shape)))
        raise ZeropointError(f"input '{model.input}' takes an array of shape ({expected}), not {x.shape}")
    moved = x.transpose(0, *(1 + axis for axis in _permutation(model, "input", len(shape))))
    return np.ascontiguousarray(moved.reshape(len(x), *model.tensor(model.input).shape))


def to_file(model: FloatModel | QuantizedModel, y: Array) -> Array:
    """Return outputs ``(N, …)`` of the model in the file's order and shape."""
    shape = file_shape(model, "output")
    permutation = _permutation(model, "output", len(shape))
    split = y.reshape(len(y), *(shape[axis] for axis in permutation))
    return np.ascontiguousarray(split.transpose(0, *(1 + int(axis) for axis in np.argsort(permutation))))


def _permutation(model: FloatModel | QuantizedModel, which: str, rank: int) -> list[int]:
    text = model.metadata.get(f"{which}_permutation")
    return list(range(rank)) if text is None else [int(axis) for axis in text.split(",")]
