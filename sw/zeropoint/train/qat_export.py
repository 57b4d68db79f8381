"""A network of quantization-aware training as an ONNX file of integers, and the proof that it is the same network."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper
from torch import fx

from zeropoint import golden
from zeropoint.errors import ZeropointError
from zeropoint.importers.onnx_quantized import PREFIX
from zeropoint.model import QuantizedModel
from zeropoint.train.onnx_file import export_onnx, strip_notes
from zeropoint.train.qat_steps import Step

Array = npt.NDArray[Any]

#: What input and output are called until all is renamed: the exporter does not see to it that names are unique.
_ENDS = ("zeropoint_input", "zeropoint_output")


def to_onnx(network: fx.GraphModule, shape: tuple[int, ...], notes: Mapping[str, str]) -> Any:
    """Return a graph of steps as an ``onnx.ModelProto`` of float operators between quantizations (QDQ).

    Operators and activations have the names of their steps; the last activation's is that of the output.

    Parameters
    ----------
    network
        What :func:`zeropoint.train.qat_graph.prepare` returns.
    shape
        Of the input, without the batch.
    notes
        For the file's metadata.
    """
    modules = dict(network.named_modules())
    # In the order in which their quantizations will stand in the file.
    steps = [modules[str(node.target)] for node in network.graph.nodes if node.op == "call_module"]
    names = [step.name for step in steps if isinstance(step, Step)]
    called = {str(node.target): modules[str(node.target)] for node in network.graph.nodes if node.op == "call_module"}
    parts = {name: part.exported() if isinstance(part, Step) else part for name, part in called.items()}
    exported = fx.GraphModule(parts, network.graph).to("cpu").eval()
    model = export_onnx(exported, shape, *_ENDS)
    _rename(model.graph, names)
    strip_notes(model)
    helper.set_model_props(model, {PREFIX + key: value for key, value in notes.items()})
    onnx.checker.check_model(model, full_check=True)
    return model


def _rename(graph: Any, names: list[str]) -> None:
    """Name nodes and values after the steps: the k-th QuantizeLinear ends the k-th."""
    producers = {output: node for node in graph.node for output in node.output}
    renamed = dict(zip(_ENDS, (names[0], names[-1]), strict=True))
    ends = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    if len(ends) != len(names):
        raise RuntimeError(f"the file has {len(ends)} quantizations for {len(names)} steps")
    for end, name in zip(ends, names, strict=True):
        value, end.name = end.input[0], f"{name}.quantize"
        if value not in renamed:
            # The last activation gives its name to the output.
            renamed[value] = name if name != names[-1] else f"{name}.real"
        while (node := producers.get(value)) is not None and node.op_type != "DequantizeLinear":
            activation = node.op_type in ("Relu", "Clip") and producers[node.input[0]].op_type != "DequantizeLinear"
            node.name = f"{name}.{node.op_type.lower()}" if activation else name
            if not activation:
                break
            value = node.input[0]
    for value in {*producers, *(tensor.name for tensor in graph.initializer)} & set(names) - set(renamed):
        # The exporter's own name for something else.
        renamed[value] = f"{value}.inner"
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = renamed.get(value.name, value.name)


def check_equal(expected: Mapping[str, Array], model: QuantizedModel) -> None:
    """Raise ZeropointError unless the golden model computes exactly ``expected``.

    Parameters
    ----------
    expected
        What :meth:`zeropoint.train.Qat.tensors` returns: every activation, the input first.
    model
        The network as :meth:`zeropoint.train.Qat.export` wrote it and an importer read it.
    """
    x = next(iter(expected.values()))
    ours = model.tensor(model.input)
    computed = golden.run_tensors(model, _channels_last(x).reshape(len(x), *ours.shape).astype(ours.dtype))
    for name, wanted in expected.items():
        if name not in computed:
            raise ZeropointError(f"model '{model.name}' has no activation '{name}'; export the network again")
        got, wanted = computed[name], _channels_last(wanted)
        if got.size != wanted.size:
            raise ZeropointError(
                f"activation '{name}' of model '{model.name}' has {got.size} values, not {wanted.size}"
            )
        different = np.flatnonzero(got.reshape(-1) != wanted.reshape(-1))
        if different.size:
            first = different[0]
            raise ZeropointError(
                f"activation '{name}' of model '{model.name}' differs in {different.size} of {got.size} values; the "
                f"first is {got.reshape(-1)[first]}, not {wanted.reshape(-1)[first]}"
            )


def _channels_last(x: Array) -> Array:
    return np.moveaxis(x, 1, -1) if x.ndim > 2 else x
