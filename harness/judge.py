# SPDX-License-Identifier: GPL-2.0-or-later
"""What the machines of a test did that no test may pass with: undeclared kernel reports, a panic, a dead QEMU."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import GuestFailure, ModelFailed
from harness.guest.reports import KernelReport, ReportKind
from harness.guest.ssh import GuestLost
from harness.machine.machine import Machine
from harness.qemu.process import QemuDied
from harness.text import clipped

_TEXT_LIMIT = 8000
"""Characters of a kernel report in a verdict; the whole of it is in `console.log`."""


class KernelReported(GuestFailure):
    """The kernel complained on the console of something that the test did not declare."""


class ReportMissing(GuestFailure):
    """The test declared that the kernel would report something, and it did not."""


@dataclass(frozen=True)
class Declared:
    """A report that a test says it will cause: its kind, and a regular expression found in its text."""

    kind: ReportKind
    match: str = ""

    def covers(self, report: KernelReport) -> bool:
        """Tell whether a report is the declared one."""
        return self.kind is report.kind and re.search(self.match, report.text) is not None

    def __str__(self) -> str:
        return f"{self.kind} {self.match!r}" if self.match else str(self.kind)


class Judge:
    """Judges the machines of one test, as often as asked; what it has told once, it does not tell again."""

    def __init__(self, declared: Sequence[Declared] = ()) -> None:
        self._declared = declared
        self._told: set[tuple[int, int]] = set()
        self._lost: set[int] = set()
        self._dropped: dict[int, int] = {}
        self.machines: list[Machine] = []

    def complaint(self) -> GuestFailure | ModelFailed | None:
        """Give what the machines did wrong, once all that they said until now has arrived.

        A device model that is wrong comes first: what else went wrong may follow from that.
        """
        found = [complaint for machine in self.machines if (complaint := self._of(machine)) is not None]
        return next((one for one in found if isinstance(one, ModelFailed)), found[0] if found else None)

    def missing(self) -> GuestFailure | None:
        """Give the declared report that has not come, where there is one."""
        reports = [report for machine in self.machines for report in machine.console.reports()]
        for declared in self._declared:
            if not any(declared.covers(report) for report in reports):
                return ReportMissing(f"the kernel did not report {declared}, which the test declares")
        return None

    def _of(self, machine: Machine) -> GuestFailure | ModelFailed | None:
        unreachable: GuestFailure | None = None
        try:
            machine.drain()
        except ModelFailed as error:
            return error
        except GuestFailure as error:
            unreachable = error
        complaint = self._report_of(machine) or self._flood_of(machine) or self._loss_of(machine)
        if complaint is None and unreachable is not None and machine.loss is None and id(machine) not in self._lost:
            self._lost.add(id(machine))
            return unreachable
        return complaint

    def _report_of(self, machine: Machine) -> GuestFailure | None:
        found: GuestFailure | None = None
        for number, report in enumerate(machine.console.reports()):
            place = (id(machine), number)
            if place in self._told or any(one.covers(report) for one in self._declared):
                continue
            self._told.add(place)
            text = clipped(report.text, _TEXT_LIMIT)
            found = found or KernelReported(f"the kernel reported {report.kind}: {report.title}\n{text}")
        return found

    def _flood_of(self, machine: Machine) -> GuestFailure | None:
        count = machine.console.dropped.total()
        if count == self._dropped.get(id(machine), 0):
            return None
        self._dropped[id(machine)] = count
        return KernelReported(f"the kernel reported so much that {count} reports were not kept, declared or not")

    def _loss_of(self, machine: Machine) -> GuestFailure | None:
        if machine.loss is None or id(machine) in self._lost:
            return None
        self._lost.add(id(machine))
        if machine.health.exit is not None:
            return QemuDied(str(machine.health.exit))
        if any(report.kind is ReportKind.PANIC for report in machine.console.reports()):
            return None  # a report, told or declared
        return GuestLost(machine.loss)
