"""A compiled program as a C header, for firmware that loads and runs it."""

import re
from collections.abc import Iterable
from enum import IntEnum

from zeropoint.compiler.images import Image, fill_rows, hex_digits
from zeropoint.compiler.program import Buffer, Program, program_hash
from zeropoint_hw import isa
from zeropoint_hw.protocol import configuration_digest

_BYTES_A_LINE = 16


def c_header(program: Program) -> str:
    """Return a C99 header with the program's images as constant arrays, its figures and the host's address map.

    Of a program without tables there is no array of them, and the figure ``..._TABLES`` is 0.

    Names begin with the program's own, so that one file can include several such headers. An image of up to 64 bits a
    word is an array of ``uint8_t`` to ``uint64_t``; a wider one, and any of weights, is ``uint8_t [depth][bytes]``, the
    least significant byte first. Addresses and pitches count activations, of ``ELEMENT_BYTES`` bytes each.
    """
    name = re.sub(r"[^A-Za-z0-9]+", "_", program.name).strip("_").lower() or "program"
    if name[0].isdigit():
        name = f"program_{name}"
    prefix = name.upper()
    config = program.config
    figures = {
        "LANES": config.lanes,
        "COLUMNS": config.columns,
        "REQUANTIZERS": config.requantizers,
        "ACTIVATION_BYTES": config.activation_bytes,
        "ELEMENT_BYTES": config.element_bytes,
        "HOST_BYTES": config.host_bytes,
        "LOG_ENTRIES": config.max_instructions,
        "INSTRUCTIONS": len(program.instructions),
        "TABLES": len(program.tables),
        "LAYERS": len(program.layers),
        "MACS": program.macs,
    }
    lines = [
        f"// Program '{_comment(program.name)}' for the Zeropoint accelerator.",
        f"#ifndef ZEROPOINT_{prefix}_H",
        f"#define ZEROPOINT_{prefix}_H",
        "",
        "#include <stdint.h>",
        "",
        *_address_map(),
        "",
        "// The configuration and the network.",
        *(f"#define {prefix}_{key} {value}" for key, value in figures.items()),
        "",
        *_tensor(f"{prefix}_INPUT", program.input),
        "",
        *_tensor(f"{prefix}_OUTPUT", program.output),
        "",
        "// What a device that holds the program says of it: the images' hash, and the configuration's digest.",
        _bytes(f"{name}_hash", program_hash(program)),
        _bytes(f"{name}_configuration", configuration_digest(config)),
        "",
        "// Memory images.",
    ]
    parts = ["\n".join(lines) + "\n"]
    for image in program.images:
        macro = f"{prefix}_{image.name.upper()}"
        parts.append(f"#define {macro}_WIDTH {image.width}\n#define {macro}_DEPTH {image.depth}\n")
        parts.append(_array(image, f"{name}_{image.name}", f"{macro}_DEPTH"))
    parts.append(f"\n#endif  // ZEROPOINT_{prefix}_H\n")
    return "".join(parts)


def _address_map() -> list[str]:
    """Return the host bus's addresses, which are the same in every program's header."""

    def codes(prefix: str, members: Iterable[IntEnum], shift: int = 0) -> list[str]:
        return [f"#define ZEROPOINT_{prefix}_{member.name} 0x{member << shift:X}u" for member in members]

    return [
        "#ifndef ZEROPOINT_ADDRESS_MAP",
        "#define ZEROPOINT_ADDRESS_MAP",
        "// Host bus: a region plus a register or an offset within the region.",
        *codes("REGION", isa.Region, isa.REGION_SHIFT),
        *codes("REGISTER", isa.Register),
        *codes("COMMAND", isa.Command),
        *codes("LOG", isa.LogEntry),
        f"#define ZEROPOINT_IDENTIFICATION 0x{isa.IDENTIFICATION:X}u",
        f"#define ZEROPOINT_INSTRUCTION_WORDS {isa.INSTRUCTION_WORDS}",
        f"#define ZEROPOINT_LOG_PIECES {isa.LOG_PIECES}",
        f"#define ZEROPOINT_PARAMETER_PIECES {isa.PARAMETER_PIECES}",
        f"#define ZEROPOINT_TABLE_ENTRIES {isa.TABLE_ENTRIES}",
        "#endif",
    ]


def _tensor(macro: str, buffer: Buffer) -> list[str]:
    return [
        f"// Tensor '{_comment(buffer.tensor)}': {buffer.dtype} {' x '.join(map(str, buffer.shape))}.",
        f"#define {macro}_ADDRESS {buffer.address}",
        f"#define {macro}_BYTES {buffer.memory_bytes}",
        f"#define {macro}_ROWS {buffer.rows}",
        f"#define {macro}_ROW_BYTES {buffer.row_bytes}",
        f"#define {macro}_ROW_PITCH {buffer.row_pitch}",
        f"#define {macro}_SIGNED {int(buffer.dtype != 'uint8')}",
        f"#define {macro}_SCALE {buffer.scale!r}",
        f"#define {macro}_ZERO_POINT ({buffer.zero_point})",
        *([] if buffer.bits is None else [f"#define {macro}_BITS {buffer.bits}"]),
        *(
            f"#define {macro}_{part}_BITS {bits}"
            for part, bits in zip(("EXPONENT", "MANTISSA"), buffer.minifloat or (), strict=False)
        ),
    ]


def _array(image: Image, name: str, depth: str) -> str:
    if image.width <= 64 and image.name != "weights":
        bits = max(8, 1 << (image.width - 1).bit_length())
        digits = hex_digits(image.words, image.width)
        suffix = "ull" if bits == 64 else "u"
        rows = fill_rows(f"    0x{'?' * digits.shape[1]}{suffix},\n", digits)
        return f"static const uint{bits}_t {name}[{depth}] = {{\n{rows.decode()}}};\n"
    count = image.words.shape[1]
    lines = [min(_BYTES_A_LINE, count - start) * ["0x??"] for start in range(0, count, _BYTES_A_LINE)]
    template = "    {" + ",\n     ".join(", ".join(line) for line in lines) + "},\n"
    # Digits in the order of the bytes in memory.
    digits = hex_digits(image.words.reshape(-1, 1), 8).reshape(image.depth, -1)
    rows = fill_rows(template, digits)
    return f"static const uint8_t {name}[{depth}][{count}] = {{\n{rows.decode()}}};\n"


def _bytes(name: str, data: bytes) -> str:
    return f"static const uint8_t {name}[{len(data)}] = {{{', '.join(f'0x{byte:02x}' for byte in data)}}};"


def _comment(text: str) -> str:
    """Return ``text`` as it may stand in a one-line comment, which a backslash at its end would continue."""
    return text.encode("ascii", "replace").decode().replace("\\", "/").replace("??/", "//")
