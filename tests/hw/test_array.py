from dataclasses import replace

import numpy as np
import pytest
from support.codes import decoded, factors, one, random_codes, takes_powers
from support.gateware import instruction_bits, packed, signed_number, unpacked

from zeropoint_hw.array import Array
from zeropoint_hw.config import AcceleratorConfig, PEKind
from zeropoint_hw.isa import HISTORY_DEPTH, Accumulate, Gate, Instruction
from zeropoint_hw.layout import Level
from zeropoint_sim.bench import Stalls, run_bench

SHAPES = [(1, 1), (2, 4), (4, 2), (8, 8), (16, 4)]


MAC = {"pe": "mac"}
#: Every kind of PE, and widths of weights.
KINDS = [
    {"pe": "fold"},
    {"pe": "shift"},
    {"pe": "shift", "weight_bits": 2},
    {"pe": "shift", "weight_zero": False},
    {"pe": "mixed"},
    MAC,
    {"pe": "mac", "weight_bits": 4, "dsp": False},
    {"pe": "mac", "weight_zero_points": False},
    {"pe": "minifloat"},
    {"pe": "minifloat", "exponent_bits": 3, "weight_bits": 6, "activation_bits": 7, "dsp": False},
]


def name_of(kind):
    return "-".join(str(value) for value in kind.values())


def array_config(lanes, columns, kind=MAC, accumulator_width=0):
    word = lanes * columns
    return AcceleratorConfig(
        lanes=lanes, columns=columns, **kind, accumulator_width=accumulator_width, weight_bytes=word * 64
    )


class Job:
    """An instruction and the array cycles that run under it, each with activations, mask, weights, and its place."""

    def __init__(self, config, instruction, lengths, rng, weights=None):
        self.config, self.instruction = config, instruction
        ends = np.cumsum(lengths)
        count = int(ends[-1])
        shape = (count, config.columns, config.lanes)
        low, high = (0, 256) if instruction.input_unsigned else (-128, 128)
        if config.pe is PEKind.MINIFLOAT:
            low, high = 1 - (1 << config.activation_bits - 1), 1 << config.activation_bits - 1
        self.activations = rng.integers(low, high, (count, config.lanes))
        # The ends of the range, which fill the adder tree.
        self.activations[rng.random(count) < 0.2] = low
        self.mask = rng.random((count, config.lanes)) < rng.choice([0.1, 0.7, 1.0], (count, 1))
        #: As the weight memory holds them.
        self.weights = np.broadcast_to(
            random_codes(config, instruction, rng, count) if weights is None else weights, shape
        )
        self.first, self.last = np.zeros(count, bool), np.zeros(count, bool)
        self.first[ends - lengths] = self.last[ends - 1] = True
        self.level = rng.integers(Level.CHUNK, Level.POOL_X, count)
        self.level[self.last] = rng.integers(Level.POOL_X, Level.END, len(lengths))
        self.level[-1] = Level.END

    def rows(self):
        """Yield what the array is given in each cycle: ``first`` to ``mask``, and the weights that belong to it."""
        columns = (self.first, self.last, self.level, self.activations, self.mask, self.weights)
        for first, last, level, activations, mask, weights in zip(*columns, strict=True):
            yield (
                (int(first), int(last), int(level), packed(activations, 8), packed(mask, 1)),
                packed(weights.ravel(), self.config.weight_bits),
            )

    def operands(self):
        """Return activations as the lanes see them."""
        return np.where(self.mask, self.activations, self.pad())

    def pad(self):
        return signed_number(self.instruction.pad_value, 8 + self.instruction.input_unsigned)

    def taps(self):
        """Return what each column multiplies by its weights: cycles, columns, lanes."""
        return np.broadcast_to(self.operands()[:, None, :], self.weights.shape)

    def sums(self):
        """Return each output's accumulators, as the docstrings of the array and of ``Accumulate`` define them."""
        i = self.instruction
        x, w = factors(self.config, i, self.taps()), decoded(self.config, i, self.weights)
        if self.config.pe in (PEKind.MAC, PEKind.MIXED) and not takes_powers(self.config, i):
            w = w - i.weight_zero_point
        outputs = []
        for part in self.of_outputs((x * w).sum(axis=2)):
            if i.accumulate == Accumulate.MAX:
                outputs.append(part.max(axis=0))
            elif i.accumulate == Accumulate.PAIR:
                first, second = part
                side_by_side = (second & 0x3FF) << 10 | first & 0x3FF
                outputs.append([signed_number(int(pair), self.config.accumulator_width) for pair in side_by_side])
            else:
                outputs.append(part.sum(axis=0))
        return np.array(outputs)

    def of_outputs(self, values):
        """Return the values of each output's cycles."""
        begins = np.maximum.accumulate(np.where(self.first, np.arange(len(self.first)), 0))
        return [values[begins[end] : end + 1] for end in np.flatnonzero(self.last)]

    def activation_sums(self):
        parts = self.of_outputs(self.operands().sum(axis=1))
        return [int(part.sum()) if self.config.pe is PEKind.FOLD else 0 for part in parts]


