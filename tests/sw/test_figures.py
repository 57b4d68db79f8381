import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra: train)")

from zeropoint.errors import ZeropointError
from zeropoint.figures import check_figure, figure


def draw(path, height=1.0):
    with figure(path, 2, 1) as drawn:
        drawn.add_subplot(title="bars").bar(["a", "b"], [1, height])


@pytest.mark.parametrize(("name", "magic"), [("a.svg", b"<?xml"), ("a.PNG", b"\x89PNG")])
def test_the_same_figure_gives_the_same_bytes(tmp_path, name, magic):
    paths = [tmp_path / f"{prefix}{name}" for prefix in "xyz"]
    for path, height in zip(paths, (1, 1, 2), strict=True):
        draw(path, height)
    one, same, other = (path.read_bytes() for path in paths)
    assert one.startswith(magic)
    assert one == same != other


def test_nothing_is_written_of_a_figure_that_fails(tmp_path):
    with pytest.raises(KeyError), figure(tmp_path / "a.svg", 2, 1):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.jpg", "svg", ".svg/a"])
def test_other_names_are_refused(tmp_path, name):
    with pytest.raises(ZeropointError, match=r"': name a file that ends in \.svg or \.png$"):
        check_figure(tmp_path / name)
