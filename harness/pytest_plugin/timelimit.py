# SPDX-License-Identifier: GPL-2.0-or-later
"""Time limits: whether the guest, the test or nobody is to blame depends on where the time was spent."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from harness.errors import CouldNotRun
from harness.guest.ssh import GuestTimeout
from harness.pytest_plugin.case import Case
from harness.pytest_plugin.options import Run


class TestHung(Exception):
    """A test took too long on its own, not waiting for the guest."""

    __test__ = False  # pytest would collect it by its name


@contextmanager
def run_limit(run: Run) -> Iterator[None]:
    """Raise in the block when the run's time is over."""
    with _alarm(run.deadline.remaining(), lambda _: run.out_of_time()):
        yield


@contextmanager
def time_limit(case: Case, run: Run) -> Iterator[None]:
    """Raise in the block when the test's or the run's time is over, whichever is first."""
    last = run.deadline.remaining() < case.deadline.remaining()

    def late(frame: FrameType | None) -> Exception:
        if last:
            return run.out_of_time()
        seconds = case.deadline.seconds
        if case.booting is not None:
            stage = (run.starter.base or case.booting).health.stage
            return CouldNotRun(f"lost at stage {stage}: no machine after the test's {seconds:g} s", stage=stage)
        if case.fetching:
            return CouldNotRun(f"no {case.fetching} after the test's {seconds:g} s")
        if _waits_for_guest(frame):
            return GuestTimeout(f"the test still waited for the guest after {seconds:g} s")
        return TestHung(f"the test still ran after {seconds:g} s, without waiting for the guest")

    with _alarm(min(run.deadline.remaining(), case.deadline.remaining()), late):
        yield


@contextmanager
def _alarm(seconds: float, late: Callable[[FrameType | None], Exception]) -> Iterator[None]:
    def ring(_number: int, frame: FrameType | None) -> None:
        raise late(frame)

    if not math.isfinite(seconds):
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(0.001, seconds))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _waits_for_guest(frame: FrameType | None) -> bool:
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith(("harness.guest", "harness.qemu")):
            return True
        frame = frame.f_back
    return False
