"""The static verifier agrees with an enumeration of every cycle."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

import numpy as np
import pytest
from support.programs import make_program, random_parameters
from support.random_models import ModelBuilder, random_model
from support.seeds import shown

from zeropoint.compiler.compile import compile_model
from zeropoint.compiler.program import Parameters, Program
from zeropoint.compiler.verify_program import verify
from zeropoint.errors import ZeropointError
from zeropoint.model import Padding, QuantizedModel
from zeropoint_hw.config import AcceleratorConfig, PEKind
from zeropoint_hw.isa import Accumulate, Instruction

CONFIG = AcceleratorConfig(
    lanes=2, columns=4, requantizers=2, activation_bytes=96, weight_bytes=8 * 200, parameter_channels=40
)
#: With lanes for two kernel rows of two bytes, and fewer columns than lanes.
WIDE = replace(CONFIG, lanes=8, columns=4, weight_bytes=32 * 200)
WORDS, CHANNELS = 40, 20


def program_of(*instructions: Instruction, config: AcceleratorConfig = CONFIG, **changes: Any) -> Program:
    rng = np.random.default_rng(0)
    entries: dict[str, Any] = {
        "config": config,
        "name": "p",
        "weights": rng.integers(0, 256, (WORDS, config.multipliers), dtype=np.uint8),
        "parameters": random_parameters(rng, CHANNELS),
        "layers": (),
        "host_steps": (),
    }
    return make_program(instructions=instructions, **(entries | changes))


def enumerate_faults(config: AcceleratorConfig, i: Instruction) -> set[str]:
    """Go through an instruction cycle by cycle, and return the fields with which something is wrong."""
    faults = {"parameters_shared"} if i.accumulate == Accumulate.PAIR and not i.parameters_shared else set()
    reads: set[int] = set()
    writes: set[int] = set()
    channels_left = i.output_channels
    word = i.weight_base
    #: When the drain is through with the output before.
    now = drained = 0
    for group in range(i.groups):
        first_word = i.weight_base if i.weights_per_tap else word
        group_channels = min(i.beats * config.requantizers, channels_left)
        if group_channels <= 0:
            faults.add("output_channels")
        for row in range(i.rows):
            written = 0
            emits = False
            for column in range(i.columns):
                emits = column >= i.warmup and (column - i.warmup) % i.emit_every == 0
                for pool_y in range(i.pool_rows):
                    for pool_x in range(i.pool_columns):
                        word = first_word
                        words_of_position = 0
                        for tap_y in range(i.taps_y):
                            for tap_x in range(i.taps_x):
                                if i.weights_per_tap:
                                    word = i.weight_base
                                for done in range(0, i.run, config.lanes):
                                    if not word < WORDS:
                                        faults.add("weight_base")
                                    at = Place(group, row, column, pool_y, pool_x, tap_y, tap_x, done)
                                    reads |= lanes_read(config, i, at)
                                    word += 1
                                    now += 1
                                    words_of_position += 1
                        if i.window and words_of_position > 16:
                            faults.add("window")
                        if emits:
                            if now < drained:
                                faults.add("idle")
                            drained = now + i.beats
                            now += i.idle
                if emits:
                    writes |= bytes_written(config, i, faults, group, row, written, group_channels)
                    written += 1
            if not emits:
                faults.add("columns")
        channels_left -= i.beats * config.requantizers
    if channels_left > 0:
        faults.add("output_channels")
    if any(beat * config.requantizers >= config.columns for beat in range(i.beats)):
        faults.add("beats")
    if i.window and (i.pool_rows > 1 or i.pool_columns > 1 or i.run > min(config.lanes, config.columns)):
        faults.add("window")
    if i.paired_rows and i.run + i.run > config.lanes:
        faults.add("paired_rows")
    if i.paired_rows and i.pair_step % config.lanes:
        faults.add("pair_step")
    if any(address >= config.activation_bytes for address in reads):
        faults.add("input_base")
    if any(address >= config.activation_bytes for address in writes) or reads & writes:
        faults.add("output_base")
    return faults


class Place(NamedTuple):
    """Where the loops are."""

    group: int
    row: int
    column: int
    pool_y: int
    pool_x: int
    tap_y: int
    tap_x: int
    done: int


def lanes_read(config: AcceleratorConfig, i: Instruction, at: Place) -> set[int]:
    """Return the addresses that the lanes read which are not masked out."""
    down, along = (at.column, at.row) if i.swap_axes else (at.row, at.column)
    y = i.y_first + down * i.y_row_step + at.pool_y * i.y_pool_step + at.tap_y * i.y_tap_step
    base = i.input_base + down * i.input_row_step + at.pool_y * i.input_pool_step + at.tap_y * i.input_tap_step
    x = i.x_first + at.group * i.x_group_step + along * i.x_column_step + at.pool_x * i.x_pool_step
    x += at.tap_x * i.x_tap_step + at.done
    found = set()
    for lane in range(config.lanes):
        if at.done + lane < i.run and 0 <= x + lane < i.row_bytes and 0 <= y < i.input_rows:
            found.add(base % (1 << 20) + x + lane)
        byte = lane - i.run
        if i.paired_rows and 0 <= byte < i.run and 0 <= x + byte < i.row_bytes and 0 <= y + 1 < i.input_rows:
            found.add((base + i.run + i.pair_step) % (1 << 20) + x + byte)
    return found


def bytes_written(
    config: AcceleratorConfig, i: Instruction, faults: set[str], group: int, row: int, column: int, channels: int
) -> set[int]:
    """Return the addresses that an output is written to; note parameters that are not there."""
    found: set[int] = set()
    for beat in range(i.beats):
        parameter = i.parameter_base + (0 if i.parameters_shared else group * i.beats + beat)
        left = channels - beat * config.requantizers
        if left > 0 and not parameter < CHANNELS // config.requantizers:
            faults.add("parameter_base")
        address = i.output_base + group * i.output_group_step + row * i.output_row_step + column * i.output_column_step
        address += beat * config.requantizers
        found |= {address + lane for lane in range(min(left, config.requantizers))}
    return found


def random_small(rng: np.random.Generator, config: AcceleratorConfig) -> Instruction:
    """Return an instruction that touches few bytes: a window over a map most of the time, sometimes anything."""

    def up_to(most: int) -> int:
        return int(rng.integers(0, most + 1))

    channels, width, height = 1 + up_to(5), 1 + up_to(3), 1 + up_to(3)
    pad_y, pad_x = up_to(1), up_to(1)
    address = up_to(30)
    groups, beats = 1 + up_to(2), 1 + up_to(1)
    least = (groups - 1) * beats * config.requantizers + 1
    entries = {
        "end": 1,
        "weights_per_tap": up_to(1),
        "parameters_shared": up_to(1),
        "beats": beats,
        "idle": up_to(1),
        "groups": groups,
        "rows": 1 + up_to(2),
        "columns": 1 + up_to(2),
        "taps_y": 1 + up_to(2),
        "taps_x": 1 + up_to(1),
        "run": 1 + up_to(4),
        "input_base": address - pad_y * width * channels,
        "input_row_step": width * channels,
        "input_tap_step": width * channels,
        "y_first": -pad_y,
        "y_row_step": 1,
        "y_tap_step": 1,
        "input_rows": height,
        "x_first": -pad_x * channels,
        "x_column_step": channels,
        "x_tap_step": channels,
        "x_group_step": up_to(2),
        "row_bytes": width * channels,
        "weight_base": up_to(12),
        "parameter_base": up_to(4),
        "output_channels": least + up_to(beats * config.requantizers - 1),
        "output_base": 55 + up_to(20),
        "output_group_step": up_to(4),
        "output_column_step": up_to(5),
        "output_row_step": up_to(9),
        "swap_axes": up_to(1),
    }
    wild = {
        "beats": 1 + up_to(3),
        "output_channels": up_to(12),
        "idle": 0,
        "input_base": up_to(100),
        "input_row_step": -up_to(30),
        "input_tap_step": -up_to(30),
        "y_first": up_to(9) - 5,
        "y_row_step": up_to(3),
        "y_tap_step": up_to(3),
        "x_first": up_to(40) - 20,
        "x_column_step": up_to(20),
        "x_tap_step": up_to(20),
        "x_group_step": up_to(20),
        "row_bytes": up_to(40),
        "weight_base": up_to(45),
        "parameter_base": up_to(12),
        "output_base": up_to(90),
        "accumulate": Accumulate.PAIR,
    }
    kind = rng.choice(["plain", "pooled", "sweep", "paired"])
    if kind == "pooled":
        entries |= {
            "pool_rows": 1 + up_to(2),
            "pool_columns": 1 + up_to(2),
            "input_pool_step": width * channels,
            "y_pool_step": 1,
            "x_pool_step": channels,
        }
        wild |= {"input_pool_step": -up_to(30), "y_pool_step": up_to(3), "x_pool_step": up_to(20), "window": 1}
    if kind == "sweep":
        warmup, emit_every = up_to(2), 1 + up_to(2)
        entries |= {
            "window": up_to(1),
            "run": 1 + up_to(config.channels - 1),
            "warmup": warmup,
            "emit_every": emit_every,
            "columns": 1 + warmup + emit_every * up_to(2) + (up_to(9) == 0),
        }
        wild |= {"columns": 1 + up_to(5), "run": 1 + up_to(8), "taps_y": 1 + up_to(16), "pool_rows": 1 + up_to(1)}
    if kind == "paired":
        run = 1 + up_to(config.lanes // 2 - 1)
        entries |= {"paired_rows": 1, "run": run, "pair_step": config.lanes * (up_to(4) - 1), "input_rows": 1 + height}
        wild |= {"pair_step": up_to(40), "run": config.lanes // 2 + 1 + up_to(1)}
    chosen = rng.choice(list(wild), up_to(3), replace=False)
    return Instruction(**(entries | {name: wild[name] for name in chosen}))


def named_field(error: ZeropointError) -> str:
    match = re.match(r"program 'p', instruction 0: (\w+)", str(error))
    assert match is not None, str(error)
    return match[1]


def verdict(config: AcceleratorConfig, instruction: Instruction) -> str | None:
    """Return the field that the verifier blames, or None."""
    try:
        verify(program_of(instruction, config=config))
    except ZeropointError as error:
        return named_field(error)
    return None


FEATURES: dict[str, Callable[[Instruction], bool]] = {
    "swapped axes": lambda i: i.swap_axes == 1 and i.columns != i.rows,
    "a pooling window": lambda i: i.pool_rows * i.pool_columns > 1,
    "a window": lambda i: i.window == 1,
    "positions without output": lambda i: i.warmup > 0 and i.emit_every > 1,
    "rows that begin sooner than outputs follow": lambda i: (
        i.warmup + 1 < i.emit_every and i.columns > 1 and i.rows > 1
    ),
    "paired rows": lambda i: i.paired_rows == 1,
}

#: Of compiled programs also.
COMPILED = FEATURES | {
    "a table": lambda i: i.table > 0,
    "sums": lambda i: i.accumulate == Accumulate.PAIR and not i.pair_multiply,
    "products": lambda i: i.pair_multiply == 1,
}


@pytest.mark.parametrize("config", [CONFIG, WIDE], ids=["narrow", "wide"])
@pytest.mark.parametrize("seed", range(3))
def test_the_verifier_agrees_with_an_enumeration_of_every_cycle(seed: int, config: AcceleratorConfig) -> None:
    agree_with_enumeration(np.random.default_rng(seed), config, 500)


@pytest.mark.slow
@pytest.mark.parametrize("config", [CONFIG, WIDE], ids=["narrow", "wide"])
def test_the_verifier_agrees_with_a_long_enumeration(config: AcceleratorConfig) -> None:
    agree_with_enumeration(np.random.default_rng(99), config, 5_000)


def agree_with_enumeration(rng: np.random.Generator, config: AcceleratorConfig, count: int) -> None:
    blamed: Counter[str | None] = Counter()
    seen: Counter[tuple[str, bool]] = Counter()
    for _ in range(count):
        instruction = random_small(rng, config)
        faults = enumerate_faults(config, instruction)
        found = verdict(config, instruction)
        assert found in faults if faults else found is None, (found, faults, instruction)
        blamed[found] += 1
        seen.update((feature, found is None) for feature, has in FEATURES.items() if has(instruction))
    # Both verdicts, with every feature, and every kind of fault, have occurred often enough.
    assert min(seen[feature, good] for feature in FEATURES for good in (False, True)) >= 4, seen
    fields = ["idle", "output_channels", "weight_base", "parameter_base", "input_base", "output_base", "beats"]
    fields += ["parameters_shared", "columns", "window", "paired_rows", "pair_step"]
    assert min(blamed[field] for field in fields) >= 2, blamed


# One rule after the other, at its limit and just beyond

PLAIN = Instruction(end=1, run=2, row_bytes=2, output_base=90)


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        (
            {"input_base": 94, "output_base": 0},
            {"input_base": 95, "output_base": 0},
            "input_base: byte 96 is read, but the activation memory has 96 bytes",
        ),
        ({"output_base": 95}, {"output_base": 96}, "output_base: byte 96 is written, but the activation memory has 96"),
        ({"output_base": 2}, {"output_base": 1}, "output_base: byte 1 is written, but the same instruction reads it"),
        (
            {"output_base": 38, "output_channels": 2, "input_base": 40},
            {"output_base": 39, "output_channels": 2, "input_base": 40},
            "output_base: byte 40 is written, but the same instruction reads it",
        ),
        ({"weight_base": 39}, {"weight_base": 40}, "weight_base: weight words 40 to 40 are read, but the program has"),
        ({"parameter_base": 9}, {"parameter_base": 10}, "parameter_base: parameter words 10 to 10 are read, but the"),
        (
            {"beats": 2, "output_channels": 4},
            {"beats": 3, "output_channels": 6},
            "beats: 3 beats of 2 channels are more than the 4 columns of the array",
        ),
        (
            {"groups": 3, "output_channels": 5, "output_base": 60},
            {"groups": 3, "output_channels": 4, "output_base": 60},
            "output_channels must be 5 to 6 for 3 groups of 2, not 4",
        ),
        (
            {"groups": 3, "output_channels": 6, "output_base": 60},
            {"groups": 3, "output_channels": 7, "output_base": 60},
            "output_channels must be 5 to 6 for 3 groups of 2, not 7",
        ),
        (
            {"beats": 2, "output_channels": 3, "columns": 2, "idle": 1},
            {"beats": 2, "output_channels": 3, "columns": 2},
            "idle must be at least 1, so that 2 beats drain, not 0",
        ),
        (
            {"beats": 2, "output_channels": 3, "columns": 6, "emit_every": 2, "warmup": 1},
            {"beats": 2, "output_channels": 3, "columns": 5, "emit_every": 2, "rows": 2},
            "idle must be at least 1, so that 2 beats drain, not 0",
        ),
        (
            {"beats": 2, "output_channels": 3, "pool_columns": 2, "idle": 1},
            {"beats": 2, "output_channels": 3, "pool_rows": 2},
            "idle must be at least 1, so that 2 beats drain, not 0",
        ),
        (
            {"columns": 8, "warmup": 1, "emit_every": 3},
            {"columns": 7, "warmup": 1, "emit_every": 3},
            "columns must be 2 or a multiple of 3 more, so that the last position of a row brings an output, not 7",
        ),
        (
            {"columns": 3, "warmup": 2},
            {"columns": 2, "warmup": 2},
            "columns must be 3 or a multiple of 1 more, so that the last position of a row brings an output, not 2",
        ),
        (
            {},
            {"accumulate": Accumulate.PAIR},
            "parameters_shared must be 1 where operands are paired: sums come too late for parameters of their own",
        ),
        (
            {"accumulate": Accumulate.PAIR, "parameters_shared": 1, "pair_multiply": 1},
            {"accumulate": Accumulate.PAIR, "parameters_shared": 1, "pair_multiply": 1, "pair_shift": 1},
            "pair_shift must be 0 where operands are multiplied, not 1",
        ),
        ({"table": 2}, {"table": 3}, "table is 3, but the program has 2"),
        (
            {"window": 1, "run": 2},
            {"window": 1, "run": 3},
            "window: a run of 3 bytes is more than the 2 channels that the array keeps",
        ),
        (
            {"window": 1, "taps_y": 4, "taps_x": 4},
            {"window": 1, "taps_y": 17},
            "window: a position has 17 words, but the history keeps 16",
        ),
        (
            {"window": 1},
            {"window": 1, "pool_rows": 2, "pool_columns": 3},
            "window: there is none with a pooling window of 2 x 3",
        ),
        (
            {"paired_rows": 1, "run": 1},
            {"paired_rows": 1, "run": 2},
            "paired_rows: two runs of 2 bytes are more than the 2 lanes",
        ),
        (
            {"paired_rows": 1, "run": 1, "pair_step": -2},
            {"paired_rows": 1, "run": 1, "pair_step": 3},
            "pair_step must be a multiple of the 2 lanes, not 3",
        ),
        (
            {"paired_rows": 1, "run": 1, "input_rows": 2, "pair_step": 94, "output_base": 2},
            {"paired_rows": 1, "run": 1, "input_rows": 2, "pair_step": 96, "output_base": 2},
            "input_base: byte 97 is read, but the activation memory has 96 bytes",
        ),
        (
            {"paired_rows": 1, "run": 1, "row_bytes": 1, "input_rows": 1, "pair_step": 88, "output_base": 89},
            {"paired_rows": 1, "run": 1, "row_bytes": 1, "input_rows": 2, "pair_step": 88, "output_base": 89},
            "output_base: byte 89 is written, but the same instruction reads it",
        ),
        (
            {"columns": 4, "warmup": 3, "output_column_step": 50},
            {"columns": 5, "warmup": 3, "output_column_step": 50},
            "output_base: byte 140 is written, but the activation memory has 96 bytes",
        ),
        (
            {"columns": 3, "x_column_step": 2, "row_bytes": 6, "output_base": 6},
            {"rows": 3, "x_column_step": 2, "row_bytes": 6, "swap_axes": 1, "output_base": 5},
            "output_base: byte 5 is written, but the same instruction reads it",
        ),
        (
            {"y_first": 255 - 200 - 5 * 7, "rows": 201, "y_row_step": 1, "pool_rows": 6, "y_pool_step": 7},
            {"y_first": 256 - 200 - 5 * 7, "columns": 201, "y_row_step": 1, "pool_rows": 6, "y_pool_step": 7}
            | {"swap_axes": 1},
            "y_first: kernel rows lie in rows 21 to 256, but these are -256 to 255",
        ),
        (
            {"rows": 256, "y_row_step": 1, "input_rows": 1},
            {"rows": 256, "y_row_step": 1, "input_rows": 1, "y_first": 1},
            "y_first: kernel rows lie in rows 1 to 256, but these are -256 to 255",
        ),
        (
            {"rows": 256},
            {"rows": 257},
            "rows: 257 turns are more than the 256 that this configuration counts",
        ),
        (
            {"x_first": 254},
            {"x_first": 255},
            "x_first: taps lie in bytes 255 to 256 of a row, but these are -256 to 255",
        ),
        (
            {"row_bytes": 254},
            {"row_bytes": 255},
            "row_bytes: a row of 255 bytes is more than the 254 that this configuration counts",
        ),
        (
            {"clamp_low": -128, "clamp_high": -128},
            {"clamp_low": 1, "clamp_high": 0},
            "clamp_low and clamp_high must be in order and from -128 to 255, not 1 and 0",
        ),
        (
            {"clamp_low": 0, "clamp_high": 255},
            {"clamp_low": 0, "clamp_high": 256},
            "clamp_low and clamp_high must be in order and from -128 to 255, not 0 and 256",
        ),
        (
            {"weight_zero_point": -128},
            {"weight_zero_point": 128},
            "weight_zero_point must be -128 to 127, as its type has it, not 128",
        ),
        (
            {"weight_zero_point": 255, "weights_unsigned": 1},
            {"weight_zero_point": -1, "weights_unsigned": 1},
            "weight_zero_point must be 0 to 255, as its type has it, not -1",
        ),
        (
            {"input_zero_point": 128, "input_unsigned": 1},
            {"input_zero_point": 128},
            "input_zero_point must be -128 to 127, as its type has it, not 128",
        ),
        ({}, {"end": 0}, "end is 0, but must be 1 in the last instruction and 0 in all others"),
    ],
)
def test_a_rule_holds_up_to_its_limit(good: dict[str, int], bad: dict[str, int], message: str) -> None:
    verify(program_of(replace(PLAIN, **good)))
    with pytest.raises(ZeropointError, match=f"^program 'p', instruction 0: {re.escape(message)}"):
        verify(program_of(replace(PLAIN, **bad)))


def test_the_end_comes_last_and_once() -> None:
    middle = replace(PLAIN, end=0)
    verify(program_of(middle, middle, PLAIN))
    with pytest.raises(ZeropointError, match="instruction 1: end is 1, but must be 1 in the last"):
        verify(program_of(middle, PLAIN, PLAIN))


def test_weights_per_tap_use_the_words_of_one_tap() -> None:
    many = replace(PLAIN, taps_y=5, taps_x=5, run=3, weight_base=38, weights_per_tap=1)
    verify(program_of(many))
    with pytest.raises(ZeropointError, match="weight words 38 to 87 are read, but the program has 40"):
        verify(program_of(replace(many, weights_per_tap=0)))


def test_the_largest_loops_are_verified_in_no_time() -> None:
    huge = replace(
        PLAIN,
        rows=256,
        columns=256,
        groups=256,
        taps_y=256,
        taps_x=4096,
        run=1,
        beats=1,
        output_channels=65535,
        weights_per_tap=1,
        parameters_shared=1,
    )
    with pytest.raises(ZeropointError, match="output_channels must be 511 to 512"):
        verify(program_of(huge))
    verify(program_of(replace(huge, groups=1, output_channels=1)))


def test_weights_begin_again_at_every_output_of_a_pooling_window() -> None:
    pooled = replace(PLAIN, taps_y=3, pool_rows=16, pool_columns=16, weight_base=37)
    verify(program_of(pooled))
    with pytest.raises(ZeropointError, match="weight words 38 to 40 are read, but the program has 40"):
        verify(program_of(replace(pooled, weight_base=38)))


def test_a_window_needs_a_history() -> None:
    window = replace(PLAIN, window=1)
    verify(program_of(window))
    with pytest.raises(ZeropointError, match="window is 1, but the configuration has window_taps = 1"):
        verify(program_of(window, config=replace(CONFIG, window_taps=1)))


def test_two_operands_need_pair_scalers() -> None:
    paired = replace(PLAIN, accumulate=Accumulate.PAIR, parameters_shared=1)
    verify(program_of(paired))
    with pytest.raises(ZeropointError, match="it works on two tensors, but the configuration has elementwise = false"):
        verify(program_of(paired, config=replace(CONFIG, elementwise=False)))


def test_a_left_shift_needs_requantizers_that_have_one() -> None:
    shifts = np.arange(-20, 0, dtype=np.int8)
    without = replace(CONFIG, left_shift=False)
    for shift in (0, 1):
        shifts[7] = shift
        rest = np.zeros(CHANNELS, np.int32)
        parameters = Parameters(rest, rest.astype(np.uint32), shifts)
        verify(program_of(PLAIN, parameters=parameters))
        if shift == 0:
            verify(program_of(PLAIN, parameters=parameters, config=without))
    with pytest.raises(
        ZeropointError, match=r"^program 'p' shifts left, but the configuration has left_shift = false$"
    ):
        verify(program_of(PLAIN, parameters=parameters, config=without))


def test_a_table_needs_a_program_that_fills_it() -> None:
    none = np.zeros((0, 256), np.uint8)
    verify(program_of(PLAIN, tables=none, config=replace(CONFIG, tables=0)))
    with pytest.raises(ZeropointError, match="instruction 0: table is 1, but the program has 0"):
        verify(program_of(replace(PLAIN, table=1), tables=none))


def test_an_instruction_is_named_with_its_layer() -> None:
    program = make_program()
    with pytest.raises(ZeropointError, match=r"^program 'a network', instruction 0 \(conv\): "):
        verify(program)


# Compiled programs

SIZES = [(8, 8, "mac", 0), (2, 4, "fold", 2), (4, 1, "mac", 1), (16, 8, "fold", 4), (8, 8, "mac", 1)]


def config_of(lanes: int, columns: int, pe: str, window_taps: int) -> AcceleratorConfig:
    kind = PEKind(pe)
    sizes = {"lanes": lanes, "columns": columns, "window_taps": window_taps}
    return AcceleratorConfig(**sizes, pe=kind, weight_bytes=1 << 20, parameter_channels=1 << 12)


def models() -> Iterator[QuantizedModel]:
    for seed in shown(range(8)):
        yield random_model(seed)
        yield random_model(seed, more=True)
    for seed in shown(range(12)):
        yield first_layers(seed)


def first_layers(seed: int) -> QuantizedModel:
    """Return a network that begins as real ones do: few channels, then pooling, then depthwise convolutions."""
    rng = np.random.default_rng(seed)
    builder = ModelBuilder(rng)

    def near(most: int) -> int:
        return int(rng.integers(0, most + 1))

    source = builder.input(9 + near(8), 9 + near(8), 1 + seed % 4)
    kernel = (1 + near(3), 1 + near(3))
    current = builder.conv(source, 1 + near(20), kernel, padding=Padding(near(1), near(1), near(1), near(1)))
    current = builder.max_pool(current, pool := (1 + near(1), 1 + near(2)), stride=pool)
    for _ in range(2):
        kernel, stride = (1 + near(2), 1 + near(2)), (1 + near(1), 1 + near(1))
        pads = [near(kernel[axis] - 1) for axis in (0, 0, 1, 1)]
        current = builder.depthwise(current, kernel, stride=stride, padding=Padding(*pads))
    return builder.build(builder.fully_connected(current, 5))


def test_compiled_programs_pass_and_damaged_ones_do_not() -> None:
    damaged = noticed = 0
    used: Counter[str] = Counter()
    for model in models():
        for size in SIZES:
            program = compile_model(model, config_of(*size))
            verify(program)
            verify(compile_model(model, program.config, fuse=False))
            assert len(program.layers) > 0
            used.update(feature for feature, has in COMPILED.items() if any(map(has, program.instructions)))
            used["pitched rows"] += any(b.size > prod(b.shape) for b in program.tensors.values())
            last = program.instructions[-1]
            end = program.config.activation_bytes
            for change in (
                {"output_base": end - last.output_channels + 1},
                {"output_base": last.input_base},
                {"weight_base": len(program.weights)},
                {"parameter_base": len(program.parameters) // program.config.requantizers},
                {"end": 0},
            ):
                damaged += 1
                with pytest.raises(ZeropointError, match="instruction"):
                    verify(replace(program, instructions=(*program.instructions[:-1], replace(last, **change))))
                noticed += 1
    assert damaged == noticed == 28 * len(SIZES) * 5
    assert min(used[feature] for feature in (*COMPILED, "pitched rows")) >= 3, used


def test_a_row_that_begins_before_the_last_output_has_drained_is_seen() -> None:
    """Two taps, stride two, one column of padding: a row's first position brings an output already."""
    builder = ModelBuilder(np.random.default_rng(0))
    source = builder.input(3, 6, 8)
    model = builder.build(builder.depthwise(source, (1, 2), stride=(1, 2), padding=Padding(0, 0, 1, 0)))
    program = compile_model(model, AcceleratorConfig(requantizers=2))
    (only,) = program.instructions
    assert (only.window, only.warmup, only.emit_every, only.beats, only.idle) == (1, 0, 2, 4, 3)
    verify(program)
    with pytest.raises(ZeropointError, match="idle must be at least 3, so that 4 beats drain, not 2"):
        verify(replace(program, instructions=(replace(only, idle=2),)))
