"""The accelerator: memories, pipeline, sequencer and counters behind the host bus.

The pipeline in the order in which data meets it, each stage feeding the next without back-pressure::

    sequencer ─ loop nest ─ input address ─┬─ activation memory ─┐
                                           └─ weight memory ─────┴─ array ─ drain ─┬───────────────┬─ requantizer
                                                                                   └─ pair scaler ─┘       │
                                           activation memory ◀─ writer ◀───────────────────────────────────┘
"""

from collections.abc import Sequence
from dataclasses import dataclass

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.array import Array
from zeropoint_hw.config import AcceleratorConfig, RequantizerKind, WeightSource, WeightStore
from zeropoint_hw.counters import Counters
from zeropoint_hw.drain import Drain
from zeropoint_hw.flash_copier import FlashCopier
from zeropoint_hw.host import HostBusSignature
from zeropoint_hw.isa import (
    IDENTIFICATION,
    PARAMETER_PIECES,
    REGION_SHIFT,
    TABLE_ENTRIES,
    Accumulate,
    Command,
    Region,
    Register,
)
from zeropoint_hw.layout import delay
from zeropoint_hw.loops import InputAddress, LoopNest
from zeropoint_hw.memory import ActivationMemory, ParameterMemory, WordMemory
from zeropoint_hw.pair_scaler import PairScaler, PairShifter
from zeropoint_hw.pooler import Pooler
from zeropoint_hw.requantizer import Requantizer
from zeropoint_hw.sequencer import Sequencer
from zeropoint_hw.serial_requantizer import SerialRequantizer
from zeropoint_hw.spi_flash import FlashReader, SpiSignature
from zeropoint_hw.tables import Tables
from zeropoint_hw.weight_buffer import FlashStore, SharedStore, WeightWindow, from_end
from zeropoint_hw.writer import Writer


@dataclass(frozen=True)
class Rom:
    """What a read-only accelerator holds.

    Attributes
    ----------
    program
        32-bit words.
    parameters
        For each channel its bias, multiplier and shift.
    weights
        Words of the weight memory, lane 0 of column 0 in the least significant byte.
    tables
        Their entries, one table after the other.
    """

    program: Sequence[int]
    parameters: Sequence[tuple[int, int, int]]
    weights: Sequence[int]
    tables: Sequence[int] = ()


