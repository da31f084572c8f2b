# SPDX-License-Identifier: GPL-2.0-or-later
"""`--pause-on-failure`: the machine of a test that went wrong is handed to the user before it ends."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from harness.machine import live
from harness.outcome import Verdict
from harness.pytest_plugin.case import Case
from harness.text import printable

OPTION = "--pause-on-failure"
_HAS_TERMINAL = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))
"""Asked while plugins are imported: from then on pytest keeps standard input to itself."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("iov-harness").addoption(
        OPTION,
        action="store_true",
        help="when a test goes wrong, give prompts in its guest and in Python; no -n with it",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to pause where nobody could answer."""
    if not config.getoption(OPTION):
        return
    if config.getoption("numprocesses", None):
        raise pytest.UsageError(f"{OPTION}: workers (-n) have no terminal; run without -n")
    if not _HAS_TERMINAL:
        raise pytest.UsageError(f"{OPTION}: standard input or output is no terminal")


def pause(case: Case, verdict: Verdict) -> None:
    """Hand over the machines that a test used and that are still there, where that is asked for."""
    config = case.item.config
    if not config.getoption(OPTION):
        return
    there = [machine for machine in case.machines if machine.health.exit is None]
    with _terminal(config):
        for machine in there:
            _tell(f"\n{verdict.outcome} {verdict.test}\n{printable(verdict.reason)}")
            live.pause(machine, _tell)


@contextmanager
def _terminal(config: pytest.Config) -> Iterator[None]:
    """Give the terminal back as long as the block lasts; between phases pytest keeps only standard input."""
    capture = config.pluginmanager.getplugin("capturemanager")
    capture.suspend_global_capture(in_=True)
    try:
        yield
    finally:
        capture.resume_global_capture()
        capture.suspend_global_capture(in_=False)


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
