"""The models of cells behave as their documentation says, and what a netlist computes wrongly is seen."""

import json
import random
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pytest
from amaranth import ClockSignal, Const, Instance, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from support.banks import BANKS, check_bank
from support.fpga import Counter
from support.gateware import products
from support.netlists import need_simulator, netlist, verilog, verilog_of
from support.sources import broken

import zeropoint_hw.verilog
from zeropoint.errors import ZeropointError
from zeropoint_boards.netlist_verilog import models, to_verilog
from zeropoint_hw.banks import SinglePortBank
from zeropoint_hw.memory import WordMemory
from zeropoint_hw.multiplier import Multiplier
from zeropoint_sim import verilog_build
from zeropoint_sim.bench import engine, run_bench

ONES = (1 << 36) - 1


def with_models(component, cell):
    """Return the Verilog of a component that instantiates a cell of ECP5, and the cell's model."""
    return zeropoint_hw.verilog.to_verilog(component, verilog_build.TOP) + models("ecp5", [cell])


def pins(direction, name, value):
    """Return the connections of a bus, each bit of which is a pin of its own."""
    return {f"{direction}_{name}{bit}": value[bit] for bit in range(len(value))}


@dataclass(frozen=True)
class Dsp:
    """How a multiplier is configured: which clock, enable and reset each register has."""

    a: int | None = None
    b: int | None = None
    pipeline: int | None = None
    output: int | None = None
    mode: str = "SYNC"

    def parameters(self):
        stages = {"INPUTA": self.a, "INPUTB": self.b, "PIPELINE": self.pipeline, "OUTPUT": self.output}
        chosen = {}
        for stage, index in stages.items():
            which = {"CLK": "NONE"} if index is None else {key: f"{key}{index}" for key in ("CLK", "CE", "RST")}
            chosen |= {f"p_REG_{stage}_{key}": value for key, value in which.items()}
        return {**chosen, "p_RESETMODE": self.mode}


DSPS = [
    Dsp(),
    Dsp(a=0, b=0, output=0),
    Dsp(a=0, b=1, pipeline=2, output=3),
    Dsp(b=2),
    Dsp(a=3, pipeline=3),
    Dsp(output=1, mode="ASYNC"),
    Dsp(a=1, b=1, pipeline=1, output=2, mode="ASYNC"),
]


class Multipliers(wiring.Component):
    """One multiplier of each configuration, all with the same inputs."""

    def __init__(self):
        inputs = {"a": 18, "b": 18, "shifted_a": 18, "shifted_b": 18, "signs": 2, "sources": 2, "ce": 4, "resets": 4}
        outputs = {f"{name}{index}": width for index in range(len(DSPS)) for name, width in (("p", 36), ("sign", 1))}
        super().__init__({name: In(n) for name, n in inputs.items()} | {name: Out(n) for name, n in outputs.items()})

    def elaborate(self, platform):
        m = Module()
        connections = {
            **pins("i", "A", self.a),
            **pins("i", "B", self.b),
            **pins("i", "SRIA", self.shifted_a),
            **pins("i", "SRIB", self.shifted_b),
            **pins("i", "CE", self.ce),
            **pins("i", "RST", self.resets),
            **{f"i_CLK{index}": ClockSignal() for index in range(4)},
            **{f"i_SIGNED{name}": self.signs[bit] for bit, name in enumerate("AB")},
            **{f"i_SOURCE{name}": self.sources[bit] for bit, name in enumerate("AB")},
        }
        for index, dsp in enumerate(DSPS):
            sign = getattr(self, f"sign{index}")
            outputs = {**pins("o", "P", getattr(self, f"p{index}")), "o_SIGNEDP": sign}
            m.submodules += Instance("MULT18X18D", **dsp.parameters(), **connections, **outputs)
        return m


