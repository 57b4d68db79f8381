"""Offline memory allocation: buffers with known lifetimes get addresses before anything runs."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from zeropoint.errors import ZeropointError, quoted_list

#: Placements tried in a random (but always the same) order when the systematic ones do not fit.
_ATTEMPTS = 200


@dataclass(frozen=True)
class Request:
    """A buffer of ``size`` bytes that is in use from step ``first_use`` to step ``last_use``, both included.

    Raises
    ------
    ValueError
        If the size is not positive or the steps are in the wrong order.
    """

    name: str
    size: int
    first_use: int
    last_use: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"buffer {self.name!r} must have a size of at least 1, not {self.size}")
        if self.first_use > self.last_use:
            raise ValueError(f"buffer {self.name!r} is used from step {self.first_use} to step {self.last_use}")

    def lives_with(self, other: "Request") -> bool:
        """Return whether there is a step in which both are in use."""
        return self.first_use <= other.last_use and other.first_use <= self.last_use


class DoesNotFit(ZeropointError):
    """The buffers do not fit the memory.

    Attributes
    ----------
    needed
        Bytes that the best allocation found takes.
    available
        Bytes of the memory.
    step
        The step with most bytes in use; where gaps alone are in the way, the step at which the highest buffer begins.
    buffers
        The buffers in use at that step.
    """

    def __init__(self, needed: int, available: int, step: int, buffers: Sequence[str]) -> None:
        super().__init__(
            f"the buffers need {needed} bytes, {needed - available} more than there are: {quoted_list(buffers)} are in "
            f"use at once (step {step})"
        )
        self.needed, self.available, self.step, self.buffers = needed, available, step, tuple(buffers)


def lower_bound(requests: Sequence[Request], alignment: int = 1) -> int:
    """Return the most bytes that are in use in any step, which no allocation can go below.

    All buffers but one of each step are counted as whole multiples of ``alignment``, since only the highest of them may
    end in between.
    """
    return max((_live_bytes(requests, request.first_use, alignment) for request in requests), default=0)


def allocate(requests: Sequence[Request], capacity: int, alignment: int = 1) -> dict[str, int]:
    """Return an address for each buffer, by its name, in the order of ``requests``.

    Two buffers overlap only if there is no step in which both are in use. Addresses are multiples of ``alignment`` and
    no buffer ends beyond ``capacity``. The same requests always get the same addresses. Chains, in which each step
    reads one buffer and writes the next, take less than ``alignment`` bytes more than :func:`lower_bound`; so do most
    other networks.

    Greedy placements, by size and by time, from one end of the memory and from both (cf. Pisarchyk and Lee, "Efficient
    Memory Management for Deep Neural Net Inference", 2020), of which the lowest counts; if none fits, more of them in
    random order.

    Raises
    ------
    DoesNotFit
        If no placement was found.
    ValueError
        If two buffers have one name, or ``alignment`` is not positive.
    """
    if alignment < 1:
        raise ValueError(f"alignment must be at least 1, not {alignment}")
    if len({request.name for request in requests}) != len(requests):
        raise ValueError("two buffers have the same name")
    bound = lower_bound(requests, alignment)
    by_size = sorted(requests, key=lambda request: (-request.size, request.first_use, request.name))
    by_time = sorted(requests, key=lambda request: (request.first_use, -request.last_use, request.name))
    by_life = sorted(requests, key=lambda request: (request.first_use - request.last_use, -request.size, request.name))
    best: dict[str, int] | None = None
    best_peak = 0

    def attempt(order: Iterable[Request], ceiling: int | None) -> None:
        nonlocal best, best_peak
        placed = _place(order, ceiling, alignment)
        peak = max((placed[request.name] + request.size for request in requests), default=0)
        if best is None or peak < best_peak:
            best, best_peak = placed, peak

    for order in (by_time, by_size, by_life):
        for ceiling in (bound, bound + alignment - 1, None):
            attempt(order, ceiling)
    if best_peak > capacity >= bound:
        shuffled, generator = list(by_size), random.Random(0)
        for _ in range(_ATTEMPTS):
            generator.shuffle(shuffled)
            attempt(shuffled, bound)
            attempt(shuffled, None)
            if best_peak <= capacity:
                break
    assert best is not None
    if best_peak > capacity:
        step = _step_of_peak(requests, best, best_peak, capacity, alignment)
        live = [request.name for request in requests if request.first_use <= step <= request.last_use]
        raise DoesNotFit(best_peak, capacity, step, live)
    return {request.name: best[request.name] for request in requests}


def _live_bytes(requests: Sequence[Request], step: int, alignment: int) -> int:
    sizes = [request.size for request in requests if request.first_use <= step <= request.last_use]
    # The buffer on top is the one whose rounding up costs most.
    slack = max((_up(size, alignment) - size for size in sizes), default=0)
    return sum(_up(size, alignment) for size in sizes) - slack


def _step_of_peak(requests: Sequence[Request], placed: dict[str, int], peak: int, capacity: int, alignment: int) -> int:
    """Return the step that has too many bytes in use; where only gaps are in the way, that of the highest buffer."""
    if lower_bound(requests, alignment) > capacity:
        busiest = max(requests, key=lambda request: _live_bytes(requests, request.first_use, alignment))
        return busiest.first_use
    return next(request.first_use for request in requests if placed[request.name] + request.size == peak)


def _place(order: Iterable[Request], ceiling: int | None, alignment: int) -> dict[str, int]:
    """Return addresses, each buffer in turn getting a place in the smallest gap that holds it.

    With a ``ceiling``, a buffer goes to the upper end of a gap that ends there: in a chain, buffers then lie at the
    bottom and the top by turns, and never in each other's way. Otherwise it goes to a gap's lower end.
    """
    done: list[tuple[int, Request]] = []
    for request in order:
        taken = sorted((address, address + other.size) for address, other in done if other.lives_with(request))
        choice: tuple[int, int] | None = None
        start = 0
        for low, high in [*taken, (ceiling, ceiling)] if ceiling is not None else taken:
            bottom = _up(start, alignment)
            if low - bottom >= request.size:
                top = (low - request.size) // alignment * alignment
                address = top if low == ceiling and start > 0 else bottom
                choice = min(choice or (low - start, address), (low - start, address))
            start = max(start, high)
        done.append((_up(start, alignment) if choice is None else choice[1], request))
    return {request.name: address for address, request in done}


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
