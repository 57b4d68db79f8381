"""Views against NumPy, whose strides say the same of the same memory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeropoint.importers.onnx_float_view import AS_IN_FILE, CHANNELS_FIRST, LayoutError, View, orders

SIZES = st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=3)


def read(view: View) -> np.ndarray:
    """Return the ONNX tensor that a view claims to be, of memory that counts up."""
    memory = np.arange(view.size).reshape(view.factors)
    order = [factor for axis in view.axes for factor in axis]
    return memory.transpose(order).reshape(view.sizes)


def start(sizes: list[int], channels_first: bool) -> tuple[View, np.ndarray]:
    groups = (CHANNELS_FIRST if channels_first else AS_IN_FILE)[len(sizes)]
    shape = tuple(sizes[group[0]] if group else 1 for group in groups)
    order = [group[0] for group in groups if group]
    memory = np.arange(np.prod(sizes)).reshape([sizes[axis] for axis in order])
    return View.of("t", shape, groups), memory.transpose(np.argsort(order))


@given(st.data(), SIZES, st.booleans())
def test_a_view_is_what_numpy_makes_of_the_same_steps(data: st.DataObject, sizes: list[int], first: bool) -> None:
    view, array = start(sizes, first)
    np.testing.assert_array_equal(read(view), array)
    memory = array
    for _ in range(data.draw(st.integers(1, 5))):
        if data.draw(st.booleans()):
            permutation = data.draw(st.permutations(range(array.ndim)))
            view = view.with_axes([None, *(view.axes[axis] for axis in permutation)])
            array = array.transpose(permutation)
        else:
            rest, shape = array.size, []
            while rest > 1 and len(shape) < 4:
                shape.append(data.draw(st.sampled_from([n for n in range(1, rest + 1) if rest % n == 0])))
                rest //= shape[-1]
            shape.append(rest)
            # As long as NumPy has needed no copy, its array is a view of the same memory.
            fits = np.shares_memory(memory, array.reshape(shape))
            try:
                view = view.reshaped(tuple(shape))
            except LayoutError:
                assert not fits, "what needs no copy must be possible"
                return
            array = array.reshape(shape)
        assert view.sizes == array.shape
        assert all(factor > 1 for factor in view.factors)
        np.testing.assert_array_equal(read(view), array)
        if array.ndim <= 3:
            in_order = [
                array.transpose([axis for group in groups for axis in group]).ravel() for groups in orders(array.ndim)
            ]
            counting = [bool(np.all(np.diff(values) == 1)) for values in in_order]
            assert counting == [view.lies_as(groups) for groups in orders(array.ndim)]


@given(st.data(), SIZES, st.booleans())
def test_to_memory_takes_constants_where_the_elements_are(data: st.DataObject, sizes: list[int], first: bool) -> None:
    view, array = start(sizes, first)
    flat = view.reshaped((view.size,))
    np.testing.assert_array_equal(flat.to_memory(array.reshape(-1), (0,))[:, 0], np.arange(view.size))
    columns = np.stack([array.reshape(-1), -array.reshape(-1)], axis=1)
    np.testing.assert_array_equal(flat.to_memory(columns, (0,))[:, 1], -np.arange(view.size))
    axes = data.draw(st.permutations(range(array.ndim)))
    moved = array.transpose(axes)
    np.testing.assert_array_equal(view.to_memory(moved, axes)[:, 0], np.arange(view.size))


@given(SIZES, st.booleans())
def test_layouts_are_equal_exactly_if_the_elements_are(sizes: list[int], first: bool) -> None:
    view, array = start(sizes, first)
    other, same = start(sizes, not first)
    assert (view.layout == other.layout) == np.array_equal(array, same)
    there_and_back = view.reshaped((view.size,)).reshaped(view.sizes)
    assert there_and_back.layout == view.layout


def test_inner_and_outer_axes() -> None:
    view = View.of("t", (4, 5, 3), CHANNELS_FIRST[3])
    assert view.sizes == (3, 4, 5)
    assert view.is_inner([0])
    assert not view.is_inner([1])
    assert view.is_inner([0, 2])
    assert view.is_outer([1, 2])
    assert view.is_outer([2, 1])
    assert not view.is_outer([0])
    assert view.is_outer([])


def test_batch_moves_with_the_axes() -> None:
    view = View.of("t", (4, 5, 3), CHANNELS_FIRST[3])
    moved = view.with_axes([view.all_axes[axis] for axis in (1, 0, 2, 3)])
    assert moved.batch == 1
    assert moved.described == "(3, N, 4, 5)"


def test_message_of_a_reshape_that_would_move_elements() -> None:
    with pytest.raises(LayoutError, match=r"^cannot read \(N, 3, 4, 5\) as dimensions \(4, 15\) beside the batch"):
        View.of("t", (4, 5, 3), CHANNELS_FIRST[3]).reshaped((4, 15))
