"""Operators on single elements from .tflite files: every pair of bytes, every byte, against the reference kernels."""

import numpy as np
import pytest
from support.executed import outputs
from support.litert import needs_litert
from support.seeds import shown
from support.tflite_files import NONE, RELU, RELU6, File, check, everything, kinds, read

from zeropoint import arithmetic, numerics
from zeropoint.compiler import compile_model
from zeropoint.compiler.verify_program import verify
from zeropoint.errors import ZeropointError
from zeropoint.golden import run
from zeropoint.model import Clamp
from zeropoint_hw.config import AcceleratorConfig

pytestmark = needs_litert

DTYPES = ["int8", "uint8"]
OPTIONS = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions"}
#: Every first byte down, every second byte across.
PAIRS = np.broadcast_to(np.arange(256)[:, None], (1, 256, 256))


def bytes_of(dtype):
    return np.arange(256) + np.iinfo(dtype).min


def pairs(kind, dtype, scales, zero_points, swapped=False, clamp=NONE):
    """Return a file of an operator on every pair of bytes, its input and output; the second operand is constant."""
    file = File()
    shape = (1, 256, 256)
    x = file.tensor("x", shape, dtype.upper(), scales[0], zero_points[0])
    c = file.tensor("c", shape[1:], dtype.upper(), scales[1], zero_points[1], np.tile(bytes_of(dtype), (256, 1)))
    y = file.tensor("y", shape, dtype.upper(), scales[2], zero_points[2])
    file.operator(kind, [c, x] if swapped else [x, c], y, OPTIONS[kind], FusedActivationFunction=clamp)
    return file, x, y


def random_case(kind, dtype, rng):
    """Return scales and zero points of two operands and a result that fits them."""
    scales = 10.0 ** rng.uniform(-3, 0.5, 2)
    if rng.random() < 0.3:
        scales[1] = scales[0] * 2.0 ** rng.integers(-3, 4)
    whole = scales[0] * scales[1] * 100 if kind == "MUL" else max(scales)
    info = np.iinfo(dtype)
    zero_points = rng.choice([info.min, info.max, (info.min + info.max + 1) // 2, rng.integers(info.min, info.max)], 3)
    return [*scales, whole * rng.uniform(0.2, 2)], zero_points.tolist()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", OPTIONS)
def test_every_pair(tmp_path, kind, dtype, seed):
    rng = np.random.default_rng([seed, *kind.encode()])
    scales, zero_points = random_case(kind, dtype, rng)
    clamp = (NONE, RELU, RELU6)[rng.integers(3)]
    file, x, y = pairs(kind, dtype, scales, zero_points, bool(rng.integers(2)), clamp)
    model = check(file, x, y, tmp_path, x=(PAIRS + np.iinfo(dtype).min).astype(dtype))
    assert model.operators[0].constants == ("c",)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", OPTIONS)
def test_every_pair_of_many_models(tmp_path, kind, dtype):
    for seed in shown(range(100, 200)):
        test_every_pair(tmp_path, kind, dtype, seed)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ratio", [0.5, 1.0, 3.7, 100.0])
def test_products_whose_multiplier_is_one_and_more(tmp_path, dtype, ratio):
    middle = 128 * (dtype == "uint8")
    file, x, y = pairs("MUL", dtype, [0.1, 0.2, 0.02 / ratio], [middle + 3, middle - 5, middle + 1])
    check(file, x, y, tmp_path, x=(PAIRS + np.iinfo(dtype).min).astype(dtype))


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("ratio", [1.0, 0.5, 2.0**-10, 2.0**-19, 1e-6, 2.0, 2.0**10, 1e6])
def test_differences_of_scales_far_apart(tmp_path, ratio, swapped):
    file, x, y = pairs("SUB", "int8", [0.1, 0.1 * ratio, 0.17 * max(1, ratio)], [3, -7, 20], swapped)
    check(file, x, y, tmp_path, x=(PAIRS - 128).astype(np.int8))


@pytest.mark.parametrize(
    ("first", "second", "output"),
    [
        (0.6402842402458191, 0.9481090903282166, 24.9940242767334),
        (0.75347900390625, 0.6079273223876953, 25.728389739990234),
    ],
)
def test_the_oracle_tells_how_scales_are_multiplied(tmp_path, first, second, output):
    file, x, y = pairs("MUL", "int8", [first, second, output], [0, 0, 0])
    every = (PAIRS - 128).astype(np.int8)
    expected = run(check(file, x, y, tmp_path, x=every), every)[0]
    products = np.multiply.outer(np.arange(-128, 128), np.arange(-128, 128))
    one, two, target = np.float32(first), np.float32(second), np.float32(output)
    for real in (np.float64(one) * np.float64(two) / np.float64(target), np.float64(one * two) / np.float64(target)):
        other = numerics.requantize(products, *numerics.quantize_multiplier(real), 0, (-128, 127))
        assert not np.array_equal(other, expected), "these scales tell nothing"


# Shapes


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (3,), (1, 3), (1, 1, 1, 3), (4, 1, 1), (5, 1), (1, 4, 5, 3)])
@pytest.mark.parametrize("kind", OPTIONS)
def test_constants_of_every_shape(tmp_path, kind, shape, swapped):
    file = File()
    data = np.random.default_rng(1).integers(-128, 128, shape)
    x, c = file.tensor("x", (1, 4, 5, 3), scale=0.1), file.tensor("c", shape, scale=0.07, zero_point=9, data=data)
    y = file.tensor("y", (1, 4, 5, 3), scale=0.5 if kind == "MUL" else 0.15, zero_point=-4)
    file.operator(kind, [c, x] if swapped else [x, c], y, OPTIONS[kind])
    model = check(file, x, y, tmp_path)
    assert kinds(model) == [kind.capitalize()]


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("kind", ["SUB", "MUL"])
def test_one_activation_broadcast_to_another(tmp_path, kind, swapped):
    """What squeeze-and-excitation does: each channel times one number."""
    file = File()
    x, mean = file.tensor("x", (1, 4, 5, 3), scale=0.1), file.tensor("mean", (1, 1, 1, 3), scale=0.05)
    p, y = file.tensor("p", (1, 1, 1, 3), scale=1 / 256, zero_point=-128), file.tensor("y", (1, 4, 5, 3), scale=0.08)
    file.operator("MEAN", [x, file.integers([1, 2])], mean, "ReducerOptions", KeepDims=True)
    file.operator("LOGISTIC", [mean], p)
    file.operator(kind, [p, x] if swapped else [x, p], y, OPTIONS[kind])
    check(file, x, y, tmp_path)


