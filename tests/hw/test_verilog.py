import re

import pytest
from amaranth import Module
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from support.toy import Toy

from zeropoint_hw.accelerator import Accelerator
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.verilog import to_verilog

CONFIG = AcceleratorConfig(
    lanes=2, columns=2, activation_bytes=64, weight_bytes=64, parameter_channels=8, program_words=64
)


class Store(wiring.Component):
    """A memory with initial contents."""

    def __init__(self, depth, init, width=12):
        super().__init__({"address": In(range(depth)), "data": Out(width)})
        self._depth, self._init, self._width = depth, init, width

    def elaborate(self, platform):
        m = Module()
        m.submodules.storage = storage = memory.Memory(shape=self._width, depth=self._depth, init=self._init)
        read = storage.read_port()
        m.d.comb += [read.addr.eq(self.address), self.data.eq(read.data)]
        return m


def contents(text):
    """Return what the statements and loops of an initial block put into a memory, word by word."""
    (block,) = re.findall(r"initial begin.*?\n(.*?)  end\n", text, re.DOTALL)
    words = {}
    for line in block.splitlines():
        if match := re.fullmatch(r"    for \(i = (\d+); i < (\d+); i = i \+ 1\) \S+ ?\[i\] = (?:12'h|32'd)0;", line):
            for index in range(int(match[1]), int(match[2])):
                assert index not in words
                words[index] = 0
        elif match := re.fullmatch(r"    \S+ ?\[(\d+)\] = (?:12'h|(32'd))([0-9a-f]+);", line):
            assert int(match[1]) not in words
            words[int(match[1])] = int(match[3], 10 if match[2] else 16)
        else:
            assert line == "    integer i;"
    return [words[index] for index in range(len(words))]


def test_the_same_text_every_time_without_places_or_dates():
    text = to_verilog(Accelerator(CONFIG))
    assert text == to_verilog(Accelerator(CONFIG))
    for word in (".py", "src =", "/home", "/root", "/tmp"):
        assert word not in text
    assert not re.search(r"\d\d:\d\d:\d\d|20\d\d-\d\d", text)


def test_the_top_module_has_the_name_and_the_ports_that_are_promised():
    text = to_verilog(Toy(), "my_toy")
    (ports,) = re.findall(r"^module my_toy\((.*)\);$", text, re.MULTILINE)
    assert set(ports.split(", ")) == {
        "clk",
        "rst",
        "host__address",
        "host__write",
        "host__write_data",
        "host__read",
        "host__read_valid",
        "host__read_data",
    }
    modules = re.findall(r"^module (\S+)", text, re.MULTILINE)
    assert all("my_toy" in module for module in modules)


@pytest.mark.parametrize("depth", [2, 5, 100, 10000])
@pytest.mark.parametrize("width", [12, 32])
@pytest.mark.parametrize("init", [[], [1], [0, 0, 7, 0, 0x800]])
def test_initial_contents_are_whole(depth, init, width):
    text = to_verilog(Store(depth, init[:depth], width))
    expected = init[:depth] + [0] * (depth - len(init[:depth]))
    assert contents(text) == expected


@pytest.mark.parametrize("width", [12, 32])
def test_zeros_take_no_line_each_and_no_loop_is_long(width):
    text = to_verilog(Store(10000, [3], width))
    assert len(text.splitlines()) < 100
    rounds = [int(stop) - int(start) for start, stop in re.findall(r"i = (\d+); i < (\d+)", text)]
    assert sum(rounds) == 9999
    assert max(rounds) <= 4096
