"""Importing quantized networks from TensorFlow Lite files.

:func:`read` is the way in. Its modules, in the order in which data meets them:

- ``tflite_file``: an untrusted file, checked: operators in order, tensors, one input and one output;
  ``tflite_options`` says which options of an operator matter.
- ``tflite_translate``: operators become ours one by one.
- ``tflite_layers``, ``tflite_elementwise``, ``tflite_movement``, ``tflite_shapes``: what each operator becomes.
"""

from pathlib import Path

# Imported for the handlers that they register.
from zeropoint.errors import ZeropointError
from zeropoint.files import read_bytes
from zeropoint.importers import tflite_elementwise, tflite_layers, tflite_movement, tflite_shapes  # noqa: F401
from zeropoint.importers.tflite_file import MAX_FILE_BYTES, read_graph
from zeropoint.importers.tflite_translate import Translator
from zeropoint.model import QuantizedModel


def read(path: Path) -> QuantizedModel:
    """Return the network in an int8 or uint8 ``.tflite`` file.

    Activations keep the file's names, made unique; their shapes lose the leading batch of 1. Operators are named by
    their kind and their place in the file, as ``conv_2d_3``. A ``RESHAPE`` stands wherever the file's shape of a
    tensor is not the one that the operator gives by itself, such as after ``MEAN`` with kept dimensions.

    Parameters
    ----------
    path
        The file: one subgraph with one input and one output.

    Returns
    -------
    QuantizedModel
        Its metadata:

        - ``source``: ``"tflite"``.
        - ``float_input``, ``float_output``: the names of the file's own input and output, where these are float32
          tensors that a first QUANTIZE reads or a last DEQUANTIZE writes. Both operators are left out: the model
          begins and ends with their integers.

    Raises
    ------
    ZeropointError
        If the file cannot be read, is damaged or too large, or holds what is not supported; the message names the
        file, the operator and its tensor, and what to do.
    """
    path = Path(path)
    data = read_bytes(path, MAX_FILE_BYTES)
    try:
        return Translator(read_graph(data)).run(path.stem)
    except ZeropointError as error:
        raise ZeropointError(f"'{path}': {error}") from None
