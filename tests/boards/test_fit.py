"""Memories and multipliers, counted without synthesis, are those of the gateware."""

import re
from collections import Counter
from dataclasses import replace

import pytest
from amaranth.back import rtlil

from zeropoint.errors import ZeropointError
from zeropoint_boards import fit
from zeropoint_boards.boards import BOARDS, find
from zeropoint_boards.devices import DEVICES
from zeropoint_hw.config import AcceleratorConfig, PEKind, RequantizerKind
from zeropoint_hw.linked import LinkedAccelerator

SMALL = AcceleratorConfig(
    lanes=2,
    columns=2,
    activation_bytes=1024,
    weight_bytes=768,
    parameter_channels=64,
    program_words=290,
    tables=0,
    max_pooling=False,
    window_taps=1,
)


@pytest.mark.parametrize(
    "config",
    [replace(SMALL, tables=2), replace(SMALL, requantizer=RequantizerKind.SHIFT, left_shift=False, log=False)],
    ids=["multiplier", "shift"],
)
def test_memories_are_those_of_the_gateware(config):
    text = rtlil.convert(LinkedAccelerator(config, 80, 11), name="top", emit_src=False)
    found = Counter((int(words), int(bits)) for bits, words in re.findall(r"memory width (\d+) size (\d+) ", text))
    assert Counter(fit.memories(config, 11)) == found


def test_weights_in_the_activation_memory_leave_block_rams_alone():
    config = replace(SMALL, activation_ports=1, weight_store="shared", weight_buffer=64)
    text = rtlil.convert(LinkedAccelerator(config, 80, 11), name="top", emit_src=False)
    found = Counter((int(words), int(bits)) for bits, words in re.findall(r"memory width (\d+) size (\d+) ", text))
    assert Counter(fit.memories(config, 11)) == found
    small, large = DEVICES["iCE40UP5K"], DEVICES["LFE5U-85F"]
    assert (fit.single_port_rams(config, small), fit.single_port_rams(config, large)) == (2, 0)
    assert fit.single_port_rams(replace(config, activation_bytes=1 << 16), small) == 4
    assert fit.single_port_rams(replace(config, activation_bytes=1 << 15, weight_bytes=1 << 15), small) == 2
    assert fit.block_rams(config, 11, small) < fit.block_rams(replace(config, activation_ports=2), 11, small)
    assert "8 of 4 single-port memories" in fit.shortage(replace(config, activation_bytes=1 << 17), find("icebreaker"))


class TestTheAcceleratorForABoard:
    """SMALL, or one that a board cannot hold, with what else is asked for."""

    def chosen(self, board, **fields):
        taken = ("weight_source", "weight_store", "flash_offset")

        def configured(defaults):
            return replace(SMALL, **{name: defaults[name] for name in taken if name in defaults} | fields)

        return fit.choose(find(board), configured)

    def test_weights_are_built_in(self):
        config = self.chosen("ulx3s_25f")
        assert (config.weight_source, config.weight_store) == ("rom", "wide")

    def test_weights_for_which_there_is_no_room_stay_in_flash(self):
        config = self.chosen("ulx3s_25f", weight_bytes=1 << 18)
        assert (config.weight_source, config.weight_store, config.flash_offset) == ("flash", "flash", 1 << 20)
        assert fit.shortage(config, find("ulx3s_25f")) == ""
        assert self.chosen("ulx3s_85f", weight_bytes=1 << 18).weight_source == "rom"
        assert self.chosen("ulx3s_85f", weight_bytes=1 << 19).flash_offset == 2 << 20

    def test_unless_that_is_no_help_or_not_wanted(self):
        assert self.chosen("ulx3s_25f", weight_bytes=1 << 18, lanes=8, columns=8).weight_source == "rom"
        assert self.chosen("tang_primer_20k", weight_bytes=1 << 18).weight_source == "rom"
        assert self.chosen("ulx3s_25f", weight_bytes=1 << 18, weight_source="ram").weight_source == "ram"

    def test_a_flash_that_cannot_hold_weights(self):
        with pytest.raises(ZeropointError, match="tang_nano_9k: its flash cannot hold weights; use another"):
            self.chosen("tang_nano_9k", weight_source="flash", weight_store="flash")


def test_block_rams_come_in_the_shape_of_which_fewest_are_needed():
    device = DEVICES["LFE5U-85F"]
    before = fit.block_rams(SMALL, 11, device)
    # 290 words of 32 bits are one of 512 × 36; 513 are two of 1024 × 18.
    assert fit.block_rams(replace(SMALL, program_words=513), 11, device) == before + 1
    assert fit.block_rams(replace(SMALL, program_words=1025), 11, device) > before + 2
    assert fit.block_rams(SMALL, 13, device) == before + 3


def test_what_is_short_is_said():
    board = find("ulx3s_25f")
    assert fit.shortage(SMALL, board) == ""
    large = replace(SMALL, lanes=8, columns=8, weight_bytes=128 * 1024, activation_bytes=1024)
    assert re.fullmatch(r"\d+ of 56 block RAMs, 76 of 28 multipliers", fit.shortage(large, board))
    assert re.fullmatch(r"\d+ of 56 block RAMs", fit.shortage(replace(large, dsp=False), board))


@pytest.mark.parametrize("name", BOARDS)
def test_no_larger_array_has_its_multipliers(name):
    board = find(name)
    lanes, columns = fit.largest_array(board)

    def short(lanes, columns):
        size = {"lanes": lanes, "columns": columns, "weight_bytes": 0, "elementwise": False, "requantizers": 1}
        return "multipliers" in fit.shortage(AcceleratorConfig.from_dict({**board.config, **size}), board)

    assert lanes * columns >= board.config["lanes"] * board.config["columns"]
    assert not short(lanes, columns)
    assert short(2 * lanes, columns)
    assert short(lanes, 2 * columns)


def test_the_largest_array_of_each_size_of_device():
    assert fit.largest_array(find("icebreaker")) == (4, 4)
    assert fit.largest_array(find("ulx3s_25f")) == (4, 4)
    assert sorted(fit.largest_array(find("ulx3s_85f"))) == [8, 16]


def test_a_dsp_block_may_make_two_products_of_bytes():
    board = find("icebreaker")
    bytes_only = {"weight_zero_points": False, "unsigned_activations": False, "requantizer": RequantizerKind.SERIAL}
    pairs = replace(SMALL, lanes=4, columns=4, pe=PEKind.FOLD, **bytes_only)
    assert fit.shortage(pairs, board) == ""
    assert fit.shortage(replace(pairs, pe=PEKind.MAC), board) == "16 of 8 multipliers"
