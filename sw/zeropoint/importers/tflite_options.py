"""The options of TensorFlow Lite's operators: those fields of each that the importer looks at."""

from collections.abc import Mapping
from typing import Any

import tflite

from zeropoint.errors import ZeropointError

_WINDOW = ("Padding", "StrideH", "StrideW", "FusedActivationFunction")
_DILATION = ("DilationHFactor", "DilationWFactor")

#: The schema's table of options and its fields, by operator. An operator that is not here has none that matter.
_OPTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ADD": ("AddOptions", ("FusedActivationFunction",)),
    "AVERAGE_POOL_2D": ("Pool2DOptions", (*_WINDOW, "FilterHeight", "FilterWidth")),
    "CONCATENATION": ("ConcatenationOptions", ("Axis", "FusedActivationFunction")),
    "CONV_2D": ("Conv2DOptions", (*_WINDOW, *_DILATION)),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", (*_WINDOW, *_DILATION)),
    "FULLY_CONNECTED": ("FullyConnectedOptions", ("FusedActivationFunction", "WeightsFormat", "KeepNumDims")),
    "LEAKY_RELU": ("LeakyReluOptions", ("Alpha",)),
    "MAX_POOL_2D": ("Pool2DOptions", (*_WINDOW, "FilterHeight", "FilterWidth")),
    "MEAN": ("ReducerOptions", ("KeepDims",)),
    "MUL": ("MulOptions", ("FusedActivationFunction",)),
    "PACK": ("PackOptions", ("Axis",)),
    "RESIZE_NEAREST_NEIGHBOR": ("ResizeNearestNeighborOptions", ("AlignCorners", "HalfPixelCenters")),
    "SOFTMAX": ("SoftmaxOptions", ("Beta",)),
    "STRIDED_SLICE": (
        "StridedSliceOptions",
        ("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask", "Offset"),
    ),
    "SUB": ("SubOptions", ("FusedActivationFunction",)),
}


def read_options(operator: Any, kind: str, index: int) -> Mapping[str, Any]:
    """Return an operator's options by the schema's names; none at all if the file leaves them out.

    Parameters
    ----------
    operator
        The operator as the FlatBuffers library gives it.
    kind, index
        Such as ``"CONV_2D"``, and its place in the file.

    Raises
    ------
    ZeropointError
        If the options are those of another operator.
    """
    if kind not in _OPTIONS or operator.BuiltinOptionsType() == tflite.BuiltinOptions.NONE:
        return {}
    name, fields = _OPTIONS[kind]
    table = operator.BuiltinOptions()
    if operator.BuiltinOptionsType() != getattr(tflite.BuiltinOptions, name) or table is None:
        raise ZeropointError(f"is damaged: operator {index} ({kind}) has another operator's options")
    options = getattr(tflite, name)()
    options.Init(table.Bytes, table.Pos)
    return {field: getattr(options, field)() for field in fields}
