"""Importing float networks from ONNX files.

:func:`read` is the way in. Its modules, in the order in which data meets them:

- ``onnx_float_arrays``: the strings and tensors of an untrusted file, checked.
- ``onnx_float_file``: the file itself: nodes in order, constants, one input and one output.
- ``onnx_float_translate``: nodes become operators one by one; ``onnx_float_constants`` evaluates those of constants.
- ``onnx_float_view``: where the elements of an ONNX tensor lie in one of ours, through reshapes and transpositions.
- ``onnx_float_layers``, ``onnx_float_shapes``, ``onnx_float_window``: what each ONNX operator becomes.
- ``onnx_float_fusion``: normalization, biases, activations and padding move into the operators beside them.
"""

from pathlib import Path

# Imported for the handlers that they register.
from zeropoint.errors import ZeropointError
from zeropoint.importers import onnx_float_layers, onnx_float_shapes  # noqa: F401
from zeropoint.importers.onnx_float_file import Graph, read_file
from zeropoint.importers.onnx_float_fusion import fuse, rename_output
from zeropoint.importers.onnx_float_translate import Translator, in_either_order
from zeropoint.model import FloatModel


def read(path: Path) -> FloatModel:
    """Return the network in a float32 ONNX file.

    Feature maps become ``(height, width, channels)``; those with one spatial dimension become ``(1, length,
    channels)``. Batch normalization, additions of constants, activations and padding are folded into the operators
    beside them, and shape arithmetic into nothing. Tensors and operators keep their ONNX names where those exist and
    are unique.

    Parameters
    ----------
    path
        The file; operator sets 7 and later. Its first dimension is the batch, of whatever size; the network is read
        as it acts on one sample. External data are read from the file's own folder only.

    Returns
    -------
    FloatModel
        Its metadata say how the file's arrays become ours and back:

        - ``source``: ``"onnx"``.
        - ``input_shape``, ``output_shape``: the file's shapes without the batch, such as ``"3,32,32"``.
        - ``input_permutation``, ``output_permutation``: such as ``"1,2,0"``, if the file's order of axes is not ours.
          With ``p`` that permutation and ``x`` an array of the file's shape ``(N, *input_shape)``, our array is
          ``x.transpose(0, 1 + p[0], 1 + p[1], …).reshape(N, *our shape)``. The reshape does something only where the
          file has two dimensions without the batch: ours gets a height of 1 before them.

    Raises
    ------
    ZeropointError
        If the file cannot be read, is inconsistent or too large, or holds what is not supported; the message names
        the file, the node or tensor, and what to do.
    """
    return read_file(path, translate)


def translate(graph: Graph, name: str) -> FloatModel:
    """Return the network of a graph as a model of this name; as :func:`read` for the rest."""
    if graph.input_type != "float32":
        raise ZeropointError(f"input '{graph.input}' must be a float32 tensor; export the network in float32")
    model = in_either_order(lambda order: Translator(graph, order).run(name))
    return rename_output(fuse(model), graph.output)
