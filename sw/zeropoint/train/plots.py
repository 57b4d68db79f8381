"""A plot of accuracy against accumulated portion."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from zeropoint.errors import ZeropointError
from zeropoint.figures import figure
from zeropoint.files import as_path
from zeropoint.train.loop import Stage


def plot_accuracy(
    path: str | Path, runs: Mapping[str, Sequence[Stage]], *, baseline: float | None = None, title: str = ""
) -> None:
    """Write a plot of each run's accuracy against the accumulated portion of quantized weights.

    The file holds no date, so that the same runs give the same bytes (with the same matplotlib).

    Parameters
    ----------
    path
        Ends in ``.svg`` or ``.png``.
    runs
        Curves by name, each the stages that :func:`~zeropoint.train.loop.train_inq` returned; accuracies are shares of
        1, shown in percent.
    baseline
        The accuracy of the float network, a horizontal line.

    Raises
    ------
    ZeropointError
        If ``path`` or ``runs`` is something else, the name ends otherwise, matplotlib is absent, or the file cannot be
        written.
    """
    path = as_path(path, "the first argument of plot_accuracy")
    if not isinstance(runs, Mapping):
        raise ZeropointError(f"plot_accuracy takes runs as {{name: stages}}, not as {type(runs).__name__}")
    for name, stages in runs.items():
        if not isinstance(stages, Sequence) or not all(isinstance(stage, Stage) for stage in stages):
            raise ZeropointError(f"run '{name}' is no sequence of Stage, as train_inq returns it")
    with figure(path, 6.4, 4.2) as drawn:
        from matplotlib.ticker import PercentFormatter

        axes = drawn.add_subplot(xlabel="accumulated portion of quantized weights", ylabel="accuracy", title=title)
        for (name, stages), marker in zip(runs.items(), "os^Dvx+*" * len(runs), strict=False):
            axes.plot([s.portion for s in stages], [s.accuracy for s in stages], label=name, marker=marker, ms=4)
        if baseline is not None:
            axes.axhline(baseline, color="black", linestyle="--", linewidth=1, label="float")
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
        axes.grid(alpha=0.3)
        axes.legend()
