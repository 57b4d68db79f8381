"""1BitSquared iCEBreaker: an iCE40UP5K, with a USB serial adapter on the board."""

from amaranth_boards.icebreaker import ICEBreakerPlatform

from zeropoint_boards.board import Board
from zeropoint_boards.devices import DEVICES

#: What leaves room for an array of 4 × 4 in 5,280 look-up tables and eight DSP blocks, two products in each.
ULTRAPLUS = {
    "lanes": 4,
    "columns": 4,
    "pe": "fold",
    "weight_zero_points": False,
    "unsigned_activations": False,
    "requantizer": "serial",
    "requantizers": 1,
    "prefetch": False,
    "log": False,
}

BOARDS = (
    Board(
        name="icebreaker",
        title="1BitSquared iCEBreaker",
        platform=ICEBreakerPlatform,
        device=DEVICES["iCE40UP5K"],
        frequency=18,
        config=ULTRAPLUS,
        buffer_bits=9,
        programmer="ice40_generic",
    ),
)
