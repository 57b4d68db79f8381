from dataclasses import replace

import numpy as np
import pytest
from amaranth.hdl import ResetInserter, Signal
from support.codes import one, random_codes
from support.gateware import packed, refused
from support.hand_made import DenseNetwork, Network, SlidingNetwork
from support.host import Host
from support.layer_program import array_cycles, execute, output_sums, random_loops

from zeropoint.numerics import quantize_multiplier
from zeropoint_hw.accelerator import Accelerator, Rom
from zeropoint_hw.config import AcceleratorConfig, PEKind, RequantizerKind, WeightSource
from zeropoint_hw.isa import IDENTIFICATION, Accumulate, Command, Gate, Instruction, Register, Round
from zeropoint_hw.requantizer import Requantizer
from zeropoint_sim.bench import run_bench

#: Shifts that random programs ask of serial requantizers.
SHIFTS = range(-24, 8)


def accelerator_config(
    lanes,
    columns,
    requantizers=0,
    pe=PEKind.MAC,
    source=WeightSource.RAM,
    rows=150,
    weight_bits=0,
    weight_zero=True,
    **others,
):
    config = AcceleratorConfig(
        lanes=lanes,
        columns=columns,
        requantizers=requantizers,
        pe=pe,
        weight_bits=weight_bits,
        weight_zero=weight_zero,
        **others,
    )
    return replace(
        config,
        weight_source=source,
        activation_bytes=lanes * rows,
        weight_bytes=-(-config.stored_bits * 200 // 8),
        parameter_channels=config.requantizers * 80,
        program_words=400,
    )


async def check_counters(host, config, instructions, busy_cycles=None):
    """Hold counters and log against what the instructions say, and one against the other."""
    registers = await host.registers()
    if busy_cycles is not None:
        assert registers[Register.CYCLES] == busy_cycles
    if not config.log:
        assert registers[Register.BUSY] == registers[Register.INSTRUCTIONS] == 0
        return
    parts = (Register.BUSY, *(each for each in Register if each.name.startswith("STALL_")))
    assert sum(registers[part] for part in parts) == registers[Register.CYCLES]
    assert registers[Register.INSTRUCTIONS] == len(instructions)
    log = await host.log(len(instructions))
    assert sum(cycles for cycles, *_ in log) == registers[Register.CYCLES]
    memory = [entry[3] for entry in log]
    assert sum(memory) == registers[Register.STALL_MEMORY]
    assert any(memory) == (config.buffered or config.activation_ports == 1)
    cycles = [list(array_cycles(i, config.lanes)) for i in instructions]
    work = [len(entry) for entry in cycles]
    idle = [i.idle * (sum(at.last for at in entry) - 1) for i, entry in zip(instructions, cycles, strict=True)]
    assert [entry[1:3] for entry in log] == list(zip(work, idle, strict=True))
    assert (registers[Register.BUSY], registers[Register.STALL_DRAIN]) == (sum(work), sum(idle))


def str_of(config):
    bits = f"{config.weight_bits}{'' if config.weight_zero else 'n'}"
    others = [str(config.requantizer)] * (config.requantizer is RequantizerKind.SERIAL)
    others += ["bytes"] * config.byte_products + ["small"] * (not config.prefetch)
    others += [f"buffer{config.weight_buffer}"] * config.buffered + ["port"] * (config.activation_ports == 1)
    sizes = f"{config.lanes}x{config.columns}/{config.requantizers}"
    return "-".join([sizes, f"{config.pe}{bits}", str(config.weight_source), *others])


CONFIGS = [
    accelerator_config(2, 2, rows=200),
    accelerator_config(4, 4, 2),
    accelerator_config(4, 4, pe=PEKind.FOLD, source=WeightSource.ROM),
    accelerator_config(2, 4, 1, source=WeightSource.ROM, rows=205),
    accelerator_config(8, 2, pe=PEKind.FOLD, rows=70),
    accelerator_config(4, 4, 2, prefetch=False, memory_registers=False),
    accelerator_config(
        4, 4, 2, activation_ports=1, weight_store="shared", weight_buffer=8, prefetch=False, memory_registers=False
    ),
]
#: What the long suite tries besides.
LONG_CONFIGS = [
    accelerator_config(2, 2, rows=200, activation_ports=1),
    accelerator_config(4, 4, 2, activation_ports=1, weight_store="shared", weight_buffer=64),
    accelerator_config(2, 4, 1, rows=205, weight_store="shared", weight_buffer=4),
    accelerator_config(8, 2, rows=70, activation_ports=1, weight_store="shared", weight_buffer=2),
]
SLIDING_CONFIGS = [
    accelerator_config(8, 4, rows=40),
    accelerator_config(8, 8, pe=PEKind.FOLD, rows=40),
    accelerator_config(8, 2, 1, source=WeightSource.ROM, rows=40),
    accelerator_config(8, 4, rows=40, activation_ports=1, weight_store="shared", weight_buffer=8),
]


@pytest.mark.parametrize(
    ("kind", "config"),
    [(Network, config) for config in CONFIGS]
    + [(SlidingNetwork, config) for config in SLIDING_CONFIGS]
    + [pytest.param(Network, config, marks=pytest.mark.slow) for config in LONG_CONFIGS],
    ids=lambda value: str_of(value) if isinstance(value, AcceleratorConfig) else value.__name__,
)
def test_whole_program_again_and_again(kind, config):
    network = kind(config, seed=config.lanes)
    dut, load = network.accelerator()
    instructions = network.instructions

    async def bench(ctx):
        host = Host(ctx, dut, config)
        registers = await host.registers()
        assert registers[Register.IDENTIFICATION] == IDENTIFICATION
        assert registers[Register.STATUS] == 0
        await host.load(**load)
        for _ in range(3):
            tensors = network.tensors()
            await network.give(host, *tensors)
            busy = await host.run()
            await check_counters(host, config, instructions, busy)
            await network.check(host, *tensors)

    run_bench(dut, bench, deadline=50_000)


DENSE_CONFIGS = [
    accelerator_config(1, 1, rows=200),
    accelerator_config(2, 4, 1, rows=100),
    accelerator_config(2, 4, 2, rows=100),
    accelerator_config(4, 4, 1, rows=50),
    accelerator_config(4, 4, 2, source=WeightSource.ROM, rows=50),
    accelerator_config(4, 4, 4, pe=PEKind.FOLD, rows=50),
    accelerator_config(8, 2, 1, rows=25),
    accelerator_config(8, 2, 2, pe=PEKind.FOLD, rows=25),
    accelerator_config(4, 8, 4, rows=50),
    accelerator_config(4, 8, 4, rows=50, activation_ports=1, weight_store="shared", weight_buffer=16),
    accelerator_config(1, 1, rows=200, activation_ports=1, weight_store="shared", weight_buffer=2),
    accelerator_config(
        *(1, 1), rows=200, activation_ports=1, weight_store="shared", weight_buffer=4, memory_registers=False
    ),
]


def layer_after_layer(config):
    """Hold two layers, the second of which reads the first's last outputs at once, against NumPy."""
    network = DenseNetwork(config, seed=config.columns)
    dut, load = network.accelerator()

    async def bench(ctx):
        host = Host(ctx, dut, config)
        await host.load(**load)
        # What the hidden tensor holds before is not what the second layer must read.
        for _ in range(3):
            tensors = network.tensors()
            await network.give(host, *tensors)
            busy = await host.run()
            await network.check(host, *tensors)
            await check_counters(host, config, network.instructions, busy)
            # The second one starts as soon as the first lets it: it has been fetched.
            assert (await host.registers())[Register.STALL_FETCH] == 0

    run_bench(dut, bench, deadline=20_000)


@pytest.mark.parametrize("config", DENSE_CONFIGS, ids=str_of)
def test_layer_after_layer(config):
    layer_after_layer(config)


@pytest.mark.parametrize("config", [each for each in DENSE_CONFIGS if not each.buffered], ids=str_of)
def test_start_that_is_a_cycle_early_is_seen(config, monkeypatch):
    monkeypatch.setattr(Requantizer, "NOTICE", Requantizer.NOTICE + 1)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        layer_after_layer(config)


def test_steps():
    config = CONFIGS[2]
    network = Network(config, seed=1)
    dut, _ = network.accelerator()
    instructions = network.instructions

    async def bench(ctx):
        host = Host(ctx, dut, config)
        for _ in range(2):
            tensors = network.tensors()
            await network.give(host, *tensors)
            busy = 0
            for done in range(len(instructions)):
                busy += await host.run(Command.STEP)
                # What comes later has not been touched yet; what comes between steps is not counted.
                await check_counters(host, config, instructions[: done + 1], busy)
            await network.check(host, *tensors)
            # A run after a step begins at the start.
            await host.run(Command.STEP)
            tensors = network.tensors()
            await network.give(host, *tensors)
            await check_counters(host, config, instructions, await host.run())
            await network.check(host, *tensors)

    run_bench(dut, bench, deadline=20_000)


def test_reset_in_the_middle_of_a_run():
    config = CONFIGS[1]
    network = Network(config, seed=2)
    dut, load = network.accelerator()
    instructions = network.instructions
    reset = Signal()

    async def bench(ctx):
        host = Host(ctx, dut, config)
        await host.load(**load)
        # While it fetches, while the array is fed, while outputs drain, and between layers.
        for cycles in (3, 40, 123, 500, 733):
            await host.command(Command.RUN)
            await ctx.tick().repeat(cycles)
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)
            registers = await host.registers()
            assert registers[Register.STATUS] == registers[Register.CYCLES] == 0
            tensors = network.tensors()
            await network.give(host, *tensors)
            await check_counters(host, config, instructions, await host.run())
            await network.check(host, *tensors)

    run_bench(ResetInserter(reset)(dut), bench, deadline=30_000)