@dataclass
class Documented:
    """What the documentation says of a multiplier, in words of Python."""

    dsp: Dsp
    held: dict = field(default_factory=dict)

    def cycle(self, a, b, signs, ce, rst):
        """Return the product, and whether it is signed, before the clock's edge; then there is the edge."""
        after = {}

        def register(name, value):
            index = getattr(self.dsp, name)
            if index is None:
                return value
            reset = rst >> index & 1
            nothing = tuple(0 for _ in value)
            if reset and self.dsp.mode == "ASYNC":
                self.held[name] = nothing
            held = self.held.get(name, nothing)
            after[name] = nothing if reset else value if ce >> index & 1 else held
            return held

        a, a_signed = register("a", (a, signs & 1))
        b, b_signed = register("b", (b, signs >> 1))
        factors = [value - (value >> 17 << 18 if signed else 0) for value, signed in ((a, a_signed), (b, b_signed))]
        product, signed = register("pipeline", (factors[0] * factors[1] & ONES, a_signed | b_signed))
        (result,) = register("output", (product,))
        self.held |= after
        return result, signed


def test_the_multiplier_is_the_documented_one():
    dut = Multipliers()
    rng = random.Random(1)
    ends = [0, 1, (1 << 17) - 1, 1 << 17, (1 << 18) - 1]
    documented = [Documented(dsp) for dsp in DSPS]

    def operand():
        return rng.choice(ends) if rng.random() < 0.5 else rng.getrandbits(18)

    async def bench(ctx):
        for _ in range(1000):
            a, b, shifted_a, shifted_b = (operand() for _ in range(4))
            signs, sources = rng.getrandbits(2), rng.choice([0, 0, 1, 2, 3])
            ce = rng.getrandbits(4) | rng.getrandbits(4)
            rst = rng.getrandbits(4) & rng.getrandbits(4) & rng.getrandbits(4)
            inputs = {"a": a, "b": b, "shifted_a": shifted_a, "shifted_b": shifted_b}
            for name, value in (inputs | {"signs": signs, "sources": sources, "ce": ce, "resets": rst}).items():
                ctx.set(getattr(dut, name), value)
            names = [(getattr(dut, f"p{index}"), getattr(dut, f"sign{index}")) for index in range(len(DSPS))]
            _, _, *got = await ctx.tick().sample(*(signal for pair in names for signal in pair))
            chosen = shifted_a if sources & 1 else a, shifted_b if sources >> 1 else b
            expected = [model.cycle(*chosen, signs, ce, rst) for model in documented]
            assert [*zip(got[::2], got[1::2], strict=True)] == expected

    with engine(need_simulator(), partial(with_models, cell="MULT18X18D")):
        run_bench(dut, bench, deadline=2000)


@dataclass(frozen=True)
class Ram:
    """How a block RAM is configured."""

    width_a: int
    width_b: int
    mode_a: str = "NORMAL"
    mode_b: str = "NORMAL"
    reset: str = "SYNC"


RAMS = [
    Ram(18, 18),
    Ram(9, 18, "WRITETHROUGH", "READBEFOREWRITE"),
    Ram(18, 9, "READBEFOREWRITE", "WRITETHROUGH"),
    Ram(1, 4, "WRITETHROUGH"),
    Ram(2, 18, "READBEFOREWRITE", reset="ASYNC"),
    Ram(4, 2),
    Ram(36, 36),
    Ram(36, 18),
    Ram(36, 9),
    Ram(36, 1),
]

#: Bits of 18 in each 20, as a netlist has them.
CONTENTS = np.random.default_rng(2).integers(0, 1 << 18, 1024).tolist()


