"""Fields that count where neither the user nor the network says otherwise."""

from support.board import small_network

from zeropoint.compiler.configure import configure
from zeropoint_hw.config import AcceleratorConfig, PEKind

BOARD = {"lanes": 4, "columns": 4, "requantizers": 2, "pe": "fold"}


def test_defaults_count_where_nobody_says_otherwise():
    model, _ = small_network()
    assert configure(model, {}, BOARD) == AcceleratorConfig(lanes=4, columns=4, requantizers=2, pe=PEKind.FOLD)
    given = configure(model, {"pe": "mac", "columns": 8}, BOARD)
    assert given == AcceleratorConfig(lanes=4, columns=8, requantizers=2, pe=PEKind.MAC)


def test_there_are_no_more_requantizers_than_the_array_can_have():
    model, _ = small_network()
    assert configure(model, {"lanes": 1}, BOARD).requantizers == 1
    assert configure(model, {"requantizers": 4}, BOARD).requantizers == 4


def test_bits_of_a_serial_requantizers_digits_are_for_serial_requantizers():
    model, _ = small_network()
    board = BOARD | {"requantizer": "serial", "digit_bits": 4}
    assert configure(model, {}, board).digit_bits == 4
    assert configure(model, {"requantizer": "multiplier"}, board).digit_bits == 0
