"""The accelerator's host bus by requests over a session."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeropoint.host.session import Session, Ticket
from zeropoint.host.transport import bus_words
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import REGION_SHIFT, Command
from zeropoint_hw.protocol import ADDRESS_BYTES, MAX_DATA, Request, word_bytes, word_step

#: Cycles a second that even a simulated accelerator does, so that a run's limit of cycles limits its time.
_SLOWEST_CLOCK = 50_000

_COMMANDS = {Command.RUN: Request.RUN, Command.STEP: Request.STEP}


class LinkTransport:
    """A :class:`zeropoint.host.transport.Transport` to a device that has been identified.

    Writes and runs are under way when these methods return, and what goes wrong with them is raised by a later one; an
    answer to a read says that all before it has been done.

    Parameters
    ----------
    session
        Open.
    config
        The device's.
    program_hash
        Of the program that is to be run.
    progress
        Called with the bytes written so far.
    """

    name = "link"

    def __init__(
        self,
        session: Session,
        config: AcceleratorConfig,
        program_hash: bytes,
        progress: Callable[[int], Any] | None = None,
    ) -> None:
        self._session, self._config, self._hash = session, config, program_hash
        self._progress = progress
        self._written = 0

    @property
    def cycles(self) -> int:
        """Clock cycles, which nobody counts here."""
        return 0

    def write(self, address: int, words: NDArray[np.uint32], stride: int = 1) -> None:  # noqa: D102
        words = bus_words(address, words, stride)
        width = self._width(address, stride, len(words))
        data = words.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :width].tobytes()
        count = MAX_DATA // width
        for first in range(0, len(words), count):
            part = data[width * first : width * (first + count)]
            self._session.submit(Request.WRITE, _place(address + stride * first) + part)
            self._written += len(part)
            if self._progress is not None:
                self._progress(self._written)

    def read(self, address: int, count: int, stride: int = 1) -> NDArray[np.uint32]:  # noqa: D102
        return self.read_later(address, count, stride)()

    def read_later(self, address: int, count: int, stride: int = 1) -> Callable[[], NDArray[np.uint32]]:
        """Ask for words, and return what waits for them."""
        bus_words(address, np.broadcast_to(np.uint32(0), count), stride)
        width = self._width(address, stride, count)
        most = MAX_DATA // width
        tickets = []
        for first in range(0, count, most):
            size = width * min(most, count - first)
            arguments = _place(address + stride * first) + bytes([size])
            tickets.append(self._session.submit(Request.READ, arguments, size))

        def words() -> NDArray[np.uint32]:
            data = b"".join(self._session.wait(ticket) for ticket in tickets)
            padded = np.zeros((count, 4), np.uint8)
            padded[:, :width] = np.frombuffer(data, np.uint8).reshape(count, width)
            return padded.view("<u4").astype(np.uint32).reshape(-1)

        return words

    def start(self, command: Command, max_cycles: int) -> Ticket:
        """Run a program or an instruction; return the request, which is answered when it is done."""
        return self._session.submit(_COMMANDS[command], self._hash, patience=max_cycles / _SLOWEST_CLOCK)

    def run(self, command: Command, max_cycles: int) -> None:  # noqa: D102
        self._session.wait(self.start(command, max_cycles))

    def seal(self) -> None:
        """Tell the device that the program is complete, and wait until it knows."""
        self._session.wait(self._session.submit(Request.LOADED, self._hash))

    def trace(self, on: bool) -> None:
        """Do nothing: there are no waveforms."""

    def close(self) -> None:
        """Do nothing: the line is its owner's."""

    def _width(self, address: int, stride: int, count: int) -> int:
        """Return the bytes of a frame that make a word there."""
        region = address >> REGION_SHIFT
        if count > 1 and stride != word_step(self._config, region):
            raise ValueError(f"over a link, region {region} has a stride of {word_step(self._config, region)}")
        return word_bytes(self._config, region)


def _place(address: int) -> bytes:
    return address.to_bytes(ADDRESS_BYTES, "little")
