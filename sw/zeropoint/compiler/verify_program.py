"""Static verification: whether every instruction of a program stays inside its memories."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from zeropoint.compiler.extents import EXTENTS, lines, places, shortages
from zeropoint.compiler.features import FEATURES, features
from zeropoint.compiler.pacing import beat_words, drain_cycles
from zeropoint.compiler.powers import obstacle, parameter_rows
from zeropoint.compiler.program import Program
from zeropoint.errors import ZeropointError
from zeropoint_hw.config import AcceleratorConfig, PEKind, RequantizerKind
from zeropoint_hw.isa import HISTORY_DEPTH, Accumulate, Instruction

_ADDRESSES = 1 << 20


def verify(program: Program) -> None:
    """Return if each instruction keeps to the rules; what the hardware does with one that does not is not defined.

    - The last instruction, and no other, has ``end``.
    - Channels: a group's beats do not drain more channels than the array has columns; ``output_channels`` ends in the
      last group.
    - The last position of a row brings an output. ``idle`` gives an output's beats time to drain before the next one.
    - A ``window`` reads at most ``HISTORY_DEPTH`` words a position, of as many channels as the array keeps, without
      pooling; the hardware must have a history.
    - With ``paired_rows``, two runs fit the lanes, and the second lies in the banks that follow the first one's.
    - ``PAIR`` has shared parameters: its beats come later than the parameters that would go with them.
    - The clamp's ends are in order, and ones that an activation can have; zero points of activations and weights are of
      their types.
    - Requantizers that only shift scale by powers of two, round once and add no zero point.
    - What a configuration may leave out (max pooling; ADD, SUB and MUL; left shifts; ties to even; zero points of
      weights) is asked of none that does. MUL has no shift of its own. A ``table`` is one that the program fills.
    - The loops take no row number, no place in a row, no row's length and no count beyond what the configuration's
      memory needs (``row_width``, ``place_width``, ``count_width``), masked out or not.
    - Weights, and the parameters of channels that are written, come from words that the program fills.
    - Activations that are read, which are those that are not masked out, and written lie in the activation memory.
    - No instruction reads a byte that it writes.

    The sets of addresses are exact, but their members are not enumerated cycle by cycle.

    Raises
    ------
    ZeropointError
        Naming the program, the instruction, the field and its limits.
    """
    if not program.config.left_shift and "left_shift" in features(program.config, (), program.parameters.shift):
        raise ZeropointError(f"program '{program.name}' shifts left, but the configuration has left_shift = false")
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
    yield from _shape_problems(config, i, drain_cycles(config, i, program.parameters.shift))

    cycles = array_cycles(config, i)
    words = -(-i.run // config.lanes) if i.weights_per_tap else i.groups * cycles
    if i.weight_base + words > len(program.weights):
        yield (
            f"weight_base: weight words {i.weight_base} to {i.weight_base + words - 1} are read, "
            f"but the program has {len(program.weights)}"
        )
    if i.table > len(program.tables):
        yield f"table is {i.table}, but the program has {len(program.tables)}"
    # Beats beyond the last channel read a word too, whatever it is: nothing is written by them. Serial requantizers
    # take as long as it says.
    words = 1 if i.parameters_shared else -(-i.output_channels // config.requantizers)
    if config.requantizer is RequantizerKind.SERIAL:
        words = beat_words(i)
    available = len(program.parameters) // config.requantizers
    if i.parameter_base + words > available:
        yield (
            f"parameter_base: parameter words {i.parameter_base} to {i.parameter_base + words - 1} are read, "
            f"but the program has {available}"
        )

    yield from _range_problems(config, i)
    of = parameter_rows(config, i)
    if problem := obstacle(config, i, program.parameters.multiplier[of], program.parameters.shift[of]):
        yield f"it {problem}, which is not for requantizer = {config.requantizer!s}"

    last_written = last_write(config, i)
    if last_written >= config.activation_elements:
        yield (
            f"output_base: byte {last_written} is written, but the activation memory has "
            f"{config.activation_elements} bytes"
        )
    rows, bytes_read = _rows_read(i), _places_read(i)
    if rows.size and bytes_read:
        last_read = int(rows.max()) + bytes_read.bit_length() - 1
        if last_read >= config.activation_elements:
            yield (
                f"input_base: byte {last_read} is read, but the activation memory has "
                f"{config.activation_elements} bytes"
            )
        clash = _first_common(rows, bytes_read, _bytes_written(config, i))
        if clash is not None:
            yield f"output_base: byte {clash} is written, but the same instruction reads it"


def _shape_problems(config: AcceleratorConfig, i: Instruction, drain: int) -> Iterator[str]:
    """Yield what is wrong with loop counts, whatever the addresses are; ``drain`` cycles are an output's beats'."""
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
    if i.columns <= i.warmup or (i.columns - 1 - i.warmup) % i.emit_every:
        yield (
            f"columns must be {i.warmup + 1} or a multiple of {i.emit_every} more, so that the last position of a row "
            f"brings an output, not {i.columns}"
        )
    idle = max(0, drain - _cycles_between_outputs(config, i, drain))
    if i.idle < idle:
        yield f"idle must be at least {idle}, so that {i.beats} beats drain, not {i.idle}"
    if i.idle >> config.idle_bits:
        yield f"idle must be less than {1 << config.idle_bits}, not {i.idle}"
    yield from _mode_problems(config, i)
    for field, bits in shortages(config, [i]):
        yield f"it {EXTENTS[field]} with {bits} bits, but the configuration has {field} = {getattr(config, field)}"
    _, y_last = lines(i)
    limit = 1 << config.row_width - 1
    if i.y_first < -limit or y_last >= limit:
        yield f"y_first: kernel rows lie in rows {i.y_first} to {y_last}, but these are {-limit} to {limit - 1}"
    _, x_last = places(i)
    limit = min(_ADDRESSES, 1 << config.place_width - 1)
    if i.x_first < -limit or x_last >= limit:
        yield f"x_first: taps lie in bytes {i.x_first} to {x_last} of a row, but these are {-limit} to {limit - 1}"
    limit = (1 << config.place_width - 1) - config.lanes
    if i.row_bytes > limit:
        yield f"row_bytes: a row of {i.row_bytes} bytes is more than the {limit} that this configuration counts"
    chunks = -(-i.run // config.lanes)
    for name, count in (("groups", i.groups), ("rows", i.rows), ("columns", i.columns), ("run", chunks)):
        if count > 1 << config.count_width:
            yield f"{name}: {count} turns are more than the {1 << config.count_width} that this configuration counts"


def _mode_problems(config: AcceleratorConfig, i: Instruction) -> Iterator[str]:
    """Yield which ways of working are asked for that the hardware does not have, or not for these loops."""
    for feature in sorted(features(config, [i], ())):
        if not getattr(config, feature):
            yield f"it {FEATURES[feature]}, but the configuration has {feature} = false"
    if i.weights_coded and config.pe is not PEKind.MIXED:
        yield f"weights_coded is for pe = mixed, not {config.pe!s}"
    if i.gate and config.weight_zero:
        yield "gate must be ALL where weights have a code for 0"
    if i.pair_multiply and i.pair_shift:
        yield f"pair_shift must be 0 where operands are multiplied, not {i.pair_shift}"
    if i.accumulate == Accumulate.PAIR and config.pe is PEKind.MINIFLOAT:
        yield f"PAIR is for kinds of PE other than {config.pe!s}"
    if i.accumulate == Accumulate.PAIR and not i.parameters_shared:
        yield "parameters_shared must be 1 where operands are paired: sums come too late for parameters of their own"
    if i.window:
        if config.window_taps == 1:
            yield "window is 1, but the configuration has window_taps = 1"
        if _pools(i):
            yield f"window: there is none with a pooling window of {i.pool_rows} x {i.pool_columns}"
        if i.run > config.channels:
            yield f"window: a run of {i.run} bytes is more than the {config.channels} channels that the array keeps"
        if i.taps_y * i.taps_x > HISTORY_DEPTH:
            yield f"window: a position has {i.taps_y * i.taps_x} words, but the history keeps {HISTORY_DEPTH}"
    if i.paired_rows:
        if 2 * i.run > config.lanes:
            yield f"paired_rows: two runs of {i.run} bytes are more than the {config.lanes} lanes"
        if i.pair_step % config.lanes:
            yield f"pair_step must be a multiple of the {config.lanes} lanes, not {i.pair_step}"


def _range_problems(config: AcceleratorConfig, i: Instruction) -> Iterator[str]:
    """Yield which numbers are not of the types that they belong to."""
    wide = config.activation_bits > 8
    low, high = (-(1 << 15), (1 << 15) - 1) if wide else (-(1 << 7), (1 << 8) - 1)
    if not low <= i.clamp_low <= i.clamp_high <= high:
        ends = f"{i.clamp_low} and {i.clamp_high}"
        yield f"clamp_low and clamp_high must be in order and from {low} to {high}, not {ends}"
    zero_points = ("input", i.input_zero_point, i.input_unsigned), ("weight", i.weight_zero_point, i.weights_unsigned)
    for name, value, is_unsigned in zero_points:
        low, high = (0, (1 << 8) - 1) if is_unsigned else (-(1 << 7), (1 << 7) - 1)
        if not low <= value <= high:
            yield f"{name}_zero_point must be {low} to {high}, as its type has it, not {value}"


def _axes(i: Instruction) -> tuple[int, int]:
    """Return how many outputs or positions lie below each other, and how many beside each other."""
    return (i.columns, i.rows) if i.swap_axes else (i.rows, i.columns)


def _pools(i: Instruction) -> bool:
    return i.pool_rows * i.pool_columns > 1


def written_columns(i: Instruction) -> int:
    """Return how many of a row's positions bring an output."""
    return (i.columns - 1 - i.warmup) // i.emit_every + 1


