import json

import pytest

from zeropoint.errors import ZeropointError
from zeropoint_boards.record import BUILD, BuildRecord, load

RECORD = BuildRecord("ulx3s_85f", 80e6, 1_000_000, 80, 12, "top.bit", {"seed": 1})


@pytest.fixture
def folder(tmp_path):
    (tmp_path / BUILD).write_bytes(RECORD.to_bytes())
    return tmp_path


def changed(folder, **entries):
    document = json.loads((folder / BUILD).read_bytes()) | entries
    (folder / BUILD).write_text(json.dumps(document))


def test_what_is_written_is_read(folder):
    assert load(folder) == RECORD


def test_nothing_but_the_build_decides_the_bytes():
    assert RECORD.to_bytes() == BuildRecord("ulx3s_85f", 80e6, 1_000_000, 80, 12, "top.bit", {"seed": 1}).to_bytes()


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"format": "zeropoint-program"}, "it is no 'zeropoint-build' of version 1"),
        ({"version": 2}, "it is no 'zeropoint-build' of version 1"),
        ({"bitstream": "../../etc/passwd"}, "'bitstream' must be the plain name of a file"),
        ({"bitstream": 3}, "'bitstream' must be the plain name of a file"),
        ({"divisor": 1}, "'divisor' must be 4 to"),
        ({"baud": "fast"}, "'baud' must be an integer"),
        ({"more": 1}, "has the unknown entry"),
    ],
)
def test_what_is_wrong_is_said(folder, entries, message):
    changed(folder, **entries)
    with pytest.raises(ZeropointError, match=rf"build\.json': .*{message}"):
        load(folder)


def test_what_is_no_json_and_what_is_not_there(folder, tmp_path):
    (folder / BUILD).write_bytes(b"{")
    with pytest.raises(ZeropointError, match="it is not JSON"):
        load(folder)
    with pytest.raises(ZeropointError, match="cannot read"):
        load(tmp_path / "nosuch")
