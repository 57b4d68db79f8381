"""A plot of accuracy against accumulated portion."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from zeropoint.figures import figure
from zeropoint.train.loop import Stage


def plot_accuracy(
    path: Path, runs: Mapping[str, Sequence[Stage]], *, baseline: float | None = None, title: str = ""
) -> None:
    """Write a plot of each run's accuracy against the accumulated portion of quantized weights.

    The file holds no date, so that the same runs give the same bytes (with the same matplotlib).

    Parameters
    ----------
    path
        Ends in ``.svg`` or ``.png``.
    runs
        Curves by name; accuracies are shares of 1, shown in percent.
    baseline
        The accuracy of the float network, a horizontal line.

    Raises
    ------
    ZeropointError
        If the name ends otherwise, matplotlib is absent, or the file cannot be written.
    """
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
