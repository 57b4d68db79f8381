"""``.zp`` files: exact both ways, and no malformed one gets through."""

import hashlib
import json
import random
import struct
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from zeropoint.errors import ZeropointError
from zeropoint.model import (
    OPERATORS,
    Add,
    AveragePool2D,
    Clamp,
    Concatenation,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    LeakyRelu,
    Logistic,
    MaxPool2D,
    Mean,
    Mul,
    Operator,
    Pad,
    Padding,
    Quantization,
    QuantizedModel,
    Requantize,
    Reshape,
    ResizeNearestNeighbor,
    Softmax,
    StridedSlice,
    Sub,
    Tensor,
    Transpose,
    zp_file,
)
from zeropoint.numerics import Rounding

THIRD = Quantization((1 / 3,), (-5,))
SIXTH = Quantization((1 / 6,), (7,))


def constant(name: str, shape: tuple[int, ...], dtype: str, quantization: Quantization) -> Tensor:
    info = np.iinfo(dtype)
    data = np.random.default_rng(len(name)).integers(info.min, info.max + 1, shape, dtype)
    return Tensor(name, shape, dtype, quantization, data)


def every_operator(prefix: str = "") -> QuantizedModel:
    """A model with each operator once, and attributes that differ from their defaults."""
    tensors = [
        Tensor("x", (8, 4, 2), "int8", THIRD),
        Tensor("resized", (8, 8, 2), "int8", THIRD),
        Tensor("turned", (8, 8, 2), "int8", THIRD),
        Tensor("padded", (9, 9, 2), "int8", THIRD),
        constant("w1", (4, 3, 2, 1), "int8", Quantization((0.1, 0.2, 0.3, 1e-30), (0,) * 4, 0)),
        constant("b1", (4,), "int32", Quantization((0.1, 0.2, 0.3, 1e-30), (0,) * 4, 0)),
        Tensor("a", (4, 8, 4), "int8", SIXTH),
        constant("w2", (2, 2, 4), "int8", Quantization((0.25,), (0,))),
        Tensor("b", (4, 8, 4), "int8", THIRD),
        Tensor("s", (4, 8, 4), "int8", SIXTH),
        Tensor("m", (2, 4, 4), "int8", SIXTH),
        Tensor("v", (2, 4, 4), "int8", SIXTH),
        Tensor("r", (8, 1, 4), "int8", SIXTH),
        Tensor("q", (8, 1, 4), "int8", THIRD),
        Tensor("f", (4,), "int8", SIXTH),
        constant("w3", (3, 4), "uint8", Quantization((0.5,), (128,))),
        constant("β", (3,), "int32", Quantization((0.5,))),
        Tensor("logits", (3,), "int8", THIRD),
        Tensor("joined", (9,), "int8", THIRD),
        Tensor("part", (3,), "int8", THIRD),
        constant("c", (1,), "int8", SIXTH),
        Tensor("difference", (3,), "int8", SIXTH),
        Tensor("product", (3,), "int8", THIRD),
        Tensor("leaky", (3,), "int8", SIXTH),
        Tensor("probabilities", (3,), "int8", Quantization((1 / 256,), (-128,))),
        Tensor("y", (3,), "int8", Quantization((1 / 256,), (-128,))),
    ]
    operators: tuple[Operator, ...] = (
        ResizeNearestNeighbor(name="resize", input="x", output="resized", size=(8, 8), half_pixel_centers=True),
        Transpose(name="transpose", input="resized", output="turned", permutation=(1, 0, 2)),
        Pad(name="pad", input="turned", output="padded", padding=Padding(0, 1, 1, 0), value=-7),
        Conv2D(
            name="conv", input="padded", output="a", weights="w1", bias="b1", groups=2,
            stride=(2, 1), dilation=(2, 3), padding=Padding(1, 2, 0, 2), clamp=Clamp(0.0, 6.0),
        ),
        DepthwiseConv2D(name="dw", input="a", output="b", weights="w2", padding=Padding(1, 0, 0, 1), clamp=Clamp(0)),
        Add(name="add", input="a", other="b", output="s", clamp=Clamp(-inf, np.float32(0.1))),  # type: ignore[arg-type]
        MaxPool2D(name="max", input="s", output="m", window=(2, 2), stride=(2, 2)),
        AveragePool2D(name="avg", input="m", output="v", window=(3, 3), padding=Padding(1, 1, 1, 1), clamp=Clamp(0)),
        Reshape(name="reshape", input="v", output="r", shape=(8, 1, 4)),
        Requantize(name="requantize", input="r", output="q", clamp=Clamp(-1.5, 1e30)),
        Mean(name="mean", input="q", output="f"),
        FullyConnected(name="fc", input="f", output="logits", weights="w3", bias="β"),
        Concatenation(name="concat", input="logits", output="joined", others=("logits", "logits"), axis=0),
        StridedSlice(name="slice", input="joined", output="part", begin=(8,), stride=(-2,), shape=(3,)),
        Sub(name="sub", input="part", output="difference", other="c", constant=True, reverse=True, clamp=Clamp(0)),
        Mul(name="mul", input="difference", output="product", other="part", clamp=Clamp(-3, 6)),
        LeakyRelu(name="leaky", input="product", output="leaky", alpha=0.3),
        Logistic(name="logistic", input="leaky", output="probabilities"),
        Softmax(name="softmax", input="probabilities", output="y", beta=2),
    )  # fmt: skip
    notes = {"scheme": "affine-int8", "note": "two\nlines, ‘quoted’ \\"}
    by_name = {tensor.name: tensor for tensor in tensors}
    return QuantizedModel("every operator", by_name, operators, "x", "y", notes, Rounding.SINGLE)


