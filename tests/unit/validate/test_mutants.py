# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of mutants, with kernels and test runs that are made up; and the mutants that there are."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness import paths
from harness.errors import CouldNotRun, UsageError
from harness.outcome import Exit, Outcome, Verdict
from harness.validate import mutants, run
from harness.validate.mutants import Examined, Mutant
from harness.validate.run import TestRun

FIRST, ALL = "tests/first.py", "tests/all"


def mutant(name: str = "m", first: str | None = FIRST) -> Mutant:
    return Mutant(name, "sriov", Path(f"{name}.patch"), "breaks it", first)


class Runs:
    """Answers each run of tests with what was said that they would say."""

    def __init__(self, **said: Sequence[tuple[str, Outcome]]) -> None:
        self.said = {"tests/first.py": said.get("first", ()), "tests/all": said.get("all", ())}
        self.again = said.get("again")
        self.asked: list[tuple[str, list[str]]] = []

    def __call__(self, kernel: str, tests: Sequence[str], **_: Any) -> TestRun:
        self.asked.append((kernel, list(tests)))
        said = self.said.get(tests[0]) or self.again or [(test, Outcome.FAIL) for test in tests]
        return TestRun(Path("run"), [Verdict(test=test, outcome=outcome, reason="why") for test, outcome in said])


def examine(monkeypatch: pytest.MonkeyPatch, runs: Runs, one: Mutant) -> Examined:
    monkeypatch.setattr(mutants, "run_tests", runs)
    [found] = mutants.examine([one], lambda it: f"kernel-{it.name}", ALL, workers=2)
    return found


def test_what_is_tried_first_kills_and_nothing_else_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(first=[("a", Outcome.PASS), ("b", Outcome.FAIL)])
    found = examine(monkeypatch, runs, mutant())
    assert (found.killed_by, found.reason, found.survived) == ("b", "why", False)
    assert runs.asked == [("kernel-m", [FIRST]), ("kernel-m", ["b"])]


def test_what_fails_only_once_has_killed_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = examine(monkeypatch, Runs(first=[("a", Outcome.FAIL)], again=[("a", Outcome.PASS)]), mutant())
    assert (found.killed_by, found.survived, found.trouble) == (None, False, "a fails only sometimes")


def test_what_lives_through_that_meets_the_whole_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(first=[("a", Outcome.PASS)], all=[("c", Outcome.KNOWN), ("d", Outcome.FAIL)])
    assert examine(monkeypatch, runs, mutant()).killed_by == "d"
    assert [tests for _, tests in runs.asked] == [[FIRST], [ALL], ["d"]]


def test_without_a_hint_the_whole_suite_is_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(all=[("d", Outcome.FAIL)])
    assert examine(monkeypatch, runs, mutant(first=None)).killed_by == "d"
    assert [tests for _, tests in runs.asked] == [[ALL], ["d"]]


def test_a_mutant_that_nobody_notices_survives(monkeypatch: pytest.MonkeyPatch) -> None:
    well = [("a", Outcome.PASS), ("b", Outcome.SKIP)]
    found = examine(monkeypatch, Runs(first=well, all=well), mutant())
    assert (found.survived, found.killed_by, found.trouble) == (True, None, "")


