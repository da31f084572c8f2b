# SPDX-License-Identifier: GPL-2.0-or-later
"""What a patch changed in the tests' verdicts, and how certain that is: a changed verdict is asked for again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from harness.outcome import Outcome, Verdict

TURNS = 3
"""How often both kernels are asked again, but for one on which the test could not run. Four like answers on either side
happen by chance once in 35 times where the two do not differ (Fisher's exact test), and a test that fails in every
second run shows that in 7 of 8 cases.
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
    """A test whose verdict changed with a patch: what it said without and with it, by the turn that it was asked in."""

    test: str
    reason: str
    before: dict[int, Outcome] = field(default_factory=dict)
    after: dict[int, Outcome] = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        """What became of it: flaky where either kernel did not always say the same."""
        said, told = {*self.before.values()}, {*self.after.values()}
        if len(said) > 1 or len(told) > 1:
            return Kind.FLAKY
        if self.was_skipped and told <= {*_WELL}:
            return Kind.ADDED
        if any(self.asks_before(turn) or self.asks_after(turn) for turn in range(TURNS + 1)):
            return Kind.LOST  # it was not asked, or did not answer, as often as it takes to be certain
        (after,) = told
        if after is Outcome.FAIL:
            return Kind.UNMET if self.was_skipped else Kind.BROKEN
        if after in _WELL:
            return Kind.FIXED
        return Kind.SKIPPED if after is Outcome.SKIP else Kind.LOST

    @property
    def was_skipped(self) -> bool:
        """Whether the kernels before it had not got what it asks for; that is no matter of chance."""
        return {*self.before.values()} == {Outcome.SKIP}

    def asks_before(self, turn: int) -> bool:
        """Tell whether the kernel before the patch is to be asked in a turn."""
        return turn not in self.before and not self.was_skipped

    def asks_after(self, turn: int) -> bool:
        """Tell whether the kernel with the patch is; of one that can run only now, and passes, nothing is claimed."""
        return turn not in self.after and not (self.was_skipped and self.after.get(0) in _WELL)

    @property
    def rates(self) -> str:
        """How often it failed: `fails 4 of 4, before 0 of 4`."""
        before = "it could not run" if self.was_skipped else _failing(self.before)
        return f"fails {_failing(self.after)}, before {before}"


def changed(before: Mapping[str, Verdict], after: Mapping[str, Verdict]) -> list[Change]:
    """Give the tests that answered otherwise than before, or not at all."""
    found = [Change(test, "it did not run", {0: then.outcome}) for test, then in before.items() if test not in after]
    for test, now in after.items():
        then = before.get(test)
        if then is None or _alike(then.outcome, now.outcome):
            continue
        reason = now.reason if now.outcome not in _WELL else then.reason
        found.append(Change(test, reason, {0: then.outcome}, {0: now.outcome}))
    return found


def add(changes: Sequence[Change], turn: int, before: Mapping[str, Verdict], after: Mapping[str, Verdict]) -> None:
    """Add what another turn said; a test that it did not reach has said nothing new."""
    for one in changes:
        if one.test in before:
            one.before[turn] = before[one.test].outcome
        if one.test in after:
            one.after[turn] = after[one.test].outcome


def _alike(one: Outcome, other: Outcome) -> bool:
    return one is other or {one, other} <= {*_WELL}


def _failing(said: Mapping[int, Outcome]) -> str:
    return f"{sum(one is Outcome.FAIL for one in said.values())} of {len(said)}"
