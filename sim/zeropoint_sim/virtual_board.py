"""The virtual board: a board's top level, simulated, with its serial line at a pseudo-terminal."""

import ctypes
import os
import select
import threading
import time
import tty
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

from zeropoint.compiler.program import Program, program_hash
from zeropoint.errors import ZeropointError
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.linked import LinkedAccelerator
from zeropoint_sim import cxxrtl_build, design
from zeropoint_sim.line_faults import Faults, FaultyLine

#: Clock cycles of a bit: as few as the link takes, so that there is little to simulate.
DIVISOR = 4

#: Cycles simulated between looks at the line.
_SLICE = 8192
_CHUNK = 1 << 16

_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "create": (ctypes.c_void_p, [ctypes.c_double]),
    "destroy": (None, [ctypes.c_void_p]),
    "cycles": (ctypes.c_uint64, [ctypes.c_void_p]),
    "reset": (None, [ctypes.c_void_p]),
    "put": (None, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint64]),
    "take": (ctypes.c_uint64, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint64]),
    "run": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_uint64]),
}


class VirtualBoard:
    """An accelerator with its link, which any program reaches through the serial port ``port``.

    It runs in a thread of its own, at rest where it has nothing to do.

    Parameters
    ----------
    config
        The accelerator's.
    program
        What is built in where ``config.weight_source`` is ``rom``.
    divisor, buffer_bits
        As :class:`zeropoint_hw.link.Link`.
    clock_hz
        Clock cycles a second that it is not to exceed; None for as fast as it gets.
    line_error
        By how much the host's bits are longer than the board's: 0.02 for 2 %.
    faults
        What happens on the line, in both directions.
    top
        Returns what surrounds the accelerator and its link, with the ports of these; None for nothing.
    top_identity
        Tells what ``top`` returns from what others do.
    announce
        Called before the simulator is built, which takes a while; later runs find it in the cache.

    Attributes
    ----------
    port
        The serial port.
    to_board, from_board
        The directions of the line, with counts of what happened.

    Raises
    ------
    ZeropointError
        As :func:`zeropoint_sim.cxxrtl_build.build`.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        program: Program | None = None,
        *,
        divisor: int = DIVISOR,
        buffer_bits: int = 9,
        clock_hz: float | None = None,
        line_error: float = 0.0,
        faults: Faults | None = None,
        top: Callable[[LinkedAccelerator], Any] | None = None,
        top_identity: bytes = b"",
        announce: Callable[[], None] | None = None,
    ) -> None:
        rom = None
        built_in = None
        if config.built_in:
            if program is None:
                source = f"weight_source = {config.weight_source}"
                raise ZeropointError(f"a board with {source} is built with a program; give it one")
            rom, built_in = design.rom(program), program_hash(program)

        def make_design() -> Any:
            core: Any = LinkedAccelerator(config, divisor, buffer_bits, rom, built_in)
            if program is not None:
                core = design.with_flash(core, program)
            return core if top is None else top(core)

        identity = cxxrtl_build.design_identity("zeropoint_hw") + top_identity
        identity += repr((config, divisor, buffer_bits, rom, built_in)).encode()
        path = cxxrtl_build.build(make_design, identity, announce=announce, wrapper=cxxrtl_build.BOARD_WRAPPER)
        self._library: Any = ctypes.CDLL(str(path))
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(self._library, f"zeropoint_board_{name}")
            function.restype, function.argtypes = result, arguments
        self._board = self._library.zeropoint_board_create(divisor * (1 + line_error))
        self._clock_hz = clock_hz
        self.to_board = FaultyLine(faults or Faults(), "to the board")
        self.from_board = FaultyLine(faults or Faults(), "from the board")
        self._faulty = faults is not None

        # The board keeps the terminal open, so that hosts may come and go.
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.port = os.ttyname(self._slave)
        self._wake, self._waker = os.pipe()
        self._ending = self._resetting = False
        self._cycles = 0
        self._thread = threading.Thread(target=self._serve, name="virtual board", daemon=True)
        self._thread.start()

    def __enter__(self) -> "VirtualBoard":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def cycles(self) -> int:
        """Clock cycles simulated so far."""
        return self._cycles

    def reset(self) -> None:
        """Press the board's reset button, and wait until it has been let go."""
        self._resetting = True
        os.write(self._waker, b"\0")
        while self._resetting and self._thread.is_alive():
            time.sleep(0.001)

    def close(self) -> None:
        """Switch the board off. May be repeated."""
        if self._ending:
            return
        self._ending = True
        os.write(self._waker, b"\0")
        self._thread.join()
        self._library.zeropoint_board_destroy(self._board)
        for end in (self._master, self._slave, self._wake, self._waker):
            os.close(end)

    def _serve(self) -> None:
        library, board = self._library, self._board
        buffer = ctypes.create_string_buffer(_CHUNK)
        outgoing = b""
        resting = True
        began, ahead = time.monotonic(), 0
        while not self._ending:
            waits = resting and not outgoing
            writable = [self._master] if outgoing else []
            ready, free, _ = select.select([self._master, self._wake], writable, [], None if resting else 0)
            if waits:
                began, ahead = time.monotonic(), library.zeropoint_board_cycles(board)
            if self._wake in ready:
                os.read(self._wake, 64)
            if self._resetting:
                library.zeropoint_board_reset(board)
                self._resetting = resting = False
            if self._master in ready:
                with suppress(BlockingIOError, OSError):
                    data = os.read(self._master, _CHUNK)
                    data = self.to_board.carry(data) if self._faulty else data
                    library.zeropoint_board_put(board, data, len(data))
                    resting = False
            if not resting:
                resting = bool(library.zeropoint_board_run(board, _SLICE))
                self._cycles = library.zeropoint_board_cycles(board)
                count = library.zeropoint_board_take(board, buffer, _CHUNK)
                data = buffer.raw[:count]
                outgoing += self.from_board.carry(data) if self._faulty else data
                if self._clock_hz is not None:
                    time.sleep(max(0.0, (self._cycles - ahead) / self._clock_hz - (time.monotonic() - began)))
            if outgoing and (free or not writable):
                with suppress(BlockingIOError):
                    outgoing = outgoing[os.write(self._master, outgoing) :]