class WindowJob(Job):
    """Positions along the column loop, of a few words each, whose lanes hold the latest taps."""

    def __init__(self, config, instruction, rng, rows=3, positions=6, words=2, warmup=1):
        super().__init__(config, replace(instruction, window=1), [words] * rows * positions, rng)
        self.shape = (rows, positions, words)
        position = np.arange(rows * positions) % positions
        self.level[self.last] = np.where(position < positions - 1, Level.COLUMN, Level.ROW)
        self.level[-1] = Level.END
        self.last[self.last] = position >= warmup

    def taps(self):
        rows, positions, words = self.shape
        channels, older = self.config.channels, self.config.window_taps - 1
        taps = super().taps().copy()
        x = self.operands()[:, :channels].reshape(rows, positions, words, channels)
        x = np.pad(x, ((0, 0), (older, 0), (0, 0), (0, 0)), constant_values=self.pad())
        for lane in range(older + 1):
            taps[:, :channels, lane] = x[:, lane : lane + positions].reshape(-1, channels)
        return taps


def check(config, jobs, stalls=None, dut=None):
    """Run the jobs: every output must come exactly when and as promised, and nothing else may come."""
    dut = dut or Array(config)
    width, columns = config.accumulator_width, config.columns
    inputs = [dut.first, dut.last, dut.level, dut.activations.as_value(), dut.mask]
    noise = Stalls(seed=config.lanes)
    due, weights_due = {}, {}

    async def bench(ctx):
        cycle = 0

        async def tick():
            nonlocal cycle
            if cycle in weights_due:
                ctx.set(dut.weights, weights_due.pop(cycle))
            else:
                noise.noise(ctx, [dut.weights])
            await ctx.tick()
            cycle += 1
            assert bool(ctx.get(dut.done)) == (cycle in due), f"done in cycle {cycle}"
            if cycle in due:
                sums, activation_sum, level = due.pop(cycle)
                got = unpacked(ctx.get(dut.accumulators.as_value()), width, columns, signed=True)
                np.testing.assert_array_equal(got, sums)
                assert ctx.get(dut.activation_sum) == activation_sum
                assert ctx.get(dut.done_level) == level

        async def idle():
            ctx.set(dut.valid, 0)
            noise.noise(ctx, inputs)
            await tick()

        for job in jobs:
            ctx.set(dut.instruction.as_value(), instruction_bits(job.instruction))
            outputs = zip(job.sums(), job.activation_sums(), job.level[job.last].tolist(), strict=True)
            for values, weights in job.rows():
                while stalls and stalls.hold():
                    await idle()
                ctx.set(dut.valid, 1)
                for signal, value in zip(inputs, values, strict=True):
                    ctx.set(signal, value)
                weights_due[cycle + dut.WEIGHT_DELAY] = weights
                if values[1]:
                    due[cycle + dut.latency] = next(outputs)
                await tick()
            for _ in range(dut.latency + 2):
                await idle()
        assert not due

    run_bench(dut, bench, deadline=20 * sum(len(job.first) + 20 for job in jobs))


