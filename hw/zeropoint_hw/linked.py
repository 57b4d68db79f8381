"""An accelerator behind a link: what a board has at its top level, but for clock and reset."""

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.accelerator import Accelerator, Rom
from zeropoint_hw.config import AcceleratorConfig, WeightSource
from zeropoint_hw.link import Link
from zeropoint_hw.spi_flash import SpiSignature


class LinkedAccelerator(wiring.Component):
    """An accelerator that a host reaches by a serial line.

    Parameters
    ----------
    config, rom
        As :class:`zeropoint_hw.accelerator.Accelerator`.
    divisor, buffer_bits, program_hash
        As :class:`zeropoint_hw.link.Link`.

    Members
    -------
    rx : In(1)
        From the host.
    tx : Out(1)
        To the host.
    flash : Out(SpiSignature())
        The SPI flash with the weights; there only where ``config.weight_source`` is ``flash``.
    active : Out(1)
        It is at work: for an LED, and for simulators, which may stand still otherwise.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        divisor: int,
        buffer_bits: int = 9,
        rom: Rom | None = None,
        program_hash: bytes | None = None,
    ) -> None:
        self._accelerator = Accelerator(config, rom)
        self._link = Link(config, divisor, buffer_bits, program_hash)
        self._flash = config.weight_source is WeightSource.FLASH
        flash = {"flash": Out(SpiSignature())} if self._flash else {}
        super().__init__({"rx": In(1), "tx": Out(1, init=1), "active": Out(1), **flash})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.accelerator = accelerator = self._accelerator
        m.submodules.link = link = self._link
        wiring.connect(m, link.host, accelerator.host)
        m.d.comb += [link.rx.eq(self.rx), self.tx.eq(link.tx), self.active.eq(link.active)]
        if self._flash:
            wiring.connect(m, accelerator.flash, wiring.flipped(self.flash))
            m.d.comb += [link.hold.eq(accelerator.copying), link.unusable.eq(accelerator.damaged)]
            m.d.comb += self.active.eq(link.active | accelerator.copying)
        return m
