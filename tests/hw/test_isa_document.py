"""docs/isa.md says what zeropoint_hw.isa says."""

import re
import subprocess
import sys
from enum import IntEnum
from pathlib import Path

import pytest

from zeropoint_hw.isa import FIELDS, INSTRUCTION_WORDS, Accumulate, Command, Gate, LogEntry, Region, Register, Round

DOCUMENT = (Path(__file__).parents[2] / "docs" / "isa.md").read_text(encoding="utf-8")


def tables(document: str) -> dict[str, str]:
    """The tables of a Markdown text, by their first column's title."""
    return {match[1]: match[0] for match in re.finditer(r"^\| ([\w ]+) \|.*\n(?:\|.*\n)+", document, re.MULTILINE)}


def test_the_table_of_fields_is_what_the_command_prints() -> None:
    command = [sys.executable, "-X", "utf8", "-m", "zeropoint_hw.isa"]
    printed = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout
    assert tables(DOCUMENT)["field"] == printed
    assert re.findall(r"^\| `(\w+)`", printed, re.MULTILINE) == [field.name for field in FIELDS]


@pytest.mark.parametrize(
    ("title", "codes"),
    [("region", Region), ("register", Register), ("command", Command), ("log entry", LogEntry)],
)
def test_the_address_map_is_that_of_the_hardware(title: str, codes: type[IntEnum]) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", tables(DOCUMENT)[title], re.MULTILINE)
    assert rows == [(code.name, str(int(code))) for code in codes]


def test_every_code_of_an_instruction_is_explained() -> None:
    rows = re.findall(r"^\| `([A-Z]+)` \| (\d+) \|", DOCUMENT.split("## Fields")[0], re.MULTILINE)
    assert rows == [(code.name, str(int(code))) for codes in (Gate, Accumulate, Round) for code in codes]


def test_the_size_of_an_instruction_is_right() -> None:
    assert f"each {INSTRUCTION_WORDS} words of 32 bits" in DOCUMENT
