from dataclasses import replace

from support.programs import make_program

from zeropoint.compiler.datasheet import FLASH_PORTS, PORTS, datasheet
from zeropoint.compiler.loading import host_writes, load_file
from zeropoint_hw.config import WeightSource
from zeropoint_hw.isa import Region, address


def test_the_file_has_every_write_once():
    program = make_program()
    lines = load_file(program).decode().splitlines()
    assert lines[0] == f"// {len(lines) - 1} writes to the host bus: 24 bits of address, 32 bits of data"
    written = {int(line[:6], 16): int(line[6:], 16) for line in lines[1:]}
    assert all(len(line) == 14 for line in lines[1:])
    assert len(written) == len(lines) - 1
    expected = {first + offset: int(word) for first, words in host_writes(program) for offset, word in enumerate(words)}
    assert written == expected
    # What is written where, taken from the program itself: the first piece of the last weight word is its low bytes.
    instructions = [word for instruction in program.instructions for word in instruction.encode()]
    assert [written[address(Region.PROGRAM, place)] for place in range(len(instructions))] == instructions
    pieces = program.config.pieces
    assert pieces == 2
    low = int.from_bytes(program.weights[-1, :4].tobytes(), "little")
    assert written[address(Region.WEIGHTS, pieces * (len(program.weights) - 1))] == low
    assert written[address(Region.PARAMETERS, 4 * 23)] == int(program.parameters.bias[23]) & 0xFFFFFFFF
    assert written[address(Region.TABLES, 256 + 255)] == program.tables[1, 255]


def test_what_is_built_in_is_not_loaded():
    program = make_program()
    program = replace(program, config=replace(program.config, weight_source=WeightSource.ROM))
    assert host_writes(program) == []


def test_the_datasheet_says_what_an_integrator_needs():
    program = make_program()
    text = datasheet(program, "top.v", "load.mem")
    for name, direction, bits, _ in PORTS:
        assert f"| `{name}` | {direction} | {bits} |" in text
    assert "make the writes of `load.mem`" in text
    # The input lies at 0, four rows of fifteen bytes in a region of its own.
    assert f"Write the input 'input' (int8, 4 × 5 × 3) at `0x{address(Region.ACTIVATIONS, 0):06x}`" in text
    assert "Softmax ('softmax')" in text
    built_in = replace(program, config=replace(program.config, weight_source=WeightSource.ROM))
    assert "load.mem" not in datasheet(built_in, "top.v", "load.mem")
    assert "flash" not in datasheet(built_in, "top.v", "load.mem")
    fields = {"weight_source": "flash", "weight_store": "shared", "activation_ports": 1, "flash_offset": 0x200000}
    in_flash = replace(program, config=replace(program.config, **fields))
    text = datasheet(in_flash, "top.v", "load.mem")
    for name, direction, bits, _ in PORTS + FLASH_PORTS:
        assert f"| `{name}` | {direction} | {bits} |" in text
    assert "`flash.bin`, which the SPI flash holds from byte `0x200000` on" in text
    assert "load.mem" not in text


def test_names_are_only_text_there():
    program = replace(make_program(), name="`a|b`<c>")
    assert "'?a?b??c?'" in datasheet(program, "top.v", "load.mem")
