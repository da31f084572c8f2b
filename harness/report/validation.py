# SPDX-License-Identifier: GPL-2.0-or-later
"""What a validation says of every patch of a series; the runs of its steps lie beside its `validation.json`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from harness.errors import UsageError
from harness.outcome import OUTCOME_FILE, Exit, Outcome
from harness.report.run import STEPS, Run
from harness.report.text import WIDTH, Reply
from harness.text import clipped, count, printable

FILE = "validation.json"
LEDGER = "ledger.sqlite"
"""What is noted while a validation goes on, beside."""
_LONGEST = 20_000
"""Characters told of a patch at most: what a kernel says has no bound."""
_TOLD = 20
"""Things of one kind told of a patch; the others are counted."""


class Built(BaseModel):
    """One build of a step: with which fragments, for which architecture, and what is to be said of it."""

    config: str
    error: str = ""
    applies: bool = True
    kernel: str = ""
    content: str = ""
    warnings: list[str] = Field(default_factory=list)
    """What the compiler warns of now, and did not before the patch."""
    seconds: float = 0.0


class Changed(BaseModel):
    """A test that says something else with the patch; its outcomes without and with it, time by time."""

    test: str
    config: str
    kind: str
    reason: str
    rates: str
    before: list[str]
    after: list[str]
    record: str = ""
    """The folder of what it said with the patch, in the validation's."""
    until: str = ""
    """The step that makes it pass, of one that fails from the first time that it can run."""


class StepResult(BaseModel):
    """What became of one step."""

    number: int
    title: str
    builds: list[Built] = Field(default_factory=list)
    unseen: list[str] = Field(default_factory=list)
    """Files that the patch touches and no build compiled."""
    boot: str = ""
    """Why a kernel of this step does not boot, where one does not."""
    boot_config: str = ""
    """The configuration of that kernel."""
    console: list[str] = Field(default_factory=list)
    """What the kernel says while it boots, at level warning or above, and did not say before the patch."""
    changes: list[Changed] = Field(default_factory=list)
    counts: dict[str, int] = Field(default_factory=dict)
    untold: list[str] = Field(default_factory=list)
    """Tests, or files of tests, that say nothing of this kernel, and why."""

    @property
    def broken(self) -> list[Changed]:
        """The tests that it breaks, for certain, and those that can run from here on, and fail to the end."""
        return [one for one in self.changes if one.kind == "broken" or (one.kind == "unmet" and not one.until)]

    @property
    def pending(self) -> dict[str, list[Changed]]:
        """The tests that can run from here on, and fail until a later step, by its title."""
        titles = dict.fromkeys(one.until for one in self.changes if one.until)
        return {title: [one for one in self.changes if one.until == title] for title in titles}

    @property
    def is_bad(self) -> bool:
        """Whether the kernel is the worse for it: it does not build or boot, complains anew, or breaks a test."""
        return bool(self.boot or self.console or self.broken or any(one.error for one in self.builds))

    @property
    def seconds(self) -> float:
        """What its builds took."""
        return sum(one.seconds for one in self.builds)

    @property
    def told(self) -> str:
        """What is to be said of it beside its headline, line by line; of a very long text, beginning and end."""
        return clipped(printable("\n".join(_step(self))), _LONGEST)

    @property
    def outcome(self) -> Outcome:
        """FAIL for a patch that is bad; ERROR for what nothing can be said of, or against: the base is bad itself."""
        if self.is_bad:
            return Outcome.FAIL if self.number else Outcome.ERROR
        return Outcome.ERROR if self.untold or any(one.kind == "lost" for one in self.changes) else Outcome.PASS

    @property
    def headline(self) -> str:
        """The verdict in one line."""
        failed = [one.config for one in self.builds if one.error]
        if not all(one.applies for one in self.builds):
            return "does not apply"
        if failed:
            return f"does not build ({', '.join(failed)})"
        words = ["builds" if len(self.builds) == 1 else f"builds ({len(self.builds)} configurations)"]
        if self.boot:
            return ", ".join([*words, "does not boot"])
        if self.counts:
            words.append("boots")
            words.append(f"breaks {count(len(self.broken), 'test')}" if self.broken else "breaks nothing")
        words += [f"{count(len(new), what)}" for what, new in self._more() if new]
        return ", ".join(words)

    def _more(self) -> Iterator[tuple[str, Sequence[object]]]:
        yield "new compiler warning", [text for one in self.builds for text in one.warnings]
        yield "new console warning", self.console
        yield "pending test", [one for one in self.changes if one.until]
        for kind in ("added", "fixed", "skipped", "lost", "flaky"):
            yield f"{kind} test", [one for one in self.changes if one.kind == kind]


