# SPDX-License-Identifier: GPL-2.0-or-later
"""The outcome words, what each means for an exit code, and the record of one test's outcome."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

OUTCOME_FILE = "outcome.json"
SOURCE_FOLDER = "source"
"""Beside the record of a test that went wrong: the file that it stands in and those around it, as they were."""


class Outcome(StrEnum):
    """How a test ended: one vocabulary for terminal, JUnit, reports and validation."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    FAIL = "FAIL"
    ERROR = "ERROR"
    MISS = "MISS"
    SKIP = "SKIP"
    KNOWN = "KNOWN"


class Exit(IntEnum):
    """What `harness test` exits with."""

    OK = 0
    FAIL = 1
    USAGE = 2
    MISS = 3
    ERROR = 4
    EMPTY = 5
    INTERRUPTED = 130
    BISECT_SKIP = 125
    BISECT_ABORT = 128


SIGNALLED = 128
"""What a shell adds to the number of the signal that ended a program."""


class Verdict(BaseModel):
    """`outcome.json`: everything that a report may know of a test."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    test: str
    outcome: Outcome
    reason: str = ""
    stage: str = ""
    seconds: float = 0.0
    started: float = 0.0
    phase: str = ""
    detail: str = ""
    machine: dict[str, Any] = Field(default_factory=dict)
    rows: tuple[str, ...] = ()

    model_config = {"populate_by_name": True}

    def save(self, directory: Path) -> Path:
        """Write the record into a test's directory, whole or not at all."""
        path = directory / OUTCOME_FILE
        draft = path.with_suffix(".tmp")
        draft.write_text(self.model_dump_json(by_alias=True, indent=1) + "\n", encoding="utf-8")
        return draft.replace(path)

    @classmethod
    def load(cls, directory: Path) -> Verdict:
        """Read a test's record; raises `OSError` or `pydantic.ValidationError`."""
        return cls.model_validate_json((directory / OUTCOME_FILE).read_text(encoding="utf-8"))


def exit_code(outcomes: Iterable[Outcome]) -> Exit:
    """Give the exit code of a run that ended with these outcomes: the worst news first."""
    seen = set(outcomes)
    if not seen:
        return Exit.EMPTY
    for outcome, code in ((Outcome.FAIL, Exit.FAIL), (Outcome.MISS, Exit.MISS), (Outcome.ERROR, Exit.ERROR)):
        if outcome in seen:
            return code
    return Exit.OK


def bisect_code(code: int) -> int:
    """Translate an exit code for `git bisect run`: what says nothing of the kernel is skipped, misuse stops it."""
    if code in (Exit.MISS, Exit.ERROR, Exit.EMPTY):
        return Exit.BISECT_SKIP
    return Exit.BISECT_ABORT if code == Exit.USAGE else code
