"""Quantized models as ``.zp`` files.

A ``.zp`` file is a safetensors file: its arrays are the model's constants by name; the one entry ``zeropoint`` of its
metadata is a JSON text with everything else::

    {"format": 3, "sha256": "…", "model": {"name", "input", "output", "rounding", "metadata", "tensors", "operators"}}

A tensor is ``{"name", "shape", "dtype", "scale", "zero_point", "axis", "constant", "format"}``; its format is null, or
``{"kind"}`` with what ``zeropoint.model.formats`` lists for it. An operator is ``{"kind"}`` and the fields of its class
in ``zeropoint.model.operators``; a clamp is ``[low, high]``, null where it is infinite; a padding is ``[top, bottom,
left, right]``. The digest covers the JSON text of ``model`` (keys sorted, no spaces) and the bytes of the arrays in the
order of their names, so that a damaged file is never taken for a model.

The same model always gives the same bytes, and loading gives back the same model.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import safetensors.numpy

from zeropoint.errors import ZeropointError
from zeropoint.files import atomic_write, read_bytes
from zeropoint.model.graph import QuantizedModel
from zeropoint.model.operators import MAX_ELEMENTS
from zeropoint.model.zp_schema import Arrays, model_from_json, model_to_json

#: The version that is written, and the only one that is read. It grows with every change to what a file must hold:
#: 2 has constant operands of Add, and the value of Pad; 3 has tensors' formats.
FORMAT = 3

#: Larger files, and larger headers, are refused before they are read.
MAX_FILE_BYTES = 4 * MAX_ELEMENTS
MAX_HEADER_BYTES = 16 << 20

_KEY = "zeropoint"


def save(model: QuantizedModel, path: Path) -> None:
    """Write ``model`` to the file ``path``, whole or not at all.

    Raises
    ------
    ZeropointError
        If the file cannot be written, or the model is beyond what a file may hold.
    """
    atomic_write(path, dumps(model))


def load(path: Path) -> QuantizedModel:
    """Return the model in the file ``path``, verified.

    Raises
    ------
    ZeropointError
        Naming the file and what is wrong with it: it cannot be read, is no ``.zp`` file, is damaged, was written by
        another version of Zeropoint, or its model does not pass verification.
    """
    data = read_bytes(path, MAX_FILE_BYTES)
    try:
        return loads(data)
    except ZeropointError as error:
        raise ZeropointError(f"cannot load '{path}': {error}") from error


def dumps(model: QuantizedModel) -> bytes:
    """Return the bytes of the ``.zp`` file that holds ``model``; the errors are those of :func:`save`."""
    arrays = {name: tensor.data for name, tensor in model.tensors.items() if tensor.data is not None}
    if "__metadata__" in arrays:
        raise ZeropointError("a constant cannot be stored under the name '__metadata__'; rename it")
    document = model_to_json(model)
    outer = {"format": FORMAT, "sha256": _digest(document, arrays), "model": document}
    data = safetensors.numpy.save(arrays, metadata={_KEY: _canonical(outer)})
    if len(data) > MAX_FILE_BYTES or _header_length(data) > MAX_HEADER_BYTES:
        raise ZeropointError(f"model '{model.name}' is too large for a .zp file")
    return data


def digest(model: QuantizedModel) -> str:
    """Return the SHA-256 of the ``.zp`` file that holds ``model``: one model, one digest. As :func:`save` otherwise."""
    return hashlib.sha256(dumps(model)).hexdigest()


def loads(data: bytes) -> QuantizedModel:
    """Return the model in the bytes of a ``.zp`` file, verified; the errors are those of :func:`load`."""
    outer = _metadata(data)
    version = outer.get("format") if isinstance(outer, dict) else None
    if type(version) is not int or version < 1:
        raise ZeropointError("it does not say the version of its format")
    if version != FORMAT:
        age, advice = (
            ("a newer", "upgrade Zeropoint") if version > FORMAT else ("an older", "quantize the network again")
        )
        raise ZeropointError(f"it was written by {age} Zeropoint (format {version}, not {FORMAT}); {advice}")
    if outer.keys() != {"format", "sha256", "model"}:
        raise ZeropointError("it is damaged: it must hold a format, a digest and a model")
    try:
        arrays = safetensors.numpy.load(data)
    except Exception as error:  # The parser raises several types, its own and KeyError, ValueError and TypeError.
        raise ZeropointError(f"it is damaged: {error}") from None
    if outer["sha256"] != _digest(outer["model"], arrays):
        raise ZeropointError("it is damaged: its contents do not match their checksum; get the file again")
    return model_from_json(outer["model"], arrays)


def _header_length(data: bytes) -> int:
    return int.from_bytes(data[:8], "little")


def _metadata(data: bytes) -> Any:
    """Return the JSON value in the safetensors header's metadata."""
    length = _header_length(data)
    if len(data) < 8 or length > len(data) - 8:
        raise ZeropointError("it is not a .zp file, or only the first part of one")
    if length > MAX_HEADER_BYTES:
        raise ZeropointError(f"its header has {length} bytes; {MAX_HEADER_BYTES} at most")
    header = _parse(data[8 : 8 + length])
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or list(metadata) != [_KEY] or not isinstance(metadata[_KEY], str):
        raise ZeropointError("it is not a .zp file: Zeropoint did not write its header")
    return _parse(metadata[_KEY])


def _parse(text: str | bytes) -> Any:
    """Return the JSON value ``text``; numbers that are NaN or infinite, and names given twice, are errors."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name is given twice")
        return found

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a number")

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ZeropointError(f"it is not a .zp file, or damaged: {error}") from None


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(document: Any, arrays: Arrays) -> str:
    digest = hashlib.sha256()
    try:
        digest.update(_canonical(document).encode())
    except (ValueError, RecursionError) as error:  # 1e999 was read as infinite.
        raise ZeropointError(f"it is damaged: {error}") from None
    for name in sorted(arrays):
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()