@pytest.mark.parametrize("kind", OPTIONS)
def test_two_activations(tmp_path, kind):
    file = File()
    x = file.tensor("x", (1, 2, 16, 16), scale=0.1, zero_point=4)
    a, b = file.tensor("a", (1, 1, 16, 16), zero_point=4), file.tensor("b", (1, 1, 16, 16), zero_point=4)
    c, y = file.tensor("c", (1, 1, 16, 16), scale=0.3), file.tensor("y", (1, 1, 16, 16), scale=0.9)
    file.operator("SPLIT", [file.integers(1), x], [a, b], "SplitOptions", NumSplits=2)
    file.operator("QUANTIZE", [b], c)
    file.operator(kind, [a, c], y, OPTIONS[kind], FusedActivationFunction=RELU)
    model = check(file, x, y, tmp_path)
    assert kinds(model) == ["StridedSlice", "StridedSlice", "Requantize", kind.capitalize()]
    assert model.operators[-1].clamp == Clamp(0.0, np.inf)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (((1, 4, 5, 3), (1, 1, 1, 3)), "both inputs must have one shape, not (4, 5, 3) and (1, 1, 3)"),
        (((1, 4, 5, 3), (1, 4, 5, 2)), "inputs of (1, 4, 5, 3) and (1, 4, 5, 2) cannot be broadcast to one shape"),
    ],
)
def test_shapes_that_do_not_fit(tmp_path, inputs, message):
    file = File()
    x, y = file.tensor("x", inputs[0]), file.tensor("y", inputs[0])
    part = file.tensor("part", inputs[1])
    file.operator("SLICE", [x, file.integers([0, 0, 0, 0]), file.integers(inputs[1])], part)
    file.operator("ADD", [x, part], y, "AddOptions")
    with pytest.raises(ZeropointError) as caught:
        read(file.build([x], [y]), tmp_path)
    assert str(caught.value).endswith(f"operator 1 (ADD), output 'y': {message}")


@pytest.mark.parametrize(
    ("constant", "message"),
    [
        ({"shape": (2, 4, 5, 3)}, "its output is declared as (1, 4, 5, 3), but is (2, 4, 5, 3)"),
        ({"shape": (3,), "dtype": "UINT8"}, "has the constant 'c' of uint8 with 1 scales, but needs int8 with one"),
        ({"shape": (3,), "scale": (1, 2, 3)}, "has the constant 'c' of int8 with 3 scales, but needs int8 with one"),
        ({"shape": (3,), "scale": ()}, "has the constant 'c' of int8 with 0 scales, but needs int8 with one"),
        ({"shape": (4,)}, "inputs of (1, 4, 5, 3) and (4,) cannot be broadcast to one shape"),
    ],
)
def test_constants_that_do_not_fit(tmp_path, constant, message):
    file = File()
    x, y = file.tensor("x", (1, 4, 5, 3)), file.tensor("y", (1, 4, 5, 3))
    c = file.tensor("c", data=np.zeros(constant["shape"]), **constant)
    file.operator("MUL", [x, c], y, "MulOptions")
    with pytest.raises(ZeropointError) as caught:
        read(file.build([x], [y]), tmp_path)
    found = str(caught.value).rpartition("output 'y': ")[2]
    assert found == message or constant["shape"][0] == 2


# One input


