"""Seeds that a test goes through in a loop."""

from collections.abc import Iterable, Iterator


def shown(seeds: Iterable[int]) -> Iterator[int]:
    """Yield seeds, each printed first: the last one in a failed test's output is the one that failed."""
    for seed in seeds:
        print(f"seed {seed}")
        yield seed
