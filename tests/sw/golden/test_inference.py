"""Whole networks: chunks, blocks, bad inputs, and every tensor against the oracle."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest
from support import litert, networks, operators
from support.litert import needs_litert
from support.operators import single, tensor
from support.seeds import shown

from zeropoint.errors import ZeropointError
from zeropoint.golden import inference, matmul, run, run_tensors
from zeropoint.model import Conv2D, Padding

NETWORKS = [networks.lenet, networks.ds_cnn, networks.resnet8]


def images(model, count, seed=0):
    source = model.tensor(model.input)
    return np.random.default_rng(seed).integers(-128, 128, (count, *source.shape)).astype(source.dtype)


@pytest.fixture(scope="module")
def lenet():
    return networks.lenet(np.random.default_rng(1))


@needs_litert
@pytest.mark.parametrize("network", NETWORKS)
def test_every_tensor_of_a_network_equals_the_oracle(network):
    model = network(np.random.default_rng(2))
    x = images(model, 3)
    expected = litert.run(model, x)
    got = run_tensors(model, x)
    assert list(got) == [t.name for t in model.activations()]
    for name, values in got.items():
        np.testing.assert_array_equal(values, expected[name], name)
    np.testing.assert_array_equal(run(model, x), expected[model.output])
    # The test would tell little if activations had died out.
    assert len(np.unique(got[model.operators[-2].output])) > 5


@pytest.mark.parametrize("network", NETWORKS)
def test_outputs_do_not_depend_on_chunks_and_blocks(network, monkeypatch):
    model = network(np.random.default_rng(3))
    x = images(model, 3)
    expected = run_tensors(model, x)
    one_by_one = np.concatenate([run(model, x[n : n + 1]) for n in range(len(x))])
    np.testing.assert_array_equal(one_by_one, expected[model.output])
    # A block of a few rows, and a chunk of one image.
    monkeypatch.setattr(matmul, "BLOCK_BYTES", 1 << 14)
    monkeypatch.setattr(inference, "CHUNK_BYTES", 1)
    for name, values in run_tensors(model, x).items():
        np.testing.assert_array_equal(values, expected[name], name)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("name", ["CONV_2D", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D", "MAX_POOL_2D"])
def test_bands_of_rows_give_the_same_outputs(name, dtype, monkeypatch):
    for seed in shown(range(20)):
        rng = np.random.default_rng([seed, *name.encode()])
        model = operators.GENERATORS[name](rng, dtype)
        x = operators.samples(rng, model, 3)
        expected = run(model, x)
        with monkeypatch.context() as patch:
            patch.setattr(matmul, "BLOCK_BYTES", 1)
            np.testing.assert_array_equal(run(model, x), expected)


def test_a_thousand_images_in_bounded_memory():
    # 400,000 MACs an image.
    rng = np.random.default_rng(4)
    net = networks.Builder(rng, (28, 28, 1))
    for channels, stride in ((16, 2), (16, 1), (24, 2)):
        net.conv(channels, (3, 3), stride)
    model = net.head((7, 7), 10)
    assert 380_000 < sum(model.macs(operator) for operator in model.operators) < 800_000
    x = images(model, 1000)
    tracemalloc.start()
    y = run(model, x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert y.shape == (1000, 10)
    assert peak < 64 << 20


def test_a_large_image_in_bounded_memory():
    rng = np.random.default_rng(5)
    data = rng.integers(-127, 128, (8, 3, 3, 16)).astype(np.int8)
    model = single(
        Conv2D(name="conv", input="x", output="y", weights="w", padding=Padding(1, 1, 1, 1)),
        tensor("x", (600, 800, 16), "int8", 0.1),
        tensor("w", data.shape, "int8", 0.001, 0, data),
        tensor("y", (600, 800, 8), "int8", 0.5),
    )
    x = images(model, 1)
    tracemalloc.start()
    run(model, x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A matrix of all windows would take 276 MB.
    assert peak < 40 << 20


def test_progress_counts_the_samples(lenet, monkeypatch):
    monkeypatch.setattr(inference, "CHUNK_BYTES", 4 * 14 * 14 * 8)
    seen = []
    run(lenet, images(lenet, 10), seen.append)
    assert seen == [4, 8, 10]


def test_an_empty_batch_gives_an_empty_output(lenet):
    y = run(lenet, np.empty((0, 28, 28, 1), np.int8))
    assert y.shape == (0, 10)
    assert y.dtype == np.int8


def test_other_integers_are_taken_if_they_fit(lenet):
    x = images(lenet, 2)
    np.testing.assert_array_equal(run(lenet, x.astype(np.int64)), run(lenet, x))
    np.testing.assert_array_equal(run(lenet, x.tolist()), run(lenet, x))
    np.testing.assert_array_equal(run(lenet, np.asfortranarray(x)), run(lenet, x))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((28, 28, 1), np.int8), r"takes arrays of shape \(n, 28, 28, 1\), not \(28, 28, 1\)$"),
        (np.zeros((2, 28, 28, 3), np.int8), r"takes arrays of shape \(n, 28, 28, 1\), not \(2, 28, 28, 3\)$"),
        (np.int8(3), r"takes arrays of shape \(n, 28, 28, 1\), not \(\)$"),
        (np.zeros((2, 28, 28, 1), np.float32), "takes int8, not float32; quantize real values with its scale first$"),
        (np.zeros((2, 28, 28, 1), bool), "takes int8, not bool; quantize real values with its scale first$"),
        (np.full((2, 28, 28, 1), 128), "takes -128 … 127, not 128 … 128$"),
        (np.full((2, 28, 28, 1), -129), "takes -128 … 127, not -129 … -129$"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(lenet, x, message):
    with pytest.raises(ZeropointError, match=r"^input 'x' of model 'layer0' " + message):
        run(lenet, x)


def test_what_is_prepared_for_a_model_goes_with_it():
    model = networks.lenet(np.random.default_rng(6))
    run(model, images(model, 1))
    assert model in inference._PREPARED
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_inputs_are_left_as_they_were(lenet):
    x = images(lenet, 2)
    before = x.copy()
    tensors = run_tensors(lenet, x)
    tensors["x"][...] = 0
    np.testing.assert_array_equal(x, before)
