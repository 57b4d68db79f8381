"""Which parts of a design its look-up tables and flip-flops belong to, of a flat netlist of an iCE40."""

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass

from zeropoint_boards.synthesis import Netlist

_NUMBER = re.compile(r"\$\d+$")


@dataclass(frozen=True)
class Part:
    """What a part of a design takes: look-up tables, flip-flops, and the cells for both.

    A logic cell has one of each, which share it where the flip-flop takes what this look-up table gives, and nothing
    else does. Carries that need a cell of their own are not counted.
    """

    lut: int
    ff: int
    cells: int


def parts(netlist: Netlist, depth: int = 2) -> dict[str, Part]:
    """Return what parts take, by their names down to ``depth``, the largest first.

    Flip-flops have the names of their signals. A look-up table belongs to the part of what it gives, or, where that has
    no name, to that of most of its readers.
    """
    top = json.loads(netlist.json)["modules"]["top"]
    cells = {
        name: cell for name, cell in top["cells"].items() if cell["type"].startswith(("SB_LUT4", "SB_DFF", "SB_CARRY"))
    }
    names: dict[int, str] = {}
    for name, wire in top["netnames"].items():
        for bit in wire["bits"]:
            if isinstance(bit, int) and not name.startswith("$") and names.get(bit, "").count(".") <= name.count("."):
                names[bit] = name
    drivers: dict[int, str] = {}
    readers: dict[int, list[str]] = defaultdict(list)
    for name, cell in top["cells"].items():
        for port, bits in cell["connections"].items():
            for bit in bits:
                if isinstance(bit, int) and cell["port_directions"].get(port) == "output":
                    drivers[bit] = name
                elif isinstance(bit, int):
                    readers[bit].append(name)
    owners: dict[str, str] = {}
    gives: dict[str, list[int]] = defaultdict(list)
    for bit, name in drivers.items():
        gives[name].append(bit)
    for name in top["cells"]:
        path = next((names[bit] for bit in gives[name] if bit in names), "")
        if path:
            # Yosys numbers what would have a signal's name.
            owners[name] = _NUMBER.sub("", ".".join(path.split(".")[:-1][:depth])) or "top"
    while True:
        found = {}
        for name in cells.keys() - owners.keys():
            near = Counter(owners[reader] for bit in gives[name] for reader in readers[bit] if reader in owners)
            if near:
                found[name] = max(sorted(near), key=near.__getitem__)
        if not found:
            break
        owners |= found

    luts, ffs, taken = Counter[str](), Counter[str](), Counter[str]()
    for name, cell in cells.items():
        part = owners.get(name, "top")
        if cell["type"] == "SB_LUT4":
            luts[part] += 1
            taken[part] += 1
        elif cell["type"] != "SB_CARRY":
            ffs[part] += 1
            (source,) = cell["connections"]["D"]
            driver = drivers.get(source, "")
            shares = driver in cells and cells[driver]["type"] == "SB_LUT4" and len(readers[source]) == 1
            taken[part] += not shares
    order = sorted(taken, key=lambda part: (-taken[part], part))
    return {part: Part(luts[part], ffs[part], taken[part]) for part in order}
