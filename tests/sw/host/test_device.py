"""Devices against the obvious one: what is refused, what is loaded again, what is reported."""

import numpy as np
import pytest
from support.board import CONFIG, inputs, small_network
from support.device_model import DeviceModel, ModelLine

from zeropoint import golden
from zeropoint.compiler import compile_model, storage
from zeropoint.compiler.program import program_hash
from zeropoint.errors import ZeropointError
from zeropoint.host import Device
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import Region, address
from zeropoint_hw.protocol import Request
from zeropoint_sim.line_faults import Faults

START = address(Region.ACTIVATIONS, 0)
SIZE = CONFIG.host_bytes


def peek(memory, buffer):
    words = [memory.get(START + buffer.address + n, 0) for n in range(0, buffer.size, SIZE)]
    return buffer.from_memory(
        np.frombuffer(b"".join(word.to_bytes(SIZE, "little") for word in words), np.uint8)[: buffer.size]
    )


def poke(memory, buffer, values):
    data = buffer.to_memory(values).tobytes()
    for n in range(0, len(data), SIZE):
        memory[START + buffer.address + n] = int.from_bytes(data[n : n + SIZE], "little")


def computing(model, program):
    """Return what a run does to memory, as the golden model has it."""

    def run(memory):
        values = peek(memory, program.input)
        tensors = golden.run_tensors(model, values[None])
        # Memory that is used again holds anything.
        poke(memory, program.input, np.zeros_like(values))
        poke(memory, program.output, tensors[program.output.tensor][0])

    return run


def connected(faults=None, before=lambda count: None, config=CONFIG, **options):
    model, program = small_network()
    device = DeviceModel(config, computing(model, program))
    line = ModelLine(device, faults, before)
    return model, program, device, line, Device(line, **{"timeout": 0.002, **options})


def test_outputs_are_those_of_the_golden_model():
    model, program, there, line, device = connected(timeout=5.0)
    with device:
        device.load(program)
        for count in (1, 5):
            x = inputs(model, count, seed=count)
            np.testing.assert_array_equal(device.run(x), golden.run(model, x))
        assert device.report.repeated == device.report.damaged == device.report.resets == 0
        assert [request for request, _ in there.done].count(Request.RUN) == 6
        assert [request for request, _ in there.done].count(Request.LOADED) == 1
        assert there.hash == program_hash(program)
    assert line.closed


def test_a_folder_is_as_good_as_a_program(tmp_path):
    model, program, there, _, device = connected(timeout=5.0)
    storage.save(program, tmp_path / "program")
    device.load(tmp_path / "program")
    assert there.hash == program_hash(program)
    x = inputs(model, 2)
    np.testing.assert_array_equal(device.run(x), golden.run(model, x))
    loads = len(there.done)
    device.load(program, force=True)
    assert len(there.done) > loads + 3


def test_the_hash_is_of_everything_that_is_loaded():
    model, program = small_network()
    assert program_hash(program) == program_hash(compile_model(model, CONFIG))
    assert len({program_hash(program), program_hash(small_network(classes=6)[1])}) == 2


def test_a_reset_at_any_point_is_made_up_for():
    for when in range(2, 30, 3):
        holder = []

        def before(count, when=when, holder=holder):
            if holder and count in (when, when + 9):
                holder[0].reset()

        model, program, there, line, device = connected(before=before)
        device.load(program)
        holder.append(there)
        line.receipts = 0
        x = inputs(model, 8)
        np.testing.assert_array_equal(device.run(x), golden.run(model, x))
        assert device.report.resets >= 1


def test_a_device_that_is_reset_again_and_again_is_given_up():
    model, program, there, _, device = connected()
    device.load(program)
    run = there.run
    there.run = lambda memory: there.reset()
    with pytest.raises(ZeropointError, match=r"^the device was reset, 4 times in a row; look after its supply$"):
        device.run(inputs(model, 2))
    there.run = run
    # It can be used again.
    device._recover()
    x = inputs(model, 2)
    np.testing.assert_array_equal(device.run(x), golden.run(model, x))


def test_a_bad_line_is_made_up_for():
    faults = Faults(seed=3, lose=1e-3, damage=1e-3, double_frame=0.05, lose_frame=0.02)
    model, program, _, line, device = connected(faults)
    device.load(program)
    x = inputs(model, 50)
    np.testing.assert_array_equal(device.run(x), golden.run(model, x))
    assert device.report.repeated > 0
    assert line.there.counts["lose"] > 0


def test_another_configuration_is_refused_before_anything_is_written():
    other = AcceleratorConfig(**(CONFIG.to_dict() | {"window_taps": 1}))
    _, program, there, _, device = connected(config=other)
    with pytest.raises(ZeropointError, match=r"^program '.*' was compiled for 4 lanes × 4 columns, mac, and the"):
        device.load(program)
    assert there.done == []


def test_a_built_in_program_must_be_the_one():
    rom = AcceleratorConfig(**(CONFIG.to_dict() | {"weight_source": "rom"}))
    model, _ = small_network()
    program = compile_model(model, rom)
    for built_in, good in ((program_hash(program), True), (bytes(8), False), (None, False)):
        there = DeviceModel(rom, computing(model, program))
        there.hash = built_in
        device = Device(ModelLine(there), timeout=0.5)
        if good:
            device.load(program)
            x = inputs(model, 1)
            np.testing.assert_array_equal(device.run(x), golden.run(model, x))
        else:
            with pytest.raises(ZeropointError, match=r"^the device was built with another program than '.*'; build"):
                device.load(program)


def test_what_is_no_input_is_refused():
    model, program, _, _, device = connected()
    with pytest.raises(ZeropointError, match=r"^the device has been given no program: call load\(\)"):
        device.run(inputs(model, 1))
    with pytest.raises(ZeropointError, match=r"^the device has been given no program"):
        device.counters()
    device.load(program)
    with pytest.raises(ZeropointError, match=r"^nothing has been run on the device yet$"):
        device.report  # noqa: B018
    x = inputs(model, 2)
    for wrong in (x[0], x.astype(np.int16), x[:0], x[:, 1:]):
        with pytest.raises(ZeropointError, match=r"^input 'x' takes int8 \(n, 8, 8, 3\), not "):
            device.run(wrong)


def test_a_port_that_is_not_there_is_named():
    with pytest.raises(ZeropointError, match=r"^cannot open the port '/dev/nosuchport' at 1000000 baud: .*; is the"):
        Device.open("/dev/nosuchport")
