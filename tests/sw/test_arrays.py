"""Array files: layouts, what is accepted, and what is refused with which words."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from zeropoint import arrays
from zeropoint.errors import ZeropointError
from zeropoint.model import FloatModel, Quantization, QuantizedModel, Requantize, Tensor


def model(shape=(4, 5, 3), dtype="int8", **metadata):
    """A model whose output has the shape of its input."""
    source = Tensor("image", shape, dtype, Quantization((0.5,), (3,)))
    target = Tensor("y", shape, dtype, Quantization((0.25,), (3,)))
    operator = Requantize(name="r", input="image", output="y")
    return QuantizedModel("m", {"image": source, "y": target}, (operator,), "image", "y", metadata)


def channels_first(height=4, width=5, channels=3):
    entries = {"shape": f"{channels},{height},{width}", "permutation": "1,2,0"}
    metadata = {f"{which}_{key}": text for which in ("input", "output") for key, text in entries.items()}
    return model((height, width, channels), **metadata)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.npy"


def saved(path: Path, array) -> Path:
    np.save(path, array)
    return path


def refused(path: Path, network, *words: str) -> str:
    with pytest.raises(ZeropointError) as caught:
        arrays.load_input(path, network)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message
    return message


@pytest.mark.parametrize("dtype", ["int8", "int16", ">i4", "uint64"])
def test_integers_are_quantized_values(path, dtype):
    x = np.arange(60).reshape(1, 4, 5, 3)
    got = arrays.load_input(saved(path, x.astype(dtype)), model())
    assert got.dtype == np.int8
    assert_array_equal(got, x)


@pytest.mark.parametrize("dtype", ["float16", "float32", "<f8", ">f8"])
def test_floats_are_quantized_with_the_scale_of_the_input(path, dtype):
    x = np.zeros((2, 4, 5, 3))
    x[1, 0, 0] = (0.75, -1000, 1000)
    got = arrays.load_input(saved(path, x.astype(dtype)), model())
    assert got.dtype == np.int8
    assert got[0, 0, 0, 0] == 3
    # 0.75 / 0.5 = 1.5 is rounded away from zero.
    assert_array_equal(got[1, 0, 0], [5, -128, 127])


def test_large_float_batches_are_quantized_in_parts(path, monkeypatch):
    monkeypatch.setattr(arrays, "_CHUNK", 130)
    x = np.random.default_rng(0).normal(0, 20, (7, 4, 5, 3)).astype(np.float32)
    network = model()
    assert_array_equal(arrays.load_input(saved(path, x), network), network.tensor("image").quantize(x))


def test_fortran_order(path):
    x = np.asfortranarray(np.arange(120, dtype=np.int8).reshape(2, 4, 5, 3))
    assert_array_equal(arrays.load_input(saved(path, x), model()), x)


def test_either_layout(path):
    ours = np.arange(120, dtype=np.int8).reshape(2, 4, 5, 3)
    assert_array_equal(arrays.load_input(saved(path, ours.transpose(0, 3, 1, 2)), channels_first()), ours)
    assert_array_equal(arrays.load_input(saved(path, ours), channels_first()), ours)


def test_the_layout_of_the_source_where_both_would_do(path):
    ours = np.arange(27, dtype=np.int8).reshape(1, 3, 3, 3)
    assert_array_equal(arrays.load_input(saved(path, ours.transpose(0, 3, 1, 2)), channels_first(3, 3, 3)), ours)


def test_a_source_with_fewer_dimensions(path):
    network = model((1, 6, 2), input_shape="2,6", input_permutation="1,0")
    ours = np.arange(24, dtype=np.int8).reshape(2, 1, 6, 2)
    assert_array_equal(arrays.load_input(saved(path, ours[:, 0].transpose(0, 2, 1)), network), ours)
    assert_array_equal(arrays.load_input(saved(path, ours), network), ours)


@pytest.mark.parametrize(
    ("source", "permutation"),
    [((3, 4, 5), (1, 2, 0)), ((5, 4, 3), (1, 0, 2)), ((5, 3, 4), (2, 0, 1)), ((4, 5, 3), (0, 1, 2))],
)
def test_outputs_have_the_layout_of_the_source(path, source, permutation):
    network = model(
        output_shape=",".join(map(str, source)),
        output_permutation=",".join(map(str, permutation)),
        input_shape=",".join(map(str, source)),
        input_permutation=",".join(map(str, permutation)),
    )
    y = np.arange(120, dtype=np.int8).reshape(2, 4, 5, 3)
    arrays.save_output(path, network, y)
    written = np.load(path)
    assert written.shape == (2, *source)
    assert_array_equal(written.transpose(0, *(1 + axis for axis in permutation)), y)
    # Where input and output have one layout, the output is read back as it was.
    assert_array_equal(arrays.load_input(path, network), y)


def test_outputs_without_a_source(path):
    y = np.arange(120, dtype=np.int8).reshape(2, 4, 5, 3)
    arrays.save_output(path, model(), y)
    assert_array_equal(np.load(path), y)


def test_a_file_without_the_usual_suffix(tmp_path):
    arrays.save_output(tmp_path / "y.bin", model(), np.zeros((1, 4, 5, 3), np.int8))
    assert [entry.name for entry in tmp_path.iterdir()] == ["y.bin"]


@pytest.mark.parametrize(
    "metadata",
    [
        {"input_shape": "3,4"},
        {"input_shape": "a,b"},
        {"input_shape": "3,4,5", "input_permutation": "0,0,1"},
        {"input_shape": "3,4,5", "input_permutation": "1,2"},
        {"input_shape": "-3,-4,5"},
        {"input_permutation": "3,1,2"},
        {"input_shape": ""},
    ],
)
def test_metadata_that_do_not_fit(path, metadata):
    with pytest.raises(ZeropointError, match=r"model 'm': its metadata input_shape = .* do not fit its input of shape"):
        arrays.load_input(saved(path, np.zeros((1, 4, 5, 3))), model(**metadata))


def test_wrong_shape(path):
    message = refused(saved(path, np.zeros((2, 5, 4, 3), np.int8)), channels_first())
    assert message.endswith(
        "expected int8 or floats of shape (N, 3, 4, 5) or (N, 4, 5, 3) for input 'image', "
        "found int8 of shape (2, 5, 4, 3)"
    )


@pytest.mark.parametrize("shape", [(4, 5, 3), (3, 4, 5)])
def test_an_example_without_the_batch_axis(path, shape):
    refused(saved(path, np.zeros(shape)), channels_first(), "one example without the batch axis", "array[np.newaxis]")


def test_a_scalar(path):
    refused(saved(path, np.float32(1)), model(), "found float32 of shape ()")


def test_no_example(path):
    refused(saved(path, np.zeros((0, 4, 5, 3))), model(), "found float64 of shape (0, 4, 5, 3): there is no example")


@pytest.mark.parametrize("dtype", ["bool", "complex64", "U3", "M8[s]", "V4"])
def test_wrong_type(path, dtype):
    refused(saved(path, np.zeros((1, 4, 5, 3), dtype)), model(), "convert it to floats")


def test_structured_type(path):
    refused(saved(path, np.zeros((1, 4, 5, 3), "i4,i4")), model(), "not numbers")


def test_pickles_are_never_read(path):
    class Trap:
        def __reduce__(self):
            return (Path(str(path) + ".ran").touch, ())

    np.save(path, np.array([Trap()], dtype=object), allow_pickle=True)
    refused(path, model(), "not numbers")
    assert not Path(str(path) + ".ran").exists()


@pytest.mark.parametrize(("value", "found"), [(128, "0 to 128"), (-129, "-129 to 0")])
def test_integers_out_of_range(path, value, found):
    x = np.zeros((1, 4, 5, 3), np.int32)
    x[0, 1, 1, 1] = value
    refused(saved(path, x), model(), "int8 from -128 to 127", found, "give real values as floats")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_values_that_are_not_finite(path, value):
    x = np.zeros((1, 4, 5, 3))
    x[0, 3, 4, 2] = value
    refused(saved(path, x), model(), "NaN or infinite")


def test_every_truncation_is_refused(path):
    saved(path, np.zeros((1, 4, 5, 3), np.int8))
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        refused(path, model())
    path.write_bytes(whole + b"\0")
    refused(path, model(), "has 60 bytes, but 61 are there")


def test_sizes_are_checked_before_memory_is_asked_for(path):
    file = io.BytesIO()
    header = {"descr": "|i1", "fortran_order": False, "shape": (1 << 50, 4, 5, 3)}
    np.lib.format.write_array_header_1_0(file, header)
    path.write_bytes(file.getvalue())
    refused(path, model(), f"it holds {60 << 50} bytes")
    header["shape"] = (1 << 20, 4, 5, 3)
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, header)
    path.write_bytes(file.getvalue())
    refused(path, model(), "but 0 are there")


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '|i1', 'fortran_order': False, 'shape': (-1, 4, 5, 3), }",
        "{'descr': '|i1', 'fortran_order': False, 'shape': (1.0, 4, 5, 3), }",
        "{'descr': 'nonsense', 'fortran_order': False, 'shape': (1, 4, 5, 3), }",
        "{'descr': '|i1', 'shape': (1, 4, 5, 3), }",
        "__import__('os').abort()",
        "(" * 9000,
        " " * 20000,
    ],
)
def test_nonsense_in_the_header(path, header):
    text = header.encode() + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(60))
    refused(path, model())


def test_other_files(path, tmp_path):
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    refused(path, model(), "it is not a .npy file")
    path.write_bytes(b"\x93NUMPY\x09\x00" + bytes(100))
    refused(path, model(), "version 9.0")
    refused(tmp_path / "absent.npy", model(), "No such file")
    refused(tmp_path, model(), "Is a directory")


def real_model():
    tensors = [Tensor(name, (4, 5, 3), "float32") for name in ("image", "y")]
    operator = Requantize(name="r", input="image", output="y")
    return FloatModel("m", {tensor.name: tensor for tensor in tensors}, (operator,), "image", "y")


def test_real_values(path):
    x = np.random.default_rng(0).normal(size=(2, 4, 5, 3))
    got = arrays.load_real(saved(path, x), real_model())
    assert got.dtype == np.float32
    assert_array_equal(got, x.astype(np.float32))


def test_real_values_from_bytes(path):
    x = np.arange(120, dtype=np.uint8).reshape(2, 4, 5, 3)
    got = arrays.load_real(saved(path, x), real_model(), 0.5)
    assert got.dtype == np.float32
    assert_array_equal(got, np.arange(120).reshape(x.shape) / 2)


@pytest.mark.parametrize(
    ("array", "scale", "words"),
    [
        (np.zeros((1, 4, 5, 3), np.uint8), None, "expected floats .* found uint8 .* give real values as floats"),
        (np.zeros((1, 4, 5, 3), np.float32), 0.5, "holds float32; a scale goes with uint8"),
        (np.zeros((1, 4, 5, 3), np.int16), 0.5, "holds int16; a scale goes with uint8"),
        (np.zeros((1, 4, 5, 3), np.uint8), 0.0, "must be finite and positive, not 0"),
        (np.zeros((1, 4, 5, 3), np.uint8), np.inf, "must be finite and positive, not inf"),
        (np.full((1, 4, 5, 3), np.nan), None, "NaN or infinite"),
    ],
)
def test_real_values_that_are_refused(path, array, scale, words):
    with pytest.raises(ZeropointError, match=words):
        arrays.load_real(saved(path, array), real_model(), scale)


def test_tensors(tmp_path):
    path = tmp_path / "t.npz"
    # Names that np.savez could not take, or would change.
    tensors = {"file": np.arange(3), "a/b": np.ones((2, 2), np.int8), "c.npy": np.zeros(1)}
    arrays.save_tensors(path, tensors)
    with np.load(path) as found:
        assert found.files[:2] == ["file", "a/b"]
        for name, array in tensors.items():
            assert_array_equal(found[name], array)
    first = path.read_bytes()
    arrays.save_tensors(path, tensors)
    assert path.read_bytes() == first
    assert {entry.date_time for entry in zipfile.ZipFile(path).infolist()} == {(1980, 1, 1, 0, 0, 0)}
