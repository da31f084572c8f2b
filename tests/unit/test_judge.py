# SPDX-License-Identifier: GPL-2.0-or-later
"""Judging machines that are only consoles and fates: nothing wrong is passed over, nothing is told twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.errors import GuestFailure
from harness.guest.reports import KernelReport, ReportKind
from harness.guest.ssh import GuestLost, GuestTimeout
from harness.judge import Declared, Judge, KernelReported, ReportMissing
from harness.machine.machine import Machine
from harness.qemu.process import QemuDied

WARN = KernelReport(ReportKind.WARN, "WARNING: a.c", ("WARNING: a.c", "in a()"), 1)
OOPS = KernelReport(ReportKind.OOPS, "BUG: b", ("BUG: b",), 9)
PANIC = KernelReport(ReportKind.PANIC, "Kernel panic", ("Kernel panic",), 12)


@dataclass
class Fate:
    """A machine as far as a judge looks at it."""

    said: list[KernelReport] = field(default_factory=list)
    loss: str | None = None
    died: str | None = None
    deaf: GuestFailure | None = None
    late: KernelReport | None = None
    dropped: int = 0

    @property
    def console(self) -> Any:
        return SimpleNamespace(reports=lambda: list(self.said), dropped=Counter({ReportKind.WARN: self.dropped}))

    @property
    def health(self) -> Any:
        return SimpleNamespace(exit=self.died)

    def drain(self) -> None:
        if self.late is not None:
            self.said.append(self.late)
            self.late = None
        if self.deaf is not None:
            raise self.deaf


def judge_of(*fates: Fate, declared: tuple[Declared, ...] = ()) -> Judge:
    judge = Judge(declared)
    judge.machines.extend(cast("Machine", fate) for fate in fates)
    return judge


def test_a_quiet_machine_has_nothing_to_answer_for() -> None:
    assert judge_of(Fate()).complaint() is None
    assert judge_of(Fate()).missing() is None


@pytest.mark.parametrize(
    ("fate", "kind", "words"),
    [
        (Fate([WARN]), KernelReported, "reported warn: WARNING: a.c\nWARNING: a.c\nin a()"),
        (Fate(late=WARN), KernelReported, "reported warn"),
        (Fate([PANIC], loss="panic"), KernelReported, "reported panic"),
        (Fate(loss="killed", died="QEMU ended"), QemuDied, "QEMU ended"),
        (Fate([OOPS], loss="killed", died="QEMU ended"), KernelReported, "reported oops"),
        (Fate(loss="the guest went down"), GuestLost, "the guest went down"),
        (Fate(deaf=GuestTimeout("deaf")), GuestTimeout, "deaf"),
        (Fate([WARN], deaf=GuestTimeout("deaf")), KernelReported, "reported warn"),
    ],
)
def test_the_weightiest_thing_is_told_and_told_once(fate: Fate, kind: type[GuestFailure], words: str) -> None:
    judge = judge_of(Fate(), fate)
    complaint = judge.complaint()
    assert isinstance(complaint, kind)
    assert words in str(complaint)
    fate.deaf = None
    assert judge.complaint() is None or isinstance(fate.died, str)


def test_what_comes_after_a_judgement_is_told_by_the_next() -> None:
    fate = Fate([WARN])
    judge = judge_of(fate)
    assert judge.complaint() is not None
    fate.said.append(OOPS)
    assert "oops" in str(judge.complaint())


def test_a_declared_report_is_no_complaint_and_a_second_kind_is() -> None:
    declared = (Declared(ReportKind.WARN, "in a"),)
    assert judge_of(Fate([WARN]), declared=declared).complaint() is None
    assert "oops" in str(judge_of(Fate([WARN, OOPS]), declared=declared).complaint())


def test_what_was_not_kept_is_held_against_the_kernel_since_nobody_can_look_at_it() -> None:
    judge = judge_of(Fate([WARN], dropped=2), declared=(Declared(ReportKind.WARN),))
    assert "2 reports were not kept" in str(judge.complaint())
    assert judge.complaint() is None


def test_a_declared_panic_may_end_the_machine() -> None:
    fate = Fate([PANIC], loss="panic", deaf=GuestLost("gone"))
    assert judge_of(fate, declared=(Declared(ReportKind.PANIC),)).complaint() is None


@pytest.mark.parametrize("declared", [Declared(ReportKind.OOPS), Declared(ReportKind.WARN, "elsewhere")])
def test_a_declared_report_that_does_not_come_is_missed(declared: Declared) -> None:
    missing = judge_of(Fate([WARN]), declared=(declared,)).missing()
    assert isinstance(missing, ReportMissing)
    assert str(declared) in str(missing)
