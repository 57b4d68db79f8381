"""A listing says everything about a program: reading it back gives the same words."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.programs import make_program, random_instruction

from zeropoint.compiler.disassemble import assemble, disassemble
from zeropoint.compiler.program import Layer
from zeropoint.errors import ZeropointError
from zeropoint_hw.isa import FIELDS, Accumulate, Instruction, Round

POOL = Instruction(
    accumulate=Accumulate.MAX,
    rounding=Round.SINGLE,
    groups=2,
    rows=3,
    columns=4,
    taps_y=2,
    taps_x=2,
    run=8,
    beats=2,
    output_channels=16,
    input_base=-40,
    y_first=-1,
    end=1,
)


def test_a_block_reads_well() -> None:
    text = disassemble([POOL], [Layer("pool/1", "MaxPool2D", "y", 0, 1, 0)])
    assert text == (
        "instruction 0 · pool/1 (MaxPool2D)\n"
        "  ; maxima: 2 groups of output channels, 3 rows, 4 columns; 16 channels written, 2 beats an output\n"
        "  ; each from 2 kernel rows of 2 taps of 8 bytes\n"
        "  end                  = 1\n"
        "  accumulate           = MAX\n"
        "  rounding             = SINGLE\n"
        "  beats                = 2\n"
        "  groups               = 2\n"
        "  rows                 = 3\n"
        "  columns              = 4\n"
        "  taps_y               = 2\n"
        "  taps_x               = 2\n"
        "  run                  = 8\n"
        "  input_base           = -40\n"
        "  y_first              = -1\n"
        "  output_channels      = 16\n"
        "  word     0: 0000000B 00000020 00000000 007FFF80 00020001 00010003 00007001 000FFFD8\n"
        "  word     8: 00000000 00000000 00000000 0000FFFF 00000000 00000001 00000000 00000000\n"
        "  word    16: 00000000 00000000 00000000 00000000 00000001 00000000 00100000 00000000\n"
        "  word    24: 00000000 00000000 00000000 00000000 00000000\n"
    )


def test_a_block_says_how_a_depthwise_window_moves() -> None:
    sweep = Instruction(window=1, swap_axes=1, warmup=2, emit_every=2, rows=5, columns=9, taps_x=3, run=8)
    assert comments(sweep) == [
        "sums of products: 1 group of output channels, 5 columns, 9 positions; 1 channel written, 1 beat an output",
        "each from 1 kernel row of 3 taps of 8 bytes",
        "down the feature map, an output after 3 positions and after every 2 positions",
        "the lanes hold the latest positions' activations",
    ]


def test_a_block_says_which_rows_go_together_and_what_is_pooled() -> None:
    first = Instruction(paired_rows=1, pool_rows=2, pool_columns=3, taps_y=2, run=3, output_channels=9, beats=2)
    assert comments(first) == [
        "sums of products: 1 group of output channels, 1 row, 1 column; 9 channels written, 2 beats an output",
        "each from 2 pairs of kernel rows of 1 tap of 3 bytes",
        "the greatest of 2 x 3 outputs is written",
    ]


def test_a_block_says_how_two_tensors_meet_and_what_is_looked_up() -> None:
    rest = "1 group of output channels, 1 row, 1 column; 1 channel written, 1 beat an output"
    pair = Instruction(accumulate=Accumulate.PAIR, taps_y=2)
    each = "each from 2 kernel rows of 1 tap of 1 byte"
    assert comments(pair) == [f"sums of two tensors: {rest}", each]
    assert comments(replace(pair, pair_multiply=1, table=3)) == [
        f"products of two tensors: {rest}",
        each,
        "each result is looked up in table 3",
    ]


def comments(instruction: Instruction) -> list[str]:
    return re.findall(r"^  ; (.*)$", disassemble([instruction]), re.MULTILINE)


def test_instructions_know_their_layers() -> None:
    program = make_program()
    titles = re.findall("^instruction .*", disassemble(program.instructions, program.layers), re.MULTILINE)
    assert titles == [
        "instruction 0 · conv (Conv2D), part 1 of 2",
        "instruction 1 · conv (Conv2D), part 2 of 2",
        "instruction 2 · dense (FullyConnected), part 1 of 3",
        "instruction 3 · dense (FullyConnected), part 2 of 3",
        "instruction 4 · dense (FullyConnected), part 3 of 3",
    ]


def test_every_value_in_a_listing_encodes_to_the_same_words() -> None:
    rng = np.random.default_rng(7)
    instructions = [random_instruction(rng) for _ in range(100)]
    back = assemble(disassemble(instructions))
    assert [instruction.encode() for instruction in back] == [instruction.encode() for instruction in instructions]


@pytest.mark.parametrize("field", [field.name for field in FIELDS])
def test_a_listing_shows_a_field_that_differs_from_its_default_and_no_other(field: str) -> None:
    defaults = Instruction()
    # Counts begin at 1; every other field holds 2, and those of one bit hold 1 (or 0, where that is the default).
    value = next(value for value in (2, 1, 0) if value != getattr(defaults, field) and fits(field, value))
    listing = disassemble([Instruction(**{field: value})])
    assert re.findall(r"^  (\w+) +=", listing, re.MULTILINE) == [field]
    assert re.findall(r"^  \w+ +=", disassemble([defaults]), re.MULTILINE) == []


def fits(field: str, value: int) -> bool:
    try:
        Instruction(**{field: value})
    except ValueError:
        return False
    return True


def test_a_listing_whose_fields_and_words_differ_is_refused() -> None:
    listing = disassemble([POOL, POOL])
    assert assemble(listing) == (POOL, POOL)
    changed = listing.replace("run                  = 8", "run                  = 9", 1)
    with pytest.raises(ZeropointError, match="listing, instruction 0: its words do not encode its fields"):
        assemble(changed)
    changed = listing[::-1].replace("1", "3", 1)[::-1]
    with pytest.raises(ZeropointError, match="listing, instruction 1: its words do not encode its fields"):
        assemble(changed)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("= MAX", "= MIN", "line 5: '  accumulate           = MIN' is neither"),
        ("  run  ", "  rum  ", "line 13: "),
        ("  taps_y   ", "  taps_x   ", "line 12: "),
        ("= 8", "= x", "line 13: "),
        ("run                  = 8", "run                  = 0", "instruction 0: instruction field run holds 0 to"),
        ("instruction 0", "; instruction", "line 4: '  end                  = 1' is neither"),
    ],
)
def test_a_listing_that_is_none_is_refused(old: str, new: str, message: str) -> None:
    with pytest.raises(ZeropointError, match=re.escape(message)):
        assemble(disassemble([POOL]).replace(old, new, 1))


def test_the_listings_in_the_documentation_are_such() -> None:
    document = (Path(__file__).parents[3] / "docs" / "isa.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```text\n(instruction .*?)^```", document, re.MULTILINE | re.DOTALL)
    found = assemble("\n".join(blocks))
    layers = [Layer("conv", "Conv2D+MaxPool2D", "a", 0, 1, 0), Layer("depthwise", "DepthwiseConv2D", "b", 1, 1, 0)]
    assert disassemble(found, layers) == "\n".join(blocks)
    assert [(i.paired_rows, i.window, i.pool_rows) for i in found] == [(1, 0, 2), (0, 1, 1)]
