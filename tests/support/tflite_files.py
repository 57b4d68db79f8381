"""TensorFlow Lite files built by hand: whatever the schema can express, valid or not.

``litert.to_tflite`` writes what a quantized model says; this writes what a file says. It needs only what the importer
itself needs.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
import tflite

from support import litert
from zeropoint.golden import run_tensors
from zeropoint.importers import tflite_model
from zeropoint.model import QuantizedModel, zp_file


@dataclass
class File:
    """Collects tensors and operators; tensors are named by their number."""

    tensors: list[dict[str, Any]] = field(default_factory=list)
    buffers: list[npt.NDArray[np.uint8]] = field(default_factory=lambda: [np.zeros(0, np.uint8)])
    operators: list[dict[str, Any]] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)

    def tensor(
        self,
        name: str | None,
        shape: tuple[int, ...],
        dtype: str = "INT8",
        scale: npt.ArrayLike = (0.1,),
        zero_point: npt.ArrayLike | None = None,
        data: npt.ArrayLike | None = None,
        **more: Any,
    ) -> int:
        """Add a tensor and return its number.

        ``more`` may hold ``axis``, ``signature``, ``buffer``, ``variable``, ``sparse`` and ``details``.
        """
        scales = np.atleast_1d(np.asarray(scale, np.float32))
        zero_points = np.zeros(len(scales)) if zero_point is None else np.atleast_1d(zero_point)
        record = {"name": name, "shape": shape, "type": getattr(tflite.TensorType, dtype), **more}
        record |= {"scale": scales, "zero_point": np.asarray(zero_points, np.int64)}
        if data is not None:
            record["buffer"] = len(self.buffers)
            kind = {"FLOAT32": np.float32, "INT64": np.int64, "INT32": np.int32}.get(dtype, np.dtype(dtype.lower()))
            self.buffers.append(np.frombuffer(np.ascontiguousarray(data, kind).tobytes(), np.uint8))
        self.tensors.append(record)
        return len(self.tensors) - 1

    def integers(self, values: npt.ArrayLike, dtype: str = "INT32") -> int:
        """Add a constant that is not quantized, such as a shape."""
        values = np.asarray(values)
        return self.tensor(f"integers_{len(self.tensors)}", values.shape, dtype, (), (), values)

    def operator(
        self, kind: str, inputs: list[int], outputs: int | list[int], options: str | None = None, **fields: Any
    ) -> None:
        """Add an operator; ``fields`` are those of its options, by the schema's names."""
        code = getattr(tflite.BuiltinOperator, kind)
        if code not in self.kinds:
            self.kinds.append(code)
        outputs = [outputs] if isinstance(outputs, int) else outputs
        record = {"code": self.kinds.index(code), "inputs": inputs, "outputs": outputs}
        self.operators.append(record | {"options": options, "fields": fields})

    def build(self, inputs: list[int], outputs: list[int], **changes: Any) -> bytes:
        """Return the file; ``changes`` may hold ``version``, ``subgraphs``, ``identifier`` and ``custom``."""
        b = flatbuffers.Builder(1 << 12)
        buffers = _offsets(b, [_table(b, "Buffer", Data=b.CreateNumpyVector(data)) for data in self.buffers])
        tensors = _offsets(b, [_tensor(b, record) for record in self.tensors])
        operators = _offsets(b, [_operator(b, record) for record in self.operators])
        graph = _table(
            b,
            "SubGraph",
            Tensors=tensors,
            Operators=operators,
            Inputs=b.CreateNumpyVector(np.asarray(inputs, np.int32)),
            Outputs=b.CreateNumpyVector(np.asarray(outputs, np.int32)),
        )
        custom = b.CreateString(changes.get("custom", "Custom"))
        codes = [
            _table(
                b, "OperatorCode", DeprecatedBuiltinCode=min(code, 127), BuiltinCode=code, Version=1, CustomCode=custom
            )
            for code in self.kinds
        ]
        root = {
            "Version": changes.get("version", 3),
            "OperatorCodes": _offsets(b, codes),
            "Subgraphs": _offsets(b, [graph] * changes.get("subgraphs", 1)),
            "Buffers": buffers,
        }
        b.Finish(_table(b, "Model", **root), changes.get("identifier", b"TFL3"))
        return bytes(b.Output())


def _table(b: flatbuffers.Builder, table: str, **fields: Any) -> int:
    """Write a table whose fields are numbers, or offsets of what was written before."""
    getattr(tflite, f"{table}Start")(b)
    for name, value in fields.items():
        if value is not None:
            getattr(tflite, f"{table}Add{name}")(b, value)
    return int(getattr(tflite, f"{table}End")(b))


