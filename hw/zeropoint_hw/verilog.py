"""Components as Verilog, for another tool flow or another simulator."""

import re
from typing import Any

from amaranth.back import verilog

#: Words that one loop clears: Quartus refuses loops of more than 5000 rounds.
_LOOP = 4096

#: The initial contents of a memory as Yosys writes them, a statement a word: decimal if it has 32 bits.
_CONTENTS = re.compile(r"^  initial begin\n((?:    \S+ ?\[\d+\] = \d+'[hd][0-9a-f]+;\n)+)  end\n", re.MULTILINE)
#: What Yosys adds so that combinational blocks run at the start of a simulation: a register that becomes 0 there.
_SETTLE = re.compile(r"\\\$auto\$verilog_backend\.cc:\d+:dump_module\$\d+ ")
_WORD = re.compile(r"^    (\S+ ?)\[(\d+)\] = (\d+'[hd])([0-9a-f]+);\n", re.MULTILINE)


def to_verilog(component: Any, name: str = "zeropoint") -> str:
    """Return a component as Verilog: the same text every time, without a path or a date.

    The text stands alone. A memory's initial contents are in it, so nothing has to be read from files.

    Parameters
    ----------
    component
        An Amaranth component. Its ports are those of its signature, the names along the path to a member joined by
        two underscores (``host__address``), structures and arrays as one vector; then ``clk`` and ``rst``, which
        resets at the rising edge of ``clk``.
    name
        Of the top module; those below it are named after it.
    """
    text: str = verilog.convert(component, name=name, emit_src=False, strip_internal_attrs=True)
    # In SystemVerilog a value given where a register is declared is there before any block waits for it to change, and
    # blocks whose inputs do not change later would leave their outputs unknown. This comes when all blocks wait.
    text = _SETTLE.sub(r"\\$settle ", text).replace("reg \\$settle  = 0;", "reg \\$settle ;\n  initial \\$settle <= 0;")
    number = 0

    def shorten(match: re.Match[str]) -> str:
        """Replace the zeros at the end by loops; a statement for each is megabytes of text in large memories."""
        nonlocal number
        words = _WORD.findall(match[1])
        held = len(words)
        while held and not words[held - 1][3].strip("0"):
            held -= 1
        memory, width = words[0][0], words[0][2]
        if len(words) - held < 4 or [int(word[1]) for word in words] != list(range(len(words))):
            return match[0]
        lines = [f"  initial begin : zeros_{number}\n    integer i;\n"]
        number += 1
        lines += [f"    {memory}[{index}] = {width}{value};\n" for _, index, _, value in words[:held]]
        for start in range(held, len(words), _LOOP):
            stop = min(start + _LOOP, len(words))
            lines.append(f"    for (i = {start}; i < {stop}; i = i + 1) {memory}[i] = {width}0;\n")
        return "".join([*lines, "  end\n"])

    return _CONTENTS.sub(shorten, text)
