"""The driver on a transport that only remembers: every word that is written, and where."""

from dataclasses import astuple

import numpy as np
import pytest
from support.programs import make_program, random_parameters

from zeropoint.compiler.program import Buffer, Layer
from zeropoint.errors import ZeropointError
from zeropoint.host.driver import Driver, LogRecord
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import (
    IDENTIFICATION,
    LOG_PIECES,
    REGION_SHIFT,
    Command,
    Instruction,
    Region,
    Register,
    address,
)

BYTES = np.random.default_rng(9).integers(0, 256, 1 << 12, dtype=np.uint8)


class Memory:
    """A transport to nothing but memory; activations are bytes, as the accelerator has them."""

    name = "memory"
    cycles = 0

    def __init__(self, config):
        self._host_bytes = config.host_bytes
        self.words = {}
        self.activations = np.zeros(config.activation_bytes, np.uint8)
        self.commands = []
        self.on_command = lambda: None
        self.write(address(Region.CONTROL, Register.IDENTIFICATION), np.array([IDENTIFICATION], np.uint32))
        self.write(
            address(Region.CONTROL, Register.CONFIGURATION), np.array([config.configuration_word], dtype=np.uint32)
        )
        self.write(address(Region.CONTROL, Register.FORMATS), np.array([config.format_word], dtype=np.uint32))

    def write(self, address, words, stride=1):
        assert words.dtype == np.uint32
        for place, word in enumerate(words.tolist()):
            at = address + stride * place
            if at >> REGION_SHIFT == Region.ACTIVATIONS:
                for byte in range(self._host_bytes):
                    self.activations[(at & (1 << REGION_SHIFT) - 1) + byte] = word >> 8 * byte & 0xFF
                assert word >> 8 * self._host_bytes == 0
            else:
                assert at not in self.words
                self.words[at] = word

    def read(self, address, count, stride=1):
        words = []
        for place in range(count):
            at = address + stride * place
            if at >> REGION_SHIFT == Region.ACTIVATIONS:
                start = at & (1 << REGION_SHIFT) - 1
                words.append(int.from_bytes(self.activations[start : start + self._host_bytes].tobytes(), "little"))
            else:
                words.append(self.words[at])
        return np.array(words, np.uint32)

    def run(self, command, max_cycles):
        self.commands.append((command, max_cycles))
        self.on_command()

    def region(self, region):
        """Return what was written to a region, by offset."""
        start = address(region, 0)
        return {at - start: word for at, word in self.words.items() if at >> REGION_SHIFT == region}


def config_of(lanes, columns, **fields):
    sizes = {"activation_bytes": 4096, "weight_bytes": 80 * lanes * columns, "parameter_channels": 64}
    return AcceleratorConfig(lanes=lanes, columns=columns, **sizes, **fields)


def program_of(config, **changes):
    rng = np.random.default_rng(5)
    bits = rng.integers(0, 2, (73, config.word_bits), dtype=np.uint8)
    weights = np.packbits(bits, axis=1, bitorder="little")
    return make_program(config=config, weights=weights, parameters=random_parameters(rng, 24), **changes)


def test_the_program_is_loaded_word_for_word():
    program = program_of(config_of(4, 2))
    memory = Memory(program.config)
    Driver(memory, program)
    words = [word for instruction in program.instructions for word in instruction.encode()]
    assert memory.region(Region.PROGRAM) == dict(enumerate(words))
    assert not memory.commands
    assert not memory.activations.any()


def test_parameters_are_bias_multiplier_and_shift():
    program = program_of(config_of(4, 2))
    memory = Memory(program.config)
    Driver(memory, program)
    expected = {}
    for channel in range(24):
        expected[4 * channel] = int(program.parameters.bias[channel]) % (1 << 32)
        expected[4 * channel + 1] = int(program.parameters.multiplier[channel])
        expected[4 * channel + 2] = int(program.parameters.shift[channel]) % (1 << 32)
        expected[4 * channel + 3] = 0
    assert memory.region(Region.PARAMETERS) == expected


def test_tables_are_loaded_byte_by_byte():
    program = program_of(config_of(4, 2))
    memory = Memory(program.config)
    Driver(memory, program)
    assert memory.region(Region.TABLES) == dict(enumerate(program.tables.reshape(-1).tolist()))
    assert len(program.tables) == 2


def test_a_program_without_tables_writes_none():
    program = program_of(config_of(4, 2, tables=0), tables=np.zeros((0, 256), np.uint8))
    memory = Memory(program.config)
    Driver(memory, program)
    assert memory.region(Region.TABLES) == {}


@pytest.mark.parametrize(
    ("lanes", "columns", "bits", "pieces", "piece_bits"),
    [
        (1, 1, 8, 1, 8),
        (2, 1, 8, 1, 16),
        (2, 2, 8, 1, 32),
        (4, 2, 8, 2, 32),
        (8, 8, 8, 16, 32),
        (8, 8, 5, 16, 32),
        (4, 4, 5, 4, 20),
        (4, 4, 3, 2, 24),
        (2, 1, 3, 1, 6),
    ],
)
def test_weights_are_loaded_in_pieces(lanes, columns, bits, pieces, piece_bits):
    program = program_of(config_of(lanes, columns, weight_bits=bits, pe="mac" if bits == 8 else "shift"))
    memory = Memory(program.config)
    Driver(memory, program)
    expected = {}
    for word, weights in enumerate(program.weights):
        number = int.from_bytes(weights.tobytes(), "little")
        for piece in range(pieces):
            expected[word * pieces + piece] = number >> piece_bits * piece & (1 << piece_bits) - 1
    assert memory.region(Region.WEIGHTS) == expected


