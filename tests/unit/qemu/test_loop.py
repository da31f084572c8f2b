# SPDX-License-Identifier: GPL-2.0-or-later
"""Work in the loop's thread, awaited from another one."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future

import pytest

from harness.deadline import Deadline, DeadlineExpired
from harness.qemu import loop
from harness.qemu.loop import the_loop


def soon() -> Deadline:
    return Deadline(20, "the work")


async def name_of_thread() -> str:
    return threading.current_thread().name


async def raising(error: BaseException) -> None:
    raise error


def test_work_is_done_in_the_one_loops_thread() -> None:
    assert the_loop() is the_loop()
    assert the_loop().call(name_of_thread(), soon()) == "iov-harness-loop"
    assert the_loop().start(name_of_thread()).result(20) == "iov-harness-loop"


def test_threads_that_ask_at_the_same_time_get_the_same_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[object] = []
    barrier = threading.Barrier(4)

    def slowly_made() -> object:
        time.sleep(0.05)
        return object()

    def ask() -> None:
        barrier.wait(20)
        found.append(the_loop())

    monkeypatch.setattr(loop, "_made", [])
    monkeypatch.setattr(loop, "LoopThread", slowly_made)
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1


@pytest.mark.parametrize("error", [ValueError("x"), TimeoutError("its own"), KeyError("x")])
def test_what_the_work_raises_is_raised(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        the_loop().call(raising(error), soon())
    assert caught.value.args == error.args


class Endless:
    """Work that never ends by itself."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.cancelled = threading.Event()

    async def work(self) -> None:
        self.started.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def test_work_that_takes_too_long_is_cancelled() -> None:
    endless = Endless()
    with pytest.raises(DeadlineExpired, match=r"^the work: nothing within 0\.01 s$"):
        the_loop().call(endless.work(), Deadline(0.01, "the work"))
    assert endless.cancelled.is_set()


class Rung(Exception):
    """What a time limit raises in whoever waits."""


def test_work_whose_waiter_is_interrupted_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    endless = Endless()

    def ring(*_: object) -> None:
        endless.started.wait(20)
        raise Rung

    monkeypatch.setattr(Future, "result", ring)
    with pytest.raises(Rung):
        the_loop().call(endless.work(), soon())
    assert endless.cancelled.wait(20)


def test_started_work_goes_on_while_nobody_waits() -> None:
    done = threading.Event()

    async def work() -> int:
        done.set()
        return 7

    future = the_loop().start(work())
    assert done.wait(20)
    assert future.result(20) == 7
