"""Files that are written whole or not at all, and untrusted files that are read within a limit."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from zeropoint.errors import ZeropointError, quoted_list

#: The file in every folder that :func:`atomic_folder` made: the other files' names, one a line. A folder that holds
#: nothing else may be replaced.
FOLDER_LIST = ".zeropoint-files"


def as_path(value: object, what: str) -> Path:
    """Return ``value``, a str or a path, as a Path; raise ZeropointError about ``what`` if it is neither."""
    if not isinstance(value, str | os.PathLike):
        raise ZeropointError(f"{what} must be a path, as a str or a Path, not {type(value).__name__}")
    return Path(value)


def atomic_write(path: Path, data: bytes) -> None:
    """Write ``data`` to the file ``path``, whole or not at all; an earlier file is replaced.

    Raises
    ------
    ZeropointError
        As :func:`atomic_file`.
    """
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name in the folder of ``path``, for the body to write; rename it to ``path`` at the end.

    As :func:`atomic_files`, for one file.
    """
    with atomic_files(path) as temporary:
        yield temporary[path]


@contextmanager
def atomic_files(*paths: Path | None) -> Iterator[Mapping[Path, Path]]:
    """Yield a temporary name for each of ``paths``, for the body to write; rename all of them at the end, or none.

    A temporary name has the folder and the suffix of its path; None is left out. When the body raises, or is
    interrupted, they are removed and earlier files at ``paths`` stay as they were. Links are followed, and earlier
    files' permissions are kept. Devices and pipes, such as ``/dev/stdout``, are yielded as they are.

    Raises
    ------
    ZeropointError
        For every OSError about one of them, naming that path and the reason; in a ZeropointError of the body the
        temporary names give way to those of ``paths``. And if two paths are the same file.
    """
    results = [_Result(path) for path in paths if path is not None]
    staged = [result for result in results if not result.is_device]
    for index, result in enumerate(staged):
        if os.path.isdir(result.target):
            raise ZeropointError(f"cannot write '{result.path}': it is a folder; name a file")
        if result.target in [other.target for other in staged[:index]]:
            raise ZeropointError(f"cannot write '{result.path}' twice, for two results; name another file for one")
    try:
        try:
            yield {result.path: result.path if result.is_device else result.temporary for result in results}
            for result in staged:
                if result.target.exists():
                    shutil.copymode(result.target, result.temporary)
            for result in staged:
                os.replace(result.temporary, result.target)
        except BaseException:
            for result in staged:
                result.temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        about = [result for result in results if error.filename == str(result.temporary)] or results
        if len(about) > 1:
            raise
        raise _cannot_write(about[0], error) from error
    except ZeropointError as error:
        raise _renamed(error, *staged) from error.__cause__


def check_writable(*paths: Path | None, inputs: Iterable[Path | None] = ()) -> None:
    """Raise ZeropointError if a file could not be written to one of ``paths``, before what takes long is begun.

    Neither may two of them be the same file, nor one of ``inputs``, which are read, or lie in a folder among these.
    """
    with suppress(_Enough), atomic_files(*paths) as temporary:
        for result, name in temporary.items():
            if name != result:
                name.touch()
        raise _Enough
    for path in paths:
        if path is not None:
            check_apart(path, *inputs)


def check_apart(path: Path, *inputs: Path | None) -> None:
    """Raise ZeropointError if writing the file or folder ``path`` would change one of ``inputs``, which are read."""
    result = _Result(path)
    for name in inputs:
        if name is None or result.is_device:
            continue
        read = Path(os.path.realpath(name))
        if read.is_relative_to(result.target) or result.target.is_relative_to(read):
            raise ZeropointError(
                f"cannot write '{path}': that would change '{name}', which is read; name another place"
            )


