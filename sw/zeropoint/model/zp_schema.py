"""Quantized models as JSON values: what a ``.zp`` file says beside its arrays.

Writing takes a model and gives objects, lists, texts and numbers; reading takes the same from an untrusted file, and
raises ZeropointError for whatever is missing, superfluous, of another type or out of range.
"""

import dataclasses
from collections.abc import Mapping
from math import inf, isfinite
from typing import Any, get_type_hints

import numpy as np
import numpy.typing as npt

from zeropoint.errors import ZeropointError, quoted_list
from zeropoint.model.formats import FORMATS, Format, format_name
from zeropoint.model.graph import MAX_OPERATORS, Quantization, QuantizedModel, Tensor
from zeropoint.model.kinds import OPERATORS
from zeropoint.model.operators import Clamp, Operator, Padding, Shape
from zeropoint.numerics import Rounding

Arrays = Mapping[str, npt.NDArray[Any]]

_MODEL = ("name", "input", "output", "rounding", "metadata", "tensors", "operators")
_TENSOR = ("name", "shape", "dtype", "scale", "zero_point", "axis", "constant", "format")
_MAX_DIMENSIONS = 8
_MAX_INPUTS = 1024
_FLOAT32_MAX = float(np.finfo(np.float32).max)


def model_to_json(model: QuantizedModel) -> dict[str, Any]:
    """Return everything in ``model`` but the data of its constants.

    Raises
    ------
    ZeropointError
        If a name cannot be stored.
    """
    return {
        "name": _name(model.name),
        "input": model.input,
        "output": model.output,
        "rounding": model.rounding.value,
        "metadata": {_name(key): _text(value) for key, value in model.metadata.items()},
        "tensors": [_tensor_to_json(tensor) for tensor in model.tensors.values()],
        "operators": [_operator_to_json(operator) for operator in model.operators],
    }


def model_from_json(value: object, arrays: Arrays) -> QuantizedModel:
    """Return the verified model of which ``value`` tells, with the constants ``arrays``.

    Raises
    ------
    ZeropointError
        If ``value`` is no model, the arrays are not those that it names, or the model does not pass verification.
    """
    record = _record(value, "the model", _MODEL)
    notes = record["metadata"]
    if not isinstance(notes, dict):
        raise ZeropointError("its metadata are not texts by name")
    if record["rounding"] not in [rounding.value for rounding in Rounding]:
        raise ZeropointError(f"its rounding {_brief(record['rounding'])} is unknown")
    tensors: dict[str, Tensor] = {}
    for item in _list(record["tensors"], "its list of tensors"):
        tensor = _tensor_from_json(item, arrays)
        if tensor.name in tensors:
            raise ZeropointError(f"two tensors have the name '{tensor.name}'")
        tensors[tensor.name] = tensor
    superfluous = sorted(name for name in arrays if name not in tensors or tensors[name].data is None)
    if superfluous:
        raise ZeropointError(f"it has arrays that its model does not name: {quoted_list(superfluous)}")
    operators = _list(record["operators"], "its list of operators", MAX_OPERATORS)
    return QuantizedModel(
        _name(record["name"]),
        tensors,
        tuple(_operator_from_json(item) for item in operators),
        _name(record["input"]),
        _name(record["output"]),
        {_name(key): _text(text) for key, text in notes.items()},
        Rounding(record["rounding"]),
    )


def _tensor_to_json(tensor: Tensor) -> dict[str, Any]:
    quantization = tensor.quantization
    assert quantization is not None  # Verified by the model.
    return {
        "name": _name(tensor.name),
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "scale": list(quantization.scale),
        "zero_point": list(quantization.zero_point),
        "axis": None if quantization.axis is None else int(quantization.axis),
        "constant": tensor.data is not None,
        "format": None if tensor.format is None else _format_to_json(tensor.format),
    }


def _format_to_json(form: Format) -> dict[str, Any]:
    kind = format_name(form)
    return {"kind": kind} | {field: getattr(form, field) for field in FORMATS[kind][1]}


def _format_from_json(value: object, what: str) -> Format | None:
    if value is None:
        return None
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in FORMATS:
        raise ZeropointError(f"{what} has a format of unknown kind {_brief(kind)}")
    cls: Any
    cls, fields = FORMATS[kind]
    record = _record(value, f"{what}: its format", ("kind", *fields))
    hints = get_type_hints(cls)
    entries: dict[str, Any] = {field: _from_json(hints[field], record[field], f"{what}: {field}") for field in fields}
    # What a format's unit is worth is the scale's.
    units = {field.name: 0 for field in dataclasses.fields(cls) if field.name not in fields}
    try:
        form: Format = cls(**entries, **units)
        return form
    except ValueError as error:
        raise ZeropointError(f"{what}: {error}") from None


