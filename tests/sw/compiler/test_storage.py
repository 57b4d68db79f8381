"""A program's folder gives back the same program, or says which file is damaged and how."""

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.programs import make_program

from zeropoint.compiler.images import FORMATS
from zeropoint.compiler.program import Program
from zeropoint.compiler.storage import MANIFEST, files_of, load, manifest_digest, save
from zeropoint.errors import ZeropointError

IMAGES = ("program", "weights", "parameters", "tables")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(make_program(), tmp_path / "out")
    return tmp_path / "out"


def assert_same(a: Program, b: Program) -> None:
    for name in ("config", "name", "model_sha256", "instructions", "input", "output", "layers", "host_steps"):
        assert getattr(a, name) == getattr(b, name), name
    assert list(a.tensors.items()) == list(b.tensors.items())
    assert dict(a.metadata) == dict(b.metadata)
    np.testing.assert_array_equal(a.weights, b.weights)
    np.testing.assert_array_equal(a.tables, b.tables)
    for name in ("bias", "multiplier", "shift"):
        np.testing.assert_array_equal(getattr(a.parameters, name), getattr(b.parameters, name))


# Round trips


def test_a_program_without_tables_has_no_image_of_them(tmp_path: Path) -> None:
    program = make_program(tables=np.zeros((0, 256), np.uint8))
    save(program, tmp_path / "out")
    assert not list((tmp_path / "out").glob("tables.*"))
    assert_same(load(tmp_path / "out"), program)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("seed", range(3))
def test_a_program_comes_back_as_it_was(tmp_path: Path, format: str, seed: int) -> None:
    program = make_program(seed)
    save(program, tmp_path / "out")
    back = load(tmp_path / "out", format)
    assert_same(back, program)
    assert files_of(back) == files_of(program)


def test_the_same_program_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save(make_program(), tmp_path / name)
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two
    assert str(tmp_path) not in "".join(data.decode("latin-1") for data in one.values())


def test_a_folder_holds_every_format_a_listing_and_a_header(folder: Path) -> None:
    images = {f"{name}.{format}" for name in IMAGES for format in FORMATS}
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert names == images | {"manifest.json", "program.lst", "program.h"}


def test_the_manifest_holds_the_digest_of_every_other_file(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    digests = dict(manifest["documents"])
    for image in manifest["images"].values():
        digests |= {entry["file"]: entry["sha256"] for entry in image["files"].values()}
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name not in (MANIFEST, ".zeropoint-files")
    }
    assert digests == found


def test_an_earlier_program_is_replaced_and_foreign_files_are_not(folder: Path) -> None:
    second = make_program(seed=9)
    save(second, folder)
    assert_same(load(folder), second)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ZeropointError, match=r"notes\.txt"):
        save(make_program(), folder)
    assert_same(load(folder), second)


def test_an_unknown_format_is_a_mistake_of_the_caller(folder: Path) -> None:
    with pytest.raises(ValueError, match="must be one of mem, hex, mif, coe, bin, not 'elf'"):
        load(folder, "elf")


# Damaged images


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("format", FORMATS)
def test_a_missing_cut_or_changed_image_is_named(folder: Path, name: str, format: str) -> None:
    path = folder / f"{name}.{format}"
    whole = path.read_bytes()
    middle = len(whole) // 2
    changed = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    for damaged in (whole[:-1], whole[:middle], b"", changed, whole + b"0"):
        path.write_bytes(damaged)
        for read in (format, "mem"):
            with pytest.raises(ZeropointError, match=rf"{name}\.{format}': its contents do not match their SHA-256"):
                load(folder, read)
    path.unlink()
    for read in (format, "bin"):
        with pytest.raises(ZeropointError, match=rf"cannot read '.*{name}\.{format}': No such file"):
            load(folder, read)


def test_a_huge_image_is_not_read(folder: Path) -> None:
    with open(folder / "weights.mem", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ZeropointError, match=r"weights\.mem': it is longer than \d+ bytes"):
        load(folder)


