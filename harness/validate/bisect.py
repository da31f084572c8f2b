# SPDX-License-Identifier: GPL-2.0-or-later
"""Which step of a series broke a test: each answer is asked for as often as a validation does, before it counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.errors import CouldNotRun, UsageError
from harness.outcome import Outcome, Verdict
from harness.provision.kbuild.make import DoesNotBuild
from harness.validate.changes import TURNS
from harness.validate.steps import Step

_TOLD = 200
"""Characters of a reason that progress repeats; the last word has all of it."""
_WELL = (Outcome.PASS, Outcome.KNOWN)


class Answer(StrEnum):
    """What a step says of the test."""

    GOOD = "good"
    BAD = "bad"
    UNTOLD = "untold"


@dataclass(frozen=True)
class Found:
    """The first step on which the test fails, and why; `among` are the steps that it may be where some told nothing."""

    step: Step
    reason: str
    among: Sequence[Step]


Ask = Callable[[Step], Verdict | None]
"""Builds a step and runs the test on it once; None where the test did not run."""
Tell = Callable[[str], None]


def bisect(steps: Sequence[Step], ask: Ask, tell: Tell) -> Found:
    """Find the step that broke a test which passes on the first step and fails on the last.

    Raises `UsageError` where it does not, `CouldNotRun` where the test is flaky or says nothing there.
    """
    reasons: dict[int, str] = {}

    def answer(step: Step) -> Answer:
        said, reason = _certain(step, ask)
        reasons[step.number] = reason
        why = reason.partition("\n")[0][:_TOLD]
        tell(f"{step.title}: {said}{f': {why}' if why else ''}")
        return said

    for step, wanted in ((steps[-1], Answer.BAD), (steps[0], Answer.GOOD)):
        if (said := answer(step)) is Answer.UNTOLD:
            raise CouldNotRun(f"{step.title}: the test says nothing there: {reasons[step.number]}")
        if said is not wanted:
            raise UsageError(f"{step.title}: the test is {said} there, and has to be {wanted}")
    good, bad = 0, len(steps) - 1
    untold: set[int] = set()
    while asked := [number for number in range(good + 1, bad) if number not in untold]:
        middle = min(asked, key=lambda number: abs(2 * number - good - bad))
        said = answer(steps[middle])
        if said is Answer.UNTOLD:
            untold.add(middle)
        elif said is Answer.GOOD:
            good = middle
        else:
            bad = middle
    return Found(steps[bad], reasons[steps[bad].number], steps[good + 1 : bad + 1])


def _certain(step: Step, ask: Ask) -> tuple[Answer, str]:
    said: list[Outcome] = []
    reason = ""
    for _ in range(1 + TURNS):
        try:
            verdict = ask(step)
        except DoesNotBuild as error:
            return Answer.UNTOLD, str(error)
        if verdict is None:
            return Answer.UNTOLD, "it did not run"
        if verdict.outcome is not Outcome.FAIL and verdict.outcome not in _WELL:
            return Answer.UNTOLD, f"{verdict.outcome}: {verdict.reason}"
        said.append(verdict.outcome)
        reason = verdict.reason if verdict.outcome is Outcome.FAIL else reason
    failing = said.count(Outcome.FAIL)
    if 0 < failing < len(said):
        raise CouldNotRun(f"{step.title}: the test is flaky there: it fails {failing} of {len(said)} times: {reason}")
    return (Answer.BAD, reason) if failing else (Answer.GOOD, "")
