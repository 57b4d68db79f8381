"""What every engine offers: the accelerator's host bus, and nothing else."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from zeropoint.errors import ZeropointError
from zeropoint_hw.isa import Command


class Watchdog(ZeropointError):
    """Simulated hardware did not get done within the cycles it was given."""


class Transport(Protocol):
    """Access to an accelerator's host bus, whatever it runs on.

    An engine starts with the accelerator in reset released and idle. Each access takes at least one clock cycle. Data
    are 32-bit words; addresses are those of :class:`zeropoint_hw.isa.Region`.
    """

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
        """Write ``command`` to the status register and clock until the accelerator is idle again.

        Raises
        ------
        Watchdog
            If it is not idle after ``max_cycles`` cycles.
        """
        ...

    def trace(self, on: bool) -> None:
        """Begin or end the recording of waveforms, where the engine was given a file for them."""
        ...

    def close(self) -> None:
        """End the simulation and free what it holds; the waveform file is complete after this. May be repeated."""
        ...
