"""Fashion-MNIST: its files found, fetched, checked and read.

The data set is four gzip-compressed IDX files. Debian's package ``dataset-fashion-mnist`` installs them;
elsewhere :func:`download` fetches them. The two differ in their gzip headers, so the checksums here are of
what the files hold once decompressed; that is the same.
"""

import hashlib
import http.client
import math
import urllib.request
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import platformdirs

from zeropoint.errors import ZeropointError
from zeropoint.files import atomic_write, read_bytes

Split = Literal["train", "test"]
Bytes = npt.NDArray[np.uint8]

#: Where the authors of the data set publish it.
SOURCE = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
#: Where Debian's package dataset-fashion-mnist puts it.
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
#: Where :func:`download` puts it unless told otherwise.
CACHE_FOLDER = platformdirs.user_cache_path("zeropoint") / "fashion-mnist"

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

# The longest of the four is 26 MB; the limit only keeps a wrong file from filling the memory.
_COMPRESSED_LIMIT = 64 * 2**20
_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class _File:
    """One file of the data set, and the SHA-256 of its decompressed content."""

    name: str
    shape: tuple[int, ...]
    sha256: str

    @property
    def size(self) -> int:
        """The decompressed size: two zero bytes, type, rank, one 32-bit word a dimension, the elements."""
        return 4 + 4 * len(self.shape) + math.prod(self.shape)


_FILES: dict[Split, tuple[_File, _File]] = {
    "train": (
        _File(
            "train-images-idx3-ubyte.gz",
            (60000, 28, 28),
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        _File(
            "train-labels-idx1-ubyte.gz",
            (60000,),
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
    ),
    "test": (
        _File(
            "t10k-images-idx3-ubyte.gz",
            (10000, 28, 28),
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        _File(
            "t10k-labels-idx1-ubyte.gz",
            (10000,),
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
}


def load(split: Split, folder: Path | None = None) -> tuple[Bytes, Bytes]:
    """Return the images, uint8 [N, 28, 28], and the labels, uint8 [N], of one split.

    Parameters
    ----------
    split
        "train" (60,000 images) or "test" (10,000 images).
    folder
        Where the files are; None looks in Debian's folder, then in the cache folder of :func:`download`.

    Raises
    ------
    ZeropointError
        If the files are absent or unreadable, or do not hold what the data set's authors published.
    """
    folder = find(folder, split)
    images, labels = (_read(folder / file.name, file) for file in _FILES[split])
    return images, labels


def available(folder: Path | None = None) -> bool:
    """Return whether the files of both splits are there; :func:`load` would look in the same folders."""
    try:
        find(folder)
    except ZeropointError:
        return False
    return True


def find(folder: Path | None = None, split: Split | None = None) -> Path:
    """Return the folder that holds the files of ``split``, or of both splits.

    Raises
    ------
    ZeropointError
        If a file is missing from ``folder``, or, for None, from each folder that is searched.
    """
    if split is not None and split not in _FILES:
        raise ZeropointError(f"there is no split '{split}' of Fashion-MNIST; say 'train' or 'test'")
    files = _FILES[split] if split else (*_FILES["train"], *_FILES["test"])
    candidates = [DEBIAN_FOLDER, CACHE_FOLDER] if folder is None else [Path(folder)]
    for candidate in candidates:
        if all((candidate / file.name).is_file() for file in files):
            return candidate
    if folder is None:
        raise ZeropointError(
            f"Fashion-MNIST is neither in '{DEBIAN_FOLDER}' nor in '{CACHE_FOLDER}'; "
            "install Debian's package dataset-fashion-mnist, or name the folder of its four .gz files"
        )
    missing = next(file.name for file in files if not (candidates[0] / file.name).is_file())
    raise ZeropointError(f"there is no '{missing}' in '{folder}'; name the folder of the four .gz files")


def download(folder: Path = CACHE_FOLDER, source: str = SOURCE) -> None:
    """Fetch into ``folder`` those of the four files that it lacks; each is checked before it gets its name.

    Raises
    ------
    ZeropointError
        If a file cannot be fetched or written, or if what came is not what the authors published.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ZeropointError(f"cannot make the folder '{folder}': {error.strerror or error}") from error
    for file in (*_FILES["train"], *_FILES["test"]):
        if (folder / file.name).is_file():
            continue
        url = f"{source}/{file.name}"
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
                data = response.read(_COMPRESSED_LIMIT)
        # A broken reply is an HTTPException, a malformed address a ValueError; the rest are OSErrors.
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ZeropointError(f"cannot fetch '{url}': {error}") from error
        _content(data, url, file)
        atomic_write(folder / file.name, data)


def parse_idx(content: bytes, name: str) -> Bytes:
    """Return the array in ``content``, an uncompressed IDX file of unsigned bytes; ``name`` is for messages.

    Raises
    ------
    ZeropointError
        If it is no such file, or if it is longer or shorter than its header says.
    """
    if len(content) < 4 or content[:2] != b"\0\0":
        raise ZeropointError(f"'{name}' is not an IDX file: its first two bytes are not zero")
    element_type, rank = content[2], content[3]
    if element_type != 0x08:
        raise ZeropointError(f"'{name}' has the IDX element type {element_type:#x}; expected 0x8, bytes")
    start = 4 + 4 * rank
    if len(content) < start:
        raise ZeropointError(f"'{name}' ends within its IDX header")
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4))
    if len(content) - start != math.prod(shape):
        raise ZeropointError(
            f"'{name}' holds {len(content) - start} elements; "
            f"its IDX header says {list(shape)}, that is {math.prod(shape)}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _read(path: Path, file: _File) -> Bytes:
    array = parse_idx(_content(read_bytes(path, _COMPRESSED_LIMIT), path, file), str(path))
    if array.shape != file.shape:
        raise ZeropointError(f"'{path}' has the shape {list(array.shape)}; expected {list(file.shape)}")
    return array


def _content(data: bytes, origin: Path | str, file: _File) -> bytes:
    """Return ``data`` decompressed; raise ZeropointError unless that is what the authors published."""
    decompressor = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)  # 16 asks for the gzip format
    try:
        # One byte more than expected is enough to see that a file is too long, however long it is.
        content = decompressor.decompress(data, file.size + 1)
    except zlib.error as error:
        raise ZeropointError(f"'{origin}' is not a sound gzip file: {error}") from error
    if len(content) != file.size:
        more = "more" if len(content) > file.size else "fewer"
        raise ZeropointError(f"'{origin}' holds {more} than {file.size} bytes; get the file again")
    if (found := hashlib.sha256(content).hexdigest()) != file.sha256:
        raise ZeropointError(
            f"'{origin}' does not hold what Fashion-MNIST's authors published: "
            f"the SHA-256 of its decompressed content is {found}, expected {file.sha256}"
        )
    return content
