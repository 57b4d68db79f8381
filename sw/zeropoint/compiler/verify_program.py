"""Static verification: whether every instruction of a program stays inside its memories."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from zeropoint.compiler.program import Program
from zeropoint.errors import ZeropointError
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import Instruction

_ADDRESSES = 1 << 20


def verify(program: Program) -> None:
    """Return if each instruction keeps to the rules; what the hardware does with one that does not is not defined.

    - The last instruction, and no other, has ``end``.
    - Channels: a group's beats do not drain more channels than the array has columns; ``output_channels`` ends in the
      last group.
    - ``idle`` gives the beats of an output time to drain before the next is done.
    - The loops take no row number beyond 2^16 − 1 and no place in a row beyond 2^20 − 1, masked out or not.
    - Weights, and the parameters of channels that are written, come from words that the program fills.
    - Activations that are read, which are those that are not masked out, and written lie in the activation memory.
    - No instruction reads a byte that it writes.

    The sets of addresses are exact, but their members are not enumerated cycle by cycle.

    Raises
    ------
    ZeropointError
        Naming the program, the instruction, the field and its limits.
    """
    for index, instruction in enumerate(program.instructions):
        is_last = index == len(program.instructions) - 1
        for problem in _problems(program, instruction, is_last):
            names = [
                f" ({layer.name})"
                for layer in program.layers
                if layer.first_instruction <= index < layer.first_instruction + layer.instructions
            ]
            raise ZeropointError(f"program '{program.name}', instruction {index}{''.join(names)}: {problem}")


def _problems(program: Program, i: Instruction, is_last: bool) -> Iterator[str]:
    """Yield what is wrong with an instruction; later checks rely on earlier ones, so the first problem ends it."""
    config = program.config
    if i.end != is_last:
        yield f"end is {i.end}, but must be 1 in the last instruction and 0 in all others"
    yield from _shape_problems(config, i)

    cycles = _array_cycles(config, i)
    words = -(-i.run // config.lanes) if i.weights_per_tap else i.groups * cycles
    if i.weight_base + words > len(program.weights):
        yield (
            f"weight_base: weight words {i.weight_base} to {i.weight_base + words - 1} are read, "
            f"but the program has {len(program.weights)}"
        )
    # Beats beyond the last channel read a word too, whatever it is: nothing is written by them.
    words = 1 if i.parameters_shared else -(-i.output_channels // config.requantizers)
    available = len(program.parameters) // config.requantizers
    if i.parameter_base + words > available:
        yield (
            f"parameter_base: parameter words {i.parameter_base} to {i.parameter_base + words - 1} are read, "
            f"but the program has {available}"
        )

    last_write = _last_write(config, i)
    if last_write >= config.activation_bytes:
        yield (
            f"output_base: byte {last_write} is written, but the activation memory has {config.activation_bytes} bytes"
        )
    rows, places = _rows_read(i), _places_read(i)
    if rows.size and places:
        last_read = int(rows.max()) + places.bit_length() - 1
        if last_read >= config.activation_bytes:
            yield (
                f"input_base: byte {last_read} is read, but the activation memory has {config.activation_bytes} bytes"
            )
        clash = _first_common(rows, places, _bytes_written(config, i))
        if clash is not None:
            yield f"output_base: byte {clash} is written, but the same instruction reads it"


def _shape_problems(config: AcceleratorConfig, i: Instruction) -> Iterator[str]:
    """Yield what is wrong with loop counts, whatever the addresses are."""
    channels = i.beats * config.requantizers
    if channels > config.columns:
        yield (
            f"beats: {i.beats} beats of {config.requantizers} channels are more than the {config.columns} columns"
            " of the array"
        )
    if not (i.groups - 1) * channels < i.output_channels <= i.groups * channels:
        yield (
            f"output_channels must be {(i.groups - 1) * channels + 1} to {i.groups * channels} "
            f"for {i.groups} groups of {channels}, not {i.output_channels}"
        )
    idle = max(0, i.beats - _array_cycles(config, i))
    if i.idle < idle:
        yield f"idle must be at least {idle}, so that {i.beats} beats drain, not {i.idle}"
    y_last = i.y_first + (i.rows - 1) * i.y_row_step + (i.taps_y - 1) * i.y_tap_step
    if y_last >= 1 << 16:
        yield f"y_first: the last kernel row lies in row {y_last}, but rows are counted up to {(1 << 16) - 1}"
    x_last = _last_start(i) + i.run - 1
    if x_last >= _ADDRESSES:
        yield f"x_first: the last tap ends at byte {x_last} of a row, but these are counted up to {_ADDRESSES - 1}"


def _array_cycles(config: AcceleratorConfig, i: Instruction) -> int:
    """Return the array cycles of an output."""
    return i.taps_y * i.taps_x * -(-i.run // config.lanes)


def _last_start(i: Instruction) -> int:
    """Return the highest byte within a row at which a tap begins."""
    steps = ((i.groups, i.x_group_step), (i.columns, i.x_column_step), (i.taps_x, i.x_tap_step))
    return i.x_first + sum((count - 1) * step for count, step in steps)


def _rows_read(i: Instruction) -> npt.NDArray[np.int64]:
    """Return the addresses of byte 0 of the feature-map rows that are not masked out."""
    few, many = sorted(
        [(i.rows, i.y_row_step, i.input_row_step), (i.taps_y, i.y_tap_step, i.input_tap_step)], key=lambda loop: loop[0]
    )
    count = np.arange(many[0])
    y = i.y_first + count * many[1]
    address = i.input_base + count * many[2]
    found = np.zeros(_ADDRESSES, bool)
    for index in range(few[0]):
        row = y + index * few[1]
        found[(address[(row >= 0) & (row < i.input_rows)] + index * few[2]) % _ADDRESSES] = True
    return np.flatnonzero(found)


def _places_read(i: Instruction) -> int:
    """Return the bytes within a row that are not masked out, as a set: bit x stands for byte x."""
    places = (1 << i.run) - 1
    places = _repeat(places, i.x_tap_step, i.taps_x)
    places = _repeat(places, i.x_column_step, i.columns)
    places = _repeat(places, i.x_group_step, i.groups)
    places = places << i.x_first if i.x_first >= 0 else places >> -i.x_first
    return places & (1 << i.row_bytes) - 1


def _last_write(config: AcceleratorConfig, i: Instruction) -> int:
    """Return the highest address written."""
    channels = i.beats * config.requantizers
    last = i.output_channels - (i.groups - 1) * channels
    ends = [(i.groups - 1) * i.output_group_step + last]
    if i.groups > 1:
        ends.append((i.groups - 2) * i.output_group_step + channels)
    return i.output_base + max(ends) + (i.rows - 1) * i.output_row_step + (i.columns - 1) * i.output_column_step - 1


def _bytes_written(config: AcceleratorConfig, i: Instruction) -> int:
    """Return the addresses written, as a set: bit a stands for address a."""
    channels = i.beats * config.requantizers
    last = i.output_channels - (i.groups - 1) * channels
    places = (1 << last) - 1 << (i.groups - 1) * i.output_group_step
    if i.groups > 1:
        places |= _repeat((1 << channels) - 1, i.output_group_step, i.groups - 1)
    places = _repeat(places, i.output_column_step, i.columns)
    return _repeat(places, i.output_row_step, i.rows) << i.output_base


def _first_common(rows: npt.NDArray[np.int64], places: int, written: int) -> int | None:
    """Return the lowest byte read, being one of ``places`` of one of ``rows``, that is also ``written``."""
    first, last = (places & -places).bit_length() - 1, places.bit_length() - 1
    low, high = (written & -written).bit_length() - 1, written.bit_length() - 1
    for row in rows[(rows + last >= low) & (rows + first <= high)].tolist():
        if common := places << row & written:
            return (common & -common).bit_length() - 1
    return None


def _repeat(places: int, step: int, count: int) -> int:
    """Return the union of the set and its copies that are moved up by ``step``, 2 · ``step`` … ``count − 1`` steps."""
    done = 1
    while done < count:
        more = min(done, count - done)
        places |= places << more * step
        done += more
    return places
