"""The sequencer: starts an instruction, waits until it is out of the next one's way, which it fetches meanwhile."""

from amaranth import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import INSTRUCTION_WORDS
from zeropoint_hw.layout import InstructionLayout
from zeropoint_hw.memory import WordMemory


class Sequencer(wiring.Component):
    """Runs the layer program, one instruction after the other.

    After ``run`` it executes from the program's start to the instruction with ``end``; after ``step``, one instruction
    from where the last step ended. The next instruction is fetched while one executes, and the first one while the
    accelerator rests; ``start`` comes in the cycle after that in which an instruction is both wanted and fetched.

    The next instruction is wanted when ``ending`` comes, while the last outputs of the one under way are still to be
    written: the ``done`` of that one follows ``start`` by a few cycles, and ends nothing. An instruction after which
    the accelerator rests, the program's last one or a step, is over only when its own ``done`` comes.

    Without ``config.prefetch`` there is one register for instructions, into which the next one is fetched when the one
    under way is over, with its last output written.

    Parameters
    ----------
    config
        Gives the size of the program memory, and whether there is ``prefetch``.

    Members
    -------
    run, step : In(1)
        Start; ignored while ``busy``.
    restart : Out(1)
        Execution begins at the program's start.
    busy : Out(1)
        An instruction is being fetched or executed, up to and with the cycle of the last one's ``done``.
    program_written : In(1)
        The program changes: what was fetched is fetched again.
    program_address : Out
        Word of the program memory.
    program_data : In(32)
        That word, as many cycles later as ``WordMemory`` says for ``config.memory_registers``.
    instruction : Out(InstructionLayout)
        The current instruction, held still from ``start`` to the next one's ``start``; without prefetch, to its end.
    start : Out(1)
        The instruction begins.
    ending : In(1)
        Its last output will be written before an instruction that starts in the next cycle reads anything. Comes once
        for each instruction, after the ``done`` of the one before.
    done : In(1)
        Its last output is being written. Comes once for each instruction, after its ``ending``.
    retired : Out(1)
        The instruction's last cycle, as the counters see it: that of ``ending``, or of ``done`` if rest follows.
    fetching : Out(1)
        An instruction is awaited.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._prefetch = config.prefetch
        self._latency = WordMemory.READ_LATENCY - (not config.memory_registers)
        super().__init__(
            {
                "run": In(1),
                "step": In(1),
                "restart": Out(1),
                "busy": Out(1),
                "program_written": In(1),
                "program_address": Out(range(config.program_words)),
                "program_data": In(32),
                "instruction": Out(InstructionLayout),
                "start": Out(1),
                "ending": In(1),
                "done": In(1),
                "retired": Out(1),
                "fetching": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        address = Signal.like(self.program_address)
        asked_words = Signal(range(INSTRUCTION_WORDS + 1))
        arrived_words = Signal(range(INSTRUCTION_WORDS + 1))
        next_instruction = Signal(InstructionLayout, name="next_instruction") if self._prefetch else self.instruction
        #: The next instruction is the program's first.
        at_start = Signal(init=1)
        stepping = Signal()

        asking = asked_words != INSTRUCTION_WORDS
        full = arrived_words == INSTRUCTION_WORDS
        rewind = Signal()
        arriving: Value = asking
        for stage in range(self._latency):
            later = Signal(name=f"arriving_{stage}")
            m.d.sync += later.eq(arriving & ~rewind)
            arriving = later
        m.d.comb += self.program_address.eq(address)
        with m.If(asking):
            m.d.sync += [address.eq(address + 1), asked_words.eq(asked_words + 1)]
        with m.If(arriving & ~full):
            if self._prefetch:
                # Words are shifted in from the top, so that the first ends up at the bottom.
                m.d.sync += next_instruction.eq(Cat(next_instruction.as_value()[32:], self.program_data))
            else:
                # Each where it belongs: of the bits that nothing reads there are then no flip-flops.
                with m.Switch(arrived_words):
                    for word in range(INSTRUCTION_WORDS):
                        with m.Case(word):
                            m.d.sync += next_instruction.as_value().word_select(word, 32).eq(self.program_data)
            m.d.sync += arrived_words.eq(arrived_words + 1)

        take = Signal()
        # The last output of the instruction before is still to be written.
        trailing = Signal()
        with m.If(self.done):
            m.d.sync += trailing.eq(0)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += rewind.eq(self.program_written | (self.run & ~at_start))
                with m.If(self.run | self.step):
                    m.d.sync += stepping.eq(self.step)
                    m.d.comb += [self.restart.eq(self.run | at_start), take.eq(full & ~rewind)]
                    m.next = "FETCH"
                    with m.If(take):
                        m.next = "START"
            with m.State("FETCH"):
                m.d.comb += [self.busy.eq(1), self.fetching.eq(1), take.eq(full)]
                with m.If(take):
                    m.next = "START"
            with m.State("START"):
                m.d.comb += [self.busy.eq(1), self.start.eq(1)]
                m.next = "EXECUTE"
            with m.State("EXECUTE"):
                m.d.comb += self.busy.eq(1)
                with m.If(self.instruction.end | stepping | (not self._prefetch)):
                    m.d.comb += self.retired.eq(self.done & ~trailing)
                    with m.If(self.retired):
                        m.next = "IDLE"
                        if not self._prefetch:
                            with m.If(~(self.instruction.end | stepping)):
                                m.next = "FETCH"
                with m.Else():
                    m.d.comb += [self.retired.eq(self.ending), take.eq(self.ending & full)]
                    with m.If(self.retired):
                        m.d.sync += trailing.eq(1)
                        m.next = "FETCH"
                    with m.If(take):
                        m.next = "START"

        # The register into which words are fetched is free again.
        free = take if self._prefetch else self.retired
        if self._prefetch:
            with m.If(take):
                m.d.sync += self.instruction.eq(next_instruction)
        with m.If(free):
            m.d.sync += [at_start.eq(next_instruction.end), asked_words.eq(0), arrived_words.eq(0)]
            with m.If(next_instruction.end):
                m.d.sync += address.eq(0)
        with m.If(rewind):
            m.d.sync += [at_start.eq(1), address.eq(0), asked_words.eq(0), arrived_words.eq(0)]
        return m