@pytest.fixture(scope="module")
def model() -> QuantizedModel:
    return every_operator()


@pytest.fixture(scope="module")
def data(model: QuantizedModel) -> bytes:
    return zp_file.dumps(model)


def parts(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The JSON document and the arrays of a file."""
    length = int.from_bytes(data[:8], "little")
    document = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["zeropoint"])
    return document, safetensors.numpy.load(data)


def signed(document: dict[str, Any], arrays: dict[str, Any]) -> bytes:
    """A file with a checksum that fits, so that what is wrong with its contents must be noticed otherwise."""
    text = json.dumps(document["model"], sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        digest.update(arrays[name].tobytes())
    document["sha256"] = digest.hexdigest()
    return safetensors.numpy.save(arrays, metadata={"zeropoint": json.dumps(document)})


def tensor_of(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next(tensor for tensor in document["model"]["tensors"] if tensor["name"] == name)


def operator_of(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next(operator for operator in document["model"]["operators"] if operator["name"] == name)


# Round trip


def test_every_operator_is_in_the_sample(model: QuantizedModel) -> None:
    assert {operator.kind for operator in model.operators} == set(OPERATORS)


def test_a_model_comes_back_as_it_was(model: QuantizedModel, tmp_path: Path) -> None:
    zp_file.save(model, tmp_path / "m.zp")
    back = zp_file.load(tmp_path / "m.zp")
    assert (back.name, back.input, back.output, back.rounding) == (model.name, "x", "y", Rounding.SINGLE)
    assert back.operators == model.operators
    assert dict(back.metadata) == dict(model.metadata)
    assert list(back.tensors) == list(model.tensors)
    for name, tensor in model.tensors.items():
        got = back.tensors[name]
        assert (got.name, got.shape, got.dtype, got.quantization) == (
            name,
            tensor.shape,
            tensor.dtype,
            tensor.quantization,
        )
        if tensor.data is None:
            assert got.data is None
        else:
            assert got.data is not None
            assert got.data.dtype == tensor.data.dtype
            np.testing.assert_array_equal(got.data, tensor.data)


def test_the_same_model_gives_the_same_bytes(data: bytes) -> None:
    assert zp_file.dumps(every_operator()) == data
    assert zp_file.dumps(zp_file.loads(data)) == data


def test_the_file_is_one_that_safetensors_reads(model: QuantizedModel, tmp_path: Path) -> None:
    zp_file.save(model, tmp_path / "m.zp")
    with safetensors.safe_open(tmp_path / "m.zp", "np") as file:
        assert list(file.metadata()) == ["zeropoint"]
        np.testing.assert_array_equal(file.get_tensor("w1"), model.tensor("w1").data)


# Damage


def test_a_file_cut_short_anywhere_is_noticed(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.zp"
    for length in range(len(data)):
        with pytest.raises(ZeropointError):
            zp_file.loads(data[:length])
    path.write_bytes(data[:100])
    with pytest.raises(ZeropointError, match=r"^cannot load '.*m\.zp': it is not a \.zp file, or only the first part"):
        zp_file.load(path)


def test_a_longer_file_is_noticed(data: bytes) -> None:
    for more in (b"\0", data):
        with pytest.raises(ZeropointError, match="damaged"):
            zp_file.loads(data + more)


def check_damaged(damaged: bytes, data: bytes) -> None:
    """A damaged file is refused, unless it says the very same (another kind of space in the padding of its header)."""
    try:
        back = zp_file.loads(damaged)
    except ZeropointError as error:
        assert "\n" not in str(error)  # noqa: PT017 (either outcome may be right)
        str(error).encode()
    else:
        assert zp_file.dumps(back) == data


def test_a_flipped_bit_anywhere_is_noticed(data: bytes) -> None:
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        check_damaged(bytes(damaged), data)


def test_random_damage_is_noticed(data: bytes) -> None:
    source = random.Random(1)
    for _ in range(2000):
        damaged = bytearray(data)
        for _ in range(source.randrange(1, 5)):
            damaged[source.randrange(len(damaged))] = source.randrange(256)
        check_damaged(bytes(damaged), data)


def test_damaged_contents_under_a_good_checksum_are_models_or_refused(data: bytes) -> None:
    """Without the checksum's protection: replace any value in the document by any other."""
    source = random.Random(2)
    odd = [
        None,
        True,
        0,
        -1,
        1,
        2**31,
        2**70,
        0.5,
        1e300,
        -0.0,
        "",
        "x",
        "\n",
        "\ud800",
        [],
        [1],
        [None, None],
        {},
        "y",
    ]
    verdicts = {True: 0, False: 0}
    for _ in range(1500):
        document, arrays = parts(data)
        places: list[tuple[Any, Any]] = []

        def collect(value: Any, places: list[tuple[Any, Any]]) -> None:
            for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
                places.append((value, key))
                collect(value[key], places)

        collect(document["model"], places)
        holder, key = source.choice(places)
        holder[key] = source.choice(odd)
        try:
            back = zp_file.loads(signed(document, arrays))
        except ZeropointError as error:
            assert "\n" not in str(error)  # noqa: PT017 (either outcome may be right)
            verdicts[False] += 1
        else:
            assert zp_file.loads(zp_file.dumps(back)).operators == back.operators
            verdicts[True] += 1
    assert verdicts[False] > 1000
    assert verdicts[True] > 0


def test_a_changed_weight_is_noticed(data: bytes) -> None:
    document, arrays = parts(data)
    arrays["w1"] = arrays["w1"].copy()
    arrays["w1"].flat[5] ^= 1
    changed = safetensors.numpy.save(arrays, metadata={"zeropoint": json.dumps(document)})
    with pytest.raises(ZeropointError, match="contents do not match their checksum; get the file again"):
        zp_file.loads(changed)
    zp_file.loads(signed(document, arrays))


# Malformed files, each with its message


def change(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda record: record.update(values)


def remove(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda record: record.pop(key)


@pytest.mark.parametrize(
    ("tensor", "edit", "message"),
    [
        ("a", remove("shape"), r"a tensor lacks shape"),
        ("a", change(color=1), r"a tensor has the unknown 'color'"),
        ("a", change(name=7), r"a name must be a printable text, not 7"),
        ("a", change(name="a\x1b[2J"), r"a name must be a printable text, not 'a\\x1b\[2J'"),
        ("a", change(name="b"), r"two tensors have the name 'b'"),
        ("a", change(shape=5), r"tensor 'a' must be a list, not 5"),
        ("a", change(shape=[1] * 9), r"tensor 'a' has 9 entries; 8 at most"),
        ("a", change(shape=[2.0]), r"tensor 'a': shape must be a 32-bit integer, not 2\.0"),
        ("a", change(shape=[True]), r"tensor 'a': shape must be a 32-bit integer, not True"),
        ("a", change(shape=[2**31]), r"tensor 'a': shape must be a 32-bit integer, not 2147483648"),
        ("a", change(shape=[2**30, 2**30]), r"tensor 'a' has shape .*; dimensions must be positive and give 268435456"),
        ("a", change(shape=[0, 4]), r"tensor 'a' has shape \(0, 4\); dimensions must be positive"),
        ("a", change(shape=[4, 8, 5]), r"operator 'conv' \(Conv2D\): output 'a' is declared \(4, 8, 5\), but is"),
        ("a", change(dtype="float32"), r"tensor 'a' has the unknown type 'float32'"),
        ("a", change(dtype="int32"), r"activation 'a' must be int8, uint8 or int16"),
        ("a", change(scale=[]), r"tensor 'a': scales must be finite and positive"),
        ("a", change(scale=[0.1]), r"tensor 'a' has a scale that is no float32 value"),
        ("a", change(scale=[1e300]), r"tensor 'a' has a scale that is no float32 value"),
        ("a", change(scale=[-1.0]), r"tensor 'a': scales must be finite and positive"),
        ("a", change(scale=[1]), r"tensor 'a': scale must be a finite floating-point number, not 1"),
        ("a", change(scale=[0.5, 0.5]), r"tensor 'a': 2 scales need as many zero points, not 1"),
        ("a", change(zero_point=[200]), r"tensor 'a' has a zero point outside -128 … 127"),
        ("a", change(axis=1), r"activation 'a' must be int8, uint8 or int16 with one scale"),
        ("w1", change(axis=9), r"tensor 'w1' has scales along dimension 9"),
        ("w1", change(axis=-1), r"tensor 'w1' has scales along dimension -1"),
        ("w1", change(dtype="uint8"), r"tensor 'w1' is declared uint8\(4, 3, 2, 1\), but its data are int8"),
        ("w1", change(shape=[4, 3, 1, 2]), r"tensor 'w1' is declared int8\(4, 3, 1, 2\), but its data are"),
        ("w1", change(constant=False), r"it has arrays that its model does not name: w1"),
        ("w1", change(constant=1), r"tensor 'w1' must be constant or not, not 1"),
        ("a", change(constant=True), r"tensor 'a' is a constant, but its array is missing"),
    ],
)  # fmt: skip
def test_malformed_tensors(data: bytes, tensor: str, edit: Callable[[Any], None], message: str) -> None:
    document, arrays = parts(data)
    edit(tensor_of(document, tensor))
    with pytest.raises(ZeropointError, match=message):
        zp_file.loads(signed(document, arrays))


@pytest.mark.parametrize(
    ("operator", "edit", "message"),
    [
        ("conv", change(kind="Conv3D"), r"it has an operator of unknown kind 'Conv3D'"),
        ("conv", change(kind=["Conv2D"]), r"it has an operator of unknown kind \['Conv2D'\]"),
        ("conv", remove("stride"), r"an operator \(Conv2D\) lacks stride"),
        ("conv", change(beta=1.0), r"an operator \(Conv2D\) has the unknown 'beta'"),
        ("conv", change(stride=[1]), r"operator 'conv' \(Conv2D\): stride: \[1\] has the wrong length"),
        ("conv", change(stride=[0, 1]), r"operator 'conv' \(Conv2D\): strides and dilations must be positive"),
        ("conv", change(padding=[0, -1, 0, 0]), r"'conv' \(Conv2D\): padding: padding must not be negative"),
        ("conv", change(padding=[0, 0, 0]), r"'conv' \(Conv2D\): padding: \[0, 0, 0\] has the wrong length"),
        ("conv", change(clamp=[1.0, 0.0]), r"'conv' \(Conv2D\): clamp: an activation must clamp to an interval"),
        ("conv", change(clamp=[0, None]), r"'conv' \(Conv2D\): clamp must be a finite floating-point number, not 0"),
        ("conv", change(groups=None), r"'conv' \(Conv2D\): groups must be a 32-bit integer, not None"),
        ("conv", change(input=None), r"'conv' \(Conv2D\): input must be a printable text, not None"),
        ("conv", change(input="nowhere"), r"operator 'conv' \(Conv2D\): input 'nowhere' is not computed before it"),
        ("conv", change(weights="a"), r"operator 'conv' \(Conv2D\): 'a' is not a constant tensor"),
        ("conv", change(bias="w1"), r"operator 'conv' \(Conv2D\): the bias must be \(4,\), not"),
        ("conv", change(name="dw"), r"operator 'dw' \(DepthwiseConv2D\): its name is taken"),
        ("max", change(window=[0, 2]), r"operator 'max' \(MaxPool2D\): .*window"),
        ("reshape", change(shape=[-1]), r"operator 'reshape' \(Reshape\): .* cannot be reshaped to \(-1,\)"),
        ("softmax", change(beta="1"), r"'softmax' \(Softmax\): beta must be a finite floating-point number, not '1'"),
    ],
)  # fmt: skip
def test_malformed_operators(data: bytes, operator: str, edit: Callable[[Any], None], message: str) -> None:
    document, arrays = parts(data)
    edit(operator_of(document, operator))
    with pytest.raises(ZeropointError, match=message):
        zp_file.loads(signed(document, arrays))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d.update(format=4), r"^it was written by a newer Zeropoint \(format 4, not 3\); upgrade Zeropoint$"),
        (lambda d: d.update(format=4, more=1), r"newer Zeropoint"),
        (
            lambda d: d.update(format=1),
            r"^it was written by an older Zeropoint \(format 1, not 3\); quantize the network again$",
        ),
        (lambda d: d.update(format=0), r"does not say the version"),
        (lambda d: d.update(format=True), r"does not say the version"),
        (lambda d: d.update(format="2"), r"does not say the version"),
        (lambda d: d.update(more=1), r"it must hold a format, a digest and a model"),
        (lambda d: d["model"].pop("rounding"), r"the model lacks rounding"),
        (lambda d: d["model"].update(rounding="up"), r"its rounding 'up' is unknown"),
        (lambda d: d["model"].update(rounding=[]), r"its rounding \[\] is unknown"),
        (lambda d: d["model"].update(metadata=[]), r"its metadata are not texts by name"),
        (lambda d: d["model"].update(metadata={"a": 1}), r"metadata must be text, not 1"),
        (lambda d: d["model"].update(metadata={"a": "\ud800"}), r"metadata must be text, not '\\ud800'"),
        (lambda d: d["model"].update(tensors={}), r"its list of tensors must be a list, not \{\}"),
        (lambda d: d["model"].update(tensors=[1]), r"a tensor must be an object, not 1"),
        (lambda d: d["model"].update(operators=[]), r"model 'every operator' has no operators"),
        (lambda d: d["model"].update(operators=[1]), r"it has an operator of unknown kind None"),
        (lambda d: d["model"].update(operators=[1] * 4097), r"its list of operators has 4097 entries; 4096 at most"),
        (lambda d: d["model"].update(input="w1"), r"the model's input 'w1' is not an activation tensor"),
        (lambda d: d["model"].update(output="none"), r"the model's output 'none' is not computed"),
        (lambda d: d.update(model=3), r"the model must be an object, not 3"),
    ],
)  # fmt: skip
def test_malformed_models(data: bytes, edit: Callable[[Any], None], message: str) -> None:
    document, arrays = parts(data)
    edit(document)
    with pytest.raises(ZeropointError, match=message):
        zp_file.loads(signed(document, arrays))


