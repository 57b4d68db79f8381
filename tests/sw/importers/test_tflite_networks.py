"""Real networks: every tensor of each, against the reference kernels."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from support import real_models
from support.litert import needs_litert
from support.real_models import MODELS, needs_models
from support.tflite_files import assert_same_as_oracle

from zeropoint.compiler import compile_model
from zeropoint.importers import load
from zeropoint.model import zp_file
from zeropoint_hw.config import AcceleratorConfig

pytestmark = needs_models

#: Operators, multiply-accumulates and parameters, from the models' own descriptions.
EXPECTED = {
    "kws_ref_model": (
        "Conv2D 5 DepthwiseConv2D 4 AveragePool2D 1 Reshape 1 FullyConnected 1 Softmax 1",
        2_656_768,
        22_604,
    ),
    "pretrainedResnet_quant": (
        "Conv2D 9 Add 3 AveragePool2D 1 Reshape 1 FullyConnected 1 Softmax 1",
        12_501_632,
        77_706,
    ),
    "ad01_int8": ("FullyConnected 10", 264_192, 265_864),
    "hello_world_int8": ("FullyConnected 3", 288, 321),
    "micro_speech_quantized": ("Reshape 1 DepthwiseConv2D 1 FullyConnected 1 Softmax 1", 336_000, 16_652),
    "tinymaix/mnist_valid_q": ("Conv2D 3 Mean 1 FullyConnected 1 Softmax 1", 21_220, 1_674),
    "tinymaix/mnist_dw_q": ("Conv2D 2 DepthwiseConv2D 2 Mean 1 FullyConnected 1 Softmax 1", 56_768, 1_322),
    "tinymaix/mnist_resnet_q": ("Conv2D 4 Add 1 Reshape 1 FullyConnected 1 Softmax 1", 499_824, 22_690),
}


@needs_litert
@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_equals_the_oracle(name):
    path = real_models.path(name)
    model = load(path)
    x = real_models.inputs(name, model, 12)
    assert_same_as_oracle(model, path.read_bytes(), x)


@needs_litert
@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_of_many_inputs_equals_the_oracle(name):
    path = real_models.path(name)
    model = load(path)
    assert_same_as_oracle(model, path.read_bytes(), real_models.inputs(name, model, 240))


@needs_litert
@pytest.mark.parametrize("name", MODELS)
def test_one_wrong_weight_is_noticed(name):
    """The negative control of the comparisons above."""
    path = real_models.path(name)
    model = load(path)
    operator = next(operator for operator in model.operators if operator.constants)
    weights = model.tensor(operator.constants[0])
    data = weights.data.copy()
    data.reshape(-1)[np.abs(data.astype(int)).argmax()] //= 2
    tampered = replace(model, tensors={**model.tensors, weights.name: replace(weights, data=data)})
    with pytest.raises(AssertionError, match="Mismatched elements"):
        assert_same_as_oracle(tampered, path.read_bytes(), real_models.inputs(name, model, 8))


@pytest.mark.parametrize("name", MODELS)
def test_what_is_in_it(name):
    model = load(real_models.path(name))
    kinds, macs, parameters = EXPECTED[name]
    words = kinds.split()
    assert Counter(operator.kind for operator in model.operators) == dict(
        zip(words[::2], map(int, words[1::2]), strict=True)
    )
    assert sum(model.macs(operator) for operator in model.operators) == macs
    assert sum(tensor.data.size for tensor in model.tensors.values() if tensor.data is not None) == parameters
    assert model.metadata == {"source": "tflite"}
    assert model.name == name.split("/")[-1]


@pytest.mark.parametrize("name", MODELS)
def test_it_compiles(name):
    model = load(real_models.path(name))
    program = compile_model(model, AcceleratorConfig(weight_bytes=1 << 20, activation_bytes=1 << 16))
    assert program.macs == EXPECTED[name][1]


@pytest.mark.parametrize("name", MODELS)
def test_a_zp_file_keeps_it_and_the_same_file_gives_the_same_bytes(name):
    path = real_models.path(name)
    first = zp_file.dumps(load(path))
    assert zp_file.dumps(load(path)) == first
    assert zp_file.dumps(zp_file.loads(first)) == first


def test_real_inputs_are_recognized():
    """The network for keywords tells what each recording is named after, so that the inputs are laid out right."""
    from zeropoint.golden import run

    words = ["down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes", "silence", "unkown"]
    model = load(real_models.path("kws_ref_model"))
    files = sorted((real_models.FOLDER / "inputs" / "kws").glob("*.dat"))
    x = np.stack([np.fromfile(file, np.int8) for file in files]).reshape(-1, 49, 10, 1)
    found = [words[index] for index in run(model, x).argmax(axis=1)]
    assert found == [file.name.split("_")[0] for file in files]
