"""A device: an accelerator at the other end of a line, and the program on it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.compiler import storage
from zeropoint.compiler.program import Buffer, Program, program_hash
from zeropoint.compiler.verify_program import verify
from zeropoint.errors import ZeropointError
from zeropoint.host.driver import Driver, LogRecord
from zeropoint.host.host_steps import apply_host_steps
from zeropoint.host.line import Line, SerialLine
from zeropoint.host.link_transport import LinkTransport
from zeropoint.host.session import DeviceReset, Identity, Session, Statistics
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import Command, Region, Register, address
from zeropoint_hw.protocol import configuration_digest

Array = npt.NDArray[Any]

#: Bits a second, unless the board says otherwise.
BAUD = 1_000_000

#: How often in a row a device may be reset before it is given up.
_RESETS = 3


@dataclass(frozen=True)
class Report:
    """What the last batch took.

    Attributes
    ----------
    cycles
        Of each inference, from input loaded to last output written, counted by the hardware.
    seconds
        From the first byte of the first input to the last one of the last output.
    repeated
        Requests that were sent again, because something was lost or damaged.
    damaged
        Damaged frames from the device.
    resets
        How often the program was loaded again, because the device had been reset.
    """

    cycles: tuple[int, ...]
    seconds: float
    repeated: int
    damaged: int
    resets: int

    @property
    def inferences_per_second(self) -> float:
        """Inferences in a second, with everything that the link takes."""
        return len(self.cycles) / max(self.seconds, 1e-9)


class Device:
    """An accelerator on a board. Never does it return a wrong result: it repeats, or raises ZeropointError.

    Parameters
    ----------
    line
        To the device; closed with this.
    timeout, patience
        As :class:`zeropoint.host.session.Session`.

    Raises
    ------
    ZeropointError
        If no device answers.
    """

    def __init__(self, line: Line, timeout: float = 0.25, patience: float = 8.0) -> None:
        self._line = line
        self._session = Session(line, timeout, patience)
        self._program: Program | None = None
        self._report: Report | None = None
        try:
            self._identity = self._session.identify()
        except BaseException:
            line.close()
            raise

    @classmethod
    def open(cls, port: str, program: Program | Path | None = None, *, baud: int = BAUD, **options: float) -> "Device":
        """Return the device at a serial port, with a program on it.

        Parameters
        ----------
        port
            Such as ``/dev/ttyUSB1``.
        program
            As :meth:`load`; None leaves that for later.
        baud
            The link's bits a second.
        options
            As the constructor.

        Raises
        ------
        ZeropointError
            As the constructor and :meth:`load`, and if the port cannot be used.
        """
        # A board's bits may take longer than usual: a longest request and its answer, twice.
        slowest = 4 * 256 * 10 / baud
        device = cls(SerialLine(port, baud), **{"timeout": 0.25 + slowest, **options})
        try:
            if program is not None:
                device.load(program)
        except BaseException:
            device.close()
            raise
        return device

    def __enter__(self) -> "Device":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the line back. May be repeated."""
        self._line.close()

    @property
    def identity(self) -> Identity:
        """What the device said of itself when it was last asked."""
        return self._identity

    @property
    def statistics(self) -> Statistics:
        """What has gone over the line."""
        return self._session.statistics

    @property
    def report(self) -> Report:
        """What the last batch took."""
        if self._report is None:
            raise ZeropointError("nothing has been run on the device yet")
        return self._report

    def load(
        self, program: Program | Path, progress: Callable[[int, int], Any] | None = None, force: bool = False
    ) -> None:
        """Put a program on the device, unless it holds it already.

        Parameters
        ----------
        program
            Or the folder that ``zeropoint compile`` wrote it to.
        progress
            Called with bytes loaded, and in all.
        force
            Whether to load it even if it is there.

        Raises
        ------
        ZeropointError
            If it was compiled for another configuration than the device has, or is not the one that is built in.
        """
        if isinstance(program, Path):
            program = storage.load(program)
        verify(program)
        self._program = program
        self._attach(progress, force)

    def _attach(self, progress: Callable[[int, int], Any] | None = None, force: bool = False) -> None:
        """Load the program, if need be, into a device that has just been identified."""
        program, identity = self._loaded, self._identity
        if identity.configuration != configuration_digest(program.config):
            raise ZeropointError(
                f"program '{program.name}' was compiled for {_sizes(program.config)}, and the device has another "
                f"configuration; compile it with the options that the bitstream was built with"
            )
        wanted = program_hash(program)
        there = identity.program == wanted and not force
        if program.config.built_in and identity.program != wanted:
            raise ZeropointError(
                f"the device was built with another program than '{program.name}'; build the bitstream again"
            )
        total = _load_bytes(program)
        update = None if progress is None else lambda written: progress(min(written, total), total)
        self._transport = LinkTransport(self._session, program.config, wanted, update)
        self._driver = Driver(self._transport, program, loaded=there)
        if not there and not program.config.built_in:
            self._transport.seal()
        self._transport = LinkTransport(self._session, program.config, wanted)
        self._driver = Driver(self._transport, program, loaded=True)

    @property
    def _loaded(self) -> Program:
        if self._program is None:
            raise ZeropointError("the device has been given no program: call load() with a compiled program's folder")
        return self._program

    def run(self, x: Array, progress: Callable[[int, int], Any] | None = None) -> Array:
        """Return the network's outputs.

        While one input is being worked on, the next one is on its way.

        Parameters
        ----------
        x
            ``(n, *shape)`` in the input's dtype.
        progress
            Called with inferences done, and in all.

        Returns
        -------
        ndarray
            ``(n, *shape)``, operators that are left to the host included.

        Raises
        ------
        ZeropointError
            If ``x`` is no such array, or the device does not answer, or is reset again and again.
        """
        program = self._loaded
        first = program.input
        if x.shape[1:] != first.shape or x.dtype != first.dtype or not len(x):
            raise ZeropointError(
                f"input '{first.tensor}' takes {first.dtype} (n, {str(first.shape)[1:-1]}), not {x.dtype} {x.shape}"
            )
        before = self.statistics.repeated, self.statistics.damaged
        began = time.perf_counter()
        outputs: list[Array] = []
        cycles: list[int] = []
        resets = in_a_row = 0
        while len(outputs) < len(x):
            done = len(outputs)
            try:
                for output, taken in self._batch(x[done:]):
                    outputs.append(output)
                    cycles.append(taken)
                    if progress is not None:
                        progress(len(outputs), len(x))
            except DeviceReset as error:
                resets, in_a_row = resets + 1, 1 if len(outputs) > done else in_a_row + 1
                if in_a_row > _RESETS:
                    raise ZeropointError(f"{error}, {in_a_row} times in a row; look after its supply") from None
                self._recover()
        self._report = Report(
            tuple(cycles),
            time.perf_counter() - began,
            self.statistics.repeated - before[0],
            self.statistics.damaged - before[1],
            resets,
        )
        return apply_host_steps(program, np.stack(outputs))

    def _recover(self) -> None:
        """Load the program again, into a device that may be reset while that is done."""
        for attempt in range(_RESETS):
            self._identity = self._session.identify()
            try:
                return self._attach()
            except DeviceReset:
                if attempt == _RESETS - 1:
                    raise

    def _batch(self, x: Array) -> Iterator[tuple[Array, int]]:
        """Yield output and cycles of each inference."""
        program, driver, transport = self._loaded, self._driver, self._transport
        apart = not _overlap(program.input, program.output, program.config.host_bytes)
        asked: Callable[[], tuple[Array, int]] | None = None
        for values in x:
            # The next input goes out while the output before it comes in, unless it would take that one's place.
            if asked is not None and not apart:
                yield asked()
                asked = None
            driver.write(program.input, values)
            if asked is not None:
                yield asked()
            transport.start(Command.RUN, driver.cycle_limit)
            asked = self._ask()
        if asked is not None:
            yield asked()

    def _ask(self) -> Callable[[], tuple[Array, int]]:
        """Ask for the output of an inference, and its cycles."""
        program, driver, transport = self._loaded, self._driver, self._transport
        words = transport.read_later(*driver.accesses(program.output))
        cycles = transport.read_later(address(Region.CONTROL, Register.CYCLES), 1)
        return lambda: (driver.values(program.output, words()), int(cycles()[0]))

    def run_layers(self, values: Array) -> dict[str, Array]:
        """Return every tensor that the layers write for one input, by name."""
        self._loaded  # noqa: B018  Raises where there is none.
        return self._driver.run_layers(values)

    def counters(self) -> dict[Register, int]:
        """Return the registers of the control region: what the last run's cycles were spent on, among others."""
        self._loaded  # noqa: B018
        words = self._transport.read(address(Region.CONTROL, 0), len(Register))
        return dict(zip(Register, words.tolist(), strict=True))

    def log(self) -> list[LogRecord]:
        """Return what each instruction of the last run took."""
        self._loaded  # noqa: B018
        return self._driver.log()


def _overlap(a: Buffer, b: Buffer, unit: int) -> bool:
    """Return whether accesses of ``unit`` bytes to one buffer touch the other."""
    ends = [each.address + -(-each.size // unit) * unit for each in (a, b)]
    return a.address < ends[1] and b.address < ends[0]


def _sizes(config: AcceleratorConfig) -> str:
    return f"{config.lanes} lanes × {config.columns} columns, {config.pe}"


def _load_bytes(program: Program) -> int:
    """Return how many bytes of data loading a program takes."""
    parts = {image.name: image.depth for image in program.images}
    words = parts["program"] + 4 * parts["parameters"] + parts.get("tables", 0)
    return 4 * (words + program.config.pieces * parts["weights"])
