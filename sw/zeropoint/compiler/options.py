"""The accelerator's configuration from a TOML file and from options."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from zeropoint.errors import ZeropointError, quoted_list
from zeropoint.files import read_bytes
from zeropoint_hw.config import AcceleratorConfig

_KEYS = tuple(field.name for field in fields(AcceleratorConfig))
#: The fields of which the kind of PE says what they may be.
_BY_KIND = (
    *("weight_bits", "weight_zero", "activation_bits", "exponent_bits", "accumulator_width"),
    *("requantizer", "digit_bits"),
)
_TABLE = "accelerator"
_MAX_FILE_BYTES = 64 << 10


def load_config(path: Path | None, overrides: Mapping[str, Any] | None = None) -> AcceleratorConfig:
    """Return the configuration with the fields that :func:`load_fields` returns; all others have their defaults."""
    return AcceleratorConfig.from_dict(load_fields(path, overrides))


def load_fields(path: Path | None, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the fields of a configuration that a TOML file and ``overrides`` give, which go together.

    The keys are the fields of :class:`~zeropoint_hw.config.AcceleratorConfig`, in a table ``[accelerator]`` or at the
    top of the file.

    Parameters
    ----------
    path
        The file, or None.
    overrides
        Fields that count before those of the file; None stands for a field that is not given.

    Raises
    ------
    ZeropointError
        Naming the file (or that it is an option), the key and what is allowed.
    """
    entries = {} if path is None else _read(path)
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    for key in given:
        if key not in _KEYS:
            raise ZeropointError(f"configuration option {key!r} is unknown; there are {quoted_list(_KEYS, len(_KEYS))}")
    # What a field may be can follow from the kind of PE, which the network chooses where nobody else does.
    together = entries | given
    known = together if "pe" in together else {key: each for key, each in together.items() if key not in _BY_KIND}
    try:
        AcceleratorConfig.from_dict(known)
    except (TypeError, ValueError) as error:
        # The message begins with the field that is wrong.
        key = str(error).split(" ", 1)[0]
        where = f"'{path}'" if key in entries and key not in given else "configuration"
        raise ZeropointError(f"{where}: {error}") from None
    return together


def to_toml(config: AcceleratorConfig) -> str:
    """Return the TOML file from which :func:`load_config` returns the configuration."""
    # Numbers, truth values and plain words are written in TOML as in JSON.
    lines = [f"{key} = {json.dumps(value)}" for key, value in config.to_dict().items()]
    return "\n".join([f"[{_TABLE}]", *lines, ""])


def _read(path: Path) -> dict[str, Any]:
    """Return the entries of a file, whose names are those of fields."""
    try:
        document = tomllib.loads(read_bytes(path, _MAX_FILE_BYTES).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ZeropointError(f"'{path}': it is not TOML: {error}") from None
    entries = document
    if _TABLE in document:
        entries = document[_TABLE]
        others = [key for key in document if key != _TABLE]
        if not isinstance(entries, dict):
            raise ZeropointError(f"'{path}': {_TABLE} must be a table, [{_TABLE}]")
        if others:
            raise ZeropointError(f"'{path}': {quoted_list(others)} must be in the table [{_TABLE}], or left out")
    for key in entries:
        if key not in _KEYS:
            raise ZeropointError(f"'{path}': {key!r} is unknown; there are {quoted_list(_KEYS, len(_KEYS))}")
    return entries
