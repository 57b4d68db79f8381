"""From operators to instructions: which function makes each a loop nest.

Convolutions read a kernel row's taps as one contiguous run of bytes, which NHWC makes them, so that any number of
channels fills the lanes (``weighted``). Layers whose output channels each read their own input channel put channels on
the lanes and pass lane ``c`` to column ``c`` by weights that are zero elsewhere (``channelwise``).
"""

from collections.abc import Callable, Mapping
from typing import Any

from zeropoint.compiler import channelwise, weighted
from zeropoint.compiler.emit import Emitter, Place
from zeropoint.compiler.plan import Step
from zeropoint.errors import ZeropointError
from zeropoint.model import (
    Add,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    MaxPool2D,
    Mean,
    Operator,
    Pad,
    QuantizedModel,
    Requantize,
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
    Pad: channelwise.lower_pad,
    Add: channelwise.lower_add,
}


def runs_on_hardware(operator: Operator) -> bool:
    """Return whether the hardware computes an operator; not of every one does it compute every form."""
    if isinstance(operator, Add) and operator.constant:
        return False
    if isinstance(operator, Pad) and operator.value is not None:
        return False
    return type(operator) in LOWERINGS


def lower(model: QuantizedModel, step: Step, places: Mapping[str, Place], emitter: Emitter) -> None:
    """Emit the instructions of one step.

    Parameters
    ----------
    places
        Where every activation tensor lies that the step touches.

    Raises
    ------
    ZeropointError
        If a dimension is beyond what an instruction holds; the message names operator and field.
    """
    operator = step.operator
    sources, target = [places[name] for name in operator.inputs], places[step.output]
    try:
        if isinstance(operator, Conv2D):
            weighted.lower_conv(model, operator, step.pool, sources, target, emitter)
        else:
            LOWERINGS[type(operator)](model, operator, sources, target, emitter)
    except ValueError as error:
        raise ZeropointError(f"operator '{operator.name}' ({operator.kind}) is too large: {error}") from None
