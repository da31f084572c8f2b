# SPDX-License-Identifier: GPL-2.0-or-later
"""From what happened in a test to its outcome: FAIL (kernel or device), ERROR (ours), MISS (nothing came up)."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb

import pytest

from harness.deadline import DeadlineExpired
from harness.errors import CouldNotRun, GuestFailure, HarnessError, ModelFailed, Stage
from harness.guest.ssh import GuestLost, GuestTimeout
from harness.judge import KernelReported
from harness.outcome import Outcome, Verdict
from harness.pytest_plugin import pausing
from harness.pytest_plugin.case import Case
from harness.pytest_plugin.marks import KnownBug, rows
from harness.pytest_plugin.options import RUN
from harness.pytest_plugin.telling import OUTCOME, RECORD, detail_of, is_test, reason_of, shorten, words
from harness.pytest_plugin.timelimit import run_limit, time_limit
from harness.qemu.process import QemuDied
from harness.qemu.qmp import QmpLost
from harness.text import printable

_ENDINGS = (Exception, pytest.skip.Exception, pytest.fail.Exception)
"""What a test ends with; pytest's own are no `Exception`."""
_BEYOND_A_TEST = (KernelReported, QemuDied, GuestLost, GuestTimeout, QmpLost)
"""Failures of which a `known_bug` speaks only where its `match` does."""
_BESIDES = "besides, "
"""How a note begins that tells of what a machine did while the test failed in another way."""
_PACKAGE = Path(__file__).parents[1]
_PROPERTIES = ("profile", "kernel", "release", "qemu", "accel")
"""What of a machine stands in a JUnit file."""
_FIXTURES = ("machine", "boot")
_GRAVITY = (Outcome.FAIL, Outcome.MISS, Outcome.ERROR, Outcome.KNOWN, Outcome.SKIP, Outcome.PASS)
"""Which outcome a test has whose phases had different ones: the first of these."""
_BAD = (Outcome.FAIL, Outcome.ERROR, Outcome.MISS)


def classify(error: BaseException) -> tuple[Outcome, Stage | None]:
    """Give the outcome that an exception stands for, and for a MISS its stage."""
    if isinstance(error, pytest.skip.Exception):
        return Outcome.SKIP, None
    if isinstance(error, CouldNotRun):
        return Outcome.MISS, error.stage
    if isinstance(error, GuestFailure | DeadlineExpired):
        return Outcome.FAIL, None
    files = _files(error)
    if isinstance(error, pytest.fail.Exception) and any(map(is_test, files)):
        return Outcome.FAIL, None  # and else it is pytest that refuses a test
    if isinstance(error, AssertionError) and not (files and _is_ours(files[-1])):
        return Outcome.FAIL, None
    return Outcome.ERROR, None


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Leave a test unrun when the run's time is over, bound the boot of its machine, and judge what came of it."""
    if not _is_ours_to_run(item):
        return (yield)
    item.config.stash[RUN].check_deadline()
    with _watched(item, passing=False):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Bound the test, and judge its machines while it is still running: no test passes and then errors."""
    if not _is_ours_to_run(item):
        return (yield)
    with _watched(item, passing=True):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give each phase its outcome, and with the last one write the test's record."""
    if not _is_ours_to_run(item):
        return (yield)
    bare = call.excinfo is not None and _is_bare(item, call.excinfo)
    report = yield
    if bare and call.excinfo is not None and report.failed:
        report.longrepr = words(call.excinfo.value)
    case = Case.of(item)
    verdict = _phase(case, call, report)
    if _is_told(case, verdict):
        verdict = verdict.model_copy(update={"outcome": Outcome.PASS, "stage": "", "reason": "", "detail": ""})
        report.outcome, report.longrepr = "passed", None
    case.phases.append(verdict)
    if verdict.outcome in _BAD:
        case.keep_evidence()
        pausing.pause(case, verdict)
    _dress(case, report, verdict)
    if call.when == "teardown":
        final = _final(case)
        report.user_properties.append(("outcome", str(final.outcome)))
        report.user_properties.extend((name, final.machine[name]) for name in _PROPERTIES if name in final.machine)
        final.save(case.folder)
    return report


@contextmanager
def _watched(item: pytest.Item, *, passing: bool) -> Iterator[None]:
    """Bound a phase by the time that the test or the run has left, and judge the machines that it used."""
    run = item.config.stash[RUN]
    if not _uses_machine(item):
        with run_limit(run):
            yield
        return
    run.parts  # noqa: B018 - fetched before the test's own time begins
    case = Case.of(item)
    with time_limit(case, run), _judged(case, passing=passing):
        yield


@contextmanager
def _judged(case: Case, *, passing: bool) -> Iterator[None]:
    """Let what the test's machines did outweigh how the block ends, where that only follows from it.

    A block that ends well is judged where it is the one that may end in a PASS.
    """
    error: BaseException | None = None
    try:
        yield
    except _ENDINGS as caught:
        error = caught
    if error is None and not passing:
        return
    complaint = case.judge.complaint()
    if complaint is None and error is None:
        complaint = case.judge.missing()
    if complaint is not None and (_follows(error) or isinstance(complaint, ModelFailed)):
        raise complaint from error
    if error is not None:
        if complaint is not None:
            case.besides = complaint
            error.add_note(f"{_BESIDES}{complaint}")
        raise error


