"""The sequencer: fetches an instruction, starts it, waits for its last output, and so on to the end."""

from amaranth import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import INSTRUCTION_WORDS
from zeropoint_hw.layout import InstructionLayout, delay
from zeropoint_hw.memory import WordMemory


class Sequencer(wiring.Component):
    """Runs the layer program, one instruction after the other.

    After ``run`` it executes from the program's start to the instruction with ``end``; after ``step``, one instruction
    from where the last step ended. An instruction starts when the last output of the one before is written.

    Members
    -------
    run, step : In(1)
        Start; ignored while ``busy``.
    restart : Out(1)
        Execution begins at the program's start.
    busy : Out(1)
        An instruction is being fetched or executed.
    program_address : Out
        Word of the program memory.
    program_data : In(32)
        That word, ``WordMemory.READ_LATENCY`` cycles later.
    instruction : Out(InstructionLayout)
        The current instruction, still from ``start`` to ``done``.
    start : Out(1)
        The instruction begins.
    done : In(1)
        Its last output is being written.
    fetching : Out(1)
        An instruction is being fetched.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        super().__init__(
            {
                "run": In(1),
                "step": In(1),
                "restart": Out(1),
                "busy": Out(1),
                "program_address": Out(range(config.program_words)),
                "program_data": In(32),
                "instruction": Out(InstructionLayout),
                "start": Out(1),
                "done": In(1),
                "fetching": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        address = Signal.like(self.program_address)
        left = Signal(range(INSTRUCTION_WORDS + 1))
        stepping = Signal()
        m.d.comb += self.program_address.eq(address)

        # Words are shifted in from the top, so that the first ends up at the bottom.
        asked = left != 0
        arrived = delay(m, asked, WordMemory.READ_LATENCY, "arrived")
        with m.If(asked):
            m.d.sync += [address.eq(address + 1), left.eq(left - 1)]
        with m.If(arrived):
            m.d.sync += self.instruction.eq(Cat(self.instruction.as_value()[32:], self.program_data))

        with m.FSM():
            with m.State("IDLE"), m.If(self.run | self.step):
                m.d.sync += [stepping.eq(self.step), left.eq(INSTRUCTION_WORDS)]
                m.d.comb += self.restart.eq(self.run | (address == 0))
                with m.If(self.run):
                    m.d.sync += address.eq(0)
                m.next = "ASK"
            with m.State("ASK"):
                m.d.comb += [self.busy.eq(1), self.fetching.eq(1)]
                with m.If(~asked):
                    m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += [self.busy.eq(1), self.fetching.eq(1)]
                with m.If(~arrived):
                    m.next = "START"
            with m.State("START"):
                m.d.comb += [self.busy.eq(1), self.start.eq(1)]
                m.next = "EXECUTE"
            with m.State("EXECUTE"):
                m.d.comb += self.busy.eq(1)
                with m.If(self.done):
                    with m.If(self.instruction.end):
                        m.d.sync += address.eq(0)
                    with m.If(self.instruction.end | stepping):
                        m.next = "IDLE"
                    with m.Else():
                        m.d.sync += left.eq(INSTRUCTION_WORDS)
                        m.next = "ASK"
        return m
