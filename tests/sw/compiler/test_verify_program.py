"""The static verifier agrees with an enumeration of every cycle."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.programs import make_program, random_parameters
from support.random_models import random_model

from zeropoint.compiler.compile import compile_model
from zeropoint.compiler.program import Program
from zeropoint.compiler.verify_program import verify
from zeropoint.errors import ZeropointError
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import Instruction

CONFIG = AcceleratorConfig(
    lanes=2, columns=4, requantizers=2, activation_bytes=96, weight_bytes=8 * 200, parameter_channels=40
)
WORDS, CHANNELS = 40, 20


def program_of(*instructions: Instruction, **changes: Any) -> Program:
    rng = np.random.default_rng(0)
    entries: dict[str, Any] = {
        "config": CONFIG,
        "name": "p",
        "weights": rng.integers(0, 256, (WORDS, 8), dtype=np.uint8),
        "parameters": random_parameters(rng, CHANNELS),
        "layers": (),
        "host_steps": (),
    }
    return make_program(instructions=instructions, **(entries | changes))


def enumerate_faults(i: Instruction) -> set[str]:
    """Go through an instruction cycle by cycle, and return the fields with which something is wrong."""
    faults: set[str] = set()
    reads: set[int] = set()
    writes: set[int] = set()
    channels_left = i.output_channels
    word = i.weight_base
    for group in range(i.groups):
        first_word = i.weight_base if i.weights_per_tap else word
        group_channels = min(i.beats * CONFIG.requantizers, channels_left)
        if group_channels <= 0:
            faults.add("output_channels")
        for row in range(i.rows):
            for column in range(i.columns):
                word = first_word
                cycles = 0
                for tap_y in range(i.taps_y):
                    for tap_x in range(i.taps_x):
                        if i.weights_per_tap:
                            word = i.weight_base
                        done = 0
                        while done < i.run:
                            if not word < WORDS:
                                faults.add("weight_base")
                            reads |= lanes_read(i, group, row, column, tap_y, tap_x, done)
                            word += 1
                            cycles += 1
                            done += CONFIG.lanes
                if cycles + i.idle < i.beats:
                    faults.add("idle")
                left = group_channels
                for beat in range(i.beats):
                    if beat * CONFIG.requantizers >= CONFIG.columns:
                        faults.add("beats")
                    parameter = i.parameter_base + (0 if i.parameters_shared else group * i.beats + beat)
                    if left > 0 and not parameter < CHANNELS // CONFIG.requantizers:
                        faults.add("parameter_base")
                    address = (
                        i.output_base
                        + group * i.output_group_step
                        + row * i.output_row_step
                        + column * i.output_column_step
                        + beat * CONFIG.requantizers
                    )
                    writes |= {address + lane for lane in range(min(left, CONFIG.requantizers))}
                    left -= CONFIG.requantizers
        channels_left -= i.beats * CONFIG.requantizers
    if channels_left > 0:
        faults.add("output_channels")
    if any(address >= CONFIG.activation_bytes for address in reads):
        faults.add("input_base")
    if any(address >= CONFIG.activation_bytes for address in writes) or reads & writes:
        faults.add("output_base")
    return faults


def lanes_read(i: Instruction, group: int, row: int, column: int, tap_y: int, tap_x: int, done: int) -> set[int]:
    """Return the addresses that the lanes read which are not masked out."""
    y = i.y_first + row * i.y_row_step + tap_y * i.y_tap_step
    base = (i.input_base + row * i.input_row_step + tap_y * i.input_tap_step) % (1 << 20)
    found = set()
    for lane in range(CONFIG.lanes):
        x = i.x_first + group * i.x_group_step + column * i.x_column_step + tap_x * i.x_tap_step + done + lane
        if done + lane < i.run and 0 <= x < i.row_bytes and 0 <= y < i.input_rows:
            found.add(base + x)
    return found


def random_small(rng: np.random.Generator) -> Instruction:
    """Return an instruction that touches few bytes: a window over a map most of the time, sometimes anything."""

    def up_to(most: int) -> int:
        return int(rng.integers(0, most + 1))

    channels, width, height = 1 + up_to(5), 1 + up_to(3), 1 + up_to(3)
    pad_y, pad_x = up_to(1), up_to(1)
    address = up_to(30)
    groups, beats = 1 + up_to(2), 1 + up_to(1)
    least = (groups - 1) * beats * CONFIG.requantizers + 1
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
        "output_channels": least + up_to(beats * CONFIG.requantizers - 1),
        "output_base": 55 + up_to(20),
        "output_group_step": up_to(4),
        "output_column_step": up_to(5),
        "output_row_step": up_to(9),
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
    }
    chosen = rng.choice(list(wild), up_to(3), replace=False)
    return Instruction(**(entries | {name: wild[name] for name in chosen}))


def named_field(error: ZeropointError) -> str:
    match = re.match(r"program 'p', instruction 0: (\w+)", str(error))
    assert match is not None, str(error)
    return match[1]


def verdict(instruction: Instruction) -> str | None:
    """Return the field that the verifier blames, or None."""
    try:
        verify(program_of(instruction))
    except ZeropointError as error:
        return named_field(error)
    return None


@pytest.mark.parametrize("seed", range(4))
def test_the_verifier_agrees_with_an_enumeration_of_every_cycle(seed: int) -> None:
    rng = np.random.default_rng(seed)
    blamed: dict[str | None, int] = {}
    for _ in range(250):
        instruction = random_small(rng)
        faults = enumerate_faults(instruction)
        found = verdict(instruction)
        assert found in faults if faults else found is None, (found, faults, instruction)
        blamed[found] = blamed.get(found, 0) + 1
    # Both verdicts, and every kind of fault, have occurred often enough.
    assert blamed[None] > 50
    for field in ("idle", "beats", "output_channels", "weight_base", "parameter_base", "input_base", "output_base"):
        assert blamed[field] >= 2, blamed


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
            {"beats": 2, "output_channels": 4, "idle": 1},
            {"beats": 3, "output_channels": 6, "idle": 2},
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
        ({"beats": 2, "output_channels": 3, "idle": 1}, {"beats": 2, "output_channels": 3}, "idle must be at least 1"),
        (
            {"rows": 65536, "y_row_step": 1, "input_rows": 1},
            {"rows": 65536, "y_row_step": 1, "input_rows": 1, "y_first": 1},
            "y_first: the last kernel row lies in row 65536, but rows are counted up to 65535",
        ),
        (
            {"x_first": (1 << 20) - 2},
            {"x_first": (1 << 20) - 1},
            "x_first: the last tap ends at byte 1048576 of a row, but these are counted up to 1048575",
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
        rows=65536,
        columns=65536,
        groups=65536,
        taps_y=256,
        taps_x=4096,
        run=1,
        beats=1,
        output_channels=65535,
        weights_per_tap=1,
        parameters_shared=1,
    )
    with pytest.raises(ZeropointError, match="output_channels must be 131071 to 131072"):
        verify(program_of(huge))
    verify(program_of(replace(huge, groups=1, output_channels=1)))


def test_an_instruction_is_named_with_its_layer() -> None:
    program = make_program()
    with pytest.raises(ZeropointError, match=r"^program 'a network', instruction 0 \(conv\): "):
        verify(program)


# Compiled programs


def compiled() -> Iterator[Program]:
    for seed in range(8):
        for lanes, columns, pe in ((8, 8, "mac"), (2, 4, "fold"), (4, 1, "mac")):
            config = AcceleratorConfig(
                lanes=lanes, columns=columns, pe=pe, weight_bytes=1 << 20, parameter_channels=1 << 12
            )
            yield compile_model(random_model(seed), config)


def test_compiled_programs_pass_and_damaged_ones_do_not() -> None:
    damaged = noticed = 0
    for program in compiled():
        verify(program)
        assert len(program.layers) > 0
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
    assert damaged == noticed == 8 * 3 * 5
