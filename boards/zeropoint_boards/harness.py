"""A harness in which a component is placed by itself."""

from amaranth import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Harness(wiring.Component):
    """A component between shift registers, so that it has few pins and all of its paths have a clock.

    Parameters
    ----------
    component
        Its ports are signals, or views of them.

    Members
    -------
    data_in : In(1)
        Shifted into the component's inputs.
    data_out : Out(1)
        The parity of its outputs, a cycle before.
    """

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
