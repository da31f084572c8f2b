# SPDX-License-Identifier: GPL-2.0-or-later
"""The rows of the catalogue (docs/catalogue.md), the tests that show them, and what these last said."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from harness import paths
from harness.errors import CouldNotRun
from harness.outcome import OUTCOME_FILE, Outcome, Verdict

_CATALOGUE = Path("docs/catalogue.md")
_ROW = re.compile(r"\| ([A-Z]{2}-\d{2,3}) \| ([^|]+?) \| ?([^|]*?) ?\|")
_IS_ROW = re.compile(r"\| [A-Z]{2}-\d")
_GRAVITY = (Outcome.FAIL, Outcome.MISS, Outcome.ERROR, Outcome.KNOWN, Outcome.PASS, Outcome.SKIP)
"""Which verdict a row has whose tests had different ones: the first of these."""


@dataclass(frozen=True)
class Row:
    """One row of the catalogue: what holds, and for a row that no test shows, why none does."""

    name: str
    text: str
    left_out: str


@dataclass(frozen=True)
class Shown:
    """A row with its tests, and the gravest of their last verdicts; None where none has run."""

    row: Row
    tests: Sequence[str]
    verdict: Outcome | None

    @property
    def has_run(self) -> bool:
        """Whether one of its tests ran to a verdict on the kernel."""
        return self.verdict in (Outcome.PASS, Outcome.FAIL, Outcome.KNOWN)


def catalogue(path: Path | None = None) -> list[Row]:
    """Read the catalogue; raises `CouldNotRun` where it is not there, or makes no sense."""
    path = path or paths.data_root() / _CATALOGUE
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise CouldNotRun(f"the catalogue {path} cannot be read: {error.strerror}") from error
    found = []
    for line in filter(_IS_ROW.match, lines):
        match = _ROW.fullmatch(line)
        if match is None:
            raise CouldNotRun(f"the catalogue {path} has a row that is none: {line[:80]}")
        found.append(Row(*match.groups()))
    names = [row.name for row in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CouldNotRun(f"the catalogue {path} has rows twice: {', '.join(twice)}")
    return found


def last_verdicts(runs: Path, tests: Iterable[str], kernel: str | None = None) -> dict[str, Outcome]:
    """Give what each test said last, on this kernel if one is named."""
    last: dict[str, Verdict] = {}
    asked = set(tests)
    for verdict in _verdicts(runs):
        is_asked = verdict.test in asked and kernel in (None, verdict.machine.get("kernel", kernel))
        if is_asked and (verdict.test not in last or verdict.started >= last[verdict.test].started):
            last[verdict.test] = verdict
    return {test: verdict.outcome for test, verdict in last.items()}


def shown(rows: Iterable[Row], tests: Mapping[str, Sequence[str]], said: Mapping[str, Outcome]) -> list[Shown]:
    """Bring rows, tests (their ids, and the rows of each) and verdicts together."""
    result = []
    for row in rows:
        its = [test for test, names in tests.items() if row.name in names]
        verdicts = [said[test] for test in its if test in said]
        result.append(Shown(row, its, min(verdicts, key=_GRAVITY.index, default=None)))
    return result


def _verdicts(runs: Path) -> Iterable[Verdict]:
    for path in runs.glob(f"*/*/{OUTCOME_FILE}"):
        if path.parent.parent.is_symlink():
            continue  # `latest`, which is another's
        try:
            yield Verdict.load(path.parent)
        except (OSError, ValidationError):
            continue  # another version's, or half of one: it says nothing
