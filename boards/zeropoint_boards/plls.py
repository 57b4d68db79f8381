"""Phase-locked loops: which dividers make which clock, within the ranges of the datasheets."""

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

from zeropoint.errors import ZeropointError


@dataclass(frozen=True)
class Setting:
    """How a PLL makes one clock of another.

    Attributes
    ----------
    frequency
        The clock that it makes, in Hz.
    detector, oscillator
        What its phase detector compares, and what its oscillator runs at, in Hz.
    input_divider, feedback_divider, loop_divider, output_divider
        Its counters; see :class:`Pll`.
    """

    frequency: Fraction
    detector: Fraction
    oscillator: Fraction
    input_divider: int
    feedback_divider: int
    loop_divider: int
    output_divider: int


class Loop(Enum):
    """What goes back to the phase detector, divided by the feedback's divider."""

    #: The oscillator's clock.
    OSCILLATOR = "oscillator"
    #: The output.
    OUTPUT = "output"
    #: Another output, with a divider of its own.
    OTHER_OUTPUT = "other output"


@dataclass(frozen=True)
class Pll:
    """A kind of PLL. Ranges of frequencies are in MHz, and their ends belong to them.

    The phase detector compares the input's clock, divided by the input divider, with the oscillator's, divided by the
    loop's and by the feedback's dividers; the output is the oscillator's clock, divided by the output divider.

    Attributes
    ----------
    name
        As its vendor calls it.
    source
        The documents with these figures.
    inputs, detectors, oscillators, outputs
        What each of these frequencies may be.
    loop
        What is fed back.
    input_dividers, feedback_dividers, loop_dividers, output_dividers
        What each divider may be, in ascending order.
    """

    name: str
    source: str
    inputs: tuple[float, float]
    detectors: tuple[float, float]
    oscillators: tuple[float, float]
    outputs: tuple[float, float]
    loop: Loop
    input_dividers: range
    feedback_dividers: range
    loop_dividers: range
    output_dividers: Sequence[int]

    def setting(self, input_hz: Fraction, frequency_hz: Fraction) -> Setting:
        """Return the setting with the greatest frequency that is not above ``frequency_hz``.

        Of several, it is the one with the fastest phase detector, then that whose oscillator runs nearest to the middle
        of its range.

        Raises
        ------
        ZeropointError
            If there is none.
        """
        middle = (_hertz(self.oscillators[0]) + _hertz(self.oscillators[1])) / 2

        def preferred(each: Setting) -> tuple[Fraction, Fraction, Fraction]:
            return each.frequency, each.detector, -abs(each.oscillator - middle)

        best = max(self._settings(input_hz, frequency_hz), key=preferred, default=None)
        if best is None:
            low, high = self.outputs
            raise ZeropointError(
                f"the device's PLL ({self.name}) makes no clock of up to {float(frequency_hz) / 1e6:g} MHz of one of "
                f"{float(input_hz) / 1e6:g} MHz; choose a frequency from {low:g} to {high:g} MHz"
            )
        return best

    def _settings(self, source: Fraction, wanted: Fraction) -> Iterator[Setting]:
        """Yield for each way to run the oscillator the setting nearest below the wanted frequency."""
        slowest, fastest = map(_hertz, self.oscillators)
        for divider in self.input_dividers if _within(source, self.inputs) else ():
            detector = source / divider
            if not _within(detector, self.detectors):
                continue
            for feedback in self.feedback_dividers:
                unit = detector * feedback
                first, last = math.ceil(slowest / unit), math.floor(fastest / unit)
                for loop in range(max(first, self.loop_dividers[0]), min(last, self.loop_dividers[-1]) + 1):
                    oscillator = unit * loop
                    if self.loop is Loop.OTHER_OUTPUT and not _within(oscillator / loop, self.outputs):
                        continue
                    if self.loop is Loop.OUTPUT:
                        if loop not in self.output_dividers or unit > wanted:
                            continue
                        output = loop
                    else:
                        place = bisect_left(self.output_dividers, oscillator / wanted)
                        if place == len(self.output_dividers):
                            continue
                        output = self.output_dividers[place]
                    if _within(oscillator / output, self.outputs):
                        yield Setting(oscillator / output, detector, oscillator, divider, feedback, loop, output)


def _hertz(megahertz: float) -> Fraction:
    return Fraction(str(megahertz)) * 1_000_000


def _within(frequency: Fraction, megahertz: tuple[float, float]) -> bool:
    low, high = map(_hertz, megahertz)
    return low <= frequency <= high


#: CLKOP is fed back and CLKOS is the output, so that its divider is free.
ECP5_PLL = Pll(
    name="EHXPLLL",
    source="Lattice FPGA-DS-02012, sysCLOCK PLL timing; FPGA-TN-02200",
    inputs=(8, 400),
    detectors=(10, 400),
    oscillators=(400, 800),
    outputs=(3.125, 400),
    loop=Loop.OTHER_OUTPUT,
    input_dividers=range(1, 129),
    feedback_dividers=range(1, 81),
    loop_dividers=range(1, 129),
    output_dividers=range(1, 129),
)

#: With FEEDBACK_PATH = SIMPLE.
ICE40_PLL = Pll(
    name="SB_PLL40",
    source="Lattice FPGA-DS-02008, sysCLOCK PLL timing; FPGA-TN-02052",
    inputs=(10, 133),
    detectors=(10, 133),
    oscillators=(533, 1066),
    outputs=(16, 275),
    loop=Loop.OSCILLATOR,
    input_dividers=range(1, 17),
    feedback_dividers=range(1, 129),
    loop_dividers=range(1, 2),
    output_dividers=(2, 4, 8, 16, 32, 64),
)


def _gowin(oscillators: tuple[float, float], detectors: float, outputs: tuple[float, float], source: str) -> Pll:
    return Pll(
        name="rPLL",
        source=source,
        inputs=(3, detectors),
        detectors=(3, detectors),
        oscillators=oscillators,
        outputs=outputs,
        loop=Loop.OUTPUT,
        input_dividers=range(1, 65),
        feedback_dividers=range(1, 65),
        loop_dividers=range(1, 129),
        output_dividers=(2, 4, 8, *range(16, 129, 16)),
    )


#: Speed grade C6/I5.
GW1NR_PLL = _gowin((400, 1200), 400, (3.125, 600), "Gowin DS117, PLL switching characteristics; UG286")

#: Speed grade C8/I7.
GW2A_PLL = _gowin((500, 1250), 500, (3.90625, 625), "Gowin DS102, PLL switching characteristics; UG286")

#: The speed grades with the narrowest ranges.
XILINX7_PLL = Pll(
    name="PLLE2_BASE",
    source="Xilinx DS181, PLL specification; UG472",
    inputs=(19, 800),
    detectors=(19, 450),
    oscillators=(800, 1600),
    outputs=(6.25, 800),
    loop=Loop.OSCILLATOR,
    input_dividers=range(1, 57),
    feedback_dividers=range(2, 65),
    loop_dividers=range(1, 2),
    output_dividers=range(1, 129),
)
