"""Small networks and inputs as files, for tests of the command line."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from support.onnx_models import make, node
from zeropoint.model import QuantizedModel, zp_file

#: Of the float network below, channels first.
SHAPE = (3, 8, 8)


def float_network(seed: int = 0) -> onnx.ModelProto:
    """Return a float network on images of ``SHAPE``: convolution, depthwise convolution, pool, fully connected."""
    rng = np.random.default_rng(seed)

    def weights(*shape: int) -> npt.NDArray[np.float32]:
        return (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    constants = {
        "w1": weights(6, 3, 3, 3),
        "b1": rng.normal(size=6).astype(np.float32),
        "w2": weights(6, 1, 3, 3),
        "w3": weights(10, 6),
        "b3": rng.normal(size=10).astype(np.float32),
    }
    around = [1, 1, 1, 1]
    nodes = [
        node("Conv", "x w1 b1", "c1", "conv", pads=around, strides=[2, 2]),
        node("Relu", "c1", "r1"),
        node("Conv", "r1 w2", "c2", "depthwise", pads=around, group=6),
        node("Relu", "c2", "r2"),
        node("GlobalAveragePool", "r2", "p"),
        node("Flatten", "p", "f"),
        node("Gemm", "f w3 b3", "y", "classifier", transB=1),
    ]
    return make(nodes, ["N", *SHAPE], constants)


def write_float_network(folder: Path, seed: int = 0) -> Path:
    path = folder / "float.onnx"
    path.write_bytes(float_network(seed).SerializeToString())
    return path


def images(count: int = 16, seed: int = 1) -> npt.NDArray[np.float32]:
    """Return inputs of the float network, channels first."""
    return np.random.default_rng(seed).normal(size=(count, *SHAPE)).astype(np.float32)


def write_array(folder: Path, name: str, array: npt.ArrayLike) -> Path:
    path = folder / name
    np.save(path, array)
    return path


def random_input(model: QuantizedModel, count: int = 3, seed: int = 0) -> npt.NDArray[np.integer]:
    """Return quantized inputs from the whole range."""
    tensor = model.tensor(model.input)
    low, high = tensor.limits
    return np.random.default_rng(seed).integers(low, high + 1, (count, *tensor.shape)).astype(tensor.dtype)


def write_model(folder: Path, model: QuantizedModel, count: int = 3, seed: int = 0) -> tuple[Path, Path]:
    """Write a model and inputs for it, and return their paths."""
    path = folder / "model.zp"
    zp_file.save(model, path)
    return path, write_array(folder, "x.npy", random_input(model, count, seed))
