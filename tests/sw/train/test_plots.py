"""Plots: the same bytes each time, no dates, and files that are what their name says."""

import builtins

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed (extra: train)")
pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra: train)")

from zeropoint.errors import ZeropointError
from zeropoint.train import Stage, plot_accuracy

RUNS = {"5 bits": [Stage(0.5, 0.9), Stage(1.0, 0.91)], "2 bits": [Stage(0.2, 0.9), Stage(1.0, 0.8)]}


@pytest.mark.parametrize(("name", "magic"), [("a.svg", b"<?xml"), ("a.png", b"\x89PNG")])
def test_the_same_runs_give_the_same_bytes(tmp_path, name, magic):
    one, other, changed = tmp_path / name, tmp_path / f"b{name}", tmp_path / f"c{name}"
    plot_accuracy(one, RUNS, baseline=0.92, title="Accuracy")
    plot_accuracy(other, RUNS, baseline=0.92, title="Accuracy")
    plot_accuracy(changed, RUNS, baseline=0.93, title="Accuracy")
    assert one.read_bytes().startswith(magic)
    assert one.read_bytes() == other.read_bytes() != changed.read_bytes()
    assert b"date>" not in one.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, f"b{name}", f"c{name}"])


def test_the_file_may_be_named_by_a_str(tmp_path):
    plot_accuracy(str(tmp_path / "a.svg"), RUNS)
    plot_accuracy(tmp_path / "b.svg", RUNS)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_texts_of_an_svg_are_texts(tmp_path):
    plot_accuracy(tmp_path / "a.svg", RUNS, baseline=0.92)
    content = (tmp_path / "a.svg").read_text()
    for text in ("5 bits", "2 bits", "float", "accuracy", "100%"):
        assert f">{text}</text>" in content


def test_what_cannot_be_plotted_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ZeropointError, match=r"a\.jpg': name a file that ends in \.svg or \.png$"):
        plot_accuracy(tmp_path / "a.jpg", RUNS)
    with pytest.raises(ZeropointError, match="there is no folder"):
        plot_accuracy(tmp_path / "none" / "a.svg", RUNS)
    with pytest.raises(
        ZeropointError, match=r"^the first argument of plot_accuracy must be a path, as a str or a Path, not dict$"
    ):
        plot_accuracy(RUNS, str(tmp_path / "a.svg"))
    with pytest.raises(ZeropointError, match=r"^plot_accuracy takes runs as {name: stages}, not as list$"):
        plot_accuracy(tmp_path / "a.svg", RUNS["5 bits"])
    for stages in (0.9, [0.9], "0.9"):
        with pytest.raises(ZeropointError, match=r"^run '5 bits' is no sequence of Stage, as train_inq returns it$"):
            plot_accuracy(tmp_path / "a.svg", {"5 bits": stages})
    assert list(tmp_path.iterdir()) == []
    real = builtins.__import__

    def without(name, *rest):
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ZeropointError, match=r"^plots need matplotlib: pip install 'zeropoint\[train\]'$"):
        plot_accuracy(tmp_path / "a.svg", RUNS)
