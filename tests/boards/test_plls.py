"""Every PLL setting keeps to the datasheet's ranges, and no allowed one is nearer to what was asked for.

The ranges are written down here once more, and the frequencies are computed from the dividers alone.
"""

from fractions import Fraction

import pytest

from zeropoint.errors import ZeropointError
from zeropoint_boards.boards import BOARDS
from zeropoint_boards.plls import ECP5_PLL, GW1NR_PLL, GW2A_PLL, ICE40_PLL, XILINX7_PLL

MHZ = 1_000_000

#: Phase detector, oscillator, output: from the datasheets, in MHz.
RANGES = {
    "LFE5U": ((10, 400), (400, 800), (Fraction(3125, 1000), 400)),
    "iCE40": ((10, 133), (533, 1066), (16, 275)),
    "GW1NR": ((3, 400), (400, 1200), (Fraction(3125, 1000), 600)),
    "GW2A": ((3, 500), (500, 1250), (Fraction(390625, 100000), 625)),
    "xc7a": ((19, 450), (800, 1600), (Fraction(625, 100), 800)),
}


def within(frequency, bounds):
    return bounds[0] * MHZ <= frequency <= bounds[1] * MHZ


def check(device, source, setting):
    """Compute the PLL's frequencies from its dividers as its documentation describes it, and compare them."""
    detectors, oscillators, outputs = next(each for name, each in RANGES.items() if device.startswith(name))
    detector = Fraction(source) / setting.input_divider
    if device.startswith("LFE5U"):
        # CLKOP comes back; CLKOS is the output.
        returned = detector * setting.feedback_divider
        oscillator = returned * setting.loop_divider
        output = oscillator / setting.output_divider
        assert within(returned, outputs)
        for divider, most in ((setting.input_divider, 128), (setting.feedback_divider, 80)):
            assert 1 <= divider <= most
        assert all(1 <= divider <= 128 for divider in (setting.loop_divider, setting.output_divider))
    elif device.startswith("iCE40"):
        oscillator = detector * setting.feedback_divider
        output = oscillator / setting.output_divider
        assert 0 <= setting.input_divider - 1 <= 15
        assert 0 <= setting.feedback_divider - 1 <= 127
        assert setting.output_divider in {1 << q for q in range(1, 7)}
    elif device.startswith("GW"):
        output = detector * setting.feedback_divider
        oscillator = output * setting.output_divider
        assert setting.output_divider in {2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128}
        assert all(1 <= divider <= 64 for divider in (setting.input_divider, setting.feedback_divider))
    else:
        oscillator = detector * setting.feedback_divider
        output = oscillator / setting.output_divider
        assert 2 <= setting.feedback_divider <= 64
        assert 1 <= setting.input_divider <= 56
        assert 1 <= setting.output_divider <= 128
    assert (detector, oscillator, output) == (setting.detector, setting.oscillator, setting.frequency)
    assert within(detector, detectors)
    assert within(oscillator, oscillators)
    assert within(output, outputs)


@pytest.mark.parametrize("name", BOARDS)
def test_all_frequencies_of_a_board_keep_to_the_datasheet(name):
    board = BOARDS[name]
    source, pll = board.oscillator, board.device.family.pll
    found = 0
    for tenths in range(100, 2501, 83):
        wanted = Fraction(tenths, 10) * MHZ
        try:
            setting = pll.setting(source, wanted)
        except ZeropointError:
            continue
        found += 1
        assert setting.frequency <= wanted
        # The grids are fine: nothing asked for is missed by more than a sixth.
        assert setting.frequency > wanted * 5 / 6, float(wanted)
        check(board.device.device, source, setting)
    assert found > 20


def nearest(device, source, wanted):
    """Return the greatest frequency up to ``wanted`` that any dividers make, by trying all."""
    detectors, oscillators, outputs = next(each for name, each in RANGES.items() if device.startswith(name))
    best = Fraction(0)
    for divider in range(1, 17):
        detector = Fraction(source) / divider
        if not within(detector, detectors):
            continue
        lowest, highest = (bound * MHZ // detector for bound in oscillators)
        for product in range(int(lowest), int(highest) + 1):
            oscillator = detector * product
            if not within(oscillator, oscillators):
                continue
            for output in [1 << q for q in range(1, 7)] if device.startswith("iCE40") else range(1, 129):
                if oscillator <= wanted * output:
                    if within(oscillator / output, outputs):
                        best = max(best, oscillator / output)
                    break
    return best


@pytest.mark.parametrize(
    ("device", "pll", "source"),
    [
        ("iCE40UP5K", ICE40_PLL, 12),
        ("LFE5U-85F", ECP5_PLL, 25),
        ("LFE5U-85F", ECP5_PLL, 48),
        ("xc7a35t", XILINX7_PLL, 100),
    ],
)
def test_nothing_nearer_is_overlooked(device, pll, source):
    for wanted in (Fraction(165, 10), Fraction(733, 10), 80, Fraction(12345, 100)):
        expected = nearest(device, source * MHZ, wanted * MHZ)
        assert pll.setting(Fraction(source * MHZ), Fraction(wanted * MHZ)).frequency == expected


def test_a_frequency_that_no_dividers_make_is_refused():
    for pll, source, wanted in (
        (ECP5_PLL, 25, 2),
        (ICE40_PLL, 12, 15),
        (GW1NR_PLL, 27, 1),
        (GW2A_PLL, 27, 3),
        (ECP5_PLL, 5, 80),
    ):
        with pytest.raises(ZeropointError, match=f"makes no clock of up to {wanted} MHz of one of {source} MHz"):
            pll.setting(Fraction(source * MHZ), Fraction(wanted * MHZ))