class BlockRams(wiring.Component):
    """One block RAM of each configuration, all with the same inputs."""

    def __init__(self):
        inputs = {"data": 18, "address": 14, "ce": 1, "we": 1, "reset": 1, "cs": 3}
        members = {f"{name}_{port}": In(width) for port in "ab" for name, width in inputs.items()}
        outputs = {f"out{index}_{port}": Out(18) for index in range(len(RAMS)) for port in "ab"}
        super().__init__(members | outputs)

    def elaborate(self, platform):
        m = Module()
        initial = {}
        for block in range(64):
            words = CONTENTS[16 * block : 16 * block + 16]
            initial[f"p_INITVAL_{block:02X}"] = Const(sum(word << 20 * at for at, word in enumerate(words)), 320)
        for index, ram in enumerate(RAMS):
            parameters, connections = {**initial, "p_RESETMODE": ram.reset}, {}
            for port in "ab":
                name = port.upper()
                get = lambda member, port=port: getattr(self, f"{member}_{port}")  # noqa: E731
                parameters |= {
                    f"p_DATA_WIDTH_{name}": getattr(ram, f"width_{port}"),
                    f"p_WRITEMODE_{name}": getattr(ram, f"mode_{port}"),
                }
                write = 0 if ram.width_a == 36 and port == "b" else get("we")
                connections |= {
                    **pins("i", f"DI{name}", self.data_b if port == "b" else self.data_a),
                    **pins("i", f"AD{name}", get("address")),
                    **pins("i", f"CS{name}", get("cs")),
                    **pins("o", f"DO{name}", getattr(self, f"out{index}_{port}")),
                    f"i_CLK{name}": ClockSignal(),
                    f"i_CE{name}": get("ce"),
                    f"i_OCE{name}": 1,
                    f"i_WE{name}": write,
                    f"i_RST{name}": get("reset"),
                }
            m.submodules += Instance("DP16KD", **parameters, **connections)
        return m