@pytest.mark.parametrize("outcome", [Outcome.MISS, Outcome.ERROR])
def test_what_says_nothing_of_the_kernel_is_no_kill_and_no_survival(
    monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    found = examine(monkeypatch, Runs(first=[("a", Outcome.PASS), ("b", outcome)]), mutant())
    assert (found.killed_by, found.survived, found.trouble) == (None, False, f"b: {outcome}: why")


def test_where_every_test_is_skipped_nothing_was_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    found = examine(monkeypatch, Runs(all=[("a", Outcome.SKIP)]), mutant(first=None))
    assert (found.survived, found.trouble) == (False, "no test ran (see run)")


def test_a_mutant_that_cannot_be_built_or_run_does_not_end_the_examination(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(one: Mutant) -> str:
        if one.name == "bad":
            raise UsageError("does not apply")
        return one.name

    monkeypatch.setattr(mutants, "run_tests", Runs(first=[("b", Outcome.FAIL)]))
    found = list(mutants.examine([mutant("bad"), mutant("good")], build, ALL, workers=1))
    assert [(one.trouble, one.killed_by) for one in found] == [("does not apply", None), ("", "b")]


def test_a_test_that_fails_without_the_mutant_too_has_killed_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"a": Outcome.PASS, "b": Outcome.FAIL, "k": Outcome.KNOWN}

    def plain(kernel: str, tests: Sequence[str], **_: Any) -> TestRun:
        assert (kernel, tests) == ("plain", ["a", "b", "k", "n"])
        return TestRun(Path(), [Verdict(test=test, outcome=said[test]) for test in tests if test in said])

    monkeypatch.setattr(mutants, "run_tests", plain)
    examined = [Examined(mutant(), test) for test in ("b", "a", "n", "k")] + [Examined(mutant(), None)]
    found = mutants.confirmed(examined, "plain", workers=1)
    assert [one.killed_by for one in found] == [None, "a", None, "k", None]
    assert [one.trouble for one in found] == [
        "b is a FAIL on the kernel without the mutant, too", "", "n did not run on the kernel without the mutant, too",
        "", "",
    ]  # fmt: skip
    assert [one.survived for one in found] == [False, False, False, False, True]


def test_what_could_not_be_confirmed_is_no_kill_and_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any, **__: Any) -> TestRun:
        raise CouldNotRun("no room")

    monkeypatch.setattr(mutants, "run_tests", none)
    found = mutants.confirmed([Examined(mutant(), "a"), Examined(mutant(), None)], "plain", workers=1)
    assert [(one.killed_by, one.trouble) for one in found] == [(None, "not confirmed: no room"), (None, "")]


def test_where_nothing_was_killed_nothing_is_confirmed() -> None:
    assert mutants.confirmed([Examined(mutant(), None)], "plain", workers=1) == [Examined(mutant(), None)]


@pytest.mark.parametrize(("suite", "at_least"), [("sriov", 20), ("siov", 15)])
def test_every_mutant_says_what_it_breaks_and_which_tests_are_likely_to_notice(suite: str, at_least: int) -> None:
    there = mutants.known(suite)
    assert len(there) >= at_least
    for one in there:
        assert one.subject, one.name
        assert one.first is not None, one.name
        file, _, test = one.first.partition("::")
        assert f"def {test}" in (paths.data_root() / file).read_text(encoding="utf-8"), one.name
    assert len({one.path.read_text() for one in there}) == len(there)


def test_no_two_mutants_have_one_name() -> None:
    names = [one.name for one in mutants.known()]
    assert len(set(names)) == len(names)


def test_names_that_are_none_are_refused() -> None:
    there = mutants.known("sriov")
    assert mutants.chosen(there, []) == there
    assert mutants.chosen(there, [there[1].name]) == [there[1]]
    with pytest.raises(UsageError, match="unknown mutant 'nope' \\(there are: "):
        mutants.chosen(there, ["nope"])
    with pytest.raises(UsageError, match="unknown suite of mutants 'nope' \\(there are: "):
        mutants.known("nope")


def answering(monkeypatch: pytest.MonkeyPatch, code: int, output: str) -> list[list[str]]:
    asked: list[list[str]] = []

    def answer(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, code, output, "last words")

    monkeypatch.setattr(run.subprocess, "run", answer)
    return asked


def test_a_run_is_harness_test_and_gives_its_verdicts_in_the_order_of_the_tests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tests = '[{"test": "b", "outcome": "FAIL", "started": 2}, {"test": "a", "outcome": "PASS", "started": 1}]'
    asked = answering(monkeypatch, Exit.FAIL, f'{{"run": "/r", "tests": {tests}}}')
    found = run.run_tests("k", ["x.py"], workers=2, first_failure=True)
    assert [one.test for one in found.verdicts] == ["a", "b"]
    assert found.first(Outcome.FAIL) == found.verdicts[1]
    assert found.first(Outcome.MISS) is None
    assert asked[0][3:] == ["test", "x.py", "--kernel", "k", "-n", "2", "-x", "--json"]


NO_RESULTS = ["", "{}", "junk", '{"run": "/r", "tests": [{"test": 1}]}', '{"run": "/r", "tests": 7}']


@pytest.mark.parametrize("output", NO_RESULTS)
def test_a_run_without_a_result_is_no_result(monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    answering(monkeypatch, 2, output)
    with pytest.raises(CouldNotRun, match="on kernel k ended with 2, and without a result") as caught:
        run.run_tests("k", ["x.py"])
    assert caught.value.detail == "last words"


def test_a_run_that_was_interrupted_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, Exit.INTERRUPTED, "{}")
    with pytest.raises(KeyboardInterrupt):
        run.run_tests("k", ["x.py"])
