# SPDX-License-Identifier: GPL-2.0-or-later
"""The fast lane itself: what is said when its QEMU does not start, or ends, and what is left behind."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import psutil
import pytest
from functions import function
from lane_helpers import StartLane

from harness.device import capabilities
from harness.device.capabilities import Capability
from harness.device.registers import LayoutError
from harness.device.vfio_user import server
from harness.errors import ModelFailed
from harness.machine import lane as lanes
from harness.qemu import runtime
from harness.qemu.process import QemuDied


def qemus() -> list[psutil.Process]:
    return [one for one in psutil.Process().children(recursive=True) if one.status() != psutil.STATUS_ZOMBIE]


def test_a_qemu_that_refuses_its_devices_is_told_with_its_words(qemu: Path) -> None:
    told = r"(?s)QEMU ended, exit code 1; it said: .*no-such-property"
    with pytest.raises(QemuDied, match=told), lanes.running(qemu, [function()], no_such_property=1):
        pass


def test_a_qemu_that_ends_meanwhile_is_told(qemu: Path) -> None:
    def end_it() -> None:
        with lanes.running(qemu, [function()]) as lane:
            (process,) = qemus()
            os.kill(process.pid, signal.SIGKILL)
            while True:
                lane.function().read(0)

    with pytest.raises(QemuDied, match="killed by SIGKILL"):
        end_it()


def test_nothing_is_left_of_a_lane(qemu: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are all that is wanted
    for _ in range(3):
        with lanes.running(qemu, [function(), function()]) as lane:
            lane.function(1).read(0)
    assert qemus() == []
    assert len(os.listdir("/proc/self/fd")) <= len(before)  # noqa: PTH208
    assert runtime.abandoned() == []


def test_two_lanes_run_side_by_side(start: StartLane) -> None:
    one, other = start(function()), start(function())
    one.function().write(0x0C, 0x11, 1)
    other.function().write(0x0C, 0x22, 1)
    assert [lane.function().read(0x0C, 1) for lane in (one, other)] == [0x11, 0x22]


def test_a_hook_that_does_not_return_ends_the_lane_with_its_place(qemu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CLOSE_TIMEOUT", 0.1)
    device, never = function(chain=[]), threading.Event()

    def stuck(*_: int) -> None:
        never.wait(60)

    device.bars[0].on_write("free", stuck)
    try:
        with (
            pytest.raises(ModelFailed, match=r"a hook does not return: .*in stuck"),
            lanes.running(qemu, [device]) as lane,
        ):
            lane.qtest.write(lane.board.place_bars(lane.function())[0] + 4, 1)
    finally:
        never.set()


def test_a_job_that_fails_last_of_all_is_told(qemu: Path) -> None:
    device = function(chain=[])
    with pytest.raises(ModelFailed, match="ZeroDivisionError"), lanes.running(qemu, [device]):
        device.later(lambda: 1 // 0)


@pytest.mark.parametrize(
    "chain",
    [
        [capabilities.raw(0x42, b"", version=1), capabilities.serial_number(1)],
        [capabilities.serial_number(1), capabilities.raw(0x42, b"", version=1).placed(0xFFC)],
        [capabilities.serial_number(1).pointing_to(0x104)],
    ],
    ids=["side by side", "at the end", "into itself"],
)
def test_what_would_abort_qemu_cannot_be_declared(chain: list[Capability]) -> None:
    with pytest.raises(LayoutError, match=r"aborts on less than 8|comes back|leads to"):
        function(chain=[capabilities.express_endpoint(), *chain])
