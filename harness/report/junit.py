# SPDX-License-Identifier: GPL-2.0-or-later
"""JUnit XML: FAIL is `failure`; ERROR and MISS are `error`."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from harness.outcome import Outcome

_TAGS = {Outcome.FAIL: "failure", Outcome.ERROR: "error", Outcome.MISS: "error"}


def settle(path: Path) -> None:
    """Rename the results in pytest's JUnit file to what the test cases' `outcome` property says.

    pytest tells `failure` from `error` by the phase in which a test broke; the outcome knows better. Cases without
    that property are left as they are.
    """
    tree = ET.parse(path)  # noqa: S314 - pytest has just written it
    for suite in tree.iter("testsuite"):
        for case in suite.iter("testcase"):
            _settle_case(case)
        for tag, count in (("failure", "failures"), ("error", "errors")):
            suite.set(count, str(sum(1 for _ in suite.iter(tag))))
    tree.write(path, encoding="utf-8", xml_declaration=True)


def _settle_case(case: ET.Element) -> None:
    found = case.find("properties/property[@name='outcome']")
    wanted = _TAGS.get(Outcome(found.get("value", ""))) if found is not None else None
    if wanted is None:
        return
    results = [result for tag in ("failure", "error") for result in case.findall(tag)]
    for result in results:
        result.tag = wanted
