"""How far ONNX Runtime's results on the exported network are from the golden model's.

ONNX Runtime sums the same products, but scales the sums in floating point and rounds once, ties to even.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from zeropoint import golden
from zeropoint.errors import ZeropointError
from zeropoint.export.onnx_qdq import convert_named, file_layout, serialize
from zeropoint.export.onnx_writer import channels_first
from zeropoint.importers.names import Names
from zeropoint.importers.onnx_float_constants import one_line
from zeropoint.model import QuantizedModel

Array = npt.NDArray[Any]

#: Samples that are run at once: every tensor of each is kept.
_BATCH = 32


@dataclass(frozen=True)
class Difference:
    """How an operator's output in ONNX Runtime differs from the golden model's.

    Attributes
    ----------
    operator, kind
        The operator's name and kind.
    elements
        How many integers were compared.
    alone, alone_greatest
        How many differ if the operator gets the golden model's inputs, and by how many steps of the scale at most.
    network, network_greatest
        The same, if it gets what ONNX Runtime has made of the network's input so far.
    """

    operator: str
    kind: str
    elements: int
    alone: int
    alone_greatest: int
    network: int
    network_greatest: int


def differences(
    model: QuantizedModel, x: Array, progress: Callable[[int], object] = lambda done: None
) -> list[Difference]:
    """Compare the golden model with ONNX Runtime on the network as :mod:`~zeropoint.export.onnx_qdq` exports it.

    ONNX Runtime runs as it does by itself, with all optimizations, but is told not to saturate sums of products to 16
    bits, as it otherwise does on processors without VNNI.

    Parameters
    ----------
    model
        The network.
    x
        Quantized inputs ``(n, *input shape)``, n at least 1.
    progress
        Called with the number of samples done.

    Returns
    -------
    list of Difference
        One for each operator, in order. The last one's ``network`` is the difference of the network's results.

    Raises
    ------
    ZeropointError
        If ONNX Runtime is not installed, or refuses the network; as ``golden.run_tensors`` and the export.
    """
    exported, names = convert_named(model)
    outputs = [names[operator.output] for operator in model.operators]
    network = _session(exported, outputs)
    cut, golden_names = _cut(exported, model, names)
    alone = _session(cut, outputs)
    counts, greatest = np.zeros((2, len(outputs)), np.int64), np.zeros((2, len(outputs)), np.int64)
    for start in range(0, len(x), _BATCH):
        ours = {
            name: array.transpose(0, 3, 1, 2) if array.ndim == 4 else array
            for name, array in golden.run_tensors(model, x[start : start + _BATCH]).items()
        }
        given = _in_file(model, x[start : start + _BATCH])
        feeds = {model.input: model.tensor(model.input).dequantize(given)}
        integers = {**ours, model.input: given}
        all_feeds = feeds | {golden_names[name]: np.ascontiguousarray(array) for name, array in integers.items()}
        results = (alone.run(outputs, all_feeds), network.run(outputs, feeds))
        for which, theirs in enumerate(results):
            for index, (operator, found) in enumerate(zip(model.operators, theirs, strict=True)):
                steps = np.abs(ours[operator.output].astype(np.int16) - found)
                counts[which, index] += np.count_nonzero(steps)
                greatest[which, index] = max(greatest[which, index], steps.max())
        progress(start + len(given))
    sizes = [int(np.prod(model.tensor(operator.output).shape)) * len(x) for operator in model.operators]
    rows = zip(counts[0], greatest[0], counts[1], greatest[1], strict=True)
    return [
        Difference(operator.name, operator.kind, size, *(int(value) for value in row))
        for operator, size, row in zip(model.operators, sizes, rows, strict=True)
    ]


def _in_file(model: QuantizedModel, x: Array) -> Array:
    """Return quantized inputs in the layout that the exported network has."""
    shape, permutation = file_layout(model, "input")
    split = x.reshape(len(x), *(shape[axis] for axis in permutation))
    return split.transpose(0, *(1 + int(axis) for axis in np.argsort(permutation)))


def _cut(exported: Any, model: QuantizedModel, names: Mapping[str, str]) -> tuple[Any, dict[str, str]]:
    """Return a network whose operators read integers that are inputs of their own, and the names of these inputs."""
    cut = onnx.ModelProto()
    cut.CopyFrom(exported)
    taken = Names(name for node in cut.graph.node for name in (*node.input, *node.output))
    given = {name: taken.unique(f"{name}.golden") for name in names}
    from_golden = {names[name]: given[name] for name in names}
    for node in cut.graph.node:
        if node.op_type == "DequantizeLinear":
            node.input[0] = from_golden.get(node.input[0], node.input[0])
    types = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8}
    for name, golden_name in given.items():
        tensor = model.tensor(name)
        sizes = file_layout(model, "input")[0] if name == model.input else channels_first(tensor.shape)
        cut.graph.input.append(helper.make_tensor_value_info(golden_name, types[tensor.dtype], ["N", *sizes]))
    return cut, given


def _session(exported: Any, outputs: Iterable[str]) -> Any:
    """Return a session on a network that gives these tensors too."""
    try:
        import onnxruntime
    except ImportError:
        raise ZeropointError(
            "ONNX Runtime is not installed; install it with: pip install 'zeropoint[onnxruntime]'"
        ) from None
    made = onnx.ModelProto()
    made.CopyFrom(exported)
    made.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    options = onnxruntime.SessionOptions()
    # Errors only: it warns of what it does to the network.
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        return onnxruntime.InferenceSession(serialize(made), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of various types of its own
        raise ZeropointError(f"ONNX Runtime refuses model '{made.graph.name}': {one_line(error)}") from None
