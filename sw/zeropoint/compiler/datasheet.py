"""What a folder of Verilog says of itself: files, ports, and how a host loads and runs the accelerator."""

from zeropoint.compiler.flash_image import FLASH_IMAGE
from zeropoint.compiler.program import Buffer, Program
from zeropoint_hw.config import WeightSource
from zeropoint_hw.isa import ADDRESS_WIDTH, REGION_SHIFT, Command, Region, Register, address

#: Name, direction, bits and meaning of each port.
PORTS = (
    ("clk", "input", 1, "clock; everything happens at its rising edge"),
    ("rst", "input", 1, "synchronous reset; memories keep what they hold"),
    ("host__address", "input", ADDRESS_WIDTH, "address of the access"),
    ("host__write", "input", 1, "writes `host__write_data` in this cycle"),
    ("host__write_data", "input", 32, "data to write"),
    ("host__read", "input", 1, "reads in this cycle; not together with `host__write`"),
    ("host__read_valid", "output", 1, "`host__read_data` answers the oldest read without an answer yet"),
    ("host__read_data", "output", 32, "data read"),
)

#: Those of accelerators with a SPI flash.
FLASH_PORTS = (
    ("flash__select", "output", 1, "the SPI flash is selected: its pin CS is the inverse"),
    ("flash__clock", "output", 1, "its clock, low between bits"),
    ("flash__data_out", "output", 1, "to its data input"),
    ("flash__data_in", "input", 1, "from its data output"),
    ("copying", "output", 1, "weights are being copied or checked; nothing runs"),
    ("damaged", "output", 1, "there are no whole weights in the flash; nothing runs"),
)


def datasheet(program: Program, verilog: str, load: str) -> str:
    """Return the text for a folder with the files of a program, its Verilog, and the writes that load it.

    Parameters
    ----------
    program
        What the folder holds.
    verilog, load
        The names of those files; there is none to load for read-only memories.
    """
    config = program.config
    kept = config.built_in
    flash = config.weight_source is WeightSource.FLASH
    ports = PORTS + FLASH_PORTS if flash else PORTS
    status = address(Region.CONTROL, Register.STATUS)
    lines = [
        f"# Accelerator for network '{_plain(program.name)}'",
        "",
        f"`{verilog}` is the accelerator as Verilog (2001), top module `zeropoint`, with one clock:",
        f"{config.lanes} lanes × {config.columns} columns, processing elements `{config.pe}`, "
        f"{config.requantizers} requantizers. It needs no other file.",
        "",
        "| port | direction | bits | meaning |",
        "|---|---|---|---|",
        *(f"| `{name}` | {direction} | {bits} | {meaning} |" for name, direction, bits, meaning in ports),
        "",
        "A write takes one cycle, and so does a read; there are no wait states. Reads are answered in order, a fixed",
        "number of cycles later. While a program runs, only the control region may be accessed.",
        "",
        f"## Addresses (bits {ADDRESS_WIDTH - 1} … {REGION_SHIFT} choose the region)",
        "",
        "| region | from | what |",
        "|---|---|---|",
        *(f"| {region.name.lower()} | `0x{address(region, 0):06x}` | {_REGIONS[region]} |" for region in Region),
        "",
        "Names and numbers for firmware are in `program.h`; instructions and registers are explained in Zeropoint's",
        "`docs/isa.md`.",
        "",
        "## How to use it",
        "",
    ]
    steps = [
        f"Hold `rst` low; registers start as `{verilog}` says, and where they do not, after a cycle of `rst`.",
        f"Program, parameters and tables are built in; weights are those of `{FLASH_IMAGE}`, which the SPI flash holds "
        f"from byte `0x{config.flash_offset:06x}` on. Wait until `0x{status:06x}` reads 0; 2 means they are damaged."
        if flash
        else "Program, parameters, weights and tables are built in: there is nothing to load."
        if kept
        else f"Load: make the writes of `{load}` in any order, each line 24 bits of address and 32 bits of data. "
        "The same contents, by memory, are in the images (`.mem`, `.hex`, `.mif`, `.coe`, `.bin`).",
        f"{_tensor('Write the input', program.input)}, {config.host_bytes} bytes an access, the least address in bits "
        "7 … 0.",
        f"Write {Command.RUN:d} to `0x{status:06x}`, and read there until it is 0.",
        f"{_tensor('Read the output', program.output)}, in the same way.",
    ]
    if program.host_steps:
        names = ", ".join(f"{step.op} ('{_plain(step.name)}')" for step in program.host_steps)
        steps.append(f"What is left to the host: {names}.")
    lines += [f"{number}. {step}" for number, step in enumerate(steps, 1)]
    return "\n".join([*lines, ""])


#: What is in each region.
_REGIONS = {
    Region.CONTROL: "registers",
    Region.PROGRAM: "instructions, a 32-bit word each",
    Region.PARAMETERS: "bias, multiplier, shift and nothing, a word each, of every channel",
    Region.WEIGHTS: "pieces of weight words, the least significant first",
    Region.ACTIVATIONS: "tensors, by byte address",
    Region.LOG: "what each instruction took",
    Region.TABLES: "entries of tables, a byte each",
}


def _tensor(what: str, buffer: Buffer) -> str:
    shape = " × ".join(map(str, buffer.shape))
    rows = f", {buffer.rows} rows of {buffer.row_bytes} bytes, {buffer.row_pitch} apart" if buffer.rows > 1 else ""
    first = address(Region.ACTIVATIONS, buffer.address)
    return f"{what} '{_plain(buffer.tensor)}' ({buffer.dtype}, {shape}) at `0x{first:06x}`{rows}"


def _plain(text: str) -> str:
    """Return ``text`` without what Markdown or a terminal would make something of."""
    return "".join(c if c.isalnum() or c in " _-./:" else "?" for c in text)
