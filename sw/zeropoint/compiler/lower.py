"""From operators to instructions: which function makes each a loop nest.

Convolutions read a kernel row's taps as one contiguous run of bytes, which NHWC makes them, so that any number of
channels fills the lanes (``weighted``). Layers whose output channels each read their own input channel put channels on
the lanes and pass lane ``c`` to column ``c`` by weights that are zero elsewhere (``channelwise``). So do copies, which
are loops of any steps (``copies``, ``movement``).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from zeropoint.compiler import channelwise, movement, weighted
from zeropoint.compiler.copies import broadcast, fill
from zeropoint.compiler.emit import Emitter, Place
from zeropoint.compiler.plan import Step
from zeropoint.errors import ZeropointError
from zeropoint.model import (
    Add,
    AveragePool2D,
    Concatenation,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    LeakyRelu,
    Logistic,
    MaxPool2D,
    Mean,
    Mul,
    Operator,
    Pad,
    QuantizedModel,
    Requantize,
    ResizeNearestNeighbor,
    StridedSlice,
    Sub,
    Transpose,
)

_Lowering = Callable[[QuantizedModel, Any, list[Place], Place, Emitter], None]

#: How each operator that the hardware runs becomes instructions; a convolution's takes its pooling as well.
LOWERINGS: dict[type[Operator], _Lowering] = {
    Conv2D: lambda model, operator, *rest: weighted.lower_conv(model, operator, None, *rest),
    DepthwiseConv2D: weighted.lower_depthwise,
    FullyConnected: weighted.lower_fully_connected,
    MaxPool2D: channelwise.lower_max_pool,
    AveragePool2D: channelwise.lower_average_pool,
    Mean: channelwise.lower_mean,
    Requantize: channelwise.lower_requantize,
    Add: channelwise.lower_binary,
    Sub: channelwise.lower_binary,
    Mul: channelwise.lower_binary,
    Pad: movement.lower_pad,
    Concatenation: movement.lower_concatenation,
    StridedSlice: movement.lower_strided_slice,
    Transpose: movement.lower_transpose,
    ResizeNearestNeighbor: movement.lower_resize_nearest_neighbor,
    LeakyRelu: movement.lower_table,
    Logistic: movement.lower_table,
}


def lower(model: QuantizedModel, step: Step, places: Mapping[str, Place], emitter: Emitter) -> None:
    """Emit the instructions of one step.

    Parameters
    ----------
    places
        Where every activation tensor lies that the step touches, its scratch tensors included.

    Raises
    ------
    ZeropointError
        If a dimension is beyond what an instruction holds; the message names operator and field.
    """
    operator = step.operator
    held = {scratch.source: places[scratch.tensor.name] for scratch in step.scratch}
    names = (*operator.inputs, *(name for name in operator.constants if name in held))
    sources, target = [held.get(name) or places[name] for name in names], places[step.output]
    try:
        for name, place in held.items():
            data = model.tensor(name).data
            if data is None:
                broadcast(emitter, places[name], place)
            else:
                fill(emitter, data, place)
        first = len(emitter.instructions)
        if step.table:
            # Scaled as the operator's own output, which is then looked up.
            target = replace(target, tensor=model.tensor(operator.output))
        if isinstance(operator, Conv2D):
            weighted.lower_conv(model, operator, step.pool, sources, target, emitter)
        else:
            LOWERINGS[type(operator)](model, operator, sources, target, emitter)
        if step.table:
            table = movement.table_of(model, step.table, emitter)
            emitter.instructions[first:] = [replace(each, table=table) for each in emitter.instructions[first:]]
    except ValueError as error:
        raise ZeropointError(f"operator '{operator.name}' ({operator.kind}) is too large: {error}") from None
