# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs as JUnit XML, made of their records: FAIL is `failure`, ERROR and MISS are `error`, KNOWN and SKIP `skipped`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

from harness.outcome import Outcome, Verdict
from harness.report import junit
from harness.report.run import Run
from harness.report.validation import Validation
from harness.text import printable

_TAGS: Mapping[str, str] = {**junit.TAGS, Outcome.SKIP: "skipped", Outcome.KNOWN: "skipped"}
_COUNTS = {"failure": "failures", "error": "errors", "skipped": "skipped"}


def render(runs: Sequence[Run], validations: Sequence[Validation] = ()) -> str:
    """Give the document: a suite for each validation, with a case for each step, and one for each run."""
    root = ET.Element("testsuites", name="iov-harness")
    for one in validations:
        root.append(_patches(one))
    for run in runs:
        root.append(_suite(run))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(run: Run) -> ET.Element:
    started = datetime.fromtimestamp(run.results[0].verdict.started, UTC)
    suite = ET.Element(
        "testsuite", name=run.title, tests=str(len(run.results)), time=f"{run.seconds:.3f}",
        timestamp=started.isoformat(),
    )  # fmt: skip
    _properties(
        suite, {name: run.machine.get(name) for name in ("kernel", "release", "kernel_origin", "qemu", "accel")}
    )
    for one in run.results:
        suite.append(_case(one.verdict))
    return _counted(suite)


def _patches(validation: Validation) -> ET.Element:
    """Give a suite in which a case is the base or a patch: whether it builds, boots, and breaks nothing."""
    suite = ET.Element(
        "testsuite", name=printable(validation.series), tests=str(len(validation.steps)),
        time=f"{validation.seconds:.3f}",
    )  # fmt: skip
    for step in validation.steps:
        case = ET.SubElement(
            suite, "testcase", classname="patches", name=printable(step.title), time=f"{step.seconds:.3f}"
        )
        _add_result(case, step.outcome, step.headline, step.told)
    return _counted(suite)


def _counted(suite: ET.Element) -> ET.Element:
    for tag, count in _COUNTS.items():
        suite.set(count, str(sum(1 for _ in suite.iter(tag))))
    return suite


def _case(verdict: Verdict) -> ET.Element:
    file, _, name = verdict.test.partition("::")
    classname = file.removesuffix(".py").replace("/", ".")
    case = ET.Element("testcase", classname=classname, name=name or file, time=f"{verdict.seconds:.3f}")
    machine = verdict.machine
    properties = {"outcome": verdict.outcome, "stage": verdict.stage, "rows": " ".join(verdict.rows)}
    _properties(case, {**properties, **{name: machine.get(name) for name in ("kernel", "qemu", "profile")}})
    _add_result(case, verdict.outcome, verdict.reason, verdict.detail)
    return case


def _add_result(case: ET.Element, outcome: Outcome, message: str, text: str) -> None:
    if outcome in _TAGS:
        result = ET.SubElement(case, _TAGS[outcome], message=printable(message))
        result.text = printable(text)


def _properties(of: ET.Element, values: Mapping[str, object]) -> None:
    there = {name: str(value) for name, value in values.items() if value}
    if there:
        properties = ET.SubElement(of, "properties")
        for name, value in there.items():
            ET.SubElement(properties, "property", name=name, value=printable(value))
