# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures as pictures: one SVG for each unit, a bar for each figure with its spread."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pygal
from pygal.style import Style

from harness.bench.figures import Figure, Results

# pygal leaves a finder of modules behind that Python 3.12 and later do not know any more, and 3.11 warns of.
sys.meta_path[:] = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]

_NAMES = {"s": "seconds", "MB": "megabytes", "x": "ratios", "per min": "rates", "us": "microseconds", "per s": "reads"}
_STYLE = Style(
    background="white", plot_background="white", colors=("#7aa6c2",), opacity="1", opacity_hover="1",
    title_font_size=15, label_font_size=13, major_label_font_size=13, value_font_size=13, font_family="sans-serif",
)  # fmt: skip
_BAR, _MARGINS = 44, 130
"""Pixels for one bar, and for title and axis."""


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw all figures into files of `folder`, and give their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for unit, name in _NAMES.items():
        chosen = {key: figure for key, figure in results.figures.items() if figure.unit == unit and figure.values}
        if chosen:
            paths.append(folder / f"{name}.svg")
            _chart(results, unit, chosen).render_to_file(str(paths[-1]))
    return paths


def _chart(results: Results, unit: str, chosen: dict[str, Figure]) -> pygal.HorizontalBar:
    about = results.about
    machine = (
        f"kernel {about['kernel']}, QEMU {about['qemu']}, {about['accel']}, {about['cores']} cores of {about['cpu']}"
    )
    axis = _decades(chosen) if unit == "s" else None
    chart = pygal.HorizontalBar(
        title=f"median {_NAMES[unit]}, with quartiles\n{machine}", js=[], style=_STYLE, show_legend=False,
        print_values=True, print_values_position="center", truncate_label=-1, width=900,
        height=_MARGINS + _BAR * len(chosen), logarithmic=axis is not None, y_labels=axis,
        range=axis and (axis[0], axis[-1]), zero=axis[0] if axis else 0,
        value_formatter=lambda value: f"{value:.3g} {unit}",
    )  # fmt: skip
    chart.x_labels = list(reversed(chosen))  # the first one at the top
    bars = []
    for figure in reversed(chosen.values()):
        low, high = figure.spread
        bars.append({"value": figure.median, "ci": {"low": low, "high": high}})
    chart.add("", bars)
    return chart


def _decades(chosen: dict[str, Figure]) -> list[float]:
    """Give the powers of ten that enclose all values: seconds go from a save to a suite."""
    values = [value for figure in chosen.values() for value in figure.values]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return [10.0**power for power in range(low, max(high, low + 1) + 1)]
