# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs with several workers (pytest-xdist): one run folder, one deadline, no survivors, and nothing that gets lost."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Generator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from harness import paths
from harness.machine import record, room
from harness.outcome import Outcome, Verdict
from harness.pytest_plugin.options import RUN, Run
from harness.pytest_plugin.telling import OUTCOME, detail_of
from harness.report import junit

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker, before it starts, which run it belongs to."""
    run = node.config.stash[RUN]
    node.workerinput["iov_run_dir"] = str(run.planned)
    node.workerinput["iov_deadline"] = run.deadline.remaining()
    node.workerinput["iov_controller"] = os.getpid()


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> Generator[None, int, int]:
    """For `-n auto`: a worker for each core that we may use, and each with memory for a guest."""
    chosen = yield
    ours = config.getoption("--run-dir") is not None or config.rootpath == paths.data_root()
    if not ours or "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return chosen
    return room.guests()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """In a worker: become part of the controller's run. A run of `harness test` ends by SIGTERM as by Ctrl-C."""
    given = _given(session.config)
    if given is not None or session.config.getoption("--run-dir") is not None:
        signal.signal(signal.SIGTERM, _interrupt)
    if given is not None:
        session.config.stash[RUN].join(given)


def _interrupt(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # whoever told the whole group tells us twice: `harness test` passes it on
    raise KeyboardInterrupt


def pytest_collection_finish(session: pytest.Session) -> None:
    """In a worker that will boot machines: die with the controller, instead of five seconds later."""
    given = _given(session.config)
    if given is None or not any(item.get_closest_marker("machine") for item in session.items):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != given["iov_controller"]:
        os._exit(1)  # it died before we asked


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, object, object]:
    """Once pytest has written its JUnit file, put every outcome under the tag that it means."""
    result = yield
    xml: str | None = getattr(session.config.option, "xmlpath", None)
    ours = session.config.stash[RUN].planned.is_dir()
    if xml and ours and _given(session.config) is None and Path(xml).is_file():
        junit.settle(Path(xml))
    return result


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """In the one process that sees all: write the records of what no test case could."""
    if config.stash[RUN].records_all and _given(config) is None:
        config.pluginmanager.register(_Unrecorded(config.stash[RUN]))


class _Unrecorded:
    """Holds a file that cannot be collected, and a test whose worker died under it, to be what they are: an ERROR."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._seen: set[str] = set()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Take what became of collecting a file, once however many workers tell it."""
        if report.failed and report.nodeid not in self._seen:
            self._seen.add(report.nodeid)
            self._save(report.nodeid, "collect", report.longreprtext)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what became of a test: only a worker that lived has given it an outcome."""
        if report.failed and not hasattr(report, OUTCOME):
            report.__dict__[OUTCOME] = str(Outcome.ERROR)
            report.user_properties.append(("outcome", str(Outcome.ERROR)))
            self._save(report.nodeid, str(report.when), report.longreprtext)

    def _save(self, nodeid: str, phase: str, text: str) -> None:
        detail = detail_of(text)
        reason = (detail.strip().splitlines() or [phase])[-1]
        verdict = Verdict(test=nodeid, outcome=Outcome.ERROR, reason=reason, phase=phase, detail=detail)
        verdict.save(record.folder_for(self._run.directory, nodeid))


def _given(config: pytest.Config) -> dict[str, Any] | None:
    """Give what a controller told this worker; None where this is no worker."""
    given: dict[str, Any] | None = getattr(config, "workerinput", None)
    return given
