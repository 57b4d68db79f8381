"""CXXRTL as an engine: the design as compiled C++, much faster than Amaranth's simulator."""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeropoint.errors import ZeropointError
from zeropoint.host.transport import bus_words, no_answer, still_busy
from zeropoint_hw.isa import Command, Region, Register, address
from zeropoint_sim import cxxrtl_build

#: Cycles simulated between looks at whether the user has pressed Ctrl-C.
SLICE = 1_000_000

_STATUS = address(Region.CONTROL, Register.STATUS)

_WORDS = np.ctypeslib.ndpointer(np.uint32, ndim=1, flags="C_CONTIGUOUS")
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "create": (ctypes.c_void_p, [ctypes.c_char_p]),
    "destroy": (None, [ctypes.c_void_p]),
    "cycles": (ctypes.c_uint64, [ctypes.c_void_p]),
    "write": (None, [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32, _WORDS, ctypes.c_uint64]),
    "read": (ctypes.c_uint64, [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32, _WORDS, ctypes.c_uint64]),
    "wait": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64]),
    "drain": (None, [ctypes.c_void_p]),
    "trace": (None, [ctypes.c_void_p, ctypes.c_int]),
    "flush": (ctypes.c_int, [ctypes.c_void_p]),
}


class CxxrtlEngine:
    """A :class:`zeropoint.host.transport.Transport` to a component compiled from C++.

    Parameters
    ----------
    make_design
        Returns a component with a ``host: In(HostBusSignature())`` in the ``sync`` domain; called only if it has not
        been built before.
    identity
        Tells designs apart: see :func:`zeropoint_sim.cxxrtl_build.design_identity`.
    trace
        A VCD file to write, with all signals but the memories' contents.
    announce
        Called before something is built.
    wrapper
        As :func:`zeropoint_sim.cxxrtl_build.build`.

    Raises
    ------
    zeropoint.errors.ZeropointError
        As :func:`zeropoint_sim.cxxrtl_build.build`, and if the trace file cannot be opened.
    """

    name = "cxxrtl"

    def __init__(
        self,
        make_design: Callable[[], Any],
        identity: bytes,
        trace: Path | None = None,
        announce: Callable[[], None] | None = None,
        wrapper: str | Path = cxxrtl_build.BUS_WRAPPER,
    ) -> None:
        self._trace = trace
        path = cxxrtl_build.build(make_design, identity, trace=trace is not None, announce=announce, wrapper=wrapper)
        try:
            library = ctypes.CDLL(str(path))
        except OSError as error:
            raise ZeropointError(
                f"cannot load the compiled simulator '{path}': {error}; set ZEROPOINT_CACHE to a folder from which "
                f"programs may be run, or delete that file"
            ) from error
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, f"zeropoint_{name}")
            function.restype, function.argtypes = result, arguments
        self._library: Any = library
        self._handle: int | None = library.zeropoint_create(str(trace).encode() if trace else b"")
        if self._handle is None:
            raise ZeropointError(f"cannot write the waveform file '{trace}'")

    @property
    def cycles(self) -> int:  # noqa: D102
        return int(self._library.zeropoint_cycles(self._open))

    @property
    def _open(self) -> int:
        if self._handle is None:
            raise RuntimeError("the simulation has ended")
        return self._handle

    def write(self, address: int, words: NDArray[np.uint32], stride: int = 1) -> None:  # noqa: D102
        words = bus_words(address, words, stride)
        self._library.zeropoint_write(self._open, address, stride & 0xFFFFFFFF, words, len(words))

    def read(self, address: int, count: int, stride: int = 1) -> NDArray[np.uint32]:  # noqa: D102
        words = bus_words(address, np.zeros(count, np.uint32), stride)
        answered = self._library.zeropoint_read(self._open, address, stride & 0xFFFFFFFF, words, count)
        if answered < count:
            raise no_answer(address, count, answered)
        return words

    def run(self, command: Command, max_cycles: int) -> None:  # noqa: D102
        self.write(_STATUS, np.array([command], np.uint32))
        idle, left = False, max_cycles
        while left and not idle:
            part = min(left, SLICE)
            idle = bool(self._library.zeropoint_wait(self._open, _STATUS, part))
            left -= part
        self._library.zeropoint_drain(self._open)
        if not idle:
            raise still_busy(max_cycles)

    def trace(self, on: bool) -> None:  # noqa: D102
        self._library.zeropoint_trace(self._open, on)

    def close(self) -> None:  # noqa: D102
        if self._handle is not None:
            handle, self._handle = self._handle, None
            written = self._library.zeropoint_flush(handle)
            self._library.zeropoint_destroy(handle)
            if not written:
                raise ZeropointError(f"cannot write the waveform file '{self._trace}': is the disk full?")
