"""What a configuration may leave out, by field, and which instructions want it."""

from collections.abc import Iterable, Sequence

from zeropoint_hw.isa import Accumulate, Instruction

#: What operators do that want each.
FEATURES = {
    "max_pooling": "takes the greatest of a window",
    "elementwise": "works on two tensors",
    "left_shift": "scales by 1 or more",
}


def features(instructions: Iterable[Instruction], shifts: Sequence[int]) -> frozenset[str]:
    """Return the fields of AcceleratorConfig that must be true for instructions and the shifts of their parameters."""
    wanted = set()
    for i in instructions:
        if i.accumulate == Accumulate.MAX or i.pool_rows * i.pool_columns > 1:
            wanted.add("max_pooling")
        if i.accumulate == Accumulate.PAIR:
            wanted.add("elementwise")
    if max(shifts, default=0) > 0:
        wanted.add("left_shift")
    return frozenset(wanted)