def test_missing_and_superfluous_arrays(data: bytes) -> None:
    document, arrays = parts(data)
    without = {name: array for name, array in arrays.items() if name != "w2"}
    with pytest.raises(ZeropointError, match=r"tensor 'w2' is a constant, but its array is missing"):
        zp_file.loads(signed(document, without))
    with pytest.raises(ZeropointError, match=r"arrays that its model does not name: more"):
        zp_file.loads(signed(document, arrays | {"more": np.zeros(1, np.int8)}))
    with pytest.raises(ZeropointError, match=r"tensor 'w2' is declared int8\(2, 2, 4\), but its data are int16"):
        zp_file.loads(signed(document, arrays | {"w2": np.zeros((2, 2, 4), np.int16)}))


def raw(header: bytes, body: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + body


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"it is not a \.zp file, or only the first part of one"),
        (b"PK\3\4 a zip file, as pickled models are", r"it is not a \.zp file, or only the first part of one"),
        (raw(b"{}", length=2**63), r"it is not a \.zp file, or only the first part of one"),
        (raw(b" " * ((16 << 20) + 1)), r"its header has 16777217 bytes; 16777216 at most"),
        (raw(b"{}"), r"Zeropoint did not write its header"),
        (raw(b"[]"), r"Zeropoint did not write its header"),
        (raw(b'{"__metadata__": {"zeropoint": "{}", "more": ""}}'), r"Zeropoint did not write its header"),
        (raw(b'{"__metadata__": {"zeropoint": 1}}'), r"Zeropoint did not write its header"),
        (raw(b'{"__metadata__": {"zeropoint": "{}"}}'), r"it does not say the version of its format"),
        (raw(b"[" * 100_000), r"it is not a \.zp file, or damaged: .*recursion"),
        (raw(b"\xff\xfe\xff"), r"it is not a \.zp file, or damaged: .*decode"),
        (raw(b'{"a": NaN}'), r"NaN is not a number"),
        (raw(b'{"a": 1, "a": 1}'), r"a name is given twice"),
        (raw(b"1" * 10_000), r"it is not a \.zp file, or damaged: Exceeds the limit"),
        (
            raw(b'{"__metadata__":{"zeropoint":"{\\"format\\":3,\\"sha256\\":\\"\\",\\"model\\":1e999}"}}'),
            r"it is damaged: Out of range float",
        ),
        (
            raw(
                b'{"__metadata__":{"zeropoint":"{\\"format\\":3,\\"sha256\\":\\"\\",\\"model\\":{}}"},'
                b'"w":{"dtype":"I8","shape":[4611686018427387904,4611686018427387904],"data_offsets":[0,0]}}'
            ),
            r"it is damaged: ",
        ),
        (
            raw(
                b'{"__metadata__":{"zeropoint":"{\\"format\\":3,\\"sha256\\":\\"\\",\\"model\\":{}}"},'
                b'"w":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}',
                b"ab",
            ),
            r"it is damaged: 'BF16'",
        ),
    ],
)  # fmt: skip
def test_what_is_no_zp_file(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "m.zp").write_bytes(content)
    with pytest.raises(ZeropointError, match=r"^cannot load '.*m\.zp': .*" + message):
        zp_file.load(tmp_path / "m.zp")


