# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness test --rows`: which row of the catalogue is shown by which tests, and what these last said."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

from harness import paths
from harness.cli import flags, output
from harness.cli.targets import Targets
from harness.errors import CouldNotRun, UsageError
from harness.report import rows
from harness.report.rows import Shown


def show(targets: Targets, kernel: str, *, as_json: bool) -> None:
    """Print the rows, with what tests said on one kernel. Raises `CouldNotRun`, or `UsageError`."""
    tests = _tests(targets)
    said = rows.last_verdicts(paths.output() / "runs", tests, kernel)
    shown = rows.shown(rows.catalogue(), tests, said)
    if as_json:
        flags.print_json({"rows": [_plain(one) for one in shown]})
        return
    lines = [(one.row.name, one.verdict or "-", *_told(one)) for one in shown]
    output.table("row", "verdict", "tests", "what holds", rows=lines)
    ran = [one for one in shown if one.has_run]
    left = [one for one in shown if not one.tests]
    output.console().print(f"{len(shown)} rows: {len(ran)} shown by tests that ran on {kernel}, {len(left)} by none")


def _tests(targets: Targets) -> dict[str, list[str]]:
    """Have pytest collect the tests, and give the rows of each."""
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "rows.json"
        command = [*targets.pytest, "--collect-only", "-q", "--list-rows", str(listed)]
        done = subprocess.run([*command, *targets.arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise UsageError(f"the tests cannot be collected: {_last(done.stdout) or _last(done.stderr)}")
        try:
            found: dict[str, list[str]] = json.loads(listed.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CouldNotRun(f"pytest wrote no list of its tests: {error}") from error
    return found


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def _told(one: Shown) -> tuple[str, str]:
    """Give, for a table, how many tests show a row, and what it says; for a row that none shows, why."""
    if one.tests:
        return str(len(one.tests)), one.row.text
    return "none", f"{one.row.text} (left out: {one.row.left_out})"


def _plain(one: Shown) -> dict[str, object]:
    return {
        "row": one.row.name, "tests": list(one.tests), "verdict": one.verdict, "text": one.row.text,
        "left_out": one.row.left_out,
    }  # fmt: skip