class DocumentedRam:
    """What the documentation says of a block RAM: 18,432 bits, of which a word has some."""

    def __init__(self, ram):
        self.ram = ram
        self.bits = [word >> bit & 1 for word in CONTENTS for bit in range(18)]
        # What each port shows, and of which of its bits nothing is said.
        self.shown = {"a": (0, 0), "b": (0, 0)}

    @staticmethod
    def places(width, address):
        """Return where the bits of the word at an address are: 8 of each 9 are there for words below 9 bits."""
        word = address >> {1: 0, 2: 1, 4: 2, 9: 3, 18: 4, 36: 5}[width]
        first = word * width if width >= 9 else word * width // 8 * 9 + word * width % 8
        return range(first, first + width)

    def cycle(self, ports):
        """Return what the ports show before the clock's edge, and which bits are open; then there is the edge."""
        if self.ram.reset == "ASYNC":
            self.shown |= {port: (0, 0) for port, pin in ports.items() if pin["reset"]}
        before = dict(self.shown)
        words, written = {}, {"a": {}, "b": {}}
        for port, pin in ports.items():
            width = getattr(self.ram, f"width_{port}")
            words[port] = self.places(width, pin["address"])
            if pin["ce"] and pin["we"] and not pin["cs"]:
                enabled = [width < 18 or pin["address"] >> bit // 9 & 1 for bit in range(width)]
                written[port] = {place: pin["data"] >> bit & 1 for bit, place in enumerate(words[port]) if enabled[bit]}
        for port, other in ("ab", "ba"):
            pin, mode = ports[port], getattr(self.ram, f"mode_{port}")
            if pin["reset"]:
                self.shown[port] = 0, 0
            elif pin["ce"] and not pin["cs"] and not (pin["we"] and mode == "NORMAL"):
                new = self.bits if mode != "WRITETHROUGH" else {**dict(enumerate(self.bits)), **written[port]}
                value = sum(new[place] << bit for bit, place in enumerate(words[port]))
                clash = sum((place in written[other]) << bit for bit, place in enumerate(words[port]))
                self.shown[port] = value, clash
        for place, bit in {**written["a"], **written["b"]}.items():
            self.bits[place] = bit
        return before


@pytest.mark.slow
def test_the_block_ram_is_the_documented_one():
    dut = BlockRams()
    rng = random.Random(3)
    documented = [DocumentedRam(ram) for ram in RAMS]
    open_bits = []

    async def bench(ctx):
        for _ in range(600):
            ports = {}
            for port in "ab":
                rst = rng.random() < 0.1
                pin = {"data": rng.getrandbits(18), "reset": rst, "we": not rst and rng.random() < 0.5}
                # A few rows only, so that what was written is read.
                pin |= {"address": rng.getrandbits(7) | 9 << 10, "ce": rng.random() < 0.8, "cs": rng.random() < 0.1}
                ports[port] = pin
                for name, value in pin.items():
                    ctx.set(getattr(dut, f"{name}_{port}"), int(value))
            signals = [getattr(dut, f"out{index}_{port}") for index in range(len(RAMS)) for port in "ab"]
            _, _, *got = await ctx.tick().sample(*signals)
            for ram, model, out_a, out_b in zip(RAMS, documented, got[::2], got[1::2], strict=True):
                seen = {"a": dict(ports["a"]), "b": dict(ports["b"])}
                if ram.width_a == 36:
                    # What port A writes comes through the inputs of both, and port B only reads.
                    seen["a"]["data"] |= ports["b"]["data"] << 18
                    seen["b"]["we"] = False
                shown = model.cycle(seen)
                answers = {"b": out_b << 18 | out_a} if ram.width_b == 36 else {"b": out_b}
                if ram.width_a != 36:
                    answers["a"] = out_a
                for port, answer in answers.items():
                    value, clash = shown[port]
                    assert answer & ~clash == value & ~clash, (ram, port)
                    open_bits.extend((answer ^ value) >> bit & 1 for bit in range(36) if clash >> bit & 1)

    with engine(need_simulator(), partial(with_models, cell="DP16KD")):
        run_bench(dut, bench, deadline=700)
    # Nobody can rely on what is read while it is written.
    assert 0.4 < np.mean(open_bits) < 0.6


def changed(component, kind, change):
    """Return a component's netlist as Verilog, after a change of its cells."""
    made = netlist(component, kind)
    document = json.loads(made.json)
    change(document["modules"]["top"]["cells"])
    return to_verilog(replace(made, json=json.dumps(document).encode()), verilog_build.TOP)


def check_products(make_verilog):
    """Hold a multiplier's netlist against what it is to compute; a product of fewer bits would not show its signs."""
    values = np.array([-(1 << 15), -12345, -1, 0, 1, 54, (1 << 15) - 1])
    a, b = np.stack(np.meshgrid(values, values), -1).reshape(-1, 2).T
    with engine(need_simulator(), make_verilog):
        np.testing.assert_array_equal(products(Multiplier(16), Multiplier.LATENCY, a, b), a * b)


def unsigned(cells):
    """Take the sign from one operand of the multiplier."""
    (dsp,) = [cell for cell in cells.values() if cell["type"] in ("MULT18X18D", "SB_MAC16")]
    if dsp["type"] == "SB_MAC16":
        dsp["parameters"]["A_SIGNED"] = "0"
    else:
        dsp["connections"]["SIGNEDA"] = ["0"]


@pytest.mark.parametrize("kind", ["ecp5", pytest.param("ice40", marks=pytest.mark.slow)])
def test_a_multiplier_without_a_sign_is_seen(kind):
    check_products(partial(verilog, kind=kind))
    with pytest.raises(AssertionError, match="Mismatched elements"):
        check_products(partial(changed, kind=kind, change=unsigned))


def flip(cell, parameter, at):
    """Flip a bit of a cell's parameter."""
    bits = [*cell["parameters"][parameter]]
    bits[-1 - at] = "01"[bits[-1 - at] == "0"]
    cell["parameters"][parameter] = "".join(bits)


def look_up_table_flipped(cells, kind, parameter, pins):
    """Flip what a look-up table answers where all signals that it sees are 0."""
    cell = next(cell for cell in cells.values() if cell["type"] == kind)
    flip(cell, parameter, sum((cell["connections"][pin] == ["1"]) << bit for bit, pin in enumerate(pins)))


def check_counter(make_verilog):
    dut = Counter(8)
    got = []

    async def bench(ctx):
        for _ in range(600):
            _, _, count = await ctx.tick().sample(dut.count)
            got.append(count)

    with engine(need_simulator(), make_verilog):
        run_bench(dut, bench, deadline=700)
    np.testing.assert_array_equal(got, np.arange(600) % 256)


TABLES = [
    ("ecp5", "CCU2C", "INIT0", ("A0", "B0", "C0", "D0")),
    ("ice40", "SB_LUT4", "LUT_INIT", ("I0", "I1", "I2", "I3")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "cell", "parameter", "pins"), TABLES)
def test_a_flipped_bit_of_a_look_up_table_is_seen(kind, cell, parameter, pins):
    check_counter(partial(verilog, kind=kind))
    change = partial(look_up_table_flipped, kind=cell, parameter=parameter, pins=pins)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        check_counter(partial(changed, kind=kind, change=change))


#: What is in a ROM that fills a block RAM.
ROM = np.random.default_rng(4).integers(0, 1 << 16, 500)


def check_rom(make_verilog):
    dut = WordMemory(16, 512, 16, rom=ROM)
    got = []

    async def bench(ctx):
        for address in [*range(len(ROM)), *[0] * dut.READ_LATENCY]:
            ctx.set(dut.read_address, address)
            _, _, data = await ctx.tick().sample(dut.read_data)
            got.append(data)

    with engine(need_simulator(), make_verilog):
        run_bench(dut, bench, deadline=600)
    np.testing.assert_array_equal(got[dut.READ_LATENCY :], ROM)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "cell", "parameter"), [("ecp5", "DP16KD", "INITVAL_00"), ("ice40", "SB_RAM40", "INIT_0")]
)
def test_a_flipped_bit_of_a_rom_is_seen(kind, cell, parameter):
    def change(cells):
        flip(next(each for each in cells.values() if each["type"].startswith(cell)), parameter, 0)

    check_rom(partial(verilog, kind=kind))
    with pytest.raises(AssertionError, match="Mismatched elements"):
        check_rom(partial(changed, kind=kind, change=change))


