"""What requantizers can do that only shift: scale by powers of two, round once, add no zero point."""

from collections.abc import Iterator
from itertools import groupby, product
from math import prod

import numpy as np
import numpy.typing as npt

from zeropoint import arithmetic
from zeropoint.arithmetic import Scaling
from zeropoint.errors import ZeropointError
from zeropoint.model import (
    Add,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Mean,
    Mul,
    Operator,
    QuantizedModel,
    Requantize,
    Sub,
)
from zeropoint.numerics import Rounding
from zeropoint_hw.config import AcceleratorConfig, RequantizerKind
from zeropoint_hw.isa import Accumulate, Instruction, Round

#: The multiplier of a power of two.
HALF = 1 << 30

#: The least shift that goes with it.
LEAST_SHIFT = -30


def equal_counts(size: int, outputs: int, window: int, stride: int, before: int) -> Iterator[tuple[int, int, int]]:
    """Yield ``(first output, outputs, taps inside the feature map)`` for each stretch of outputs with equal counts."""

    def inside(output: int) -> int:
        first = output * stride - before
        return min(first + window, size) - max(first, 0)

    for count, members in groupby(range(outputs), key=inside):
        stretch = list(members)
        yield stretch[0], len(stretch), count


def reciprocal(count: int) -> Scaling | None:
    """Return what divides a sum by a count, or None where that is no power of two."""
    if count & count - 1:
        return None
    return Scaling(np.asarray(HALF), np.asarray(2 - count.bit_length()))


def only_shifts(model: QuantizedModel) -> bool:
    """Return whether requantizers that only shift will do for a network, which scales something."""
    if model.rounding is Rounding.DOUBLE:
        return False
    scalings = 0
    for operator in model.operators:
        try:
            found = list(_scalings(model, operator))
        except ZeropointError:
            return False
        scalings += len(found)
        if not all(_is_power(scaling.multiplier, scaling.shift) for scaling in found):
            return False
        if found and model.tensor(operator.output).zero_point:
            return False
    return scalings > 0


def _scalings(model: QuantizedModel, operator: Operator) -> Iterator[Scaling]:
    """Yield an operator's requantizations; of what no shift can do, one that says so."""
    if isinstance(operator, Conv2D | DepthwiseConv2D | FullyConnected):
        yield arithmetic.weighted_scaling(model, operator)
    elif isinstance(operator, Add | Sub):
        scaling = arithmetic.add_scaling(model, operator)
        yield from (Scaling(np.abs(own.multiplier), own.shift) for own in (scaling.input, scaling.other))
        yield scaling.output
    elif isinstance(operator, Mul):
        yield Scaling(np.asarray(0), np.asarray(0))
    elif isinstance(operator, Mean):
        yield arithmetic.mean_scaling(model, operator)
    elif isinstance(operator, Requantize):
        yield arithmetic.requantize_scaling(model, operator)
    elif isinstance(operator, AveragePool2D):
        sizes, outputs = model.tensor(operator.input).shape, model.tensor(operator.output).shape
        before = (operator.padding.top, operator.padding.left)
        axes = (
            [count for *_, count in equal_counts(*along)]
            for along in zip(sizes, outputs, operator.window, operator.stride, before, strict=False)
        )
        for counts in product(*axes):
            yield reciprocal(prod(counts)) or Scaling(np.asarray(0), np.asarray(0))


def _is_power(multiplier: npt.NDArray[np.integer], shift: npt.NDArray[np.integer]) -> bool:
    return bool(np.all(multiplier == HALF) and np.all(shift >= LEAST_SHIFT))


def obstacle(
    config: AcceleratorConfig,
    i: Instruction,
    multipliers: npt.NDArray[np.integer],
    shifts: npt.NDArray[np.integer],
) -> str | None:
    """Return what of an instruction, given its parameters, the requantizers cannot do, or None."""
    if config.requantizer is not RequantizerKind.SHIFT:
        return "rounds once, ties away from zero" if i.rounding is Round.AWAY else None
    paired = i.accumulate == Accumulate.PAIR
    if paired and i.pair_multiply:
        return "multiplies two tensors"
    if not _is_power(multipliers, shifts) or (paired and i.pair_multiplier != HALF):
        return "scales by other numbers than powers of two down to 2^-31"
    if i.output_zero_point:
        return "has outputs with a zero point"
    return "rounds twice" if i.rounding is Round.DOUBLE and np.any(shifts < 1) else None


def parameter_rows(config: AcceleratorConfig, i: Instruction) -> slice:
    """Return the channels whose parameters an instruction reads, as rows of the parameter memory."""
    first = i.parameter_base * config.requantizers
    return slice(first, first + (config.requantizers if i.parameters_shared else i.output_channels))
