# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures as pictures: one SVG for each unit, a bar for each figure with its spread."""

from __future__ import annotations

from pathlib import Path

import pygal
from pygal.style import CleanStyle

from harness.bench.figures import Results

_NAMES = {"s": "seconds", "MB": "megabytes", "x": "ratios", "per min": "rates"}


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw all figures into files of `folder`, and give their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_chart(results, unit, folder / f"{name}.svg") for unit, name in _NAMES.items() if _has(results, unit)]


def _has(results: Results, unit: str) -> bool:
    return any(figure.unit == unit and figure.values for figure in results.figures.values())


def _chart(results: Results, unit: str, path: Path) -> Path:
    about = results.about
    title = f"iov-harness: {_NAMES[unit]}\n{about['kernel']}, QEMU {about['qemu']}, {about['accel']}, {about['cpu']}"
    chosen = {name: figure for name, figure in results.figures.items() if figure.unit == unit and figure.values}
    chart = pygal.HorizontalBar(
        title=title, js=[], style=CleanStyle, show_legend=False, print_values=True, truncate_label=-1,
        height=160 + 40 * len(chosen), logarithmic=unit == "s", value_formatter=lambda value: f"{value:.3g} {unit}",
    )  # fmt: skip
    chart.x_labels = list(chosen)
    bars = []
    for figure in chosen.values():
        low, high = figure.spread
        bars.append({"value": figure.median, "ci": {"low": low, "high": high}})
    chart.add("median, quartiles", bars)
    chart.render_to_file(str(path))
    return path
