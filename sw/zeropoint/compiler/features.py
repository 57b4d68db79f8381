"""What a configuration may leave out, by field, and which instructions want it."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from zeropoint_hw.config import AcceleratorConfig, RequantizerKind
from zeropoint_hw.isa import Accumulate, Instruction, Round

#: What operators do that want each.
FEATURES = {
    "max_pooling": "takes the greatest of a window",
    "elementwise": "works on two tensors",
    "left_shift": "scales by 1 or more",
    "ties_to_even": "rounds ties to even",
    "weight_zero_points": "has weights with a zero point, or of uint8",
    "unsigned_activations": "has activations of uint8",
}


def features(
    config: AcceleratorConfig, instructions: Iterable[Instruction], shifts: Sequence[int] | npt.NDArray[np.integer]
) -> frozenset[str]:
    """Return the fields of ``config`` that must be true for instructions and the shifts of their parameters."""
    wanted = set()
    for i in instructions:
        if i.accumulate == Accumulate.MAX or i.pool_rows * i.pool_columns > 1:
            wanted.add("max_pooling")
        if i.accumulate == Accumulate.PAIR:
            wanted.add("elementwise")
        if i.weight_zero_point or i.weights_unsigned:
            wanted.add("weight_zero_points")
        if i.input_unsigned:
            wanted.add("unsigned_activations")
        if i.rounding == Round.EVEN:
            wanted.add("ties_to_even")
    # A shift of 1 with a multiplier of 2^30 is no change, which requantizers that only shift have without more.
    if len(shifts) and max(shifts) > (config.requantizer is RequantizerKind.SHIFT):
        wanted.add("left_shift")
    return frozenset(wanted)
