"""What the proofs assume of an instruction holds for each that the verifier of programs accepts."""

from collections import Counter

import numpy as np
import pytest
from support.programs import make_program, random_parameters

from zeropoint.compiler.verify_program import verify
from zeropoint.errors import ZeropointError
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import Instruction

CONFIGS = [
    AcceleratorConfig(lanes=8, columns=8, requantizers=1, activation_bytes=512),
    AcceleratorConfig(lanes=4, columns=4, requantizers=4, activation_bytes=256),
]


def random_loops(rng, config):
    """Return an instruction that is often, but not always, one that the verifier accepts."""

    def one_of(*values):
        return int(values[rng.integers(len(values))])

    warmup, every, beats = one_of(0, 0, 1, 3), one_of(1, 1, 2, 4), one_of(1, 2, config.columns // config.requantizers)
    groups = one_of(1, 1, 2, 3)
    limit = 1 << config.place_width - 1
    return Instruction(
        end=one_of(1, 1, 1, 0),
        warmup=warmup,
        emit_every=every,
        columns=warmup + 1 + every * one_of(0, 1, 2, 5) + one_of(0, 0, 0, 1),
        rows=one_of(1, 2, 3),
        groups=groups,
        pool_rows=one_of(1, 1, 2),
        pool_columns=one_of(1, 1, 2),
        taps_y=one_of(1, 1, 2),
        taps_x=one_of(1, 1, 3),
        run=one_of(1, 2, config.lanes // 2, config.lanes + 1),
        beats=min(beats, config.columns // config.requantizers),
        idle=one_of(0, 0, 1, 3, 6, 7, 8, (1 << config.idle_bits) - 1, 1 << config.idle_bits) % 2048,
        output_channels=(groups - 1) * beats * config.requantizers + 1,
        paired_rows=one_of(0, 0, 0, 1),
        row_bytes=one_of(1, 16, 64, limit - config.lanes, limit - config.lanes + 1),
        x_first=one_of(0, -1, -limit, -limit - 1),
        output_base=128,
        output_column_step=one_of(0, 1),
        weights_per_tap=1,
        clamp_low=one_of(-128, 0, 7),
        clamp_high=one_of(127, 255, 7, 6),
        weights_unsigned=one_of(0, 1),
        weight_zero_point=one_of(0, 0, 127, 128, -128),
    )


def broken_assumptions(config, i):
    """Yield what the proofs assume of an instruction and is not so."""
    if not i.end:
        yield "end: the last instruction has it"
    if i.columns - 1 < i.warmup or (i.columns - 1 - i.warmup) % i.emit_every:
        yield "test_loops: columns − 1 = warmup + outputs · emit_every"
    if i.idle >= 1 << config.idle_bits:
        yield "test_loops: idle"
    position = -(-i.run // config.lanes) * i.taps_x * i.taps_y
    for applies, positions in (
        (i.pool_rows * i.pool_columns > 1, 1),
        (i.columns - 1 > i.warmup, i.emit_every),
        (i.rows * i.groups > 1, i.warmup + 1),
    ):
        if applies and i.idle + positions * position < i.beats:
            yield "test_loops: idle + positions · cycles ≥ beats"
    if i.clamp_low > i.clamp_high:
        yield "test_requantizer: the clamp's ends are in order"
    low, high = (0, 255) if i.weights_unsigned else (-128, 127)
    if not low <= i.weight_zero_point <= high:
        yield "test_pe: zero points are of the weights' type"
    if i.row_bytes + config.lanes > 1 << config.place_width - 1:
        yield "test_addresses: row_bytes"
    if i.paired_rows and 2 * i.run > config.lanes:
        yield "test_addresses: two runs fit the lanes"


@pytest.mark.parametrize("config", CONFIGS, ids=["one requantizer", "four"])
def test_the_verifier_sees_to_what_is_assumed(config):
    rng = np.random.default_rng(5)
    accepted, refused = 0, Counter()
    for _ in range(600):
        instruction = random_loops(rng, config)
        program = make_program(
            config=config,
            name="p",
            weights=np.zeros((8, config.multipliers), np.uint8),
            parameters=random_parameters(rng, 64),
            instructions=(instruction,),
            layers=(),
            host_steps=(),
        )
        wrong = list(broken_assumptions(config, instruction))
        try:
            verify(program)
        except ZeropointError:
            refused.update(wrong)
            continue
        accepted += 1
        assert not wrong, instruction
    # Each assumption is one that some programs break, and are refused.
    assert accepted > 5
    assert len(refused) >= 7, refused
