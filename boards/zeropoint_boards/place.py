"""Place and route: a netlist on its device, and the clock that it reaches there."""

import json
import math
import statistics
import tempfile
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zeropoint import tools
from zeropoint.errors import ZeropointError
from zeropoint_boards.synthesis import EXTRA, Netlist


@dataclass(frozen=True)
class Placement:
    """A netlist placed and routed.

    Attributes
    ----------
    seed
        What placing began with.
    clocks
        The frequency in MHz that each clock reaches, by the clock's net.
    utilization
        How many of the device's sites of each kind are taken, and how many there are.
    goals
        The frequency in MHz that each clock was to reach.
    critical_paths
        For each clock the longest path between two of its registers: from which cell to which, and its delay in ns.
    design
        The placed design as nextpnr writes it for the tool that packs it, where that was asked for.
    """

    seed: int
    clocks: Mapping[str, float]
    utilization: Mapping[str, tuple[int, int]]
    goals: Mapping[str, float] = field(default_factory=dict)
    critical_paths: Mapping[str, tuple[str, str, float]] = field(default_factory=dict)
    design: bytes = field(default=b"", repr=False)

    @property
    def fmax(self) -> float:
        """The frequency in MHz that the slowest clock reaches."""
        return min(self.clocks.values())


def median_fmax(placements: Iterable[Placement]) -> float:
    """Return the median of what placements with several seeds reach, in MHz: seeds differ by up to a fifth."""
    return statistics.median(placement.fmax for placement in placements)


def place(
    netlist: Netlist,
    frequency: float,
    seed: int = 1,
    limit: float | None = None,
    constraints: str | None = None,
    stop: threading.Event | None = None,
) -> Placement:
    """Place and route a netlist on its device.

    The same netlist, frequency and seed give the same placement. It takes seconds for a few cells, ten minutes for
    8 × 8.

    Parameters
    ----------
    netlist
        From :func:`zeropoint_boards.synthesis.synthesize`.
    frequency
        What clocks are to reach that nothing else constrains, in MHz; it is no error if they do not.
    seed
        0 to 2^31 − 1.
    limit
        Seconds that it may take; with some seeds, routing never ends.
    constraints
        Pins and clocks, as the device's tools read them. Without them, ports are on any pins and the placed design is
        not kept.
    stop
        Ends it when it is set.

    Raises
    ------
    TookTooLong
        If it takes more.
    Stopped
        If ``stop`` was set.
    ZeropointError
        If nextpnr is missing, the netlist does not fit the device, or it has no clock.
    """
    device = netlist.device
    what = f"place and route on {device.device}"
    nextpnr = tools.yowasp(device.family.place, what, EXTRA)
    if not (0 < frequency < math.inf and 0 <= seed < 1 << 31):
        raise ZeropointError(
            f"{what}: the frequency must be above 0 and the seed 0 to 2^31 − 1, not {frequency}, {seed}"
        )
    if exceeding := netlist.resources.exceeding(device.capacity):
        raise ZeropointError(f"the design does not fit {device.device}: it takes {', '.join(exceeding)}")
    files = ["--json", "top.json", "--report", "report.json"]
    goal = ["--seed", str(seed), "--freq", str(frequency), "--timing-allow-fail"]
    flow = device.family.flow
    assert flow is not None
    if constraints is not None:
        files += [*flow.constraints, *flow.placed]
    with tempfile.TemporaryDirectory(prefix="zeropoint-") as name:
        folder = Path(name)
        (folder / "top.json").write_bytes(netlist.json)
        if constraints is not None:
            (folder / flow.constraints[-1].rpartition("=")[2]).write_text(constraints)
        tools.run([*nextpnr, *device.options, *files, *goal, "--quiet"], folder, f"{what}: nextpnr", limit, stop)
        try:
            report = json.loads((folder / "report.json").read_text())
            clocks = {clock: float(entry["achieved"]) for clock, entry in report["fmax"].items()}
            goals = {clock: float(entry["constraint"]) for clock, entry in report["fmax"].items()}
            paths = dict(_critical_path(entry) for entry in report["critical_paths"] if entry["from"] == entry["to"])
            utilization = {
                site: (int(entry["used"]), int(entry["available"])) for site, entry in report["utilization"].items()
            }
            design = b"" if constraints is None else (folder / flow.placed[-1]).read_bytes()
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ZeropointError(
                f"{what}: this version of nextpnr does not report as others do ({type(error).__name__}: {error}); "
                f"install the one that zeropoint[{EXTRA}] asks for"
            ) from error
    if not clocks:
        raise ZeropointError(f"{what}: the design has no path from one register to another, and so no clock to time")
    paths = {clock: path for name, path in paths.items() for clock in clocks if name == f"posedge {clock}"}
    return Placement(seed, clocks, utilization, goals, paths, design)


def _critical_path(entry: Mapping[str, Any]) -> tuple[str, tuple[str, str, float]]:
    """Return a path's clock, with its edge, and where it begins and ends and how long it takes."""
    path = entry["path"]
    return entry["from"], (path[0]["from"]["cell"], path[-1]["to"]["cell"], sum(float(step["delay"]) for step in path))
