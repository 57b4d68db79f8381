"""Requests to a device, in order and each done once, over a line that may lose, damage and repeat bytes.

Several requests are under way at a time, so that the line is kept busy. The device carries out the one with the next
number, answers those that it has done without doing them again, and refuses those before which one is missing; so
sending again whatever is not answered is always safe (go-back-N). Reads alone are done again, and what they read must
not change before they are answered: a request that could change it waits for that.
"""

import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from zeropoint.errors import ZeropointError
from zeropoint.host.frames import Answer, Splitter, encode
from zeropoint.host.line import Line
from zeropoint_hw.protocol import (
    ABOUT_BYTES,
    ADDRESS_BYTES,
    DELIMITER,
    DIGEST_BYTES,
    FLAG_LOADED,
    FRAME_BYTES,
    HASH_BYTES,
    NONCE_BYTES,
    VERSION,
    Request,
    Status,
)

#: Seconds without an answer after which a device is asked who it is once more, and after which there is none.
_IDENTIFY_SECONDS = 0.4
_PATIENCE = 8.0
#: How much longer each time is waited before requests are sent again, and the longest, as a multiple of the first.
_BACKOFF = 1.5
_LONGEST_WAIT = 4
#: Requests under way at most: a quarter of the numbers, so that old and new ones are told apart.
_WINDOW = 48
#: Bytes under way at most, of requests that the device does as fast as they come, and of answers.
_WINDOW_BYTES = 4096
_SLOW = (Request.READ, Request.RUN, Request.STEP)


class DeviceReset(ZeropointError):
    """The device has lost its session or its program, most likely because it was reset."""


@dataclass(frozen=True)
class Identity:
    """What a device says of itself.

    Attributes
    ----------
    version
        Of the protocol.
    buffer_bytes
        Size of its receive buffer.
    configuration
        As :func:`zeropoint_hw.protocol.configuration_digest` makes it.
    program
        The loaded program's hash; None if there is none.
    """

    version: int
    buffer_bytes: int
    configuration: bytes
    program: bytes | None


@dataclass
class Ticket:
    """A request and, when it has been answered, its answer."""

    request: Request
    arguments: bytes
    answer_bytes: int
    patience: float
    sequence: int = -1
    line: bytes = b""
    done: bool = False
    data: bytes = b""

    @property
    def bytes(self) -> int:
        """What it takes of the device's buffer."""
        return FRAME_BYTES + len(self.arguments)

    @property
    def places(self) -> range:
        """Addresses that it reads or writes, if it is about activations."""
        start = int.from_bytes(self.arguments[:ADDRESS_BYTES], "little")
        if self.request is Request.WRITE:
            return range(start, start + len(self.arguments) - ADDRESS_BYTES)
        return range(start, start + self.answer_bytes - FRAME_BYTES)


@dataclass
class Statistics:
    """What went over the line."""

    sent_bytes: int = 0
    received_bytes: int = 0
    requests: int = 0
    #: Requests that were sent again.
    repeated: int = 0
    #: Frames from the device that were damaged.
    damaged: int = 0
    started: float = field(default_factory=time.monotonic)


