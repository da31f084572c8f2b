# SPDX-License-Identifier: GPL-2.0-or-later
"""From what happened in a test to its outcome: FAIL (kernel or device), ERROR (ours), MISS (nothing came up)."""

from __future__ import annotations

import fnmatch
import re
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.deadline import DeadlineExpired
from harness.errors import CouldNotRun, GuestFailure, Stage
from harness.guest.reports import KernelReport, ReportKind
from harness.guest.ssh import GuestLost
from harness.machine.machine import Machine
from harness.outcome import Outcome, Verdict
from harness.pytest_plugin.fixtures import MACHINES, folder
from harness.pytest_plugin.options import RUN
from harness.pytest_plugin.telling import OUTCOME, shorten, words
from harness.pytest_plugin.timelimit import time_limit
from harness.qemu.process import QemuDied
from harness.qemu.qmp import QmpLost
from harness.text import clipped, printable

_ENDINGS = (Exception, pytest.skip.Exception, pytest.fail.Exception)
"""What a test ends with; pytest's own are no `Exception`."""
_PACKAGE = Path(__file__).parents[1]
_GRAVITY = (Outcome.FAIL, Outcome.MISS, Outcome.ERROR, Outcome.KNOWN, Outcome.SKIP, Outcome.PASS)
"""Which outcome a test has whose phases had different ones: the first of these."""


class KernelReported(GuestFailure):
    """The kernel complained on the console of something that the test did not declare."""


class ReportMissing(GuestFailure):
    """The test declared that the kernel would report something, and it did not."""


@dataclass
class Progress:
    """What is known of a test so far."""

    started: float = field(default_factory=time.time)
    phases: list[Verdict] = field(default_factory=list)


_PROGRESS = pytest.StashKey[Progress]()


def classify(error: BaseException) -> tuple[Outcome, Stage | None]:
    """Give the outcome that an exception stands for, and for a MISS its stage."""
    if isinstance(error, pytest.skip.Exception):
        return Outcome.SKIP, None
    if isinstance(error, CouldNotRun):
        return Outcome.MISS, error.stage
    if isinstance(error, GuestFailure | DeadlineExpired | pytest.fail.Exception):
        return Outcome.FAIL, None
    if isinstance(error, AssertionError) and not _ours(error):
        return Outcome.FAIL, None
    return Outcome.ERROR, None


