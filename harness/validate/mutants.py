# SPDX-License-Identifier: GPL-2.0-or-later
"""Mutants: kernels that are wrong in one small, deliberate way each. A suite that lets one live lacks a test.

A mutant is killed by a test that FAILs on it, and does not FAIL on the kernel without it: who cannot tell the two apart
has shown nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness import paths
from harness.errors import HarnessError, UsageError, unknown
from harness.outcome import Outcome
from harness.provision.kbuild import series
from harness.validate.run import TestRun, run_tests

FOLDER = Path("tests/mutants")
_TRY_FIRST = re.compile(r"^Try-first: (\S+)$", re.MULTILINE)
_MISSED = (Outcome.MISS, Outcome.ERROR)
"""Outcomes that say nothing of a kernel."""
_WELL = (Outcome.PASS, Outcome.KNOWN)

Build = Callable[["Mutant"], str]
"""Builds the kernel with a mutant, and gives the name that `--kernel` takes."""


@dataclass(frozen=True)
class Mutant:
    """A patch that breaks a kernel, what it breaks, whose suite ought to notice, and which tests to try first."""

    name: str
    suite: str
    path: Path
    subject: str
    first: str | None

    @classmethod
    def read(cls, path: Path) -> Mutant:
        """Read a patch, whose description may say `Try-first: TESTS`; raises `UsageError`."""
        patch, *more = series.read(path)
        if more:
            raise UsageError(f"mutant {path}: {1 + len(more)} patches; a mutant is one")
        hint = _TRY_FIRST.search(path.read_text(encoding="utf-8"))
        return cls(path.stem, path.parent.name, path, patch.subject, hint and hint[1])


@dataclass(frozen=True)
class Examined:
    """What became of a mutant: the test that killed it, or None; `trouble` where nothing could be found out."""

    mutant: Mutant
    killed_by: str | None
    reason: str = ""
    trouble: str = ""

    @property
    def survived(self) -> bool:
        """Whether all tests ran, and none of them noticed."""
        return self.killed_by is None and not self.trouble


def known(suite: str | None = None) -> list[Mutant]:
    """Give the mutants of a suite, or of all suites, by name; raises `UsageError` for a suite that has none."""
    folder = paths.data_root() / FOLDER
    suites = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if suite is not None and suite not in suites:
        raise UsageError(unknown("suite of mutants", suite, suites))
    asked = suites if suite is None else [suite]
    return [Mutant.read(path) for name in asked for path in sorted((folder / name).glob("*.patch"))]


def chosen(mutants: Sequence[Mutant], names: Sequence[str]) -> list[Mutant]:
    """Give those that are named, all without a name; raises `UsageError` for a name that is none."""
    by_name = {mutant.name: mutant for mutant in mutants}
    for name in names:
        if name not in by_name:
            raise UsageError(unknown("mutant", name, by_name))
    return [by_name[name] for name in names] if names else list(mutants)


def examine(mutants: Iterable[Mutant], build: Build, tests: str, *, workers: int) -> Iterator[Examined]:
    """Build each mutant, and run the tests until one fails: those that it asks for first, then all of them."""
    for mutant in mutants:
        try:
            yield _examined(mutant, build(mutant), tests, workers)
        except HarnessError as error:
            yield Examined(mutant, None, trouble=str(error))


def confirmed(examined: Sequence[Examined], kernel: str, *, workers: int) -> list[Examined]:
    """Run what killed mutants on the kernel without any, and take back what fails there, too."""
    killers = sorted({one.killed_by for one in examined if one.killed_by})
    if not killers:
        return list(examined)
    try:
        said = {one.test: one.outcome for one in run_tests(kernel, killers, workers=workers).verdicts}
    except HarnessError as error:
        return [
            replace(one, killed_by=None, trouble=f"not confirmed: {error}") if one.killed_by else one
            for one in examined
        ]
    return [_held_against(one, said.get(one.killed_by or "")) for one in examined]


def _examined(mutant: Mutant, kernel: str, tests: str, workers: int) -> Examined:
    if mutant.first is not None:
        found = _verdict(mutant, run_tests(kernel, [mutant.first], first_failure=True))
        if not found.survived:
            return _repeated(found, kernel)
    return _repeated(_verdict(mutant, run_tests(kernel, [tests], workers=workers, first_failure=True)), kernel)


def _repeated(found: Examined, kernel: str) -> Examined:
    """Have what killed a mutant do so again: a test that fails now and then kills nothing."""
    if found.killed_by is None or run_tests(kernel, [found.killed_by]).first(Outcome.FAIL):
        return found
    return replace(found, killed_by=None, trouble=f"{found.killed_by} fails only sometimes")


def _verdict(mutant: Mutant, run: TestRun) -> Examined:
    fail = run.first(Outcome.FAIL)
    if fail is not None:
        return Examined(mutant, fail.test, reason=fail.reason)
    missed = next((one for outcome in _MISSED if (one := run.first(outcome))), None)
    if missed is not None:
        return Examined(mutant, None, trouble=f"{missed.test}: {missed.outcome}: {missed.reason}")
    if not any(one.outcome in _WELL for one in run.verdicts):
        return Examined(mutant, None, trouble=f"no test ran (see {run.folder})")
    return Examined(mutant, None)


def _held_against(one: Examined, without: Outcome | None) -> Examined:
    if one.killed_by is None or without in _WELL:
        return one
    what = "did not run" if without is None else f"is a {without}"
    return replace(one, killed_by=None, trouble=f"{one.killed_by} {what} on the kernel without the mutant, too")
