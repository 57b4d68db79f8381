"""The virtual board: the drivers' own programs over its serial port, with a good line and with bad ones."""

import time
from dataclasses import replace

import numpy as np
import pytest
from support import coverage
from support.board import CONFIG, inputs, small_network, virtual_board
from support.engines import need

from zeropoint import golden
from zeropoint.compiler import compile_model
from zeropoint.errors import ZeropointError
from zeropoint.host import Device
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import Register
from zeropoint_sim.line_faults import Faults
from zeropoint_sim.virtual_board import VirtualBoard

FAULTS = Faults(
    seed=11,
    lose=3e-4,
    damage=3e-4,
    double=3e-4,
    garbage=3e-4,
    lose_frame=5e-3,
    double_frame=2e-2,
    truncate=5e-3,
)


def test_a_network_runs_over_the_serial_port():
    model, program = small_network()
    x = inputs(model, 20)
    loaded, done = [], []
    with virtual_board() as board, Device.open(board.port) as device:
        assert device.identity.program is None
        device.load(program, lambda *each: loaded.append(each))
        np.testing.assert_array_equal(device.run(x, lambda *each: done.append(each)), golden.run(model, x))
        assert loaded[-1][0] == loaded[-1][1]
        assert done == [(n + 1, 20) for n in range(20)]
        report = device.report
        assert len(report.cycles) == 20
        assert report.resets == 0
        counters = device.counters()
        assert counters[Register.CYCLES] == report.cycles[-1]
        assert sum(record.cycles for record in device.log()) == report.cycles[-1]
        # Layer by layer, too.
        tensors, expected = device.run_layers(x[0]), golden.run_tensors(model, x[:1])
        assert tensors
        for name, values in tensors.items():
            np.testing.assert_array_equal(values, expected[name][0].reshape(values.shape))


def test_a_program_that_is_there_is_not_loaded_again():
    model, program = small_network()
    x = inputs(model, 1)
    with virtual_board() as board:
        with Device.open(board.port, program) as device:
            first = device.statistics.sent_bytes
        with Device.open(board.port, program) as device:
            assert device.identity.program is not None
            assert device.statistics.sent_bytes < first / 4
            np.testing.assert_array_equal(device.run(x), golden.run(model, x))
        board.reset()
        with Device.open(board.port, program) as device:
            assert device.statistics.sent_bytes >= first
            np.testing.assert_array_equal(device.run(x), golden.run(model, x))


def test_another_program_takes_its_place():
    (one, first), (two, second) = small_network(), small_network(classes=7)
    with virtual_board() as board, Device.open(board.port, first) as device:
        for model, program in ((two, second), (one, first)):
            device.load(program)
            x = inputs(model, 2)
            np.testing.assert_array_equal(device.run(x), golden.run(model, x))


def test_a_program_for_another_configuration_is_refused():
    model, _ = small_network()
    other = AcceleratorConfig(**(CONFIG.to_dict() | {"activation_bytes": 8192}))
    with virtual_board() as board, Device.open(board.port) as device:
        with pytest.raises(ZeropointError, match=r"was compiled for 4 lanes × 4 columns, mac, and the device has"):
            device.load(compile_model(model, other))
        assert device.identity.program is None


def test_nothing_is_lost_and_nothing_wrong_is_accepted_on_a_bad_line():
    model, program = small_network()
    x = inputs(model, 25)
    # So many that each kind is all but sure to happen, however many frames are sent again.
    often = replace(FAULTS, lose=1e-3, damage=1e-3, double=1e-3, garbage=1e-3, lose_frame=3e-2, truncate=3e-2)
    with virtual_board(faults=often) as board, Device.open(board.port, program, timeout=0.05, patience=60) as device:
        np.testing.assert_array_equal(device.run(x), golden.run(model, x))
        happened = board.to_board.counts + board.from_board.counts
        assert happened["frames"] > 200
        for fault in ("damage", "lose_frame", "double_frame", "truncate"):
            assert happened[fault], fault
        assert device.statistics.repeated > 0
        coverage.carried(happened)