def _tensor_from_json(value: object, arrays: Arrays) -> Tensor:
    record = _record(value, "a tensor", _TENSOR)
    name = _name(record["name"])
    what = f"tensor '{name}'"
    shape = tuple(_integer(size, f"{what}: shape") for size in _list(record["shape"], what, _MAX_DIMENSIONS))
    if record["dtype"] not in ("int8", "uint8", "int16", "int32"):
        raise ZeropointError(f"{what} has the unknown type {_brief(record['dtype'])}")
    scale = tuple(_number(item, f"{what}: scale") for item in _list(record["scale"], f"{what}: scale"))
    if any(abs(item) > _FLOAT32_MAX or float(np.float32(item)) != item for item in scale):
        raise ZeropointError(f"{what} has a scale that is no float32 value")
    zero_point = tuple(_integer(item, f"{what}: zero point") for item in _list(record["zero_point"], what))
    axis = None if record["axis"] is None else _integer(record["axis"], f"{what}: axis")
    data = None
    if not isinstance(record["constant"], bool):
        raise ZeropointError(f"{what} must be constant or not, not {_brief(record['constant'])}")
    if record["constant"]:
        if name not in arrays:
            raise ZeropointError(f"{what} is a constant, but its array is missing")
        data = arrays[name]
    form = _format_from_json(record["format"], what)
    try:
        return Tensor(name, shape, record["dtype"], Quantization(scale, zero_point, axis), data, form)
    except ValueError as error:
        raise ZeropointError(f"{what}: {error}") from None


def _fields(cls: type[Operator]) -> dict[str, Any]:
    """Return the type of each field of an operator."""
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _operator_to_json(operator: Operator) -> dict[str, Any]:
    fields = _fields(type(operator))
    return {"kind": operator.kind} | {name: _to_json(hint, getattr(operator, name)) for name, hint in fields.items()}


def _operator_from_json(value: object) -> Operator:
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in OPERATORS:
        raise ZeropointError(f"it has an operator of unknown kind {_brief(kind)}")
    fields = _fields(OPERATORS[kind])
    record = _record(value, f"an operator ({kind})", ("kind", *fields))
    what = f"operator {_brief(record['name'])} ({kind})"
    values = {name: _from_json(hint, record[name], f"{what}: {name}") for name, hint in fields.items()}
    try:
        return OPERATORS[kind](**values)
    except ValueError as error:
        raise ZeropointError(f"{what}: {error}") from None


def _to_json(hint: Any, value: Any) -> Any:
    """Return an operator's field, of the type ``hint``, as JSON; numbers of other types become those of ``hint``."""
    if hint is Clamp:
        return [float(end) if isfinite(end) else None for end in (value.low, value.high)]
    if hint is Padding:
        return [int(size) for size in (value.top, value.bottom, value.left, value.right)]
    if hint in (tuple[int, int], Shape):
        return [int(item) for item in value]
    if hint == tuple[str, ...]:
        return list(value)
    return hint(value) if hint in (int, float, bool) else value


def _from_json(hint: Any, value: object, what: str) -> Any:
    """Undo :func:`_to_json`."""
    if value is None and hint in (str | None, int | None):
        return None
    if hint in (str, str | None):
        return _name(value, what)
    if hint in (int, int | None):
        return _integer(value, what)
    if hint is bool:
        if not isinstance(value, bool):
            raise ZeropointError(f"{what} must be true or false, not {_brief(value)}")
        return value
    if hint == tuple[str, ...]:
        return tuple(_name(item, what) for item in _list(value, what, _MAX_INPUTS))
    if hint is float:
        return _number(value, what)
    items = _list(value, what, {Clamp: 2, Padding: 4, tuple[int, int]: 2}.get(hint, _MAX_DIMENSIONS))
    if hint == Shape or (hint == tuple[int, int] and len(items) == 2):
        return tuple(_integer(item, what) for item in items)
    try:
        if hint is Padding and len(items) == 4:
            return Padding(*(_integer(item, what) for item in items))
        if hint is Clamp and len(items) == 2:
            ends = zip(items, (-inf, inf), strict=True)
            return Clamp(*(open if item is None else _number(item, what) for item, open in ends))
    except ValueError as error:
        raise ZeropointError(f"{what}: {error}") from None
    raise ZeropointError(f"{what}: {_brief(value)} has the wrong length")


def _record(value: object, what: str, keys: tuple[str, ...]) -> dict[str, Any]:
    """Return ``value`` if it is an object with just these ``keys``."""
    if not isinstance(value, dict):
        raise ZeropointError(f"{what} must be an object, not {_brief(value)}")
    if value.keys() != set(keys):
        missing, extra = sorted(set(keys) - value.keys()), sorted(value.keys() - set(keys))
        problem = f"lacks {quoted_list(missing)}" if missing else f"has the unknown {_brief(quoted_list(extra))}"
        raise ZeropointError(f"{what} {problem}")
    return value


def _list(value: object, what: str, limit: int | None = None) -> list[Any]:
    if not isinstance(value, list):
        raise ZeropointError(f"{what} must be a list, not {_brief(value)}")
    if limit is not None and len(value) > limit:
        raise ZeropointError(f"{what} has {len(value)} entries; {limit} at most")
    return value


def _integer(value: object, what: str) -> int:
    if type(value) is not int or not -(2**31) <= value < 2**31:
        raise ZeropointError(f"{what} must be a 32-bit integer, not {_brief(value)}")
    return value


def _number(value: object, what: str) -> float:
    if type(value) is not float or not isfinite(value):
        raise ZeropointError(f"{what} must be a finite floating-point number, not {_brief(value)}")
    return value


def _name(value: object, what: str = "a name") -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise ZeropointError(f"{what} must be a printable text, not {_brief(value)}")
    return value


def _text(value: object) -> str:
    """Return ``value`` if it is text that UTF-8 can hold: JSON's escapes can name halves of surrogate pairs."""
    if not isinstance(value, str) or any("\ud800" <= character <= "\udfff" for character in value):
        raise ZeropointError(f"metadata must be text, not {_brief(value)}")
    return value


def _brief(value: object) -> str:
    text = ascii(value)
    return text if len(text) < 60 else text[:57] + "..."
