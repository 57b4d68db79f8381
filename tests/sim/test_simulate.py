"""Small networks on simulated hardware: what is compared, counted and reported."""

import json
from dataclasses import replace

import numpy as np
import pytest
from support.engines import need
from support.files import random_input
from support.random_models import ModelBuilder

from zeropoint import golden
from zeropoint.compiler import compile_model, storage
from zeropoint.errors import ZeropointError
from zeropoint.host.driver import Driver
from zeropoint.host.transport import Watchdog
from zeropoint.model import Padding
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import Instruction
from zeropoint_sim import cxxrtl_build
from zeropoint_sim.cxxrtl_build import EngineUnavailable
from zeropoint_sim.simulate import Fault, simulate

#: The first is always there; the others are compared with it.
ENGINES = ("amaranth", "cxxrtl", "verilator", "icarus")
CONFIG = AcceleratorConfig(
    lanes=2, columns=2, activation_bytes=512, weight_bytes=1024, parameter_channels=64, program_words=512
)


def network(seed=0):
    """Return a network of three layers and a host step."""
    builder = ModelBuilder(np.random.default_rng(seed))
    current = builder.conv(builder.input(4, 4, 3), 4, (3, 3), padding=Padding(1, 1, 1, 1))
    current = builder.fully_connected(builder.mean(current), 6)
    return builder.build(builder.softmax(current), name="small")


@pytest.fixture
def compiled(tmp_path):
    """Return a function that compiles a model: its program as files say, inputs, and the golden model's tensors."""

    def compiled(model=None, config=CONFIG, count=3, fuse=True):
        model = model or network()
        storage.save(compile_model(model, config, fuse=fuse), tmp_path / "program")
        x = random_input(model, count)
        tensors = golden.run_tensors(model, x)
        return storage.load(tmp_path / "program"), x, tensors[model.output], tensors

    return compiled


@pytest.mark.parametrize("source", ["ram", pytest.param("rom", marks=pytest.mark.slow)])
@pytest.mark.parametrize("other", ENGINES[1:])
def test_engines_agree_with_the_golden_model_and_on_every_cycle(compiled, source, other):
    config = AcceleratorConfig(**(CONFIG.to_dict() | {"weight_source": source}))
    program, x, expected, tensors = compiled(config=config)
    results = []
    for engine in (ENGINES[0], other):
        result = simulate(program, x, expected, engine=need(engine), golden_tensors=tensors)
        np.testing.assert_array_equal(result.outputs, expected)
        assert (result.engine, result.mismatches, result.exact, result.faults) == (engine, 0, 3, ())
        assert result.outputs.dtype == expected.dtype
        results.append(result)
    first, second = results
    for each in ("cycles", "layers", "stalls", "simulated_cycles"):
        assert getattr(first, each) == getattr(second, each), each
    assert len(np.unique(expected)) > 3


def test_cycles_add_up(compiled):
    program, x, expected, _ = compiled()
    result = simulate(program, x, expected, engine="amaranth")
    # Where data do not matter, every inference takes the same.
    assert len({*result.cycles}) == 1
    assert sum(result.stalls.values()) == sum(layer.cycles for layer in result.layers) == result.cycles[0]
    assert sum(layer.busy for layer in result.layers) == result.stalls["busy"]
    assert sum(layer.stall_drain for layer in result.layers) == result.stalls["drain"]
    assert result.stalls["memory"] == 0
    assert [(layer.op, layer.macs) for layer in result.layers] == [
        ("Conv2D", 4 * 4 * 4 * 27),
        ("Mean", 0),
        ("FullyConnected", 24),
    ]
    macs = sum(layer.macs for layer in result.layers)
    assert result.utilization == macs / (result.cycles[0] * 4)
    for layer in result.layers:
        assert layer.utilization == layer.macs / (layer.cycles * 4)
        assert layer.busy <= layer.cycles


