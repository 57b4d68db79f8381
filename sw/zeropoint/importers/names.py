"""Names for what an importer makes, each given once."""

from collections.abc import Iterable


class Names:
    """Gives names once.

    Parameters
    ----------
    taken
        Names that are given already.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._next: dict[str, int] = {}

    def unique(self, name: str) -> str:
        """Return ``name`` or, if it has been given, the first of ``name_1``, ``name_2`` … that has not."""
        found = name
        while found in self._taken:
            # Remembered, as otherwise many equal names take quadratic time.
            self._next[name] = self._next.get(name, 0) + 1
            found = f"{name}_{self._next[name]}"
        self._taken.add(found)
        return found
