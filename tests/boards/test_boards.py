"""Each board: its pins, its clock, and what the tools are told about them."""

import re

import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from zeropoint.errors import ZeropointError
from zeropoint_boards.boards import BOARDS, find
from zeropoint_boards.build import make_design
from zeropoint_hw.config import AcceleratorConfig

#: Pins of the oscillator, of the line from the host and of that to the host, from the boards' schematics.
PINS = {
    "icebreaker": ("35", "6", "9"),
    "upduino_v3": ("20", "25", "23"),
    "ulx3s_85f": ("G2", "M1", "L4"),
    "ulx3s_25f": ("G2", "M1", "L4"),
    "ulx3s_12f": ("G2", "M1", "L4"),
    "orangecrab_85f": ("A9", "N17", "M18"),
    "colorlight_5a75b": ("P6", "M13", "P11"),
    "ecpix5": ("K23", "R26", "R24"),
    "tang_nano_9k": ("52", "18", "17"),
    "tang_primer_20k": ("H11", "T13", "M11"),
    "arty_a7": ("E3", "A9", "D10"),
}


class Echo(wiring.Component):
    """Ports of an accelerator with its link, and nothing between them."""

    def __init__(self):
        super().__init__({"rx": In(1), "tx": Out(1), "active": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += [self.tx.eq(self.rx), self.active.eq(~self.rx)]
        return m


def design(name, frequency=None):
    board = find(name)
    return make_design(board, Echo(), *board.clocking(frequency or board.frequency))


def located(design):
    """Return the place of each pin by the name of its port."""
    patterns = (
        r'LOCATE COMP "(\w+)" SITE "(\w+)"',
        r"set_io (\w+) (\w+)",
        r'IO_LOC "(\w+)" (\w+)',
        r'LOC (\w+) \[get_ports "(\w+)"',
    )
    found = {}
    for name, data in design.files.items():
        if name.endswith((".lpf", ".pcf", ".cst", ".xdc")):
            for pattern in patterns:
                for first, second in re.findall(pattern, data.decode()):
                    port, place = (second, first) if pattern.startswith("LOC (") else (first, second)
                    found[port] = place
    return found


@pytest.mark.parametrize("name", BOARDS)
def test_pins_and_oscillator(name):
    places = located(design(name))
    clock, rx, tx = PINS[name]
    assert places["uart_0__rx__io"] == rx
    assert places["uart_0__tx__io"] == tx
    assert clock in [place for port, place in places.items() if port.startswith("clk")]
    lights = [port for port in places if "led" in port]
    assert len(lights) == (find(name).led is not None)


@pytest.mark.parametrize("name", BOARDS)
def test_the_pll_makes_the_clock(name):
    board = find(name)
    frequency = board.frequency * 1.13
    clock, setting = board.clocking(frequency)
    assert setting is not None
    text = "".join(
        data.decode() for file, data in design(name, frequency).files.items() if file.endswith((".il", "top.v"))
    )
    assert re.search(r"EHXPLLL|SB_PLL40_(PAD|CORE)|rPLL|PLLE2_BASE", text)
    assert 0.8 * frequency < float(clock) / 1e6 <= frequency


def test_the_oscillators_own_clock_takes_no_pll():
    clock, setting = find("ecpix5").clocking(100)
    assert (float(clock), setting) == (100e6, None)
    assert "EHXPLLL" not in design("ecpix5", 100).rtlil


def test_a_pad_beside_the_pll_is_its_input():
    assert "SB_PLL40_PAD" in design("icebreaker").rtlil
    assert "SB_PLL40_CORE" in design("upduino_v3").rtlil


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_is_described(name):
    board = find(name)
    AcceleratorConfig.from_dict(dict(board.config))
    clock, _ = board.clocking(board.frequency)
    assert 4 <= board.divisor(clock, 1_000_000) <= 200
    assert board.programmer or "{file}" in board.loading


def test_a_design_has_the_same_bytes_each_time():
    assert design("ulx3s_85f").files == design("ulx3s_85f").files


def test_an_unknown_board_is_refused():
    with pytest.raises(ZeropointError, match="there is no board 'nosuch'; there are icebreaker, "):
        find("nosuch")


def test_a_clock_that_makes_no_such_bits_is_refused():
    board = find("ulx3s_85f")
    with pytest.raises(ZeropointError, match="choose another --baud or --frequency"):
        board.divisor(board.clocking(80)[0], 30_000_000)
