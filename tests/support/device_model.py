"""A device of the link's protocol as the obvious program, and a line to it without time."""

import zlib
from collections import deque

from cobs import cobs

from zeropoint_hw.isa import IDENTIFICATION, REGION_SHIFT, Region, Register
from zeropoint_hw.protocol import VERSION, WRITABLE, Request, Status, configuration_digest, word_bytes, word_step
from zeropoint_sim.line_faults import FaultyLine


class DeviceModel:
    """What a device does with requests; ``run`` is called to do what a run does to ``memory``, by address.

    Attributes
    ----------
    done
        Every request that had an effect, in order: request and arguments.
    checks_crc
        Whether damaged frames are dropped.
    """

    def __init__(self, config, run=lambda memory: None, checks_crc=True):
        self.config, self.run, self.checks_crc = config, run, checks_crc
        self.memory = {
            int(Register.IDENTIFICATION): IDENTIFICATION,
            int(Register.CONFIGURATION): config.configuration_word,
            int(Register.FORMATS): config.format_word,
        }
        self.done = []
        self._rest = b""
        self.reset()

    def reset(self):
        self.due, self.opened, self.hash = 0, False, None

    def carry(self, data):
        """Return what it answers to bytes of the line."""
        *lines, self._rest = (self._rest + data).split(b"\0")
        return b"".join(self._answer(line) for line in lines if line)

    def _answer(self, line):
        try:
            frame = cobs.decode(line)
        except cobs.DecodeError:
            return b""
        if len(frame) < 8 or frame[0] != len(frame):
            return b""
        if self.checks_crc and zlib.crc32(frame[:-4]) != int.from_bytes(frame[-4:], "little"):
            return b""
        status, data = self._do(frame[1], frame[2], frame[3:-4])
        answer = bytes([7 + len(data), frame[1], status]) + data
        return cobs.encode(answer + zlib.crc32(answer).to_bytes(4, "little")) + b"\0"

    def _do(self, number, code, arguments):
        if code not in list(Request):
            return Status.REQUEST, b""
        if code == Request.IDENTIFY:
            self.opened, self.due = True, (number + 1) % 256
            about = bytes([VERSION, 9, self.hash is not None])
            return Status.DONE, arguments + about + configuration_digest(self.config) + (self.hash or bytes(8))
        if not self.opened:
            return Status.CLOSED, b""
        age = (self.due - number) % 256
        if age >= 128:
            return Status.SEQUENCE, b""
        if age and code != Request.READ:
            return Status.DONE, b""
        status, data = self._carry_out(code, arguments)
        if status == Status.DONE and not age:
            self.due = (number + 1) % 256
            if code != Request.READ:
                self.done.append((Request(code), arguments))
        return status, data

    def _carry_out(self, code, arguments):
        at = int.from_bytes(arguments[:3], "little")
        region = at >> REGION_SHIFT
        width, step = word_bytes(self.config, region), word_step(self.config, region)
        if code == Request.READ:
            count = arguments[3]
            words = [self.memory.get(at + step * n, 0) for n in range(-(-count // width))]
            return Status.DONE, b"".join(word.to_bytes(width, "little") for word in words)[:count]
        if code == Request.WRITE:
            if region not in WRITABLE:
                return Status.ADDRESS, b""
            if region != Region.ACTIVATIONS:
                self.hash = None
            words = arguments[3:]
            for n in range(len(words) // width):
                self.memory[at + step * n] = int.from_bytes(words[width * n : width * (n + 1)], "little")
        elif code == Request.LOADED:
            self.hash = arguments
        elif self.hash != arguments:
            return Status.PROGRAM, b""
        else:
            self.run(self.memory)
        return Status.DONE, b""


class ModelLine:
    """A :class:`zeropoint.host.line.Line` to a model, with faults in both directions.

    ``before`` is called with the number of each receipt, and may do anything to the model, such as reset it.
    """

    def __init__(self, device, faults=None, before=lambda count: None):
        self.device, self.before = device, before
        self.there = FaultyLine(faults, "there") if faults else None
        self.back = FaultyLine(faults, "back") if faults else None
        self._waiting = deque()
        self.receipts, self.closed = 0, False
        self.heard = b""

    def send(self, data):
        self._waiting.append(self.there.carry(data) if self.there else data)

    def receive(self):
        self.receipts += 1
        self.before(self.receipts)
        if not self._waiting:
            return b""
        data = self.device.carry(self._waiting.popleft())
        return self.back.carry(data) if self.back else data

    def close(self):
        self.closed = True