def test_the_report_has_what_is_promised(compiled):
    program, x, expected, _ = compiled()
    report = json.loads(json.dumps(simulate(program, x, expected, engine="amaranth").to_json(), allow_nan=False))
    promised = {"model", "engine", "config", "inferences", "mismatches", "cycles", "macs", "multipliers"}
    promised |= {"utilization", "layers", "wall_seconds", "cycles_per_second"}
    assert promised <= report.keys()
    assert report["model"] == "small"
    assert report["engine"] == "amaranth"
    assert AcceleratorConfig.from_dict(report["config"]) == CONFIG
    assert (report["inferences"], report["mismatches"], report["exact_inferences"]) == (3, 0, 3)
    assert len(report["cycles"]) == 3
    assert report["macs"] == sum(layer["macs"] for layer in report["layers"])
    assert (report["multipliers"], report["requantizer_multipliers"]) == (4, 2 * 6)
    assert all({"name", "op", "macs", "cycles", "utilization"} <= layer.keys() for layer in report["layers"])
    assert report["host_steps"] == ["Softmax"]
    assert report["wall_seconds"] > 0
    assert report["cycles_per_second"] > 10
    assert (report["faults"], report["notes"]) == ([], [])


def test_differences_are_counted_and_the_first_of_each_tensor_is_described(compiled):
    program, x, expected, tensors = compiled()
    right = simulate(program, x, expected, engine="amaranth").outputs
    expected = expected.copy()
    expected[1, 4] ^= 1
    expected[1, 5] ^= 2
    expected[2, 0] ^= 1
    layer = next(name for name, tensor in tensors.items() if tensor.shape[1:] == (4, 4, 4))
    tensors = tensors | {layer: tensors[layer].copy()}
    tensors[layer][2, 3, 1, 2] ^= 16
    result = simulate(program, x, expected, engine="amaranth", golden_tensors=tensors)
    np.testing.assert_array_equal(result.outputs, right)
    assert (result.mismatches, result.exact) == (4, 1)
    output = result.faults[0].tensor
    changed = int(tensors[layer][2, 3, 1, 2])
    assert result.faults == (
        Fault(1, output, 2, (4,), int(right[1, 4]), int(right[1, 4]) ^ 1),
        Fault(2, layer, 1, (3, 1, 2), changed ^ 16, changed),
        Fault(2, output, 1, (0,), int(right[2, 0]), int(right[2, 0]) ^ 1),
    )
    reported = json.loads(json.dumps(result.to_json()))["faults"]
    assert [fault["axes"] for fault in reported] == [["axis 0"], ["row", "column", "channel"], ["axis 0"]]


def test_an_output_counts_once_unless_single_layers_give_another(compiled, monkeypatch):
    builder = ModelBuilder(np.random.default_rng(0))
    program, x, expected, tensors = compiled(builder.build(builder.fully_connected(builder.input(5), 3)))
    wrong = expected.copy()
    wrong[1, 2] ^= 4
    changed = tensors | {program.output.tensor: wrong}
    result = simulate(program, x, wrong, engine="amaranth", golden_tensors=changed)
    assert (result.mismatches, result.exact, len(result.faults)) == (1, 2, 1)
    run_layers = Driver.run_layers
    monkeypatch.setattr(
        Driver, "run_layers", lambda *given: {name: value ^ 1 for name, value in run_layers(*given).items()}
    )
    result = simulate(program, x, expected, engine="amaranth", golden_tensors=tensors)
    np.testing.assert_array_equal(result.outputs, expected)
    assert (result.mismatches, result.exact) == (expected.size, 0)


def test_a_hang_is_reported(compiled, monkeypatch):
    program, x, expected, _ = compiled()
    # The hardware takes longer than it may, as if it did not end.
    monkeypatch.setattr(Driver, "_cycle_limit", lambda self, instruction: 10)
    with pytest.raises(
        Watchdog, match=r"^the accelerator is still busy after 30 cycles, more than the program can take$"
    ):
        simulate(program, x, expected, engine="amaranth")


