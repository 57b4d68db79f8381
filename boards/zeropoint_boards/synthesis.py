"""Synthesis: a design as a netlist of a device's cells, and the resources that it takes."""

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranth.back import rtlil

from zeropoint import tools
from zeropoint.errors import ZeropointError
from zeropoint_boards.devices import Device, Family, Resources
from zeropoint_boards.unread import without_unread

#: The extra of Zeropoint that installs the tools.
EXTRA = "build"

#: The name of the design.
TOP = "top"

#: What Yosys is told of every clocked read port: what it answers where its address is written in the same cycle does
#: not matter. Otherwise Yosys surrounds each block RAM with comparators and multiplexers, to answer with the word as it
#: was before (1,200 LUT for 8 × 8). No part of the accelerator uses what it reads while it is written. Activations: an
#: instruction reads other tensors than it writes, starts when what the one before wrote can be read, and masks what it
#: reads in vain. Program, parameters, weights, tables: the host writes them while no program runs, and an instruction
#: that was fetched before is then fetched again. The weight buffer: the array takes what has arrived. The log: it is
#: read when the program is done.
_COLLISIONS = "setparam -set COLLISION_X_MASK 1'1 t:$memrd_v2 r:CLK_ENABLE=1 %i"

#: What ends the name of an element of a signal, as Amaranth gives it: Yosys's abc9 names bits so, and joins element 1
#: with bit 1 of the whole signal where both leave what it maps. (The index of a bit has a space before it.)
_BRACKETS = re.compile(r"(?<=\S)\[(\d+)\]")

#: What is appended to the name of a cell that Yosys must not see.
_KEPT = "_kept"


@dataclass(frozen=True)
class Netlist:
    """A synthesized design.

    Attributes
    ----------
    device
        Whose cells these are.
    json
        The netlist as Yosys writes it and nextpnr reads it, without outputs that would cost something unread.
    cells
        How many there are of each kind.
    """

    device: Device
    json: bytes
    cells: Mapping[str, int]

    @property
    def resources(self) -> Resources:
        """What the design takes of its device, but for pins and clocks."""
        return Resources.of(self.cells, self.device.family.cells)


def synthesize(design: Any, device: Device, dsp: bool = True) -> Netlist:
    """Return a design as a netlist of the device's cells.

    The same design gives the same bytes. It takes seconds for one PE, a minute for 8 × 8.

    Parameters
    ----------
    design
        An Amaranth component, whose ports become the netlist's. What a memory of it answers to a clocked read of the
        address that is written in the same cycle, must not matter.
    device
        What its components get as their platform.
    dsp
        Whether Yosys may make DSP blocks of multiplications; if not, it makes logic of them.

    Raises
    ------
    ZeropointError
        If Yosys is missing, or cannot synthesize the design.
    """
    _yosys()
    return synthesize_rtlil(rtlil.convert(design, platform=device, name=TOP, emit_src=False), device, dsp)


def synthesize_rtlil(text: str, device: Device, dsp: bool = True) -> Netlist:
    """Return the design :data:`TOP` of a text in RTLIL as :func:`synthesize` does; it may have pads."""
    yosys = _yosys()
    text = _BRACKETS.sub(r":\1", text)
    family = device.family
    command = f"{family.synthesis if dsp else family.synthesis_without_dsp} -top {TOP}"
    ways = [[command], [f"{command} -run begin:map_luts", *family.second, f"{command} -run map_cells:"]]
    with tempfile.TemporaryDirectory(prefix="zeropoint-") as name:
        folder = Path(name)
        (folder / "top.il").write_text(text)
        for way in ways:
            hide, show = _kept(family)
            script = ["read_rtlil top.il", _COLLISIONS, *hide, *way, *show]
            script += ["tee -q -o cells.json stat -json", "write_json top.json"]
            (folder / "top.ys").write_text("\n".join(script) + "\n")
            try:
                tools.run([*yosys, "-q", "-s", "top.ys"], folder, f"synthesis for {device.device}: Yosys")
                break
            except ZeropointError:
                if way is ways[-1]:
                    raise
        try:
            cells = json.loads((folder / "cells.json").read_text())["design"]["num_cells_by_type"]
            netlist = without_unread((folder / "top.json").read_bytes(), device.family.unread)
            return Netlist(device, netlist, cells)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ZeropointError(
                f"synthesis for {device.device}: this version of Yosys does not say how many cells there are as "
                f"others do ({type(error).__name__}: {error}); install the one that zeropoint[{EXTRA}] asks for"
            ) from error


def _kept(family: Family) -> tuple[list[str], list[str]]:
    """Return the commands that give cells which are to be kept as they are another name, and those that undo it."""
    hide = [f"read_verilog -lib +/{family.models}/cells_sim.v"] if family.kept else []
    for cell in family.kept:
        hide += [f"chtype -set {cell}{_KEPT} t:{cell}", f"copy {cell} {cell}{_KEPT}"]
    return hide, [f"chtype -set {cell} t:{cell}{_KEPT}" for cell in family.kept]


def _yosys() -> list[str]:
    return tools.yowasp("yosys", "synthesis", EXTRA)
