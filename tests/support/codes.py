"""What the bits of a weight stand for, straight from docs/formats.md and the definitions of the PEs."""

import numpy as np
import numpy.typing as npt

from zeropoint_hw.config import AcceleratorConfig, PEKind
from zeropoint_hw.isa import Gate, Instruction

Integers = npt.NDArray[np.int64]


def takes_powers(config: AcceleratorConfig, instruction: Instruction) -> bool:
    """Return whether weights are codes of powers of two, not integers."""
    return config.pe is PEKind.SHIFT or bool(instruction.weights_coded)


def decoded(config: AcceleratorConfig, instruction: Instruction, codes: npt.NDArray[np.integer]) -> Integers:
    """Return what codes ``(…, columns, lanes)`` stand for under an instruction, its gate included."""
    codes = codes.astype(np.int64)
    if takes_powers(config, instruction):
        coded = config.pe is PEKind.MIXED
        exponent_bits = 3 if coded else config.weight_bits - 1 - config.weight_zero
        sign = codes >> exponent_bits & 1
        values = (1 - 2 * sign) << (codes & (1 << exponent_bits) - 1)
        if coded or config.weight_zero:
            values = np.where(codes >> exponent_bits + 1 & 1, values, 0)
    elif config.pe is PEKind.MINIFLOAT:
        values = float_integers(codes, config.weight_bits, config.exponent_bits)
    elif instruction.weights_unsigned:
        values = codes
    else:
        top = 1 << config.weight_bits - 1
        values = (codes ^ top) - top
    if not config.weight_zero:
        values = np.where(gate(config, instruction), values, 0)
    return values


def float_integers(codes: npt.NDArray[np.int64], bits: int, exponent_bits: int) -> Integers:
    """Return what minifloats of up to 4 exponent bits stand for, in units of the least of them."""
    mantissa_bits = bits - 1 - exponent_bits
    field, mantissa = codes >> mantissa_bits & (1 << exponent_bits) - 1, codes & (1 << mantissa_bits) - 1
    magnitude = np.where(field > 0, mantissa + (1 << mantissa_bits) << np.maximum(field - 1, 0), mantissa)
    return np.where(codes >> bits - 1 & 1, -magnitude, magnitude)


def factors(config: AcceleratorConfig, instruction: Instruction, activations: Integers) -> Integers:
    """Return what PEs multiply by weights for activations as they lie in memory, signed or not."""
    if config.pe is PEKind.MINIFLOAT:
        bits = config.activation_bits
        return float_integers(np.abs(activations) | (activations < 0) << bits - 1, bits, config.exponent_bits)
    return activations if config.pe is PEKind.FOLD else activations - instruction.input_zero_point


def gate(config: AcceleratorConfig, instruction: Instruction) -> npt.NDArray[np.bool_]:
    """Return which lanes each column takes, ``(columns, lanes)``."""
    column, lane = np.indices((config.columns, config.lanes))
    if instruction.gate is Gate.OWN:
        return np.asarray(lane == column)
    if instruction.gate is Gate.FIRST:
        return np.asarray(lane == 0)
    return np.asarray(lane < config.window_taps) if instruction.gate is Gate.TAPS else np.ones(lane.shape, bool)


def random_codes(
    config: AcceleratorConfig, instruction: Instruction, rng: np.random.Generator, count: int
) -> npt.NDArray[np.uint8]:
    """Return words of weights ``(count, columns, lanes)``, all codes with a meaning among them, the ends often."""
    if takes_powers(config, instruction):
        zero = config.pe is PEKind.MIXED or config.weight_zero
        bits = 5 if config.pe is PEKind.MIXED else config.weight_bits
        every = np.arange(1 << bits)
        if zero:
            every = every[(every == 0) | (every >= 1 << bits - 1)]
        greatest = every[-1]
    else:
        every = np.arange(1 << config.weight_bits)
        greatest = every[-1] if instruction.weights_unsigned else every[len(every) // 2 - 1]
    codes = rng.choice(every, (count, config.columns, config.lanes))
    codes[rng.random(count) < 0.2] = greatest
    return codes.astype(np.uint8)


def one(config: AcceleratorConfig) -> npt.NDArray[np.uint8]:
    """Return the word that passes each lane to the column of its number, if the gate is ``Gate.OWN``."""
    code = 1
    if config.pe is PEKind.SHIFT:
        code = 1 << config.weight_bits - 1 if config.weight_zero else 0
    return (np.eye(config.columns, config.lanes, dtype=np.int64) * code).astype(np.uint8)