# Damaged manifests


def test_every_changed_character_of_a_manifest_is_noticed(folder: Path) -> None:
    path = folder / MANIFEST
    text = path.read_text()
    rng = np.random.default_rng(5)
    for place in rng.choice(len(text), 150, replace=False).tolist():
        other = "7" if text[place] != "7" else "8"
        damaged = text[:place] + other + text[place + 1 :]
        if text[place] in " \n" and json_or_none(damaged) == json.loads(text):
            continue
        path.write_text(damaged)
        with pytest.raises(ZeropointError, match=r"manifest\.json"):
            load(folder)


def json_or_none(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"format": "zeropoint-program"}',
        '{"format": "x"}',
        "[" * 100000,
        '{"a": 1, "a": 1}',
        "\xff",
    ],
)
def test_a_manifest_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(ZeropointError, match=r"manifest\.json'"):
        load(folder)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ZeropointError, match=r"cannot read '.*manifest\.json': No such file"):
        load(tmp_path)


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest as somebody would who knows how to make its digest right again."""
    path = folder / MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest)
    manifest["sha256"] = manifest_digest(manifest)
    path.write_text(json.dumps(manifest))


def setting(*keys: str | int, to: Any) -> Callable[[dict[str, Any]], object]:
    """Return a change that sets one entry."""

    def change(manifest: Any) -> None:
        for key in keys[:-1]:
            manifest = manifest[key]
        manifest[keys[-1]] = to

    return change


def test_a_manifest_whose_digest_is_made_right_is_read(folder: Path) -> None:
    edit(folder, setting("metadata", "note", to="edited"))
    assert load(folder).metadata["note"] == "edited"


WEIGHTS = ("images", "weights")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (setting("format", to="zip"), "it is not the manifest of a program"),
        (setting("version", to=4), "it was written by a newer Zeropoint (version 4; this one reads 3); upgrade"),
        (setting("version", to=1), "by an earlier Zeropoint (version 1; this one reads 3); compile the model again"),
        (setting("model_sha256", to="0"), "a model's SHA-256 has 64 hexadecimal digits"),
        (lambda manifest: manifest.pop("model_sha256"), "the manifest lacks 'model_sha256'"),
        (setting("version", to=0), "'version' must be 1 to"),
        (setting("version", to=True), "'version' must be an integer, not True"),
        (setting("version", to="1"), "'version' must be an integer, not '1'"),
        (setting("instruction_format", to="0"), "it was compiled for another version of the hardware; compile"),
        (setting("config", to=[]), "'config' must be an object, not []"),
        (setting("config", "lanes", to=3), "lanes must be a power of two from 1 to 64, not 3"),
        (setting("config", "lanes", to=8), "the manifest: 'images': 'weights': 'width' must be 128, not 64"),
        (setting("config", "lanes", to={}), "lanes must be an integer, not {}"),
        (setting("config", "rows", to=3), "there is no configuration field 'rows'"),
        (setting("name", to=7), "'name' must be a text, not 7"),
        (setting("name", to="a\nb"), "the name of a program must be printable"),
        (setting("input", to="nothing"), "tensor 'nothing' is not among its tensors"),
        (setting("extra", to=1), "the manifest has the unknown entry 'extra'"),
        (lambda manifest: manifest.pop("layers"), "the manifest lacks 'layers'"),
        (setting("layers", to={}), "'layers' must be a list, not {}"),
        (setting("layers", 0, to=1), "'layers' 0 must be an object, not 1"),
        (setting("layers", 0, "macs", to=-1), "'layers' 0: 'macs' must be 0 to"),
        (setting("layers", 0, "macs", to=1e9), "'layers' 0: 'macs' must be an integer, not 1000000000.0"),
        (setting("layers", 0, "macs", to=10**400), "'layers' 0: 'macs' must be 0 to"),
        (setting("layers", 1, "instructions", to=4), "layer 'dense' has instructions beyond the last"),
        (setting("layers", 1, "output", to="x"), "layer 'dense' writes 'x', which is not among"),
        (setting("tensors", 0, "address", to=-1), "'tensors' 0: 'address' must be 0 to 1048575, not -1"),
        (
            setting("tensors", 0, "address", to=4095),
            "must have 4155 bytes (where tensor 'input' ends), 59 more than the 4096",
        ),
        (setting("tensors", 0, "shape", to=[1 << 40]), "'tensors' 0: 'shape' must be up to 8 positive integers"),
        (setting("tensors", 0, "shape", to=[1] * 9), "'tensors' 0: 'shape' must be up to 8 positive integers"),
        (setting("tensors", 0, "shape", to=[True]), "'tensors' 0: 'shape' must be up to 8 positive integers"),
        (setting("tensors", 0, "dtype", to="object"), "tensor 'input' must be int8, uint8 or int16, not 'object'"),
        (setting("tensors", 0, "scale", to=1), "'tensors' 0: 'scale' must be a floating-point number, not 1"),
        (setting("tensors", 0, "scale", to=-1.0), "tensor 'input' must have a finite positive scale, not -1.0"),
        (setting("tensors", 0, "zero_point", to=200), "tensor 'input' has the zero point 200, which is no int8"),
        (setting("tensors", 0, "more", to=1), "'tensors' 0 has the unknown entry 'more'"),
        (setting("tensors", 1, "tensor", to="input"), "two of its tensors have the same name"),
        (setting("host_steps", 0, "parameters", "beta", to="1"), "'beta' must be a floating-point number, not '1'"),
        (setting("host_steps", 0, "input", to=None), "'host_steps' 0: 'input' must be an object, not None"),
        (setting("metadata", "note", to=3), "'metadata': 'note' must be a text, not 3"),
        (setting("documents", "program.h", to=3), "'documents': 'program.h' must be a text, not 3"),
        (setting("images", "more", to={}), "'images' has the unknown entry 'more'"),
        (lambda manifest: manifest["images"].pop("weights"), "'images' lacks 'weights'"),
        (setting(*WEIGHTS, "depth", to=0), "'weights': 'depth' must be 1 to 80, not 0"),
        (setting(*WEIGHTS, "depth", to=1 << 60), "'weights': 'depth' must be 1 to 80, not 1152921504606846976"),
        (setting(*WEIGHTS, "depth", to=72), "weights.mem', line 74: there are more than the 72 words expected"),
        (setting(*WEIGHTS, "depth", to=74), "weights.mem': it has 73 words instead of 74"),
        (setting("images", "tables", "depth", to=9 * 256), "'tables': 'depth' must be 1 to 2048, not 2304"),
        (setting("images", "tables", "width", to=9), "'tables': 'width' must be 8, not 9"),
        (setting("config", "tables", to=0), "'images' has the unknown entry 'tables'"),
        (setting("config", "tables", to=1), "'tables': 'depth' must be 1 to 256, not 512"),
        (setting(*WEIGHTS, "width", to=63), "'weights': 'width' must be 64, not 63"),
        (setting("images", "program", "depth", to=119), "program.mem', line 121: there are more than the 119 words"),
        (setting(*WEIGHTS, "files", "mem", "file", to="program.mem"), "program.mem': its contents do not match"),
        (setting(*WEIGHTS, "files", "mem", "size", to=1), "'mem' has the unknown entry 'size'"),
        (setting(*WEIGHTS, "files", "elf", to={}), "'weights': 'files' has the unknown entry 'elf'"),
        (setting(*WEIGHTS, "more", to=1), "'weights' has the unknown entry 'more'"),
        (setting("host_steps", 0, "more", to=1), "'host_steps' 0 has the unknown entry 'more'"),
        (setting("host_steps", 0, "input", "more", to=1), "'input' has the unknown entry 'more'"),
        (setting("layers", 0, "more", to=1), "'layers' 0 has the unknown entry 'more'"),
        (setting(*WEIGHTS, "files", "mem", to="weights.mem"), "'mem' must be an object, not 'weights.mem'"),
        (lambda manifest: manifest["images"]["weights"]["files"].pop("mem"), "'weights': 'files' lacks 'mem'"),
    ],
)
def test_a_manifest_made_with_care_is_still_checked(
    folder: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit(folder, change)
    with pytest.raises(ZeropointError, match=re.escape(message)) as info:
        load(folder)
    assert str(folder) in str(info.value)
    assert "\n" not in str(info.value)


def replace_image(folder: Path, name: str, change: Callable[[Any], object]) -> None:
    """Change the bytes of an image, and its digest with them."""
    path = folder / f"{name}.bin"
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    change(data)
    path.write_bytes(data.tobytes())
    note_digest(folder, name)


def note_digest(folder: Path, name: str) -> None:
    """Write the digest of an image's bytes into the manifest."""
    path = folder / f"{name}.bin"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    edit(folder, setting("images", name, "files", "bin", "sha256", to=digest))


