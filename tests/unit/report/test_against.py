# SPDX-License-Identifier: GPL-2.0-or-later
"""Two runs, test by test."""

from __future__ import annotations

import pytest

from harness.outcome import Exit, Outcome, Verdict
from harness.report.against import Comparison, Difference

PASS, FAIL, SKIP, MISS, ERROR, KNOWN = (
    Outcome.PASS, Outcome.FAIL, Outcome.SKIP, Outcome.MISS, Outcome.ERROR, Outcome.KNOWN
)  # fmt: skip


def run(*outcomes: Outcome | None) -> list[Verdict]:
    return [Verdict(test=str(at), outcome=one, reason=f"{one}!") for at, one in enumerate(outcomes) if one]


@pytest.mark.parametrize(
    ("here", "there", "code", "same", "differing"),
    [
        ((PASS, FAIL, SKIP), (PASS, FAIL, SKIP), Exit.OK, 3, 0),
        ((PASS, FAIL), (PASS, PASS), Exit.FAIL, 1, 1),
        ((PASS, KNOWN), (PASS, PASS), Exit.FAIL, 1, 1),
        ((PASS, PASS), (PASS, SKIP), Exit.OK, 1, 1),
        ((PASS, MISS), (PASS, MISS), Exit.MISS, 2, 0),
        ((PASS, ERROR), (PASS, PASS), Exit.ERROR, 1, 1),
        ((MISS, FAIL), (PASS, PASS), Exit.FAIL, 0, 2),
        ((MISS, PASS), (FAIL, PASS), Exit.MISS, 1, 1),
        ((PASS, FAIL), (PASS, SKIP), Exit.FAIL, 1, 1),
        ((PASS, PASS), (PASS, None), Exit.MISS, 1, 1),
        ((PASS, FAIL), (PASS, None), Exit.FAIL, 1, 1),
        ((), (), Exit.EMPTY, 0, 0),
    ],
)
def test_what_differs_counts_first_and_then_what_could_not_be_told(
    here: tuple[Outcome, ...], there: tuple[Outcome, ...], code: Exit, same: int, differing: int
) -> None:
    found = Comparison.of(run(*here), run(*there))
    assert (found.code, found.same, len(found.differences)) == (code, same, differing)


def test_a_difference_has_the_reason_of_whoever_gives_one() -> None:
    ours = [Verdict(test="a", outcome=PASS), Verdict(test="b", outcome=FAIL, reason="b here")]
    theirs = [Verdict(test="a", outcome=FAIL, reason="a there"), Verdict(test="b", outcome=PASS)]
    assert Comparison.of(ours, theirs).differences == (
        Difference("a", PASS, FAIL, "a there"), Difference("b", FAIL, PASS, "b here")
    )  # fmt: skip


def test_two_fails_for_different_reasons_are_shown_and_count_for_nothing() -> None:
    here = [
        Verdict(test=name, outcome=Outcome.FAIL, reason=why) for name, why in (("a", "oops at 7 s"), ("b", "EBUSY"))
    ]
    there = [Verdict(test=name, outcome=Outcome.FAIL, reason=why) for name, why in (("a", "oops at 9 s"), ("b", "EIO"))]
    found = Comparison.of(here, there)
    assert [(one.test, one.reason, one.counts) for one in found.differences] == [("b", "EBUSY, but there: EIO", False)]
    assert found.code is Exit.OK
