"""Reading the strings and the tensors of an untrusted .onnx file, external data included, within a budget of memory."""

import os
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from zeropoint.errors import ZeropointError
from zeropoint.model.graph import MAX_ELEMENTS

Array = npt.NDArray[Any]

#: All constants together; external data may be named many times over by a small file.
MAX_CONSTANT_BYTES = 256 << 20
MAX_RANK = 8

#: Element types that a constant may have.
_TYPES = frozenset(
    (
        TensorProto.FLOAT,
        TensorProto.DOUBLE,
        TensorProto.FLOAT16,
        TensorProto.BOOL,
        TensorProto.INT8,
        TensorProto.INT16,
        TensorProto.INT32,
        TensorProto.INT64,
        TensorProto.UINT8,
        TensorProto.UINT16,
        TensorProto.UINT32,
        TensorProto.UINT64,
    )
)


def text(message: Any, field: str) -> str:
    """Return a string of a protobuf message."""
    return texts(message, field)[0]


def texts(message: Any, field: str) -> tuple[str, ...]:
    """Return one or more strings of a protobuf message; those that are not UTF-8 it gives as bytes, or raises."""
    try:
        found = getattr(message, field)
        values = (found,) if isinstance(found, str | bytes) else tuple(found)
    except UnicodeDecodeError:
        values = (b"",)
    if not all(isinstance(value, str) for value in values):
        raise ZeropointError("damaged: it has names that are not UTF-8; export or copy it again")
    return values


class Arrays:
    """Reads tensors' data, after checking their sizes against what they declare, within one budget of memory."""

    def __init__(self, folder: Path) -> None:
        self._root = os.path.realpath(folder)
        self._budget = MAX_CONSTANT_BYTES

    def read(self, tensor: Any, what: str) -> Array:
        """Return a tensor's data; ``what`` names it in messages."""
        if tensor.data_type not in _TYPES:
            known = tensor.data_type in TensorProto.DataType.values()
            kind = TensorProto.DataType.Name(tensor.data_type) if known else tensor.data_type
            raise ZeropointError(f"{what} has element type {kind}; export the network in float32")
        shape = tuple(tensor.dims)
        if len(shape) > MAX_RANK or any(size < 0 for size in shape) or prod(shape) > MAX_ELEMENTS:
            raise ZeropointError(
                f"{what} has shape {shape[: MAX_RANK + 1]}; {MAX_RANK} dimensions and {MAX_ELEMENTS} elements at most"
            )
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        expected = prod(shape) * dtype.itemsize
        external = tensor.data_location == TensorProto.EXTERNAL
        if external:
            location, offset, found = self._external(tensor, what, expected)
        elif tensor.HasField("raw_data"):
            found = len(tensor.raw_data)
        else:
            found = len(getattr(tensor, onnx.helper.tensor_dtype_to_field(tensor.data_type))) * dtype.itemsize
        if found != expected:
            raise ZeropointError(f"{what} declares {expected} bytes in shape {shape}, but has {found}; export it again")
        self._budget -= expected
        if self._budget < 0:
            raise ZeropointError(
                f"{what} brings its constants beyond {MAX_CONSTANT_BYTES} bytes; use a smaller network"
            )
        little = dtype.newbyteorder("<")
        if external:
            try:
                array = np.fromfile(location, little, prod(shape), offset=offset).reshape(shape)
            except (OSError, ValueError) as error:
                raise ZeropointError(f"{what} has its data in a file that cannot be read: {error}") from None
        elif tensor.HasField("raw_data"):
            array = np.frombuffer(tensor.raw_data, little).reshape(shape)
        else:
            try:
                array = np.asarray(onnx.numpy_helper.to_array(tensor)).reshape(shape)
            except (ValueError, OverflowError):
                raise ZeropointError(f"{what} has values that do not fit its type; export it again") from None
        # A lone infinity may be the open end of a Clip.
        if array.dtype.kind == "f" and not np.all(np.isfinite(array)) and (array.ndim or np.isnan(array)):
            raise ZeropointError(f"{what} has values that are NaN or infinite; train or export the network again")
        return array.astype(dtype, copy=False)

    def _external(self, tensor: Any, what: str, expected: int) -> tuple[str, int, int]:
        """Return where a tensor keeps its data: a file inside the model's folder, the first byte, how many."""
        entries = {text(entry, "key"): text(entry, "value") for entry in tensor.external_data}
        location = entries.get("location", "")
        target = os.path.realpath(os.path.join(self._root, location.replace("\0", "")))
        inside = os.path.commonpath((self._root, target)) == self._root
        if not location.isprintable() or not location or os.path.isabs(location) or not inside:
            raise ZeropointError(
                f"{what} has its data in {location!a}, outside the model's folder; put them beside the model"
            )
        if not os.path.isfile(target):
            raise ZeropointError(
                f"{what} has its data in the file {location!a}, which is missing; copy it beside the model"
            )
        try:
            offset, length = int(entries.get("offset", 0)), int(entries.get("length", expected))
        except ValueError:
            raise ZeropointError(f"{what} has an offset or length of external data that is no number") from None
        available = os.path.getsize(target)
        if not 0 <= offset <= offset + length <= available:
            raise ZeropointError(
                f"{what} has its data at bytes {offset} … {offset + length} of {location!a}, "
                f"which has {available}; copy that file again"
            )
        return target, offset, length
