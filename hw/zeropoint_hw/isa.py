"""The layer program: the instruction and its encoding, and the host's address map.

A program is a sequence of instructions, each ``Instruction.WORDS`` 32-bit words long; the last has ``end`` set. One
instruction computes one layer, or a part of one, as a loop nest around the array:

    for group in range(groups):                # columns (or channels) at once
      for row in range(rows):                  # of the output
        for column in range(columns):
          for pool_y in range(pool_rows):      # of a max-pooling window over outputs
            for pool_x in range(pool_columns):
              for tap_y in range(taps_y):      # of the kernel
                for tap_x in range(taps_x):
                  for chunk in range(ceil(run / lanes)):
                    read `lanes` bytes of activations and one word of weights; multiply; accumulate
              requantize the group's channels
          write the greatest of the pooling window

Everything about a layer is in the steps by which the addresses move at each level, so that one loop nest serves
convolution, fully-connected layers, depthwise convolution, pooling, MEAN, ADD, padding and plain copies.

Loop counts are stored minus one. Addresses of activations are in bytes, modulo 2^20; addresses of weights and
parameters are in words of those memories. Fields that hold a step may be negative modulo their width.
"""

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any, ClassVar


class Accumulate(IntEnum):
    """What an accumulator does with the sum that its adder tree delivers."""

    #: Add it.
    ADD = 0
    #: Keep the greater of both: MAX_POOL_2D.
    MAX = 1
    #: Set it above the sum before, 10 bits each: ADD, SUB and MUL of two tensors. An output has two array cycles, and
    #: the parameters are shared.
    PAIR = 2


class Round(IntEnum):
    """How the requantizers round."""

    DOUBLE = 0
    SINGLE = 1
    #: Once, ties to even.
    EVEN = 2
    #: Once, ties away from zero: for requantizers that shift.
    AWAY = 3


class Gate(IntEnum):
    """Which lanes a column takes, where weights have no code for 0."""

    #: All.
    ALL = 0
    #: That of the column's number.
    OWN = 1
    #: The first.
    FIRST = 2
    #: The first ``window_taps``.
    TAPS = 3


#: The fields that hold a code, and the codes.
CODES: dict[str, type[IntEnum]] = {"accumulate": Accumulate, "rounding": Round, "gate": Gate}

#: Bits of a field that says how many cycles the array waits.
IDLE_BITS = 11

#: Words of a position that the array's history tells apart: the most that a ``window`` instruction may read for one.
HISTORY_DEPTH = 16


@dataclass(frozen=True)
class Field:
    """A field of the instruction: where it lies and what it means."""

    name: str
    width: int
    signed: bool
    doc: str
    word: int
    offset: int


def _layout(entries: list[tuple[str, int, bool, str]]) -> tuple[tuple[Field, ...], int]:
    placed = []
    word = offset = 0
    for name, width, signed, doc in entries:
        if offset + width > 32:
            word, offset = word + 1, 0
        placed.append(Field(name, width, signed, doc, word, offset))
        offset += width
    return tuple(placed), word + 1


_U, _S = False, True

