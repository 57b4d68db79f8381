"""ONNX files by ``torch.onnx.export``, without what is of the machine that made them."""

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

#: The version of ONNX's operators.
OPSET = 18


def export_onnx(network: nn.Module, shape: Sequence[int], input_name: str, output_name: str) -> Any:
    """Return ``network``, in evaluation, as an ``onnx.ModelProto`` with a free batch size.

    The exporter notes, at every node, the source lines that made it, with their paths; ``strip_notes`` drops them.

    Parameters
    ----------
    network
        Of one input and one output, float32.
    shape
        Of the input, without the batch.
    input_name, output_name
        Of the file's input and output.
    """
    # The exporter warns that torchvision, not used here, is missing, and that PyTorch uses names of its past.
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            program = torch.onnx.export(
                network,
                # torch.export takes a batch size of 1 for a constant, hence the 2.
                (torch.zeros(2, *shape),),
                input_names=[input_name],
                output_names=[output_name],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    return program.model_proto


def strip_notes(message: Any) -> None:
    """Clear the documentation and metadata of an ONNX message and of all messages in it."""
    for field, value in message.ListFields():
        if field.name in ("doc_string", "metadata_props"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            # Repeated fields are iterable; a single message is not.
            for part in value if hasattr(value, "__len__") else [value]:
                strip_notes(part)
