"""How many bits an instruction's loops and places in a feature map take, where a configuration can have fewer."""

from collections.abc import Iterable, Iterator

from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import Instruction

#: What the bits are for, by the field of AcceleratorConfig.
EXTENTS = {
    "loop_bits": "counts groups, rows, columns, words of a run or channels",
    "tap_bits": "counts taps",
    "line_bits": "numbers rows of a feature map",
    "place_bits": "numbers bytes of a row",
}


def lines(i: Instruction) -> tuple[int, int]:
    """Return the least and the greatest number of the feature-map rows that kernel rows lie in."""
    down = i.columns if i.swap_axes else i.rows
    moves = (down, i.y_row_step), (i.pool_rows, i.y_pool_step), (i.taps_y, i.y_tap_step)
    return i.y_first, i.y_first + sum((count - 1) * step for count, step in moves)


def places(i: Instruction) -> tuple[int, int]:
    """Return the least and the greatest place, within a feature-map row, of the bytes that taps lie in."""
    along = i.rows if i.swap_axes else i.columns
    moves = (i.groups, i.x_group_step), (along, i.x_column_step), (i.pool_columns, i.x_pool_step)
    return i.x_first, i.x_first + sum(
        (count - 1) * step for count, step in (*moves, (i.taps_x, i.x_tap_step))
    ) + i.run - 1


def extents(config: AcceleratorConfig, instructions: Iterable[Instruction]) -> dict[str, int]:
    """Return the bits that instructions take, by the field of the configuration that gives them."""
    most = dict.fromkeys(EXTENTS, 1)
    for i in instructions:
        chunks = -(-i.run // config.lanes)
        # Channels left to be written fall below 0 by no more than a group has.
        counts = max(i.groups - 1, i.rows - 1, i.columns - 1, chunks - 1, i.output_channels, config.columns)
        (first_line, last_line), (first, last) = lines(i), places(i)
        # Lanes beyond a run may lie beyond the row.
        ends = max(last, i.row_bytes) + config.lanes
        needed = {
            "loop_bits": counts.bit_length(),
            "tap_bits": (max(i.taps_y, i.taps_x) - 1).bit_length(),
            "line_bits": 1 + max(max(0, ~first_line).bit_length(), max(last_line, i.input_rows).bit_length()),
            "place_bits": 1 + max(max(0, ~first).bit_length(), ends.bit_length()),
        }
        most = {field: max(bits, needed[field]) for field, bits in most.items()}
    return most


def shortages(config: AcceleratorConfig, instructions: Iterable[Instruction]) -> Iterator[tuple[str, int]]:
    """Yield the fields of the configuration that give fewer bits than instructions take, and how many these are."""
    for field, bits in extents(config, instructions).items():
        if 0 < getattr(config, field) < bits:
            yield field, bits