#: Every field, packed in this order into 32-bit words from bit 0 up; no field crosses a word.
FIELDS, INSTRUCTION_WORDS = _layout(
    [
        ("end", 1, _U, "last instruction of the program"),
        ("accumulate", 2, _U, "what the accumulators do (Accumulate)"),
        ("rounding", 2, _U, "how the requantizers round (Round)"),
        ("input_unsigned", 1, _U, "activations read are uint8, not int8"),
        ("weights_unsigned", 1, _U, "weights are uint8, not int8"),
        ("weights_coded", 1, _U, "`mixed`: weights are codes of powers of two, not integers"),
        ("gate", 2, _U, "which lanes a column takes, where weights have no code for 0 (Gate)"),
        ("weights_per_tap", 1, _U, "the weight address starts again at every tap and group, as pooling's ones do"),
        ("swap_axes", 1, _U, "the column loop moves down the feature map, the row loop along its rows"),
        ("window", 1, _U, "lanes hold the latest taps along the column loop, as depthwise convolution wants them"),
        ("paired_rows", 1, _U, "an array cycle reads two kernel rows, the second from the lanes after the run"),
        ("warmup", 4, _U, "positions of the column loop before a row's first output"),
        ("emit_every", 4, _U, "positions of the column loop for each output, minus one"),
        ("pool_rows", 4, _U, "rows of the max-pooling window over outputs, minus one"),
        ("pool_columns", 4, _U, "columns of the max-pooling window over outputs, minus one"),
        ("table", 4, _U, "the table in which results are looked up, counted from 1; 0 for none"),
        ("parameters_shared", 1, _U, "one parameter word serves all groups and beats"),
        ("beats", 7, _U, "beats of `requantizers` channels that drain a group, minus one"),
        ("idle", IDLE_BITS, _U, "cycles without work after each output, so that draining keeps up"),
        ("input_zero_point", 9, _S, "Zx, subtracted from activations"),
        ("weight_zero_point", 9, _S, "Zw, subtracted from weights"),
        ("output_zero_point", 9, _S, "Zo, added after requantization"),
        ("clamp_low", 16, _S, "least output"),
        ("clamp_high", 16, _S, "greatest output"),
        ("groups", 16, _U, "groups of output channels, minus one"),
        ("rows", 16, _U, "output rows, minus one"),
        ("columns", 16, _U, "output columns, minus one"),
        ("taps_y", 12, _U, "kernel rows, minus one"),
        ("taps_x", 12, _U, "separately addressed kernel columns, minus one"),
        ("run", 20, _U, "contiguous bytes of activations read for each tap, minus one"),
        ("input_base", 20, _U, "address of the first kernel row's feature-map row, byte 0"),
        ("input_row_step", 20, _U, "bytes from one output row's to the next's first input row"),
        ("input_pool_step", 20, _U, "bytes from one row of the pooling window's to the next's first input row"),
        ("input_tap_step", 20, _U, "bytes from one kernel row's to the next's input row"),
        ("y_first", 16, _S, "input row of the first output row's first tap"),
        ("y_row_step", 16, _U, "input rows from one output row to the next"),
        ("y_pool_step", 16, _U, "input rows from one row of the pooling window to the next"),
        ("y_tap_step", 16, _U, "input rows from one kernel row to the next"),
        ("input_rows", 16, _U, "rows of the feature map"),
        ("pad_value", 16, _U, "what stands for activations outside the feature map: a byte, or 16 bits"),
        ("x_first", 21, _S, "byte within the row of the first output column's first tap"),
        ("x_column_step", 20, _U, "bytes from one output column to the next"),
        ("x_pool_step", 20, _U, "bytes from one column of the pooling window to the next"),
        ("x_tap_step", 20, _U, "bytes from one kernel column to the next"),
        (
            "x_group_step",
            20,
            _U,
            "bytes from one group's to the next's input channels; 0 where all groups read the same",
        ),
        ("pair_step", 20, _U, "bytes from the end of a kernel row's run to the next kernel row's, a multiple of lanes"),
        ("row_bytes", 20, _U, "bytes of a feature-map row"),
        ("weight_base", 20, _U, "word of the first weights"),
        ("parameter_base", 16, _U, "word of the first parameters"),
        ("output_channels", 16, _U, "channels that are written, over all groups"),
        ("output_base", 20, _U, "address of the first output"),
        ("output_group_step", 20, _U, "bytes from one group's outputs to the next's"),
        ("output_column_step", 20, _U, "bytes from one output column to the next"),
        ("output_row_step", 20, _U, "bytes from one output row to the next"),
        ("pair_zero_point", 9, _S, "PAIR: zero point of the operand that is read first"),
        ("pair_other_zero_point", 9, _S, "PAIR: zero point of the other operand"),
        ("pair_negate", 1, _U, "PAIR: the operand read first is negated"),
        ("pair_other_negate", 1, _U, "PAIR: the other operand is negated"),
        ("pair_multiply", 1, _U, "PAIR: multiply both operands, rather than add them scaled"),
        ("pair_shift", 5, _U, "ADD, SUB: right shift of the other operand; MUL: 0"),
        ("pair_multiplier", 31, _U, "ADD, SUB: multiplier of the other operand"),
    ]
)

