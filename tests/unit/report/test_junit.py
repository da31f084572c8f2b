# SPDX-License-Identifier: GPL-2.0-or-later
"""The JUnit file: what a test's outcome says goes before what pytest makes of the phase in which it broke."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from harness.report import junit

RESULTS = ("failure", "error", "skipped")


def case(name: str, results: str = "", *outcomes: str, classname: str = "tests.test_x") -> str:
    properties = "".join(f'<property name="outcome" value="{outcome}" />' for outcome in outcomes)
    held = f"<properties>{properties}</properties>" if outcomes else ""
    return f'<testcase classname="{classname}" name="{name}" time="1.5">{held}{results}</testcase>'


def settled(folder: Path, *cases: str, suites: int = 1) -> ET.Element:
    """Write a file as pytest does, settle it, and read it back."""
    body = f'<testsuite name="pytest" errors="7" failures="7" skipped="1" tests="9">{"".join(cases)}</testsuite>'
    path = folder / "junit.xml"
    path.write_text(f'<?xml version="1.0" encoding="utf-8"?><testsuites name="x">{body * suites}</testsuites>')
    junit.settle(path)
    assert list(folder.iterdir()) == [path]
    return ET.parse(path).getroot()  # noqa: S314 - our own file


def tags(root: ET.Element) -> list[list[str]]:
    return [[result.tag for result in one if result.tag in RESULTS] for one in root.iter("testcase")]


def counts(root: ET.Element) -> list[tuple[str | None, str | None]]:
    return [(suite.get("failures"), suite.get("errors")) for suite in root.iter("testsuite")]


@pytest.mark.parametrize("written", ["failure", "error"])
@pytest.mark.parametrize(("outcome", "tag"), [("FAIL", "failure"), ("ERROR", "error"), ("MISS", "error")])
def test_the_outcome_decides_between_failure_and_error(tmp_path: Path, written: str, outcome: str, tag: str) -> None:
    root = settled(tmp_path, case("test_a", f'<{written} message="why">how</{written}>', outcome))
    assert tags(root) == [[tag]]
    (result,) = root.iter(tag)
    assert (result.get("message"), result.text) == ("why", "how")
    assert counts(root) == [("1", "0") if tag == "failure" else ("0", "1")]


@pytest.mark.parametrize(("outcome", "results"), [("PASS", ""), ("SKIP", "<skipped />"), ("KNOWN", "<skipped />")])
def test_an_outcome_without_anything_broken_changes_nothing(tmp_path: Path, outcome: str, results: str) -> None:
    root = settled(tmp_path, case("test_a", results, outcome))
    assert tags(root) == [["skipped"] if results else []]
    assert counts(root) == [("0", "0")]


@pytest.mark.parametrize("outcomes", [(), ("",), ("good",), ("fail",)])
def test_a_case_without_an_outcome_of_ours_is_left_as_it_is(tmp_path: Path, outcomes: tuple[str, ...]) -> None:
    root = settled(tmp_path, case("test_a", "<error />", *outcomes), case("test_b", "<failure />", *outcomes))
    assert tags(root) == [["error"], ["failure"]]


def test_of_two_outcomes_the_last_is_ours(tmp_path: Path) -> None:
    root = settled(tmp_path, case("test_a", "<error />", "the test's own", "FAIL"))
    assert tags(root) == [["failure"]]


def test_a_test_that_breaks_again_in_its_teardown_has_one_outcome(tmp_path: Path) -> None:
    """Pytest makes two cases of it, and only the second one has the property."""
    root = settled(
        tmp_path,
        case("test_a", "<failure />"),
        case("test_a", "<error />", "MISS"),
        case("test_a", "<failure />", classname="tests.test_y"),
    )
    assert tags(root) == [["error"], ["error"], ["failure"]]
    assert counts(root) == [("1", "2")]


def test_each_suite_counts_its_own_and_keeps_what_it_says_besides(tmp_path: Path) -> None:
    cases = [case("test_a", "<error />", "FAIL"), case("test_b", "<failure />", "ERROR"), case("test_c")]
    root = settled(tmp_path, *cases, suites=2)
    assert counts(root) == [("1", "1"), ("1", "1")]
    assert [(suite.get("tests"), suite.get("skipped")) for suite in root.iter("testsuite")] == [("9", "1")] * 2
    assert root.get("name") == "x"


def test_text_of_a_guest_comes_back_as_it_was(tmp_path: Path) -> None:
    hostile = "&lt;/failure&gt; &amp;amp; ]]&gt; \u00e9 \u4e2d \U0001f600 #x1B[31m&#9;tab"
    root = settled(tmp_path, case("test_&lt;a&gt;", f'<error message="{hostile}&#10;two">{hostile}</error>', "FAIL"))
    (failure,) = root.iter("failure")
    plain = "</failure> &amp; ]]> \u00e9 \u4e2d \U0001f600 #x1B[31m\ttab"
    assert failure.text == plain
    assert failure.get("message") == f"{plain}\ntwo"
    assert [one.get("name") for one in root.iter("testcase")] == ["test_<a>"]


TESTS = r"""
import pytest

@pytest.fixture
def broken(record_property):
    record_property("outcome", "FAIL")
    raise RuntimeError("\x1b[31m \x00 \x08 \ud800 <&> ]]> \u202e \ufffe")

def test_fails_in_setup(broken):
    pass

@pytest.mark.parametrize("what", ["\x1b[2J", "\u202e", "<&\">"])
def test_errs_in_call(record_property, what):
    record_property("outcome", "ERROR")
    assert what == "\x07\x1b]0;title\x07"
"""


def test_what_pytest_itself_writes_is_settled_whatever_a_test_says(tmp_path: Path) -> None:
    (tmp_path / "test_hostile.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", ".", "-q"]
    subprocess.run([*command, "--junitxml", "junit.xml"], cwd=tmp_path, capture_output=True, check=False)
    junit.settle(tmp_path / "junit.xml")
    text = (tmp_path / "junit.xml").read_bytes()
    assert not set(text) & (set(range(0x20)) - {0x9, 0xA, 0xD})
    root = ET.parse(tmp_path / "junit.xml").getroot()  # noqa: S314 - our own file
    assert tags(root) == [["failure"], ["error"], ["error"], ["error"]]
    assert counts(root) == [("1", "3")]
