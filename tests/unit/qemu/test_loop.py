# SPDX-License-Identifier: GPL-2.0-or-later
"""Work in the loop's thread, awaited from another one."""

from __future__ import annotations

import asyncio
import threading

import pytest

from harness.deadline import Deadline, DeadlineExpired
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


@pytest.mark.parametrize("error", [ValueError("x"), TimeoutError("its own"), KeyError("x")])
def test_what_the_work_raises_is_raised(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        the_loop().call(raising(error), soon())
    assert caught.value.args == error.args


def test_work_that_takes_too_long_is_cancelled() -> None:
    cancelled = threading.Event()

    async def long() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(DeadlineExpired, match=r"^the work: nothing within 0\.01 s$"):
        the_loop().call(long(), Deadline(0.01, "the work"))
    assert cancelled.wait(20)


def test_started_work_goes_on_while_nobody_waits() -> None:
    done = threading.Event()

    async def work() -> int:
        done.set()
        return 7

    future = the_loop().start(work())
    assert done.wait(20)
    assert future.result(20) == 7
