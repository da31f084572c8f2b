# SPDX-License-Identifier: GPL-2.0-or-later
"""The catalogue and the tests that show it: neither names a row that the other does not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import CouldNotRun
from harness.outcome import Outcome, Verdict
from harness.report import rows
from harness.report.rows import Row

CHECKOUT = Path(__file__).parents[3]


def verdict(run: Path, test: str, outcome: Outcome, kernel: str = "k", started: float = 0) -> None:
    folder = run / re.sub(r"\W", "-", f"{test}{kernel}")
    folder.mkdir(parents=True)
    Verdict(test=test, outcome=outcome, machine={"kernel": kernel}, started=started).save(folder)


def test_the_catalogue_and_the_tests_name_the_same_rows(tmp_path: Path) -> None:
    """A row without a test says why; one with a test has nothing to excuse."""
    listed = tmp_path / "rows.json"
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests/guest"]
    subprocess.run([*command, "--list-rows", str(listed)], cwd=CHECKOUT, check=True, capture_output=True)
    named = {name for names in json.loads(listed.read_text()).values() for name in names}
    catalogue = rows.catalogue()
    assert named == {row.name for row in catalogue if not row.left_out}
    assert sum(name.startswith("SR-") for name in named) >= 78


def test_rows_are_the_lines_of_the_tables(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.md"
    table = ["# x", "| Row | What | Why |", "|---|---|---|"]
    table += ["| SR-01 | It is. | |", "| SI-100 | It may be. | No way. |"]
    path.write_text("\n".join(table))
    assert rows.catalogue(path) == [Row("SR-01", "It is.", ""), Row("SI-100", "It may be.", "No way.")]
    path.write_text("| SR-01 | It is. | |\n| SR-01 | It was. | |\n")
    with pytest.raises(CouldNotRun, match="has rows twice: SR-01"):
        rows.catalogue(path)
    with pytest.raises(CouldNotRun, match="cannot be read: No such file"):
        rows.catalogue(tmp_path / "none")


@pytest.mark.parametrize("line", ["| SR-02 | It `a | b`. | |", "| SR-02 | It is. |", "| SR-2 | It is. | |"])
def test_a_line_that_is_nearly_a_row_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "catalogue.md"
    path.write_text(line)
    with pytest.raises(CouldNotRun, match="has a row that is none"):
        rows.catalogue(path)


def test_what_a_test_said_last_counts(tmp_path: Path) -> None:
    for number, outcome in ((2, Outcome.SKIP), (0, Outcome.PASS), (1, Outcome.FAIL)):
        verdict(tmp_path / f"run{number}", "a", outcome, started=number)
    verdict(tmp_path / "run1", "b", Outcome.KNOWN)
    verdict(tmp_path / "run1", "a", Outcome.PASS, "other", started=9)
    (tmp_path / "latest").symlink_to("run0")
    (tmp_path / "run2" / "half").mkdir()
    (tmp_path / "run2" / "half" / "outcome.json").write_text("{")
    assert rows.last_verdicts(tmp_path, ["a", "b", "c"], "k") == {"a": Outcome.SKIP, "b": Outcome.KNOWN}
    assert rows.last_verdicts(tmp_path, ["a"]) == {"a": Outcome.PASS}
    assert rows.last_verdicts(tmp_path / "none", ["a"]) == {}


def test_a_row_has_the_gravest_verdict_of_its_tests() -> None:
    tests = {"a": ["SR-01"], "b": ["SR-01", "SR-02"], "c": ["SR-03"], "d": ["SR-04"]}
    said = {"a": Outcome.PASS, "b": Outcome.KNOWN, "d": Outcome.SKIP}
    catalogue = [Row(f"SR-0{number}", "", "") for number in range(1, 6)]
    found = rows.shown(catalogue, tests, said)
    assert [(one.row.name, one.tests, one.verdict) for one in found] == [
        ("SR-01", ["a", "b"], Outcome.KNOWN),
        ("SR-02", ["b"], Outcome.KNOWN),
        ("SR-03", ["c"], None),
        ("SR-04", ["d"], Outcome.SKIP),
        ("SR-05", [], None),
    ]
    assert [one.has_run for one in found] == [True, True, False, False, False]