class _Enough(Exception):
    """Leaves the body of :func:`atomic_file`, so that nothing is written."""


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new empty folder beside ``path``, for the body to fill; rename it to ``path`` at the end.

    When the body raises, or is interrupted, the new folder is removed and what was at ``path`` stays as it was. What
    is there already is replaced only if it is an empty folder, or one that this function made and in which there is
    no file that it did not make: each folder gets a list of its files, ``.zeropoint-files``.

    Raises
    ------
    ZeropointError
        For every OSError, naming ``path`` and the reason; and if something at ``path`` must not be replaced.
    """
    result = _Result(path)
    path, target, temporary = result.path, result.target, result.temporary
    try:
        _check_replaceable(path, target)
        try:
            temporary.mkdir()
            yield temporary
            (temporary / FOLDER_LIST).write_text("".join(f"{name}\n" for name in _files(temporary)), encoding="utf-8")
            # The body may have taken long enough for somebody to put files there.
            _check_replaceable(path, target)
            _swap(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    except OSError as error:
        raise _cannot_write(result, error) from error
    except ZeropointError as error:
        raise _renamed(error, result) from error.__cause__


def read_bytes(path: Path, limit: int) -> bytes:
    """Return what the file ``path`` holds, ``limit`` bytes at most.

    Raises
    ------
    ZeropointError
        For every OSError, naming ``path`` and the reason; and if the file is longer than ``limit``.
    """
    try:
        with open(path, "rb") as file:
            # A regular file says its size before memory is asked for; a pipe, of size 0, is read as far as the limit.
            size = os.fstat(file.fileno()).st_size
            if size <= limit and len(data := file.read((size or limit) + 1)) <= limit:
                return data
    except OSError as error:
        raise ZeropointError(f"cannot read '{path}': {error.strerror or error}") from error
    raise ZeropointError(f"cannot read '{path}': it is longer than {limit} bytes")


class _Result:
    """A file or folder to be written: the path given, what it leads to, and a temporary name beside that."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.target = Path(os.path.realpath(path))
        self.temporary = _sibling(self.target).with_suffix(self.target.suffix)
        self.is_device = os.path.exists(self.target) and not (os.path.isfile(self.target) or os.path.isdir(self.target))


def _sibling(target: Path) -> Path:
    return target.with_name(f".zeropoint-{secrets.token_hex(8)}")


def _files(folder: Path) -> list[str]:
    """Return the names of all files below ``folder``, relative to it; links are not followed."""
    found = []
    for root, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(root, name))]
        found += [os.path.relpath(os.path.join(root, name), folder) for name in (*files, *links)]
    return sorted(name for name in found if name != FOLDER_LIST)


def _check_replaceable(path: Path, target: Path) -> None:
    """Raise ZeropointError unless ``target`` is absent, empty, or wholly the work of :func:`atomic_folder`."""
    if not target.exists():
        return
    if not target.is_dir():
        raise ZeropointError(f"cannot write the folder '{path}': there is a file of this name; name another folder")
    if Path.cwd().is_relative_to(target):
        raise ZeropointError(f"cannot write the folder '{path}': the current folder is in it; name another folder")
    files = _files(target)
    listed = target / FOLDER_LIST
    ours = listed.read_text(encoding="utf-8", errors="replace").splitlines() if listed.is_file() else []
    foreign = sorted(set(files) - set(ours))
    if foreign:
        raise ZeropointError(
            f"cannot replace the folder '{path}': it holds files that Zeropoint did not write there "
            f"({quoted_list(foreign, 3)}); move them or name another folder"
        )


def _swap(temporary: Path, target: Path) -> None:
    """Rename ``temporary`` to ``target``; put back what was there if that fails."""
    if not target.exists():
        os.rename(temporary, target)
        return
    earlier = _sibling(target)
    try:
        os.rename(target, earlier)
        os.rename(temporary, target)
    except BaseException:
        if earlier.exists() and not target.exists():
            os.rename(earlier, target)
        raise
    finally:
        if target.exists():
            shutil.rmtree(earlier, ignore_errors=True)


def _cannot_write(result: _Result, error: OSError) -> ZeropointError:
    """Return the message for an OSError, in which a temporary name gives way to the one the user knows."""
    path, reason = result.path, error.strerror or str(error)
    if error.errno == errno.ENOENT and not result.target.parent.exists():
        reason = f"there is no folder '{path.parent}'; make it first"
    elif isinstance(error.filename, str):
        name = Path(error.filename)
        if name.is_relative_to(result.temporary):
            path = path / name.relative_to(result.temporary)
        elif name not in (path, result.target):
            reason += f" ('{name}')"
    return ZeropointError(f"cannot write '{path}': {reason}")


def _renamed(error: ZeropointError, *results: _Result) -> ZeropointError:
    """Return the error, in which temporary names give way to those the user knows."""
    text = str(error)
    for result in results:
        text = text.replace(str(result.temporary), str(result.path))
    return error if text == str(error) else ZeropointError(text)