_BY_NAME = {field.name: field for field in FIELDS}


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One instruction. Loop counts (``Instruction.COUNTS``) are given as counts, not minus one.

    Raises
    ------
    ValueError
        If a field does not fit its width; the message names it. Steps are taken modulo their width.
    """

    WORDS: ClassVar[int] = INSTRUCTION_WORDS
    #: Fields stored minus one.
    COUNTS: ClassVar[frozenset[str]] = frozenset(
        {"beats", "groups", "rows", "columns", "pool_rows", "pool_columns", "taps_y", "taps_x", "run", "emit_every"}
    )
    #: Fields that are steps or addresses of activations, stored modulo 2^20.
    MODULAR: ClassVar[frozenset[str]] = frozenset(
        {"input_base", "input_row_step", "input_pool_step", "input_tap_step", "pair_step", "output_base"}
    )

    end: int = 0
    accumulate: Accumulate = Accumulate.ADD
    rounding: Round = Round.DOUBLE
    input_unsigned: int = 0
    weights_unsigned: int = 0
    weights_coded: int = 0
    gate: Gate = Gate.ALL
    weights_per_tap: int = 0
    swap_axes: int = 0
    window: int = 0
    paired_rows: int = 0
    warmup: int = 0
    emit_every: int = 1
    pool_rows: int = 1
    pool_columns: int = 1
    table: int = 0
    parameters_shared: int = 0
    pad_value: int = 0
    beats: int = 1
    idle: int = 0
    input_zero_point: int = 0
    weight_zero_point: int = 0
    output_zero_point: int = 0
    clamp_low: int = -128
    clamp_high: int = 127
    groups: int = 1
    rows: int = 1
    columns: int = 1
    taps_y: int = 1
    taps_x: int = 1
    run: int = 1
    input_base: int = 0
    input_row_step: int = 0
    input_pool_step: int = 0
    input_tap_step: int = 0
    y_first: int = 0
    y_row_step: int = 0
    y_pool_step: int = 0
    y_tap_step: int = 0
    input_rows: int = 1
    x_first: int = 0
    x_column_step: int = 0
    x_pool_step: int = 0
    x_tap_step: int = 0
    x_group_step: int = 0
    pair_step: int = 0
    row_bytes: int = 1
    weight_base: int = 0
    parameter_base: int = 0
    output_channels: int = 1
    output_base: int = 0
    output_group_step: int = 0
    output_column_step: int = 0
    output_row_step: int = 0
    pair_zero_point: int = 0
    pair_other_zero_point: int = 0
    pair_negate: int = 0
    pair_other_negate: int = 0
    pair_multiply: int = 0
    pair_shift: int = 0
    pair_multiplier: int = 0

    def __post_init__(self) -> None:
        for field in FIELDS:
            value = self._stored(field)
            low, high = (
                (-(1 << field.width - 1), (1 << field.width - 1) - 1) if field.signed else (0, (1 << field.width) - 1)
            )
            if not low <= value <= high:
                raise ValueError(f"instruction field {field.name} holds {low} to {high}, not {value}")

    def _stored(self, field: Field) -> int:
        value = int(getattr(self, field.name)) - (field.name in self.COUNTS)
        return value % (1 << field.width) if field.name in self.MODULAR else value

    def encode(self) -> list[int]:
        """Return the instruction as ``WORDS`` 32-bit words."""
        words = [0] * self.WORDS
        for field in FIELDS:
            words[field.word] |= (self._stored(field) & (1 << field.width) - 1) << field.offset
        return words

    @classmethod
    def decode(cls, words: list[int]) -> "Instruction":
        """Return the instruction that ``WORDS`` words encode; unused bits are ignored.

        Raises
        ------
        ValueError
            If there are not ``WORDS`` words, or a code has no meaning.
        """
        if len(words) != cls.WORDS:
            raise ValueError(f"an instruction has {cls.WORDS} words, not {len(words)}")
        entries: dict[str, Any] = {}
        for field in FIELDS:
            value = words[field.word] >> field.offset & (1 << field.width) - 1
            if field.signed and value >> field.width - 1:
                value -= 1 << field.width
            entries[field.name] = value + (field.name in cls.COUNTS)
        for name, codes in CODES.items():
            entries[name] = codes(entries[name])
        return cls(**entries)


assert {field.name for field in fields(Instruction)} == set(_BY_NAME)


class Region(IntEnum):
    """The host bus: bits 23 … 21 of an address choose what bits 20 … 0 address."""

    #: Control and counters, by ``Register``.
    CONTROL = 0
    #: Program words.
    PROGRAM = 1
    #: Parameters: ``PARAMETER_PIECES`` words a channel, in the order bias, multiplier, shift.
    PARAMETERS = 2
    #: Weights: the address is ``word · config.pieces + piece``; a piece has ``config.piece_bits`` bits, the least
    #: significant piece first.
    WEIGHTS = 3
    #: Activations: ``config.host_elements`` an access, whose addresses count them, least address in bits 7 … 0.
    ACTIVATIONS = 4
    #: What each instruction of the program memory took: ``LOG_PIECES`` words an instruction, in order, by ``LogEntry``.
    LOG = 5
    #: Entries of tables: the address is ``TABLE_ENTRIES · (table − 1) + byte``, and bits 7 … 0 are the entry.
    TABLES = 6


#: The first bit of an address that chooses the region.
REGION_SHIFT = 21
ADDRESS_WIDTH = 24


class Register(IntEnum):
    """Words of the control region."""

    #: Reads ``IDENTIFICATION``.
    IDENTIFICATION = 0
    #: Bits 3…0, 7…4, 11…8: log2 of lanes, columns, requantizers; 14…12: the PE kind; 15: max pooling; 16: elementwise;
    #: 17: left shift; 21…18: tables; 27…22: window taps minus one; 31…28: accumulator width, minus the least there is.
    CONFIGURATION = 1
    #: Writing ``Command.RUN`` runs the program from its start, ``Command.STEP`` one instruction from where the last
    #: step ended; reads 1 while it runs, or while weights are copied from flash, and 2 if these were damaged, where
    #: nothing runs.
    STATUS = 2
    #: Cycles from start to the last output written.
    CYCLES = 3
    #: Cycles in which the array was fed.
    BUSY = 4
    #: Cycles lost because the requantizers drained an earlier output.
    STALL_DRAIN = 5
    #: Cycles spent on fetching instructions.
    STALL_FETCH = 6
    #: Cycles spent on waiting for a layer's last outputs before the next layer reads them.
    STALL_FLUSH = 7
    #: Instructions executed.
    INSTRUCTIONS = 8
    #: Bits 3…0: the weights' bits, 0 for 16; 4: weights have a code for 0; 5: ties to even; 6: weights have zero
    #: points; 9…7: the exponents' bits; 14…10: the activations' bits; 15: the requantizers shift; 19…16: the digit_bits
    #: of serial ones; 20: activations are never uint8; 21: there is no log; 26…25: the weights' store; 27: the
    #: activation memory has one port; 31…28: log2 of the weight buffer's words.
    FORMATS = 9
    #: Cycles lost because the array waited for weights, or for the activation memory while outputs were written.
    STALL_MEMORY = 10
    #: The CRC-32 of the image in flash from which weights were copied.
    WEIGHTS_CRC = 11


class Command(IntEnum):
    """What a write to ``Register.STATUS`` asks for."""

    RUN = 1
    STEP = 2


class LogEntry(IntEnum):
    """Words of the log for each instruction: what the counters of these names held at its end."""

    CYCLES = 0
    BUSY = 1
    STALL_DRAIN = 2
    STALL_MEMORY = 3


IDENTIFICATION = 0x5A504E54  # "ZPNT"
LOG_PIECES = 4
PARAMETER_PIECES = 4
#: Entries of a table, one for each byte.
TABLE_ENTRIES = 256


def address(region: Region, offset: int) -> int:
    """Return the host address of a word."""
    if not 0 <= offset < 1 << REGION_SHIFT:
        raise ValueError(f"region {region.name} has offsets up to {(1 << REGION_SHIFT) - 1}, not {offset}")
    return region << REGION_SHIFT | offset


if __name__ == "__main__":
    # The table of fields in docs/isa.md.
    print("| field | word | bits | values | meaning |")
    print("|---|---|---|---|---|")
    for _field in FIELDS:
        _low, _high = (-(1 << _field.width - 1), 1 << _field.width - 1) if _field.signed else (0, 1 << _field.width)
        _count = _field.name in Instruction.COUNTS
        _values = f"{_low + _count} … {_high - 1 + _count}"
        if _field.name in Instruction.MODULAR:
            _values = f"modulo {_high}"
        _bits = f"{_field.offset + _field.width - 1} … {_field.offset}" if _field.width > 1 else f"{_field.offset}"
        print(f"| `{_field.name}` | {_field.word} | {_bits} | {_values} | {_field.doc} |")
