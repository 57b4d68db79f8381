"""The driver: loads a program into an accelerator, runs it and reads what it made, over any transport.

Simulators and boards are loaded and run by this very code.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.compiler.flash_image import flash_image, image_crc
from zeropoint.compiler.loading import host_writes
from zeropoint.compiler.program import Buffer, Program
from zeropoint.errors import ZeropointError
from zeropoint.host.transport import Transport
from zeropoint_hw.config import WeightSource, WeightStore
from zeropoint_hw.isa import (
    IDENTIFICATION,
    LOG_PIECES,
    Command,
    Instruction,
    LogEntry,
    Region,
    Register,
    address,
)

#: Cycles that an instruction may take beyond those in which it works: fetching, and the pipeline's length.
_OVERHEAD = 256
#: More cycles than a flash takes to wake up, and to give a byte.
_WAKE_CYCLES, _BYTE_CYCLES = 10_000, 32
#: Cycles that it may take until the first of an output's weights are there.
_JUMP, _SEEK = 16, 256


@dataclass(frozen=True)
class LogRecord:
    """What an instruction took, as the hardware counted it."""

    cycles: int
    busy: int
    stall_drain: int
    stall_memory: int


class Driver:
    """Runs a program's inferences.

    Parameters
    ----------
    transport
        To an idle accelerator.
    program
        Loaded at once, unless the accelerator was built with it.
    loaded
        Whether it is known to hold the program already, which is not loaded then.

    Raises
    ------
    ZeropointError
        If it is no accelerator, or not of the program's configuration.
    """

    def __init__(self, transport: Transport, program: Program, loaded: bool = False) -> None:
        self._transport = transport
        self._program = program
        self._config = program.config
        self._check(Register.IDENTIFICATION, IDENTIFICATION, "an identification")
        self._check(Register.CONFIGURATION, self._config.configuration_word, "a configuration")
        self._check(Register.FORMATS, self._config.format_word, "number formats")
        self._await_weights()
        if not loaded:
            for first, words in host_writes(program):
                transport.write(first, words)

    def _check(self, register: Register, expected: int, what: str) -> None:
        found = self.register(register)
        if found != expected:
            raise ZeropointError(
                f"the accelerator has {what} of {found:#010x}, the program is for {expected:#010x}; "
                f"compile it again for the accelerator that is there"
            )

    def _await_weights(self) -> None:
        """Return when the accelerator has copied its weights from flash, if it does that."""
        if self._config.weight_source is not WeightSource.FLASH:
            return
        # Every read takes a cycle at least.
        left = _WAKE_CYCLES + _BYTE_CYCLES * len(flash_image(self._program))
        while (status := self.register(Register.STATUS)) == 1 and left > 0:
            left -= 1
        if status:
            raise ZeropointError(
                f"the accelerator has found no whole weights in its flash from byte {self._config.flash_offset:#x} on; "
                f"write the image of program '{self._program.name}' there, and reset it"
            )
        self._check(Register.WEIGHTS_CRC, image_crc(self._program), "weights with a CRC")

    def register(self, register: Register) -> int:
        """Return a word of the control region."""
        return int(self._transport.read(address(Region.CONTROL, register), 1)[0])

    def write(self, buffer: Buffer, values: npt.NDArray[Any]) -> None:
        """Write a tensor into activation memory."""
        size = self._config.host_bytes
        memory = buffer.to_memory(values)
        words = np.zeros((-(-len(memory) // size), 4), np.uint8)
        words[:, :size] = np.pad(memory, (0, -len(memory) % size)).reshape(-1, size)
        # Buffers begin at multiples of the access size, so the last access reaches into no other tensor.
        data = words.view("<u4").astype(np.uint32).reshape(-1)
        self._transport.write(address(Region.ACTIVATIONS, buffer.address), data, stride=self._config.host_elements)

    def read(self, buffer: Buffer) -> npt.NDArray[Any]:
        """Return a tensor from activation memory."""
        return self.values(buffer, self._transport.read(*self.accesses(buffer)))

    def accesses(self, buffer: Buffer) -> tuple[int, int, int]:
        """Return the address, count and stride of the words that hold a tensor."""
        count = -(-buffer.memory_bytes // self._config.host_bytes)
        return address(Region.ACTIVATIONS, buffer.address), count, self._config.host_elements

    def values(self, buffer: Buffer, words: npt.NDArray[np.uint32]) -> npt.NDArray[Any]:
        """Return the tensor that these words hold."""
        size = self._config.host_bytes
        memory = words.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :size].reshape(-1)
        return buffer.from_memory(memory[: buffer.memory_bytes])

    @property
    def cycle_limit(self) -> int:
        """More cycles than an inference can take: a watchdog's limit."""
        return sum(map(self._cycle_limit, self._program.instructions))

    def run(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the hardware's output for one input: both of their buffers' shape and dtype.

        Raises
        ------
        zeropoint.host.transport.Watchdog
            If it takes more cycles than its loops could.
        """
        self.write(self._program.input, values)
        self._transport.run(Command.RUN, self.cycle_limit)
        return self.read(self._program.output)

    def run_layers(self, values: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """Return every tensor that the layers write, by name, each read when its layer is done."""
        self.write(self._program.input, values)
        tensors = {}
        for layer in self._program.layers:
            last = layer.first_instruction + layer.instructions
            for instruction in self._program.instructions[layer.first_instruction : last]:
                self._transport.run(Command.STEP, self._cycle_limit(instruction))
            tensors[layer.output] = self.read(self._program.tensors[layer.output])
        return tensors

    def log(self) -> list[LogRecord]:
        """Return what each instruction of the last run took."""
        count = len(self._program.instructions)
        words = self._transport.read(address(Region.LOG, 0), count * LOG_PIECES).reshape(count, LOG_PIECES)
        # The log holds the counters at the end of each instruction.
        taken = np.diff(words.astype(np.int64), axis=0, prepend=0)
        entries = [LogEntry.CYCLES, LogEntry.BUSY, LogEntry.STALL_DRAIN, LogEntry.STALL_MEMORY]
        return [LogRecord(*row) for row in taken[:, entries].tolist()]

    def _cycle_limit(self, instruction: Instruction) -> int:
        """Return more cycles than an instruction can take: a watchdog's limit."""
        outputs = instruction.groups * instruction.rows * instruction.columns
        outputs *= instruction.pool_rows * instruction.pool_columns
        words = instruction.taps_y * instruction.taps_x * -(-instruction.run // self._config.lanes)
        if self._config.buffered:
            streams = self._config.weight_store is WeightStore.FLASH
            arriving = _BYTE_CYCLES * self._config.stored_bits // 8 if streams else self._config.word_rows
            words = words * (1 + arriving) + (_SEEK if streams else _JUMP)
        writes = instruction.beats if self._config.activation_ports == 1 else 0
        return outputs * (words + instruction.idle + writes) + _OVERHEAD