class Accelerator(wiring.Component):
    """A layer-program processor for integer networks.

    Parameters
    ----------
    config
        What to build.
    rom
        What its memories hold where ``config.built_in``; must be None otherwise.

    Members
    -------
    host : In(HostBusSignature())
        The host's bus.
    flash : Out(SpiSignature())
        The SPI flash; there, like the following, only where ``config.weight_source`` is ``flash``.
    copying, damaged : Out(1)
        Weights are being copied from flash, while nothing runs, and the host may read no region but that of registers;
        they were damaged, and nothing will run.

    Raises
    ------
    ValueError
        If ``rom`` is missing, not wanted, or too large for the memories.
    """

    #: Cycles from a read on the host bus to its answer.
    READ_LATENCY = ActivationMemory.READ_LATENCY + 1

    def __init__(self, config: AcceleratorConfig, rom: Rom | None = None) -> None:
        if (rom is not None) != config.built_in:
            raise ValueError(f"weight_source {config.weight_source!s} and rom={rom is not None} do not go together")
        if rom is not None:
            for what, held, limit in (
                ("program words", rom.program, config.program_words),
                ("parameter channels", rom.parameters, config.parameter_channels),
                ("weight words", rom.weights, config.weight_words),
                ("table entries", rom.tables, config.tables * TABLE_ENTRIES),
            ):
                if len(held) > limit:
                    raise ValueError(f"{len(held)} {what} do not fit a memory of {limit}")
        self._config, self._rom = config, rom
        self._flash = config.weight_source is WeightSource.FLASH
        #: What reads the flash while a program runs.
        self._streaming: FlashStore | None = None
        flash = {"flash": Out(SpiSignature()), "copying": Out(1), "damaged": Out(1)} if self._flash else {}
        super().__init__({"host": In(HostBusSignature()), **flash})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, rom = self._config, self._rom

        m.submodules.program = program = WordMemory(
            32, config.program_words, 32, rom.program if rom else None, config.memory_registers
        )
        weight_rom = rom.weights if rom and not config.buffered else None
        shape = (config.word_bits, config.weight_words, config.piece_bits)
        if config.buffered:
            width, part = config.buffer_shape
            shape = (width, config.weight_buffer, part)
        m.submodules.weights = weights = WordMemory(*shape, weight_rom, config.memory_registers)
        m.submodules.parameters = parameters = ParameterMemory(config, rom.parameters if rom else None)
        m.submodules.activations = activations = ActivationMemory(config)
        m.submodules.sequencer = sequencer = Sequencer(config)
        m.submodules.loops = loops = LoopNest(config)
        m.submodules.addresses = addresses = InputAddress(config)
        m.submodules.array = array = Array(config)
        m.submodules.drain = drain = Drain(config)
        serial = config.requantizer is RequantizerKind.SERIAL
        requantizer = SerialRequantizer(config) if serial else Requantizer(config)
        m.submodules.requantizer = requantizer
        m.submodules.pooler = pooler = Pooler(config)
        m.submodules.writer = writer = Writer(config)

        # With prefetch, an instruction starts while the last beats of the one before are still on their way to memory,
        # so what they meet there changes that much later.
        instruction, start = sequencer.instruction, sequencer.start
        late_instruction, late_start = instruction, start
        if config.prefetch:
            late_instruction = Signal.like(instruction)
            late_start = delay(m, start, Requantizer.NOTICE + Pooler.LATENCY, "start")
            with m.If(late_start):
                m.d.sync += late_instruction.eq(instruction)
        for stage in (loops, addresses, array, drain):
            m.d.comb += stage.instruction.eq(instruction)
        for stage in (requantizer, pooler, writer):
            m.d.comb += stage.instruction.eq(late_instruction)
        for stage in (loops, drain):
            m.d.comb += stage.start.eq(start)
        m.d.comb += writer.start.eq(delay(m, late_start, 1, "writer_start"))

        # Where the activation memory has one port, nothing is read in the cycle of a write.
        announced, written = Signal(), Signal()
        hold = announced
        if config.buffered:
            window = self._connect_buffer(m, sequencer, loops, addresses, activations, weights, written)
            hold = hold | window.starved
        m.d.comb += loops.hold.eq(hold)

        # From the loop nest to the array: the weight address waits until the activations are on their way.
        read_latency = InputAddress.LATENCY + ActivationMemory.READ_LATENCY
        weight_wait = read_latency + Array.WEIGHT_DELAY - weights.latency
        flags = delay(m, Cat(loops.valid, loops.first, loops.last, loops.level), read_latency, "flags")
        m.d.comb += [
            addresses.moves.eq(loops.moves),
            addresses.at.eq(loops.at),
            activations.read_split.eq(
                Mux(instruction.paired_rows & ~delay(m, addresses.fetch, 1, "fetch"), instruction.run + 1, config.lanes)
            ),
            activations.read_jump.eq(
                Mux(instruction.paired_rows, instruction.pair_step >> config.lanes.bit_length() - 1, 0)
            ),
            weights.read_address.eq(delay(m, addresses.weight_address, weight_wait, "weight_address")),
            Cat(array.valid, array.first, array.last, array.level).eq(flags),
            array.activations.eq(activations.read_data),
            array.mask.eq(delay(m, addresses.mask, read_latency - InputAddress.MASK_LATENCY, "mask")),
            array.weights.eq(weights.read_data),
        ]

        # From the array to the requantizers, by way of the pair scalers where there are two operands.
        beat, values = Cat(drain.beat, drain.beat_level, drain.beat_pools), list(drain.values)
        if config.pairs:
            paired = instruction.accumulate == Accumulate.PAIR
            scaler_class, entering = PairScaler, beat
            if config.requantizer is RequantizerKind.SHIFT:
                # The last beat of the instruction before has left the requantizers' longer pipeline, but not this one.
                scaler_class, entering = PairShifter, Cat(drain.beat & paired, beat[1:])
            beat = Mux(paired, delay(m, entering, scaler_class.LATENCY, "pair_beat"), beat)
            for index, value in enumerate(drain.values):
                m.submodules[f"pair_scaler{index}"] = scaler = scaler_class(config)
                m.d.comb += [scaler.instruction.eq(instruction), scaler.pair.eq(value)]
                values[index] = Mux(paired, scaler.value, value)
        m.d.comb += [
            drain.done.eq(array.done),
            drain.done_level.eq(array.done_level),
            drain.accumulators.eq(array.accumulators),
            drain.activation_sum.eq(array.activation_sum),
            drain.ready.eq(requantizer.ready),
            parameters.read_address.eq(drain.parameter_address),
            requantizer.parameters.eq(parameters.read_data),
            Cat(requantizer.beat, requantizer.beat_level, requantizer.beat_pools).eq(beat),
            *(operand.eq(value) for operand, value in zip(requantizer.values, values, strict=True)),
        ]

        # From the requantizers to the next layer's inputs, by way of the tables if there are any.
        last, results, ending = requantizer, requantizer.results, requantizer.ending
        next_beat = requantizer.announced
        if config.tables:
            m.submodules.tables = tables = Tables(config, rom.tables if rom else None)
            m.d.comb += [
                tables.instruction.eq(late_instruction),
                tables.announced.eq(requantizer.announced),
                tables.ending.eq(requantizer.ending),
                tables.beat.eq(requantizer.result_beat),
                tables.beat_level.eq(requantizer.result_level),
                tables.beat_pools.eq(requantizer.result_pools),
                tables.results.eq(requantizer.results),
            ]
            last, results, ending = tables, tables.looked_up, tables.looked_up_ending
            next_beat = tables.looked_up_announced
            if rom is None:
                m.d.comb += [
                    tables.write_address.eq(self.host.address),
                    tables.write_data.eq(self.host.write_data),
                    tables.write_enable.eq(self._writes(Region.TABLES)),
                ]
        if config.activation_ports == 1:
            m.d.comb += [announced.eq(next_beat), written.eq(last.result_beat & ~last.result_pools)]
        m.d.comb += [
            pooler.beat.eq(last.result_beat),
            pooler.beat_level.eq(last.result_level),
            pooler.beat_pools.eq(last.result_pools),
            pooler.results.eq(results),
            writer.beat_at.eq(pooler.pooled_at),
            sequencer.ending.eq(ending),
            sequencer.done.eq(writer.done),
            sequencer.program_data.eq(program.read_data),
            program.read_address.eq(sequencer.program_address),
            activations.read_address.eq(addresses.address),
            activations.write_address.eq(writer.address),
            activations.write_data.eq(pooler.pooled),
            activations.write_count.eq(writer.count),
        ]

        m.submodules.counters = counters = Counters(config.max_instructions if config.log else 0)
        m.d.comb += [
            counters.restart.eq(sequencer.restart),
            counters.busy.eq(sequencer.busy),
            counters.fetching.eq(sequencer.fetching),
            counters.working.eq(loops.valid),
            counters.stalled.eq(loops.stalled),
            counters.waiting.eq(loops.waiting),
            counters.done.eq(sequencer.retired),
        ]
        self._connect_host(m, sequencer, counters, activations, weights, parameters, program)
        return m

    def _connect_buffer(
        self,
        m: Module,
        sequencer: Sequencer,
        loops: LoopNest,
        addresses: InputAddress,
        activations: ActivationMemory,
        weights: WordMemory,
        written: Value,
    ) -> WeightWindow:
        """Fill the memory that the array takes its weights from; return what says how far that is."""
        config = self._config
        m.submodules.window = window = WeightWindow(config)
        streams = config.weight_store is WeightStore.FLASH
        store = FlashStore(config) if streams else SharedStore(config)
        m.submodules.store = store
        m.d.comb += [
            window.busy.eq(sequencer.busy),
            window.start.eq(sequencer.start),
            window.weight_base.eq(sequencer.instruction.weight_base),
            window.issues.eq(loops.issues),
            window.again.eq(loops.again),
            window.onward.eq(loops.onward),
            window.group_address.eq(addresses.group_address),
            window.arrives.eq(store.arrives),
            store.seek.eq(window.seek),
            store.seek_address.eq(window.seek_address),
            store.wanted.eq(window.wanted),
            weights.write_enable.eq(store.write_enable),
            weights.write_address.eq(store.write_address),
            weights.write_piece.eq(store.write_piece),
        ]
        if isinstance(store, FlashStore):
            m.d.comb += weights.write_data.eq(store.write_data)
            self._streaming = store
        else:
            m.d.comb += [
                store.free.eq(~loops.valid & ~written),
                addresses.fetch.eq(store.fetch),
                addresses.fetch_address.eq(store.fetch_address),
                weights.write_data.eq(activations.read_data),
            ]
        return window

    def _writes(self, region: Region) -> Value:
        """Return whether the host writes to a region."""
        return self.host.write & (self.host.address[REGION_SHIFT:] == region)

    def _connect_host(
        self,
        m: Module,
        sequencer: Sequencer,
        counters: Counters,
        activations: ActivationMemory,
        weights: WordMemory,
        parameters: ParameterMemory,
        program: WordMemory,
    ) -> None:
        """Decode the host's accesses; those to activations take the pipeline's own ports while it rests."""
        config, host = self._config, self.host
        region, offset, writes = host.address[REGION_SHIFT:], host.address[:REGION_SHIFT], self._writes

        status, weights_crc = Cat(sequencer.busy), Const(0, 32)
        command = writes(Region.CONTROL) & (offset == Register.STATUS)
        if self._flash:
            m.submodules.reader = reader = FlashReader()
            m.submodules.copier = copier = FlashCopier(config)
            wiring.connect(m, reader.pins, wiring.flipped(self.flash))
            if self._streaming is None:
                wiring.connect(m, reader.o, copier.bytes)
                m.d.comb += [
                    reader.start.eq(copier.start),
                    reader.stop.eq(copier.stop),
                    reader.address.eq(copier.address),
                ]
            else:
                # The copier reads all once, and writes nothing.
                users = (copier, copier.busy), (self._streaming, ~copier.busy)
                m.d.comb += [
                    reader.start.eq(copier.start | self._streaming.start),
                    reader.stop.eq(~copier.busy & ~sequencer.busy),
                    reader.address.eq(Mux(copier.busy, copier.address, self._streaming.address)),
                    reader.o.ready.eq(Mux(copier.busy, copier.bytes.ready, self._streaming.bytes.ready)),
                ]
                for user, turn in users:
                    m.d.comb += [user.bytes.valid.eq(reader.o.valid & turn), user.bytes.payload.eq(reader.o.payload)]
            m.d.comb += [
                self.copying.eq(copier.busy),
                self.damaged.eq(copier.failed),
            ]
            command &= ~self.copying & ~self.damaged
            status, weights_crc = Cat(sequencer.busy | self.copying, self.damaged), copier.crc
        m.d.comb += [
            sequencer.run.eq(command & (host.write_data == Command.RUN)),
            sequencer.step.eq(command & (host.write_data == Command.STEP)),
        ]
        if not config.built_in:
            piece_bits = config.pieces.bit_length() - 1
            parameter_bits = (PARAMETER_PIECES - 1).bit_length()
            m.d.comb += [
                program.write_address.eq(offset),
                program.write_data.eq(host.write_data),
                program.write_enable.eq(writes(Region.PROGRAM)),
                parameters.write_channel.eq(offset[parameter_bits:]),
                parameters.write_piece.eq(offset[:parameter_bits]),
                parameters.write_data.eq(host.write_data),
                parameters.write_enable.eq(writes(Region.PARAMETERS)),
            ]
            if not config.buffered:
                m.d.comb += [
                    weights.write_address.eq(offset[piece_bits:]),
                    weights.write_piece.eq(offset[:piece_bits]),
                    weights.write_data.eq(host.write_data),
                    weights.write_enable.eq(writes(Region.WEIGHTS)),
                ]
            m.d.comb += sequencer.program_written.eq(writes(Region.PROGRAM))
        # From a register, since what follows takes most of a cycle; the first read of a program comes later than this.
        busy = Signal()
        m.d.sync += busy.eq(sequencer.busy)
        with m.If(~busy):
            m.d.comb += [activations.read_address.eq(offset), activations.read_split.eq(config.lanes)]
            with m.If(writes(Region.ACTIVATIONS)):
                m.d.comb += [
                    activations.write_address.eq(offset),
                    activations.write_data.eq(host.write_data),
                    activations.write_count.eq(config.host_elements),
                ]
            if self._flash and self._streaming is None:
                row_bits = config.lanes.bit_length() - 1
                place = copier.write_place
                with m.If(copier.write):
                    m.d.comb += [
                        activations.write_address.eq(from_end(config, place[row_bits:]) | place[:row_bits]),
                        activations.write_data.eq(copier.write_data),
                        activations.write_count.eq(1),
                    ]
            elif config.weight_store is WeightStore.SHARED:
                # Parts of a row, which are written in their order.
                part_bits = (config.lanes // config.host_elements).bit_length() - 1
                with m.Elif(writes(Region.WEIGHTS)):
                    m.d.comb += [
                        activations.write_address.eq(
                            from_end(config, offset[part_bits:]) | offset[:part_bits] * config.host_elements
                        ),
                        activations.write_data.eq(host.write_data),
                        activations.write_count.eq(config.host_elements),
                    ]

        # Of the status the answer is what it was in the cycle of the read, of all others what they are a little later,
        # for what they are by then takes no registers.
        control, wait = Signal(32), self.READ_LATENCY - 1
        registers = {
            Register.IDENTIFICATION: IDENTIFICATION,
            Register.CONFIGURATION: config.configuration_word,
            Register.STATUS: delay(m, status, wait, "status"),
            Register.CYCLES: counters.cycles,
            Register.BUSY: counters.busy_cycles,
            Register.STALL_DRAIN: counters.stall_drain,
            Register.STALL_FETCH: counters.stall_fetch,
            Register.STALL_FLUSH: counters.stall_flush,
            Register.INSTRUCTIONS: counters.instructions,
            Register.STALL_MEMORY: counters.stall_memory,
            Register.WEIGHTS_CRC: weights_crc,
            Register.FORMATS: config.format_word,
        }
        number = Signal(range(len(Register) + 1))
        m.d.comb += number.eq(Mux(offset < len(Register), offset, len(Register)))
        m.d.sync += control.eq(0)
        with m.Switch(delay(m, number, wait, "number")):
            for register, value in registers.items():
                with m.Case(register):
                    m.d.sync += control.eq(value)
        log_address = offset[: len(counters.log_address)]
        m.d.comb += counters.log_address.eq(
            delay(m, log_address, self.READ_LATENCY - Counters.LOG_LATENCY, "log_address")
        )

        late_region = delay(m, region, self.READ_LATENCY, "region")
        answers = {
            Region.CONTROL: control,
            Region.LOG: counters.log_data,
            Region.ACTIVATIONS: delay(
                m,
                activations.read_data.as_value()[: config.element_bits * config.host_elements],
                self.READ_LATENCY - ActivationMemory.READ_LATENCY,
                "bytes",
            ),
        }
        m.d.comb += host.read_valid.eq(delay(m, host.read, self.READ_LATENCY, "read"))
        with m.Switch(late_region):
            for chosen, answer in answers.items():
                with m.Case(chosen):
                    m.d.comb += host.read_data.eq(answer)
