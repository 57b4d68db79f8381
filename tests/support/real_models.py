"""Trained int8 networks that nobody in this project made, in the folder that the environment variable names."""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from support import litert
from zeropoint.model import QuantizedModel

_FOLDER = os.environ.get("ZEROPOINT_MODELS")
FOLDER = Path(_FOLDER or "/nonexistent")

needs_models = pytest.mark.skipif(
    _FOLDER is None, reason="ZEROPOINT_MODELS does not name the folder of real models (int8 .tflite files)"
)

#: Every model, and the folder of its real inputs, if there are any.
MODELS: dict[str, str | None] = {
    "kws_ref_model": "kws",
    "pretrainedResnet_quant": "imgc",
    "ad01_int8": "anomd",
    "hello_world_int8": None,
    "micro_speech_quantized": None,
    "tinymaix/mnist_valid_q": None,
    "tinymaix/mnist_dw_q": None,
    "tinymaix/mnist_resnet_q": None,
}


def path(name: str) -> Path:
    return FOLDER / f"{name}.tflite"


def inputs(name: str, model: QuantizedModel, count: int) -> npt.NDArray[np.int8]:
    """Return the real inputs of a model, ``count`` at most, and after them as many random ones."""
    shape = model.tensor(model.input).shape
    found = []
    if MODELS[name] is not None:
        for file in sorted((FOLDER / "inputs" / str(MODELS[name])).glob("*.dat")):
            found.append(np.fromfile(file, np.int8).reshape(-1, *shape))
    rng = np.random.default_rng([*name.encode()])
    random = rng.integers(-128, 128, (count, *shape)).astype(np.int8)
    if not found:
        return random
    # Some of each file, which for sounds are frames of one recording.
    real = np.concatenate([samples[:: max(1, len(samples) * len(found) // count)] for samples in found])
    return np.concatenate([real[:count], random])


def assert_oracles(name: str, x: npt.NDArray[np.int8], outputs: npt.NDArray[np.int8]) -> None:
    """Compare outputs with those of the reference kernels, where these are installed in the right version."""
    if litert.found != litert.VERSION:
        return
    interpreter = litert.interpreter_for(path(name).read_bytes())
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    expected = []
    for sample in x:
        interpreter.set_tensor(source["index"], sample.reshape(source["shape"]))
        interpreter.invoke()
        expected.append(interpreter.get_tensor(target["index"]))
    np.testing.assert_array_equal(outputs, np.concatenate(expected).reshape(outputs.shape))
