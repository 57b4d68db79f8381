"""Operators that put the values of their inputs elsewhere, unchanged."""

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from zeropoint.model.operators import MAX_ELEMENTS, Operator, Shape


@dataclass(frozen=True, kw_only=True)
class Concatenation(Operator):
    """Activations one after the other along a dimension; uint8 ones may change scale and zero point.

    Attributes
    ----------
    others
        The activations that follow ``input``.
    axis
        The dimension.
    """

    others: tuple[str, ...]
    axis: int

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input, *self.others)

    def output_shape(self, *shapes: Shape) -> Shape:
        if not 0 <= self.axis < len(shapes[0]):
            raise ValueError(f"an input of {shapes[0]} has no dimension {self.axis}")
        rests = {(*shape[: self.axis], *shape[self.axis + 1 :]) for shape in shapes}
        if len(rests) != 1 or any(len(shape) != len(shapes[0]) for shape in shapes):
            raise ValueError(f"the inputs must have the same sizes but for dimension {self.axis}, not {shapes}")
        return (
            *shapes[0][: self.axis],
            sum(shape[self.axis] for shape in shapes),
            *shapes[0][self.axis + 1 :],
        )


@dataclass(frozen=True, kw_only=True)
class StridedSlice(Operator):
    """Of each dimension ``shape`` elements: ``begin``, ``begin + stride`` and so on; strides may be negative."""

    keeps_quantization: ClassVar[bool] = True
    begin: Shape
    stride: Shape
    shape: Shape

    def output_shape(self, *shapes: Shape) -> Shape:
        (source,) = shapes
        if not len(self.begin) == len(self.stride) == len(self.shape) == len(source):
            raise ValueError(
                f"an input of {source} needs a begin, stride and size for each dimension, not {self.begin}, "
                f"{self.stride} and {self.shape}"
            )
        for size, begin, stride, count in zip(source, self.begin, self.stride, self.shape, strict=True):
            last = begin + (count - 1) * stride
            if count < 1 or not (0 <= begin < size and 0 <= last < size):
                raise ValueError(f"{count} elements from {begin} by {stride} do not lie within a dimension of {size}")
        return self.shape


@dataclass(frozen=True, kw_only=True)
class Transpose(Operator):
    """Dimensions in another order: dimension ``i`` of the output is dimension ``permutation[i]`` of the input."""

    keeps_quantization: ClassVar[bool] = True
    permutation: Shape

    def output_shape(self, *shapes: Shape) -> Shape:
        if sorted(self.permutation) != list(range(len(shapes[0]))):
            raise ValueError(f"the dimensions of {shapes[0]} cannot be put in the order {self.permutation}")
        return tuple(shapes[0][axis] for axis in self.permutation)


@dataclass(frozen=True, kw_only=True)
class ResizeNearestNeighbor(Operator):
    """A feature map of another size, each pixel a copy of the nearest of the input's.

    Attributes
    ----------
    size
        Height and width.
    align_corners
        Whether the centers of the corner pixels stay where they are, rather than the map's edges.
    half_pixel_centers
        Whether pixels lie about half-integer coordinates, rather than integer ones.
    """

    keeps_quantization: ClassVar[bool] = True
    size: tuple[int, int]
    align_corners: bool = False
    half_pixel_centers: bool = False

    def __post_init__(self) -> None:
        if self.align_corners and self.half_pixel_centers:
            raise ValueError("corners cannot be aligned where pixels have half-integer centers")
        if min(self.size) < 1 or prod(self.size) > MAX_ELEMENTS:
            raise ValueError(f"the size must be positive and give {MAX_ELEMENTS} pixels at most, not {self.size}")

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes[0]) != 3:
            raise ValueError(f"the input must be (height, width, channels), not {shapes[0]}")
        return *self.size, shapes[0][2]