def test_nothing_is_loaded_into_what_was_built_in():
    program = program_of(config_of(4, 2, weight_source="rom"))
    memory = Memory(program.config)
    Driver(memory, program)
    assert {at >> REGION_SHIFT for at in memory.words} == {Region.CONTROL}


@pytest.mark.parametrize(
    ("register", "message"),
    [
        (
            Register.IDENTIFICATION,
            "has an identification of 0x00000001, the program is for 0x5a504e54; compile it again",
        ),
        (Register.CONFIGURATION, "has a configuration of 0x00000001, the program is for 0xc0a38112; compile it again"),
        (Register.FORMATS, "has number formats of 0x00000001, the program is for 0x00002078; compile it again"),
    ],
)
def test_another_accelerator_is_refused_before_anything_is_written(register, message):
    program = program_of(config_of(4, 2))
    memory = Memory(program.config)
    memory.words[address(Region.CONTROL, register)] = 1
    with pytest.raises(ZeropointError, match=message):
        Driver(memory, program)
    assert {at >> REGION_SHIFT for at in memory.words} == {Region.CONTROL}


@pytest.mark.parametrize(("lanes", "columns", "size"), [(1, 1, 1), (2, 4, 2), (8, 8, 4)])
@pytest.mark.parametrize(
    "buffer",
    [
        Buffer("t", 64, (13,), "int8", 0.1, 0),
        Buffer("t", 8, (3, 2, 5), "uint8", 0.1, 0),
        Buffer("t", 16, (3, 2, 5), "int8", 0.1, 0, row_pitch=17),
        Buffer("t", 4096 - 32, (32,), "int8", 0.1, 0),
    ],
)
def test_a_tensor_is_written_and_read_where_it_lies(lanes, columns, size, buffer):
    config = config_of(lanes, columns)
    assert config.host_bytes == size
    memory = Memory(config)
    driver = Driver(memory, program_of(config))
    values = BYTES[: np.prod(buffer.shape)].view(buffer.dtype).reshape(buffer.shape)
    driver.write(buffer, values)
    np.testing.assert_array_equal(
        memory.activations[buffer.address : buffer.address + buffer.size], buffer.to_memory(values)
    )
    assert not memory.activations[: buffer.address].any()
    # The last access may reach beyond the tensor, but not beyond the access's own size.
    end = buffer.address + -(-buffer.size // size) * size
    assert not memory.activations[end:].any()
    np.testing.assert_array_equal(driver.read(buffer), values)


def instruction(**fields):
    return Instruction(**({"end": 0} | fields))


def test_an_inference_is_one_command_with_a_limit_for_all_its_loops():
    config = config_of(4, 2)
    instructions = (
        instruction(groups=2, rows=3, columns=4, taps_y=2, taps_x=3, run=9, idle=5),
        instruction(end=1, pool_rows=2, pool_columns=3, run=1),
    )
    program = program_of(config, instructions=instructions, layers=())
    memory = Memory(config)
    driver = Driver(memory, program)
    output = BYTES[:10].view(np.int8)

    def computes():
        np.testing.assert_array_equal(driver.read(program.input), values)
        memory.activations[:] = 0
        memory.activations[:10] = BYTES[:10]

    memory.on_command = computes
    values = BYTES[100:160].view(np.int8).reshape(4, 5, 3)
    np.testing.assert_array_equal(driver.run(values), output)
    ((command, limit),) = memory.commands
    assert command is Command.RUN
    work = 2 * 3 * 4 * (2 * 3 * 3 + 5) + 2 * 3
    # Enough for fetching and for the pipeline, and not so much that a hang is waited for.
    assert work + 200 <= limit <= work + 2000


def test_layers_are_stepped_and_each_tensor_is_read_when_it_is_there():
    program = program_of(config_of(4, 2), instructions=tuple(instruction(rows=n + 1) for n in range(5)))
    memory = Memory(program.config)
    driver = Driver(memory, program)

    def overwrites():
        memory.activations[:] = len(memory.commands)

    memory.on_command = overwrites
    tensors = driver.run_layers(np.zeros(program.input.shape, np.int8))
    # Two instructions make the first layer, three the second, and both tensors' memory is overwritten by each.
    assert {name: np.unique(values).tolist() for name, values in tensors.items()} == {
        "hidden/Relu;1": [2],
        "logits": [5],
    }
    assert [tensors[name].shape for name in tensors] == [(2, 2, 7), (10,)]
    assert [command for command, _ in memory.commands] == [Command.STEP] * 5
    limits = [limit for _, limit in memory.commands]
    assert np.diff(limits).tolist() == [1] * 4


@pytest.mark.parametrize("count", [1, 3, (1 << 16) // Instruction.WORDS])
def test_the_log_has_an_entry_for_each_instruction(count):
    config = AcceleratorConfig(**(config_of(4, 2).to_dict() | {"program_words": 1 << 16}))
    program = program_of(config, instructions=(instruction(),) * count, layers=(Layer("l", "o", "logits", 0, 1, 0),))
    memory = Memory(config)
    driver = Driver(memory, program)
    expected = [LogRecord(4 * place + 9, 3 * place + 1, place, 2 * place) for place in range(count)]
    totals = np.zeros((count, LOG_PIECES), np.uint32)
    totals[:] = np.cumsum([astuple(record) for record in expected], axis=0)
    memory.write(address(Region.LOG, 0), totals.reshape(-1))
    assert driver.log() == expected
