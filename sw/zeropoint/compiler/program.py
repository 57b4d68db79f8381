"""A compiled program: everything that the accelerator, a simulator or a driver needs to run a network."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite, prod
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from zeropoint.compiler.capacity import check_fits
from zeropoint.compiler.images import Image
from zeropoint.model.formats import verify_format
from zeropoint.numerics.minifloat import MinifloatFormat
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import TABLE_ENTRIES, Instruction
from zeropoint_hw.protocol import HASH_BYTES

#: Bits of a parameter word: bias in bits 31 … 0, multiplier in 62 … 32, shift in 71 … 64.
PARAMETER_WIDTH = 72

_DTYPES = ("int8", "uint8", "int16")


@dataclass(frozen=True)
class HostTensor:
    """A quantized tensor as the host sees it: ``real = scale · (q − zero_point)``.

    Attributes
    ----------
    tensor
        Its name in the model.
    shape
        Without the batch dimension.
    dtype
        ``"int8"`` or ``"uint8"``.
    scale, zero_point
        Of the whole tensor.
    minifloat
        Of minifloats, the bits of the exponent and of the mantissa: ``q`` stands for as many units as
        ``zeropoint.model.formats`` says. None for integers.
    bits
        Of integers narrower than ``dtype``, how wide they are; None for others.

    Raises
    ------
    ValueError
        If an entry is out of range.
    """

    tensor: str
    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int
    minifloat: tuple[int, int] | None = None
    bits: int | None = None

    def __post_init__(self) -> None:
        _check_tensor(self)


@dataclass(frozen=True)
class Buffer:
    """A tensor in the activation memory: its bytes in NHWC order from ``address`` on. Otherwise as HostTensor.

    Attributes
    ----------
    row_pitch
        Bytes from one row of a feature map to the next. 0, the default, stands for rows without gaps, and becomes what
        that is; a tensor that is no feature map has one row.
    column_pitch
        Bytes from one pixel of a row to the next; 0, the default, stands for pixels without gaps.
    """

    tensor: str
    address: int
    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int
    row_pitch: int = 0
    column_pitch: int = 0
    minifloat: tuple[int, int] | None = None
    bits: int | None = None

    def __post_init__(self) -> None:
        _check_tensor(self)
        if self.address < 0:
            raise ValueError(f"tensor '{self.tensor}' must have an address of at least 0, not {self.address}")
        if self.column_pitch == 0:
            object.__setattr__(self, "column_pitch", self._pixel_bytes)
        if self.column_pitch < self._pixel_bytes or (self._columns == 1 and self.column_pitch != self._pixel_bytes):
            raise ValueError(
                f"tensor '{self.tensor}' has pixels of {self._pixel_bytes} bytes, "
                f"which column_pitch = {self.column_pitch} contradicts"
            )
        if self.row_pitch == 0:
            object.__setattr__(self, "row_pitch", self.row_bytes)
        if self.row_pitch < self.row_bytes or (self.rows == 1 and self.row_pitch != self.row_bytes):
            raise ValueError(
                f"tensor '{self.tensor}' has rows of {self.row_bytes} bytes, "
                f"which row_pitch = {self.row_pitch} contradicts"
            )

    @property
    def rows(self) -> int:
        """Rows of a feature map; 1 for a tensor that is none."""
        return self.shape[0] if len(self.shape) == 3 else 1

    @property
    def row_bytes(self) -> int:
        """Bytes of a row, without the gap after it."""
        return (self._columns - 1) * self.column_pitch + self._pixel_bytes

    @property
    def _columns(self) -> int:
        return self.shape[1] if len(self.shape) == 3 else 1

    @property
    def _pixel_bytes(self) -> int:
        return prod(self.shape) // self.rows // self._columns

    @property
    def size(self) -> int:
        """Bytes from the first to the last."""
        return (self.rows - 1) * self.row_pitch + self.row_bytes

    def to_memory(self, values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Return the bytes that hold ``values``, of the buffer's shape and dtype; gaps are 0."""
        memory = np.zeros(self.size, self._element)
        pixels = self._pixels(memory)
        pixels[...] = np.asarray(values).astype(self._element).reshape(pixels.shape)
        return memory.view(np.uint8)

    def from_memory(self, memory: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Return the values that such bytes hold, in the buffer's shape and dtype."""
        pixels = self._pixels(np.array(memory, np.uint8).view(self._element).reshape(self.size))
        return np.ascontiguousarray(pixels).astype(self.dtype).reshape(self.shape)

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory from the first activation to the last."""
        return self.size * self._element.itemsize

    @property
    def _element(self) -> np.dtype[Any]:
        return np.dtype(self.dtype).newbyteorder("<")

    def _pixels(self, memory: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a view of ``size`` elements, of which none lies outside, as rows of pixels of elements."""
        shape = self.rows, self._columns, self._pixel_bytes
        strides = tuple(memory.itemsize * pitch for pitch in (self.row_pitch, self.column_pitch, 1))
        return as_strided(memory, shape, strides)


def _check_tensor(tensor: HostTensor | Buffer) -> None:
    _check_name(tensor.tensor, "tensor")
    object.__setattr__(tensor, "shape", tuple(int(size) for size in tensor.shape))
    object.__setattr__(tensor, "scale", float(tensor.scale))
    object.__setattr__(tensor, "zero_point", int(tensor.zero_point))
    if not all(size > 0 for size in tensor.shape):
        raise ValueError(f"tensor '{tensor.tensor}' must have positive sizes, not {tensor.shape}")
    if tensor.dtype not in _DTYPES:
        raise ValueError(f"tensor '{tensor.tensor}' must be int8, uint8 or int16, not {tensor.dtype!r}")
    if not (isfinite(tensor.scale) and tensor.scale > 0):
        raise ValueError(f"tensor '{tensor.tensor}' must have a finite positive scale, not {tensor.scale}")
    if tensor.minifloat is not None:
        object.__setattr__(tensor, "minifloat", tuple(tensor.minifloat))
        verify_format(MinifloatFormat(*tensor.minifloat), tensor.dtype, f"tensor '{tensor.tensor}'")
    limits = np.iinfo(tensor.dtype)
    if tensor.bits is not None and not (2 <= tensor.bits <= limits.bits and limits.min and not tensor.minifloat):
        raise ValueError(f"tensor '{tensor.tensor}' cannot have {tensor.bits} bits, being {tensor.dtype}")
    if not limits.min <= tensor.zero_point <= limits.max:
        raise ValueError(f"tensor '{tensor.tensor}' has the zero point {tensor.zero_point}, which is no {tensor.dtype}")


@dataclass(frozen=True)
class Layer:
    """An operator that the hardware runs.

    Attributes
    ----------
    name, op
        The operator's name and kind in the model.
    output
        The tensor that it writes.
    first_instruction, instructions
        Which instructions compute it.
    macs
        Multiply-accumulates of one inference, as the model counts them.
    """

    name: str
    op: str
    output: str
    first_instruction: int
    instructions: int
    macs: int

    def __post_init__(self) -> None:
        for text, what in ((self.name, "layer"), (self.op, "operator kind"), (self.output, "tensor")):
            _check_name(text, what)
        for number in ("first_instruction", "instructions", "macs"):
            object.__setattr__(self, number, int(getattr(self, number)))
        if min(self.first_instruction, self.instructions, self.macs) < 0:
            raise ValueError(f"layer '{self.name}' has a negative entry")


@dataclass(frozen=True)
class HostStep:
    """An operator that is left to the host after the hardware's output.

    Attributes
    ----------
    name, op
        The operator's name and kind in the model.
    input, output
        What it reads and what it gives.
    parameters
        What else the operator has, such as ``{"beta": 1.0}``.
    """

    name: str
    op: str
    input: HostTensor
    output: HostTensor
    parameters: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for text, what in ((self.name, "host step"), (self.op, "operator kind")):
            _check_name(text, what)
        object.__setattr__(self, "parameters", {key: float(value) for key, value in self.parameters.items()})
        for key, value in self.parameters.items():
            _check_name(key, "parameter")
            if not isfinite(value):
                raise ValueError(f"host step '{self.name}': {key} must be finite, not {value}")


@dataclass(frozen=True, eq=False)
class Parameters:
    """Requantization, an entry for each channel slot of the parameter memory.

    Attributes
    ----------
    bias
        int32 array.
    multiplier
        uint32 array, below 2^31: Q0.31.
    shift
        int8 array; to the left where positive.
    shifts
        What a shift may be.
    """

    bias: npt.NDArray[np.int32]
    multiplier: npt.NDArray[np.uint32]
    shift: npt.NDArray[np.int8]
    shifts: range = range(-31, 31)

    def __post_init__(self) -> None:
        for name, dtype in (("bias", np.int32), ("multiplier", np.uint32), ("shift", np.int8)):
            object.__setattr__(self, name, _frozen_array(getattr(self, name), name, dtype, 1))
        if not len(self.bias) == len(self.multiplier) == len(self.shift):
            raise ValueError(f"parameters have {len(self.bias)}, {len(self.multiplier)} and {len(self.shift)} entries")
        if np.any(self.multiplier >= 1 << 31):
            raise ValueError("a multiplier must be below 2^31")
        low, high = self.shifts[0], self.shifts[-1]
        if np.any((self.shift < low) | (self.shift > high)):
            raise ValueError(f"a shift must be {low} to {high}")

    def __len__(self) -> int:
        """Channel slots."""
        return len(self.bias)


@dataclass(frozen=True, eq=False)
class Program:
    """A network, compiled for a configuration.

    Attributes
    ----------
    config
        What it was compiled for.
    name
        The model's name.
    model_sha256
        The model's digest, as :func:`zeropoint.model.zp_file.digest` makes it.
    instructions
        The layer program, as the hardware decodes it.
    weights
        uint8 array ``[words used, ceil(config.word_bits / 8)]``: words of weights side by side, the least significant
        first; that of number ``column · lanes + lane`` belongs to that processing element.
    parameters
        A multiple of ``config.requantizers`` entries.
    tables
        uint8 array ``[tables used, 256]``: what becomes of each byte.
    input, output
        Where the host writes the input and reads the output, on which ``host_steps`` follow.
    tensors
        Every activation tensor by name: its place in the activation memory while it lives.
    layers
        What the instructions compute, in order.
    host_steps
        What the host computes from ``output``, in order.
    metadata
        Free text by key.

    Raises
    ------
    ZeropointError
        If it is too large for the memories of ``config``.
    TypeError, ValueError
        If the entries contradict each other.
    """

    config: AcceleratorConfig
    name: str
    model_sha256: str
    instructions: tuple[Instruction, ...]
    weights: npt.NDArray[np.uint8]
    parameters: Parameters
    tables: npt.NDArray[np.uint8]
    input: Buffer
    output: Buffer
    tensors: Mapping[str, Buffer]
    layers: tuple[Layer, ...]
    host_steps: tuple[HostStep, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_name(self.name, "program")
        if not re.fullmatch("[0-9a-f]{64}", self.model_sha256):
            raise ValueError(f"program '{self.name}': a model's SHA-256 has 64 hexadecimal digits")
        # Addresses and steps that were given negative become what they are modulo their width.
        decoded = tuple(Instruction.decode(instruction.encode()) for instruction in self.instructions)
        object.__setattr__(self, "instructions", decoded)
        object.__setattr__(self, "weights", _frozen_array(self.weights, "weights", np.uint8, 2))
        if self.weights.shape[1] != (size := -(-self.config.word_bits // 8)):
            raise ValueError(
                f"weight words of {self.config.word_bits} bits must have {size} bytes, not {self.weights.shape[1]}"
            )
        object.__setattr__(self, "tables", _frozen_array(self.tables, "tables", np.uint8, 2))
        if self.tables.shape[1] != TABLE_ENTRIES:
            raise ValueError(f"a table must have {TABLE_ENTRIES} entries, not {self.tables.shape[1]}")
        if len(self.parameters) % self.config.requantizers:
            raise ValueError(
                f"{len(self.parameters)} channels of parameters are no multiple of the "
                f"{self.config.requantizers} requantizers"
            )
        if not (self.instructions and len(self.weights) and len(self.parameters)):
            raise ValueError("a program needs an instruction, a weight word and a parameter")
        self._check_fits()
        for name, buffer in self.tensors.items():
            if buffer.tensor != name:
                raise ValueError(f"tensor '{name}' has the buffer of '{buffer.tensor}'")
        for buffer in (self.input, self.output):
            if self.tensors.get(buffer.tensor) != buffer:
                raise ValueError(f"tensor '{buffer.tensor}' is not among the program's tensors with the same buffer")
        for layer in self.layers:
            if layer.output not in self.tensors:
                raise ValueError(f"layer '{layer.name}' writes '{layer.output}', which is not among the tensors")
            if layer.first_instruction + layer.instructions > len(self.instructions):
                raise ValueError(f"layer '{layer.name}' has instructions beyond the last")

    def _check_fits(self) -> None:
        check_fits(self.name, self.config, "program_words", len(self.instructions) * Instruction.WORDS)
        check_fits(self.name, self.config, "weight_bytes", self.weight_bytes)
        check_fits(self.name, self.config, "parameter_channels", len(self.parameters))
        check_fits(self.name, self.config, "tables", len(self.tables))
        for buffer in self.tensors.values():
            end = (buffer.address + buffer.size) * self.config.element_bytes
            check_fits(self.name, self.config, "activation_bytes", end, f"where tensor '{buffer.tensor}' ends")

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference, over all layers."""
        return sum(layer.macs for layer in self.layers)

    @property
    def weight_bytes(self) -> int:
        """Bytes of weight memory that the weights take."""
        return -(-len(self.weights) * self.config.stored_bits // 8)

    @property
    def images(self) -> tuple[Image, ...]:
        """The memories' contents: ``program``, ``weights``, ``parameters``, and ``tables`` if there are any.

        ``program`` has 32-bit words, ``weights`` words of ``config.word_bits`` bits, ``parameters`` a word of
        ``PARAMETER_WIDTH`` bits a channel: bias in bits 31 … 0, multiplier in 62 … 32, shift (two's complement) in
        71 … 64. ``tables`` has a byte a word, ``TABLE_ENTRIES`` for each table.
        """
        words = np.array([instruction.encode() for instruction in self.instructions], "<u4")
        parameters = np.hstack(
            [
                self.parameters.bias.astype("<i4")[:, None].view(np.uint8),
                self.parameters.multiplier.astype("<u4")[:, None].view(np.uint8),
                self.parameters.shift[:, None].view(np.uint8),
            ]
        )
        return (
            Image("program", 32, words.reshape(-1, 1).view(np.uint8)),
            Image("weights", self.config.word_bits, self.weights),
            Image("parameters", PARAMETER_WIDTH, parameters),
            *([Image("tables", 8, self.tables.reshape(-1, 1))] if len(self.tables) else []),
        )


def instructions_from(image: Image) -> tuple[Instruction, ...]:
    """Return the instructions of which ``Program.images`` made ``image``.

    Raises
    ------
    ValueError
        If its words do not encode whole instructions, each in the one way that ``Instruction.encode`` does.
    """
    words = np.ascontiguousarray(image.words).view("<u4").reshape(-1)
    if len(words) % Instruction.WORDS:
        raise ValueError(f"{len(words)} words are no multiple of the {Instruction.WORDS} words of an instruction")
    found = []
    for index, row in enumerate(words.reshape(-1, Instruction.WORDS).tolist()):
        try:
            instruction = Instruction.decode(row)
        except ValueError as error:
            raise ValueError(f"instruction {index}: {error}") from None
        if instruction.encode() != row:
            raise ValueError(f"instruction {index} has bits set that belong to no field")
        found.append(instruction)
    return tuple(found)


def parameters_from(image: Image, config: AcceleratorConfig) -> Parameters:
    """Return the parameters of which ``Program.images`` made ``image``, for a configuration.

    Raises
    ------
    ValueError
        If a multiplier or shift is out of range.
    """
    columns = [np.ascontiguousarray(part) for part in np.split(image.words, [4, 8], axis=1)]
    return Parameters(
        columns[0].view("<i4").reshape(-1).astype(np.int32),
        columns[1].view("<u4").reshape(-1).astype(np.uint32),
        columns[2].view(np.int8).reshape(-1),
        config.shifts,
    )


def _frozen_array(array: object, name: str, dtype: Any, dimensions: int) -> npt.NDArray[Any]:
    """Return a read-only copy of ``array`` if it is of that type and number of dimensions."""
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != dimensions:
        raise TypeError(f"{name} must be an array of {np.dtype(dtype)} with {dimensions} dimensions")
    array = array.copy(order="C")
    array.setflags(write=False)
    return array


def _check_name(name: str, what: str) -> None:
    if not isinstance(name, str) or not name.isprintable():
        raise ValueError(f"the name of a {what} must be printable, not {name!r}")


def tables_from(image: Image) -> npt.NDArray[np.uint8]:
    """Return the tables of which ``Program.images`` made ``image``.

    Raises
    ------
    ValueError
        If they are not whole.
    """
    if len(image.words) % TABLE_ENTRIES:
        raise ValueError(f"{len(image.words)} entries are no whole tables of {TABLE_ENTRIES}")
    return image.words.reshape(-1, TABLE_ENTRIES)


def program_hash(program: Program) -> bytes:
    """Return what tells programs apart once they are loaded: the start of the SHA-256 of all memory images."""
    digest = hashlib.sha256()
    for image in program.images:
        digest.update(f"{image.name} {image.width} {image.depth}\n".encode())
        digest.update(np.ascontiguousarray(image.words).tobytes())
    return digest.digest()[:HASH_BYTES]
