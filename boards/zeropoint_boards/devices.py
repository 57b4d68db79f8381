"""FPGAs: what they hold, and what the tools call them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Resources:
    """What a design takes, or a device holds.

    Attributes
    ----------
    lut
        Look-up tables of four inputs, those of carry chains included and those that hold distributed RAM not.
    ff
        Flip-flops.
    dsp
        Multipliers in DSP blocks.
    block_ram
        Block RAMs.
    distributed_ram
        Small memories made of look-up tables.
    """

    lut: int = 0
    ff: int = 0
    dsp: int = 0
    block_ram: int = 0
    distributed_ram: int = 0

    @classmethod
    def of(cls, cells: Mapping[str, int], meanings: Mapping[str, tuple[str, int]]) -> "Resources":
        """Return what numbers of cells take: ``meanings`` says of which resource a cell takes how many."""
        counts = {field.name: 0 for field in fields(cls)}
        for cell, number in cells.items():
            if cell in meanings:
                resource, each = meanings[cell]
                counts[resource] += each * number
        return cls(**counts)

    def exceeding(self, capacity: "Resources") -> list[str]:
        """Return of what these are more than a device holds: ``272 of 156 dsp``."""
        return [
            f"{taken} of {held} {field.name}"
            for field in fields(self)
            if (taken := getattr(self, field.name)) > (held := getattr(capacity, field.name))
        ]


@dataclass(frozen=True)
class Family:
    """Devices that the tools treat alike.

    Attributes
    ----------
    synthesis
        The command of Yosys.
    place
        The YoWASP tool that places and routes.
    cells
        The cells that count as resources: of which, and how many.
    """

    synthesis: str
    place: str
    cells: Mapping[str, tuple[str, int]]


@dataclass(frozen=True)
class Device:
    """An FPGA in a package; a platform as far as components ask one for its ``device``.

    Attributes
    ----------
    device, package, speed
        As Amaranth's platforms name them, but for the package, which is as nextpnr names it.
    family
        What the tools need to know of its kind.
    options
        Options of nextpnr that name the device.
    capacity
        What it holds.
    """

    device: str
    package: str
    speed: str
    family: Family
    options: tuple[str, ...]
    capacity: Resources


ECP5 = Family(
    synthesis="synth_ecp5",
    place="nextpnr-ecp5",
    cells={
        "LUT4": ("lut", 1),
        # Two bits of a carry chain, which take the look-up tables in front of them. (PFUMX and L6MUX21 join look-up
        # tables to larger ones and take none of their own.)
        "CCU2C": ("lut", 2),
        "TRELLIS_FF": ("ff", 1),
        "MULT18X18D": ("dsp", 1),
        "DP16KD": ("block_ram", 1),
        # 16 words of 4 bits.
        "TRELLIS_DPR16X4": ("distributed_ram", 1),
    },
)


def _ecp5(size: str, package: str, luts: int, dsps: int, block_rams: int) -> Device:
    # Half of the slices' look-up tables can hold memory, four of them 16 words of 4 bits.
    capacity = Resources(lut=luts, ff=luts, dsp=dsps, block_ram=block_rams, distributed_ram=luts // 8)
    return Device(f"LFE5U-{size}F", package, "6", ECP5, (f"--{size.lower()}k",), capacity)


#: By name. (An LFE5U-12F is an LFE5U-25F that says otherwise.)
DEVICES = {
    device.device: device
    for device in (
        _ecp5("12", "CABGA256", 24288, 28, 56),
        _ecp5("25", "CABGA256", 24288, 28, 56),
        _ecp5("45", "CABGA554", 43848, 72, 108),
        _ecp5("85", "CABGA756", 83640, 156, 208),
    )
}
