# SPDX-License-Identifier: GPL-2.0-or-later
"""The time that a test waits for something to be fetched: nobody is to blame for it."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.deadline import Deadline
from harness.errors import CouldNotRun, Stage
from harness.pytest_plugin.case import Case
from harness.pytest_plugin.options import Run
from harness.pytest_plugin.timelimit import TestHung, time_limit


@pytest.fixture
def case() -> Case:
    """Give a test that has 50 ms."""
    made = object.__new__(Case)
    made.__dict__.update(fetching="", booting=None, deadline=Deadline(0.05, "the test"))
    return made


RUN: Any = cast(Run, SimpleNamespace(deadline=Deadline(float("inf"), "the run")))


def test_a_test_that_waits_for_a_module_in_vain_is_a_miss(case: Case) -> None:
    message = r"^no module m after the test's 0\.05 s$"
    with pytest.raises(CouldNotRun, match=message) as caught, time_limit(case, RUN), case.waiting_for("module m"):
        time.sleep(20)
    assert caught.value.stage is Stage.PROVISION


def test_once_it_is_there_the_time_is_the_tests_own_again(case: Case) -> None:
    with case.waiting_for("module m"):
        pass
    with pytest.raises(TestHung), time_limit(case, RUN):
        time.sleep(20)