class Session:
    """A device at the other end of a line, which is asked who it is before anything else.

    Parameters
    ----------
    line
        Its owner closes it.
    timeout
        Seconds without an answer after which requests are sent again, at first.
    patience
        Seconds without any answer after which the device is given up.
    """

    def __init__(self, line: Line, timeout: float = 0.25, patience: float = _PATIENCE) -> None:
        self._line, self._timeout, self._patience = line, timeout, patience
        self.statistics = Statistics()
        self._splitter = Splitter()
        self._under_way: deque[Ticket] = deque()
        self._next = 0
        self._buffer = 0
        self._opened = False
        self._progress = self._sent = 0.0
        self._wait = timeout
        self._went_back = False

    def identify(self) -> Identity:
        """Open the session, and return what the device is. What was under way before is forgotten.

        Raises
        ------
        ZeropointError
            If no device answers, or one that speaks another version of the protocol.
        """
        self._opened = False
        self._under_way.clear()
        end = time.monotonic() + self._patience
        damaged, received = self._splitter.damaged, self.statistics.received_bytes
        seconds = max(_IDENTIFY_SECONDS, self._timeout)
        while time.monotonic() < end:
            # Each attempt has a nonce of its own: the answer to the last one says that no other is under way.
            nonce = secrets.token_bytes(NONCE_BYTES)
            self._send(bytes([DELIMITER]) + encode(nonce[0], Request.IDENTIFY, nonce))
            attempt = time.monotonic() + seconds
            # The device may take longer than is thought.
            seconds *= 1.5
            while time.monotonic() < attempt:
                for answer in self._receive():
                    identity = _identity(answer, nonce)
                    if identity is None:
                        continue
                    if identity.version != VERSION:
                        raise ZeropointError(
                            f"the device speaks version {identity.version} of the link's protocol, this Zeropoint "
                            f"version {VERSION}; build the bitstream again, or use the Zeropoint that built it"
                        )
                    self._next = (nonce[0] + 1) % 256
                    self._buffer = identity.buffer_bytes - 1
                    self._opened = True
                    return identity
        if self._splitter.damaged > damaged or self.statistics.received_bytes > received:
            raise ZeropointError("what comes from the port is no device's answer; is the baud rate right?")
        raise ZeropointError(
            f"no device answers within {self._patience:g} s; is it the right port, the right baud rate, and is the "
            f"bitstream loaded?"
        )

    def submit(
        self, request: Request, arguments: bytes = b"", answer_bytes: int = 0, patience: float | None = None
    ) -> Ticket:
        """Send a request as soon as there is room for it, and return what will get its answer.

        Parameters
        ----------
        request, arguments
            What the frame holds.
        answer_bytes
            How many bytes of data the answer has.
        patience
            Seconds that it may take.

        Raises
        ------
        ZeropointError
            As :meth:`wait`, about an earlier request.
        """
        if not self._opened:
            raise DeviceReset("the device has not been identified, or failed since; open it again")
        ticket = Ticket(request, arguments, FRAME_BYTES + answer_bytes, max(patience or 0, self._patience))
        self._guard(lambda: not self._blocks(ticket))
        ticket.sequence = self._next
        ticket.line = encode(ticket.sequence, request, arguments)
        self._next = (self._next + 1) % 256
        if not self._under_way:
            self._progress, self._wait = time.monotonic(), self._timeout
        self._under_way.append(ticket)
        self.statistics.requests += 1
        self._send(ticket.line)
        return ticket

    def wait(self, ticket: Ticket) -> bytes:
        """Wait until a request is answered, and return the data.

        Raises
        ------
        DeviceReset
            If the device does not know the session, or not the program; open it again.
        ZeropointError
            If there is no answer, or another refusal.
        """
        self._guard(lambda: ticket.done)
        return ticket.data

    def finish(self) -> None:
        """Wait until everything is answered that is under way.

        Raises
        ------
        ZeropointError
            As :meth:`wait`.
        """
        self._guard(lambda: not self._under_way)

    def _blocks(self, ticket: Ticket) -> bool:
        """Return whether a request has to wait for what is under way."""
        waiting = self._under_way
        if not waiting:
            return False
        reads = [each for each in waiting if each.request is Request.READ]
        if ticket.request in (Request.RUN, Request.STEP) and reads:
            return True
        if ticket.request is Request.WRITE and any(_overlap(ticket.places, each.places) for each in reads):
            return True
        # Behind a run or a read, requests wait in the device's buffer.
        slow = ticket.request in _SLOW or any(each.request in _SLOW for each in waiting)
        limit = self._buffer if slow else _WINDOW_BYTES
        return (
            len(waiting) >= _WINDOW
            or sum(each.bytes for each in waiting) + ticket.bytes > limit
            or sum(each.answer_bytes for each in waiting) + ticket.answer_bytes > _WINDOW_BYTES
        )

    def _guard(self, ready: Callable[[], bool]) -> None:
        """Serve the line until ``ready``; after an error nothing is under way any more."""
        try:
            while not ready():
                self._serve(self._receive())
                self._look_at_the_clock()
        except BaseException:
            self._opened = False
            self._under_way.clear()
            raise

    def _serve(self, answers: Iterable[Answer]) -> None:
        for answer in answers:
            place = next((n for n, each in enumerate(self._under_way) if each.sequence == answer.sequence), None)
            if place is None:
                continue  # To a request that was sent twice.
            ticket = self._under_way[place]
            if answer.status is Status.SEQUENCE:
                if not self._went_back:
                    self._go_back()
            elif answer.status is Status.DONE:
                if len(answer.data) == ticket.answer_bytes - FRAME_BYTES:
                    self._finish(place, answer.data)
            elif answer.status in (Status.CLOSED, Status.PROGRAM):
                raise DeviceReset(
                    "the device was reset"
                    if answer.status is Status.CLOSED
                    else "the device does not hold the program that it was to run"
                )
            elif answer.status is Status.WEIGHTS:
                raise ZeropointError(
                    "the device has found no whole weights in its flash; write the program's image there, and reset it"
                )
            else:
                raise ZeropointError(
                    f"the device refuses a request ({ticket.request.name}, status {answer.status.name}); "
                    f"was its bitstream built by another version of Zeropoint?"
                )

    def _finish(self, place: int, data: bytes) -> None:
        """Note an answer: what was to be done before that request has been done, too; earlier reads are still due."""
        ticket = self._under_way[place]
        ticket.data, ticket.done = data, True
        for earlier in list(self._under_way)[:place]:
            earlier.done = earlier.request is not Request.READ
        self._under_way = deque(each for each in self._under_way if not each.done)
        self._progress, self._wait, self._went_back = time.monotonic(), self._timeout, False

    def _look_at_the_clock(self) -> None:
        if not self._under_way:
            return
        now = time.monotonic()
        first = self._under_way[0]
        if now - self._progress > first.patience:
            raise ZeropointError(
                f"the device has not answered for {first.patience:.0f} s (request {first.request.name}); reset it"
            )
        if now - max(self._progress, self._sent) > self._wait:
            self._wait = min(self._wait * _BACKOFF, self._timeout * _LONGEST_WAIT)
            self._go_back()

    def _go_back(self) -> None:
        """Send again what is not answered, after a delimiter that ends whatever the device has got of it."""
        self._went_back = True
        self.statistics.repeated += len(self._under_way)
        self._send(bytes([DELIMITER]) + b"".join(each.line for each in self._under_way))

    def _send(self, data: bytes) -> None:
        self._line.send(data)
        self._sent = time.monotonic()
        self.statistics.sent_bytes += len(data)

    def _receive(self) -> list[Answer]:
        data = self._line.receive()
        self.statistics.received_bytes += len(data)
        answers = self._splitter.take(data)
        self.statistics.damaged = self._splitter.damaged
        return answers


def _overlap(a: range, b: range) -> bool:
    return a.start < b.stop and b.start < a.stop


def _identity(answer: Answer, nonce: bytes) -> Identity | None:
    """Return what an answer to an identification says; None if it is none, or not to the one with ``nonce``."""
    parts = (NONCE_BYTES, ABOUT_BYTES, DIGEST_BYTES, HASH_BYTES)
    if answer.status is not Status.DONE or len(answer.data) != sum(parts) or not answer.data.startswith(nonce):
        return None
    ends = [sum(parts[: n + 1]) for n in range(len(parts))]
    about, digest, program = (answer.data[start:end] for start, end in pairwise(ends))
    return Identity(about[0], 1 << about[1], digest, program if about[2] & FLAG_LOADED else None)