def array_cycles(config: AcceleratorConfig, i: Instruction) -> int:
    """Return the array cycles of an output, or of a position that brings none."""
    return i.taps_y * i.taps_x * -(-i.run // config.lanes)


def _cycles_between_outputs(config: AcceleratorConfig, i: Instruction, drain: int) -> int:
    """Return the fewest array cycles from an output to the next, or ``drain`` where there is no next."""
    positions = []
    if _pools(i):
        positions.append(1)
    if written_columns(i) > 1:
        positions.append(i.emit_every)
    if i.rows * i.groups > 1:
        # A row may begin sooner after the row before than outputs follow each other within.
        positions.append(i.warmup + 1)
    return min(positions) * array_cycles(config, i) if positions else drain


def _rows_read(i: Instruction) -> npt.NDArray[np.int64]:
    """Return the addresses of byte 0 of the feature-map rows that are not masked out."""
    *few, many = sorted(
        [
            (_axes(i)[0], i.y_row_step, i.input_row_step),
            (i.pool_rows, i.y_pool_step, i.input_pool_step),
            (i.taps_y, i.y_tap_step, i.input_tap_step),
        ],
        key=lambda loop: loop[0],
    )
    moves = {
        (first * few[0][1] + second * few[1][1], (first * few[0][2] + second * few[1][2]) % _ADDRESSES)
        for first in range(few[0][0])
        for second in range(few[1][0])
    }
    count = np.arange(many[0])
    y = i.y_first + count * many[1]
    address = i.input_base + count * many[2]
    found = np.zeros(_ADDRESSES, bool)
    for row, start in moves:
        found[(address[(y >= -row) & (y < i.input_rows - row)] + start) % _ADDRESSES] = True
        if i.paired_rows:
            # The second row's byte 0 lies where its lanes would read it if they went on after the run.
            start += i.run + i.pair_step
            found[(address[(y >= -row - 1) & (y < i.input_rows - row - 1)] + start) % _ADDRESSES] = True
    return np.flatnonzero(found)


def _places_read(i: Instruction) -> int:
    """Return the bytes within a row that are not masked out, as a set: bit x stands for byte x."""
    places = (1 << i.run) - 1
    places = _repeat(places, i.x_tap_step, i.taps_x)
    places = _repeat(places, i.x_pool_step, i.pool_columns)
    places = _repeat(places, i.x_column_step, _axes(i)[1])
    places = _repeat(places, i.x_group_step, i.groups)
    places = places << i.x_first if i.x_first >= 0 else places >> -i.x_first
    return places & (1 << i.row_bytes) - 1


def last_write(config: AcceleratorConfig, i: Instruction) -> int:
    """Return the highest address written."""
    channels = i.beats * config.requantizers
    last = i.output_channels - (i.groups - 1) * channels
    ends = [(i.groups - 1) * i.output_group_step + last]
    if i.groups > 1:
        ends.append((i.groups - 2) * i.output_group_step + channels)
    moved = (i.rows - 1) * i.output_row_step + (written_columns(i) - 1) * i.output_column_step
    return i.output_base + max(ends) + moved - 1


def _bytes_written(config: AcceleratorConfig, i: Instruction) -> int:
    """Return the addresses written, as a set: bit a stands for address a."""
    channels = i.beats * config.requantizers
    last = i.output_channels - (i.groups - 1) * channels
    places = (1 << last) - 1 << (i.groups - 1) * i.output_group_step
    if i.groups > 1:
        places |= _repeat((1 << channels) - 1, i.output_group_step, i.groups - 1)
    places = _repeat(places, i.output_column_step, written_columns(i))
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