def test_a_file_too_large_is_refused_unread(tmp_path: Path) -> None:
    with open(tmp_path / "m.zp", "wb") as file:
        file.truncate(zp_file.MAX_FILE_BYTES + 1)
    with pytest.raises(ZeropointError, match=r"m\.zp': it is longer than 1073741824 bytes"):
        zp_file.load(tmp_path / "m.zp")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ZeropointError, match=r"^cannot read '.*none\.zp': No such file or directory$"):
        zp_file.load(tmp_path / "none.zp")


# What cannot be saved


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("__metadata__", r"a constant cannot be stored under the name '__metadata__'; rename it"),
        ("line\nbreak", r"a name must be a printable text, not 'line\\nbreak'"),
        ("\ud800", r"a name must be a printable text, not '\\ud800'"),
    ],
)
def test_names_that_cannot_be_stored(name: str, message: str, tmp_path: Path) -> None:
    x, y = (Tensor(letter, (2,), "int8", THIRD) for letter in "xy")
    weights = constant(name, (2, 2), "int8", THIRD)
    operator = FullyConnected(name="fc", input="x", output="y", weights=name)
    model = QuantizedModel("m", {"x": x, "y": y, name: weights}, (operator,), "x", "y")
    with pytest.raises(ZeropointError, match=message):
        zp_file.save(model, tmp_path / "m.zp")
    assert list(tmp_path.iterdir()) == []


def test_a_header_too_long_is_not_written(data: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(zp_file, "MAX_HEADER_BYTES", 1000)
    with pytest.raises(ZeropointError, match=r"model 'every operator' is too large for a \.zp file"):
        zp_file.save(every_operator(), tmp_path / "m.zp")
    assert list(tmp_path.iterdir()) == []
