# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs with several workers (pytest-xdist): one run folder, one deadline, no survivors; and an honest JUnit file."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from harness.pytest_plugin.options import RUN
from harness.report import junit

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker, before it starts, which run it belongs to."""
    run = node.config.stash[RUN]
    node.workerinput["iov_run_dir"] = str(run.planned)
    node.workerinput["iov_deadline"] = run.deadline.remaining()
    node.workerinput["iov_controller"] = os.getpid()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """In a worker: die with the controller, instead of five seconds later, and with it every QEMU."""
    given: dict[str, Any] | None = getattr(session.config, "workerinput", None)
    if given is None:
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != given["iov_controller"]:
        os._exit(1)  # it died before we asked
    session.config.stash[RUN].join(given)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, object, object]:
    """Once pytest has written its JUnit file, put every outcome under the tag that it means."""
    result = yield
    xml: str | None = getattr(session.config.option, "xmlpath", None)
    if xml and not hasattr(session.config, "workerinput") and Path(xml).is_file():
        junit.settle(Path(xml))
    return result
