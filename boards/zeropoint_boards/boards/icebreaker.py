"""1BitSquared iCEBreaker: an iCE40UP5K, with a USB serial adapter on the board."""

from amaranth_boards.icebreaker import ICEBreakerPlatform

from zeropoint_boards.board import Board
from zeropoint_boards.devices import DEVICES

#: An array of 4 × 4 in eight DSP blocks, two products in each; weights and activations are together in SPRAM.
ULTRAPLUS = {
    "lanes": 4,
    "columns": 4,
    "pe": "fold",
    "weight_zero_points": False,
    "unsigned_activations": False,
    "requantizer": "serial",
    "requantizers": 1,
    "digit_bits": 4,
    "window_taps": 1,
    "prefetch": False,
    "log": False,
    "memory_registers": False,
    "activation_ports": 1,
    "weight_store": "shared",
    "weight_source": "flash",
}

BOARDS = (
    Board(
        name="icebreaker",
        title="1BitSquared iCEBreaker",
        platform=ICEBreakerPlatform,
        device=DEVICES["iCE40UP5K"],
        flash_offset=1 << 20,
        frequency=18,
        config=ULTRAPLUS,
        buffer_bits=9,
        programmer="ice40_generic",
    ),
)
