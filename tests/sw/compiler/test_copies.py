"""Copies move what they should and nothing else, in few instructions; constants come out of the weights."""

from itertools import product
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.copies import CONFIG, CONFIGS, DTYPES, array_cycles, everywhere, offsets
from support.executed import any_memory, execute_emitted
from support.operators import tensor

from zeropoint.compiler import copies
from zeropoint.compiler.copies import Loop, broadcast, byte_steps, copy, fill
from zeropoint.compiler.emit import Emitter, Place, map_shape
from zeropoint.model import Shape, Tensor
from zeropoint_hw.config import AcceleratorConfig


def copied(config: AcceleratorConfig, loops: list[Loop], dtype: str = "int8") -> Emitter:
    """Emit a copy, check what it does to the memory, and return what was emitted."""
    emitter = Emitter(config)
    source, target = 200_000, 500_000
    copy(emitter, source, target, loops, tensor("any", (1,), dtype, 1.0))
    before = any_memory()
    expected, got = bytearray(before), bytearray(before)
    for read, write in offsets(loops):
        expected[target + write] = before[source + read]
    execute_emitted(emitter, got)
    assert got == expected
    # Each byte is written once.
    written = sum(i.rows * i.columns * i.output_channels for i in emitter.instructions)
    assert written == prod(loop.count for loop in loops)
    return emitter


@st.composite
def random_loops(draw: st.DrawFn) -> list[Loop]:
    """Draw loops that write no byte twice, with or without gaps, in any order."""
    loops = []
    write = draw(st.sampled_from((1, 1, 1, 3)))
    for _ in range(draw(st.integers(1, 5))):
        count = draw(st.integers(1, 5))
        read = draw(st.one_of(st.sampled_from((0, 1, write)), st.integers(-30, 30)))
        loops.append(Loop(count, read, write))
        write *= count
        write += draw(st.sampled_from((0, 0, 0, 1, 5)))
    return draw(st.permutations(loops))


