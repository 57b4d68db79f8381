"""The same requests on every engine: what comes back is what the component must do, in the same number of cycles."""

import gc
import re
from functools import partial

import numpy as np
import pytest
from support.engines import need
from support.toy import Slicer, Toy

from zeropoint.errors import ZeropointError
from zeropoint.host.transport import Watchdog
from zeropoint_hw.isa import IDENTIFICATION, Command, Region, Register, address
from zeropoint_sim.amaranth_engine import AmaranthEngine
from zeropoint_sim.bus import ANSWER_LIMIT
from zeropoint_sim.cxxrtl_build import design_identity
from zeropoint_sim.cxxrtl_engine import CxxrtlEngine
from zeropoint_sim.verilog_engine import VerilogEngine

ENGINES = ("amaranth", "cxxrtl", "verilator", "icarus")
MEMORY = address(Region.ACTIVATIONS, 0)
COUNT = address(Region.CONTROL, Register.CYCLES)
STATUS = address(Region.CONTROL, Register.STATUS)


@pytest.fixture
def start():
    """Return a function that starts an engine, which is closed when the test ends."""
    running = []

    def start(engine, make=Toy, *arguments, trace=None):
        if need(engine) == "amaranth":
            transport = AmaranthEngine(make(*arguments), trace)
        else:
            identity = design_identity("support") + repr((make.__name__, arguments)).encode()
            compiled = CxxrtlEngine if engine == "cxxrtl" else partial(VerilogEngine, engine)
            transport = compiled(lambda: make(*arguments), identity, trace)
        running.append(transport)
        return transport

    yield start
    for transport in running:
        transport.close()


def words(*values):
    return np.array(values, np.uint32)


def run(transport, values, count):
    """Run the toy on ``values``, and return the memory afterwards."""
    transport.write(MEMORY, values)
    transport.write(COUNT, words(count))
    transport.run(Command.RUN, 1000)
    return transport.read(MEMORY, Toy.DEPTH)


@pytest.mark.parametrize("engine", ENGINES)
def test_initial_contents_and_identification_are_read(start, engine):
    transport = start(engine)
    assert transport.name == engine
    assert transport.read(MEMORY, 3).tolist() == [*Toy.INIT, 0]
    assert transport.read(0, 1).tolist() == [IDENTIFICATION]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_computes_and_ends(start, engine):
    values = np.random.default_rng(0).integers(0, 1 << 32, Toy.DEPTH, dtype=np.uint32)
    expected = values.copy()
    expected[:40] = 3 * values[:40] + np.arange(40, dtype=np.uint32)
    np.testing.assert_array_equal(run(start(engine), values, 40), expected)


@pytest.mark.parametrize("latency", [0, 1, 5])
@pytest.mark.parametrize("other", ENGINES[1:])
def test_every_access_takes_the_same_cycles_on_every_engine(start, latency, other):
    spent = []
    for engine in (ENGINES[0], other):
        transport = start(engine, Toy, latency)
        cycles = [transport.cycles]
        transport.write(MEMORY, np.arange(10, dtype=np.uint32))
        cycles.append(transport.cycles)
        transport.read(MEMORY, 7)
        cycles.append(transport.cycles)
        transport.write(COUNT, words(5))
        transport.run(Command.RUN, 100)
        cycles.append(transport.cycles)
        with pytest.raises(Watchdog):
            transport.run(Command.STEP, 50)
        cycles.append(transport.cycles)
        spent.append(np.diff(cycles).tolist())
    # Two writes, two cycles for each of five words, and the read that sees the end; it is answered `latency` cycles
    # later, and those that were asked meanwhile in as many cycles more.
    assert spent[0] == [10, 7 + latency, 2 + 2 * 5 + 1 + 2 * latency, 1 + 50 + latency]
    assert spent[0] == spent[1]


@pytest.mark.parametrize("engine", ENGINES)
def test_strides_go_up_and_down(start, engine):
    transport = start(engine)
    transport.write(MEMORY + 40, words(1, 2, 3, 4), stride=-10)
    assert transport.read(MEMORY, 5, stride=10).tolist() == [7, 4, 3, 2, 1]
    assert transport.read(MEMORY + 40, 5, stride=-10).tolist() == [1, 2, 3, 4, 7]
    assert transport.read(MEMORY + 40, 3, stride=0).tolist() == [1, 1, 1]
    assert transport.read(MEMORY, 0).tolist() == []


def test_what_is_neither_0_nor_1_is_no_answer(start):
    transport = start("icarus")
    with pytest.raises(ZeropointError, match=r"^the accelerator answered the read of address 0x8000[0-9a-f]+ with X"):
        transport.read(MEMORY + Toy.DEPTH - 1, 2)


@pytest.mark.parametrize("engine", ENGINES[:3])
def test_beyond_the_end_of_a_memory_reads_zero_and_writes_nothing(start, engine):
    transport = start(engine)
    transport.write(MEMORY + Toy.DEPTH, words(5))
    assert transport.read(MEMORY + Toy.DEPTH - 1, 3).tolist() == [0, 0, 0]


@pytest.mark.parametrize("engine", ENGINES)
def test_hardware_that_does_not_end_is_reported_and_can_still_be_read(start, engine):
    transport = start(engine)
    with pytest.raises(Watchdog, match=r"^the accelerator is still busy after 500 cycles, more than the program can"):
        transport.run(Command.STEP, 500)
    assert transport.read(STATUS, 1).tolist() == [1]
    assert transport.read(0, 1).tolist() == [IDENTIFICATION]


