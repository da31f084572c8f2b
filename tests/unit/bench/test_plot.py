# SPDX-License-Identifier: GPL-2.0-or-later
"""Pictures of figures: whole, on their own, and with everything that was measured in them."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from harness.bench import plot
from harness.bench.figures import Figure, Results

ABOUT: dict[str, object] = {"kernel": "a<b&c", "qemu": "11.1", "accel": "tcg", "cores": 2, "cpu": "a CPU"}


def texts(path: Path) -> str:
    return " ".join(ET.parse(path).getroot().itertext())  # noqa: S314 - our own file


def test_each_unit_has_its_picture_with_names_values_and_machine(tmp_path: Path) -> None:
    figures = {
        "boot_s": Figure(unit="s", values=[9.0, 10.0, 11.0, 12.0]), "save_s": Figure(unit="s", values=[0.01]),
        "pss_mb": Figure(unit="MB", values=[70.0]), "nothing_s": Figure(unit="s", values=[]),
    }  # fmt: skip
    drawn = plot.draw(Results(about=ABOUT, yardstick_s=0.1, figures=figures), tmp_path / "new" / "folder")
    assert [path.name for path in drawn] == ["seconds.svg", "megabytes.svg"]
    seconds = texts(drawn[0])
    assert all(word in seconds for word in ("boot_s", "10.5 s", "save_s", "0.01 s", "a<b&c", "2 cores of a CPU"))
    assert "nothing_s" not in seconds
    assert 'href="http' not in drawn[0].read_text(), "a picture fetches nothing"


def test_figures_that_are_all_alike_are_drawn_too(tmp_path: Path) -> None:
    figures = {"a_s": Figure(unit="s", values=[1.0, 1.0])}
    (path,) = plot.draw(Results(about=ABOUT, yardstick_s=0.1, figures=figures), tmp_path)
    assert "1 s" in texts(path)
