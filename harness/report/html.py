# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs as one HTML page that needs nothing else: a matrix of tests and runs, each cell with what there is to know."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, Template

from harness.outcome import Outcome
from harness.report.run import BAD, Result, Run
from harness.report.validation import Validation
from harness.text import clipped

_MOST = 6000
"""Bytes of a console, a traceback or a command line that a cell shows at most."""
_ALL = 1_200_000
"""Bytes of each of these in all cells together: a page is to stay below 5 MB, and opens in no time."""


def render(runs: Sequence[Run], validations: Sequence[Validation] = ()) -> str:
    """Give the page: what validations say of each patch, and below it what every test said in every run."""
    told = sum(not _is_well(one) for run in runs for one in run.results)
    limit = min(_MOST, _ALL // max(1, told))
    tests = list(dict.fromkeys(one.verdict.test for run in runs for one in run.results))
    data = {
        "tests": tests,
        "runs": [
            {"name": run.title, "summary": run.summary, "folder": run.folder.name, "machine": dict(run.machine)}
            for run in runs
        ],
        "cells": [[_cell(by_test.get(test), limit) for by_test in map(_by_test, runs)] for test in tests],
    }
    outcomes = [str(outcome) for outcome in (*BAD, *(one for one in Outcome if one not in BAD))]
    return _template().render(
        data=_in_script(data), outcomes=outcomes, runs=runs, validations=validations,
        longest=max([1.0, *(run.spent for run in runs)]),
    )  # fmt: skip


@cache
def _template() -> Template:
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    return environment.get_template("page.html.j2")


def _by_test(run: Run) -> dict[str, Result]:
    return {one.verdict.test: one for one in run.results}


def _cell(result: Result | None, limit: int) -> dict[str, Any] | None:
    """Give what the page knows of a test in a run; None where it did not run."""
    if result is None:
        return None
    verdict = result.verdict
    more = {}
    if not _is_well(result):  # what went well is its own proof
        parts = {"detail": verdict.detail, "console": result.console(limit), "command": result.command()}
        more = {name: _clipped(part, limit) for name, part in parts.items()}
    return {
        "outcome": str(verdict.outcome), "seconds": round(verdict.seconds, 2), "reason": verdict.reason,
        "stage": verdict.stage, "rows": list(verdict.rows), "profile": verdict.machine.get("profile", ""),
        "again": result.again, **more,
    }  # fmt: skip


def _is_well(result: Result) -> bool:
    return result.verdict.outcome in (Outcome.PASS, Outcome.SKIP)


def _clipped(text: str, limit: int) -> str:
    """Give so much of a text that it takes about `limit` bytes in the page, where some characters take six."""
    cost = len(_in_script(text)) / max(1, len(text))
    return clipped(text, int(limit / max(1, cost)))


def _in_script(data: Any) -> str:
    """Give JSON that may stand in a script element: what a guest wrote ends no element, and begins none."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