def _offsets(b: flatbuffers.Builder, offsets: list[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return int(b.EndVector())


def _tensor(b: flatbuffers.Builder, record: dict[str, Any]) -> int:
    quantization = None
    if len(record["scale"]) or len(record["zero_point"]):
        scale, zero_point = (b.CreateNumpyVector(record[key]) for key in ("scale", "zero_point"))
        quantization = _table(
            b,
            "QuantizationParameters",
            Scale=scale,
            ZeroPoint=zero_point,
            QuantizedDimension=record.get("axis", 0),
            DetailsType=record.get("details"),
        )
    name = None if record["name"] is None else b.CreateString(record["name"])
    signature = record.get("signature")
    return _table(
        b,
        "Tensor",
        Name=name,
        Shape=b.CreateNumpyVector(np.asarray(record["shape"], np.int32)),
        ShapeSignature=None if signature is None else b.CreateNumpyVector(np.asarray(signature, np.int32)),
        Type=record["type"],
        Buffer=record.get("buffer", 0),
        Quantization=quantization,
        IsVariable=record.get("variable", False),
        Sparsity=_table(b, "SparsityParameters") if record.get("sparse") else None,
    )


def _operator(b: flatbuffers.Builder, record: dict[str, Any]) -> int:
    options = kind = None
    if record["options"] is not None:
        kind = getattr(tflite.BuiltinOptions, record["options"])
        fields = {
            name: b.CreateNumpyVector(value) if isinstance(value, np.ndarray) else value
            for name, value in record["fields"].items()
        }
        options = _table(b, record["options"], **fields)
    return _table(
        b,
        "Operator",
        OpcodeIndex=record["code"],
        Inputs=b.CreateNumpyVector(np.asarray(record["inputs"], np.int32)),
        Outputs=b.CreateNumpyVector(np.asarray(record["outputs"], np.int32)),
        BuiltinOptionsType=kind,
        BuiltinOptions=options,
    )


def oracle(content: bytes, x: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """Return every tensor by name as the reference kernels compute it, for each of a batch ``x`` on its own."""
    interpreter = litert.interpreter_for(content)
    source = interpreter.get_input_details()[0]
    found: dict[str, list[Any]] = {}
    for sample in x:
        interpreter.set_tensor(source["index"], sample.reshape(source["shape"]))
        interpreter.invoke()
        for detail in interpreter.get_tensor_details():
            # Those without a name are the kernels' own scratch; those that nothing uses have no data.
            if detail["name"]:
                with suppress(ValueError):
                    found.setdefault(detail["name"], []).append(interpreter.get_tensor(detail["index"]))
    return {name: np.stack(values) for name, values in found.items() if values}


def assert_same_as_oracle(model: QuantizedModel, content: bytes, x: npt.NDArray[Any], source: Any = None) -> None:
    """Compare every tensor of a model that was read from a file with the oracle's.

    ``source`` is what the file takes where the model takes ``x``, if that is something else.
    """
    expected = oracle(content, x if source is None else source)
    assert model.output in expected
    for name, values in run_tensors(model, x).items():
        if name not in expected:
            # Only what the importer puts between an operator's own shape and the file's.
            assert "." in name, f"{name} is not in the file"
            continue
        assert values.dtype == expected[name].dtype, name
        np.testing.assert_array_equal(values, expected[name].reshape(values.shape), name)


def read(content: bytes, folder: Path) -> QuantizedModel:
    """Return the model that the importer makes of a file."""
    path = folder / "model.tflite"
    path.write_bytes(content)
    return tflite_model.read(path)


SAME, VALID = tflite.Padding.SAME, tflite.Padding.VALID
NONE, RELU, RELU6 = (getattr(tflite.ActivationFunctionType, name) for name in ("NONE", "RELU", "RELU6"))


def everything(shape: tuple[int, ...], dtype: str = "int8", count: int = 4, seed: int = 0) -> npt.NDArray[Any]:
    """Return inputs: a ramp through all bytes, the extremes, random ones."""
    info = np.iinfo(dtype)
    rng = np.random.default_rng(seed)
    x = rng.integers(info.min, info.max + 1, (count, *shape))
    x[0] = np.arange(np.prod(shape)).reshape(shape) % 256 + info.min
    x[1] = rng.choice([info.min, info.max], shape)
    return x.astype(dtype)


def check(
    file: File, source: int, output: int, folder: Path, dtype: str = "int8", x: npt.NDArray[Any] | None = None
) -> QuantizedModel:
    """Import a file, compare every tensor with the oracle's, and return the model."""
    content = file.build([source], [output])
    model = read(content, folder)
    assert_same_as_oracle(model, content, everything(model.tensor(model.input).shape, dtype) if x is None else x)
    assert zp_file.loads(zp_file.dumps(model)).operators == model.operators
    return model


def kinds(model: QuantizedModel) -> list[str]:
    return [operator.kind for operator in model.operators]
