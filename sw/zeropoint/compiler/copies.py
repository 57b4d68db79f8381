"""Bytes that go from one place of the activation memory to others, and constants that are written there.

A copy is a set of loops, each with a count, a step in the tensor read and a step in the tensor written, both in bytes.
An instruction has three of them for outputs: ``rows``, whose step through the input may have any sign, ``columns``, and
``groups`` where these are not needed for the channels; what is left takes an instruction for each of its turns.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.compiler.emit import Emitter, Place
from zeropoint.compiler.pack import pack_dense
from zeropoint.model import Shape, Tensor
from zeropoint_hw.isa import Gate

#: Longer loops are cut into two; instructions count outputs, and channels, in 16 bits.
_LONGEST = 1 << 15


@dataclass(frozen=True)
class Loop:
    """A loop of a copy: how often, and the steps from one turn to the next.

    Attributes
    ----------
    count
        Turns.
    read, write
        Bytes from one turn's value to the next one's, in the tensor read (of any sign, or 0) and in the one written
        (above 0).
    """

    count: int
    read: int
    write: int


_ONCE = Loop(1, 0, 0)


def byte_steps(place: Place) -> Shape:
    """Return the bytes from one element to the next along each dimension of a tensor."""
    shape = place.tensor.shape
    if len(shape) == 3:
        return place.row_pitch, place.column_pitch, 1
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def copy(emitter: Emitter, source: int, target: int, loops: Sequence[Loop], tensor: Tensor, **fields: Any) -> None:
    """Emit a copy of bytes that ``loops`` visit, in as few instructions as there can be.

    Bytes that are contiguous in both tensors are copied as many at a time as the array has lanes and columns; so are
    repetitions of one byte, as many as it has columns; all others one an array cycle.

    Parameters
    ----------
    source, target
        Addresses of the first byte read and written.
    loops
        In any order.
    tensor
        Its dtype is that of the values.
    fields
        Fields in which the instructions differ from a copy's, if any.
    """
    for first, second, part in _split(_merge(loops)):
        _copy(emitter, source + first, target + second, part, tensor, fields)


def _merge(loops: Sequence[Loop]) -> list[Loop]:
    """Return the loops, each that goes on where another one ends being one with it."""
    merged: list[Loop] = []
    for loop in sorted(loops, key=lambda loop: loop.write):
        if loop.count == 1:
            continue
        for index, inner in enumerate(merged):
            if (loop.read, loop.write) == (inner.count * inner.read, inner.count * inner.write):
                merged[index] = replace(inner, count=inner.count * loop.count)
                break
        else:
            merged.append(loop)
    return merged


def _split(loops: list[Loop]) -> Iterator[tuple[int, int, list[Loop]]]:
    """Yield loops that instructions can count, with the offsets at which they begin."""
    for index, loop in enumerate(loops):
        if loop.count > _LONGEST:
            rest = [*loops[:index], *loops[index + 1 :]]
            full, left = divmod(loop.count, _LONGEST)
            step = Loop(full, _LONGEST * loop.read, _LONGEST * loop.write)
            yield from _split([*rest, replace(loop, count=_LONGEST), step])
            if left:
                for read, write, part in _split([*rest, replace(loop, count=left)]):
                    yield full * step.read + read, full * step.write + write, part
            return
    yield 0, 0, loops


@dataclass(frozen=True)
class _Block:
    """What an instruction writes side by side in each turn of its loops, and the fields that say how."""

    channels: int
    weights: Callable[[], int]
    fields: dict[str, Any]
    loops: list[Loop]

    @property
    def bytes_read(self) -> int:
        """Bytes from the first read to the last, for one turn."""
        return self.channels if self.fields["x_group_step"] else 1


def _copy(
    emitter: Emitter, source: int, target: int, loops: list[Loop], tensor: Tensor, changes: dict[str, Any]
) -> None:
    common = unchanged(tensor, emitter) | changes
    block = _block(emitter, loops)
    (down, along, group), rest = _assign(block, emitter)
    if (block.channels == 1) and rest and (gather := _gather(emitter, loops)):
        chosen, others = _assign(gather, emitter)
        if prod(loop.count for loop in others) < prod(loop.count for loop in rest):
            block, (down, along, group), rest = gather, chosen, others
    fields = common | block.fields | {"weight_base": block.weights()}
    row_bytes = block.bytes_read + (along.count - 1) * along.read + (group.count - 1) * group.read
    fields |= {"rows": down.count, "input_row_step": down.read, "output_row_step": down.write}
    fields |= {"columns": along.count, "x_column_step": along.read, "output_column_step": along.write}
    if group != _ONCE:
        fields |= {"groups": group.count, "x_group_step": group.read, "output_group_step": group.write}
        fields |= {"output_channels": group.count * block.channels}
    for turns in product(*(range(loop.count) for loop in rest)):
        read = sum(turn * loop.read for turn, loop in zip(turns, rest, strict=True))
        write = sum(turn * loop.write for turn, loop in zip(turns, rest, strict=True))
        emitter.emit(
            **fields,
            group_channels=block.channels if group != _ONCE else None,
            row_bytes=row_bytes,
            input_base=source + read,
            output_base=target + write,
        )


def unchanged(tensor: Tensor, emitter: Emitter) -> dict[str, Any]:
    """Return the fields of a layer whose outputs are its sums; without zero points, these are its inputs."""
    low, high = tensor.limits
    return {
        "input_unsigned": int(tensor.dtype == "uint8"),
        "clamp_low": low,
        "clamp_high": high,
        "parameters_shared": 1,
        "parameter_base": emitter.identity(),
    }


def _block(emitter: Emitter, loops: list[Loop]) -> _Block:
    """Return what is written at a time: contiguous bytes, one byte repeated, or else a single byte."""
    config = emitter.config
    inner = next((loop for loop in loops if loop.write == 1 and loop.read in (0, 1)), _ONCE)
    rest = [loop for loop in loops if loop is not inner]
    at_once = config.channels if inner.read else config.columns
    spread = not inner.read and inner is not _ONCE
    return _Block(
        inner.count,
        emitter.spread if spread else emitter.ones,
        {
            "gate": emitter.gate(Gate.FIRST if spread else Gate.OWN),
            "weights_per_tap": 1,
            "run": min(at_once, inner.count) if inner.read else 1,
            "groups": -(-inner.count // at_once),
            "x_group_step": at_once * inner.read,
            "output_group_step": at_once,
            "output_channels": inner.count,
        },
        rest,
    )


def _gather(emitter: Emitter, loops: list[Loop]) -> _Block | None:
    """Return a block of bytes that are contiguous only where they are written, each of which is a kernel row.

    It takes as many array cycles as its single bytes, but saves a loop.
    """
    inner = next((loop for loop in loops if loop.write == 1), None)
    if inner is None or not emitter.config.weight_zero:
        return None
    count = max(size for size in range(1, emitter.config.columns + 1) if inner.count % size == 0)
    outer = Loop(inner.count // count, count * inner.read, count * inner.write)
    rest = [loop for loop in loops if loop is not inner]
    return _Block(
        count,
        lambda: emitter.gather(count),
        {
            "run": 1,
            "taps_y": count,
            "input_tap_step": inner.read,
            "groups": 1,
            "x_group_step": 0,
            "output_group_step": count,
            "output_channels": count,
        },
        rest if outer.count == 1 else [*rest, outer],
    )


def _assign(block: _Block, emitter: Emitter) -> tuple[tuple[Loop, Loop, Loop], list[Loop]]:
    """Return the loops that go down, along the rows, and over groups, and the rest, of fewest turns."""
    # A group ends with a whole beat, and takes its weights up where the one before ended unless they start again.
    grouped = (
        block.fields["groups"] == 1
        and "weights_per_tap" in block.fields
        and block.channels % emitter.config.requantizers == 0
    )
    best: tuple[int, tuple[Loop, Loop, Loop], list[Loop]] | None = None
    numbers = range(len(block.loops))
    for down, along, group in permutations((*numbers, -1, -2, -3), 3):
        chosen = tuple(block.loops[number] if number >= 0 else _ONCE for number in (down, along, group))
        if min(chosen[1].read, chosen[2].read) < 0:
            continue
        if group >= 0 and not (grouped and chosen[2].count * block.channels < 2 * _LONGEST):
            continue
        rest = [block.loops[number] for number in numbers if number not in (down, along, group)]
        turns = prod(loop.count for loop in rest)
        if best is None or turns < best[0]:
            best = turns, (chosen[0], chosen[1], chosen[2]), rest
    assert best is not None
    return best[1], best[2]


def broadcast(emitter: Emitter, source: Place, target: Place) -> None:
    """Emit a copy that repeats a tensor along the dimensions in which it has a size of 1, or which it has not."""
    missing = len(target.tensor.shape) - len(source.tensor.shape)
    sizes = (1,) * missing + source.tensor.shape
    steps = (0,) * missing + byte_steps(source)
    loops = [
        Loop(count, step if size > 1 else 0, write)
        for count, size, step, write in zip(target.tensor.shape, sizes, steps, byte_steps(target), strict=True)
    ]
    copy(emitter, source.address, target.address, loops, source.tensor)


def fill(emitter: Emitter, values: npt.NDArray[np.integer], target: Place) -> None:
    """Emit instructions that write a constant, broadcast to the target's shape, into the activation memory.

    Each takes a convolution's place whose feature map is masked out, so that all lanes hold 1, and whose weights are
    the values, on one lane. What repeats from pixel to pixel or from row to row is stored once: a value takes as many
    bytes of the weight memory as the array has lanes.
    """
    rows, columns, channels = target.map_shape
    full = np.broadcast_to(values, target.tensor.shape).reshape(rows, columns, channels)
    flat = Loop(columns, 0, channels)
    down = Loop(rows, 0, target.row_pitch)
    if np.all(full == full[:1, :1]):
        _fill(emitter, full[0, 0], target.address, (down, flat), target.tensor)
    elif np.all(full == full[:1]):
        _fill(emitter, full[0].reshape(-1), target.address, (down, _ONCE), target.tensor)
    elif target.row_pitch == columns * channels:
        _fill(emitter, full.reshape(-1), target.address, (_ONCE, _ONCE), target.tensor)
    else:
        for row, data in enumerate(full.reshape(rows, -1)):
            _fill(emitter, data, target.address + row * target.row_pitch, (_ONCE, _ONCE), target.tensor)


def _fill(
    emitter: Emitter, values: npt.NDArray[np.integer], address: int, repeats: tuple[Loop, Loop], tensor: Tensor
) -> None:
    """Emit instructions that write a vector at each turn of two loops."""
    config = emitter.config
    columns = config.columns
    (rows, along) = repeats
    if along != _ONCE and np.all(values == values[0]):
        values, along = np.broadcast_to(values[:1], (along.count * along.write,)), _ONCE
    for first in range(0, len(values), _LONGEST):
        part = values[first : first + _LONGEST]
        same = bool(np.all(part == part[0]))
        words = pack_dense(config, (part[:columns] if same else part).reshape(-1, 1, 1), 0).words
        emitter.emit(
            **unchanged(tensor, emitter) | {"input_unsigned": 0},
            gate=emitter.gate(Gate.FIRST),
            weights_unsigned=int(tensor.dtype == "uint8"),
            weight_base=emitter.add_weights(words, part.astype(np.int64), unsigned=tensor.dtype == "uint8"),
            weights_per_tap=int(same),
            pad_value=1,
            y_first=-1,
            rows=rows.count,
            columns=along.count,
            groups=-(-len(part) // columns),
            output_channels=len(part),
            output_base=address + first,
            output_group_step=columns,
            output_column_step=along.write,
            output_row_step=rows.write,
        )