@pytest.mark.parametrize("longest", [None, 3])
@settings(max_examples=60, deadline=None)
@given(loops=random_loops(), config=st.sampled_from([*CONFIGS.values()]), dtype=st.sampled_from(DTYPES))
def test_a_copy_moves_what_its_loops_say(
    longest: int | None, loops: list[Loop], config: AcceleratorConfig, dtype: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if longest is not None:
            patch.setattr(copies, "_LONGEST", longest)
        copied(config, loops, dtype)


@pytest.mark.parametrize(
    "change",
    [{"x_column_step": 9}, {"output_row_step": 8}, {"output_channels": 6}, {"input_base": 200_001}, {"rows": 2}],
)
def test_a_copy_that_is_wrong_is_noticed(change: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    loops = [Loop(3, 10, 70), Loop(4, 100, 10), Loop(7, 1, 1)]
    copied(CONFIG, loops)
    emitted = Emitter.emit
    monkeypatch.setattr(Emitter, "emit", lambda self, **fields: emitted(self, **fields | change))
    with pytest.raises(AssertionError):
        copied(CONFIG, loops)


@pytest.mark.parametrize(
    ("loops", "instructions", "cycles"),
    [
        # Bytes that are contiguous in both go eight at a time, whatever loops they were in.
        ([Loop(100, 1, 1)], 1, 13),
        ([Loop(4, 25, 25), Loop(5, 5, 5), Loop(5, 1, 1)], 1, 13),
        ([Loop(4, 50, 25), Loop(25, 1, 1)], 1, 4 * 4),
        # Repetitions of a byte, too.
        ([Loop(4, 1, 25), Loop(25, 0, 1)], 1, 4 * 4),
        # Anything else is a byte a cycle.
        ([Loop(25, 2, 1)], 1, 25),
        ([Loop(25, -1, 1)], 1, 25),
        ([Loop(25, 1, 2)], 1, 25),
        # Rows, columns, and groups where a group has whole beats.
        ([Loop(3, 0, 500), Loop(4, 7, 100), Loop(5, 100, 20), Loop(8, 1, 1)], 1, 60),
        ([Loop(3, 0, 500), Loop(4, 7, 100), Loop(5, 100, 20), Loop(4, 1, 1)], 1, 60),
        # The fewest turns are instructions of their own.
        ([Loop(3, 0, 500), Loop(4, 7, 100), Loop(5, 100, 20), Loop(6, 1, 1)], 3, 60),
        ([Loop(3, 0, 500), Loop(4, 7, 100), Loop(5, 100, 20), Loop(16, 1, 1)], 3, 120),
        ([Loop(2, 0, 1600), Loop(3, 0, 500), Loop(4, 7, 100), Loop(5, 100, 20), Loop(8, 1, 1)], 2, 120),
        # One loop alone goes backward, but kernel rows do too.
        ([Loop(3, -7, 25), Loop(4, -50, 100), Loop(8, 1, 1)], 3, 12),
        ([Loop(3, 70, 25), Loop(4, -50, 100), Loop(8, -1, 1)], 1, 96),
        # Three dimensions in reverse order: bytes gathered by kernel rows leave one loop fewer.
        ([Loop(6, 1, 20), Loop(5, 6, 4), Loop(4, 30, 1)], 1, 120),
        ([Loop(6, 1, 80), Loop(5, 6, 16), Loop(16, 30, 1)], 2, 480),
        ([Loop(6, 1, 55), Loop(5, 6, 11), Loop(11, 30, 1)], 5, 330),
    ],
)
def test_a_copy_takes_few_instructions_and_cycles(loops: list[Loop], instructions: int, cycles: int) -> None:
    emitter = copied(CONFIG, loops)
    assert (len(emitter.instructions), array_cycles(emitter)) == (instructions, cycles)


def test_what_passes_values_on_is_stored_once() -> None:
    emitter = Emitter(CONFIG)
    for loops in ([Loop(9, 1, 1)], [Loop(9, 0, 1)], [Loop(9, 2, 1)]):
        for address in (1000, 2000):
            copy(emitter, 0, address, loops, tensor("any", (1,), "int8", 1.0))
    assert (len(np.concatenate(emitter.weight_words)), len(emitter.biases)) == (2, CONFIG.requantizers)


def test_loops_longer_than_an_instruction_are_cut() -> None:
    wide = AcceleratorConfig(lanes=64, columns=64, weight_bytes=1 << 15)
    assert len(copied(wide, [Loop(70_000, 1, 1)]).instructions) == 2
    assert len(copied(wide, [Loop(70_000, 0, 1)]).instructions) == 2


# Constants and broadcasting


def place_of(shape: Shape, dtype: str, gap: int = 0, address: int = 300_000) -> Place:
    rows, columns, channels = map_shape(shape)
    pitch = columns * channels + (gap if rows > 1 else 0)
    return Place(Tensor("there", shape, dtype, tensor("any", (1,), dtype, 1.0).quantization), address, pitch)


def expected_memory(place: Place, values: np.ndarray) -> bytearray:
    """Return any memory with ``values`` where the place has them."""
    memory = any_memory()
    steps = byte_steps(place)
    for index, value in np.ndenumerate(np.broadcast_to(values, place.tensor.shape)):
        memory[place.address + sum(n * step for n, step in zip(index, steps, strict=True))] = int(value) & 0xFF
    return memory


SHAPES = [
    ((), (3, 4, 9)),
    ((9,), (3, 4, 9)),
    ((4, 1), (3, 4, 9)),
    ((1, 4, 9), (3, 4, 9)),
    ((3, 1, 1), (3, 4, 9)),
    ((3, 4, 9), (3, 4, 9)),
    ((1, 1, 1), (1, 1, 1)),
    ((3, 4, 1), (3, 4, 9)),
    ((8,), (2, 2, 8)),
    ((3,), (3,)),
    ((1, 7), (5, 7)),
    ((2, 1, 1, 3), (2, 3, 2, 3)),
]


@everywhere
@pytest.mark.parametrize("gap", [0, 5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_constant_is_written_exactly_there(config: AcceleratorConfig, dtype: str, gap: int) -> None:
    rng = np.random.default_rng(0)
    for shape, full in SHAPES:
        info = np.iinfo(dtype)
        values = rng.integers(info.min, info.max, shape, endpoint=True).astype(dtype)
        place = place_of(full, dtype, gap)
        emitter = Emitter(config)
        fill(emitter, values, place)
        memory = any_memory()
        execute_emitted(emitter, memory)
        assert memory == expected_memory(place, values)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_value_can_be_a_constant(dtype: str) -> None:
    for config in CONFIGS.values():
        values = np.arange(256, dtype=np.uint8).view(dtype)
        emitter = Emitter(config)
        fill(emitter, values, place := place_of((256,), dtype))
        memory = any_memory()
        execute_emitted(emitter, memory)
        assert memory == expected_memory(place, values)


@pytest.mark.parametrize(
    ("shape", "full", "words"),
    [((), (9, 9, 64), 1), ((64,), (9, 9, 64), 8), ((1, 9, 64), (9, 9, 64), 72), ((9, 1, 64), (9, 9, 64), 9 * 72)],
)
def test_what_repeats_is_stored_once(shape: Shape, full: Shape, words: int) -> None:
    values = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
    emitter = Emitter(CONFIG)
    fill(emitter, values, place_of(full, "int8"))
    assert (len(np.concatenate(emitter.weight_words)), len(emitter.instructions)) == (words, 1)


def test_a_constant_longer_than_an_instruction_is_cut() -> None:
    wide = AcceleratorConfig(lanes=1, columns=64)
    values = np.random.default_rng(0).integers(-128, 128, 70_000).astype(np.int8)
    for data in (values, values[:1]):
        emitter = Emitter(wide)
        fill(emitter, data, place := place_of((70_000,), "int8"))
        memory = any_memory()
        execute_emitted(emitter, memory)
        assert memory == expected_memory(place, data)


@everywhere
def test_a_tensor_is_broadcast_exactly_there(config: AcceleratorConfig) -> None:
    for (shape, full), gap in product(SHAPES, (0, 5)):
        source, place = place_of(shape, "int8", gap, 7), place_of(full, "int8", gap)
        emitter = Emitter(config)
        broadcast(emitter, source, place)
        memory = any_memory()
        steps = byte_steps(source)
        values = np.zeros(shape, np.uint8)
        for index in np.ndindex(*shape):
            values[index] = memory[source.address + sum(n * step for n, step in zip(index, steps, strict=True))]
        execute_emitted(emitter, memory)
        assert memory == expected_memory(place, values)
        assert len(emitter.instructions) <= 3