def random_lengths(rng, count):
    """Outputs of one cycle, back to back, and longer ones."""
    return np.where(rng.random(count) < 0.5, 1, rng.integers(1, 8, count)).tolist()


def layers(config, rng):
    """ADD, MAX and PAIR over signed and unsigned operands and several zero points."""
    one_hot = one(config)
    if config.pe is PEKind.MINIFLOAT:
        least = 1 - (1 << config.activation_bits - 1)
        for _ in range(3):
            pad = Instruction(pad_value=int(rng.integers(least, -least)) & 0xFF)
            yield Job(config, pad, random_lengths(rng, 30), rng)
        maximum = Instruction(accumulate=Accumulate.MAX, pad_value=least & 0xFF)
        yield Job(config, maximum, random_lengths(rng, 60), rng, one_hot)
        return
    gates = list(Gate) if not config.weight_zero else [Gate.ALL]
    for unsigned, weights_unsigned in ((0, 0), (1, 0), (0, 1), (1, 1)):
        weights_unsigned &= config.weight_bits == 8 and config.weight_zero_points
        zero_points = {
            "input_zero_point": int(rng.integers(256)) - 128 * (not unsigned),
            "weight_zero_point": int(rng.choice([0, 255] if weights_unsigned else [-128, 0, 127]))
            * config.weight_zero_points,
        }
        kinds = {"input_unsigned": unsigned, "weights_unsigned": weights_unsigned, "pad_value": int(rng.integers(256))}
        kinds |= {"gate": gates[(2 * unsigned + weights_unsigned) % len(gates)]}
        yield Job(config, Instruction(**kinds, **zero_points), random_lengths(rng, 30), rng)
        if config.pe is PEKind.MIXED:
            yield Job(config, Instruction(**kinds, **zero_points, weights_coded=1), random_lengths(rng, 30), rng)
    for unsigned in (0, 1):
        kinds = {"input_unsigned": unsigned, "pad_value": 0 if unsigned else 0x80}
        kinds |= {"gate": Gate.ALL if config.weight_zero else Gate.OWN}
        maximum = Instruction(**kinds, accumulate=Accumulate.MAX)
        yield Job(config, maximum, random_lengths(rng, 30), rng, one_hot)
        pair = Instruction(**kinds, accumulate=Accumulate.PAIR)
        yield Job(config, pair, [2] * 20, rng, one_hot)


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
@pytest.mark.parametrize(("lanes", "columns"), SHAPES)
def test_every_accumulation(lanes, columns, kind):
    config = array_config(lanes, columns, kind)
    rng = np.random.default_rng(lanes * 100 + columns)
    check(config, list(layers(config, rng)), Stalls(seed=lanes, probability=0.2))


def test_back_to_back_outputs_of_one_cycle():
    config = array_config(4, 2)
    check(config, [Job(config, Instruction(input_zero_point=-128), [1] * 200, np.random.default_rng(0))])


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
@pytest.mark.parametrize(("lanes", "columns", "window_taps"), [(2, 2, 2), (4, 2, 3), (4, 8, 4), (8, 8, 3), (8, 4, 5)])
def test_windows(lanes, columns, window_taps, kind):
    config = replace(array_config(lanes, columns, kind), window_taps=window_taps)
    rng = np.random.default_rng(lanes * 100 + window_taps)
    jobs = []
    for unsigned in (0, 1) if config.pe is not PEKind.MINIFLOAT else (0,):
        zero = int(rng.integers(256)) - 128 * (not unsigned) if config.pe is not PEKind.MINIFLOAT else 5
        # With fold, what the weights' zero point multiplies would differ from column to column.
        weight_zero = int(rng.integers(-128, 128)) if config.pe is PEKind.MAC and config.weight_zero_points else 0
        instruction = Instruction(
            input_unsigned=unsigned,
            input_zero_point=zero,
            weight_zero_point=weight_zero,
            pad_value=zero & 0xFF,
            gate=Gate.ALL if config.weight_zero else Gate.TAPS,
        )
        jobs += [
            WindowJob(config, instruction, rng),
            WindowJob(config, instruction, rng, words=1, positions=4, warmup=3),
            WindowJob(config, instruction, rng, words=HISTORY_DEPTH, positions=2, warmup=0),
            Job(config, instruction, random_lengths(rng, 5), rng),
        ]
    check(config, jobs, Stalls(seed=window_taps, probability=0.2))