def test_images_made_with_care_are_still_checked(folder: Path) -> None:
    replace_image(folder, "weights", lambda data: data.__setitem__(0, data[0] ^ 1))
    assert load(folder, "bin").weights[0, 0] == make_program().weights[0, 0] ^ 1
    replace_image(folder, "tables", lambda data: data.__setitem__(257, data[257] ^ 4))
    assert load(folder, "bin").tables[1, 1] == make_program().tables[1, 1] ^ 4
    replace_image(folder, "parameters", lambda data: data.__setitem__(8, 31))
    with pytest.raises(ZeropointError, match=r"parameters\.bin': a shift must be -31 to 30"):
        load(folder, "bin")
    replace_image(folder, "program", lambda data: data.__setitem__(0, data[0] | 6))
    with pytest.raises(ZeropointError, match=r"program\.bin': instruction 0: 3 is not a valid Accumulate"):
        load(folder, "bin")


def test_a_table_that_is_not_whole_is_refused(folder: Path) -> None:
    path = folder / "tables.bin"
    path.write_bytes(path.read_bytes()[:-1])
    note_digest(folder, "tables")
    edit(folder, setting("images", "tables", "depth", to=511))
    with pytest.raises(ZeropointError, match=r"tables\.bin': 511 entries are no whole tables of 256"):
        load(folder, "bin")


