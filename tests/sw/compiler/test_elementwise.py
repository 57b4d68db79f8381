"""Sums, differences, products and tables become instructions that compute what the golden model does."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from support.copies import CONFIG, CONFIGS, DTYPES, everywhere
from support.executed import outputs
from support.operators import chain, single, tensor
from support.random_models import ModelBuilder

from zeropoint.arithmetic import logistic_table
from zeropoint.compiler.compile import compile_model
from zeropoint.compiler.program import Program
from zeropoint.compiler.verify_program import verify
from zeropoint.errors import ZeropointError
from zeropoint.golden import run
from zeropoint.model import (
    Add,
    Clamp,
    Concatenation,
    LeakyRelu,
    Logistic,
    Mean,
    Mul,
    Operator,
    Padding,
    QuantizedModel,
    Requantize,
    Shape,
    StridedSlice,
    Sub,
)
from zeropoint.numerics import Rounding
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import Accumulate

XY: dict[str, Any] = {"name": "layer", "input": "x", "output": "y"}
ROUNDINGS = tuple(Rounding)

KINDS: dict[str, tuple[type[Operator], dict[str, Any]]] = {
    "add": (Add, {}),
    "sub": (Sub, {}),
    "reversed sub": (Sub, {"reverse": True}),
    "mul": (Mul, {}),
}


def zero(dtype: str, offset: int) -> int:
    """Return a zero point so far from the middle of a type's values."""
    return offset + (128 if dtype == "uint8" else 0)


def every_byte(shape: Shape, dtype: str) -> np.ndarray:
    """Return inputs that hold all bytes in a random order, again and again."""
    count = int(np.prod(shape))
    order = np.random.default_rng(count).permutation(256).astype(np.uint8)
    return np.resize(order, (1, *shape)).view(dtype)


def checked(model: QuantizedModel, config: AcceleratorConfig) -> Program:
    """Compile a model, check what it computes, and return the program."""
    program = compile_model(model, config)
    verify(program)
    source = model.tensor(model.input)
    x = every_byte(source.shape, source.dtype)
    expected = run(model, x)[0]
    assert len(np.unique(expected)) > 1
    np.testing.assert_array_equal(outputs(program, x[0]), expected)
    return program


# Two operands


@everywhere
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(), (4,), (3, 1), (2, 1, 1), (1, 3, 4), (2, 3, 4)], ids=str)
def test_a_constant_operand(config: AcceleratorConfig, kind: str, shape: Shape) -> None:
    operator, fields = KINDS[kind]
    rng = np.random.default_rng(len(shape))
    for dtype, rounding in product(DTYPES, ROUNDINGS):
        info = np.iinfo(dtype)
        data = rng.integers(info.min, info.max + 1, shape).astype(dtype)
        model = single(
            operator(**XY, other="c", constant=True, clamp=Clamp(-4, 6), **fields),
            tensor("x", (2, 3, 4), dtype, 0.05, zero(dtype, 3)),
            tensor("c", shape, dtype, 0.021, zero(dtype, 77), data),
            tensor("y", (2, 3, 4), dtype, 0.04, zero(dtype, 10)),
            rounding=rounding,
        )
        checked(model, config)


