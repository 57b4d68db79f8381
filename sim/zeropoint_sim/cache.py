"""Built simulators, kept on disk by the digest of what they were built from."""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import platformdirs

from zeropoint.errors import ZeropointError
from zeropoint.files import atomic_write

#: Entries of a kind that a folder keeps, unless said otherwise.
ENTRIES = 64


def cache_folder(kind: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of one kind of simulators: in ``$ZEROPOINT_CACHE``, or else in the user's cache folder."""
    named = environment.get("ZEROPOINT_CACHE")
    return (Path(named) if named else platformdirs.user_cache_path("zeropoint")) / kind


def usable_cache_folder(kind: str, engine: str) -> Path:
    """Return that folder, which is made if it is not there.

    Raises
    ------
    ZeropointError
        If no file can be written there; the message says what to do.
    """
    folder = cache_folder(kind)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ZeropointError(
            f"engine {engine} keeps compiled simulators in '{folder}', which cannot be used: {error.strerror}; set "
            f"ZEROPOINT_CACHE to a folder that can be written, or use engine amaranth"
        ) from error
    return folder


def digest(*parts: str | bytes) -> str:
    """Return the name of what is built from ``parts``."""
    total = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode()
        total.update(f"{len(data)}\n".encode() + data)
    return total.hexdigest()


def is_whole(entry: Path) -> bool:
    """Return whether a cache entry is there and undamaged: it ends with the digest of what is before that.

    A program loader ignores what follows an ELF file's sections.
    """
    return fetch(entry) is not None


def fetch(entry: Path) -> bytes | None:
    """Return the contents of a cache entry, or None if it is not there or damaged."""
    try:
        data = entry.read_bytes()
    except OSError:
        return None
    return data[:-32] if hashlib.sha256(data[:-32]).digest() == data[-32:] else None


def touch(entry: Path) -> None:
    """Note that an entry was used."""
    # Others may share a cache that only its owner can write.
    with suppress(OSError):
        os.utime(entry)


def store(entry: Path, data: bytes, entries: int | None = None) -> None:
    """Write a cache entry, and remove the least recently used ones of its folder and suffix beyond ``entries``.

    Others may be doing the same.
    """
    atomic_write(entry, data + hashlib.sha256(data).digest())
    dated = []
    for other in entry.parent.glob(f"*{entry.suffix}"):
        try:
            dated.append((other.stat().st_mtime, other))
        except OSError:
            continue
    for _, other in sorted(dated)[: -(entries or ENTRIES)]:
        other.unlink(missing_ok=True)
