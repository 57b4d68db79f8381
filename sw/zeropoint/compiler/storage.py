"""Compiled programs as folders: a manifest, the memory images in every format, a listing and a C header.

``manifest.json`` is JSON with sorted keys::

    {"format": "zeropoint-program", "version": 3, "instruction_format": "…",
     "name", "model_sha256", "config", "input", "output",
     "tensors": [buffer, …], "layers": [layer, …], "host_steps": [step, …],
     "images": {"program": {"width", "depth", "files": {"mem": {"file", "sha256"}, …}}, "weights": …, "parameters": …,
                "tables": …},
     "documents": {"program.h": "sha256", "program.lst": "sha256"}, "metadata": {text: text}, "sha256": "…"}

A buffer is ``{"tensor", "address", "shape", "dtype", "scale", "zero_point", "row_pitch", "column_pitch",
"minifloat", "bits"}``; layers and host steps have the fields of their classes in ``zeropoint.compiler.program``;
``input`` and ``output`` name tensors. There is an image ``tables`` only of programs that have any.
``instruction_format`` is a digest of where the instruction's fields lie. The manifest's own ``sha256`` covers all its
other entries, as JSON with sorted keys and no spaces; ``model_sha256`` is the digest of the quantized model.

The same program always gives the same bytes, and loading gives back the same program.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from zeropoint.compiler.c_header import c_header
from zeropoint.compiler.disassemble import disassemble
from zeropoint.compiler.images import FORMATS, Image, decode, encode, size_limit
from zeropoint.compiler.manifest import Record, parse
from zeropoint.compiler.program import (
    PARAMETER_WIDTH,
    Buffer,
    HostStep,
    HostTensor,
    Layer,
    Program,
    instructions_from,
    parameters_from,
    tables_from,
)
from zeropoint.errors import ZeropointError
from zeropoint.files import atomic_folder, read_bytes
from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import FIELDS, TABLE_ENTRIES

MANIFEST = "manifest.json"
FORMAT = "zeropoint-program"
#: The version that is written. It grows when an earlier Zeropoint could not read the folder, or would misread it.
VERSION = 3

_MAX_MANIFEST_BYTES = 16 << 20
#: The listing and the header; a header holds every byte of the images in some six characters.
_DOCUMENTS = ("program.h", "program.lst")
_MAX_DOCUMENT_BYTES = 1 << 28

_Contents = TypeVar("_Contents")

#: Changes when the encoding of instructions does.
_INSTRUCTION_FORMAT = hashlib.sha256(
    repr([(field.name, field.width, field.signed, field.word, field.offset) for field in FIELDS]).encode()
).hexdigest()[:16]


def save(program: Program, folder: Path) -> None:
    """Write ``program`` to ``folder``, whole or not at all; an earlier program there is replaced.

    Raises
    ------
    ZeropointError
        If the folder cannot be written, or holds files of others.
    """
    with atomic_folder(folder) as target:
        for name, data in files_of(program).items():
            (target / name).write_bytes(data)


def files_of(program: Program) -> dict[str, bytes]:
    """Return the files of which a program's folder consists, by name."""
    documents = {
        "program.lst": disassemble(program.instructions, program.layers).encode(),
        "program.h": c_header(program).encode(),
    }
    files = dict(documents)
    images: dict[str, Any] = {}
    for image in program.images:
        entries = {}
        for format in FORMATS:
            name = f"{image.name}.{format}"
            files[name] = encode(image, format)
            entries[format] = {"file": name, "sha256": _digest(files[name])}
        images[image.name] = {"width": image.width, "depth": image.depth, "files": entries}
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "instruction_format": _INSTRUCTION_FORMAT,
        "name": program.name,
        "model_sha256": program.model_sha256,
        "config": program.config.to_dict(),
        "input": program.input.tensor,
        "output": program.output.tensor,
        "tensors": [asdict(buffer) for buffer in program.tensors.values()],
        "layers": [asdict(layer) for layer in program.layers],
        "host_steps": [asdict(step) for step in program.host_steps],
        "images": images,
        "documents": {name: _digest(data) for name, data in documents.items()},
        "metadata": dict(program.metadata),
    }
    manifest["sha256"] = manifest_digest(manifest)
    files[MANIFEST] = (json.dumps(manifest, sort_keys=True, indent=2, allow_nan=False) + "\n").encode()
    return files


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a manifest's entries, its own ``sha256`` left out."""
    entries = {key: value for key, value in manifest.items() if key != "sha256"}
    return _digest(json.dumps(entries, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())


def load(folder: Path, image_format: str = "mem") -> Program:
    """Return the program in ``folder``, read from its manifest and its images in one format.

    The images in every other format, the listing and the header must be there as well, as the manifest lists them.

    Raises
    ------
    ZeropointError
        Naming the file and what is wrong with it: it is missing, damaged, of another version, or contradicts the
        manifest.
    ValueError
        If there is no such format of images.
    """
    if image_format not in FORMATS:
        raise ValueError(f"the format of an image must be one of {', '.join(FORMATS)}, not {image_format!r}")
    folder = Path(folder)
    path = folder / MANIFEST
    data = read_bytes(path, _MAX_MANIFEST_BYTES)
    try:
        return _load(folder, data, image_format)
    except (TypeError, ValueError, RecursionError) as error:
        raise ZeropointError(f"'{path}': {error}") from None


def _load(folder: Path, data: bytes, image_format: str) -> Program:
    """Return the program; what is wrong with the manifest raises ValueError or TypeError."""
    document = parse(data)
    manifest = Record(document, "the manifest")
    if manifest.take("format", object) != FORMAT:
        raise ValueError(f"it is not the manifest of a program: its format is not '{FORMAT}'")
    version = manifest.integer("version", 1)
    if version > VERSION:
        raise ValueError(
            f"it was written by a newer Zeropoint (version {version}; this one reads {VERSION}); upgrade Zeropoint"
        )
    if version < VERSION:
        raise ValueError(
            f"it was written by an earlier Zeropoint (version {version}; this one reads {VERSION}); "
            f"compile the model again"
        )
    assert isinstance(document, dict)
    if manifest.text("sha256") != manifest_digest(document):
        raise ValueError("its contents do not match its SHA-256; it was changed or damaged, compile the model again")
    if manifest.text("instruction_format") != _INSTRUCTION_FORMAT:
        raise ValueError("it was compiled for another version of the hardware; compile the model again")
    config = AcceleratorConfig.from_dict(manifest.take("config", dict))
    buffers = [_buffer(entry) for entry in manifest.records("tensors")]
    tensors = {buffer.tensor: buffer for buffer in buffers}
    if len(tensors) != len(buffers):
        raise ValueError("two of its tensors have the same name")
    ends = [manifest.text(key) for key in ("input", "output")]
    for name in ends:
        if name not in tensors:
            raise ValueError(f"tensor '{name}' is not among its tensors")
    layers = tuple(_layer(entry) for entry in manifest.records("layers"))
    host_steps = tuple(_host_step(entry) for entry in manifest.records("host_steps"))
    documents = manifest.record("documents")
    digests = {name: documents.text(name) for name in _DOCUMENTS}
    documents.end()
    for name, digest in digests.items():
        _verified(folder / name, digest, _MAX_DOCUMENT_BYTES)
    metadata = manifest.record("metadata")
    texts = {key: metadata.text(key) for key in metadata}
    entries = manifest.record("images")
    name, model = manifest.text("name"), manifest.text("model_sha256")
    manifest.end()

    def contents(image: str, width: int, most: int, meaning: Callable[[Image], _Contents]) -> _Contents:
        return _contents(folder, image, entries.record(image), image_format, width, most, meaning)

    instructions = contents("program", 32, config.program_words, instructions_from)
    weights = contents("weights", config.word_bits, config.weight_words, lambda image: image.words)
    parameters = contents(
        "parameters", PARAMETER_WIDTH, config.parameter_channels, partial(parameters_from, config=config)
    )
    tables = np.zeros((0, TABLE_ENTRIES), np.uint8)
    if config.tables and "tables" in entries:
        tables = contents("tables", 8, config.tables * TABLE_ENTRIES, tables_from)
    entries.end()
    first, last = (tensors[name] for name in ends)
    try:
        return Program(
            config,
            name,
            model,
            instructions,
            weights,
            parameters,
            tables,
            first,
            last,
            tensors,
            layers,
            host_steps,
            texts,
        )
    except ZeropointError as error:
        raise ValueError(str(error)) from None


def _contents(
    folder: Path,
    name: str,
    entry: Record,
    image_format: str,
    width: int,
    most: int,
    meaning: Callable[[Image], _Contents],
) -> _Contents:
    """Return the meaning of an image, read from its file in one format after the manifest's figures were checked."""
    entry.integer("width", width, width)
    depth = entry.integer("depth", 1, most)
    files = entry.record("files")
    entry.end()
    listed = {format: _listed(folder, name, files.record(format)) for format in FORMATS}
    files.end()
    # The one that is asked for comes last, and is kept.
    for format in sorted(FORMATS, key=image_format.__eq__):
        path, digest = listed[format]
        data = _verified(path, digest, size_limit(width, depth))
    image = decode(data, image_format, name=name, width=width, depth=depth, source=str(path))
    try:
        return meaning(image)
    except ValueError as error:
        raise ZeropointError(f"'{path}': {error}") from None


def _verified(path: Path, digest: str, limit: int) -> bytes:
    """Return the contents of a file of the folder itself, which must be those that the manifest was written for."""
    if path.is_symlink():
        raise ZeropointError(f"'{path}': it is a link; put the file itself there")
    data = read_bytes(path, limit)
    if _digest(data) != digest:
        raise ZeropointError(
            f"'{path}': its contents do not match their SHA-256 in {MANIFEST}; it was changed or damaged, "
            f"compile the model again"
        )
    return data


def _listed(folder: Path, name: str, entry: Record) -> tuple[Path, str]:
    """Return the path of an image's file, and its digest."""
    file = entry.text("file")
    digest = entry.text("sha256")
    entry.end()
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", file, re.ASCII):
        raise ValueError(f"image '{name}' names the file {file!r}, which is no plain file name")
    return folder / file, digest


def _buffer(entry: Record) -> Buffer:
    buffer = Buffer(
        entry.text("tensor"),
        entry.integer("address", 0, (1 << 20) - 1),
        entry.shape("shape"),
        entry.text("dtype"),
        entry.number("scale"),
        entry.integer("zero_point", -128, 255),
        entry.integer("row_pitch", 1, 1 << 20),
        entry.integer("column_pitch", 1, 1 << 20),
        _minifloat(entry),
        _bits(entry),
    )
    entry.end()
    return buffer


def _host_tensor(entry: Record) -> HostTensor:
    tensor = HostTensor(
        entry.text("tensor"),
        entry.shape("shape"),
        entry.text("dtype"),
        entry.number("scale"),
        entry.integer("zero_point", -128, 255),
        _minifloat(entry),
        _bits(entry),
    )
    entry.end()
    return tensor


def _minifloat(entry: Record) -> tuple[int, int] | None:
    """Return the bits of a minifloat's exponent and mantissa, or None where there is none."""
    bits = entry.take("minifloat", object)
    if bits is None:
        return None
    if not isinstance(bits, list) or len(bits) != 2 or not all(type(each) is int and 0 <= each <= 7 for each in bits):
        raise ValueError("a tensor's 'minifloat' must be null, or the bits of its exponent and of its mantissa")
    return bits[0], bits[1]


def _bits(entry: Record) -> int | None:
    """Return the bits of narrow integers, or None where they are as wide as their dtype."""
    bits = entry.take("bits", object)
    if bits is None or (type(bits) is int and 2 <= bits <= 16):
        return bits
    raise ValueError("a tensor's 'bits' must be null, or how many its integers have")


def _layer(entry: Record) -> Layer:
    layer = Layer(
        entry.text("name"),
        entry.text("op"),
        entry.text("output"),
        entry.integer("first_instruction", 0, 1 << 16),
        entry.integer("instructions", 1, 1 << 16),
        entry.integer("macs", 0),
    )
    entry.end()
    return layer


def _host_step(entry: Record) -> HostStep:
    parameters = entry.record("parameters")
    step = HostStep(
        entry.text("name"),
        entry.text("op"),
        _host_tensor(entry.record("input")),
        _host_tensor(entry.record("output")),
        {key: parameters.number(key) for key in parameters},
    )
    entry.end()
    return step


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
