"""Files are written whole or not at all."""

import errno
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from zeropoint import files
from zeropoint.errors import ZeropointError


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too, with what it holds."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fail_with(code: int) -> Callable[..., None]:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


# Single files


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "y.bin"
    files.atomic_write(path, b"one")
    files.atomic_write(path, b"two")
    assert tree(tmp_path) == {"y.bin": b"two"}


def test_a_new_file_has_the_permissions_that_the_umask_leaves(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    files.atomic_write(tmp_path / "ours", b"")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_a_replaced_file_keeps_its_permissions_and_the_link_to_it(tmp_path: Path) -> None:
    path = tmp_path / "y.bin"
    path.write_bytes(b"one")
    path.chmod(0o640)
    (tmp_path / "link").symlink_to(path)
    files.atomic_write(tmp_path / "link", b"two")
    assert (tmp_path / "link").is_symlink()
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_the_temporary_name_has_the_suffix_and_the_folder_of_the_file(tmp_path: Path) -> None:
    with files.atomic_file(tmp_path / "trace.vcd") as temporary:
        assert temporary.suffix == ".vcd"
        assert temporary.parent == tmp_path
        temporary.write_text("x")
        assert not (tmp_path / "trace.vcd").exists()
    assert tree(tmp_path) == {"trace.vcd": b"x"}


def test_a_device_is_written_to_not_replaced() -> None:
    files.atomic_write(Path("/dev/null"), b"data")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_full_disk_is_one_line_that_names_the_file() -> None:
    with pytest.raises(ZeropointError, match=r"^cannot write '/dev/full': No space left on device$"):
        files.atomic_write(Path("/dev/full"), b"data")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_half_way_leaves_the_earlier_file_alone(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "y.bin"
    path.write_bytes(b"earlier")

    def half() -> None:
        with files.atomic_file(path) as temporary:
            temporary.write_bytes(b"half")
            raise error

    with pytest.raises(ZeropointError if isinstance(error, OSError) else KeyboardInterrupt):
        half()
    assert tree(tmp_path) == {"y.bin": b"earlier"}


def test_a_failed_rename_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "replace", fail_with(errno.EACCES))
    with pytest.raises(ZeropointError, match=r"^cannot write '.*y\.bin': Permission denied$"):
        files.atomic_write(tmp_path / "y.bin", b"data")
    assert tree(tmp_path) == {}


def test_where_a_file_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ZeropointError, match=r"^cannot write '.*file/y': Not a directory$"):
        files.atomic_write(tmp_path / "file" / "y", b"")
    with pytest.raises(ZeropointError, match=r"y': there is no folder '.*none'; make it first$"):
        files.atomic_write(tmp_path / "none" / "y", b"")
    with pytest.raises(ZeropointError, match=r"': it is a folder; name a file$"):
        files.atomic_write(tmp_path, b"")
    with pytest.raises(ZeropointError, match=r": File name too long$"):
        files.atomic_write(tmp_path / ("y" * 300), b"")
    assert tree(tmp_path) == {"file": b""}


def test_whether_a_file_can_be_written_is_known_beforehand(tmp_path: Path) -> None:
    earlier = tmp_path / "earlier"
    earlier.write_bytes(b"1")
    files.check_writable(earlier, None, tmp_path / "new")
    assert tree(tmp_path) == {"earlier": b"1"}
    nowhere = tmp_path / "no" / "where"
    with pytest.raises(ZeropointError, match=rf"^cannot write '{re.escape(str(nowhere))}': there is no folder"):
        files.check_writable(earlier, nowhere)


def test_several_files_appear_together_or_not_at_all(tmp_path: Path) -> None:
    one, two = tmp_path / "one.npy", tmp_path / "two.vcd"
    two.write_text("earlier")

    def write(fail: bool) -> None:
        with files.atomic_files(one, None, two, Path("/dev/null")) as temporary:
            assert [*temporary] == [one, two, Path("/dev/null")]
            assert temporary[two].suffix == ".vcd"
            assert temporary[Path("/dev/null")] == Path("/dev/null")
            temporary[one].write_text("1")
            if fail:
                raise OSError(errno.ENOSPC, "No space left on device", str(temporary[two]))
            temporary[two].write_text("2")

    with pytest.raises(ZeropointError, match=rf"^cannot write '{re.escape(str(two))}': No space left on device$"):
        write(fail=True)
    assert tree(tmp_path) == {"two.vcd": b"earlier"}
    write(fail=False)
    assert tree(tmp_path) == {"one.npy": b"1", "two.vcd": b"2"}


