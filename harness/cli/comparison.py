# SPDX-License-Identifier: GPL-2.0-or-later
"""`harness test --against`: what two kernels say to the same tests; and what a run of `harness test` said."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.cli import flags, output
from harness.outcome import Exit, Verdict
from harness.report.against import Comparison, Difference


@dataclass(frozen=True)
class Ran:
    """A run: on which kernel, its records, what its tests said, and how it is to be told by an exit code."""

    kernel: str
    folder: Path
    verdicts: tuple[Verdict, ...]
    code: int
    interrupted: bool = False

    @property
    def stopped(self) -> bool:
        """Whether it did not come to its end, so that nothing can be held against it."""
        return self.interrupted or not self.verdicts

    def plain(self) -> dict[str, object]:
        """Give it as JSON has it."""
        counts = Counter(str(verdict.outcome) for verdict in self.verdicts)
        tests = [verdict.model_dump(by_alias=True) for verdict in self.verdicts]
        return {"run": str(self.folder), "exit": self.code, "outcomes": counts, "tests": tests}


def told(here: Ran, there: Ran, *, json: bool) -> int:
    """Print which tests said something else on the other kernel, and give the exit code."""
    found = Comparison.of(here.verdicts, there.verdicts)
    code = _code(found, here, there)
    if json:
        other = {"kernel": there.kernel, "interrupted": there.interrupted, **there.plain()}
        differences = [{**asdict(one), "counts": one.counts} for one in found.differences]
        flags.print_json({**here.plain(), "exit": code, "against": other, "differences": differences})
        return code
    if there.stopped:
        output.console().print(f"nothing to compare: the run on {there.kernel} did not come to its end")
        return code
    if found.differences:
        output.table("test", here.kernel, there.kernel, "why", rows=[_row(one) for one in found.differences])
    aside = sum(not one.counts for one in found.differences)
    beside = f", {aside} more are told on one of them only, or FAIL for another reason" if aside else ""
    output.console().print(
        f"{found.same} tests say the same on {here.kernel} and {there.kernel}, "
        f"{len(found.differences) - aside} something else{beside}"
    )
    return code


def _code(found: Comparison, here: Ran, there: Ran) -> int:
    """Give the exit code: a run that was cut short, or that had errors beside its tests, is no comparison."""
    if there.interrupted:
        return Exit.INTERRUPTED
    if there.stopped:
        return there.code if there.code != Exit.OK else Exit.EMPTY
    if found.code in (Exit.OK, Exit.EMPTY) and Exit.ERROR in (here.code, there.code):
        return Exit.ERROR
    return found.code


def _row(one: Difference) -> tuple[str, str, str, str]:
    return one.test, one.here or "-", one.there or "-", one.reason.partition("\n")[0]
