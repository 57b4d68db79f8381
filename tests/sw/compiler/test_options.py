"""Configurations from TOML files and options, and what is said about wrong ones."""

import json
import re
from pathlib import Path

import pytest

from zeropoint.compiler.options import load_config
from zeropoint.errors import ZeropointError
from zeropoint_hw.config import AcceleratorConfig


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "c.toml"
    path.write_text(text)
    return path


def test_nothing_given_is_the_default() -> None:
    assert load_config(None, {}) == AcceleratorConfig()
    assert load_config(None) == AcceleratorConfig()


@pytest.mark.parametrize("head", ["", "[accelerator]\n"])
def test_a_file_gives_the_fields_that_it_names(tmp_path: Path, head: str) -> None:
    path = toml(tmp_path, head + 'lanes = 16\npe = "fold"\nactivation_bytes = 0x8000\n')
    assert load_config(path) == AcceleratorConfig(lanes=16, pe="fold", activation_bytes=32768)


def test_options_count_before_the_file_and_none_is_not_given(tmp_path: Path) -> None:
    path = toml(tmp_path, "lanes = 16\ncolumns = 4\n")
    config = load_config(path, {"lanes": 32, "columns": None, "pe": "fold"})
    assert config == AcceleratorConfig(lanes=32, columns=4, pe="fold")


def test_every_field_of_a_configuration_can_be_written_to_a_file(tmp_path: Path) -> None:
    config = AcceleratorConfig(lanes=4, columns=16, requantizers=2, pe="fold", weight_bytes=64 * 100, program_words=99)
    lines = [f"{key} = {json.dumps(value)}" for key, value in config.to_dict().items()]
    assert load_config(toml(tmp_path, "\n".join(lines))) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lanes = 3", "lanes must be a power of two from 1 to 64, not 3"),
        ('lanes = "8"', "lanes must be an integer, not '8'"),
        ("lanes = true", "lanes must be an integer, not True"),
        ("lanes = 8.0", "lanes must be an integer, not 8.0"),
        ('pe = "systolic"', "pe must be one of mac, fold, shift, mixed, minifloat, not 'systolic'"),
        ("pe = 1", "pe must be one of mac, fold, shift, mixed, minifloat, not 1"),
        (
            "lane = 8",
            "'lane' is unknown; there are lanes, columns, requantizers, requantizer, digit_bits, pe, ",
        ),
        ("lanes = 8\nlanes = 8", "it is not TOML: Cannot overwrite a value"),
        ("lanes 8", "it is not TOML: "),
        ("columns = 8\n[accelerator]\nlanes = 8", "columns must be in the table [accelerator], or left out"),
        ("accelerator = 8", "accelerator must be a table, [accelerator]"),
        ("[accelerator]\n[accelerator.lanes]", "lanes must be an integer, not {}"),
        ("[board]", "'board' is unknown; there are lanes"),
    ],
)
def test_a_wrong_entry_is_named_with_its_file_and_what_is_allowed(tmp_path: Path, text: str, message: str) -> None:
    path = toml(tmp_path, text)
    with pytest.raises(ZeropointError, match=re.escape(f"'{path}': {message}")) as info:
        load_config(path)
    assert "\n" not in str(info.value)


def test_a_wrong_option_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    path = toml(tmp_path, "lanes = 8")
    with pytest.raises(ZeropointError, match=r"^configuration: lanes must be a power of two from 1 to 64, not 5$"):
        load_config(path, {"lanes": 5})
    with pytest.raises(ZeropointError, match=r"^configuration option 'colums' is unknown; there are lanes"):
        load_config(path, {"colums": 5})


def test_a_field_of_the_file_that_options_make_wrong_is_still_named_with_its_file(tmp_path: Path) -> None:
    path = toml(tmp_path, "requantizers = 8")
    message = rf"^'{re.escape(str(path))}': requantizers must be a power of two up to min\(lanes, columns\) = 4, not 8$"
    with pytest.raises(ZeropointError, match=message):
        load_config(path, {"lanes": 4})


@pytest.mark.parametrize("lanes", [1, 8, 64])
@pytest.mark.parametrize("columns", [1, 8, 64])
def test_the_defaults_suit_every_array(lanes: int, columns: int) -> None:
    assert load_config(None, {"lanes": lanes, "columns": columns}).multipliers == lanes * columns


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ZeropointError, match=r"cannot read '.*missing\.toml': No such file"):
        load_config(tmp_path / "missing.toml")
    large = toml(tmp_path, "#" * (1 << 17))
    with pytest.raises(ZeropointError, match=r"c\.toml': it is longer than 65536 bytes"):
        load_config(large)
    large.write_bytes(b"\xff\xfe")
    with pytest.raises(ZeropointError, match=r"c\.toml': it is not TOML: 'utf-8'"):
        load_config(large)
    large.write_text("lanes = " + "[" * 20000)
    with pytest.raises(ZeropointError, match=r"c\.toml': it is not TOML"):
        load_config(large)
