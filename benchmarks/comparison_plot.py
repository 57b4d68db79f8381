"""The plot of benchmarks/multiplier_free.py: what each kind of PE costs and reaches, side by side."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from zeropoint.figures import figure

_Take = Callable[[dict[str, Any]], float | None]

#: A row of panels for each part of the measurement, all with the same kinds: of each panel its title, what it takes of
#: an entry, and how it writes that.
_ROWS: dict[str, tuple[tuple[str, _Take, str], ...]] = {
    "accelerators": (
        ("accuracy of the network", lambda each: 100 * each["accuracy"], "{:.1f} %"),
        ("LUT of the accelerator", lambda each: each["lut"], "{:,.0f}"),
        ("DSP of the accelerator", lambda each: each["dsp"], "{:,.0f}"),
        ("Fmax of the accelerator, MHz", lambda each: each["fmax"], "{:.0f}"),
    ),
    "pes": (
        ("LUT of a PE, ECP5", lambda each: each["ecp5"]["lut"], "{:,.0f}"),
        ("Fmax of a PE, ECP5, MHz", lambda each: each["ecp5"]["fmax"], "{:.0f}"),
        ("LUT of a PE, iCE40", lambda each: each["ice40"]["lut"], "{:,.0f}"),
        ("Fmax of a PE, iCE40, MHz", lambda each: each["ice40"]["fmax"], "{:.0f}"),
    ),
    "arrays": (
        ("LUT a PE in an array", lambda each: each["sites_per_pe"].get("lut"), "{:.0f}"),
        ("Fmax of an array, MHz", lambda each: each["fmax"], "{:.0f}"),
        ("PEs that fill an LFE5U-85F", lambda each: each["held"], "{:,.0f}"),
    ),
}
_ACROSS = 4


def plot(path: Path, names: Mapping[str, str], measured: Mapping[str, Mapping[str, dict[str, Any]]]) -> None:
    """Draw panels of bars, a row of them for each part that was measured.

    Parameters
    ----------
    path
        Ends in ``.svg`` or ``.png``.
    names
        Of the kinds of PE.
    measured
        By part and by kind, as multiplier_free.py measures.

    Raises
    ------
    ZeropointError
        As :func:`zeropoint.figures.figure`.
    """
    with figure(path, 12, 0.3 + sum(0.6 + 0.28 * len(entries) for entries in measured.values())) as drawn:
        heights = [2 + len(entries) for entries in measured.values()]
        grid = drawn.add_gridspec(len(measured), _ACROSS, height_ratios=heights)
        for row, (part, entries) in enumerate(measured.items()):
            for column, (title, take, text) in enumerate(_ROWS[part]):
                axes = drawn.add_subplot(grid[row, column])
                axes.set_title(title, fontsize=10)
                values = [take(each) for each in entries.values()]
                colors = [f"C{list(names).index(kind)}" for kind in entries]
                bars = axes.barh(range(len(values)), [value or 0 for value in values], color=colors)
                axes.bar_label(bars, ["–" if value is None else text.format(value) for value in values], padding=2)
                axes.set_yticks(range(len(values)), [names[kind] for kind in entries] if column == 0 else [])
                axes.set_xticks([])
                axes.set_xlim(0, 1.35 * max([1, *(value for value in values if value is not None)]))
                axes.invert_yaxis()
                axes.spines[["top", "right", "bottom"]].set_visible(False)