def two_of_one(
    operator: type[Operator], scales: tuple[float, float], out: float, dtype: str = "int8", **fields: Any
) -> QuantizedModel:
    """Return a network that works on its input and on that at another scale."""
    return chain(
        (
            Requantize(name="other", input="x", output="r"),
            operator(name="layer", input="x", other="r", output="y", **fields),
        ),
        tensor("x", (5, 9, 3), dtype, scales[0], zero(dtype, 3)),
        tensor("r", (5, 9, 3), dtype, scales[1], zero(dtype, 100)),
        tensor("y", (5, 9, 3), dtype, out, zero(dtype, 1)),
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scales", [(0.1, 0.02), (0.02, 0.1), (0.05, 0.05), (0.1, 0.1 / 2**9)], ids=str)
def test_either_operand_may_have_the_greater_scale(kind: str, scales: tuple[float, float]) -> None:
    operator, fields = KINDS[kind]
    out = 60 * scales[0] * scales[1] if operator is Mul else max(scales)
    for dtype in DTYPES:
        model = two_of_one(operator, scales, out, dtype, **fields)
        for config in CONFIGS.values():
            program = checked(model, config)
            (paired,) = (i for i in program.instructions if i.accumulate == Accumulate.PAIR)
            assert paired.pair_multiply == (operator is Mul)
            negated = paired.pair_negate + paired.pair_other_negate
            assert negated == (operator is Sub)


@pytest.mark.parametrize("out", [0.002, 0.5])
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_of_a_much_smaller_or_greater_scale(kind: str, out: float) -> None:
    operator, fields = KINDS[kind]
    program = checked(two_of_one(operator, (0.07, 0.1), out / (1 if operator is not Mul else 5), **fields), CONFIG)
    assert (program.parameters.shift.max() > 0) == (operator is Mul and out == 0.002)


@everywhere
@pytest.mark.parametrize("kind", ["sub", "reversed sub", "mul"])
@pytest.mark.parametrize("part", [(1, 1, 1), (1, 3, 1), (2, 1, 4), (1, 1, 4)], ids=str)
def test_either_operand_may_be_broadcast(config: AcceleratorConfig, kind: str, part: Shape) -> None:
    operator, fields = KINDS[kind]
    for (first, second), dtype in product((("x", "part"), ("part", "x")), DTYPES):
        model = chain(
            (
                StridedSlice(name="slice", input="x", output="part", begin=(0, 0, 0), stride=(1, 1, 1), shape=part),
                operator(name="layer", input=first, other=second, output="y", **fields),
            ),
            tensor("x", (2, 3, 4), dtype, 0.1, zero(dtype, 30)),
            tensor("part", part, dtype, 0.1, zero(dtype, 30)),
            tensor("y", (2, 3, 4), dtype, 0.6, zero(dtype, 7)),
        )
        checked(model, config)


def test_a_tensor_may_be_both_operands() -> None:
    model = single(Mul(**XY, other="x"), tensor("x", (9,), "int8", 0.1, 3), tensor("y", (9,), "int8", 0.7, -100))
    checked(model, CONFIG)


# Tables


def unary(operator: Operator, shape: Shape, dtype: str, scale: float = 0.04) -> QuantizedModel:
    least = int(np.iinfo(dtype).min)
    out = (1 / 256, least) if isinstance(operator, Logistic) else (0.06, 5)
    return single(operator, tensor("x", shape, dtype, scale, 9), tensor("y", shape, dtype, *out))


@everywhere
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("operator", [Logistic(**XY), LeakyRelu(**XY, alpha=0.1), LeakyRelu(**XY, alpha=-1.3)])
@pytest.mark.parametrize("shape", [(256,), (7, 5, 9), (3, 100)], ids=str)
def test_a_table_is_looked_up(config: AcceleratorConfig, operator: Operator, dtype: str, shape: Shape) -> None:
    program = checked(unary(operator, shape, dtype), config)
    assert program.tables.shape == (1, 256)
    assert {instruction.table for instruction in program.instructions} == {1}


def test_a_table_holds_the_golden_models_bytes() -> None:
    model = unary(Logistic(**XY), (4,), "int8")
    program = compile_model(model, CONFIG)
    (operator,) = model.operators
    np.testing.assert_array_equal(program.tables[0].view(np.int8), logistic_table(model, operator))


def test_a_wrong_table_is_noticed() -> None:
    """The negative control: two entries have changed places."""
    model = unary(LeakyRelu(**XY, alpha=0.1), (256,), "int8")
    program = checked(model, CONFIG)
    tables = program.tables.copy()
    tables[0, [3, 20]] = tables[0, [20, 3]]
    x = every_byte((256,), "int8")
    got = outputs(replace(program, tables=tables), x[0])
    assert np.sum(got != run(model, x)[0]) == 2


def test_equal_tables_are_stored_once() -> None:
    count, scale = 3, 1 / 256
    operators = [
        Logistic(name=f"layer{index}", input=f"t{index}", output=f"t{index + 1}") for index in range(count)
    ] + [LeakyRelu(name="leaky", input=f"t{count}", output="y", alpha=0.3)]
    tensors = [tensor("t0", (300,), "int8", 0.05, 0)]
    tensors += [tensor(f"t{index + 1}", (300,), "int8", scale, -128) for index in range(count)]
    model = chain(tuple(operators), *tensors, tensor("y", (300,), "int8", scale, -128))
    program = compile_model(model, CONFIG)
    # The first reads another scale than the others.
    assert [instruction.table for instruction in program.instructions] == [1, 2, 2, 3]
    assert len(program.tables) == 3
    with pytest.raises(ZeropointError, match="its table memory must have 3 tables, 1 more than the 2 of this"):
        compile_model(model, replace(CONFIG, tables=2))


def test_a_table_too_many_is_refused() -> None:
    def model(count: int) -> QuantizedModel:
        operators = [
            LeakyRelu(name=f"l{n}", input=f"t{n}", output=f"t{n + 1}", alpha=0.1 + n / 32) for n in range(count)
        ]
        return chain(tuple(operators), *(tensor(f"t{n}", (40,), "int8", 0.1, 0) for n in range(count + 1)))

    assert len(compile_model(model(15), replace(CONFIG, tables=15)).tables) == 15
    message = r"^operator 'l15' \(LeakyRelu\) needs a table more than the 15 that an accelerator can have; use fewer"
    with pytest.raises(ZeropointError, match=message):
        compile_model(model(16), replace(CONFIG, tables=15))


# Concatenations that change scales


@everywhere
@pytest.mark.parametrize("axis", range(3))
def test_a_concatenation_may_change_scales(config: AcceleratorConfig, axis: int) -> None:
    operators = (
        Requantize(name="other", input="x", output="r"),
        Concatenation(name="layer", input="x", others=("r", "x"), output="y", axis=axis),
    )
    shape = [5, 4, 3]
    shape[axis] *= 3
    model = chain(
        operators,
        tensor("x", (5, 4, 3), "uint8", 0.1, 30),
        tensor("r", (5, 4, 3), "uint8", 0.13, 99),
        tensor("y", tuple(shape), "uint8", 0.13, 99),
    )
    program = checked(model, config)
    # What is at the output's scale already needs none, and is written in place, or copied where that leaves gaps
    # between pixels; the other takes one table twice.
    tables = [instruction.table for instruction in program.instructions]
    assert len(program.tables) == 1
    assert (tables.count(0), tables.count(1)) == (2 if axis == 2 else 1, 2)


# What a configuration leaves out


@pytest.mark.parametrize(
    ("model", "field", "message"),
    [
        (
            two_of_one(Mul, (0.07, 0.1), 0.5),
            "elementwise",
            "operator 'layer' (Mul) works on two tensors, which this configuration leaves out; "
            "--elementwise puts it in",
        ),
        (
            two_of_one(Mul, (0.07, 0.1), 0.002),
            "left_shift",
            "operator 'layer' (Mul) scales by 1 or more, which this configuration leaves out; --left-shift puts it in",
        ),
        (
            unary(Logistic(**XY), (4,), "int8"),
            "tables",
            "'layer' does not fit: its table memory must have 1 tables, 1 more than the 0 of this configuration; "
            "--tables 1 makes room there, --trim wherever it is short",
        ),
    ],
)
def test_what_a_configuration_leaves_out_is_refused(model: QuantizedModel, field: str, message: str) -> None:
    checked(model, CONFIG)
    without: Any = {field: 0 if field == "tables" else False}
    with pytest.raises(ZeropointError) as caught:
        compile_model(model, replace(CONFIG, **without))
    assert str(caught.value) == message


# Tables on the way out of other layers

#: What the table alone reads; layers of several instructions among it.
BEFORE: dict[str, Any] = {
    "Conv2D": lambda b, x: b.conv(x, 9, (3, 3), groups=3),
    "DepthwiseConv2D": lambda b, x: b.depthwise(x, (3, 3), padding=Padding(1, 1, 1, 1)),
    "FullyConnected": lambda b, x: b.fully_connected(x, 11),
    "MaxPool2D": lambda b, x: b.max_pool(x, (2, 2)),
    "AveragePool2D": lambda b, x: b.average_pool(x, (2, 2), padding=Padding(1, 1, 1, 1)),
    "Mean": lambda b, x: b.mean(x),
    "Requantize": lambda b, x: b.requantize(x),
    "Add": lambda b, x: b.add_constant(x, 9),
    "Sub": lambda b, x: b.binary(Sub, x, x, reverse=True),
    "Mul": lambda b, x: b.binary(Mul, x, x),
}


@everywhere
@pytest.mark.parametrize("kind", BEFORE)
def test_a_table_goes_with_the_layer_before_it(config: AcceleratorConfig, kind: str) -> None:
    for dtype, after in product(DTYPES, ("Logistic", "LeakyRelu")):
        builder = ModelBuilder(np.random.default_rng(3), dtype)
        current = BEFORE[kind](builder, builder.input(5, 6, 9))
        current = builder.logistic(current) if after == "Logistic" else builder.leaky_relu(current, -0.4)
        model = builder.build(current)
        x = every_byte((5, 6, 9), dtype)
        expected = run(model, x)[0]
        for fuse, ops in ((True, [f"{kind}+{after}"]), (False, [kind, after])):
            program = compile_model(model, config, fuse=fuse)
            verify(program)
            assert [layer.op for layer in program.layers] == ops
            np.testing.assert_array_equal(outputs(program, x[0]), expected)


def both(builder: ModelBuilder, x: str) -> str:
    """Read a tensor twice, once by a table."""
    conv = builder.conv(x, 9, (1, 1))
    return builder.binary(Mul, conv, builder.logistic(conv))


@pytest.mark.parametrize(
    ("build", "ops"),
    [
        (both, ["Conv2D", "Logistic", "Mul"]),
        (
            lambda b, x: b.logistic(b.max_pool(b.conv(x, 9, (1, 1)), (2, 2), stride=(2, 2))),
            ["Conv2D+MaxPool2D", "Logistic"],
        ),
        (lambda b, x: b.logistic(b.leaky_relu(x, 0.1)), ["LeakyRelu", "Logistic"]),
        (lambda b, x: b.logistic(b.transpose(x, 1, 0, 2)), ["Transpose", "Logistic"]),
    ],
)
def test_a_table_stays_apart_where_it_must(build: Any, ops: list[str]) -> None:
    builder = ModelBuilder(np.random.default_rng(3))
    model = builder.build(build(builder, builder.input(5, 6, 9)))
    program = compile_model(model, CONFIG)
    verify(program)
    assert [layer.op for layer in program.layers] == ops
    x = every_byte((5, 6, 9), "int8")
    np.testing.assert_array_equal(outputs(program, x[0]), run(model, x)[0])


def test_a_layer_whose_output_is_the_networks_keeps_it() -> None:
    builder = ModelBuilder(np.random.default_rng(3))
    conv = builder.conv(builder.input(5, 6, 9), 3, (1, 1))
    builder.logistic(conv)
    program = compile_model(builder.build(conv), CONFIG)
    assert [layer.op for layer in program.layers] == ["Conv2D", "Logistic"]


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize(
    ("operator", "scale", "shift"),
    [(Mul(**XY, other="x"), 1.3e-6, 20), (Requantize(**XY), 1.1e-8, 27), (Mean(**XY), 1.1e-8, 27)],
    ids=lambda value: value.kind if isinstance(value, Operator) else "",
)
def test_a_single_roundings_left_shift_must_not_lose_bits(
    operator: Operator, scale: float, shift: int, rounding: Rounding
) -> None:
    shape = (1, 1, 8)
    tensors = (
        tensor("x", shape, "int8", 1.0),
        tensor("y", operator.output_shape(*len(operator.inputs) * [shape]), "int8", scale),
    )
    model = single(operator, *tensors, rounding=rounding)
    if rounding is Rounding.DOUBLE:
        checked(model, CONFIG)
    else:
        with pytest.raises(ZeropointError, match=rf"^operator 'layer' .* shifted left by {shift} must fit 32 bits"):
            compile_model(model, CONFIG)
