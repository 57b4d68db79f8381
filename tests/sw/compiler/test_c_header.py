"""A C compiler finds in the header what the program holds."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.programs import make_program

from zeropoint.compiler.c_header import c_header
from zeropoint.compiler.program import Buffer, Program
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import LogEntry, Region, Register, address

COMPILER = shutil.which("cc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler (cc)")

PRINT = r"""
#include <stdio.h>
#include "program.h"
#include "program.h"
static void bytes(const char *name, const void *data, unsigned long size) {
    printf("\"%s\": [", name);
    for (unsigned long i = 0; i < size; i++) printf("%s%u", i ? "," : "", ((const unsigned char *)data)[i]);
    printf("],\n");
}
int main(void) {
    printf("{");
    bytes("program", NAME_program, sizeof NAME_program);
    bytes("weights", NAME_weights, sizeof NAME_weights);
    bytes("parameters", NAME_parameters, sizeof NAME_parameters);
#if PREFIX_TABLES
    bytes("tables", NAME_tables, sizeof NAME_tables);
#endif
    printf("\"figures\": [%d,%d,%d,%d,%d,%d,%d,%d,%d],", PREFIX_LANES, PREFIX_COLUMNS, PREFIX_REQUANTIZERS,
           PREFIX_INSTRUCTIONS, PREFIX_LAYERS, PREFIX_MACS, PREFIX_WEIGHTS_DEPTH, PREFIX_LOG_ENTRIES,
           PREFIX_TABLES * ZEROPOINT_TABLE_ENTRIES);
    printf("\"input\": [%d,%d,%d,%d,%d,%d,%.17g,%d],", PREFIX_INPUT_ADDRESS, PREFIX_INPUT_BYTES, PREFIX_INPUT_ROWS,
           PREFIX_INPUT_ROW_BYTES, PREFIX_INPUT_ROW_PITCH, PREFIX_INPUT_SIGNED, PREFIX_INPUT_SCALE,
           PREFIX_INPUT_ZERO_POINT);
    printf("\"output\": [%d,%d,%d,%d,%d,%d,%.17g,%d],", PREFIX_OUTPUT_ADDRESS, PREFIX_OUTPUT_BYTES,
           PREFIX_OUTPUT_ROWS, PREFIX_OUTPUT_ROW_BYTES, PREFIX_OUTPUT_ROW_PITCH, PREFIX_OUTPUT_SIGNED,
           PREFIX_OUTPUT_SCALE, PREFIX_OUTPUT_ZERO_POINT);
    printf("\"addresses\": [%u,%u,%u,%u]}", ZEROPOINT_REGION_CONTROL | ZEROPOINT_REGISTER_CYCLES,
           ZEROPOINT_REGION_ACTIVATIONS | 77u, ZEROPOINT_REGION_LOG | ZEROPOINT_LOG_STALL_DRAIN,
           ZEROPOINT_REGION_TABLES | 257u);
    return 0;
}
"""


def printed(folder: Path, header: str, name: str) -> dict:
    """Compile a program that prints all of a header, and return what it prints."""
    assert COMPILER is not None
    (folder / "program.h").write_text(header)
    (folder / "print.c").write_text(PRINT.replace("NAME", name).replace("PREFIX", name.upper()))
    subprocess.run(
        [COMPILER, "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "print.c", "-o", "print"],
        cwd=folder,
        check=True,
    )
    return json.loads(subprocess.run(["./print"], cwd=folder, check=True, capture_output=True).stdout)


def buffer_figures(buffer: Buffer) -> list[float]:
    rows = [buffer.rows, buffer.row_bytes, buffer.row_pitch]
    return [buffer.address, buffer.size, *rows, buffer.dtype == "int8", buffer.scale, buffer.zero_point]


def sized(lanes: int, columns: int) -> Program:
    config = AcceleratorConfig(lanes=lanes, columns=columns, weight_bytes=80 * lanes * columns)
    weights = np.random.default_rng(3).integers(0, 256, (19, lanes * columns), dtype=np.uint8)
    gapped = Buffer("input", 1, (4, 5, 3), "int8", 0.1, -128, row_pitch=19)
    tensors = {**make_program().tensors, "input": gapped}
    return make_program(config=config, weights=weights, input=gapped, tensors=tensors)


@needs_compiler
@pytest.mark.parametrize(("lanes", "columns"), [(1, 1), (2, 1), (4, 1), (4, 2), (4, 4), (8, 8)])
def test_a_c_compiler_finds_every_byte_and_figure(tmp_path: Path, lanes: int, columns: int) -> None:
    program = sized(lanes, columns)
    found = printed(tmp_path, c_header(program), "a_network")
    for image in program.images:
        # Bytes as they lie in the memory of a little-endian machine, which is where tests run.
        np.testing.assert_array_equal(found[image.name], image.words.reshape(-1))
    config = program.config
    assert found["figures"] == [lanes, columns, config.requantizers, 5, 2, program.macs, 19, 2048 // 29, 512]
    assert found["input"] == buffer_figures(program.input) == [1, 72, 4, 15, 19, True, 0.1, -128]
    assert found["output"] == buffer_figures(program.output)
    assert found["addresses"] == [
        address(Region.CONTROL, Register.CYCLES),
        address(Region.ACTIVATIONS, 77),
        address(Region.LOG, LogEntry.STALL_DRAIN),
        address(Region.TABLES, 257),
    ]


@needs_compiler
def test_the_header_of_a_program_without_tables_has_none(tmp_path: Path) -> None:
    program = make_program(tables=np.zeros((0, 256), np.uint8))
    found = printed(tmp_path, c_header(program), "a_network")
    assert "tables" not in found
    assert found["figures"][-1] == 0


@needs_compiler
@pytest.mark.parametrize(
    ("name", "identifier"),
    [
        ("*/ x \\", "x"),
        ("8 bit", "program_8_bit"),
        ("模型", "program"),
        ("__A-b__", "a_b"),
        ("int", "int"),
        ("??/", "program"),
    ],
)
def test_any_name_of_a_model_makes_a_header_that_compiles(tmp_path: Path, name: str, identifier: str) -> None:
    program = make_program(name=name)
    np.testing.assert_array_equal(
        printed(tmp_path, c_header(program), identifier)["weights"], program.weights.reshape(-1)
    )


@needs_compiler
def test_the_headers_of_two_programs_go_together(tmp_path: Path) -> None:
    assert COMPILER is not None
    for name in ("one", "two"):
        (tmp_path / f"{name}.h").write_text(c_header(make_program(name=name)))
    (tmp_path / "both.c").write_text(
        '#include "one.h"\n#include "two.h"\nint main(void) { return one_program[0] != two_program[0]; }\n'
    )
    subprocess.run([COMPILER, "-std=c99", "both.c", "-o", "both"], cwd=tmp_path, check=True)
    subprocess.run(["./both"], cwd=tmp_path, check=True)
