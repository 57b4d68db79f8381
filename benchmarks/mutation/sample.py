"""Which faults are tried: a sample, the same for the same seed, with so many of each module and of each kind."""

import random
from collections.abc import Sequence
from itertools import cycle
from typing import Any

from zeropoint_hw.accelerator import Accelerator, Rom
from zeropoint_hw.config import AcceleratorConfig, WeightSource
from zeropoint_hw.linked import LinkedAccelerator

from .faults import Fault, all_faults

#: Small, as only what is in them counts.
_SIZES: dict[str, Any] = {
    "lanes": 4,
    "columns": 4,
    "requantizers": 2,
    "activation_bytes": 1024,
    "weight_bytes": 1024,
    "parameter_channels": 16,
    "program_words": 64,
    "tables": 2,
}

#: Together they have every module of the gateware, and of each what it can have but for blocks of one kind of FPGA.
DESIGNS: dict[str, dict[str, Any]] = {
    "mac": {},
    "mac of adders": {"dsp": False},
    "fold": {"pe": "fold", "weight_source": "rom"},
    "shift": {"pe": "shift"},
    "shifts alone": {"pe": "shift", "requantizer": "shift", "weight_zero": False},
    "mixed": {"pe": "mixed"},
    "16 bits": {"activation_bits": 16, "tables": 0, "requantizer": "shift", "weight_zero_points": False},
    "minifloat": {"pe": "minifloat"},
    "serial": {"requantizer": "serial"},
    "least": {
        "pe": "fold",
        "requantizer": "serial",
        "weight_zero_points": False,
        "unsigned_activations": False,
        "prefetch": False,
        "log": False,
        "max_pooling": False,
        "window_taps": 1,
        "tables": 0,
    },
    "weights beside activations": {"weight_store": "shared", "activation_ports": 1, "weight_buffer": 16},
    "weights copied from flash": {"weight_source": "flash", "weight_store": "shared", "memory_registers": False},
    "weights in flash": {"weight_source": "flash", "weight_store": "flash", "weight_buffer": 16},
}


def designs() -> list[Any]:
    """Return components that together have every place for a fault."""
    made: list[Any] = []
    for entries in DESIGNS.values():
        config = AcceleratorConfig(**_SIZES | entries)
        rom = Rom([], [], []) if config.built_in else None
        made.append(Accelerator(config, rom))
    made.append(LinkedAccelerator(AcceleratorConfig(**_SIZES), divisor=4))
    fixed = AcceleratorConfig(**_SIZES, weight_source=WeightSource.ROM)
    made.append(LinkedAccelerator(fixed, divisor=4, rom=Rom([], [], []), program_hash=bytes(range(8))))
    return made


def sampled(faults: Sequence[Fault], count: int, seed: int) -> list[Fault]:
    """Return ``count`` of the faults: as many of each module, and within a module of each kind, as there are."""
    rng = random.Random(seed)
    modules: dict[str, dict[str, list[Fault]]] = {}
    for fault in sorted(faults):
        modules.setdefault(fault.place.module, {}).setdefault(fault.kind, []).append(fault)
    queues = {}
    for module, kinds in modules.items():
        for entries in kinds.values():
            rng.shuffle(entries)
        order = list(kinds.values())
        rng.shuffle(order)
        queues[module] = [entry for row in _transposed(order) for entry in row]
    chosen: list[Fault] = []
    for module in cycle(sorted(queues)):
        if len(chosen) == count or not any(queues.values()):
            break
        if queues[module]:
            chosen.append(queues[module].pop(0))
    return sorted(chosen)


def _transposed(rows: Sequence[Sequence[Fault]]) -> list[list[Fault]]:
    longest = max(map(len, rows))
    return [[row[index] for row in rows if index < len(row)] for index in range(longest)]


#: Modules that are wires alone, between components that are tested; its tests build a simulator for each design.
_LEFT_OUT = "linked.LinkedAccelerator"


def population() -> tuple[list[Fault], dict[str, list[Any]]]:
    """Return all faults that the gateware may have, and of each module some components that have its places."""
    faults, components = all_faults(designs())
    return [fault for module, found in faults.items() if module != _LEFT_OUT for fault in found], components
