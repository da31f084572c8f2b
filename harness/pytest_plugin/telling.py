# SPDX-License-Identifier: GPL-2.0-or-later
"""What the reader of a run sees: outcomes by their own words, the lines of the tests, where the records are."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from types import TracebackType

import pytest

from harness import paths
from harness.outcome import Outcome
from harness.pytest_plugin.options import RUN
from harness.report.run import AGAIN, repeated_by
from harness.text import clipped, printable

OUTCOME = "iov_outcome"
"""The attribute of pytest's reports that holds our outcome."""
RECORD = "iov_record"
"""The attribute of the reports of failed tests that holds the name of their record's folder."""
_LETTERS = {Outcome.FAIL: ("failed", "F"), Outcome.ERROR: ("error", "E"), Outcome.MISS: ("error", "M")}
_REASON_LIMIT, _DETAIL_LIMIT = 500, 20_000
"""Characters of a reason and of a traceback in a record."""
_LIBRARIES = (Path(__file__).parents[1], Path(pytest.__file__).parents[1], Path(sysconfig.get_path("stdlib")))
"""Where frames that are no test's come from: the harness, the folder of pytest and all other packages, Python's own."""


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Show an outcome by its own word."""
    word = getattr(report, OUTCOME, None)
    if word is None or (word == Outcome.PASS and report.when != "call"):
        return None
    if word == Outcome.KNOWN:
        return "known", "K", "KNOWN"
    if word in _LETTERS:
        category, letter = _LETTERS[Outcome(word)]
        return category, letter, word
    return None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say where the run's records are, and how a test that failed is run again."""
    directory = terminalreporter.config.stash[RUN].planned
    if directory.is_dir():
        terminalreporter.write_line(f"records: {directory}")
    bad = [report for category in ("failed", "error") for report in terminalreporter.stats.get(category, ())]
    records = [*dict.fromkeys(report.__dict__[RECORD] for report in bad if RECORD in report.__dict__)]
    for name in records[:AGAIN]:
        terminalreporter.write_line(f"again: {repeated_by(directory / name)}")
    if len(records) > AGAIN:
        terminalreporter.write_line(f"{len(records) - AGAIN} more, too: harness repro {paths.shown(directory)}/TEST")


def is_test(path: Path) -> bool:
    """Tell whether a source file is of tests: no library's, or among those that the harness carries."""
    if path.is_relative_to(paths.data_root() / "tests"):
        return True
    return not any(path.is_relative_to(folder) for folder in _LIBRARIES)


def shorten(item: pytest.Item, excinfo: pytest.ExceptionInfo[BaseException]) -> bool:
    """Leave only the lines of tests in a traceback; tells whether there are any, and without any leaves all."""
    kept: TracebackType | None = None
    for entry in reversed(_entries(excinfo.tb)):
        path = Path(entry.tb_frame.f_code.co_filename)
        if path == item.path or is_test(path):
            kept = TracebackType(kept, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    if kept is not None:
        excinfo.traceback = type(excinfo.traceback)(kept)
    return kept is not None


def words(error: BaseException) -> str:
    """Give an exception's own words, with its notes."""
    return "\n".join([str(error) or type(error).__name__, *getattr(error, "__notes__", ())])


def reason_of(line: str) -> str:
    """Give the one line of a record that says why, bounded and printable."""
    return clipped(printable(line), _REASON_LIMIT)


def detail_of(text: str) -> str:
    """Give what a record tells at length, bounded and printable."""
    return clipped(printable(text), _DETAIL_LIMIT)


def _entries(trace: TracebackType | None) -> list[TracebackType]:
    entries = []
    while trace is not None:
        entries.append(trace)
        trace = trace.tb_next
    return entries
