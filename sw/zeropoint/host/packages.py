"""The packages of the extra ``host``, imported when they are needed."""

from functools import cache
from importlib import import_module
from typing import Any

from zeropoint.errors import ZeropointError


@cache
def need(module: str) -> Any:
    """Return a module of a package that talking to boards needs.

    Raises
    ------
    ZeropointError
        If it is not installed; the message says how to get it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ZeropointError(
            f"talking to a board needs the package {error.name}; run pip install 'zeropoint[host]'"
        ) from None
