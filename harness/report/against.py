# SPDX-License-Identifier: GPL-2.0-or-later
"""Two runs of the same tests, on two kernels: which tests said something else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from harness.outcome import Exit, Outcome, Verdict

_UNTOLD = (Outcome.MISS, Outcome.ERROR)
"""Outcomes that say nothing of a kernel."""
_VARIES = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{4,}\b|\d+(?:\.\d+)?")
"""What of a reason differs from run to run: times, addresses, process ids."""


def alike(one: Verdict, other: Verdict) -> bool:
    """Tell whether two verdicts are the same: the reasons, too, but for numbers that no two runs have in common."""
    return one.outcome is other.outcome and _VARIES.sub("N", one.reason) == _VARIES.sub("N", other.reason)


@dataclass(frozen=True)
class Difference:
    """A test whose verdicts differ: `here` is the kernel under test, `there` the other; None where it did not run."""

    test: str
    here: Outcome | None
    there: Outcome | None
    reason: str

    @property
    def counts(self) -> bool:
        """Whether the kernels behave differently: a test that only one of them ran tells that where it FAILs.

        Two FAILs for different reasons are one verdict, but worth a look.
        """
        if self.here is self.there:
            return False
        both = {self.here, self.there}
        return Outcome.FAIL in both if both & {Outcome.SKIP, None} else not both & {*_UNTOLD}


@dataclass(frozen=True)
class Comparison:
    """What two runs said of the same tests."""

    same: int
    differences: tuple[Difference, ...]
    untold: tuple[Outcome, ...]
    """Outcomes, in either run, that say nothing of a kernel."""

    @classmethod
    def of(cls, here: Iterable[Verdict], there: Iterable[Verdict]) -> Comparison:
        """Compare the verdicts of two runs, test by test."""
        ours, theirs = ({one.test: one for one in run} for run in (here, there))
        differences = []
        for test in sorted({*ours, *theirs}):
            one, other = ours.get(test), theirs.get(test)
            said, otherwise = one.outcome if one else None, other.outcome if other else None
            reasons = [each.reason for each in (one, other) if each and each.reason]
            if said != otherwise:
                differences.append(Difference(test, said, otherwise, next(iter(reasons), "")))
            elif one and other and said is Outcome.FAIL and not alike(one, other):
                differences.append(Difference(test, said, otherwise, ", but there: ".join(reasons)))
        untold = tuple(one.outcome for one in (*ours.values(), *theirs.values()) if one.outcome in _UNTOLD)
        untold += (Outcome.MISS,) * any(one.here is None or one.there is None for one in differences)
        return cls(len({*ours, *theirs}) - len(differences), tuple(differences), untold)

    @property
    def code(self) -> Exit:
        """Give the exit code: a difference first, then what could not be compared."""
        if any(one.counts for one in self.differences):
            return Exit.FAIL
        if Outcome.MISS in self.untold:
            return Exit.MISS
        if self.untold:
            return Exit.ERROR
        return Exit.OK if self.same or self.differences else Exit.EMPTY
