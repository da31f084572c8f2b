# SPDX-License-Identifier: GPL-2.0-or-later
"""A run's records, read back: what each test said, and where the rest of it lies."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from harness import paths
from harness.config import OVERLAY, SANITIZED
from harness.errors import UsageError
from harness.outcome import OUTCOME_FILE, Outcome, Verdict
from harness.text import clipped, decoded, printable

_CONSOLE = "console.log"
STEPS = "steps"
"""The folder with the runs of a validation's steps, in its own."""
_TITLE = "title"
"""A file in a run's folder that says what the run is called."""
OVERLAY_ORIGIN = "iov-overlay"
"""What the origin of our own builds of QEMU says."""
SANITIZED_ORIGIN = "sanitizers"
"""What that of the one with sanitizers says, too."""
_READ = 256 * 1024
"""Bytes of the end of a console that are looked at: a guest writes as much as it likes."""
AGAIN = 5
"""So many failed tests are told how to be run again; the others go alike."""
BAD = (Outcome.FAIL, Outcome.MISS, Outcome.ERROR)
"""Outcomes that are told first."""


def repeated_by(record: Path) -> str:
    """Give the command that runs the test of a record again."""
    return shlex.join(["harness", "repro", str(paths.shown(record))])


def built_qemu(machine: Mapping[str, Any]) -> list[str]:
    """Give the option that asks for the QEMU that a machine had, where that was one of our own builds."""
    origin = str(machine.get("qemu_origin", ""))
    if OVERLAY_ORIGIN not in origin:
        return []
    return ["--qemu", str(SANITIZED if SANITIZED_ORIGIN in origin else OVERLAY)]


@dataclass(frozen=True)
class Result:
    """One test's verdict, and the folder of its records."""

    verdict: Verdict
    folder: Path

    @property
    def logs(self) -> Path:
        """Where the logs of its machine are: elsewhere than its record where several tests used that machine."""
        name = PurePosixPath(str(self.verdict.machine.get("folder", "")))
        is_within = name.parts and ".." not in name.parts and not name.is_absolute()
        return self.folder.parent / name if is_within else self.folder

    def console(self, limit: int) -> str:
        """Give the end of what the guest's kernel said, at most `limit` characters; nothing where no guest was."""
        try:
            with (self.logs / _CONSOLE).open("rb") as stream:
                stream.seek(0, 2)
                stream.seek(max(0, stream.tell() - _READ))
                return clipped(decoded(stream.read()), limit)
        except OSError:
            return ""

    def command(self) -> str:
        """Give the command line that boots its machine; nothing where it had none."""
        for name in ("argv-cold", "argv"):
            try:
                return decoded((self.logs / name).read_bytes()[:_READ])
            except OSError:
                continue
        return ""

    @property
    def again(self) -> str:
        """The command that runs the test again."""
        machine = self.verdict.machine
        words = ["harness", "test", self.verdict.test]
        words += ["--kernel", str(machine["kernel"])] if machine.get("kernel") else []
        words += built_qemu(machine)
        return printable(shlex.join(words))


@dataclass(frozen=True)
class Run:
    """All that one run has left, its tests in the order in which they began."""

    folder: Path
    results: Sequence[Result]

    @classmethod
    def load(cls, folder: Path) -> Run:
        """Read a run's folder. Raises `UsageError` where it is none, or has no record of this version."""
        folder = folder.resolve()  # `latest` is a link
        if not folder.is_dir():
            raise UsageError(f"run {folder}: no such folder; give one of build/runs, such as build/runs/latest")
        results = []
        for path in sorted(folder.glob(f"*/{OUTCOME_FILE}")):
            try:
                results.append(Result(Verdict.load(path.parent), path.parent))
            except (OSError, ValueError) as error:  # pydantic's errors, and bytes that are no text, are ValueErrors
                what = str(error).partition("\n")[0]
                raise UsageError(f"{path} is no record of this version: {what}") from error
        if (folder / OUTCOME_FILE).is_file():
            raise UsageError(f"{folder} is the record of one test; give its run: {folder.parent}")
        if not results:
            raise UsageError(f"run {folder}: no test has left a record there (DIR/*/{OUTCOME_FILE})")
        return cls(folder, sorted(results, key=lambda one: one.verdict.started))

    @property
    def machine(self) -> Mapping[str, Any]:
        """What the run's machines were made of, by the first that there was: kernel, QEMU, accelerator."""
        return next((one.verdict.machine for one in self.results if one.verdict.machine), {})

    @property
    def kernel(self) -> str:
        """The kernel under test, by its name."""
        return str(self.machine.get("kernel", "no kernel"))

    @property
    def title(self) -> str:
        """What the run is called: its step of a validation, and else the kernel under test."""
        try:
            return printable((self.folder / _TITLE).read_text(encoding="utf-8")[:200]).strip()
        except OSError:
            return self.kernel

    @property
    def name(self) -> str:
        """What tells the run from all others: its folder's name, for a validation's step with the validation's."""
        above = self.folder.parent
        return f"{above.parent.name}-{self.folder.name}" if above.name == STEPS else self.folder.name

    @property
    def seconds(self) -> float:
        """From the first test's beginning to the last one's end."""
        start = min(one.verdict.started for one in self.results)
        return max(one.verdict.started + one.verdict.seconds for one in self.results) - start

    @property
    def spent(self) -> float:
        """Seconds of all tests together, however many ran at once."""
        return sum(one.verdict.seconds for one in self.results)

    @property
    def counts(self) -> dict[Outcome, int]:
        """How many tests ended in which way, the gravest first."""
        seen = Counter(one.verdict.outcome for one in self.results)
        return {outcome: seen[outcome] for outcome in (*BAD, *Outcome) if seen[outcome]}

    @property
    def summary(self) -> str:
        """The counts in words: `1 FAIL, 118 PASS`."""
        return ", ".join(f"{count} {outcome}" for outcome, count in self.counts.items())