def _follows(error: BaseException | None) -> bool:
    """Tell whether what a test ended with only follows from what its machine did: then that is the reason."""
    return error is None or isinstance(error, GuestLost | QmpLost) or classify(error)[0] is not Outcome.FAIL


def _is_ours_to_run(item: pytest.Item) -> bool:
    """Tell whether a test is judged at all: other projects' tests, beside which this plugin lies installed, are not."""
    return _uses_machine(item) or item.config.stash[RUN].records_all


def _uses_machine(item: pytest.Item) -> bool:
    fixtures = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    return any(fixtures[name][-1].func.__module__.startswith(__package__) for name in _FIXTURES if name in fixtures)


def _files(error: BaseException) -> list[Path]:
    """Give the source files that an exception came through, the one that raised it last."""
    return [Path(frame.f_code.co_filename) for frame, _ in walk_tb(error.__traceback__)]


def _is_ours(path: Path) -> bool:
    """Tell whether an assertion of the harness itself failed, not one of a test that it carries."""
    return path.is_relative_to(_PACKAGE) and not is_test(path)


def _is_bare(item: pytest.Item, excinfo: pytest.ExceptionInfo[BaseException]) -> bool:
    """Tell whether the exception's words say all: no line of a test has part in it. A bug of ours shows every frame."""
    in_words = isinstance(excinfo.value, HarnessError) or classify(excinfo.value)[0] is not Outcome.ERROR
    return in_words and not shorten(item, excinfo)


def _phase(case: Case, call: pytest.CallInfo[None], report: pytest.TestReport) -> Verdict:
    error = call.excinfo.value if call.excinfo else None
    outcome, stage = classify(error) if error is not None else (Outcome.PASS, None)
    reason = _first_line(error)
    bugs = case.known_bugs() if call.when == "call" else []
    foretold = [bug.reason for bug in bugs if error is not None and _foretells(bug, error, case.besides)]
    if outcome is Outcome.FAIL and foretold:
        outcome, reason = Outcome.KNOWN, foretold[0]
    elif outcome is Outcome.PASS and bugs:
        outcome, reason = Outcome.FAIL, f"unexpected pass of a known bug: {bugs[0].reason}"
        report.longrepr = reason
    elif outcome is Outcome.PASS and report.failed:
        outcome, reason = Outcome.FAIL, report.longreprtext  # an xfail that is strict, and passed
    return Verdict(
        test=case.item.nodeid, outcome=outcome, reason=reason_of(reason), stage=stage or "", started=call.start,
        seconds=call.duration, phase=call.when, detail=detail_of(report.longreprtext),
    )  # fmt: skip


def _is_told(case: Case, verdict: Verdict) -> bool:
    """Tell whether a phase met what one before it had met, such as a QEMU that is gone: one failure, told once."""
    bad = [(one.outcome, one.reason) for one in case.phases if one.outcome in _BAD]
    return (verdict.outcome, verdict.reason) in bad


def _foretells(bug: KnownBug, error: BaseException, besides: BaseException | None) -> bool:
    """Tell whether a bug speaks of all that went wrong: how the test failed, and what its machines did besides."""
    if bug.match is not None:
        own = "\n".join([str(error), *(note for note in _notes(error) if not note.startswith(_BESIDES))])
        return all(bug.match.search(text) for text in (own, *([] if besides is None else [words(besides)])))
    return besides is None and not isinstance(error, _BEYOND_A_TEST)


def _notes(error: BaseException) -> list[str]:
    return list(getattr(error, "__notes__", ()))


def _dress(case: Case, report: pytest.TestReport, verdict: Verdict) -> None:
    """Give pytest's own report the outcome, in attributes that cross from a worker to its controller.

    What a guest said may stand in it: nothing that a terminal would obey is left.
    """
    text = report.longreprtext
    if printable(text) != text:
        report.longrepr = printable(text)
    report.sections = [(name, printable(captured)) for name, captured in report.sections]
    report.__dict__[OUTCOME] = str(verdict.outcome)
    if verdict.outcome is Outcome.KNOWN:
        report.outcome = "skipped"
        report.wasxfail = verdict.reason
    elif verdict.outcome in _BAD:
        report.outcome = "failed"
        if case.about_machine():  # else there is nothing that `harness repro` would have to find again
            report.__dict__[RECORD] = case.folder.name
        report.__dict__.pop("wasxfail", None)  # xfail knows nothing of outcomes; known_bug does


def _final(case: Case) -> Verdict:
    """Join the phases: the worst of them, the call before the others where they are alike."""
    worst = min(case.phases, key=lambda verdict: (_GRAVITY.index(verdict.outcome), verdict.phase != "call"))
    return worst.model_copy(
        update={
            "seconds": sum(verdict.seconds for verdict in case.phases),
            "started": case.phases[0].started,
            "machine": case.about_machine(),
            "rows": rows(case.item),
        }
    )


def _first_line(error: BaseException | None) -> str:
    if error is None:
        return ""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
