"""The operators of a model, float or quantized.

An operator names its tensors and holds what is not a tensor: strides, padding, the fused activation. Shapes have no
batch dimension: a feature map is ``(height, width, channels)``, a vector ``(channels,)``. Weights are laid out as in
TensorFlow Lite: convolution ``(out, kernel_height, kernel_width, in / groups)``, depthwise
``(kernel_height, kernel_width, in · multiplier)`` with output channel ``c · multiplier + j`` fed by input channel
``c``, fully connected ``(out, in)``.
"""

from dataclasses import dataclass, field
from math import inf, prod
from typing import ClassVar

Shape = tuple[int, ...]

#: The most elements that a tensor may have, a padded input included: more is refused before memory is asked for.
MAX_ELEMENTS = 1 << 28

#: Elements that a feature map may have with its padding: the golden model holds several such arrays, of 4 or 8 bytes
#: each, at once.
MAX_PADDED = 1 << 24


@dataclass(frozen=True)
class Padding:
    """Rows and columns added around a feature map."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    def __post_init__(self) -> None:
        if min(self.top, self.bottom, self.left, self.right) < 0:
            raise ValueError(f"padding must not be negative, but is {self}")


@dataclass(frozen=True)
class Clamp:
    """A fused activation: the interval of real values to which the output is clamped; infinite ends do nothing."""

    low: float = -inf
    high: float = inf

    def __post_init__(self) -> None:
        if not self.low <= self.high or self.low == inf or self.high == -inf:
            raise ValueError(f"an activation must clamp to an interval, not to {self.low} … {self.high}")

    def __and__(self, other: "Clamp") -> "Clamp":
        """Return the clamp that equals ``self`` followed by ``other``."""
        low = min(max(self.low, other.low), other.high)
        high = max(min(self.high, other.high), other.low)
        return Clamp(low, high)

    @property
    def label(self) -> str:
        """The activation's usual name, or its interval."""
        names = {(-inf, inf): "", (0.0, inf): "relu", (0.0, 6.0): "relu6", (-1.0, 1.0): "relu_n1_to_1"}
        return names.get((self.low, self.high), f"clip({self.low:g}, {self.high:g})")