@pytest.mark.parametrize(
    ("width", "depth"), [pytest.param(*bank, marks=[pytest.mark.slow] if bank[0] == 16 else []) for bank in BANKS]
)
def test_a_bank_of_spram_answers_in_every_cycle(width, depth):
    dut = SinglePortBank(width, depth)
    assert netlist(dut, "ice40").resources.spram == BANKS[width, depth]
    with engine(need_simulator(), verilog_of("ice40")):
        check_bank(dut, width, depth)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("m.d.sync += chosen", "m.d.comb += chosen"),
        pytest.param("1 if blocks == 1 else block == index", "1", marks=pytest.mark.slow),
        pytest.param("<< part * nibbles", "<< 0", marks=pytest.mark.slow),
    ],
    ids=["chosen-too-early", "every-block-is-written", "one-part-is-written"],
)
def test_a_fault_of_a_bank_of_spram_is_seen(right, wrong):
    dut = broken(SinglePortBank, right, wrong)(8, 40000)
    with (
        engine(need_simulator(), verilog_of("ice40")),
        pytest.raises(AssertionError, match=r"^word \d+ is 0x\w+ instead of 0x\w+"),
    ):
        check_bank(dut, 8, 40000)


@pytest.mark.slow
def test_a_mode_that_has_no_model_is_refused():
    def unusual(cells):
        cells["dsp"]["parameters"]["SOURCEB_MODE"] = "HIGHSPEED"

    with pytest.raises(ZeropointError, match="MULT18X18D: this model has no such mode"):
        check_products(partial(changed, kind="ecp5", change=unusual))


def test_a_cell_without_a_model_is_refused():
    with pytest.raises(ZeropointError, match=r"^there is no model of cell EHXPLLL of ecp5$"):
        models("ecp5", ["LUT4", "EHXPLLL"])


def test_the_text_is_the_same_every_time_and_names_no_place():
    text = verilog(Counter(4), "ecp5")
    assert text == verilog(Counter(4), "ecp5")
    assert not any(place in text for place in ("zeropoint-", ".py", "/tmp", "yowasp"))
