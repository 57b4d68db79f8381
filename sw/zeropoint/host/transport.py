"""What every engine offers: the accelerator's host bus, and nothing else."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from zeropoint.errors import ZeropointError
from zeropoint_hw.isa import ADDRESS_WIDTH, Command


class Watchdog(ZeropointError):
    """Simulated hardware did not get done within the cycles it was given."""


class Transport(Protocol):
    """Access to an accelerator's host bus, whatever it runs on.

    It starts with the accelerator idle and out of reset. Data are 32-bit words; addresses are those of
    :class:`zeropoint_hw.isa.Region`. The same accesses take the same number of clock cycles on every engine: one for
    each word, and until the last answer.
    """

    @property
    def name(self) -> str:
        """The engine's name on the command line."""
        ...

    @property
    def cycles(self) -> int:
        """Clock cycles simulated so far, those of the accesses included."""
        ...

    def write(self, address: int, words: NDArray[np.uint32], stride: int = 1) -> None:
        """Write ``words`` to ``address``, ``address + stride``, …."""
        ...

    def read(self, address: int, count: int, stride: int = 1) -> NDArray[np.uint32]:
        """Read ``count`` words from ``address``, ``address + stride``, ….

        Raises
        ------
        Watchdog
            If the accelerator does not answer.
        """
        ...

    def run(self, command: Command, max_cycles: int) -> None:
        """Write ``command`` to the status register and read that register in every cycle until it is 0.

        Raises
        ------
        Watchdog
            If it is not 0 after ``max_cycles`` cycles. The accelerator may still be read.
        """
        ...

    def trace(self, on: bool) -> None:
        """Begin or end the recording of waveforms, where the engine was given a file for them.

        Recording that has ended does not begin again. An engine may record before it is told to begin.
        """
        ...

    def close(self) -> None:
        """End the simulation and free what it holds; the waveform file is complete after this. May be repeated."""
        ...


def bus_words(address: int, words: NDArray[np.uint32], stride: int) -> NDArray[np.uint32]:
    """Return ``words`` as a contiguous array, after checking that they are words and that the bus has the addresses.

    Raises
    ------
    TypeError
        If ``words`` is not a vector of uint32.
    ValueError
        If an address is beyond the bus's.
    """
    if words.dtype != np.uint32 or words.ndim != 1:
        raise TypeError(f"the host bus takes a vector of uint32, not {words.dtype} of shape {words.shape}")
    last = address + stride * max(len(words) - 1, 0)
    for end in (address, last):
        if not 0 <= end < 1 << ADDRESS_WIDTH:
            raise ValueError(f"the host bus has addresses up to {(1 << ADDRESS_WIDTH) - 1}, not {end}")
    return np.ascontiguousarray(words)


def no_answer(address: int, asked: int, answered: int) -> Watchdog:
    """Return the error for reads that the accelerator did not answer."""
    return Watchdog(f"the accelerator answered {answered} of {asked} reads from address {address:#x} on")


def still_busy(max_cycles: int) -> Watchdog:
    """Return the error for a command that takes too long."""
    return Watchdog(f"the accelerator is still busy after {max_cycles} cycles, more than the program can take")
