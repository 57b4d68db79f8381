"""Array files: batches of inputs and outputs as ``.npy`` files, in the layout of the model's source or in ours.

Files are untrusted: no pickle, and the sizes in the header are checked before memory is asked for.

An integer array holds the model's quantized values; a float array holds real values, which are quantized with the
scale of the model's input. Its shape is ``(N, …)`` with N at least 1, and after N either the shape that the source
file of the model gives its input (channels first, for many) or the shape of the model's tensor, NHWC. Where both have
the same sizes in a different order of axes, such as 8 × 8 × 8, the source's layout is meant.
"""

import os
import warnings
import zipfile
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from zeropoint.errors import ZeropointError
from zeropoint.files import atomic_file
from zeropoint.importers import layout
from zeropoint.model import FloatModel, QuantizedModel, Shape

Array = npt.NDArray[Any]
Model = FloatModel | QuantizedModel

#: Larger arrays are refused: a batch is held in memory, with a result beside it.
MAX_BYTES = 4 << 30

#: Float values quantized at a time, so that intermediate float64 arrays stay small.
_CHUNK = 1 << 20


def load_input(path: Path, model: QuantizedModel) -> Array:
    """Return the inputs in a ``.npy`` file as the model takes them.

    Parameters
    ----------
    path
        The file, in either layout; integers or floats.
    model
        The model whose input they are.

    Returns
    -------
    ndarray
        ``(N, *input shape)`` of the input's dtype.

    Raises
    ------
    ZeropointError
        Naming the file, what was expected and what was found: it cannot be read, is damaged or no ``.npy`` file, has
        another shape or type, holds no example, or values that are NaN, infinite or beyond the input's dtype.
    """
    x = _read(path, model, integers=True)
    tensor = model.tensor(model.input)
    if x.dtype.kind in "iu":
        low, high = tensor.limits
        least, greatest = int(x.min()), int(x.max())
        if not low <= least <= greatest <= high:
            raise ZeropointError(
                f"'{path}': integers are taken as quantized values of input '{tensor.name}', {tensor.dtype} from {low} "
                f"to {high}, but are {least} to {greatest}; give real values as floats"
            )
        return np.ascontiguousarray(x, tensor.dtype)
    result = np.empty((len(x), *tensor.shape), tensor.dtype)
    step = max(1, _CHUNK // prod(tensor.shape))
    for start in range(0, len(x), step):
        part = _floats(path, x[start : start + step])
        result[start : start + step] = tensor.quantize(part)
    return result


def load_real(path: Path, model: Model, scale: float | None = None) -> npt.NDArray[np.float32]:
    """Return the real-valued inputs in a ``.npy`` file, such as those for calibration.

    Parameters
    ----------
    path
        The file, in either layout: floats; or uint8, if there is a scale.
    model
        The model whose input they are.
    scale
        What one step of uint8 values is worth, such as 1/255 for pixels from 0 to 1.

    Returns
    -------
    ndarray
        float32 ``(N, *input shape)``.

    Raises
    ------
    ZeropointError
        As :func:`load_input`; and for uint8 values without a scale, floats with one, and other integers.
    """
    if scale is not None and not 0 < scale < np.inf:
        raise ZeropointError(f"the scale of uint8 values must be finite and positive, not {scale:g}")
    x = _read(path, model, integers=scale is not None)
    if scale is None:
        return _floats(path, x)
    if x.dtype != np.uint8:
        raise ZeropointError(f"'{path}' holds {x.dtype.name}; a scale goes with uint8, and floats need none")
    return x.astype(np.float32) * np.float32(scale)


def save_output(path: Path, model: QuantizedModel, y: Array) -> None:
    """Write the model's outputs ``(N, *output shape)`` to a ``.npy`` file, whole or not at all, in the source's layout.

    Raises
    ------
    ZeropointError
        If the file cannot be written.
    """
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        _write(file, layout.to_file(model, y))


def save_tensors(path: Path, tensors: Mapping[str, Array]) -> None:
    """Write arrays to a ``.npz`` file, whole or not at all; the same arrays give the same bytes.

    Raises
    ------
    ZeropointError
        If the file cannot be written.
    """
    # np.savez takes names as keywords, so that a tensor could not be called "file".
    with atomic_file(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in tensors.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                _write(file, array)


def _write(file: IO[bytes], array: Array) -> None:
    array = np.ascontiguousarray(array)
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
    # Not write_array, which hides why a write failed.
    file.write(array.data)


def load_labels(path: Path) -> Array:
    """Return the classes in a ``.npy`` file: integers, one for each sample.

    Raises
    ------
    ZeropointError
        If the file cannot be read, is no ``.npy`` file, or holds something else.
    """
    try:
        with open(path, "rb") as file:
            shape, _, dtype = _header(path, file)
            if len(shape) != 1 or dtype.kind not in "iu" or dtype.itemsize > 8:
                raise ZeropointError(
                    f"'{path}': expected integers of shape (N), a class for each sample, found {dtype.name} of shape "
                    f"{_shape_text(*shape)}"
                )
            _check_length(path, file, shape, dtype)
            return np.fromfile(file, dtype, shape[0])
    except OSError as error:
        raise ZeropointError(f"cannot read '{path}': {error.strerror or error}") from error


def _read(path: Path, model: Model, *, integers: bool) -> Array:
    """Return the array in a file, in our layout, in the file's dtype; ``integers`` says whether these will do."""
    tensor = model.tensor(model.input)
    source = layout.file_shape(model, "input")
    wanted = " or ".join(dict.fromkeys(_shape_text("N", *shape) for shape in (source, tensor.shape)))
    types = f"{tensor.dtype} or floats" if integers and tensor.dtype != "float32" else "floats"
    expected = f"expected {types} of shape {wanted} for input '{tensor.name}'"
    try:
        with open(path, "rb") as file:
            shape, fortran, dtype = _header(path, file)
            found = f"found {dtype.name} of shape {_shape_text(*shape)}"
            if shape in (source, tensor.shape):
                raise ZeropointError(
                    f"'{path}': {expected}, {found}: one example without the batch axis; add it with array[np.newaxis]"
                )
            if shape[1:] not in (source, tensor.shape) or not shape:
                raise ZeropointError(f"'{path}': {expected}, {found}")
            if not shape[0]:
                raise ZeropointError(f"'{path}': {expected}, {found}: there is no example in it")
            if dtype.kind not in ("iuf" if integers else "f") or dtype.itemsize > 8:
                hint = "; convert it to floats" if dtype.kind not in "iu" else "; give real values as floats"
                raise ZeropointError(f"'{path}': {expected}, {found}{hint}")
            _check_length(path, file, shape, dtype)
            data = np.fromfile(file, dtype, prod(shape))
    except OSError as error:
        raise ZeropointError(f"cannot read '{path}': {error.strerror or error}") from error
    array = data.reshape(shape[::-1]).transpose() if fortran else data.reshape(shape)
    return layout.to_model(model, array) if shape[1:] == source else array


def _header(path: Path, file: IO[bytes]) -> tuple[Shape, bool, np.dtype[Any]]:
    """Return what a file's header says: shape, whether in Fortran's order, and dtype."""
    try:
        version = np.lib.format.read_magic(file)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise ZeropointError(f"'{path}': it is a .npy file of version {version[0]}.{version[1]}; save it as 1.0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # A file from Python 2 is as good as any.
            shape, fortran, dtype = readers[version](file)
    except (OSError, ZeropointError):
        raise
    except Exception as error:  # NumPy parses the header as Python, which fails in many ways.
        # Some messages run over several lines.
        reason = str(error).partition("\n")[0]
        raise ZeropointError(f"'{path}': it is not a .npy file, or damaged: {reason}") from None
    if dtype.hasobject or dtype.names is not None or dtype.subdtype is not None:
        raise ZeropointError(f"'{path}': it holds {dtype}, not numbers; save an array of floats or integers")
    if any(size < 0 for size in shape):
        raise ZeropointError(f"'{path}': it is damaged: its header gives the shape {shape}")
    return shape, fortran, dtype


def _check_length(path: Path, file: IO[bytes], shape: Shape, dtype: np.dtype[Any]) -> None:
    """Raise ZeropointError unless just the data of such an array follow in the file."""
    size = prod(shape) * dtype.itemsize
    if size > MAX_BYTES:
        raise ZeropointError(f"'{path}': it holds {size} bytes, {MAX_BYTES} at most; split it")
    follow = os.fstat(file.fileno()).st_size - file.tell()
    if follow != size:
        raise ZeropointError(
            f"'{path}': it is damaged: an array of {dtype.name} and shape {_shape_text(*shape)} has {size} bytes, "
            f"but {follow} are there"
        )


def _floats(path: Path, x: Array) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):  # A float64 beyond float32 becomes infinite, and is refused.
        x = np.ascontiguousarray(x, np.float32)
    if not np.all(np.isfinite(x)):
        raise ZeropointError(f"'{path}': it holds values that are NaN or infinite; remove those examples")
    return x


def _shape_text(*sizes: object) -> str:
    return f"({', '.join(map(str, sizes))}{',' * (len(sizes) == 1)})"