def test_narrow_accumulators_keep_what_fits():
    config = array_config(2, 2, accumulator_width=20)
    rng = np.random.default_rng(1)
    # At worst 8 · 2 · 255 · 127, just below 2^19.
    add = Job(config, Instruction(input_zero_point=127), [8] * 40, rng, np.full((2, 2), 127))
    assert add.sums().min() < -(1 << 18)
    pair = Job(config, Instruction(accumulate=Accumulate.PAIR), [2] * 20, rng, np.eye(2, dtype=np.int64))
    check(config, [add, pair])


def test_fold_is_mac_with_constants():
    """Σ(x−Zx)(w−Zw) = Σxw − Zw·Σx − Zx·Σw + N·Zx·Zw: what ``fold`` leaves out is known, but for Zw·Σx."""
    zero_x, zero_w = 17, 130
    lengths = [1, 3, 5, 2]
    instruction = Instruction(
        input_unsigned=1, weights_unsigned=1, input_zero_point=zero_x, weight_zero_point=zero_w, pad_value=zero_x
    )
    mac, fold = (
        Job(array_config(4, 2, {"pe": pe}), instruction, lengths, np.random.default_rng(2)) for pe in ("mac", "fold")
    )
    weight_sums = np.array([part.sum(axis=0) for part in fold.of_outputs(fold.weights.sum(axis=2, dtype=np.int64))])
    terms = np.array(lengths)[:, None] * 4
    constant = terms * zero_x * zero_w - zero_x * weight_sums
    corrected = fold.sums() - zero_w * np.array(fold.activation_sums())[:, None] + constant
    np.testing.assert_array_equal(corrected, mac.sums())
    # Both sides of the identity are what the hardware computes.
    check(mac.config, [mac])
    check(fold.config, [fold])


class TestFaultsAreSeen:
    """Each of these must be reported by the very checker that passes above."""

    def fails(self, change):
        config = array_config(4, 2)
        job = Job(config, Instruction(input_zero_point=3, pad_value=7), [2, 1, 3], np.random.default_rng(3))
        faulty = Job(config, Instruction(input_zero_point=3, pad_value=7), [2, 1, 3], np.random.default_rng(3))
        change(faulty)
        faulty.sums = job.sums
        with pytest.raises(AssertionError, match="Mismatched elements"):
            check(config, [faulty])

    def test_none_without_a_change(self):
        with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
            self.fails(lambda job: None)

    def test_swapped_columns(self):
        def swap(job):
            job.weights = job.weights[:, ::-1]

        self.fails(swap)

    def test_flipped_weight_bit(self):
        def flip(job):
            job.weights = job.weights.copy()
            job.weights[2, 1, 3] ^= 1
            job.activations[2, 3] = 50
            job.mask[2, 3] = True

        self.fails(flip)

    def test_wrong_zero_point(self):
        def move(job):
            job.instruction = Instruction(input_zero_point=4, pad_value=7)

        self.fails(move)

    def test_wrong_pad_value(self):
        def pad(job):
            job.instruction = Instruction(input_zero_point=3, pad_value=8)

        self.fails(pad)
