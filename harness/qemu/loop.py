# SPDX-License-Identifier: GPL-2.0-or-later
"""One event loop in one long-lived thread per process.

qemu.qmp is asyncio and tests are synchronous; and a parent-death signal follows the thread that forked. So one thread
that lives as long as the process owns QMP and starts every QEMU.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from harness.deadline import Deadline

T = TypeVar("T")


class LoopThread:
    """A running event loop, to be used from other threads."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="iov-harness-loop", daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Let `work` run in the loop, without waiting for it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def call(self, work: Coroutine[Any, Any, T], deadline: Deadline) -> T:
        """Run `work` in the loop and give its result; raises `DeadlineExpired`, and then `work` has been cancelled."""
        future = self.start(_within(work, deadline))
        try:
            return future.result()
        finally:
            future.cancel()


async def _within(work: Coroutine[Any, Any, T], deadline: Deadline) -> T:
    seconds = deadline.remaining()
    try:
        async with asyncio.timeout(seconds if math.isfinite(seconds) else None) as limit:
            return await work
    except TimeoutError:
        if limit.expired():
            raise deadline.error() from None
        raise  # not ours: `work` itself raised it


_making = threading.Lock()
_made: list[LoopThread] = []


def the_loop() -> LoopThread:
    """Give this process's loop, the same one to every thread."""
    with _making:
        if not _made:
            _made.append(LoopThread())
        return _made[0]
