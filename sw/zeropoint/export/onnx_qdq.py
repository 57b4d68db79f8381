"""Writing a quantized network as an ONNX file of float operators between DequantizeLinear and QuantizeLinear."""

from pathlib import Path
from typing import Any

from onnx import TensorProto, helper

from zeropoint import __version__
from zeropoint.errors import ZeropointError
from zeropoint.export.onnx_operators import write_operator
from zeropoint.export.onnx_writer import Writer, channels_first
from zeropoint.files import atomic_write
from zeropoint.importers import layout
from zeropoint.importers.onnx_quantized import PREFIX
from zeropoint.model import QuantizedModel, Shape

#: The version of ONNX's operators, and of the file format: those of 2022, which tools of today read.
OPSET = 17
IR_VERSION = 8

#: Protocol Buffers' own limit.
MAX_FILE_BYTES = (2 << 30) - 1

#: What metadata say about the file that a model came from.
_OF_SOURCE = ("source", "input_shape", "input_permutation", "output_shape", "output_permutation")


def write(model: QuantizedModel, path: Path) -> None:
    """Write what :func:`convert` returns to a file, whole or not at all; the same bytes for the same model.

    Raises
    ------
    ZeropointError
        As :func:`convert`; if the file would be longer than 2 GiB, or cannot be written.
    """
    atomic_write(path, serialize(convert(model)))


def serialize(model: Any) -> bytes:
    """Return the bytes of an ``onnx.ModelProto``."""
    size = model.ByteSize()
    if size > MAX_FILE_BYTES:
        raise ZeropointError(f"model '{model.graph.name}' would have {size} bytes as ONNX; {MAX_FILE_BYTES} at most")
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def convert(model: QuantizedModel) -> Any:
    """Return a quantized network as an ``onnx.ModelProto``.

    Input and output are float32, with an open batch first; feature maps have their channels first. But where the model
    came from an ONNX file, input and output are laid out as in that file. An activation ``t`` is the float tensor
    ``t``, which becomes the integers ``t.quantized`` and the float tensor ``t.dequantized``; what only changes its
    scale gives the integers ``t``. The last tensor has the name of the output. Weights and biases are integers before
    a DequantizeLinear.

    ``zeropoint.importers.onnx_quantized`` reads it back as a model with the same outputs, bit for bit, whose operators
    keep their names and are the same, but that

    - Reshapes stand where an operator needs the other shape, and Requantizes and pools that change nothing nowhere;
    - a Conv2D of as many groups as channels is a DepthwiseConv2D, and a DepthwiseConv2D of one channel a Conv2D;
    - an input or output of two dimensions has a height of 1 before them.

    The file's metadata are the model's under ``"zeropoint."``, without what they say about its source, and
    ``"zeropoint.rounding"``.

    Raises
    ------
    ZeropointError
        If an operator cannot be exported, or the scales of input and weights of a layer have a product that float32
        does not hold.
    """
    return convert_named(model)[0]


def convert_named(model: QuantizedModel) -> tuple[Any, dict[str, str]]:
    """Return what :func:`convert` does, and the name in it of the integers of each activation.

    The input's are laid out as the input, the others with channels first.
    """
    writer = Writer(model)
    source, permutation = file_layout(model, "input")
    writer.add_input(source, permutation)
    for operator in model.operators:
        write_operator(writer, operator)
    target, permutation = file_layout(model, "output")
    output = writer.add_output(target, permutation)
    graph = helper.make_graph(
        writer.nodes,
        model.name or "network",
        [helper.make_tensor_value_info(model.input, TensorProto.FLOAT, ["N", *source])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", *target])],
        list(writer.constants.values()),
    )
    made = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="zeropoint",
        producer_version=__version__,
    )
    notes = {key: value for key, value in sorted(model.metadata.items()) if key not in _OF_SOURCE}
    notes["rounding"] = model.rounding.value
    helper.set_model_props(made, {PREFIX + key: value for key, value in notes.items()})
    return made, writer.integers


def file_layout(model: QuantizedModel, which: str) -> tuple[Shape, Shape]:
    """Return the shape without batch that ``"input"`` or ``"output"`` has in the file, and the permutation to ours.

    They are as ``zeropoint.importers.layout`` has them for models from ONNX files.
    """
    ours = model.tensor(getattr(model, which)).shape
    if len(ours) == 3 and model.metadata.get("source") != "onnx":
        return channels_first(ours), (1, 2, 0)
    return layout.file_layout(model, which)