def _ours(error: BaseException) -> bool:
    """Tell whether an assertion of the harness itself failed, not one of a test."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and Path(trace.tb_frame.f_code.co_filename).is_relative_to(_PACKAGE)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Leave a test unrun when the run's time is over, and bound the boot of its machine."""
    if not _uses_machine(item):
        return (yield)
    run = item.config.stash[RUN]
    run.check_deadline()
    with time_limit(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Bound the test, and judge its machines while it is still running: no test passes and then errors."""
    if not _uses_machine(item):
        return (yield)
    machines = item.stash.get(MACHINES, [])
    declared = [Declared.of(mark) for mark in item.iter_markers("expects_report")]
    with time_limit(item):
        error: BaseException | None = None
        result: object = None
        try:
            result = yield
        except _ENDINGS as caught:
            error = caught
        complaint = _complaint(machines, declared, error)
        if complaint is not None and _follows(error):
            raise complaint from error
        if error is not None:
            if complaint is not None:
                error.add_note(f"besides, {complaint}")
            raise error
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give each phase its outcome, and with the last one write the test's record."""
    run = item.config.stash[RUN]
    if not (_uses_machine(item) or run.records_all):
        return (yield)
    bare = call.excinfo is not None and _is_bare(item, call.excinfo)
    report = yield
    if bare and call.excinfo is not None and report.failed:
        report.longrepr = words(call.excinfo.value)
    progress = item.stash.setdefault(_PROGRESS, Progress())
    verdict = _phase(item, call, report)
    progress.phases.append(verdict)
    _dress(report, verdict)
    if call.when == "teardown":
        final = _final(item, progress)
        report.user_properties.append(("outcome", str(final.outcome)))
        final.save(folder(item))
    return report


@dataclass(frozen=True)
class Declared:
    """A report that a test says it will cause."""

    kind: str
    match: str

    @classmethod
    def of(cls, mark: pytest.Mark) -> Declared:
        """Read an `expects_report` mark."""
        return cls(str(mark.args[0]), str(mark.kwargs.get("match", "")))

    def covers(self, report: KernelReport) -> bool:
        """Tell whether a report is the declared one."""
        return self.kind == report.kind and re.search(self.match, report.text) is not None

    def __str__(self) -> str:
        return f"{self.kind} {self.match!r}" if self.match else self.kind


def _complaint(
    machines: Sequence[Machine], declared: Sequence[Declared], error: BaseException | None
) -> GuestFailure | None:
    """Give what the machines' kernels and QEMUs did that no test may pass with, once all they said has arrived."""
    for machine in machines:
        try:
            machine.drain()
        except GuestFailure as unreachable:
            if error is None:
                return unreachable
        complaint = _complaint_of(machine, declared)
        if complaint is not None:
            return complaint
    reports = [report for machine in machines for report in machine.console.reports()]
    missing = [one for one in declared if not any(one.covers(report) for report in reports)]
    if missing and error is None:
        return ReportMissing(f"the kernel did not report {missing[0]}, which the test declares")
    return None


def _complaint_of(machine: Machine, declared: Sequence[Declared]) -> GuestFailure | None:
    for report in machine.console.reports():
        if not any(one.covers(report) for one in declared):
            return KernelReported(f"the kernel reported {report.kind}: {report.title}\n{clipped(report.text, 8000)}")
    if machine.health.exit is not None:
        return QemuDied(str(machine.health.exit))
    if machine.loss is None or any(report.kind is ReportKind.PANIC for report in machine.console.reports()):
        return None
    return GuestLost(machine.loss)


def _follows(error: BaseException | None) -> bool:
    """Tell whether what a test ended with only follows from what its machine did: then that is the reason."""
    return error is None or isinstance(error, GuestLost | QmpLost) or classify(error)[0] is not Outcome.FAIL


def _uses_machine(item: pytest.Item) -> bool:
    return "machine" in getattr(item, "fixturenames", ())


def _phase(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> Verdict:
    error = call.excinfo.value if call.excinfo else None
    outcome, stage = classify(error) if error is not None else (Outcome.PASS, None)
    reason = _first_line(error)
    known = _known_bug(item)
    if known is not None and call.when == "call":
        if outcome is Outcome.FAIL:
            outcome, reason = Outcome.KNOWN, known
        elif outcome is Outcome.PASS:
            outcome, reason = Outcome.FAIL, f"unexpected pass of a known bug: {known}"
            report.outcome = "failed"
            report.longrepr = reason
    return Verdict(
        test=item.nodeid, outcome=outcome, reason=reason, stage=stage or "", seconds=call.duration,
        phase=call.when, detail=clipped(report.longreprtext, 20_000),
    )  # fmt: skip


def _is_bare(item: pytest.Item, excinfo: pytest.ExceptionInfo[BaseException]) -> bool:
    """Tell whether the exception's words say all: no line of a test has part in it. A bug of ours shows every frame."""
    outcome, _ = classify(excinfo.value)
    return outcome is not Outcome.ERROR and not shorten(item, excinfo)


def _dress(report: pytest.TestReport, verdict: Verdict) -> None:
    """Give pytest's own report the outcome, in attributes that cross from a worker to its controller."""
    report.__dict__[OUTCOME] = str(verdict.outcome)
    if verdict.outcome is Outcome.KNOWN:
        report.outcome = "skipped"
        report.wasxfail = verdict.reason


def _final(item: pytest.Item, progress: Progress) -> Verdict:
    worst = min(progress.phases, key=lambda verdict: _GRAVITY.index(verdict.outcome))
    machines = item.stash.get(MACHINES, [])
    return worst.model_copy(
        update={
            "seconds": sum(verdict.seconds for verdict in progress.phases),
            "started": progress.started,
            "machine": machines[0].spec.about() if machines else {},
        }
    )


def _known_bug(item: pytest.Item) -> str | None:
    """Give the reason of a `known_bug` mark that holds on the kernel of this test's machine."""
    kernels = {machine.spec.parts.kernel.name for machine in item.stash.get(MACHINES, [])}
    for mark in item.iter_markers("known_bug"):
        patterns = mark.kwargs.get("kernels", ("*",))
        if any(fnmatch.fnmatch(name, pattern) for name in kernels for pattern in patterns):
            return str(mark.args[0] if mark.args else mark.kwargs["reason"])
    return None


def _first_line(error: BaseException | None) -> str:
    if error is None:
        return ""
    lines = (str(error) or type(error).__name__).strip().splitlines()
    return clipped(printable(lines[0] if lines else type(error).__name__), 500)
