"""The clock of a board: an oscillator's, or what the device's PLL makes of it; and the reset that goes with it."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from amaranth import ClockSignal, Const, Elaboratable, Instance, Module, Signal
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer

from zeropoint_boards.plls import ECP5_PLL, GW1NR_PLL, ICE40_PLL, XILINX7_PLL, Setting


class BoardClock(Elaboratable):
    """Drives the domain ``sync``, which is in reset until its clock is good, and while the reset button is pressed.

    Parameters
    ----------
    frequency
        The clock's, in Hz, for the tools that do not find it out themselves.
    setting
        The PLL's, or None for the oscillator's own clock.
    pll
        The PLL's name.
    """

    def __init__(self, frequency: Fraction, setting: Setting | None, pll: str) -> None:
        self._frequency, self._setting, self._pll = frequency, setting, pll

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        pads = platform.request(platform.default_clk, dir="-")
        clock, locked = Signal(), Signal()
        if self._setting is None:
            m.submodules.buffer = buffer = io.Buffer("i", pads)
            m.d.comb += [clock.eq(buffer.i), locked.eq(1)]
        else:
            PLLS[self._pll](m, platform, self._setting, pads, clock, locked)
        m.d.comb += ClockSignal("sync").eq(clock)
        pressed: Any = 0
        if platform.default_rst is not None:
            m.submodules.button = button = io.Buffer("i", platform.request(platform.default_rst, dir="-"))
            pressed = button.i
        m.submodules.reset = ResetSynchronizer(~locked | pressed, domain="sync")
        return m


def _ecp5(m: Module, platform: Any, setting: Setting, pads: Any, clock: Signal, locked: Signal) -> None:
    m.submodules.buffer = buffer = io.Buffer("i", pads)
    fed_back = Signal()
    m.submodules.pll = Instance(
        "EHXPLLL",
        # Charge pump and loop filter as the vendor's tool sets them for dividers such as these.
        a_ICP_CURRENT="12",
        a_LPF_RESISTOR="8",
        a_MFG_ENABLE_FILTEROPAMP="1",
        a_MFG_GMCREF_SEL="2",
        p_PLLRST_ENA="DISABLED",
        p_INTFB_WAKE="DISABLED",
        p_STDBY_ENABLE="DISABLED",
        p_DPHASE_SOURCE="DISABLED",
        p_OUTDIVIDER_MUXA="DIVA",
        p_OUTDIVIDER_MUXB="DIVB",
        p_OUTDIVIDER_MUXC="DIVC",
        p_OUTDIVIDER_MUXD="DIVD",
        p_FEEDBK_PATH="CLKOP",
        p_CLKI_DIV=setting.input_divider,
        p_CLKFB_DIV=setting.feedback_divider,
        p_CLKOP_ENABLE="ENABLED",
        p_CLKOP_DIV=setting.loop_divider,
        # A phase of 0 is one less than the divider.
        p_CLKOP_CPHASE=setting.loop_divider - 1,
        p_CLKOP_FPHASE=0,
        p_CLKOS_ENABLE="ENABLED",
        p_CLKOS_DIV=setting.output_divider,
        p_CLKOS_CPHASE=setting.output_divider - 1,
        p_CLKOS_FPHASE=0,
        i_CLKI=buffer.i,
        i_CLKFB=fed_back,
        i_RST=0,
        i_STDBY=0,
        i_PHASESEL0=0,
        i_PHASESEL1=0,
        i_PHASEDIR=0,
        i_PHASESTEP=0,
        i_PHASELOADREG=0,
        i_PLLWAKESYNC=0,
        i_ENCLKOP=0,
        i_ENCLKOS=0,
        o_CLKOP=fed_back,
        o_CLKOS=clock,
        o_LOCK=locked,
    )


#: FILTER_RANGE by the frequency of the phase detector, up to so many MHz.
_ICE40_FILTERS = ((17, 1), (26, 2), (44, 3), (66, 4), (101, 5), (133, 6))


def _ice40(m: Module, platform: Any, setting: Setting, pads: Any, clock: Signal, locked: Signal) -> None:
    # The pad beside the PLL is its own input; any other reaches it through the fabric.
    beside = platform.lookup(platform.default_clk).ios[0].names[0] == _ICE40_PLL_PINS.get(platform.package)
    if beside:
        source = {"i_PACKAGEPIN": pads.io}
    else:
        m.submodules.buffer = buffer = io.Buffer("i", pads)
        source = {"i_REFERENCECLK": buffer.i}
    m.submodules.pll = Instance(
        "SB_PLL40_PAD" if beside else "SB_PLL40_CORE",
        p_FEEDBACK_PATH="SIMPLE",
        p_PLLOUT_SELECT="GENCLK",
        p_DIVR=setting.input_divider - 1,
        p_DIVF=setting.feedback_divider - 1,
        p_DIVQ=setting.output_divider.bit_length() - 1,
        p_FILTER_RANGE=next(code for most, code in _ICE40_FILTERS if setting.detector <= most * 1_000_000),
        i_RESETB=1,
        i_BYPASS=0,
        o_PLLOUTGLOBAL=clock,
        o_LOCK=locked,
        **source,
    )


#: The pin beside the PLL, by package of the iCE40UP5K.
_ICE40_PLL_PINS = {"SG48": "35"}


def _gowin(m: Module, platform: Any, setting: Setting, pads: Any, clock: Signal, locked: Signal) -> None:
    m.submodules.buffer = buffer = io.Buffer("i", pads)
    m.submodules.pll = Instance(
        "rPLL",
        p_FCLKIN=f"{platform.default_clk_frequency / 1e6:g}",
        p_DEVICE=platform.family,
        p_IDIV_SEL=setting.input_divider - 1,
        p_FBDIV_SEL=setting.feedback_divider - 1,
        p_ODIV_SEL=setting.output_divider,
        p_CLKFB_SEL="internal",
        p_CLKOUT_BYPASS="false",
        p_DYN_IDIV_SEL="false",
        p_DYN_FBDIV_SEL="false",
        p_DYN_ODIV_SEL="false",
        i_CLKIN=buffer.i,
        i_CLKFB=0,
        i_RESET=0,
        i_RESET_P=0,
        i_FBDSEL=Const(0, 6),
        i_IDSEL=Const(0, 6),
        i_ODSEL=Const(0, 6),
        i_PSDA=Const(0, 4),
        i_DUTYDA=Const(0, 4),
        i_FDLY=Const(0, 4),
        o_CLKOUT=clock,
        o_LOCK=locked,
    )


def _xilinx7(m: Module, platform: Any, setting: Setting, pads: Any, clock: Signal, locked: Signal) -> None:
    m.submodules.buffer = buffer = io.Buffer("i", pads)
    fed_back, made = Signal(), Signal()
    m.submodules.pll = Instance(
        "PLLE2_BASE",
        p_CLKIN1_PERIOD=1e9 / platform.default_clk_frequency,
        p_DIVCLK_DIVIDE=setting.input_divider,
        p_CLKFBOUT_MULT=setting.feedback_divider,
        p_CLKOUT0_DIVIDE=setting.output_divider,
        p_STARTUP_WAIT="FALSE",
        i_CLKIN1=buffer.i,
        i_CLKFBIN=fed_back,
        i_RST=0,
        i_PWRDWN=0,
        o_CLKFBOUT=fed_back,
        o_CLKOUT0=made,
        o_LOCKED=locked,
    )
    m.submodules.global_buffer = Instance("BUFG", i_I=made, o_O=clock)


#: What instantiates each kind of PLL.
PLLS: dict[str, Callable[[Module, Any, Setting, Any, Signal, Signal], None]] = {
    ECP5_PLL.name: _ecp5,
    ICE40_PLL.name: _ice40,
    GW1NR_PLL.name: _gowin,
    XILINX7_PLL.name: _xilinx7,
}