@dataclass(frozen=True, kw_only=True)
class Operator:
    """What all operators have: a name, activation inputs and one output, all by tensor name."""

    name: str
    input: str
    output: str

    #: Whether the output keeps the input's scale and zero point, because the values pass through unscaled.
    keeps_quantization: ClassVar[bool] = False

    @property
    def inputs(self) -> tuple[str, ...]:
        """The activation tensors read, in order."""
        return (self.input,)

    @property
    def constants(self) -> tuple[str, ...]:
        """The constant tensors read, in order."""
        return ()

    @property
    def kind(self) -> str:
        """The operator's kind, as shown to people and written to files."""
        return type(self).__name__

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the output's shape, given the shapes of ``inputs`` and then of ``constants``.

        Raises
        ------
        ValueError
            If the shapes do not fit the operator; the message says what was expected.
        """
        raise NotImplementedError

    def macs(self, output: Shape, *shapes: Shape) -> int:
        """Return the multiply-accumulate operations of one inference, padding included."""
        return 0


@dataclass(frozen=True, kw_only=True)
class _Windowed(Operator):
    """An operator that slides a window over a feature map."""

    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: Padding = field(default_factory=Padding)
    clamp: Clamp = field(default_factory=Clamp)

    def __post_init__(self) -> None:
        if min(self.stride) < 1 or min(self.dilation) < 1:
            raise ValueError(f"strides and dilations must be positive, not {self.stride} and {self.dilation}")

    def _slide(self, image: Shape, window: tuple[int, int]) -> tuple[int, int]:
        if len(image) != 3:
            raise ValueError(f"the input must be (height, width, channels), not {image}")
        pad = self.padding
        spans = (image[0] + pad.top + pad.bottom, image[1] + pad.left + pad.right)
        if prod(spans) * image[2] > MAX_PADDED:
            raise ValueError(f"an input of {image} with {pad} has over {MAX_PADDED} elements")
        out = tuple(
            (span - (size - 1) * dilation - 1) // stride + 1
            for span, size, dilation, stride in zip(spans, window, self.dilation, self.stride, strict=True)
        )
        if min(window) < 1 or min(out) < 1:
            raise ValueError(f"a window of {window} does not fit an input of {image[:2]} with {pad}")
        return out[0], out[1]


@dataclass(frozen=True, kw_only=True)
class _Weighted(Operator):
    weights: str
    bias: str | None = None

    @property
    def constants(self) -> tuple[str, ...]:
        return (self.weights,) if self.bias is None else (self.weights, self.bias)

    @staticmethod
    def _check_bias(channels: int, bias: tuple[Shape, ...]) -> None:
        if bias and bias[0] != (channels,):
            raise ValueError(f"the bias must be ({channels},), not {bias[0]}")


@dataclass(frozen=True, kw_only=True)
class Conv2D(_Windowed, _Weighted):
    """Convolution with weights ``(out, kernel_height, kernel_width, in / groups)``."""

    groups: int = 1

    def output_shape(self, *shapes: Shape) -> Shape:
        image, weights, *bias = shapes
        if len(weights) != 4:
            raise ValueError(f"the weights must have 4 dimensions, not {weights}")
        rows, columns = self._slide(image, weights[1:3])
        if self.groups < 1 or image[2] != weights[3] * self.groups or weights[0] % self.groups:
            raise ValueError(f"{image[2]} channels do not fit weights {weights} in {self.groups} groups")
        self._check_bias(weights[0], tuple(bias))
        return rows, columns, weights[0]

    def macs(self, output: Shape, *shapes: Shape) -> int:
        return prod(output) * prod(shapes[1][1:])


@dataclass(frozen=True, kw_only=True)
class DepthwiseConv2D(_Windowed, _Weighted):
    """Depthwise convolution with weights ``(kernel_height, kernel_width, in · multiplier)``."""

    def output_shape(self, *shapes: Shape) -> Shape:
        image, weights, *bias = shapes
        if len(weights) != 3:
            raise ValueError(f"the weights must have 3 dimensions, not {weights}")
        rows, columns = self._slide(image, weights[:2])
        if weights[2] % image[2]:
            raise ValueError(f"{weights[2]} output channels are no multiple of {image[2]} input channels")
        self._check_bias(weights[2], tuple(bias))
        return rows, columns, weights[2]

    def macs(self, output: Shape, *shapes: Shape) -> int:
        return prod(output) * prod(shapes[1][:2])


@dataclass(frozen=True, kw_only=True)
class FullyConnected(_Weighted):
    """Matrix product with weights ``(out, in)``; a feature map is read in NHWC order."""

    clamp: Clamp = field(default_factory=Clamp)

    def output_shape(self, *shapes: Shape) -> Shape:
        image, weights, *bias = shapes
        if len(weights) != 2 or prod(image) != weights[1]:
            raise ValueError(f"an input of {image} does not fit weights {weights}")
        self._check_bias(weights[0], tuple(bias))
        return (weights[0],)

    def macs(self, output: Shape, *shapes: Shape) -> int:
        return prod(shapes[1])


@dataclass(frozen=True, kw_only=True)
class _Pool(_Windowed):
    keeps_quantization: ClassVar[bool] = True
    window: tuple[int, int]

    def __post_init__(self) -> None:
        super().__post_init__()
        pad = self.padding
        if pad.top >= self.window[0] or pad.bottom >= self.window[0]:
            raise ValueError(f"padding {pad} reaches beyond a window of {self.window}")
        if pad.left >= self.window[1] or pad.right >= self.window[1]:
            raise ValueError(f"padding {pad} reaches beyond a window of {self.window}")
        if self.dilation != (1, 1):
            raise ValueError("a pooling window cannot be dilated")

    def output_shape(self, *shapes: Shape) -> Shape:
        return *self._slide(shapes[0], self.window), shapes[0][2]


@dataclass(frozen=True, kw_only=True)
class AveragePool2D(_Pool):
    """Mean over a window; padding is not counted."""


@dataclass(frozen=True, kw_only=True)
class MaxPool2D(_Pool):
    """Maximum over a window; padding never wins."""


@dataclass(frozen=True, kw_only=True)
class Mean(Operator):
    """Mean over height and width, to the output's own scale; a vector comes out."""

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes[0]) != 3:
            raise ValueError(f"the input must be (height, width, channels), not {shapes[0]}")
        return (shapes[0][2],)


@dataclass(frozen=True, kw_only=True)
class Pad(Operator):
    """Rows and columns around a feature map.

    Attributes
    ----------
    padding
        How many.
    value
        The integer that they hold; None for the zero point, a real zero.
    """

    keeps_quantization: ClassVar[bool] = True
    padding: Padding
    value: int | None = None

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes[0]) != 3:
            raise ValueError(f"the input must be (height, width, channels), not {shapes[0]}")
        height, width, channels = shapes[0]
        pad = self.padding
        return height + pad.top + pad.bottom, width + pad.left + pad.right, channels


@dataclass(frozen=True, kw_only=True)
class Requantize(Operator):
    """The same values at the output's scale, clamped: a stand-alone activation, or a change of scale."""

    clamp: Clamp = field(default_factory=Clamp)

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]


@dataclass(frozen=True, kw_only=True)
class Reshape(Operator):
    """The same bytes in NHWC order under another shape."""

    keeps_quantization: ClassVar[bool] = True
    shape: Shape

    def output_shape(self, *shapes: Shape) -> Shape:
        if prod(shapes[0]) != prod(self.shape):
            raise ValueError(f"{shapes[0]} cannot be reshaped to {self.shape}")
        return self.shape


@dataclass(frozen=True, kw_only=True)
class Softmax(Operator):
    """Softmax over the last dimension, ``exp(beta · x)`` normalized."""

    beta: float = 1.0

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]
