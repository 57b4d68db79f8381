"""The host bus driven from Python, a clock cycle at a time: what takes how many cycles is said here for all engines.

(The CXXRTL engine does the same in C++, ``cxxrtl_wrapper.cc``.) Nothing is imported that takes long, since simulators
import this in a process of their own.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from zeropoint_hw.isa import Command, Region, Register, address

#: Cycles without an answer after which a read is given up.
ANSWER_LIMIT = 64

STATUS = address(Region.CONTROL, Register.STATUS)


class BusDriver(ABC):
    """Reads, writes and runs over a host bus.

    Subclasses say how an input is set and how a cycle passes.

    Attributes
    ----------
    cycles
        Clock cycles so far.
    """

    def __init__(self) -> None:
        self.cycles = 0
        # Setting an input costs an evaluation of the design, so only changes are set.
        self._inputs = {"address": 0, "write": 0, "write_data": 0, "read": 0}

    @abstractmethod
    def put(self, name: str, value: int) -> None:
        """Set an input of the bus."""

    @abstractmethod
    async def advance(self) -> int | None:
        """Spend a clock cycle; return the answer that arrives in it, if one does."""

    async def write(self, address: int, values: Sequence[int], stride: int) -> None:
        """Write ``values`` to ``address``, ``address + stride``, …: a cycle each."""
        for index, value in enumerate(values):
            await self._cycle(address=address + index * stride, write=1, write_data=value)
        self._set(write=0)

    async def read(self, address: int, count: int, stride: int) -> list[int]:
        """Read ``count`` words, a cycle each, and wait for the answers: fewer if they do not come."""
        answers: list[int] = []
        for index in range(count):
            answer = await self._cycle(address=address + index * stride, read=1)
            answers += [] if answer is None else [answer]
        answers += await self._drain(count - len(answers))
        return answers

    async def run(self, command: Command, max_cycles: int) -> bool:
        """Write a command, and read the status in every cycle until it is 0; return whether it was within the limit."""
        await self._cycle(address=STATUS, write=1, write_data=int(command))
        self._set(write=0, read=1)
        asked, answered, idle = await self.poll(max_cycles)
        await self._drain(asked - answered)
        return idle

    async def poll(self, max_cycles: int) -> tuple[int, int, bool]:
        """Spend cycles until an answer is 0; return how many, how many answers there were, and whether one was 0."""
        asked = answered = 0
        idle = False
        while asked < max_cycles and not idle:
            answer = await self._cycle()
            asked += 1
            answered += answer is not None
            idle = answer == 0
        return asked, answered, idle

    def _set(self, **inputs: int) -> None:
        for name, value in inputs.items():
            if self._inputs[name] != value:
                self._inputs[name] = value
                self.put(name, value)

    async def _cycle(self, **inputs: int) -> int | None:
        self._set(**inputs)
        answer = await self.advance()
        self.cycles += 1
        return answer

    async def _drain(self, missing: int) -> list[int]:
        """Wait for ``missing`` answers, for as long as that can take; return those that came."""
        self._set(read=0)
        answers: list[int] = []
        waited = 0
        while len(answers) < missing and waited < ANSWER_LIMIT:
            answer = await self._cycle()
            waited = waited + 1 if answer is None else 0
            answers += [] if answer is None else [answer]
        return answers
