# SPDX-License-Identifier: GPL-2.0-or-later
"""A run as KCIDB has it, schema 5.3 (kcidb_io): a checkout, its build, and a test for each of ours.

A validation adds checkouts of patches that do not apply, builds without a run, which failed or were only to be
compiled, and `boot` of a kernel that did not.

Its words are ours but for KNOWN, which is a FAIL with what is known about it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from harness.outcome import Outcome
from harness.report.run import Result, Run
from harness.report.validation import Built, StepResult, Validation, folder_name
from harness.text import printable

ORIGIN = "iov_harness"
"""Who says so: `origin` of all objects, and the beginning of their ids."""
_EXCERPT = 16 * 1024
"""Characters of `log_excerpt` at most, by the schema."""


def render(runs: Sequence[Run], validations: Sequence[Validation] = ()) -> dict[str, Any]:
    """Give the runs, and what validations know besides, as one object."""
    checkouts, builds, tests = [], [], []
    tested = {run.name for run in runs}
    for validation in validations:
        for step in validation.steps:
            for built in step.builds:
                name = f"{validation.name}-{folder_name(step.number, built.config)}"
                if not built.applies:
                    checkouts.append({**_checkout(name, step.title), "valid": False, **_excerpt(built.error)})
                elif name not in tested:
                    checkouts.append(_checkout(name, step.title))
                    builds.append(_built(name, step, built))
                if step.boot and built.config == step.boot_config:
                    tests.append(_boot(name, step))
    for run in runs:
        checkouts.append(_checkout(run.name, _origin(run)))
        builds.append(
            _build(
                run.name, architecture="x86_64", config_name=run.kernel, status="PASS", comment=_origin(run),
                misc=dict(run.machine),
            )
        )  # fmt: skip
        tests += [_test(f"{ORIGIN}:{run.name}", number, one) for number, one in enumerate(run.results)]
    return {"version": {"major": 5, "minor": 3}, "checkouts": checkouts, "builds": builds, "tests": tests}


def _checkout(name: str, comment: str) -> dict[str, Any]:
    return {"id": f"{ORIGIN}:{name}", "origin": ORIGIN, "valid": True, "comment": comment}


def _build(name: str, **more: Any) -> dict[str, Any]:
    """Give the build of a checkout, which has its name."""
    return {"id": f"{ORIGIN}:{name}", "checkout_id": f"{ORIGIN}:{name}", "origin": ORIGIN, **more}


def _built(name: str, step: StepResult, built: Built) -> dict[str, Any]:
    """Give a build of a step that has no run."""
    return _build(
        name, config_name=built.config, status="FAIL" if built.error else "PASS",
        comment=f"{step.title}: {step.headline}", duration=built.seconds, **_excerpt(built.error),
    )  # fmt: skip


def _excerpt(text: str) -> dict[str, str]:
    return {"log_excerpt": printable(text)[-_EXCERPT:]} if text else {}


def _boot(build: str, step: StepResult) -> dict[str, Any]:
    return {
        "id": f"{ORIGIN}:{build}.boot", "build_id": f"{ORIGIN}:{build}", "origin": ORIGIN, "path": "boot",
        "status": "FAIL", "comment": step.title, **_excerpt(step.boot),
    }  # fmt: skip


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
