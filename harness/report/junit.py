# SPDX-License-Identifier: GPL-2.0-or-later
"""JUnit XML: FAIL is `failure`; ERROR and MISS are `error`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

from harness.outcome import Outcome

TAGS: Mapping[str, str] = {Outcome.FAIL: "failure", Outcome.ERROR: "error", Outcome.MISS: "error"}


def settle(path: Path) -> None:
    """Rename the results in pytest's JUnit file to what the test cases' `outcome` property says.

    pytest tells `failure` from `error` by the phase in which a test broke; the outcome knows better. Cases without
    that property are left as they are.
    """
    tree = ET.parse(path)  # noqa: S314 - pytest has just written it
    for suite in tree.iter("testsuite"):
        outcomes = {_name(case): outcome for case in suite.iter("testcase") if (outcome := _outcome(case)) is not None}
        for case in suite.iter("testcase"):
            _settle_case(case, outcomes.get(_name(case), ""))
        for tag, count in (("failure", "failures"), ("error", "errors")):
            suite.set(count, str(sum(1 for _ in suite.iter(tag))))
    draft = path.with_name(f"{path.name}.tmp")
    tree.write(draft, encoding="utf-8", xml_declaration=True)
    draft.replace(path)


def _name(case: ET.Element) -> tuple[str | None, str | None]:
    # pytest makes two cases of a test that breaks once more in its teardown, and gives the property to the second.
    return case.get("classname"), case.get("name")


def _outcome(case: ET.Element) -> str | None:
    # The last one is ours; a test may have recorded a property of that name itself.
    found = case.findall("properties/property[@name='outcome']")
    return found[-1].get("value") if found else None


def _settle_case(case: ET.Element, outcome: str) -> None:
    wanted = TAGS.get(outcome)
    if wanted is None:
        return
    results = [result for tag in ("failure", "error") for result in case.findall(tag)]
    for result in results:
        result.tag = wanted
