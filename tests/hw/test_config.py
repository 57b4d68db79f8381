from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeropoint_hw.config import WEIGHT_BITS, AcceleratorConfig, PEKind, WeightSource
from zeropoint_hw.isa import INSTRUCTION_WORDS, LOG_PIECES, REGION_SHIFT, Region, address

POWERS = [1 << exponent for exponent in range(7)]


@st.composite
def configurations(draw):
    lanes, columns = draw(st.sampled_from(POWERS)), draw(st.sampled_from(POWERS))
    requantizers = draw(st.sampled_from([power for power in POWERS if power <= min(lanes, columns)]))
    pe = draw(st.sampled_from(PEKind))
    zero = pe is not PEKind.SHIFT or draw(st.booleans())
    bits = draw(st.sampled_from(WEIGHT_BITS[pe])) - (not zero)
    kind = {"lanes": lanes, "columns": columns, "pe": pe, "weight_bits": bits, "weight_zero": zero}
    if pe is PEKind.MINIFLOAT:
        kind["activation_bits"] = draw(st.integers(2, 8))
        kind["exponent_bits"] = draw(st.integers(1, min(bits, kind["activation_bits"]) - 1))
    plain = AcceleratorConfig(**kind, weight_bytes=2 * lanes * columns)
    _, least, most = plain.memories["weight_bytes"]
    return AcceleratorConfig(
        **kind,
        requantizers=requantizers,
        ties_to_even=draw(st.booleans()),
        window_taps=draw(st.integers(1, lanes)),
        accumulator_width=draw(st.sampled_from(plain.accumulator_widths)),
        activation_bytes=lanes * draw(st.integers(2, (1 << 20) // lanes)),
        weight_bytes=draw(st.integers(least, most)),
        parameter_channels=requantizers * draw(st.integers(2, (1 << 16) // requantizers)),
        program_words=draw(st.integers(INSTRUCTION_WORDS, 1 << 16)),
        weight_source=draw(st.sampled_from([WeightSource.RAM, WeightSource.ROM])),
    )


@given(configurations())
def test_configurations_are_dictionaries_and_back(config):
    entries = config.to_dict()
    assert set(map(type, entries.values())) == {int, str, bool}
    assert AcceleratorConfig.from_dict(entries) == config


@given(configurations())
def test_sizes(config):
    assert config.multipliers == config.lanes * config.columns
    assert config.word_bits == config.multipliers * config.weight_bits
    assert 0 <= 8 * config.weight_bytes - config.weight_words * config.word_bits < config.word_bits
    assert config.parameter_words * config.requantizers == config.parameter_channels
    assert config.requantizers <= config.channels == min(config.lanes, config.columns)
    assert config.host_bytes == min(4, config.requantizers)


@given(configurations())
def test_host_reaches_every_weight(config):
    assert config.weight_words * config.pieces <= 1 << REGION_SHIFT
    assert config.word_bits % config.piece_bits == 0
    assert config.word_bits // config.piece_bits <= config.pieces
    assert config.piece_bits <= 32


@given(configurations(), st.integers(1, 12))
def test_weights_that_share_the_activation_memory_have_their_place_at_its_end(config, buffer_bits):
    fields = config.to_dict() | {"weight_source": "ram", "weight_store": "shared", "weight_buffer": 1 << buffer_bits}
    fields |= {"activation_bytes": min(config.activation_bytes, 1 << 19), "weight_bytes": 1 << 19}
    config = AcceleratorConfig.from_dict(fields)
    assert config.word_bits <= config.word_rows * config.row_bits < config.word_bits + config.row_bits
    assert config.stored_bits % config.row_bits == 0
    assert config.stored_bits // config.row_bits in POWERS
    weights = 8 * config.weight_words * config.stored_bits // 8
    room = (config.memory_elements - config.activation_elements) * config.element_bits
    assert weights <= room
    assert config.memory_elements & (config.memory_elements - 1) == 0
    # All that the host writes at once are pieces of equal size, without gaps between words.
    assert config.pieces * config.piece_bits == config.stored_bits
    assert config.weight_words * config.pieces <= 1 << REGION_SHIFT


@given(configurations())
def test_every_instruction_of_the_program_memory_has_a_log_entry_that_the_host_reaches(config):
    entries = config.max_instructions
    assert entries >= 1
    assert entries * INSTRUCTION_WORDS <= config.program_words < (entries + 1) * INSTRUCTION_WORDS
    assert address(Region.LOG, entries * LOG_PIECES - 1) >> REGION_SHIFT == Region.LOG


def test_default_takes_378_kib():
    config = AcceleratorConfig()
    parameter_bits = 32 + 32 + 8
    bits = 8 * (config.activation_bytes + config.weight_bytes) + 32 * config.program_words
    assert bits + parameter_bits * config.parameter_channels == 378 * 1024 * 8


@pytest.mark.parametrize(
    ("lanes", "columns", "requantizers"),
    [(1, 8, 1), (8, 1, 1), (2, 64, 2), (4, 4, 4), (8, 8, 8), (16, 8, 8), (64, 64, 8)],
)
def test_zero_takes_eight_requantizers_at_most(lanes, columns, requantizers):
    config = AcceleratorConfig(lanes=lanes, columns=columns)
    assert config.requantizers == requantizers
    # It keeps the number when copied.
    assert replace(config, accumulator_width=20).requantizers == requantizers


@pytest.mark.parametrize(("lanes", "window_taps"), [(1, 1), (2, 2), (4, 3), (64, 3)])
def test_zero_takes_a_window_of_three_taps_at_most(lanes, window_taps):
    assert AcceleratorConfig(lanes=lanes).window_taps == window_taps


def test_kinds_may_be_given_by_name():
    config = AcceleratorConfig(pe="fold", weight_source="rom")
    assert (config.pe, config.weight_source) == (PEKind.FOLD, WeightSource.ROM)
    assert type(config.pe) is PEKind


def test_is_frozen():
    with pytest.raises(FrozenInstanceError):
        AcceleratorConfig().lanes = 4


@pytest.mark.parametrize(
    ("entries", "error", "message"),
    [
        ({"pe": 1}, TypeError, "pe must be one of mac, fold, shift, mixed, minifloat, not 1"),
        ({"pe": "shft"}, ValueError, "pe must be one of mac, fold, shift, mixed, minifloat, not 'shft'"),
        ({"weight_source": None}, TypeError, "weight_source must be one of ram, rom, flash, not None"),
        ({"weight_source": "sd"}, ValueError, "weight_source must be one of ram, rom, flash, not 'sd'"),
        ({"tables": 16}, ValueError, "tables must be 0 to 15, not 16"),
        ({"lanes": 3}, ValueError, "lanes must be a power of two from 1 to 64, not 3"),
        ({"lanes": 0}, ValueError, "lanes must be a power of two from 1 to 64, not 0"),
        ({"lanes": -4}, ValueError, "lanes must be a power of two from 1 to 64, not -4"),
        ({"columns": 128}, ValueError, "columns must be a power of two from 1 to 64, not 128"),
        (
            {"requantizers": 3},
            ValueError,
            "requantizers must be a power of two up to min(lanes, columns) = 8, not 3",
        ),
        (
            {"lanes": 2, "requantizers": 4},
            ValueError,
            "requantizers must be a power of two up to min(lanes, columns) = 2, not 4",
        ),
        (
            {"requantizers": -1},
            ValueError,
            "requantizers must be a power of two up to min(lanes, columns) = 8, not -1",
        ),
        (
            {"requantizer": "serial", "digit_bits": 9},
            ValueError,
            "digit_bits must be 1 to 8 for requantizer = serial, not 9",
        ),
        ({"digit_bits": 1}, ValueError, "digit_bits must be 0 for requantizer = multiplier, not 1"),
        ({"weight_bits": 9}, ValueError, "weight_bits must be 2 to 8 for pe = mac, not 9"),
        ({"weight_bits": 6, "pe": "shift"}, ValueError, "weight_bits must be 2 to 5 for pe = shift, not 6"),
        (
            {"weight_bits": 5, "weight_zero": False, "pe": "shift"},
            ValueError,
            "weight_bits must be 1 to 4 for pe = shift, not 5",
        ),
        ({"weight_bits": 5, "pe": "mixed"}, ValueError, "weight_bits must be 8 for pe = mixed, not 5"),
        ({"weight_zero": False}, ValueError, "weight_zero is for pe = shift only, not mac"),
        ({"window_taps": 9}, ValueError, "window_taps must be 1 to lanes = 8, not 9"),
        ({"window_taps": -1}, ValueError, "window_taps must be 1 to lanes = 8, not -1"),
        ({"activation_bits": 7}, ValueError, "activation_bits must be 8 or 16 for pe = mac, not 7"),
        (
            {"activation_bits": 9, "pe": "minifloat"},
            ValueError,
            "activation_bits must be 2 to 8 for pe = minifloat, not 9",
        ),
        ({"exponent_bits": 4}, ValueError, "exponent_bits must be 0 for pe = mac, not 4"),
        (
            {"exponent_bits": 5, "pe": "minifloat", "weight_bits": 5},
            ValueError,
            "exponent_bits must be 1 to 4 for pe = minifloat, not 5",
        ),
        ({"accumulator_width": 53, "pe": "minifloat"}, ValueError, "accumulator_width must be 37 to 52, not 53"),
        ({"accumulator_width": 19}, ValueError, "accumulator_width must be 20 to 32, not 19"),
        ({"accumulator_width": 33}, ValueError, "accumulator_width must be 20 to 32, not 33"),
        (
            {"activation_bytes": 65537},
            ValueError,
            "activation_bytes must be a multiple of 8 from 16 to 1048576, not 65537",
        ),
        ({"activation_bytes": 8}, ValueError, "activation_bytes must be a multiple of 8 from 16 to 1048576, not 8"),
        (
            {"activation_bytes": (1 << 20) + 8},
            ValueError,
            "activation_bytes must be a multiple of 8 from 16 to 1048576, not 1048584",
        ),
        ({"weight_bytes": 100}, ValueError, "weight_bytes must be 128 to 8388608, not 100"),
        (
            {"weight_bytes": (1 << 23) + 1},
            ValueError,
            "weight_bytes must be 128 to 8388608, not 8388609",
        ),
        (
            {"lanes": 1, "columns": 1, "weight_bytes": (1 << 20) + 1},
            ValueError,
            "weight_bytes must be 2 to 1048576, not 1048577",
        ),
        (
            {"parameter_channels": 6},
            ValueError,
            "parameter_channels must be a multiple of 8 from 16 to 65536, not 6",
        ),
        ({"program_words": 28}, ValueError, "program_words must be 29 to 65536, not 28"),
        ({"program_words": 65537}, ValueError, "program_words must be 29 to 65536, not 65537"),
        (
            {"lane": 8},
            ValueError,
            "there is no configuration field 'lane'; there are lanes, columns, requantizers, requantizer, digit_bits, "
            "pe, weight_bits, activation_bits, exponent_bits, weight_zero, weight_zero_points, unsigned_activations, "
            "dsp, window_taps, max_pooling, elementwise, left_shift, ties_to_even, tables, prefetch, log, "
            "memory_registers, loop_bits, tap_bits, line_bits, place_bits, accumulator_width, activation_bytes, "
            "weight_bytes, parameter_channels, program_words, weight_source, "
            "weight_store, weight_buffer, activation_ports, flash_offset",
        ),
        (
            {"weight_store": "shared", "weight_source": "rom"},
            ValueError,
            "weight_store must be wide where weights are built in (weight_source = rom), not shared",
        ),
        (
            {"weight_store": "shared", "weight_buffer": 24},
            ValueError,
            "weight_buffer must be a power of two from 2 to 4096 for weight_store = shared, not 24",
        ),
        (
            {"weight_source": "flash"},
            ValueError,
            "weight_store must be shared or flash for weight_source = flash, not wide",
        ),
        ({"weight_store": "flash"}, ValueError, "weight_source must be flash for weight_store = flash, not ram"),
        ({"flash_offset": 100}, ValueError, "flash_offset must be a multiple of 4096 below 2^24, not 100"),
        ({"weight_buffer": 16}, ValueError, "weight_buffer must be 0 for weight_store = wide, not 16"),
        ({"activation_ports": 3}, ValueError, "activation_ports must be 1 or 2, not 3"),
        (
            {"weight_store": "shared", "activation_bytes": 1 << 20},
            ValueError,
            "weight_bytes must leave room for 1048576 bytes of activations in a memory of 1048576, not be 294912",
        ),
    ],
)
def test_what_cannot_be_built_is_refused(entries, error, message):
    with pytest.raises(error) as raised:
        AcceleratorConfig.from_dict(entries)
    assert str(raised.value) == message


@pytest.mark.parametrize("value", ["8", 8.0, None, True, np.int64(8)])
@pytest.mark.parametrize("name", [f.name for f in fields(AcceleratorConfig) if f.type is int])
def test_sizes_are_integers(name, value):
    with pytest.raises(TypeError) as raised:
        AcceleratorConfig(**{name: value})
    assert str(raised.value) == f"{name} must be an integer, not {value!r}"


@pytest.mark.parametrize("value", ["yes", 1, None])
@pytest.mark.parametrize("name", [f.name for f in fields(AcceleratorConfig) if f.type is bool])
def test_features_are_there_or_not(name, value):
    with pytest.raises(TypeError) as raised:
        AcceleratorConfig(**{name: value})
    assert str(raised.value) == f"{name} must be true or false, not {value!r}"
