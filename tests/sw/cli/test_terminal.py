"""Tables as they are printed."""

import pytest

from zeropoint.cli import terminal

TITLE = "A title that is longer than both columns of the table below it, and than the terminal is wide"


@pytest.mark.parametrize("width", [None, "40"])
def test_a_title_is_one_line_above_its_table(
    width: str | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if width is not None:
        monkeypatch.setenv("COLUMNS", width)
    terminal.table(TITLE, ["a", "b"], [["x", 1234], [None, 2.5]], total=["all", 3])
    title, *body = capsys.readouterr().out.splitlines()
    assert title == TITLE
    assert len({len(line) for line in body}) == 1
    assert len(body[0]) < 40
    assert [cell.strip() for line in body for cell in line.split("│")[1:-1]] == ["x", "1,234", "–", "2.50", "all", "3"]
