# SPDX-License-Identifier: GPL-2.0-or-later
"""What counts as a change, and when it is certain."""

from __future__ import annotations

import pytest

from harness.outcome import Outcome, Verdict
from harness.validate.changes import Change, Kind, add, changed

P, F, K, S, M, E = (Outcome[name] for name in ("PASS", "FAIL", "KNOWN", "SKIP", "MISS", "ERROR"))


def said(**outcomes: Outcome) -> dict[str, Verdict]:
    return {name: Verdict(test=name, outcome=one, reason=f"{name} {one}") for name, one in outcomes.items()}


def test_only_what_both_were_asked_and_answered_otherwise_has_changed() -> None:
    before = said(same=P, broken=P, fixed=F, known=K, gone=P)
    after = said(same=P, broken=F, fixed=P, known=P, new=F)
    assert [(one.test, one.reason) for one in changed(before, after)] == [
        ("gone", "it did not run"),
        ("broken", "broken FAIL"),
        ("fixed", "fixed FAIL"),
    ]


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ([P] * 4, [F] * 4, Kind.BROKEN),
        ([K] * 4, [F] * 4, Kind.BROKEN),
        ([S], [F] * 4, Kind.UNMET),
        ([S], [F, P, F, F], Kind.FLAKY),
        ([S], [F] * 3, Kind.LOST),
        ([S], [P], Kind.ADDED),
        ([S, P, S, S], [P] * 4, Kind.FLAKY),
        ([S], [E] * 4, Kind.LOST),
        ([F], [S] * 4, Kind.LOST),
        ([F] * 4, [P] * 4, Kind.FIXED),
        ([P] * 4, [S] * 4, Kind.SKIPPED),
        ([P] * 4, [M] * 4, Kind.LOST),
        ([P] * 4, [E] * 4, Kind.LOST),
        ([P] * 4, [F, F, P, F], Kind.FLAKY),
        ([P, P, F, P], [F] * 4, Kind.FLAKY),
        ([P] * 4, [F] * 3, Kind.LOST),
        ([P], [F], Kind.LOST),
        ([P], [], Kind.LOST),
    ],
)
def test_what_became_of_a_test(before: list[Outcome], after: list[Outcome], kind: Kind) -> None:
    assert Change("t", "", dict(enumerate(before)), dict(enumerate(after))).kind is kind


def test_a_test_that_could_not_run_is_asked_on_the_patched_kernel_alone() -> None:
    unmet, added = Change("t", "", {0: S}, {0: F}), Change("t", "", {0: S}, {0: P})
    assert [(one.asks_before(1), one.asks_after(1)) for one in (unmet, added)] == [(False, True), (False, False)]
    assert Change("t", "", {0: S}, dict.fromkeys(range(4), F)).rates == "fails 4 of 4, before it could not run"


def test_a_turn_counts_once() -> None:
    change = Change("t", "", {0: F, 1: F, 3: F}, dict.fromkeys(range(4), P))
    add([change], 1, said(t=F), {})
    assert change.kind is Kind.LOST
    assert [turn for turn in range(4) if change.asks_before(turn)] == [2]


def test_a_flaky_test_has_its_rate_on_either_side() -> None:
    change = Change("t", "", {0: P}, {0: F})
    for turn, (then, now) in enumerate(((P, P), (F, F), (P, P)), 1):
        add([change], turn, said(t=then), said(t=now))
    add([change], 4, {}, {})
    assert change.kind is Kind.FLAKY
    assert change.rates == "fails 2 of 4, before 1 of 4"