def test_temporary_names_give_way_to_those_the_user_knows(tmp_path: Path) -> None:
    path = tmp_path / "trace.vcd"
    with pytest.raises(ZeropointError) as caught, files.atomic_files(path, tmp_path / "y.npy") as temporary:
        raise ZeropointError(f"cannot write the waveform file '{temporary[path]}'")
    assert str(caught.value) == f"cannot write the waveform file '{path}'"
    with pytest.raises(ZeropointError) as caught, files.atomic_folder(tmp_path / "out") as folder:
        files.atomic_write(folder / "none" / "y", b"")
    assert str(caught.value).startswith(f"cannot write '{tmp_path / 'out' / 'none' / 'y'}'")
    # An error that is about none of several files is no business of theirs.
    with pytest.raises(FileNotFoundError), files.atomic_files(path, tmp_path / "y.npy"):
        (tmp_path / "other").read_bytes()
    assert tree(tmp_path) == {}


def test_two_results_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "y.npy"
    path.touch()
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "sub").mkdir()
    for other in (path, tmp_path / "link", tmp_path / "sub" / ".." / "y.npy"):
        expected = f"cannot write '{other}' twice, for two results; name another file for one"
        with pytest.raises(ZeropointError, match=f"^{re.escape(expected)}$"):
            files.check_writable(path, other)
    files.check_writable(Path("/dev/null"), Path("/dev/null"), path)


def test_what_is_read_is_not_written(tmp_path: Path) -> None:
    model, folder = tmp_path / "m.zp", tmp_path / "program"
    model.write_bytes(b"model")
    folder.mkdir()
    (tmp_path / "link").symlink_to(model)
    for path, read in ((model, tmp_path / "link"), (tmp_path / "link", model), (folder / "program.mem", folder)):
        expected = f"cannot write '{path}': that would change '{read}', which is read; name another place"
        with pytest.raises(ZeropointError, match=f"^{re.escape(expected)}$"):
            files.check_writable(tmp_path / "y", path, inputs=(None, read))
    files.check_writable(tmp_path / "y", inputs=(model, folder, None))
    with pytest.raises(ZeropointError, match="that would change"):
        files.check_apart(tmp_path, model)
    files.check_apart(folder, model)
    files.check_apart(Path("/dev/null"), Path("/dev/null"))
    assert tree(tmp_path) == {"m.zp": b"model", "link": b"model"}


def test_an_error_about_another_file_names_that_too(tmp_path: Path) -> None:
    expected = r"^cannot write '.*y': No such file or directory \('.*other'\)$"
    with pytest.raises(ZeropointError, match=expected), files.atomic_file(tmp_path / "y"):
        (tmp_path / "other").read_bytes()


# Folders


def make(path: Path, **contents: str) -> None:
    with files.atomic_folder(path) as folder:
        for name, text in contents.items():
            (folder / name).write_text(text)


def test_a_folder_appears_at_once(tmp_path: Path) -> None:
    with files.atomic_folder(tmp_path / "out") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a").write_text("1")
        assert not (tmp_path / "out").exists()
    assert tree(tmp_path) == {"out/sub/a": b"1", f"out/{files.FOLDER_LIST}": b"sub/a\n"}


def test_an_earlier_result_is_replaced_whole(tmp_path: Path) -> None:
    make(tmp_path / "out", a="1", b="2")
    make(tmp_path / "out", a="3")
    assert tree(tmp_path) == {"out/a": b"3", f"out/{files.FOLDER_LIST}": b"a\n"}


def test_an_empty_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    make(tmp_path / "out", a="1")
    assert (tmp_path / "out" / "a").read_text() == "1"


def test_a_result_seen_through_a_link_is_replaced_there(tmp_path: Path) -> None:
    make(tmp_path / "out", a="1")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    make(tmp_path / "link", a="2")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "out" / "a").read_text() == "2"


