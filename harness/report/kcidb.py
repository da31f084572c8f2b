# SPDX-License-Identifier: GPL-2.0-or-later
"""A run as KCIDB has it, schema 5.3 (kcidb_io): a checkout, its build, and a test for each of ours.

Its words are ours but for KNOWN, which is a FAIL with what is known about it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from harness.outcome import Outcome
from harness.report.run import Result, Run

ORIGIN = "iov_harness"
"""Who says so: `origin` of all objects, and the beginning of their ids."""
_EXCERPT = 16 * 1024
"""Characters of `log_excerpt` at most, by the schema."""


def render(runs: Sequence[Run]) -> dict[str, Any]:
    """Give the runs as one object."""
    checkouts, builds, tests = [], [], []
    for run in runs:
        name = f"{ORIGIN}:{run.name}"
        checkouts.append({"id": name, "origin": ORIGIN, "valid": True, "comment": _origin(run)})
        builds.append(
            {
                "id": name, "checkout_id": name, "origin": ORIGIN, "architecture": "x86_64", "config_name": run.kernel,
                "status": "PASS", "comment": _origin(run), "misc": dict(run.machine),
            }
        )  # fmt: skip
        tests += [_test(name, number, one) for number, one in enumerate(run.results)]
    return {"version": {"major": 5, "minor": 3}, "checkouts": checkouts, "builds": builds, "tests": tests}


def _origin(run: Run) -> str:
    return str(run.machine.get("kernel_origin", run.kernel))


def _test(build: str, number: int, result: Result) -> dict[str, Any]:
    verdict = result.verdict
    known = verdict.outcome is Outcome.KNOWN
    made = {
        "id": f"{build}.{number}", "build_id": build, "origin": ORIGIN, "path": _path(verdict.test),
        "comment": f"{'known: ' if known else ''}{verdict.reason}" or verdict.test,
        "status": str(Outcome.FAIL if known else verdict.outcome), "duration": verdict.seconds,
        "start_time": datetime.fromtimestamp(verdict.started, UTC).isoformat(),
        "environment": {"comment": f"QEMU {verdict.machine.get('qemu', '')}, {verdict.machine.get('profile', '')}"},
        "misc": {"test": verdict.test, "rows": list(verdict.rows), "stage": verdict.stage, "known": known},
    }  # fmt: skip
    excerpt = (verdict.detail or result.console(_EXCERPT))[-_EXCERPT:] if verdict.outcome is not Outcome.PASS else ""
    return {**made, "log_excerpt": excerpt} if excerpt else made


def _path(test: str) -> str:
    """Give a test's id as a path of KCIDB's: words with dots between them."""
    words = (re.sub(r"[^A-Za-z0-9_-]+", "_", word).strip("_") for word in re.split(r"/|::|\.py", test))
    return ".".join(["iov_harness", *filter(None, words)])