@pytest.mark.parametrize("engine", ENGINES)
def test_waveforms_are_of_the_first_inference(compiled, engine, tmp_path):
    program, x, expected, tensors = compiled()
    moments = []
    for count, check in ((1, None), (3, None), (3, tensors)):
        path = tmp_path / "t.vcd"
        result = simulate(program, x[:count], expected[:count], engine=need(engine), trace=path, golden_tensors=check)
        assert result.mismatches == 0
        text = path.read_text()
        assert "$enddefinitions" in text
        assert " host__read_data " in text
        moments.append(text.count("\n#"))
    assert moments[0] == moments[1] > 2 * result.cycles[0]
    # Amaranth's simulator records from the start, and so the single steps before the run as well.
    assert moments[2] == moments[0] if engine != "amaranth" else moments[2] > moments[0]


def test_progress_is_told_after_each_inference(compiled):
    program, x, expected, _ = compiled()
    told, said = [], []
    simulate(
        program,
        x,
        expected,
        engine="amaranth",
        progress=lambda done, total: told.append((done, total)),
        announce=said.append,
    )
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert said == []


def test_without_a_compiler_the_slow_engine_runs_and_says_so(compiled, monkeypatch):
    def missing():
        raise EngineUnavailable("engine cxxrtl needs a C++ compiler")

    monkeypatch.setattr(cxxrtl_build, "find_tools", missing)
    program, x, expected, _ = compiled()
    said = []
    result = simulate(program, x[:1], expected[:1], engine="auto", announce=said.append)
    assert result.engine == "amaranth"
    (note,) = result.notes
    assert "far slower: engine cxxrtl needs a C++ compiler" in note
    assert said == [note]
    assert result.to_json()["notes"] == [note]
    with pytest.raises(ZeropointError, match=r"needs a C\+\+ compiler"):
        simulate(program, x, expected, engine="cxxrtl")


def test_a_simulator_that_was_built_is_used_again_without_a_word(compiled):
    need("cxxrtl")
    program, x, expected, _ = compiled()
    said = []
    for _ in range(2):
        said.clear()
        result = simulate(program, x, expected, engine="auto", announce=said.append)
        assert (result.engine, result.mismatches, result.notes) == ("cxxrtl", 0, ())
    assert said == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:, :3], r"^input 'input' takes int8 \(n, 4, 4, 3\), not int8 \(3, 3, 4, 3\)$"),
        (lambda x: x[0], r"takes int8 \(n, 4, 4, 3\), not int8 \(4, 4, 3\)$"),
        (lambda x: x.astype(np.int16), r"takes int8 \(n, 4, 4, 3\), not int16 \(3, 4, 4, 3\)$"),
        (lambda x: x[:0], r"not int8 \(0, 4, 4, 3\)$"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(compiled, change, message):
    program, x, expected, _ = compiled()
    with pytest.raises(ZeropointError, match=message):
        simulate(program, change(x), expected, engine="amaranth")


def test_an_unknown_engine_is_refused(compiled):
    program, x, expected, _ = compiled()
    with pytest.raises(
        ZeropointError, match=r"^engine must be one of auto, amaranth, cxxrtl, verilator, icarus, not 'fpga'$"
    ):
        simulate(program, x, expected, engine="fpga")


def test_every_layer_of_a_deep_network_has_its_cycles(compiled):
    builder = ModelBuilder(np.random.default_rng(3))
    current = builder.input(1, 1, 2)
    for _ in range(300):
        current = builder.requantize(current)
    sizes = {"parameter_channels": 2 * 300, "program_words": Instruction.WORDS * 300}
    program, x, expected, _ = compiled(builder.build(current), replace(CONFIG, **sizes), count=1, fuse=False)
    result = simulate(program, x, expected, engine=need("cxxrtl"))
    assert len(result.layers) == len(result.program.instructions) == result.program.config.max_instructions == 300
    assert (result.mismatches, result.exact, result.notes) == (0, 1, ())
    assert min(layer.cycles for layer in result.layers) > 0
    assert sum(layer.cycles for layer in result.layers) == result.cycles[0]
