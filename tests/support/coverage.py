"""Functional coverage: what the tests have had the hardware do, in named bins.

Each sampler takes something that hardware has done and that was right: a program that it ran, values that its
requantizers were given, a request that its link answered. A bin is a name and a condition; the tables below are all of
them. What is sampled goes to :data:`TALLY`, which ``tests/conftest.py`` gathers and reports.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from typing import Any
from unittest import mock
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

import zeropoint.golden.inference
import zeropoint.golden.kernels
import zeropoint.golden.minifloat
import zeropoint.golden.output
from support import layer_program
from zeropoint import golden
from zeropoint.arithmetic import add_scaling, clamp_limits, mul_scaling
from zeropoint.compiler.program import Program
from zeropoint.compiler.trim import memory_use
from zeropoint.golden.output import Output
from zeropoint.model import Add, Mul, QuantizedModel, Sub
from zeropoint.numerics import Rounding, multiply_by_quantized_multiplier, requantize, wrap_int32
from zeropoint.numerics import minifloat as minifloats
from zeropoint_hw.config import AcceleratorConfig, PEKind, RequantizerKind, WeightSource, WeightStore
from zeropoint_hw.isa import Accumulate, Gate, Instruction, Round
from zeropoint_hw.protocol import Request, Status
from zeropoint_sim.simulate import SimulationResult

Array = npt.NDArray[Any]


class Tally(Counter[str]):
    """How often each bin was hit; nothing is sampled while it is not on."""

    on = False


TALLY = Tally()

#: MACs, over all inferences, up to which the values of a run are sampled.
_MOST_MACS = 20_000_000


def _hit(name: str, times: Any = 1) -> None:
    assert name in _KNOWN, name
    TALLY[name] += int(times)


# Instructions that an accelerator has executed.

Condition = Callable[[Instruction, AcceleratorConfig], Any]

_ROUNDINGS = [
    *((RequantizerKind.MULTIPLIER, code) for code in (Round.DOUBLE, Round.SINGLE, Round.EVEN)),
    # What is not scaled has the first of all codes.
    *((RequantizerKind.SHIFT, code) for code in (Round.DOUBLE, Round.SINGLE, Round.EVEN, Round.AWAY)),
    *((RequantizerKind.SERIAL, code) for code in (Round.DOUBLE, Round.SINGLE, Round.EVEN)),
]
_ZERO_POINTS = {"activations": "input_zero_point", "weights": "weight_zero_point", "outputs": "output_zero_point"}
_SIGNS = {"below 0": -1, "0": 0, "above 0": 1}


def _code(field: str, code: int) -> Condition:
    return lambda i, c: getattr(i, field) == code


def _rounding(kind: RequantizerKind, code: Round) -> Condition:
    return lambda i, c: c.pe is not PEKind.MINIFLOAT and c.requantizer is kind and i.rounding is code


def _sign(field: str, sign: int) -> Condition:
    return lambda i, c: np.sign(getattr(i, field)) == sign


def _pair(i: Instruction) -> bool:
    return i.accumulate is Accumulate.PAIR


def _negated(i: Instruction) -> int:
    return i.pair_negate | i.pair_other_negate


_INSTRUCTION: dict[str, Condition] = {
    **{f"accumulate {code.name}": _code("accumulate", code) for code in Accumulate},
    **{f"gate {code.name}": _code("gate", code) for code in Gate},
    **{f"rounding {code.name} of a {kind}": _rounding(kind, code) for kind, code in _ROUNDINGS},
    **{
        f"zero point of {what} {name}": _sign(field, sign)
        for what, field in _ZERO_POINTS.items()
        for name, sign in _SIGNS.items()
    },
    "activations int8": lambda i, c: not i.input_unsigned,
    "activations uint8": lambda i, c: i.input_unsigned,
    "activations of 16 bits": lambda i, c: c.element_bytes == 2,
    "weights int8": lambda i, c: not i.weights_unsigned,
    "weights uint8": lambda i, c: i.weights_unsigned,
    "weights in codes beside integers": lambda i, c: i.weights_coded,
    "weights again at every tap": lambda i, c: i.weights_per_tap,
    "axes swapped": lambda i, c: i.swap_axes,
    "window of taps": lambda i, c: i.window,
    "window of taps, with positions skipped": lambda i, c: i.window and i.emit_every > 1,
    "window of taps, warmed up": lambda i, c: i.window and i.warmup,
    "two kernel rows at once": lambda i, c: i.paired_rows,
    "max pooling over outputs": lambda i, c: i.pool_rows * i.pool_columns > 1,
    "table of int8": lambda i, c: i.table and not i.input_unsigned,
    "table of uint8": lambda i, c: i.table and i.input_unsigned,
    "table other than the first": lambda i, c: i.table > 1,
    "parameters shared": lambda i, c: i.parameters_shared,
    "parameters of each channel": lambda i, c: not i.parameters_shared,
    "one beat": lambda i, c: i.beats == 1,
    "several beats": lambda i, c: i.beats > 1,
    "cycles without work": lambda i, c: i.idle,
    "clamp of the whole range": lambda i, c: i.clamp_high - i.clamp_low == (1 << c.element_bits) - 1,
    "clamp of an activation": lambda i, c: i.clamp_high - i.clamp_low < (1 << c.element_bits) - 1,
    "one group": lambda i, c: i.groups == 1,
    "several groups": lambda i, c: i.groups > 1,
    "a last group that is not full": lambda i, c: i.output_channels < i.groups * i.beats * c.requantizers,
    "several rows and columns": lambda i, c: i.rows > 1 and i.columns > 1,
    "several kernel rows": lambda i, c: i.taps_y > 1,
    "several kernel columns": lambda i, c: i.taps_x > 1,
    "run of whole words": lambda i, c: i.run % c.lanes == 0,
    "run of a part of a word": lambda i, c: i.run < c.lanes,
    "run of words and a part of one": lambda i, c: i.run > c.lanes and i.run % c.lanes,
    "rows skipped": lambda i, c: i.rows > 1 and i.y_row_step > 1,
    "groups of input channels": lambda i, c: i.groups > 1 and i.x_group_step,
    "pair: sum": lambda i, c: _pair(i) and not i.pair_multiply and not _negated(i),
    "pair: difference": lambda i, c: _pair(i) and _negated(i),
    "pair: product": lambda i, c: _pair(i) and i.pair_multiply,
    "pair: other operand shifted": lambda i, c: _pair(i) and i.pair_shift,
    "end": lambda i, c: i.end,
}


# Padding: on which sides of the feature map an instruction reads beyond it.


def _outside(i: Instruction, c: AcceleratorConfig) -> tuple[set[int], set[int]]:
    """Return the rows and the bytes of rows that an instruction reads, as −1 before, 0 in and 1 behind the map."""

    def reached(first: int, *loops: tuple[int, int]) -> npt.NDArray[np.int64]:
        places = np.array([first])
        for count, step in loops:
            places = np.unique(np.add.outer(places, np.arange(count) * step))
        return places

    # With swapped axes the row loop goes along the rows of the map, and the column loop down.
    down, along = (i.columns, i.rows) if i.swap_axes else (i.rows, i.columns)
    pool = (i.pool_rows, i.y_pool_step), (i.pool_columns, i.x_pool_step)
    second = ((2, 1),) if i.paired_rows else ()
    y = reached(i.y_first, (down, i.y_row_step), pool[0], (i.taps_y, i.y_tap_step), *second)
    x = reached(i.x_first, (i.groups, i.x_group_step), (along, i.x_column_step), pool[1], (i.taps_x, i.x_tap_step))
    x = np.union1d(x, x + i.run - 1)
    sides = [(np.sign(at) * (at < 0) + (at >= size)) for at, size in ((y, i.input_rows), (x, i.row_bytes))]
    return {*sides[0].tolist()}, {*sides[1].tolist()}


_SIDES = {"top": (-1, 0), "bottom": (1, 0), "left": (0, -1), "right": (0, 1)}
_CORNERS = {f"{v} {h}": (_SIDES[v][0], _SIDES[h][1]) for v in ("top", "bottom") for h in ("left", "right")}
_PADDING = [*_SIDES, *_CORNERS, "none", "beyond the last kernel row of two"]


def _pad(i: Instruction, c: AcceleratorConfig) -> None:
    y, x = _outside(i, c)
    for name, (down, along) in {**_SIDES, **_CORNERS}.items():
        _hit(f"padding: {name}", (down in y or not down) and (along in x or not along))
    _hit("padding: none", y | x == {0})
    last = i.y_first + (i.taps_y - 1) * i.y_tap_step + 1
    _hit("padding: beyond the last kernel row of two", i.paired_rows and last >= i.input_rows)


# Programs, and what the counters say of a run.

_FULL = ("activation_bytes", "weight_bytes", "parameter_channels", "program_words", "tables")

_RUN: dict[str, Callable[[SimulationResult], Any]] = {
    **{f"full: {field}": partial(lambda r, field: _is_full(r.program, field), field=field) for field in _FULL},
    **{
        f"contents from {source}": partial(lambda r, source: r.program.config.weight_source is source, source=source)
        for source in WeightSource
    },
    **{
        f"weights {store}": partial(lambda r, store: r.program.config.weight_store is store, store=store)
        for store in WeightStore
    },
    **{f"PE {kind}": partial(lambda r, kind: r.program.config.pe is kind, kind=kind) for kind in PEKind},
    **{
        f"stall: {cause}": partial(lambda r, cause: r.stalls[cause], cause=cause)
        for cause in ("drain", "fetch", "flush", "memory")
    },
    "no stall: drain": lambda r: not r.stalls["drain"],
    "several instructions": lambda r: len(r.program.instructions) > 1,
    "several inferences": lambda r: len(r.outputs) > 1,
}


def _is_full(program: Program, field: str) -> bool:
    return memory_use(program)[field] == getattr(program.config, field) > 0


# What requantizers are given.


@dataclass(frozen=True)
class Scaled:
    """Accumulators, bias included, with multipliers and shifts to broadcast, and what becomes of them."""

    accumulator: Array
    multiplier: Array
    shift: Array
    zero_point: int
    clamp: tuple[int, int]
    rounding: Rounding

    @cached_property
    def right(self) -> Array:
        return np.maximum(-self.shift, 0)

    @cached_property
    def product(self) -> Array:
        left = np.maximum(self.shift, 0)
        return (wrap_int32(self.accumulator << left) if self.double else self.accumulator) * self.multiplier

    @cached_property
    def double(self) -> bool:
        return self.rounding is Rounding.DOUBLE

    @cached_property
    def tie(self) -> Array:
        """Where the last rounding, or the only one, is of a number half-way between two integers."""
        bits, number = (self.right, self.high) if self.double else (31 - self.shift, self.product)
        return (bits > 0) & (number & (np.int64(1) << bits) - 1 == np.int64(1) << np.maximum(bits, 1) - 1)

    @cached_property
    def high(self) -> Array:
        return self.product + (1 << 30) >> 31

    @cached_property
    def unclamped(self) -> Array:
        scaled = multiply_by_quantized_multiplier(self.accumulator, self.multiplier, self.shift, self.rounding)
        return wrap_int32(scaled + self.zero_point)


@dataclass(frozen=True)
class Shifted:
    """What only shifts: sums of up to 49 bits, with shifts and no multiplier. Nothing wraps."""

    accumulator: Array
    shift: Array
    clamp: tuple[int, int]
    rounding: Round

    @property
    def product(self) -> Array:
        return self.accumulator

    @cached_property
    def tie(self) -> Array:
        return np.ldexp(self.accumulator, self.shift - 1) % 1 == 0.5

    @cached_property
    def unclamped(self) -> Array:
        sums = zip(self.accumulator.tolist(), self.shift.tolist(), strict=True)
        far = -(1 << 99), 1 << 99
        return np.array([layer_program.shifted(total, shift, self.rounding, far) for total, shift in sums], object)


_SCALED: dict[str, Callable[[Any], Array]] = {
    "accumulator below 0": lambda s: s.accumulator < 0,
    "accumulator 0": lambda s: s.accumulator == 0,
    "accumulator above 0": lambda s: s.accumulator > 0,
    "tie below 0": lambda s: s.tie & (s.product < 0),
    "tie above 0": lambda s: s.tie & (s.product > 0),
    "no tie": lambda s: ~s.tie,
    "shift to the left": lambda s: s.shift > 0,
    "no shift": lambda s: s.shift == 0,
    "shift to the right": lambda s: s.shift < 0,
    "clamped below": lambda s: s.unclamped < s.clamp[0],
    "clamped above": lambda s: s.unclamped > s.clamp[1],
    "least output, not clamped": lambda s: s.unclamped == s.clamp[0],
    "greatest output, not clamped": lambda s: s.unclamped == s.clamp[1],
}
#: Of the first of two roundings, which takes 31 bits away.
_FIRST: dict[str, Callable[[Any], Array]] = {
    "first tie below 0": lambda s: (s.product & 0x7FFFFFFF == 1 << 30) & (s.product < 0),
    "first tie above 0": lambda s: (s.product & 0x7FFFFFFF == 1 << 30) & (s.product > 0),
    "two ties": lambda s: (s.product & 0x7FFFFFFF == 1 << 30) & s.tie,
    "left shift that overflows": lambda s: (
        wrap_int32(s.accumulator << np.maximum(s.shift, 0)) >> np.maximum(s.shift, 0) != s.accumulator
    ),
}
#: Each kind of requantizer has bins of its own, so that no bench hides what another has lost.
_REQUANTIZED = {
    **{
        f"{kind} {rounding.value}": {**_SCALED, **_FIRST} if rounding is Rounding.DOUBLE else _SCALED
        for kind in (RequantizerKind.MULTIPLIER, RequantizerKind.SERIAL)
        for rounding in Rounding
    },
    **{
        f"shift to {bits} bits {code.name.lower()}": _SCALED
        for bits in (8, 16)
        for code in (Round.SINGLE, Round.EVEN, Round.AWAY)
    },
}


def _requantized(group: str, sample: Scaled | Shifted) -> None:
    for name, condition in _REQUANTIZED[group].items():
        _hit(f"{group}: {name}", np.count_nonzero(condition(sample)))


def scaled(
    kind: RequantizerKind,
    accumulator: npt.ArrayLike,
    multiplier: npt.ArrayLike,
    shift: npt.ArrayLike,
    zero_point: int,
    clamp: tuple[int, int],
    rounding: Rounding,
) -> None:
    """Sample what a requantizer that multiplies was given: the arguments of :func:`zeropoint.numerics.requantize`."""
    if not TALLY.on:
        return
    arrays = np.broadcast_arrays(*(np.asarray(each, np.int64) for each in (accumulator, multiplier, shift)))
    _requantized(f"{kind} {rounding.value}", Scaled(*arrays, zero_point, clamp, rounding))


def shifted(bits: int, accumulator: Array, shift: Array, clamp: tuple[int, int], rounding: Round) -> None:
    """Sample what a requantizer that only shifts was given, for results of so many bits."""
    # With the code for two roundings nothing is rounded.
    if TALLY.on and rounding is not Round.DOUBLE:
        _requantized(f"shift to {bits} bits {rounding.name.lower()}", Shifted(accumulator, shift, clamp, rounding))


def _of_network(kind: RequantizerKind, *values: Any) -> None:
    # What the benches of other kinds have lost, a network must not hide.
    if kind is RequantizerKind.MULTIPLIER:
        scaled(kind, *values)


_TIES = tuple(f"tie {name} {way}" for name, sign in _SIGNS.items() if sign for way in ("down", "up"))
_MINIFLOAT = ("sum below 0", "sum 0", "sum above 0", "saturated below", "saturated above", *_TIES)


def _minifloat(sums: npt.ArrayLike, exponent: npt.ArrayLike, form: minifloats.MinifloatFormat) -> None:
    signs = np.sign(np.asarray(sums).astype(np.float64))
    for name, sign in _SIGNS.items():
        _hit(f"minifloat: sum {name}", np.count_nonzero(signs == sign))
    reals = np.ldexp(np.asarray(sums).astype(np.float64), np.asarray(exponent) + form.least)
    _hit("minifloat: saturated below", np.count_nonzero(reals < -form.greatest))
    _hit("minifloat: saturated above", np.count_nonzero(reals > form.greatest))


def minifloat_ties(sums: Array, exponent: Array, form: minifloats.MinifloatFormat) -> None:
    """Sample what a requantizer of minifloats was given, as objects, that lies half-way between two of them."""
    if not TALLY.on:
        return
    # Beside it, on either side, results are those of the two.
    lower, upper = (minifloats.requantize(2 * sums + side, exponent - 1, form) for side in (-1, 1))
    result = minifloats.requantize(sums, exponent, form)
    for name, sign in _SIGNS.items():
        if sign:
            tie = (np.sign(sums) == sign) & (lower != upper)
            _hit(f"minifloat: tie {name} down", np.count_nonzero(tie & (result == lower)))
            _hit(f"minifloat: tie {name} up", np.count_nonzero(tie & (result == upper)))


@contextmanager
def _observed(kind: RequantizerKind) -> Iterator[None]:
    """Sample what the golden model requantizes, which it does with integers meanwhile."""

    def requantized(accumulator: Any, multiplier: Any, shift: Any, zero_point: int, clamp: Any, rounding: Any) -> Any:
        _of_network(kind, accumulator, multiplier, shift, zero_point, clamp, rounding)
        return requantize(accumulator, multiplier, shift, zero_point, clamp, rounding)

    def rounded(sums: Any, exponent: Any, form: minifloats.MinifloatFormat) -> Any:
        _minifloat(sums, exponent, form)
        return minifloats.requantize(sums, exponent, form)

    with ExitStack() as stack:
        # Kernels that were prepared before would not see this.
        stack.enter_context(mock.patch.object(zeropoint.golden.inference, "_PREPARED", WeakKeyDictionary()))
        stack.enter_context(mock.patch.object(Output, "_exact_factor", return_value=None))
        for module in (zeropoint.golden.output, zeropoint.golden.kernels):
            stack.enter_context(mock.patch.object(module, "requantize", requantized))
        stack.enter_context(mock.patch.object(zeropoint.golden.minifloat, "requantize", rounded))
        yield


_PAIR = ("operand below 0", "operand 0", "operand above 0", "operands of both signs", "both operands at an end")


def _pairs(kind: RequantizerKind, model: QuantizedModel, tensors: Mapping[str, Array]) -> None:
    """Sample the operands of sums, differences and products of two tensors of bytes, and what they make."""
    for operator in model.operators:
        if not isinstance(operator, Add | Sub | Mul) or operator.constant:
            continue
        source, other, target = (model.tensor(name) for name in (operator.input, operator.other, operator.output))
        if source.format is not None or source.dtype not in ("int8", "uint8"):
            continue
        x, y = (tensors[each.name].astype(np.int64) - each.zero_point for each in (source, other))
        x, y = np.broadcast_arrays(x, y)
        for name, sign in _SIGNS.items():
            _hit(f"pair: operand {name}", np.count_nonzero(np.sign(x) == sign))
        _hit("pair: operands of both signs", np.count_nonzero(x * y < 0))
        ends = [np.isin(tensors[each.name], each.limits) for each in (source, other)]
        _hit("pair: both operands at an end", np.count_nonzero(np.logical_and(*np.broadcast_arrays(*ends))))
        clamp = clamp_limits(target, operator.clamp)
        if isinstance(operator, Mul):
            own = mul_scaling(model, operator)
            _of_network(kind, x * y, own.multiplier, own.shift, target.zero_point, clamp, model.rounding)
            continue
        scaling = add_scaling(model, operator)
        rounding = Rounding.SINGLE if model.rounding is Rounding.EVEN else model.rounding
        sums = sum(
            multiply_by_quantized_multiplier(values << scaling.left_shift, own.multiplier, own.shift, rounding)
            for values, own in ((x, scaling.input), (y, scaling.other))
        )
        output = scaling.output
        _of_network(kind, sums, output.multiplier, output.shift, target.zero_point, clamp, model.rounding)


def simulated(model: QuantizedModel, x: Array, result: SimulationResult) -> None:
    """Sample a network that simulated hardware has run; nothing, where that was not right."""
    if not TALLY.on or result.mismatches:
        return
    program = result.program
    for name, of_run in _RUN.items():
        _hit(f"run: {name}", bool(of_run(result)))
    for i in program.instructions:
        for name, of_instruction in _INSTRUCTION.items():
            _hit(f"instruction: {name}", bool(of_instruction(i, program.config)))
        _pad(i, program.config)
    if program.macs * len(x) > _MOST_MACS:
        return
    tensors = golden.run_tensors(model, x)
    _pairs(program.config.requantizer, model, tensors)
    with _observed(program.config.requantizer):
        again = golden.run(model, x)
    # What was sampled is what the golden model computes.
    np.testing.assert_array_equal(again, tensors[model.output])


# The link.

_LINE = ("lose", "damage", "double", "garbage", "lose_frame", "double_frame", "truncate")
#: A device answers these requests so.
_ANSWERS = [
    *((request, Status.DONE) for request in Request),
    *((request, status) for request in Request if request for status in (Status.CLOSED, Status.SEQUENCE)),
    *((request, Status.REQUEST) for request in Request),
    (Request.WRITE, Status.ADDRESS),
    *((request, Status.PROGRAM) for request in (Request.LOADED, Request.RUN, Request.STEP)),
    *((request, Status.WEIGHTS) for request in (Request.RUN, Request.STEP)),
]


def answered(request: int, status: Status) -> None:
    """Sample a request that a link has answered."""
    if not TALLY.on:
        return
    _hit(f"link: {Request(request).name} {status.name}" if request in {*Request} else "link: no request REQUEST")


def carried(counts: Mapping[str, int]) -> None:
    """Sample the faults that have happened on a line, behind which nothing wrong was accepted."""
    if not TALLY.on:
        return
    for fault in _LINE:
        _hit(f"line: {fault}", counts.get(fault, 0))


#: Every bin, in the order of the report.
BINS = tuple(
    chain(
        (f"instruction: {name}" for name in _INSTRUCTION),
        (f"padding: {name}" for name in _PADDING),
        (f"run: {name}" for name in _RUN),
        (f"{group}: {name}" for group, conditions in _REQUANTIZED.items() for name in conditions),
        (f"pair: {name}" for name in _PAIR),
        (f"minifloat: {name}" for name in _MINIFLOAT),
        (f"link: {request.name} {status.name}" for request, status in _ANSWERS),
        ("link: no request REQUEST",),
        (f"line: {fault}" for fault in _LINE),
    )
)

_KNOWN = frozenset(BINS)
assert len(_KNOWN) == len(BINS)

#: The share of the bins below which a whole run of the suite fails.
FLOOR = 1.0


def missing(tally: Mapping[str, int]) -> list[str]:
    """Return the bins that were not hit."""
    return [name for name in BINS if not tally.get(name)]


def is_enough(tally: Mapping[str, int]) -> bool:
    """Return whether as many bins were hit as there must be."""
    return len(BINS) - len(missing(tally)) >= FLOOR * len(BINS)


def table(tally: Mapping[str, int]) -> list[str]:
    """Return the report: the bins of each group with their hits, the ones that were not hit, and the share."""
    groups: dict[str, list[str]] = {}
    for name in BINS:
        group, _, rest = name.partition(": ")
        groups.setdefault(group, []).append(f"{rest} {tally.get(name, 0):,}")
    lines = [
        f"{group} ({sum(not entry.endswith(' 0') for entry in entries)} of {len(entries)}): {'; '.join(entries)}"
        for group, entries in groups.items()
    ]
    left = missing(tally)
    share = f"{len(BINS) - len(left)} of {len(BINS)} bins hit, {FLOOR:.0%} wanted"
    return [*lines, *(f"NOT HIT: {name}" for name in left), share]