class Validation(BaseModel):
    """`validation.json`."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    series: str
    source: str
    note: str = ""
    tests: list[str] = Field(default_factory=list)
    seconds: float = 0.0
    steps: list[StepResult] = Field(default_factory=list)
    folder: Path = Field(default=Path(), exclude=True)
    """Where it was read from."""

    model_config = {"populate_by_name": True}

    @property
    def name(self) -> str:
        """What tells the validation from all others: its folder's name."""
        return self.folder.name

    @property
    def code(self) -> Exit:
        """A patch that is bad first; then what could not be told."""
        outcomes = {step.outcome for step in self.steps}
        if Outcome.FAIL in outcomes:
            return Exit.FAIL
        return Exit.ERROR if Outcome.ERROR in outcomes else Exit.OK

    def save(self, folder: Path) -> None:
        """Write it, whole or not at all."""
        draft = folder / f".{FILE}.tmp"
        draft.write_text(self.model_dump_json(by_alias=True, indent=1) + "\n", encoding="utf-8")
        draft.replace(folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> Validation:
        """Read it; raises `UsageError`, also where it has not come to its end."""
        folder = folder.resolve()  # `latest` is a link
        try:
            return cls.model_validate_json((folder / FILE).read_bytes()).model_copy(update={"folder": folder})
        except FileNotFoundError as error:
            raise UsageError(
                f"{folder}: this validation has not come to its end; the same `harness validate` goes on with it"
            ) from error
        except (OSError, ValueError) as error:
            what = str(error).partition("\n")[0]
            raise UsageError(f"{folder / FILE} is no record of this version: {what}") from error


def folder_name(number: int, config: str) -> str:
    """Give the name of the folder with the run of a step on one of its kernels, in STEPS."""
    return f"{number:03}-{config}"


def is_one(folder: Path) -> bool:
    """Tell whether a folder holds a validation, and not a run."""
    return (folder / FILE).is_file() or (folder / LEDGER).is_file()


def runs(folder: Path) -> list[Run]:
    """Give the runs of a validation's steps that were tested, each by its step's title. Raises `UsageError`."""
    return [Run.load(one) for one in sorted((folder / STEPS).glob("*")) if any(one.glob(f"*/{OUTCOME_FILE}"))]


def render(found: Validation, reply: Reply | None = None) -> str:
    """Give the validation as text, fit for a reply on a mailing list."""
    said = "\n".join(_lines(found)) + "\n"
    return (reply.headers() if reply else "") + printable(said)


def _lines(found: Validation) -> Iterator[str]:
    yield f"{found.series} on {found.source}: {count(len(found.steps) - 1, 'patch')}, {found.seconds / 60:.0f} min"
    if found.note:
        yield from _wrapped(found.note, "")
    for step in found.steps:
        yield ""
        yield from _wrapped(f"[{step.title}] {step.headline}", "")
        yield from _step(step)


def _step(step: StepResult) -> Iterator[str]:
    if step.counts:
        yield f"  tests: {', '.join(f'{count} {outcome}' for outcome, count in step.counts.items())}"
    for built in step.builds:
        if built.error:
            yield from _wrapped(f"{built.config}: {built.error}")
        yield from _some(f"new warning ({built.config}): {text}" for text in built.warnings)
    yield from _some(f"not built: {file}" for file in step.unseen)
    if step.boot:
        yield from _wrapped(f"does not boot ({step.boot_config}): {step.boot}")
    yield from _some(f"new on the console: {line}" for line in step.console)
    for title, tests in step.pending.items():
        yield from _wrapped(f"{count(len(tests), 'test')} that could not run before: failing until [{title}]")
    told = [one for one in step.changes if not one.until and one.kind != "added"]
    for one in told[:_TOLD]:
        yield f"  {one.kind.upper()} {one.test} ({one.config})"
        yield from _wrapped(f"{one.rates}: {one.reason}", "    ")
    if len(told) > _TOLD:
        yield f"  and {len(told) - _TOLD} more tests"
    yield from _some(f"nothing told: {what}" for what in step.untold)


def _some(lines: Iterator[str]) -> Iterator[str]:
    told = list(lines)
    for line in told[:_TOLD]:
        yield from _wrapped(line)
    if len(told) > _TOLD:
        yield f"  and {len(told) - _TOLD} more"


def _wrapped(line: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(
        line,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
