"""Which accelerator is made for a board, and whether it fits, before anything is synthesized.

What is counted are memories and multipliers.
Look-up tables are left to the tools: the arrays that boards have by default leave room for them.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

from zeropoint.errors import ZeropointError
from zeropoint_boards.board import Board
from zeropoint_boards.devices import Device
from zeropoint_hw.config import AcceleratorConfig, RequantizerKind, WeightSource, WeightStore
from zeropoint_hw.isa import LOG_PIECES, TABLE_ENTRIES
from zeropoint_hw.link import SEND_BITS

#: Words of a single-port memory, and bits of a word: iCE40's SPRAM.
SPRAM_SHAPE = (1 << 14, 16)

#: Memories of fewer words are made of look-up tables.
_FEWEST_WORDS = 33

#: What an entry of the log, and a word of parameters but for their multipliers, have in bits.
_LOG_BITS = 32 * LOG_PIECES
_PARAMETER_BITS = (32, 8)


def memories(config: AcceleratorConfig, buffer_bits: int) -> list[tuple[int, int]]:
    """Return the words and the bits of a word of every memory of an accelerator and its link that is no register file.

    Parameters
    ----------
    config
        The accelerator's.
    buffer_bits
        As :class:`zeropoint_hw.link.Link`.
    """
    words = [*_PARAMETER_BITS, *([32] if config.requantizer is not RequantizerKind.SHIFT else [])]
    found = [
        (config.program_words, 32),
        (config.weight_buffer, config.buffer_shape[0]) if config.buffered else (config.weight_words, config.word_bits),
        *((config.parameter_words, bits * config.requantizers) for bits in words),
        *_banks(config),
        (1 << buffer_bits, 8),
        (1 << SEND_BITS, 8),
    ]
    if config.log:
        found.append((config.max_instructions, _LOG_BITS))
    if config.tables:
        found += [(config.tables * TABLE_ENTRIES, 8)] * config.requantizers
    return found


def _banks(config: AcceleratorConfig) -> list[tuple[int, int]]:
    """Return the words and the bits of a word of the activation memory's banks."""
    return [(config.memory_elements // config.lanes, config.element_bits)] * config.lanes


def single_port_rams(config: AcceleratorConfig, device: Device) -> int:
    """Return how many single-port memories of a device the activation memory takes: none if it is of block RAM."""
    if config.activation_ports > 1 or not device.capacity.spram:
        return 0
    words, width = SPRAM_SHAPE
    return sum(-(-deep * bits // (words * width)) for deep, bits in _banks(config))


def block_rams(config: AcceleratorConfig, buffer_bits: int, device: Device) -> int:
    """Return how many block RAMs of a device the memories take, each in the shape of which it takes fewest."""
    elsewhere = Counter(_banks(config) if single_port_rams(config, device) else [])
    return sum(
        min(-(-words // deep) * -(-bits // wide) for deep, wide in device.family.block_ram_shapes)
        for words, bits in (Counter(memories(config, buffer_bits)) - elsewhere).elements()
        if words >= _FEWEST_WORDS
    )


def shortage(config: AcceleratorConfig, board: Board) -> str:
    """Return of what an accelerator takes more than a board's device has: ``66 of 56 block RAMs``; or nothing."""
    capacity, multipliers = board.device.capacity, _multipliers(config, board.device)
    short = []
    if (rams := block_rams(config, board.buffer_bits, board.device)) > capacity.block_ram:
        short.append(f"{rams} of {capacity.block_ram} block RAMs")
    if (rams := single_port_rams(config, board.device)) > capacity.spram:
        short.append(f"{rams} of {capacity.spram} single-port memories")
    if multipliers > capacity.dsp:
        short.append(f"{multipliers} of {capacity.dsp} multipliers")
    return ", ".join(short)


def _multipliers(config: AcceleratorConfig, device: Device) -> int:
    """Return how many of a device's multipliers an accelerator takes."""
    products = device.family.byte_products if config.byte_products else 1
    return (-(-config.multipliers // products) if config.dsp else 0) + config.requantizer_multipliers


def largest_array(board: Board) -> tuple[int, int]:
    """Return lanes and columns of the largest array for which a board has multipliers, with one requantizer and no ADD.

    All else is as by default.
    """
    found = []
    for lanes, columns in product((1, 2, 4, 8, 16, 32, 64), repeat=2):
        size = {"lanes": lanes, "columns": columns, "weight_bytes": 0, "elementwise": False, "requantizers": 1}
        config = AcceleratorConfig.from_dict({**board.config, **size})
        if _multipliers(config, board.device) <= board.device.capacity.dsp:
            found.append((lanes * columns, -abs(lanes - columns), lanes, columns))
    return max(found)[2:]


def choose(board: Board, configured: Callable[[Mapping[str, Any]], AcceleratorConfig]) -> AcceleratorConfig:
    """Return the accelerator for a board.

    Program, parameters and weights are built in, unless the board's own defaults or the user say otherwise. Weights for
    which there is no room stay in the board's flash, from which the accelerator then reads them as it works.

    Parameters
    ----------
    board
        The board.
    configured
        Gives the configuration that a network and its user want, with defaults for what they leave open.

    Raises
    ------
    ZeropointError
        If weights are wanted from a flash that cannot hold them.
    ValueError, TypeError
        As ``configured``.
    """
    defaults = {"weight_source": WeightSource.ROM, **board.config}
    config = configured(defaults)
    if board.flash_offset is None:
        if config.weight_source is WeightSource.FLASH:
            raise ZeropointError(f"{board.name}: its flash cannot hold weights; use another --weight-source")
        return config
    defaults["flash_offset"] = board.flash_offset
    if config.weight_source is WeightSource.FLASH:
        config = configured(defaults)
    if shortage(config, board):
        try:
            other = configured(defaults | {"weight_source": WeightSource.FLASH, "weight_store": WeightStore.FLASH})
        except (ValueError, ZeropointError):  # The user has decided otherwise.
            return config
        if not shortage(other, board):
            return other
    return config
