# SPDX-License-Identifier: GPL-2.0-or-later
"""The step that broke a test, found among steps that say what they are told to."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.errors import CouldNotRun, UsageError
from harness.outcome import Outcome, Verdict
from harness.provision.kbuild.make import DoesNotBuild
from harness.provision.kbuild.order import Order
from harness.validate.bisect import Found, bisect
from harness.validate.steps import Step

STEPS = [Step(number, f"patch {number}", Order("tree"), (), f"{number}") for number in range(17)]
asked: list[int] = []


def found(says: Callable[[int, int], Outcome | None]) -> Found:
    """Bisect, where a step says so the n-th time that it is asked."""
    asked.clear()

    def ask(step: Step) -> Verdict | None:
        asked.append(step.number)
        outcome = says(step.number, asked.count(step.number))
        return None if outcome is None else Verdict(test="t", outcome=outcome, reason=f"reason {step.number}")

    return bisect(STEPS, ask, lambda _: None)


@pytest.mark.parametrize("first", range(1, 17))
def test_the_first_bad_step_is_found_wherever_it_is(first: int) -> None:
    one = found(lambda number, _: Outcome.FAIL if number >= first else Outcome.PASS)
    assert (one.step.number, one.reason) == (first, f"reason {first}")
    assert [step.number for step in one.among] == [first]
    assert len({*asked}) <= 2 + 4
    assert {asked.count(number) for number in asked} == {4}


def test_steps_that_tell_nothing_are_passed_over_and_named() -> None:
    def says(number: int, _: int) -> Outcome | None:
        if number == 7:
            raise DoesNotBuild("error")
        if number in (8, 9):
            return Outcome.MISS if number == 8 else None
        return Outcome.FAIL if number >= 8 else Outcome.PASS

    one = found(says)
    assert [step.number for step in one.among] == [7, 8, 9, 10]


def test_a_flaky_test_finds_nothing() -> None:
    with pytest.raises(CouldNotRun, match="16: patch 16: the test is flaky there: it fails 1 of 4 times"):
        found(lambda _, turn: Outcome.FAIL if turn == 3 else Outcome.PASS)


@pytest.mark.parametrize(
    ("both", "why"),
    [
        (Outcome.PASS, "16: patch 16: the test is good there, and has to be bad"),
        (Outcome.FAIL, "base: the test is bad there, and has to be good"),
    ],
)
def test_the_ends_have_to_differ(both: Outcome, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        found(lambda *_: both)


def test_an_end_that_tells_nothing_ends_it() -> None:
    with pytest.raises(CouldNotRun, match="16: patch 16: the test says nothing there: SKIP: reason 16"):
        found(lambda *_: Outcome.SKIP)
