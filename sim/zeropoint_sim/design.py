"""The accelerator that a compiled program runs on, as an Amaranth component."""

from typing import Any

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from zeropoint.compiler.flash_image import flash_image
from zeropoint.compiler.program import Program
from zeropoint_hw.accelerator import Accelerator, Rom
from zeropoint_hw.config import WeightSource
from zeropoint_sim.flash_model import FlashModel


class WithFlash(wiring.Component):
    """An accelerator, with or without its link, and the flash that its weights come from; all other ports are its own.

    Parameters
    ----------
    component
        Has a ``flash: Out(SpiSignature())``.
    image, offset
        What the flash holds, from which byte on.
    """

    def __init__(self, component: Any, image: bytes, offset: int) -> None:
        self._component, self._flash = component, FlashModel(image, offset)
        super().__init__({name: each for name, each in component.signature.members.items() if name != "flash"})

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        m.submodules.component = component = self._component
        m.submodules.flash = flash = self._flash
        wiring.connect(m, component.flash, flash.pins)
        for name, member in self.signature.members.items():
            outer, inner = getattr(self, name), getattr(component, name)
            if member.is_signature:
                wiring.connect(m, wiring.flipped(outer), inner)
            else:
                m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)
        return m


def with_flash(component: Any, program: Program) -> Any:
    """Return an accelerator of a program's configuration, with or without a link, and its flash if it has one."""
    if program.config.weight_source is not WeightSource.FLASH:
        return component
    return WithFlash(component, flash_image(program), program.config.flash_offset)


def accelerator(program: Program) -> Any:
    """Return the accelerator of a program's configuration, with the program in it where that has read-only memories.

    It has a ``host: In(HostBusSignature())``; where its weights come from a SPI flash, a model of that is in it.
    :func:`zeropoint_hw.verilog.to_verilog` makes Verilog of it.
    """
    return with_flash(Accelerator(program.config, rom(program)), program)


def rom(program: Program) -> Rom | None:
    """Return what is built in, or None where the host loads all; of weights in flash what that holds."""
    if not program.config.built_in:
        return None
    parameters = program.parameters
    return Rom(
        program=[word for instruction in program.instructions for word in instruction.encode()],
        parameters=list(
            zip(parameters.bias.tolist(), parameters.multiplier.tolist(), parameters.shift.tolist(), strict=True)
        ),
        weights=[int.from_bytes(word.tobytes(), "little") for word in program.weights],
        tables=program.tables.reshape(-1).tolist(),
    )