@pytest.mark.slow
def test_ten_thousand_frames_on_a_bad_line():
    model, program = small_network()
    x = inputs(model, 500)
    expected = golden.run(model, x)
    with virtual_board(faults=FAULTS) as board, Device.open(board.port, program, timeout=0.05, patience=60) as device:
        # How many frames an inference takes depends on how many are sent again.
        while min(board.to_board.counts["frames"], board.from_board.counts["frames"]) < 10_000:
            np.testing.assert_array_equal(device.run(x), expected)


def test_a_board_that_is_reset_now_and_then_computes_the_same():
    model, program = small_network()
    x = inputs(model, 30)

    with virtual_board() as board, Device.open(board.port, program, timeout=0.05, patience=60) as device:

        def progress(done, total):
            if done in (3, 4, 20):
                board.reset()

        np.testing.assert_array_equal(device.run(x, progress), golden.run(model, x))
        assert device.report.resets == 3


def test_a_small_error_of_the_baud_rate_does_no_harm():
    model, program = small_network()
    x = inputs(model, 3)
    with virtual_board(line_error=0.02) as board, Device.open(board.port, program) as device:
        np.testing.assert_array_equal(device.run(x), golden.run(model, x))
        assert device.statistics.damaged == 0


@pytest.mark.parametrize("error", [0.4, -0.3, 1.0])
def test_a_wrong_baud_rate_is_said(error):
    with (
        virtual_board(line_error=error) as board,
        pytest.raises(ZeropointError, match=r"^(no device answers within|what comes from the port is no device's)"),
    ):
        Device.open(board.port, patience=0.5)


def test_garbage_and_half_a_frame_before_it_do_no_harm():
    model, program = small_network()
    x = inputs(model, 1)
    with virtual_board() as board:
        with open(board.port, "wb", buffering=0) as port:
            port.write(b"\x55\xaa\x00\x03\x04garbage\x0b\x01\x01")
        with Device.open(board.port, program) as device:
            np.testing.assert_array_equal(device.run(x), golden.run(model, x))


def test_real_time_is_kept():
    with virtual_board(clock_hz=200_000) as board, Device.open(board.port) as device:
        began, cycles = time.monotonic(), board.cycles
        for _ in range(10):
            device._session.identify()
        rate = (board.cycles - cycles) / (time.monotonic() - began)
        assert 20_000 < rate < 230_000


def test_a_board_can_be_switched_off_at_any_time():
    _, program = small_network()
    board = virtual_board()
    device = Device.open(board.port, program, timeout=0.05, patience=4)
    board.close()
    board.close()
    with pytest.raises(ZeropointError, match=r"^(the port '.*' failed|the device has not answered)"):
        device.counters()
    device.close()
    with pytest.raises(ZeropointError, match=r"^cannot open the port '.*' at 1000000 baud"):
        Device.open(board.port)


def test_a_read_only_board_needs_a_program():
    config = AcceleratorConfig(**(CONFIG.to_dict() | {"weight_source": "rom"}))
    with pytest.raises(ZeropointError, match="is built with a program; give it one"):
        VirtualBoard(config)


@pytest.mark.slow
def test_a_program_that_is_built_in_runs_and_another_one_is_refused():
    need("cxxrtl")
    rom = AcceleratorConfig(**(CONFIG.to_dict() | {"weight_source": "rom"}))
    (model, _), (other, _) = small_network(), small_network(classes=7)
    program, x = compile_model(model, rom), inputs(model, 3)
    with VirtualBoard(rom, program) as board, Device.open(board.port, program) as device:
        np.testing.assert_array_equal(device.run(x), golden.run(model, x))
        board.reset()
        np.testing.assert_array_equal(device.run(x), golden.run(model, x))
        with pytest.raises(ZeropointError, match="was built with another program"):
            device.load(compile_model(other, rom))
