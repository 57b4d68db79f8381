"""Operators that compute each element of their output from one element of each input."""

from dataclasses import dataclass, field
from math import isfinite

from zeropoint.model.operators import Clamp, Operator, Shape


def broadcast_shape(first: Shape, second: Shape) -> Shape:
    """Return the shape to which two shapes are broadcast: from the last dimension on, sizes of 1 are repeated.

    Raises
    ------
    ValueError
        If they do not fit.
    """
    rank = max(len(first), len(second))
    pairs = zip((1,) * (rank - len(first)) + first, (1,) * (rank - len(second)) + second, strict=True)
    sizes = [(one if other == 1 else other, one) for one, other in pairs]
    if any(one not in (1, size) for size, one in sizes):
        raise ValueError(f"inputs of {first} and {second} cannot be broadcast to one shape")
    return tuple(size for size, _ in sizes)


@dataclass(frozen=True, kw_only=True)
class _Binary(Operator):
    """An operator on two tensors, the second of which may be constant.

    Attributes
    ----------
    other
        The second tensor.
    constant
        Whether ``other`` is a constant tensor; one with fewer elements is broadcast to the input's shape.
    """

    other: str
    constant: bool = False
    clamp: Clamp = field(default_factory=Clamp)

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,) if self.constant else (self.input, self.other)

    @property
    def constants(self) -> tuple[str, ...]:
        return (self.other,) if self.constant else ()

    def output_shape(self, *shapes: Shape) -> Shape:
        shape = broadcast_shape(shapes[0], shapes[1])
        if self.constant and shape != shapes[0]:
            raise ValueError(f"a constant of {shapes[1]} cannot be broadcast to {shapes[0]}")
        return shape


@dataclass(frozen=True, kw_only=True)
class Add(_Binary):
    """Element-wise sum of two activations of one shape, or of one and a constant."""

    def output_shape(self, *shapes: Shape) -> Shape:
        if not self.constant and shapes[0] != shapes[1]:
            raise ValueError(f"both inputs must have one shape, not {shapes[0]} and {shapes[1]}")
        return super().output_shape(*shapes)


@dataclass(frozen=True, kw_only=True)
class Sub(_Binary):
    """Element-wise difference ``input − other``; either may be broadcast to the other's shape.

    Attributes
    ----------
    reverse
        Whether it is ``other − input``.
    """

    reverse: bool = False


@dataclass(frozen=True, kw_only=True)
class Mul(_Binary):
    """Element-wise product; either tensor may be broadcast to the other's shape."""


@dataclass(frozen=True, kw_only=True)
class LeakyRelu(Operator):
    """The same values at the output's scale, those below 0 multiplied by ``alpha``."""

    alpha: float

    def __post_init__(self) -> None:
        if not isfinite(self.alpha):
            raise ValueError(f"alpha must be finite, not {self.alpha}")

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]


@dataclass(frozen=True, kw_only=True)
class Logistic(Operator):
    """The logistic function ``1 / (1 + exp(−x))``."""

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]
