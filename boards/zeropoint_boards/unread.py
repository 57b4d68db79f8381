"""Outputs that nothing reads: a netlist without them."""

import json
from collections.abc import Mapping


def without_unread(netlist: bytes, outputs: Mapping[str, str]) -> bytes:
    """Return a netlist in which some cells' outputs are not connected where nothing reads them.

    No cell's input and no port changes, and so neither does what the netlist computes.

    Parameters
    ----------
    netlist
        In the JSON of Yosys, with a flat module ``top``.
    outputs
        An output by kind of cell.

    Raises
    ------
    ValueError, LookupError, TypeError, AttributeError
        If it is no such netlist.
    """
    if not outputs:
        return netlist
    document = json.loads(netlist)
    module = document["modules"]["top"]
    cells = module["cells"].values()
    read = {bit for port in module["ports"].values() for bit in port["bits"]}
    for cell in cells:
        # What is no output may be read.
        read.update(
            bit
            for port, bits in cell["connections"].items()
            if cell["port_directions"][port] != "output"
            for bit in bits
        )
    for cell in cells:
        port = outputs.get(cell["type"])
        bits = cell["connections"].get(port, [])
        if bits and read.isdisjoint(bits):
            # As Yosys writes what is not connected; nextpnr takes no empty list.
            cell["connections"][port] = ["x"] * len(bits)
    return json.dumps(document, separators=(",", ":")).encode()