def test_a_long_run_is_simulated_in_slices_that_leave_no_trace(start, monkeypatch):
    need("cxxrtl")
    cycles = []
    for part in (1_000_000, 1, 7):
        monkeypatch.setattr("zeropoint_sim.cxxrtl_engine.SLICE", part)
        transport = start("cxxrtl")
        run(transport, words(1, 2), 20)
        cycles.append(transport.cycles)
    assert cycles[0] == cycles[1] == cycles[2]


@pytest.mark.parametrize("engine", ENGINES)
def test_silence_is_reported(start, engine):
    transport = start(engine, Toy, 3, True)
    with pytest.raises(Watchdog, match=r"^the accelerator answered 0 of 4 reads from address 0x800000 on$"):
        transport.read(MEMORY, 4)
    assert transport.cycles == 4 + ANSWER_LIMIT
    with pytest.raises(Watchdog, match="still busy after 20 cycles"):
        transport.run(Command.RUN, 20)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        (lambda t: t.write(0, np.array([1])), TypeError, "a vector of uint32, not int64 of shape"),
        (lambda t: t.write(0, np.zeros((2, 2), np.uint32)), TypeError, r"not uint32 of shape \(2, 2\)"),
        (lambda t: t.write(1 << 24, words(1)), ValueError, "addresses up to 16777215, not 16777216"),
        (lambda t: t.read((1 << 24) - 1, 2), ValueError, "not 16777216"),
        (lambda t: t.read(1, 3, -1), ValueError, "not -1"),
    ],
)
def test_what_the_bus_cannot_carry_is_refused(start, engine, request_, error, message):
    transport = start(engine)
    with pytest.raises(error, match=message):
        request_(transport)
    assert transport.cycles == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_a_simulation_ends_once(start, engine):
    transport = start(engine)
    transport.read(0, 1)
    transport.close()
    transport.close()
    with pytest.raises(RuntimeError, match="has ended"):
        transport.read(0, 1)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_simulation_may_be_abandoned(engine, start, recwarn):
    transport = AmaranthEngine(Toy()) if engine == "amaranth" else start(engine)
    transport.read(0, 1)
    del transport
    gc.collect()
    assert not recwarn.list


def test_two_simulations_of_one_library_are_apart(start):
    first, second = start("cxxrtl"), start("cxxrtl")
    first.write(MEMORY, words(1))
    second.write(MEMORY, words(2))
    assert [int(each.read(MEMORY, 1)[0]) for each in (first, second)] == [1, 2]


@pytest.mark.parametrize(
    ("seed", "other"), [(0, "cxxrtl"), (1, "cxxrtl"), (2, "cxxrtl"), (0, "verilator"), (1, "icarus")]
)
def test_wide_values_are_cut_and_joined_alike(start, seed, other):
    values = np.random.default_rng(seed).integers(0, 1 << 32, 20, dtype=np.uint32)
    answers = []
    for engine in (ENGINES[0], other):
        transport = start(engine, Slicer, seed)
        got = []
        for value in values:
            transport.write(0, words(value))
            got.append(transport.read(0, Slicer.WAYS))
        answers.append(np.array(got))
    np.testing.assert_array_equal(*answers)
    # Each way to cut and join says something: it does not always give the same.
    assert min(len(np.unique(way)) for way in answers[0].T) > len(values) // 2


def waveform(path):
    """Return the values that each signal takes, one after the other, by name; of equal names those of the first."""
    head, changes = path.read_text().split("$enddefinitions $end\n")
    values = {}
    for bits, scalar, vector in re.findall(r"^b?([01]+)(?: (\S+)|(\S+))$", changes, re.MULTILINE):
        values.setdefault(scalar + vector, []).append(int(bits, 2))
    signals = {}
    for identifier, name in re.findall(r"^ *\$var \w+ \d+ (\S+) (\S+)", head, re.MULTILINE):
        signals.setdefault(name, values[identifier])
    return signals


@pytest.mark.parametrize("engine", ENGINES)
def test_waveforms_show_what_happened(start, engine, tmp_path):
    path = tmp_path / "t.vcd"
    transport = start(engine, trace=path)
    values = np.arange(Toy.DEPTH, dtype=np.uint32)
    transport.trace(True)
    run(transport, values, 30)
    transport.trace(False)
    traced = transport.cycles
    run(transport, values, 2)
    transport.close()
    signals = waveform(path)
    # From 0 to 30 once, and nothing of the second run.
    assert signals["index"] == list(range(31))
    assert signals["busy"] == [0, 1, 0]
    assert signals["clk"].count(1) == traced
    assert {"phase", "host__address", "host__read_data"} <= signals.keys()


@pytest.mark.parametrize("engine", ENGINES)
def test_tracing_changes_nothing(start, engine, tmp_path):
    values = np.arange(Toy.DEPTH, dtype=np.uint32) << 20
    plain, traced = start(engine), start(engine, trace=tmp_path / "t.vcd")
    traced.trace(True)
    np.testing.assert_array_equal(run(plain, values, 40), run(traced, values, 40))
    assert plain.cycles == traced.cycles


def test_a_trace_file_that_cannot_be_opened_is_named(start, tmp_path):
    need("cxxrtl")
    with pytest.raises(ZeropointError, match=r"^cannot write the waveform file '.*none/t\.vcd'$"):
        start("cxxrtl", trace=tmp_path / "none" / "t.vcd")


def test_a_full_disk_is_reported(start):
    need("cxxrtl")
    transport = start("cxxrtl", trace="/dev/full")
    transport.trace(True)
    transport.read(0, 1)
    with pytest.raises(ZeropointError, match="cannot write the waveform file '/dev/full': is the disk full"):
        transport.close()