def every_byte(tmp_path, kind, dtype, scales, zero_points, options=None, **fields):
    file = File()
    x, y = (
        file.tensor(name, (1, 256), dtype.upper(), scale, zero_point)
        for name, scale, zero_point in zip("xy", scales, zero_points, strict=True)
    )
    file.operator(kind, [x], y, options, **fields)
    every = bytes_of(dtype)[np.newaxis].astype(dtype)
    return check(file, x, y, tmp_path, x=every), every


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("alpha", [0.0, 0.01, 0.1, 0.2, 0.3, 0.5, 1.0, 1.5, -0.2, -1.0])
def test_leaky_relu(tmp_path, dtype, alpha, seed):
    rng = np.random.default_rng([seed, int(alpha * 100) & 255])
    scale = 10 ** rng.uniform(-3, 0)
    scales, info = (scale, scale * 10 ** rng.uniform(-1, 1)), np.iinfo(dtype)
    zero_points = rng.integers(info.min, info.max + 1, 2).tolist()
    model, _ = every_byte(tmp_path, "LEAKY_RELU", dtype, scales, zero_points, "LeakyReluOptions", Alpha=alpha)
    assert kinds(model) == ["LeakyRelu"]


@pytest.mark.parametrize(
    ("source", "target", "alpha"),
    [
        (0.8551092743873596, 0.7533681988716125, 0.30726924538612366),
        (0.7008164525032043, 0.6655606627464294, 0.719322144985199),
        (0.9599229097366333, 0.8155097365379333, None),
        (0.9063326120376587, 0.7343618273735046, None),
    ],
)
def test_the_oracle_tells_how_leaky_relu_scales(tmp_path, source, target, alpha):
    model, every = every_byte(
        tmp_path, "LEAKY_RELU", "int8", (source, target), (0, 0), "LeakyReluOptions", Alpha=alpha or 0.0
    )
    expected = run(model, every)[0]
    one, two, three = (np.float32(value) for value in (source, target, alpha or 1.0))
    reals = [np.float64(one) * np.float64(three) / np.float64(two)]
    if alpha:
        reals.append(np.float64(one * three) / np.float64(two))
    side = every[0] < 0 if alpha else every[0] >= 0
    for real in reals:
        other = numerics.requantize(every[0], *numerics.quantize_multiplier(real), 0, (-128, 127))
        assert not np.array_equal(other[side], expected[side]), "these scales tell nothing"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-30, 1e-6, 0.001, 0.004, 0.02, 0.0471, 1 / 16, 0.1, 0.17, 1.0, 33.0, 1e30])
def test_logistic(tmp_path, dtype, scale):
    info = np.iinfo(dtype)
    for zero_point in (info.min, info.min + 128, info.min + 141, info.max):
        every_byte(tmp_path, "LOGISTIC", dtype, (scale, 1 / 256), (zero_point, info.min))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_logistic_of_many_scales(tmp_path, dtype):
    rng = np.random.default_rng(3)
    info = np.iinfo(dtype)
    for scale in 10 ** rng.uniform(-3.5, 0.5, 1000):
        every_byte(tmp_path, "LOGISTIC", dtype, (scale, 1 / 256), (int(rng.integers(info.min, info.max + 1)), info.min))


def test_logistic_at_another_scale_is_refused(tmp_path):
    with pytest.raises(ZeropointError, match=r"operator 'logistic_0' \(Logistic\): output 'y' must have scale 1/256$"):
        every_byte(tmp_path, "LOGISTIC", "int8", (0.1, 0.01), (0, -128))


def test_a_wrong_table_is_noticed(tmp_path, monkeypatch):
    """The negative control: a table in which two neighbours have changed places."""
    right = arithmetic.logistic_table

    def wrong(model, operator):
        table = right(model, operator).copy()
        table[[3, 20]] = table[[20, 3]]
        return table

    monkeypatch.setattr("zeropoint.golden.tables.logistic_table", wrong)
    with pytest.raises(AssertionError, match="Mismatched elements: 2 / 256"):
        every_byte(tmp_path, "LOGISTIC", "int8", (0.05, 1 / 256), (0, -128))


# On the hardware


def unary(kind, scale=0.1, zero_point=0, **options):
    def add(file, x):
        y = file.tensor("y", (1, 8), scale=scale, zero_point=zero_point)
        file.operator(kind, [x], y, **options)
        return y

    return add


def binary(kind, constant):
    def add(file, x):
        y = file.tensor("y", (1, 8), scale=0.2)
        file.operator(kind, [x, file.tensor("c", (8,), data=np.ones(8)) if constant else x], y, OPTIONS[kind])
        return y

    return add


@pytest.mark.parametrize(
    "add",
    [
        binary("SUB", False),
        binary("MUL", True),
        unary("LOGISTIC", 1 / 256, -128),
        unary("LEAKY_RELU", options="LeakyReluOptions", Alpha=0.1),
    ],
)
def test_the_hardware_runs_it(tmp_path, add):
    file = File()
    x = file.tensor("x", (1, 8))
    model = check(file, x, add(file, x), tmp_path)
    program = compile_model(model, AcceleratorConfig())
    verify(program)
    values = everything((8,))
    for value, expected in zip(values, run(model, values), strict=True):
        np.testing.assert_array_equal(outputs(program, value), expected)
