"""Arrays in a file's order of axes to the model's, and back, by what an importer noted in the metadata."""

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.errors import ZeropointError
from zeropoint.model import FloatModel, QuantizedModel, Shape

Array = npt.NDArray[Any]


def file_shape(model: FloatModel | QuantizedModel, which: str) -> Shape:
    """Return the shape without batch that the ``"input"`` or the ``"output"`` has in the file the model came from.

    Raises
    ------
    ZeropointError
        If the metadata do not fit the model's shape; likewise below.
    """
    return file_layout(model, which)[0]


def file_layout(model: FloatModel | QuantizedModel, which: str) -> tuple[Shape, Shape]:
    """Return the file's shape, and of its axes the permutation in which they make up ours."""
    # The metadata of a .zp file may be anything.
    ours = model.tensor(getattr(model, which)).shape
    texts = [model.metadata.get(f"{which}_{entry}") for entry in ("shape", "permutation")]
    try:
        shape = ours if texts[0] is None else tuple(int(size) for size in texts[0].split(",") if size)
        axes = range(len(shape)) if texts[1] is None else (int(axis) for axis in texts[1].split(","))
        permutation = tuple(axes)
    except ValueError:
        shape, permutation = (), ()
    if prod(shape) != prod(ours) or min(shape, default=1) < 1 or sorted(permutation) != list(range(len(shape))):
        raise ZeropointError(
            f"model '{model.name}': its metadata {which}_shape = {texts[0]!r}, {which}_permutation = {texts[1]!r} do "
            f"not fit its {which} of shape {ours}; import the model again"
        )
    return shape, permutation


def to_model(model: FloatModel | QuantizedModel, x: Array) -> Array:
    """Return inputs of the file's shape ``(N, …)`` in the model's order and shape.

    Raises
    ------
    ZeropointError
        If ``x`` has another shape.
    """
    shape, permutation = file_layout(model, "input")
    if x.shape[1:] != shape or x.ndim != len(shape) + 1:
        expected = ", ".join(("N", *map(str, shape)))
        raise ZeropointError(f"input '{model.input}' takes an array of shape ({expected}), not {x.shape}")
    moved = x.transpose(0, *(1 + axis for axis in permutation))
    return np.ascontiguousarray(moved.reshape(len(x), *model.tensor(model.input).shape))


def to_file(model: FloatModel | QuantizedModel, y: Array) -> Array:
    """Return outputs ``(N, …)`` of the model in the file's order and shape."""
    shape, permutation = file_layout(model, "output")
    split = y.reshape(len(y), *(shape[axis] for axis in permutation))
    return np.ascontiguousarray(split.transpose(0, *(1 + int(axis) for axis in np.argsort(permutation))))