def test_host_reaches_every_byte():
    config = accelerator_config(4, 2, 2, rows=7)
    dut = Accelerator(config)
    data = np.random.default_rng(0).integers(256, size=28).tolist()

    async def bench(ctx):
        host = Host(ctx, dut, config)
        await host.write_bytes(0, data)
        assert await host.read_bytes(0, 28) == bytes(data)
        # At odd addresses too.
        await host.write_bytes(5, [1, 2, 3, 4])
        assert await host.read_bytes(3, 8) == bytes([*data[3:5], 1, 2, 3, 4, *data[9:11]])
        registers = await host.registers()
        # log2 of lanes, columns and requantizers, and the PE kind.
        assert registers[Register.CONFIGURATION] == config.configuration_word
        assert registers[Register.CONFIGURATION] & 0x7FFF == 0x0112

    run_bench(dut, bench, deadline=200)


def random_instruction(rng, config, end):
    """Return a random instruction whose reads and writes keep to the two halves of the activation memory."""
    size = config.activation_bytes
    while True:
        fields = {name: value for name, value in random_loops(rng, config.lanes).items() if abs(value) < 1000}
        fields |= {"input_base": int(rng.integers(size // 2)), "weight_base": int(rng.integers(30))}
        pairs, window = config.elementwise and rng.random() < 0.2, rng.random() < 0.3 and config.window_taps > 1
        if pairs:
            fields |= {"taps_y": 2, "taps_x": 1, "run": 1 + int(rng.integers(config.lanes)), "paired_rows": 0}
        elif window:
            fields |= {"window": 1, "run": 1 + int(rng.integers(config.channels)), "paired_rows": 0}
            # A pooling window's outputs are no positions of the column loop.
            fields |= {"pool_rows": 1, "pool_columns": 1}
        cycles = list(array_cycles(Instruction(**fields), config.lanes))
        places = [address for at in cycles for address, hit in zip(at.addresses, at.mask, strict=True) if hit]
        in_memory = not places or (min(places) >= 0 and max(places) < size // 2)
        if in_memory and len(places) > len(cycles) // 2 and len(cycles) < 300 and cycles[-1].weight_word < 200:
            break
    loops = Instruction(**fields)
    length = loops.taps_y * loops.taps_x * -(-loops.run // config.lanes)
    beats = 1 + int(rng.integers(config.columns // config.requantizers))
    group_channels = beats * config.requantizers
    channels = loops.groups * group_channels - int(rng.integers(group_channels))
    gap = int(rng.integers(2))
    unsigned, weights_unsigned = (int(bit) for bit in rng.integers(2, size=2))
    unsigned &= config.unsigned_activations
    weights_unsigned &= config.weight_zero_points
    # In a mixed array the first hundred words are codes, too.
    coded = int(config.pe is PEKind.MIXED and cycles[-1].weight_word < 100 and rng.random() < 0.7)
    weights_unsigned &= config.weight_bits == 8 and not coded
    # The pooler compares as the input is signed.
    low = 0 if unsigned else -128
    outputs = (loops.columns - 1 - loops.warmup) // loops.emit_every + 1
    row_step = outputs * (channels + gap)
    assert size // 2 + loops.rows * row_step <= size
    fields |= {
        "end": end,
        "beats": beats,
        "idle": max(0, beats * config.beat_cycles(SHIFTS[0], SHIFTS[-1]) - length) + loops.idle,
        "accumulate": Accumulate.PAIR
        if pairs
        else Accumulate.MAX
        if rng.random() < 0.3 and not window
        else Accumulate.ADD,
        "rounding": Round(int(rng.integers(3))),
        "input_unsigned": unsigned,
        "weights_unsigned": weights_unsigned,
        "weights_coded": coded,
        "gate": Gate(0 if config.weight_zero else int(rng.integers(4))),
        "parameters_shared": int(pairs or rng.integers(2)),
        "table": int(rng.choice([0, 0, 1, config.tables])),
        "pad_value": int(rng.integers(256)),
        "input_zero_point": int(rng.integers(256)) - 128 * (not unsigned),
        "weight_zero_point": config.weight_zero_points * (int(rng.integers(256)) - 128 * (not weights_unsigned)),
        "output_zero_point": low + int(rng.integers(80, 176)),
        "clamp_low": low + int(rng.integers(30)),
        "clamp_high": low + int(rng.integers(226, 256)),
        "output_channels": channels,
        "output_base": size // 2 + int(rng.integers(size // 2 - loops.rows * row_step + 1)),
        "output_group_step": group_channels,
        "output_column_step": channels + gap,
        "output_row_step": row_step,
    }
    if fields["accumulate"] == Accumulate.MAX or pairs:
        # The products of a single activation, which ten bits hold.
        fields |= {"weight_zero_point": 0, "input_zero_point": 0, "weight_base": 200, "weights_per_tap": 1}
        fields |= {"run": min(loops.run, config.lanes), "weights_unsigned": 0, "weights_coded": 0}
        fields |= {"gate": Gate.ALL if config.weight_zero else Gate.OWN}
    if window and config.pe is PEKind.FOLD:
        # Its zero point would multiply other activations in each column.
        fields |= {"weight_zero_point": 0}
    if pairs:
        fields |= {
            "pair_zero_point": int(rng.integers(-128, 256)),
            "pair_other_zero_point": int(rng.integers(-128, 256)),
            "pair_negate": int(rng.integers(2)),
            "pair_other_negate": int(rng.integers(2)),
            "pair_multiply": (multiply := int(rng.integers(4)) == 0),
            "pair_shift": 0 if multiply else int(rng.integers(8)),
            "pair_multiplier": int(rng.integers(1 << 30, 1 << 31)),
        }
    return Instruction(**fields)


class RandomProgram:
    """Random instructions on random memories, built in."""

    def __init__(self, config, seed, count=6):
        rng = np.random.default_rng(seed)
        self.config = replace(config, weight_source=WeightSource.ROM, weight_bytes=-(-config.word_bits * 202 // 8))
        coded = Instruction(weights_coded=int(config.pe is PEKind.MIXED))
        self.weights = random_codes(config, coded, rng, 201)
        if config.pe is PEKind.MIXED:
            self.weights[100:200] = rng.integers(0, 256, self.weights[100:200].shape)
        self.weights[200] = one(config)
        self.activations = rng.integers(256, size=config.activation_bytes).tolist()
        self.tables = rng.integers(256, size=(config.tables, 256)).tolist()
        self.instructions, self.parameters = [], []
        for index in range(count):
            instruction = random_instruction(rng, self.config, end=int(index == count - 1))
            base = len(self.parameters) // config.requantizers
            self.instructions.append(replace(instruction, parameter_base=base))
            self.parameters += self.scaled_to_fit(instruction, rng)

    def scaled_to_fit(self, i, rng):
        """Return parameters of channels that spread the outputs over the range, so that the clamp hides few bits."""
        sums = {}
        for at, output in output_sums(i, self.config, bytearray(self.activations), self.weights):
            for column, value in enumerate(output[: i.beats * self.config.requantizers].tolist()):
                first = 0 if i.parameters_shared else at.group * i.beats * self.config.requantizers
                place = first + (column % self.config.requantizers if i.parameters_shared else column)
                sums.setdefault(place, []).append(value)
        parameters = []
        for place in range(len(sums)):
            spread = np.std(sums[place]) + 1
            bias = int(rng.normal(-np.mean(sums[place]), spread / 2))
            multiplier, shift = quantize_multiplier(50 / spread)
            assert shift in SHIFTS
            parameters.append((bias, int(multiplier), int(shift)))
        return parameters

    def rom(self):
        program = [word for instruction in self.instructions for word in instruction.encode()]
        entries = [entry for table in self.tables for entry in table]
        return Rom(
            program, self.parameters, [packed(word.ravel(), self.config.weight_bits) for word in self.weights], entries
        )

    def check(self, rom):
        """Step an accelerator with this ROM through the program and hold its whole memory against the model."""
        dut = Accelerator(self.config, rom)

        async def bench(ctx):
            host = Host(ctx, dut, self.config)
            memory = bytearray(self.activations)
            await host.write_bytes(0, self.activations)
            for index, instruction in enumerate(self.instructions):
                await host.run(Command.STEP)
                execute(instruction, self.config, memory, self.weights, self.parameters, self.tables)
                got = await host.read_bytes(0, len(memory))
                np.testing.assert_array_equal(
                    np.frombuffer(got, np.uint8), np.frombuffer(memory, np.uint8), f"instruction {index}"
                )
            await check_counters(host, self.config, self.instructions)
            # The same in one run.
            await host.write_bytes(0, self.activations)
            await check_counters(host, self.config, self.instructions, await host.run())
            assert await host.read_bytes(0, len(memory)) == bytes(memory)

        run_bench(dut, bench, deadline=300_000)


BYTES = {"pe": PEKind.FOLD, "weight_zero_points": False, "unsigned_activations": False}
SMALL = {"memory_registers": False, "prefetch": False, "log": False}
SERIAL = {"requantizer": RequantizerKind.SERIAL}
RANDOM_CONFIGS = [
    accelerator_config(1, 1, rows=300),
    accelerator_config(2, 2, 1, rows=180),
    accelerator_config(4, 2, pe=PEKind.FOLD, rows=110),
    accelerator_config(2, 4, rows=200),
    accelerator_config(4, 4, 2, pe=PEKind.FOLD, rows=128),
    accelerator_config(8, 4, rows=75),
    accelerator_config(4, 4, pe=PEKind.SHIFT, rows=128),
    accelerator_config(2, 4, pe=PEKind.SHIFT, weight_bits=3, rows=200),
    accelerator_config(8, 4, pe=PEKind.SHIFT, weight_zero=False, rows=75),
    accelerator_config(4, 2, pe=PEKind.MIXED, rows=110),
    accelerator_config(4, 4, weight_bits=4, rows=128),
    accelerator_config(4, 4, 1, rows=128, **SMALL, **BYTES),
    accelerator_config(4, 2, 2, rows=110, digit_bits=4, **SMALL, **BYTES, **SERIAL),
    accelerator_config(2, 4, 1, rows=200, digit_bits=8, **SERIAL),
]


@pytest.mark.parametrize("config", RANDOM_CONFIGS, ids=str_of)
def test_random_programs(config):
    program = RandomProgram(config, seed=config.lanes * 10 + config.columns)
    program.check(program.rom())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1012))
def test_more_random_programs(seed):
    program = RandomProgram(RANDOM_CONFIGS[seed % len(RANDOM_CONFIGS)], seed, count=12)
    program.check(program.rom())


class TestFaultsAreSeen:
    """Each of these must be reported by the very checker that passes above."""

    def fails(self, change, table=False):
        programs = (RandomProgram(accelerator_config(4, 2), seed, count=1) for seed in range(100))
        program = next(
            program
            for program in programs
            if program.instructions[0].accumulate is Accumulate.ADD and bool(program.instructions[0].table) is table
        )
        program.check(change(program, program.rom()))

    @staticmethod
    def field(name, value):
        """Return a change of one field of the first instruction."""

        def change(program, rom):
            changed = replace(program.instructions[0], **{name: value(program.instructions[0])})
            return replace(rom, program=changed.encode())

        return change

    def test_none_without_a_change(self):
        self.fails(lambda program, rom: rom)

    def test_a_flipped_bit_of_the_first_weights(self):
        def flip(program, rom):
            word = next(array_cycles(program.instructions[0], program.config.lanes)).weight_word
            words = list(rom.weights)
            words[word] ^= packed([1 << 6] * program.config.multipliers, 8)
            return replace(rom, weights=words)

        with pytest.raises(AssertionError, match="instruction 0"):
            self.fails(flip)

    def test_swapped_channels_in_the_weight_words(self):
        def swap(program, rom):
            return replace(rom, weights=[packed(word[::-1].ravel(), 8) for word in program.weights])

        with pytest.raises(AssertionError, match="instruction 0"):
            self.fails(swap)

    def test_none_without_a_change_of_a_table(self):
        self.fails(lambda program, rom: rom, table=True)

    def test_tables_moved_by_one(self):
        with pytest.raises(AssertionError, match="instruction 0"):
            self.fails(lambda program, rom: replace(rom, tables=[*rom.tables[1:], rom.tables[0]]), table=True)

    @pytest.mark.parametrize("piece", range(3))
    def test_wrong_parameter(self, piece):
        def spoil(program, rom):
            amount = (1 << 14, 1 << 25, 1)[piece]
            return replace(
                rom, parameters=[(*row[:piece], row[piece] - amount, *row[piece + 1 :]) for row in rom.parameters]
            )

        with pytest.raises(AssertionError, match="instruction 0"):
            self.fails(spoil)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("input_zero_point", lambda i: i.input_zero_point ^ 1),
            ("weight_zero_point", lambda i: i.weight_zero_point ^ 1),
            ("output_zero_point", lambda i: i.output_zero_point ^ 1),
            ("x_first", lambda i: i.x_first + 1),
            ("weights_unsigned", lambda i: 1 - i.weights_unsigned),
        ],
    )
    def test_wrong_field(self, name, value):
        with pytest.raises(AssertionError, match="instruction 0"):
            self.fails(self.field(name, value))


def test_rom_and_weight_source_go_together():
    rom = Rom([], [], [])
    with refused(ValueError, r"^weight_source rom and rom=False do not go together$"):
        Accelerator(CONFIGS[2])
    with refused(ValueError, r"^weight_source ram and rom=True do not go together$"):
        Accelerator(CONFIGS[0], rom)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ({"program": [0] * 401}, "401 program words do not fit a memory of 400"),
        ({"parameters": [(0, 0, 0)] * 321}, "321 parameter channels do not fit a memory of 320"),
        ({"weights": [0] * 201}, "201 weight words do not fit a memory of 200"),
        ({"tables": [0] * 2049}, "2049 table entries do not fit a memory of 2048"),
    ],
)
def test_rom_that_is_too_large(images, message):
    with refused(ValueError, f"^{message}$"):
        Accelerator(CONFIGS[2], replace(Rom([], [], []), **images))