def test_a_folder_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years")
    with pytest.raises(ZeropointError, match=r"out': it holds files .* \(thesis\.tex\); move them or name another"):
        make(tmp_path / "out", a="1")
    assert tree(tmp_path) == {"out/thesis.tex": b"years"}


@pytest.mark.parametrize("link", [False, True])
def test_a_file_put_into_an_earlier_result_is_not_lost(tmp_path: Path, link: bool) -> None:
    make(tmp_path / "out", a="1")
    if link:
        (tmp_path / "out" / "notes").symlink_to(tmp_path)
    else:
        (tmp_path / "out" / "notes").write_text("mine")
    with pytest.raises(ZeropointError, match=r"did not write there \(notes\)"):
        make(tmp_path / "out", a="2")
    assert (tmp_path / "out" / "a").read_text() == "1"


def test_a_file_put_there_meanwhile_is_not_lost(tmp_path: Path) -> None:
    def meanwhile() -> None:
        with files.atomic_folder(tmp_path / "out"):
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "notes").write_text("mine")

    with pytest.raises(ZeropointError, match=r"\(notes\)"):
        meanwhile()
    assert tree(tmp_path) == {"out/notes": b"mine"}


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("earlier", [{}, {"out/a": b"1", f"out/{files.FOLDER_LIST}": b"a\n"}])
def test_a_failure_half_way_leaves_the_earlier_folder(
    tmp_path: Path, error: BaseException, earlier: dict[str, bytes]
) -> None:
    if earlier:
        make(tmp_path / "out", a="1")

    def half() -> None:
        with files.atomic_folder(tmp_path / "out") as folder:
            (folder / "a").write_text("2")
            raise error

    with pytest.raises(ZeropointError if isinstance(error, OSError) else KeyboardInterrupt):
        half()
    assert tree(tmp_path) == earlier


def test_a_full_disk_half_way_names_the_file_in_the_folder(tmp_path: Path) -> None:
    expected = re.escape(f"cannot write '{tmp_path}/out/rom.mem': No space left on device")
    with pytest.raises(ZeropointError, match=expected), files.atomic_folder(tmp_path / "out") as folder:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "rom.mem"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError(errno.EBUSY, "Device or resource busy"), KeyboardInterrupt()])
def test_an_earlier_folder_comes_back_when_the_swap_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    make(tmp_path / "out", a="1")
    before = tree(tmp_path)
    rename, calls = os.rename, []

    def second_fails(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise error
        rename(source, target)

    monkeypatch.setattr(os, "rename", second_fails)
    expected = ZeropointError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        make(tmp_path / "out", a="2")
    assert len(calls) == 3
    assert tree(tmp_path) == before
    assert len(list(tmp_path.iterdir())) == 1


def test_where_a_folder_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ZeropointError, match=r"folder '.*file': there is a file of this name; name another folder$"):
        make(tmp_path / "file")
    with pytest.raises(ZeropointError, match=r"file/out': Not a directory$"):
        make(tmp_path / "file" / "out")
    with pytest.raises(ZeropointError, match=r"out': there is no folder '.*none'; make it first$"):
        make(tmp_path / "none" / "out")
    (tmp_path / "here" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / "below")
    with pytest.raises(ZeropointError, match=r"folder '\.\.': the current folder is in it"):
        make(Path(".."))
    assert tree(tmp_path) == {"file": b""}


# Reading


def test_reading_within_a_limit(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    assert files.read_bytes(tmp_path / "x", 5) == b"12345"
    with pytest.raises(ZeropointError, match=r"^cannot read '.*x': it is longer than 4 bytes$"):
        files.read_bytes(tmp_path / "x", 4)
    with pytest.raises(ZeropointError, match=r"^cannot read '/dev/zero': it is longer than 1000 bytes$"):
        files.read_bytes(Path("/dev/zero"), 1000)
    with pytest.raises(ZeropointError, match=r"^cannot read '.*none': No such file or directory$"):
        files.read_bytes(tmp_path / "none", 4)
    with pytest.raises(ZeropointError, match=r"^cannot read '.*': Is a directory$"):
        files.read_bytes(tmp_path, 1 << 20)
