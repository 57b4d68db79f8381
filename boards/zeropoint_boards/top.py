"""A board's top level: an accelerator with its link between the board's pins."""

from typing import Any

from amaranth import ClockDomain, Elaboratable, Instance, Module
from amaranth.lib import io, wiring
from amaranth.lib.wiring import In, Out
from amaranth.vendor import LatticePlatform

from zeropoint_boards.board import Board


class _Pins(Elaboratable):
    """The core, its pads' buffers between them.

    Parameters
    ----------
    core
        A :class:`zeropoint_hw.linked.LinkedAccelerator`.
    rx, tx, led
        Ports of one bit; there may be no ``led``.
    flash
        The ports of a SPI flash, by name, if the core reads one.
    """

    def __init__(
        self, core: Any, rx: io.PortLike, tx: io.PortLike, led: io.PortLike | None, flash: Any | None = None
    ) -> None:
        self._core, self._rx, self._tx, self._led, self._flash = core, rx, tx, led, flash

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.core = core = self._core
        m.submodules.rx = rx = io.Buffer("i", self._rx)
        m.submodules.tx = tx = io.Buffer("o", self._tx)
        m.d.comb += [core.rx.eq(rx.i), tx.o.eq(core.tx)]
        if self._led is not None:
            m.submodules.led = led = io.Buffer("o", self._led)
            m.d.comb += led.o.eq(core.active)
        if self._flash is not None:
            m.submodules.flash_in = received = io.Buffer("i", self._flash.cipo)
            m.d.comb += core.flash.data_in.eq(received.i)
            # What these two would do, protect and pause, is not wanted.
            outputs = {
                "cs": core.flash.select,
                "clk": core.flash.clock,
                "copi": core.flash.data_out,
                "wp": 0,
                "hold": 0,
            }
            for name, level in outputs.items():
                if name == "clk" and isinstance(platform, LatticePlatform):
                    # ECP5's configuration clock is no pin of the design.
                    m.submodules.flash_clk = Instance("USRMCLK", i_USRMCLKI=level, i_USRMCLKTS=0, a_keep=1)
                elif (port := getattr(self._flash, name, None)) is not None:
                    m.submodules[f"flash_{name}"] = buffer = io.Buffer("o", port)
                    m.d.comb += buffer.o.eq(level)
        return m


class BoardTop(Elaboratable):
    """The top level that becomes a bitstream.

    Parameters
    ----------
    board
        Whose platform it is elaborated with.
    core
        A :class:`zeropoint_hw.linked.LinkedAccelerator`.
    clock
        What drives the domain ``sync``.
    """

    def __init__(self, board: Board, core: Any, clock: Elaboratable) -> None:
        self._board, self._core, self._clock = board, core, clock
        self._flash = "flash" in core.signature.members

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.domains.sync = ClockDomain("sync")
        m.submodules.clock = self._clock
        uart = platform.request(*self._board.uart, dir="-")
        flash = _flash(platform) if self._flash else None
        m.submodules.pins = _Pins(self._core, uart.rx, uart.tx, _led(self._board, platform), flash)
        return m


class VirtualTop(wiring.Component):
    """The same top level for simulators: with the same pins, and a clock from outside in place of oscillator and PLL.

    Parameters
    ----------
    board, core
        As :class:`BoardTop`.

    Members
    -------
    rx : In(1)
        Level of the pin that the host's line leads to.
    tx : Out(1)
        Level of the pin from which a line leads to the host.
    active : Out(1)
        It is at work.
    """

    def __init__(self, board: Board, core: Any) -> None:
        self._core = core
        platform = board.platform()
        uart = platform.request(*board.uart, dir="-")
        led = _led(board, platform)
        self._rx, self._tx = (_simulated(name, port) for name, port in (("i", uart.rx), ("o", uart.tx)))
        self._led = None if led is None else _simulated("o", led)
        super().__init__({"rx": In(1), "tx": Out(1), "active": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.pins = _Pins(self._core, self._rx, self._tx, self._led)
        m.d.comb += [self._rx.i.eq(self.rx), self.tx.eq(self._tx.o), self.active.eq(self._core.active)]
        return m


def _flash(platform: Any) -> Any:
    """Return the ports of the board's SPI flash, which platforms call differently."""
    name = next(name for name in ("spi_flash_1x", "spi_flash") if (name, 0) in platform.resources)
    return platform.request(name, 0, dir="-")


def _led(board: Board, platform: Any) -> io.PortLike | None:
    if board.led is None:
        return None
    port = platform.request(*board.led[:2], dir="-")
    return port if len(board.led) == 2 else getattr(port, board.led[2])


def _simulated(direction: str, port: io.PortLike) -> io.SimulationPort:
    return io.SimulationPort(direction, len(port), invert=port.invert)
