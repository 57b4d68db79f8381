"""1BitSquared iCEBreaker: an iCE40UP5K, with a USB serial adapter on the board."""

from amaranth_boards.icebreaker import ICEBreakerPlatform

from zeropoint_boards.board import Board
from zeropoint_boards.devices import DEVICES

BOARDS = (
    Board(
        name="icebreaker",
        title="1BitSquared iCEBreaker",
        platform=ICEBreakerPlatform,
        device=DEVICES["iCE40UP5K"],
        frequency=18,
        config={"lanes": 4, "columns": 4},
        buffer_bits=9,
        programmer="ice40_generic",
    ),
)
