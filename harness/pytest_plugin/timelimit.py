# SPDX-License-Identifier: GPL-2.0-or-later
"""Time limits: whether the guest or the test itself is to blame depends on where the time was spent."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from harness.guest.ssh import GuestTimeout
from harness.pytest_plugin.options import RUN


class TestHung(Exception):
    """A test took too long on its own, not waiting for the guest."""

    __test__ = False  # pytest would collect it by its name


@contextmanager
def time_limit(item: pytest.Item) -> Iterator[None]:
    """Raise in the block when the test's or the run's time is over, whichever is first."""
    run = item.config.stash[RUN]
    mark = item.get_closest_marker("test_timeout")
    own = float(mark.args[0]) if mark else run.test_timeout
    last = run.deadline.remaining() < own
    seconds = min(run.deadline.remaining(), own)

    def ring(_number: int, frame: FrameType | None) -> None:
        if last:
            raise run.out_of_time()
        if _waits_for_guest(frame):
            raise GuestTimeout(f"the test still waited for the guest after {seconds:g} s")
        raise TestHung(f"the test still ran after {seconds:g} s, without waiting for the guest")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(0.001, seconds))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _waits_for_guest(frame: FrameType | None) -> bool:
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith(("harness.guest", "harness.qemu", "harness.machine")):
            return True
        frame = frame.f_back
    return False
