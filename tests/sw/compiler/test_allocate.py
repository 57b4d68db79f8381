"""Buffers never overlap while they live, and lie as low as they can where that is known."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeropoint.compiler.allocate import DoesNotFit, Request, allocate, lower_bound

HUGE = 1 << 40


@st.composite
def request_lists(draw: st.DrawFn) -> list[Request]:
    entries = draw(
        st.lists(st.tuples(st.integers(1, 100), st.integers(0, 12), st.integers(0, 6)), min_size=0, max_size=14)
    )
    return [Request(f"t{index}", size, first, first + life) for index, (size, first, life) in enumerate(entries)]


def live_peak(requests: list[Request], alignment: int = 1) -> int:
    """The most bytes in use in any step, counted step by step."""
    steps = range(max((request.last_use for request in requests), default=-1) + 1)
    return max(
        (sum(r.size for r in requests if r.first_use <= step <= r.last_use) for step in steps),
        default=0,
    )


def peak(requests: list[Request], addresses: dict[str, int]) -> int:
    return max((addresses[request.name] + request.size for request in requests), default=0)


def assert_sound(requests: list[Request], addresses: dict[str, int], capacity: int, alignment: int) -> None:
    """The contract, step by step and byte by byte."""
    assert list(addresses) == [request.name for request in requests]
    for address in addresses.values():
        assert address >= 0
        assert address % alignment == 0
    assert peak(requests, addresses) <= capacity
    for step in range(max((request.last_use for request in requests), default=-1) + 1):
        taken: set[int] = set()
        for request in requests:
            if request.first_use <= step <= request.last_use:
                place = set(range(addresses[request.name], addresses[request.name] + request.size))
                assert not place & taken, f"{request} overlaps at step {step}"
                taken |= place


@settings(deadline=None)
@given(request_lists(), st.sampled_from([1, 2, 8, 64]))
def test_buffers_that_live_together_never_overlap(requests: list[Request], alignment: int) -> None:
    addresses = allocate(requests, HUGE, alignment)
    assert_sound(requests, addresses, HUGE, alignment)
    assert peak(requests, addresses) >= lower_bound(requests, alignment) >= live_peak(requests)


@settings(deadline=None)
@given(request_lists())
def test_the_lower_bound_is_the_most_that_is_in_use_at_once(requests: list[Request]) -> None:
    assert lower_bound(requests) == live_peak(requests)


@settings(deadline=None)
@given(request_lists())
def test_the_same_requests_get_the_same_addresses(requests: list[Request]) -> None:
    assert allocate(requests, HUGE, 4) == allocate(requests, HUGE, 4)
    reordered = list(reversed(requests))
    assert allocate(reordered, HUGE, 4) == allocate(requests, HUGE, 4)


@settings(deadline=None)
@given(request_lists(), st.integers(1, 300))
def test_what_does_not_fit_says_so_and_what_fits_is_sound(requests: list[Request], capacity: int) -> None:
    try:
        assert_sound(requests, allocate(requests, capacity), capacity, 1)
        return
    except DoesNotFit as raised:
        error = raised
    assert error.needed > error.available == capacity
    assert set(error.buffers) == {r.name for r in requests if r.first_use <= error.step <= r.last_use}
    if lower_bound(requests) > capacity:
        assert sum(r.size for r in requests if r.name in error.buffers) == lower_bound(requests)


def chain(sizes: list[int]) -> list[Request]:
    """Each buffer is written in one step and read in the next."""
    return [Request(f"t{index}", size, max(index - 1, 0), index) for index, size in enumerate(sizes)]


@settings(deadline=None)
@given(st.lists(st.integers(1, 1000), min_size=2, max_size=30), st.sampled_from([1, 8, 64]))
def test_a_chain_takes_no_more_than_its_two_largest_neighbours(sizes: list[int], alignment: int) -> None:
    requests = chain(sizes)
    taken = peak(requests, allocate(requests, HUGE, alignment))
    assert taken < lower_bound(requests, alignment) + alignment
    if alignment == 1:
        assert taken == max(a + b for a, b in pairwise(sizes))


def test_greedy_by_size_alone_would_waste_memory_on_this_chain() -> None:
    # Largest first from the bottom: 10 and 9 lie at 0, so 8 goes above 9 and 6 above both: 23 bytes.
    requests = chain([10, 6, 8, 9])
    assert peak(requests, allocate(requests, 17)) == 17


def test_residual_blocks_take_no_more_than_their_lower_bound() -> None:
    # x is kept for the addition behind two convolutions: the shape of ResNet-8, sizes in bytes.
    requests = [
        Request("input", 3072, 0, 0),
        Request("x", 16384, 0, 3),
        Request("a", 16384, 1, 2),
        Request("b", 16384, 2, 3),
        Request("y", 16384, 3, 6),
        Request("c", 8192, 4, 5),
        Request("d", 8192, 5, 7),
        Request("e", 8192, 6, 7),
        Request("z", 8192, 7, 8),
        Request("pool", 64, 8, 9),
        Request("logits", 10, 9, 10),
    ]
    assert lower_bound(requests) == 3 * 16384
    addresses = allocate(requests, 3 * 16384, 8)
    assert_sound(requests, addresses, 3 * 16384, 8)


def test_random_orders_find_room_where_the_systematic_ones_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    lives = [(6, 5, 5), (9, 0, 4), (6, 4, 8), (8, 5, 7), (8, 3, 7), (8, 4, 6)]
    requests = [Request(f"t{index}", *life) for index, life in enumerate(lives)]
    assert_sound(requests, allocate(requests, 36), 36, 1)
    monkeypatch.setattr("zeropoint.compiler.allocate._ATTEMPTS", 0)
    with pytest.raises(DoesNotFit, match="the buffers need 37 bytes, 1 more than there are") as info:
        allocate(requests, 36)
    assert info.value.buffers


def test_most_allocations_reach_the_lower_bound() -> None:
    generator = random.Random(3)
    reached = 0
    for _ in range(300):
        requests = []
        for index in range(generator.randint(4, 9)):
            first = generator.randint(0, 7)
            requests.append(Request(f"t{index}", generator.randint(1, 12), first, first + generator.randint(0, 4)))
        reached += peak(requests, allocate(requests, HUGE)) == lower_bound(requests)
    assert reached >= 285


def test_nothing_takes_nothing() -> None:
    assert allocate([], 0) == {}


def test_a_memory_that_is_one_byte_too_small_is_told_apart() -> None:
    requests = chain([100, 28, 200, 56])
    assert set(allocate(requests, 256)) == {"t0", "t1", "t2", "t3"}
    with pytest.raises(
        DoesNotFit, match="need 256 bytes, 1 more than there are: t2, t3 are in use at once \\(step 2\\)"
    ) as info:
        allocate(requests, 255)
    assert (info.value.needed, info.value.available, info.value.step) == (256, 255, 2)


def test_requests_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="buffer 'x' must have a size of at least 1, not 0"):
        Request("x", 0, 0, 1)
    with pytest.raises(ValueError, match="buffer 'x' is used from step 2 to step 1"):
        Request("x", 1, 2, 1)
    with pytest.raises(ValueError, match="two buffers have the same name"):
        allocate([Request("x", 1, 0, 1), Request("x", 1, 2, 3)], 10)
    with pytest.raises(ValueError, match="alignment must be at least 1, not 0"):
        allocate([], 10, 0)
