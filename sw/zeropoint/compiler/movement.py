"""Layers that put values elsewhere, unchanged or by a table: which loops of a copy each operator is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product

from zeropoint.arithmetic import concatenation_table, leaky_relu_table, logistic_table, nearest_neighbors
from zeropoint.compiler.copies import Loop, byte_steps, copy, unchanged
from zeropoint.compiler.emit import Emitter, Place, as_element, input_fields, output_fields
from zeropoint.model import (
    Concatenation,
    LeakyRelu,
    Logistic,
    Pad,
    QuantizedModel,
    ResizeNearestNeighbor,
    StridedSlice,
    Transpose,
)
from zeropoint_hw.isa import Gate


def lower_pad(model: QuantizedModel, operator: Pad, sources: list[Place], target: Place, emitter: Emitter) -> None:
    """Emit a copy into a larger feature map."""
    source, channels = sources[0], emitter.config.channels
    value = source.tensor.zero_point if operator.value is None else operator.value
    fields = input_fields(source, (1, 1), (1, 1), operator.padding)
    fields |= output_fields(target, target.tensor.limits, channels) | unchanged(source.tensor, emitter)
    emitter.emit(
        **fields | {"output_zero_point": 0},
        pad_value=as_element(value, source.tensor),
        weight_base=emitter.ones(),
        gate=emitter.gate(Gate.OWN),
        weights_per_tap=1,
        run=min(channels, source.map_shape[2]),
        x_group_step=channels,
    )


def lower_concatenation(
    model: QuantizedModel, operator: Concatenation, sources: list[Place], target: Place, emitter: Emitter
) -> None:
    """Emit a copy of each input that was not written there already, with a table where its quantization changes."""
    address, steps = target.address, byte_steps(target)
    for source in sources:
        table = 0
        if source.tensor.quantization != target.tensor.quantization:
            table = emitter.add_table(concatenation_table(source.tensor, target.tensor), target.tensor.dtype, operator)
        if source.address != address:
            loops = map(Loop, source.tensor.shape, byte_steps(source), steps)
            copy(emitter, source.address, address, list(loops), source.tensor, table=table)
        address += source.tensor.shape[operator.axis] * steps[operator.axis]


def lower_strided_slice(
    model: QuantizedModel, operator: StridedSlice, sources: list[Place], target: Place, emitter: Emitter
) -> None:
    """Emit a copy of some of the input."""
    steps = byte_steps(sources[0])
    first = sum(begin * step for begin, step in zip(operator.begin, steps, strict=True))
    reads = [stride * step for stride, step in zip(operator.stride, steps, strict=True)]
    loops = map(Loop, operator.shape, reads, byte_steps(target))
    copy(emitter, sources[0].address + first, target.address, list(loops), target.tensor)


def lower_transpose(
    model: QuantizedModel, operator: Transpose, sources: list[Place], target: Place, emitter: Emitter
) -> None:
    """Emit a copy in another order."""
    steps = byte_steps(sources[0])
    reads = [steps[axis] for axis in operator.permutation]
    loops = map(Loop, target.tensor.shape, reads, byte_steps(target))
    copy(emitter, sources[0].address, target.address, list(loops), target.tensor)


@dataclass(frozen=True)
class Progression:
    """Some of a sequence's members: ``first`` that of place ``start``; from turn to turn, loops move both.

    Attributes
    ----------
    start, first
        The first member's place, and the member.
    loops
        ``read`` is a step between members, ``write`` one between places.
    """

    start: int
    first: int
    loops: tuple[Loop, ...]


def progressions(sequence: Sequence[int]) -> list[Progression]:
    """Return arithmetic progressions that make up a sequence, few of them.

    Every so many places, for the distance that needs the fewest; if all of these are alike and begin at equal
    distances, they are one with two loops.
    """
    best: list[Progression] = []
    distance = 1
    while not best or distance < len(best):
        found = [
            progression
            for phase in range(min(distance, len(sequence)))
            for progression in _runs(sequence, phase, distance)
        ]
        if not best or len(found) < len(best):
            best = found
        distance += 1
    return _as_one(best)


def _runs(sequence: Sequence[int], phase: int, distance: int) -> Iterator[Progression]:
    """Yield the progressions of every ``distance``-th member, one after the other."""
    members = sequence[phase::distance]
    start = 0
    while start < len(members):
        stop, step = start + 1, members[start + 1] - members[start] if start + 1 < len(members) else 0
        while stop < len(members) and members[stop] - members[stop - 1] == step:
            stop += 1
        yield Progression(phase + start * distance, members[start], (Loop(stop - start, step, distance),))
        start = stop


def _as_one(found: list[Progression]) -> list[Progression]:
    if len(found) < 2 or any(one.loops != found[0].loops for one in found):
        return found
    read, write = found[1].first - found[0].first, found[1].start - found[0].start
    for one, following in pairwise(found):
        if (following.first - one.first, following.start - one.start) != (read, write):
            return found
    return [replace(found[0], loops=(*found[0].loops, Loop(len(found), read, write)))]


def lower_resize_nearest_neighbor(
    model: QuantizedModel, operator: ResizeNearestNeighbor, sources: list[Place], target: Place, emitter: Emitter
) -> None:
    """Emit a copy for each pair of a progression of rows and one of columns."""
    source = sources[0]
    reads, writes = byte_steps(source), byte_steps(target)
    axes = (progressions(indices.tolist()) for indices in nearest_neighbors(operator, source.tensor.shape))
    for pair in product(*axes):
        loops = [Loop(target.tensor.shape[2], 1, 1)]
        first, start = source.address, target.address
        for progression, read, write in zip(pair, reads, writes, strict=False):
            first += progression.first * read
            start += progression.start * write
            loops += [Loop(loop.count, loop.read * read, loop.write * write) for loop in progression.loops]
        copy(emitter, first, start, loops, target.tensor)


def table_of(model: QuantizedModel, operator: LeakyRelu | Logistic, emitter: Emitter) -> int:
    """Return the number of an operator's table."""
    outputs = leaky_relu_table(model, operator) if isinstance(operator, LeakyRelu) else logistic_table(model, operator)
    return emitter.add_table(outputs, model.tensor(operator.output).dtype, operator)


def lower_table(
    model: QuantizedModel, operator: LeakyRelu | Logistic, sources: list[Place], target: Place, emitter: Emitter
) -> None:
    """Emit a copy whose bytes are looked up in a table on the way out."""
    table, source = table_of(model, operator, emitter), sources[0]
    loops = map(Loop, source.tensor.shape, byte_steps(source), byte_steps(target))
    copy(emitter, source.address, target.address, list(loops), source.tensor, table=table)
