"""The accelerator as compiled C++ with many faults in it, of which one is chosen for a run: one build for all."""

import ctypes
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from zeropoint_hw.host import HostBusSignature
from zeropoint_sim import simulate
from zeropoint_sim.cxxrtl_engine import CxxrtlEngine

from .faults import Fault, inserting

_WRAPPER = Path(__file__).with_name("selectable.cc")
_OPERATORS = Path(__file__).with_name("faults.py")


class _WithFaults(wiring.Component):
    """A component on the host's bus, and a port for the number of the fault that is there."""

    def __init__(self, inner: Any, selector: Value) -> None:
        self._inner, self._selector = inner, selector
        super().__init__({"host": In(HostBusSignature()), "fault": In(selector.shape())})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.inner = self._inner
        wiring.connect(m, wiring.flipped(self.host), self._inner.host)
        m.d.comb += self._selector.eq(self.fault)
        return m


@contextmanager
def selected(faults: Mapping[int, Fault], number: int) -> Iterator[None]:
    """Have engine ``cxxrtl`` simulate accelerators with one of ``faults``, or with none for number 0.

    Libraries hold all of ``faults``, and are kept in the cache.
    """

    class Engine(CxxrtlEngine):
        def __init__(
            self,
            make_design: Callable[[], Any],
            identity: bytes,
            trace: Path | None = None,
            announce: Callable[[], None] | None = None,
        ) -> None:
            selector = Signal(range(max(faults, default=0) + 1), name="fault")
            listed = "\n".join(f"{index} {fault}" for index, fault in sorted(faults.items()))
            identity += _OPERATORS.read_bytes() + listed.encode()
            with inserting(faults, selector):
                super().__init__(lambda: _WithFaults(make_design(), selector), identity, trace, announce, _WRAPPER)
            select = self._library.zeropoint_select
            select.restype, select.argtypes = None, [ctypes.c_void_p, ctypes.c_uint32]
            select(self._open, number)

    plain = simulate.CxxrtlEngine
    simulate.CxxrtlEngine = Engine  # type: ignore[misc]
    try:
        yield
    finally:
        simulate.CxxrtlEngine = plain  # type: ignore[misc]
