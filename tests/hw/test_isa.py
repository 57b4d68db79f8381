import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeropoint_hw.isa import (
    ADDRESS_WIDTH,
    CODES,
    FIELDS,
    INSTRUCTION_WORDS,
    REGION_SHIFT,
    Instruction,
    Region,
    address,
)

BY_NAME = {field.name: field for field in FIELDS}


def limits(field):
    """Return the least and the greatest value that an instruction takes for a field."""
    if field.name in CODES:
        return 0, len(CODES[field.name]) - 1
    low, high = (-(1 << field.width - 1), (1 << field.width - 1) - 1) if field.signed else (0, (1 << field.width) - 1)
    count = field.name in Instruction.COUNTS
    return low + count, high + count


def typed(entries):
    return entries | {name: codes(entries[name]) for name, codes in CODES.items()}


INSTRUCTIONS = st.fixed_dictionaries({field.name: st.integers(*limits(field)) for field in FIELDS}).map(typed)
WORDS = st.lists(st.integers(0, (1 << 32) - 1), min_size=INSTRUCTION_WORDS, max_size=INSTRUCTION_WORDS)


def test_fields_lie_side_by_side_within_words():
    taken = [0] * INSTRUCTION_WORDS
    for field in FIELDS:
        bits = (1 << field.width) - 1 << field.offset
        assert bits < 1 << 32, field.name
        assert not taken[field.word] & bits, field.name
        taken[field.word] |= bits
    assert all(taken)
    assert len(BY_NAME) == len(FIELDS)
    assert all(field.doc for field in FIELDS)


@given(INSTRUCTIONS)
def test_encoded_and_decoded(entries):
    instruction = Instruction(**entries)
    words = instruction.encode()
    assert len(words) == Instruction.WORDS == INSTRUCTION_WORDS
    assert all(0 <= word < 1 << 32 for word in words)
    assert Instruction.decode(words) == instruction


@given(INSTRUCTIONS, st.sampled_from(FIELDS))
def test_each_field_has_its_place(entries, field):
    """A field's bits, and no others, change with it."""
    low, high = limits(field)
    other = low if entries[field.name] != low else high
    before, after = (
        Instruction(**typed(entries | {field.name: value})).encode() for value in (entries[field.name], other)
    )
    changed = [a ^ b for a, b in zip(before, after, strict=True)]
    bits = (1 << field.width) - 1 << field.offset
    assert changed.pop(field.word) & ~bits == 0
    assert not any(changed)
    stored = after[field.word] >> field.offset & (1 << field.width) - 1
    assert stored == (other - (field.name in Instruction.COUNTS)) % (1 << field.width)


@given(WORDS)
def test_decoded_and_encoded(words):
    if words[BY_NAME["accumulate"].word] >> BY_NAME["accumulate"].offset & 3 == 3:
        with pytest.raises(ValueError, match=r"^3 is not a valid Accumulate$"):
            Instruction.decode(words)
        return
    encoded = Instruction.decode(words).encode()
    used = [0] * INSTRUCTION_WORDS
    for field in FIELDS:
        used[field.word] |= (1 << field.width) - 1 << field.offset
    assert encoded == [word & bits for word, bits in zip(words, used, strict=True)]


def test_decode_wants_whole_instructions():
    with pytest.raises(ValueError, match=rf"^an instruction has {INSTRUCTION_WORDS} words, not 3$"):
        Instruction.decode([1, 2, 3])


@pytest.mark.parametrize("name", [name for name in BY_NAME if name not in Instruction.MODULAR])
def test_values_beyond_a_field_are_refused(name):
    field = BY_NAME[name]
    count = name in Instruction.COUNTS
    low, high = (-(1 << field.width - 1), (1 << field.width - 1) - 1) if field.signed else (0, (1 << field.width) - 1)
    for stored in (low - 1, high + 1):
        message = f"instruction field {name} holds {low} to {high}, not {stored}"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            Instruction(**{name: stored + count})


@pytest.mark.parametrize("name", sorted(Instruction.MODULAR))
@given(value=st.integers(-(1 << 40), 1 << 40))
def test_addresses_and_steps_are_modular(name, value):
    decoded = Instruction.decode(Instruction(**{name: value}).encode())
    assert getattr(decoded, name) == value % (1 << BY_NAME[name].width)


def test_addresses():
    seen = set()
    for region in Region:
        first, last = address(region, 0), address(region, (1 << REGION_SHIFT) - 1)
        assert 0 <= first <= last < 1 << ADDRESS_WIDTH
        assert first >> REGION_SHIFT == last >> REGION_SHIFT == region
        seen |= {first, last}
    assert len(seen) == 2 * len(Region)
    for offset in (-1, 1 << REGION_SHIFT):
        with pytest.raises(ValueError, match=rf"^region LOG has offsets up to 2097151, not {offset}$"):
            address(Region.LOG, offset)
