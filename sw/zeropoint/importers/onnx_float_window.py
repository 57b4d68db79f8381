"""The geometry of an ONNX window: strides, dilations, and the three ways to say how much padding there is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from zeropoint.errors import ZeropointError
from zeropoint.importers.onnx_float_file import Node
from zeropoint.model import Padding


@dataclass(frozen=True)
class Window:
    """A window in two dimensions; of a network with one dimension, the height is 1.

    Attributes
    ----------
    size, stride, dilation
        Of height and width.
    padding
        What the node adds around the feature map.
    overhang
        How far windows reach beyond that at the end, with ceil_mode.
    """

    size: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: Padding
    overhang: Padding

    @property
    def is_nothing(self) -> bool:
        """Whether each element is a window of its own, as torch writes adaptive pools that change nothing."""
        return self.size == self.stride == (1, 1) and self.full_padding == Padding()

    @property
    def full_padding(self) -> Padding:
        """Padding and overhang together."""
        pad, more = self.padding, self.overhang
        return Padding(pad.top, pad.bottom + more.bottom, pad.left, pad.right + more.right)


def window_of(node: Node, image: Sequence[int], kernel: Sequence[int] | None = None) -> Window:
    """Return the window that a node slides over spatial sizes ``image``.

    Parameters
    ----------
    node
        A Conv or a pool.
    image
        One or two sizes.
    kernel
        The window's sizes; those in the node's ``kernel_shape`` if None.

    Raises
    ------
    ZeropointError
        If the attributes do not fit each other.
    """
    rank = len(image)
    size = _sizes(node, "kernel_shape", rank) if kernel is None else list(kernel)
    stride, dilation = _sizes(node, "strides", rank), _sizes(node, "dilations", rank)
    pads = list(node.attributes.get("pads", [0] * 2 * rank))
    mode = node.attributes.get("auto_pad", "NOTSET")
    if mode not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise ZeropointError(f"has auto_pad '{mode}', which ONNX does not define")
    if len(pads) != 2 * rank or min(pads) < 0:
        raise ZeropointError(f"has pads {pads}; {2 * rank} that are not negative are supported")
    before, after, beyond = [], [], []
    for axis, length in enumerate(image):
        reach = (size[axis] - 1) * dilation[axis] + 1
        begin, end = (pads[axis], pads[rank + axis]) if mode == "NOTSET" else (0, 0)
        if mode.startswith("SAME"):
            total = max(0, ((length - 1) // stride[axis]) * stride[axis] + reach - length)
            begin, end = total // 2, total - total // 2
            if mode == "SAME_LOWER":
                begin, end = end, begin
        before.append(begin)
        after.append(end)
        # SAME and VALID give the same number of windows with either rounding.
        ceil = node.flag("ceil_mode") and mode == "NOTSET"
        beyond.append(_overhang(length + begin, end, reach, stride[axis]) if ceil else 0)
    flat = (0,) * (2 - rank)
    (top, left), (bottom, right), (low, far) = (flat + tuple(ends) for ends in (before, after, beyond))
    return Window(
        _pair(size), _pair(stride), _pair(dilation), Padding(top, bottom, left, right), Padding(0, low, 0, far)
    )


def _sizes(node: Node, name: str, rank: int) -> list[int]:
    values = list(node.attributes.get(name, [1] * rank))
    if len(values) != rank or min(values) < 1:
        raise ZeropointError(f"has {name} {values}; {rank} that are positive are expected")
    return values


def _pair(values: Sequence[int]) -> tuple[int, int]:
    return cast(tuple[int, int], (1,) * (2 - len(values)) + tuple(values))


def _overhang(start: int, end: int, reach: int, stride: int) -> int:
    """Return how far the last window reaches beyond the padding, if ceil_mode rounds the number of windows up.

    ``start`` is the length with the padding before it. A window that would begin in the padding after it is not one.
    """
    windows = -((reach - start - end) // stride) + 1
    if (windows - 1) * stride >= start:
        windows -= 1
    return max(0, (windows - 1) * stride + reach - start - end)
