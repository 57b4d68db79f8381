"""Which tests of the fast suite judge the faults of which module, in the order in which they are asked."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from .faults import Fault
from .selectable import selected

#: Component tests, those in tests/hw by their name, by source file or by file and class; where there is no entry, those
#: of the file's own name.
_COMPONENTS = {
    "accelerator": ("accelerator", "sim/test_flash", "system/test_weight_stores"),
    "adder_tree": ("adder_tree", "array"),
    "array": ("array",),
    "banks": ("memory",),
    "barrel": ("barrel", "pe"),
    "flash_copier": ("sim/test_flash",),
    "float_product": ("pe",),
    "framing": ("framing", "link"),
    "history": ("history", "array"),
    "lut_multiplier": ("lut_multiplier", "pe"),
    "minifloat_requantizer": ("minifloat_requantizer",),
    "multiplier": ("multiplier", "requantizer", "array"),
    "pe": ("pe", "array"),
    "pair_scaler": ("pair_scaler", "shift_requantizer"),
    "requantizer.Requantizer": ("requantizer", "minifloat_requantizer", "shift_requantizer"),
    "shift_requantizer": ("shift_requantizer",),
    "spi_flash": ("spi_flash", "sim/test_flash"),
    "uart": ("uart", "link"),
    "weight_buffer": ("weight_buffer", "sim/test_flash", "system/test_weight_stores"),
}

#: Whole networks, by source file; where there is no entry, those under "".
_NETWORKS = {
    "": ("test_movement", "test_elementwise", "test_random_networks"),
    "minifloat_requantizer": ("test_minifloats",),
    "float_product": ("test_minifloats",),
    "pe.MinifloatPE": ("test_minifloats",),
    "shift_requantizer": ("test_fixed_point",),
    "pair_scaler.PairShifter": ("test_fixed_point",),
    "barrel": ("test_number_formats",),
    "pe.ShiftPE": ("test_number_formats",),
}
#: Of these files, what runs on compiled accelerators of which building does not take long.
_NETWORK_TESTS = "(every_movement or every_operator or random_networks or the_hardware_gives) and not 1x1 and not 8x8"

#: What the accelerators of those networks do not have: links, and narrow memories for weights.
_ELSEWHERE = ("flash_copier", "framing", "link", "spi_flash", "uart", "weight_buffer")


def _entry(table: Mapping[str, tuple[str, ...]], module: str, default: tuple[str, ...]) -> tuple[str, ...]:
    source = module.split(".")[0]
    return table.get(module, table.get(source, default))


@dataclass(frozen=True)
class Stage:
    """Tests that are asked about the faults which those before have not seen.

    Attributes
    ----------
    name
        Of the stage.
    tests
        Returns the test files for a fault.
    options
        Further arguments for pytest.
    around
        Given the faults of the stage, returns what gives a context for a fault's number.
    patience
        Processor seconds that one of its tests may take where that is not known yet, a build included.
    """

    name: str
    tests: Callable[[Fault], Sequence[str]]
    options: tuple[str, ...]
    around: Callable[[Mapping[int, Fault]], Callable[[int], AbstractContextManager[None]]]
    patience: int


def _component_tests(fault: Fault) -> list[str]:
    module = fault.place.module
    names = _entry(_COMPONENTS, module, (module.split(".")[0],))
    return [f"tests/{name}.py" if "/" in name else f"tests/hw/test_{name}.py" for name in names]


def _network_tests(fault: Fault) -> list[str]:
    module = fault.place.module
    if module.split(".")[0] in _ELSEWHERE:
        return []
    return [f"tests/system/{name}.py" for name in _entry(_NETWORKS, module, _NETWORKS[""])]


def _accelerator_tests(fault: Fault) -> list[str]:
    source = fault.place.module.split(".")[0]
    return [] if source in (*_ELSEWHERE, "accelerator") else ["tests/hw/test_accelerator.py"]


def _plainly(faults: Mapping[int, Fault]) -> Callable[[int], AbstractContextManager[None]]:
    return lambda number: nullcontext()


def _compiled(faults: Mapping[int, Fault]) -> Callable[[int], AbstractContextManager[None]]:
    return lambda number: selected(faults, number)


STAGES = (
    Stage("components", _component_tests, ("--engine", "amaranth"), _plainly, 60),
    Stage("networks", _network_tests, ("-k", _NETWORK_TESTS), _compiled, 900),
    Stage("accelerator", _accelerator_tests, ("--engine", "amaranth"), _plainly, 60),
)
