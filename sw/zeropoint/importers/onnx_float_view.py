"""Where the elements of an ONNX tensor lie in one of ours.

ONNX networks reshape, flatten and transpose between operators; most of that only says how the same bytes are to be
read. A :class:`View` follows it exactly and moves nothing: an operator then asks for the order that it needs, and gets
it if the bytes lie so.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise, permutations
from math import prod
from typing import Any

import numpy.typing as npt

from zeropoint.errors import ZeropointError
from zeropoint.model import Shape

Array = npt.NDArray[Any]

#: For each axis of one of our tensors, the ONNX axes (batch not counted) that it is made of.
Groups = tuple[tuple[int, ...], ...]

#: Our (height, width, channels) among the ONNX axes (channels, height, width), or (channels, length) for one dimension.
CHANNELS_FIRST: dict[int, Groups] = {3: ((1,), (2,), (0,)), 2: ((), (1,), (0,)), 1: ((0,),)}
#: The same when the file's own order is ours.
AS_IN_FILE: dict[int, Groups] = {3: ((0,), (1,), (2,)), 2: ((), (0,), (1,)), 1: ((0,),)}


def orders(rank: int) -> list[Groups]:
    """Return every way to make our axes of ``rank`` ONNX axes, 0 to 3, each by itself; the likeliest first."""
    if rank == 0:
        return [((),)]
    found = [CHANNELS_FIRST[rank], AS_IN_FILE[rank]]
    return found + [tuple((axis,) for axis in axes) for axes in permutations(range(rank)) if rank == 3]


class LayoutError(ZeropointError):
    """The elements do not lie in memory in the order that an operator needs."""


@dataclass(frozen=True)
class View:
    """An ONNX tensor as a way of reading one of our tensors.

    Attributes
    ----------
    tensor
        The name of our tensor.
    factors
        Sizes that multiply to the tensor's size, in the row-major order of its memory. None is 1.
    axes
        For each ONNX axis except the batch, the indices of the factors that it runs through, outermost first. An axis
        of size 1 has none.
    batch
        The position of the batch among the ONNX axes.
    """

    tensor: str
    factors: tuple[int, ...]
    axes: tuple[tuple[int, ...], ...]
    batch: int = 0

    @classmethod
    def of(cls, tensor: str, shape: Shape, groups: Groups) -> "View":
        """Return the view of a tensor of ``shape`` whose axis ``i`` is the one ONNX axis in ``groups[i]``, if any."""
        factors: list[int] = []
        axes: dict[int, tuple[int, ...]] = {}
        for size, group in zip(shape, groups, strict=True):
            assert len(group) == 1 or (not group and size == 1)
            if size > 1:
                factors.append(size)
            for axis in group:
                axes[axis] = (len(factors) - 1,) if size > 1 else ()
        return cls(tensor, tuple(factors), tuple(axes[axis] for axis in sorted(axes)))

    @property
    def sizes(self) -> Shape:
        """The sizes of the ONNX axes, without the batch."""
        return tuple(prod(self.factors[factor] for factor in axis) for axis in self.axes)

    @property
    def size(self) -> int:
        """The number of elements of one sample."""
        return prod(self.factors)

    @property
    def described(self) -> str:
        """The ONNX shape, for messages."""
        sizes = iter(self.sizes)
        return f"({', '.join('N' if axis is None else str(next(sizes)) for axis in self.all_axes)})"

    @property
    def layout(self) -> tuple[tuple[int, ...], Groups]:
        """Factors and axes in a form that is equal for two views exactly if they order their elements alike."""
        return _merge(self.factors, self.axes)

    def lies_as(self, groups: Groups) -> bool:
        """Return whether the memory, read in order, is the ONNX axes in the order of ``groups``."""
        found = [factor for group in groups for axis in group for factor in self.axes[axis]]
        return found == list(range(len(self.factors)))

    def is_inner(self, axes: Sequence[int]) -> bool:
        """Return whether the elements along ``axes`` together, in whatever order, are what varies fastest in memory."""
        found = sorted(factor for axis in axes for factor in self.axes[axis])
        return found == list(range(len(self.factors) - len(found), len(self.factors)))

    def is_outer(self, axes: Sequence[int]) -> bool:
        """Return whether the elements along ``axes`` together, in whatever order, are what varies slowest in memory."""
        found = sorted(factor for axis in axes for factor in self.axes[axis])
        return found == list(range(len(found)))

    def to_memory(self, array: Array, axes: Sequence[int]) -> Array:
        """Return a constant that runs along ``axes`` with these as one dimension, in the order of the memory.

        The first dimensions of ``array`` have the sizes of ``axes``, in order, or are already one; others follow and
        are kept.
        """
        sequence = [factor for axis in axes for factor in self.axes[axis]]
        size = prod(self.factors[factor] for factor in sequence)
        split = array.reshape(*(self.factors[factor] for factor in sequence), array.size // size)
        order = sorted(range(len(sequence)), key=sequence.__getitem__)
        return split.transpose(*order, len(order)).reshape(size, -1)

    @property
    def all_axes(self) -> tuple[tuple[int, ...] | None, ...]:
        """The axes with the batch among them, as None."""
        return (*self.axes[: self.batch], None, *self.axes[self.batch :])

    def with_axes(self, axes: Iterable[tuple[int, ...] | None]) -> "View":
        """Return the view of the same tensor with other axes, the batch among them as None."""
        axes = list(axes)
        return View(self.tensor, self.factors, tuple(axis for axis in axes if axis is not None), axes.index(None))

    def reshaped(self, sizes: Shape) -> "View":
        """Return the view with ONNX axes of ``sizes``, in the same element order.

        Raises
        ------
        LayoutError
            If an axis would have to jump about in memory.
        """
        assert prod(sizes) == self.size
        assert self.batch == 0
        factors, (sequence,) = _merge(self.factors, (tuple(factor for axis in self.axes for factor in axis),))
        parts: list[list[int]] = [[] for _ in factors]  # of each factor, outermost first
        axes: list[list[tuple[int, int]]] = []  # of each new axis: (factor, index of its part)
        pending = iter(sequence)
        current, rest = -1, 1
        for size in sizes:
            axes.append([])
            while size > 1:
                if rest == 1:
                    current = next(pending)
                    rest = factors[current]
                part = min(size, rest)
                if size % part or rest % part:
                    raise LayoutError(
                        f"cannot read {self.described} as dimensions {sizes} beside the batch without moving elements, "
                        f"which lie in memory with the channels last; export the network without it"
                    )
                axes[-1].append((current, len(parts[current])))
                parts[current].append(part)
                size, rest = size // part, rest // part
        starts = [0, *accumulate(len(split) for split in parts)]
        return View(
            self.tensor,
            tuple(part for split in parts for part in split),
            tuple(tuple(starts[factor] + index for factor, index in axis) for axis in axes),
        )


def _merge(factors: tuple[int, ...], axes: Groups) -> tuple[tuple[int, ...], Groups]:
    """Make one factor of those that follow each other both in an axis and in memory."""
    follows = {second for axis in axes for first, second in pairwise(axis) if second == first + 1}
    merged: list[int] = []
    index: list[int] = []
    for factor, size in enumerate(factors):
        if factor in follows:
            merged[-1] *= size
        else:
            merged.append(size)
        index.append(len(merged) - 1)
    return tuple(merged), tuple(tuple(index[factor] for factor in axis if factor not in follows) for axis in axes)
