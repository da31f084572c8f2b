# SPDX-License-Identifier: GPL-2.0-or-later
"""What a patch changed in the tests' verdicts, and how certain that is: a changed verdict is asked for again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from harness.outcome import Outcome, Verdict

TURNS = 3
"""How often both kernels are asked again. Four like answers on either side happen by chance once in 35 times where the
two do not differ (Fisher's exact test), and a test that fails in every second run shows that in 7 of 8 cases.
"""
_WELL = (Outcome.PASS, Outcome.KNOWN)


class Kind(StrEnum):
    """What became of a test."""

    BROKEN = "broken"
    UNMET = "unmet"
    """It could not run before, and fails: what it asks for is begun."""
    FIXED = "fixed"
    ADDED = "added"
    """It could not run before, and passes."""
    SKIPPED = "skipped"
    LOST = "lost"
    FLAKY = "flaky"


@dataclass
class Change:
    """A test whose verdict changed with a patch; `before` and `after` are all that it said without and with it."""

    test: str
    reason: str
    before: list[Outcome] = field(default_factory=list)
    after: list[Outcome] = field(default_factory=list)

    @property
    def kind(self) -> Kind:
        """What became of it: flaky where either kernel did not always say the same."""
        after = self.after[0] if self.after else Outcome.MISS
        if self.was_skipped and after in _WELL:
            return Kind.ADDED
        if len({*self.before}) > 1 or len({*self.after}) > 1:
            return Kind.FLAKY
        if self.asks_before or self.asks_after:
            return Kind.LOST  # it was not asked, or did not answer, as often as it takes to be certain
        if after is Outcome.FAIL:
            return Kind.UNMET if self.was_skipped else Kind.BROKEN
        if after in _WELL:
            return Kind.FIXED
        return Kind.SKIPPED if after is Outcome.SKIP else Kind.LOST

    @property
    def was_skipped(self) -> bool:
        """Whether the kernel before it had not got what it asks for; that is no matter of chance."""
        return self.before[0] is Outcome.SKIP

    @property
    def asks_before(self) -> bool:
        """Whether the kernel before the patch has not said often enough what becomes of it."""
        return not self.was_skipped and len(self.before) <= TURNS

    @property
    def asks_after(self) -> bool:
        """Whether the kernel with the patch has not; one that can run only now, and passes, is not asked again."""
        return len(self.after) <= TURNS and not (self.was_skipped and self.after and self.after[0] in _WELL)

    @property
    def rates(self) -> str:
        """How often it failed: `fails 4 of 4, before 0 of 4`."""
        before = "it could not run" if self.was_skipped else _failing(self.before)
        return f"fails {_failing(self.after)}, before {before}"


def changed(before: Mapping[str, Verdict], after: Mapping[str, Verdict]) -> list[Change]:
    """Give the tests that answered otherwise than before, or not at all."""
    found = [Change(test, "it did not run", [then.outcome]) for test, then in before.items() if test not in after]
    for test, now in after.items():
        then = before.get(test)
        if then is None or _alike(then.outcome, now.outcome):
            continue
        reason = now.reason if now.outcome not in _WELL else then.reason
        found.append(Change(test, reason, [then.outcome], [now.outcome]))
    return found


def add(changes: Sequence[Change], before: Mapping[str, Verdict], after: Mapping[str, Verdict]) -> None:
    """Add what another turn said; a test that it did not reach has said nothing new."""
    for one in changes:
        if one.test in before:
            one.before.append(before[one.test].outcome)
        if one.test in after:
            one.after.append(after[one.test].outcome)


def _alike(one: Outcome, other: Outcome) -> bool:
    return one is other or {one, other} <= {*_WELL}


def _failing(outcomes: Sequence[Outcome]) -> str:
    return f"{sum(one is Outcome.FAIL for one in outcomes)} of {len(outcomes)}"
