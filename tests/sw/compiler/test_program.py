"""Programs hold what belongs together, and their images hold every bit of them."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.programs import make_program, random_parameters

from zeropoint.compiler.images import Image
from zeropoint.compiler.program import (
    Buffer,
    HostStep,
    HostTensor,
    Layer,
    Parameters,
    instructions_from,
    parameters_from,
)
from zeropoint.errors import ZeropointError
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import FIELDS, Instruction


def word(image: Image, index: int) -> int:
    return int.from_bytes(image.words[index].tobytes(), "little")


# Images


def test_the_program_image_holds_the_encoded_instructions_one_after_the_other() -> None:
    program = make_program()
    image = program.images[0]
    assert (image.name, image.width, image.depth) == ("program", 32, 5 * Instruction.WORDS)
    words = [value for instruction in program.instructions for value in instruction.encode()]
    assert [word(image, index) for index in range(image.depth)] == words


def test_the_weight_image_holds_lane_0_of_column_0_in_its_lowest_byte() -> None:
    program = make_program()
    image = program.images[1]
    assert (image.name, image.width, image.depth) == ("weights", 64, 73)
    for column in range(2):
        for lane in range(4):
            byte = column * 4 + lane
            assert word(image, 7) >> 8 * byte & 0xFF == program.weights[7, byte]


def test_the_parameter_image_holds_bias_multiplier_and_shift_where_the_format_says() -> None:
    program = make_program()
    image, parameters = program.images[2], program.parameters
    assert (image.name, image.width, image.depth) == ("parameters", 72, 24)
    for index in range(24):
        value = word(image, index)
        assert value & 0xFFFFFFFF == int(parameters.bias[index]) % (1 << 32)
        assert value >> 32 & 0x7FFFFFFF == parameters.multiplier[index]
        assert value >> 63 & 1 == 0
        assert value >> 64 == int(parameters.shift[index]) % 256


def test_instructions_and_parameters_come_back_from_their_images() -> None:
    program = make_program(seed=3)
    assert instructions_from(program.images[0]) == program.instructions
    back = parameters_from(program.images[2], program.config)
    for name in ("bias", "multiplier", "shift"):
        np.testing.assert_array_equal(getattr(back, name), getattr(program.parameters, name))
        assert getattr(back, name).dtype == getattr(program.parameters, name).dtype


def test_every_bit_of_a_program_image_belongs_to_a_field_or_is_refused() -> None:
    program = make_program(instructions=(Instruction(end=1),), layers=())
    image = program.images[0]
    used = np.zeros(Instruction.WORDS, np.uint32)
    for field in FIELDS:
        used[field.word] |= (1 << field.width) - 1 << field.offset
    refused = 0
    for index in range(Instruction.WORDS):
        for bit in range(32):
            words = image.words.copy()
            words[index, bit // 8] ^= 1 << bit % 8
            flipped = Image("program", 32, words)
            if used[index] >> bit & 1:
                assert instructions_from(flipped) != program.instructions
            else:
                refused += 1
                with pytest.raises(ValueError, match="instruction 0 has bits set that belong to no field"):
                    instructions_from(flipped)
    assert refused == 32 * Instruction.WORDS - sum(field.width for field in FIELDS)


def test_codes_without_a_meaning_and_parts_of_instructions_are_refused() -> None:
    words = make_program().images[0].words.copy()
    words[Instruction.WORDS, 0] |= 0b110
    with pytest.raises(ValueError, match="instruction 1: 3 is not a valid Accumulate"):
        instructions_from(Image("program", 32, words))
    with pytest.raises(ValueError, match="144 words are no multiple of the 29 words"):
        instructions_from(Image("program", 32, words[:-1]))


def test_negative_steps_are_held_as_the_hardware_decodes_them() -> None:
    program = make_program(instructions=(Instruction(input_base=-6, input_tap_step=-1, end=1),), layers=())
    assert program.instructions[0].input_base == (1 << 20) - 6
    assert instructions_from(program.images[0]) == program.instructions


def test_arrays_are_copies_that_nobody_can_change() -> None:
    weights = np.zeros((2, 8), np.uint8)
    program = make_program(weights=weights)
    weights[0, 0] = 1
    assert program.weights[0, 0] == 0
    for array in (program.weights, program.parameters.bias):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


# What is refused

SMALL = AcceleratorConfig(lanes=4, columns=2, activation_bytes=96, weight_bytes=640, parameter_channels=64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"program_words": 144}, "program memory must have 145 words, 1 more than the 144 of this"),
        ({"weight_bytes": 576}, "weight memory must have 584 bytes, 8 more than the 576 of this"),
        ({"parameter_channels": 18}, "parameter memory must have 24 channels, 6 more than the 18 of this"),
        (
            {"activation_bytes": 88},
            "activation memory must have 92 bytes (where tensor 'hidden/Relu;1' ends), 4 more than the 88 of this",
        ),
    ],
)
def test_a_program_larger_than_its_memories(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ZeropointError, match=f"^'a network' does not fit: its {re.escape(message)}"):
        make_program(config=replace(SMALL, **changes))
    make_program(config=SMALL)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"name": "a\nb"}, ValueError, "the name of a program must be printable, not 'a\\nb'"),
        ({"instructions": ()}, ValueError, "a program needs an instruction, a weight word and a parameter"),
        ({"weights": np.zeros((0, 8), np.uint8)}, ValueError, "a program needs an instruction, a weight word"),
        (
            {"weights": np.zeros((1, 9), np.uint8)},
            ValueError,
            "weight words of 64 bits must have 8 bytes, not 9",
        ),
        ({"weights": np.zeros((1, 8), np.int8)}, TypeError, "weights must be an array of uint8 with 2 dimensions"),
        (
            {"parameters": random_parameters(np.random.default_rng(0), 3)},
            ValueError,
            "3 channels of parameters are no multiple of the 2 requantizers",
        ),
        ({"input": Buffer("input", 1, (4, 5, 3), "int8", 0.1, -128)}, ValueError, "tensor 'input' is not among"),
        ({"tensors": {}}, ValueError, "tensor 'input' is not among the program's tensors with the same buffer"),
        ({"tensors": {"a": Buffer("b", 1, (), "int8", 0.1, 0)}}, ValueError, "tensor 'a' has the buffer of 'b'"),
        ({"layers": (Layer("l", "Add", "sum", 0, 1, 0),)}, ValueError, "layer 'l' writes 'sum', which is not among"),
        ({"layers": (Layer("l", "Add", "input", 3, 3, 0),)}, ValueError, "layer 'l' has instructions beyond the last"),
    ],
)
def test_a_program_that_contradicts_itself_is_refused(changes, kind, message) -> None:
    with pytest.raises(kind, match=f"^{re.escape(message)}"):
        make_program(**changes)


@pytest.mark.parametrize("cls", [HostTensor, Buffer])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tensor": "\0"}, "the name of a tensor must be printable, not '\\x00'"),
        ({"shape": (1, 0)}, "tensor 't' must have positive sizes, not (1, 0)"),
        ({"dtype": "int32"}, "tensor 't' must be int8, uint8 or int16, not 'int32'"),
        ({"scale": 0.0}, "tensor 't' must have a finite positive scale, not 0.0"),
        ({"scale": float("nan")}, "tensor 't' must have a finite positive scale, not nan"),
        ({"zero_point": 128}, "tensor 't' has the zero point 128, which is no int8"),
        ({"dtype": "uint8", "zero_point": -1}, "tensor 't' has the zero point -1, which is no uint8"),
    ],
)
def test_a_tensor_that_cannot_be_is_refused(cls, changes, message) -> None:
    entries = {"tensor": "t", "shape": (1,), "dtype": "int8", "scale": 1.0, "zero_point": 0} | changes
    if cls is Buffer:
        entries["address"] = 0
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        cls(**entries)


# Buffers


def buffer(shape: tuple[int, ...], row_pitch: int = 0, dtype: str = "int8") -> Buffer:
    return Buffer("t", 0, shape, dtype, 1.0, 0, row_pitch)


def test_values_lie_in_memory_row_by_row_with_gaps_of_zero() -> None:
    padded = buffer((3, 2, 2), row_pitch=7)
    assert padded.size == 2 * 7 + 4
    values = np.arange(-6, 6, dtype=np.int8).reshape(3, 2, 2)
    memory = padded.to_memory(values)
    assert memory.dtype == np.uint8
    assert memory.tolist() == [250, 251, 252, 253, 0, 0, 0, 254, 255, 0, 1, 0, 0, 0, 2, 3, 4, 5]
    # What lies in the gaps, other tensors' bytes perhaps, is not the tensor's.
    memory[[4, 5, 6, 11, 12, 13]] = 99
    np.testing.assert_array_equal(padded.from_memory(memory), values)
    assert padded.from_memory(memory).dtype == np.int8


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (1, 4, 2), (3, 4, 2), (2, 2, 2, 2)])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_values_without_gaps_lie_as_numpy_has_them(shape: tuple[int, ...], dtype: str) -> None:
    rng = np.random.default_rng(0)
    info = np.iinfo(dtype)
    values = rng.integers(info.min, info.max + 1, shape).astype(dtype)
    plain = buffer(shape, dtype=dtype)
    assert plain.size == values.size
    assert plain.to_memory(values).tobytes() == values.tobytes()
    np.testing.assert_array_equal(plain.from_memory(plain.to_memory(values)), values)
    # A view that NumPy holds in another order is written in the tensor's.
    turned = np.asfortranarray(values)
    assert plain.to_memory(turned).tobytes() == values.tobytes()


@pytest.mark.parametrize(
    ("shape", "pitch"), [((), 1), ((5,), 5), ((2, 3), 6), ((4, 3, 2), 6), ((1, 3, 2), 6), ((2, 2, 2, 2), 16)]
)
def test_a_row_pitch_that_is_left_out_is_the_length_of_a_row(shape: tuple[int, ...], pitch: int) -> None:
    assert buffer(shape).row_pitch == pitch
    assert buffer(shape) == buffer(shape, row_pitch=pitch)


def test_pixels_may_have_gaps_between_them_too() -> None:
    gapped = Buffer("t", 0, (2, 3, 2), "int8", 1.0, 0, row_pitch=17, column_pitch=5)
    assert (gapped.row_bytes, gapped.size) == (2 * 5 + 2, 17 + 12)
    values = np.arange(12, dtype=np.int8).reshape(2, 3, 2) - 6
    memory = gapped.to_memory(values)
    places = [17 * row + 5 * column + channel for row in range(2) for column in range(3) for channel in range(2)]
    np.testing.assert_array_equal(memory[places].view(np.int8), values.reshape(-1))
    assert memory.shape == (29,)
    assert not np.delete(memory, places).any()
    filled = np.full(29, 99, np.uint8)
    filled[places] = memory[places]
    np.testing.assert_array_equal(gapped.from_memory(filled), values)


def test_a_column_pitch_shorter_than_a_pixel_or_without_columns_is_refused() -> None:
    Buffer("t", 0, (4, 3, 2), "int8", 1.0, 0, column_pitch=9)
    for shape, pitch, pixel in (((4, 3, 2), 1, 2), ((4, 3, 2), -2, 2), ((4, 1, 2), 3, 2), ((5,), 8, 5)):
        message = f"tensor 't' has pixels of {pixel} bytes, which column_pitch = {pitch} contradicts"
        with pytest.raises(ValueError, match=f"^{message}$"):
            Buffer("t", 0, shape, "int8", 1.0, 0, column_pitch=pitch)


def test_a_row_pitch_shorter_than_a_row_or_without_rows_is_refused() -> None:
    buffer((4, 3, 2), row_pitch=100)
    for shape, pitch, row_bytes in (((4, 3, 2), 5, 6), ((4, 3, 2), -6, 6), ((1, 3, 2), 7, 6), ((5,), 8, 5)):
        message = f"tensor 't' has rows of {row_bytes} bytes, which row_pitch = {pitch} contradicts"
        with pytest.raises(ValueError, match=f"^{message}$"):
            buffer(shape, row_pitch=pitch)


def test_the_gaps_between_rows_count_towards_the_memory() -> None:
    gapped = Buffer("input", 1, (4, 5, 3), "int8", 0.1, -128, 30)
    last = make_program().output
    tensors = {"input": gapped, last.tensor: last}
    entries = {"input": gapped, "tensors": tensors, "layers": ()}
    make_program(config=replace(SMALL, activation_bytes=108), **entries)
    with pytest.raises(ZeropointError, match=r"106 bytes \(where tensor 'input' ends\), 2 more than the 104 "):
        make_program(config=replace(SMALL, activation_bytes=104), **entries)


def test_other_entries_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="tensor 't' must have an address of at least 0, not -1"):
        Buffer("t", -1, (1,), "int8", 1.0, 0)
    with pytest.raises(ValueError, match="layer 'l' has a negative entry"):
        Layer("l", "Add", "t", 0, -1, 0)
    tensor = HostTensor("t", (1,), "int8", 1.0, 0)
    with pytest.raises(ValueError, match="host step 's': beta must be finite, not inf"):
        HostStep("s", "Softmax", tensor, tensor, {"beta": float("inf")})


def test_parameters_that_cannot_be_are_refused() -> None:
    bias, multiplier, shift = np.zeros(2, np.int32), np.zeros(2, np.uint32), np.zeros(2, np.int8)
    Parameters(bias, multiplier, shift)
    with pytest.raises(TypeError, match="bias must be an array of int32 with 1 dimensions"):
        Parameters(bias.astype(np.int64), multiplier, shift)
    with pytest.raises(ValueError, match="parameters have 2, 2 and 1 entries"):
        Parameters(bias, multiplier, shift[:1])
    with pytest.raises(ValueError, match=r"a multiplier must be below 2\^31"):
        Parameters(bias, np.array([0, 1 << 31], np.uint32), shift)
    for value in (-32, 31):
        with pytest.raises(ValueError, match="a shift must be -31 to 30"):
            Parameters(bias, multiplier, np.array([0, value], np.int8))


def test_the_macs_are_those_of_all_layers() -> None:
    assert make_program().macs == 1_000_000_007 + 280
