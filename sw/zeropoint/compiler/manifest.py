"""Untrusted JSON, taken apart entry by entry: each is there, of its type and in its range, and none is left over."""

import json
from collections.abc import Iterator
from math import isfinite
from typing import Any

_MAX_DIMENSIONS = 8
_MAX_INTEGER = (1 << 53) - 1


def parse(data: bytes) -> object:
    """Return the JSON value in ``data``.

    Raises
    ------
    ValueError
        If it is no JSON, gives a name twice, or has a number that is NaN or infinite.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name is given twice")
        return found

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a number")

    try:
        return json.loads(data, object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON, or damaged: {error}") from None


class Record:
    """A JSON object whose entries are taken one by one.

    Every method that takes an entry raises ValueError, naming the object and the entry, if it is missing or not as
    asked for. :meth:`end` raises it for entries that nobody took.
    """

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{what} must be an object, not {_brief(value)}")
        self._entries: dict[str, Any] = dict(value)
        self._what = what

    def take(self, key: str, kind: type) -> Any:
        """Return the entry ``key``, which must be of the type ``kind``."""
        if key not in self._entries:
            raise ValueError(f"{self._what} lacks {key!r}")
        value = self._entries.pop(key)
        # In Python, though not in JSON, True is an integer.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            names = {dict: "an object", list: "a list", str: "a text", int: "an integer"}
            raise ValueError(f"{self._what}: {key!r} must be {names[kind]}, not {_brief(value)}")
        return value

    def text(self, key: str) -> str:
        """Return a text."""
        return str(self.take(key, str))

    def integer(self, key: str, low: int, high: int = _MAX_INTEGER) -> int:
        """Return an integer from ``low`` to ``high``."""
        value = int(self.take(key, int))
        if not low <= value <= high:
            allowed = f"{low}" if low == high else f"{low} to {high}"
            raise ValueError(f"{self._what}: {key!r} must be {allowed}, not {_brief(value)}")
        return value

    def number(self, key: str) -> float:
        """Return a finite floating-point number."""
        value = self.take(key, object)
        if type(value) is not float or not isfinite(value):
            raise ValueError(f"{self._what}: {key!r} must be a floating-point number, not {_brief(value)}")
        return value

    def shape(self, key: str) -> tuple[int, ...]:
        """Return a tensor's shape."""
        value = self.take(key, list)
        if len(value) > _MAX_DIMENSIONS or not all(type(size) is int and 0 < size < 1 << 31 for size in value):
            raise ValueError(
                f"{self._what}: {key!r} must be up to {_MAX_DIMENSIONS} positive integers, not {_brief(value)}"
            )
        return tuple(value)

    def record(self, key: str) -> "Record":
        """Return an object."""
        return Record(self.take(key, dict), f"{self._what}: {key!r}")

    def records(self, key: str) -> list["Record"]:
        """Return a list of objects."""
        return [Record(value, f"{self._what}: {key!r} {index}") for index, value in enumerate(self.take(key, list))]

    def __iter__(self) -> Iterator[str]:
        """Return the names of the entries that nobody took yet; they may be taken meanwhile."""
        return iter(list(self._entries))

    def end(self) -> None:
        """Check that nothing is left."""
        if self._entries:
            raise ValueError(f"{self._what} has the unknown entry {_brief(next(iter(self._entries)))}")


def _brief(value: object) -> str:
    text = ascii(value)
    return text if len(text) < 60 else text[:57] + "..."