@pytest.mark.parametrize(
    "file",
    ["../weights.mem", "/etc/passwd", "..", ".", "", "a/b", "a\\b", "C:x", ".hidden", "weights.mem\0", "weights.mem\n"],
)
def test_a_path_in_place_of_a_file_name_is_refused(folder: Path, file: str) -> None:
    (folder.parent / "weights.mem").write_bytes((folder / "weights.mem").read_bytes())
    edit(folder, setting(*WEIGHTS, "files", "mem", "file", to=file))
    with pytest.raises(ZeropointError, match=r"manifest\.json': image 'weights' names the file .* no plain file name"):
        load(folder)


def test_a_link_in_place_of_an_image_is_refused(folder: Path) -> None:
    os.rename(folder / "weights.mem", folder.parent / "weights.mem")
    (folder / "weights.mem").symlink_to(folder.parent / "weights.mem")
    with pytest.raises(ZeropointError, match=r"weights\.mem': it is a link; put the file itself there"):
        load(folder)


def test_numbers_that_json_does_not_know_are_refused(folder: Path) -> None:
    path = folder / MANIFEST
    for number in ("NaN", "Infinity", "1e999"):
        path.write_text(re.sub(r'"scale": [^,]+', f'"scale": {number}', path.read_text()))
        with pytest.raises(ZeropointError, match=r"manifest\.json'"):
            load(folder)


@pytest.mark.parametrize("name", ["program.h", "program.lst"])
def test_a_changed_or_missing_document_is_refused(folder: Path, name: str) -> None:
    path = folder / name
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(ZeropointError, match=re.escape(f"'{path}': its contents do not match their SHA-256")):
        load(folder)
    path.unlink()
    with pytest.raises(ZeropointError, match=re.escape(name)):
        load(folder)
