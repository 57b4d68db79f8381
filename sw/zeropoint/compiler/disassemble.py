"""Layer programs as text: a listing for people, and back."""

import re
from collections.abc import Sequence
from dataclasses import fields

from zeropoint.compiler.program import Layer
from zeropoint.errors import ZeropointError
from zeropoint_hw.isa import CODES, FIELDS, Accumulate, Instruction

_DEFAULTS = {field.name: field.default for field in fields(Instruction)}
_WORDS_A_LINE = 8


def disassemble(instructions: Sequence[Instruction], layers: Sequence[Layer] = ()) -> str:
    """Return a listing of ``instructions``, a block for each.

    A block names the layer that it computes, says its loops in words, gives the fields that differ from the defaults
    of ``Instruction`` (loop counts as counts, not minus one) and ends with its encoding in hexadecimal.
    """
    blocks = []
    for index, instruction in enumerate(instructions):
        owner = [
            layer for layer in layers if layer.first_instruction <= index < layer.first_instruction + layer.instructions
        ]
        title = "".join(
            f" · {layer.name} ({layer.op})"
            + (
                f", part {index - layer.first_instruction + 1} of {layer.instructions}"
                if layer.instructions > 1
                else ""
            )
            for layer in owner
        )
        lines = [f"instruction {index}{title}", *(f"  ; {text}" for text in _loops(instruction))]
        for field in FIELDS:
            value = getattr(instruction, field.name)
            if value != _DEFAULTS[field.name]:
                lines.append(f"  {field.name:<20} = {_value(field.name, value)}")
        words = [f"{word:08X}" for word in instruction.encode()]
        for start in range(0, len(words), _WORDS_A_LINE):
            lines.append(
                f"  word {index * Instruction.WORDS + start:5}: {' '.join(words[start : start + _WORDS_A_LINE])}"
            )
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def assemble(listing: str) -> tuple[Instruction, ...]:
    """Return the instructions of a listing by their fields, having checked that its words encode the same.

    Raises
    ------
    ZeropointError
        Naming the line that is not as :func:`disassemble` writes it, or the instruction whose words differ.
    """
    entries: list[dict[str, int]] = []
    words: list[list[int]] = []
    for number, line in enumerate(listing.splitlines(), 1):
        text = line.split(";")[0].strip()
        if line.startswith("instruction "):
            entries.append({})
            words.append([])
        elif text and (not entries or not _read_line(text, entries[-1], words[-1])):
            raise ZeropointError(f"listing, line {number}: {line!r} is neither an instruction, a field nor words")
    found = []
    for index, (entry, encoding) in enumerate(zip(entries, words, strict=True)):
        try:
            instruction = Instruction(**entry)  # type: ignore[arg-type]
        except ValueError as error:
            raise ZeropointError(f"listing, instruction {index}: {error}") from None
        if instruction.encode() != encoding:
            raise ZeropointError(f"listing, instruction {index}: its words do not encode its fields")
        found.append(instruction)
    return tuple(found)


def _loops(instruction: Instruction) -> list[str]:
    """Return what the instruction does, in words."""
    i = instruction
    does = {
        Accumulate.ADD: "sums of products",
        Accumulate.MAX: "maxima",
        Accumulate.PAIR: f"{'products' if i.pair_multiply else 'sums'} of two tensors",
    }[i.accumulate]
    sweeps = i.window or i.warmup or i.emit_every > 1
    lines = [
        f"{does}: {_count(i.groups, 'group')} of output channels, "
        f"{_count(i.rows, 'column' if i.swap_axes else 'row')}, "
        f"{_count(i.columns, 'position' if sweeps else 'row' if i.swap_axes else 'column')}; "
        f"{_count(i.output_channels, 'channel')} written, {_count(i.beats, 'beat')} an output",
        f"each from {_count(i.taps_y, 'pair' if i.paired_rows else 'kernel row')} "
        f"{'of kernel rows ' if i.paired_rows else ''}of {_count(i.taps_x, 'tap')} of {_count(i.run, 'byte')}",
    ]
    if sweeps:
        lines.append(
            f"{'down the feature map' if i.swap_axes else 'along its rows'}, an output after "
            f"{_count(i.warmup + 1, 'position')} and after every {_count(i.emit_every, 'position')}"
        )
    if i.window:
        lines.append("the lanes hold the latest positions' activations")
    if i.table:
        lines.append(f"each result is looked up in table {i.table}")
    if i.pool_rows * i.pool_columns > 1:
        lines.append(f"the greatest of {i.pool_rows} x {i.pool_columns} outputs is written")
    return lines


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _value(name: str, value: int) -> str:
    if name in CODES:
        return CODES[name](value).name
    if name in Instruction.MODULAR and value >= 1 << 19:
        return f"{value} ; {value - (1 << 20)} modulo 2^20"
    return str(value)


def _read_line(text: str, entry: dict[str, int], words: list[int]) -> bool:
    """Add what a line says to ``entry`` or ``words``; return whether it says anything."""
    if match := re.fullmatch(r"word +\d+: ((?:[0-9A-F]{8} ?)+)", text):
        words += [int(word, 16) for word in match[1].split()]
        return True
    match = re.fullmatch(r"(\w+) += (\w+|-\d+)", text)
    if match is None or match[1] not in _DEFAULTS or match[1] in entry:
        return False
    name, value = match.groups()
    if name in CODES:
        if value not in CODES[name].__members__:
            return False
        entry[name] = CODES[name][value]
        return True
    if not re.fullmatch(r"-?\d{1,10}", value, re.ASCII):
        return False
    entry[name] = int(value)
    return True
