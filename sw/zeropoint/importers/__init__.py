"""Networks from files: what other tools have trained or quantized becomes a model.

Modules:

- ``onnx_model``: networks from ONNX files, whichever of the next two they hold.
- ``onnx_float``: float networks from ONNX files; ``onnx_float_*`` are its parts.
- ``onnx_quantized``: quantized networks from ONNX files; ``onnx_quantized_*`` are its parts beside those.
- ``tflite_model``: quantized networks from TensorFlow Lite files; ``tflite_*`` are its parts.
"""

from pathlib import Path

from zeropoint.errors import ZeropointError
from zeropoint.model import FloatModel, QuantizedModel


def load(path: Path) -> FloatModel | QuantizedModel:
    """Return the model in a file.

    Its name's suffix tells what it is: ``.onnx`` (float or quantized, as its operators say), ``.tflite`` or ``.zp``
    (quantized).

    Raises
    ------
    ZeropointError
        If there is no such file, its suffix is another, or it does not hold what its suffix says.
    """
    # Imported here: onnx takes a second to import, which users of .zp files need not wait for.
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        from zeropoint.importers import onnx_model

        return onnx_model.read(path)
    if suffix == ".tflite":
        from zeropoint.importers import tflite_model

        return tflite_model.read(path)
    if suffix == ".zp":
        from zeropoint.model import zp_file

        return zp_file.load(path)
    raise ZeropointError(
        f"cannot tell what '{path}' is: name a .onnx file (float or quantized), a .tflite file or a .zp file"
    )
