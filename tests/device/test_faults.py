# SPDX-License-Identifier: GPL-2.0-or-later
"""A device that misbehaves, and what QEMU makes of it: it lives on, and software reads all ones."""

from __future__ import annotations

import time

import pytest
from functions import SCRATCH, function
from lane_helpers import StartLane, fresh

from harness.device.device import CONFIG
from harness.device.log import Kind
from harness.errors import ModelFailed
from harness.machine.lane import Lane

FIXED, FREE = (next(one for one in SCRATCH if one.name == name).value for name in ("fixed", "free"))
ALL_ONES = 0xFFFFFFFF
SERIAL_NUMBER = "serial_number"


@pytest.fixture(scope="module")
def shared(start_shared: StartLane) -> Lane:
    """A QEMU with a function that has a BAR of registers; it waits 0.1 s for answers."""
    return start_shared(function(), x_msg_timeout=100)


@pytest.fixture
def lane(shared: Lane) -> Lane:
    """The same, after a reset."""
    return fresh(shared)


@pytest.fixture
def own_lane(start: StartLane) -> Lane:
    """One of the test's own, for what a device does not come back from."""
    return start(function(), x_msg_timeout=100)


@pytest.fixture
def bar(lane: Lane) -> int:
    """The address of its BAR 0."""
    return lane.board.place_bars(lane.function())[0]


def test_a_device_that_is_gone_answers_all_ones_everywhere_and_takes_no_write(lane: Lane, bar: int) -> None:
    (device,) = lane.devices
    at = device.config.register(SERIAL_NUMBER).offset
    with device.faults.all_ones():
        assert (lane.qtest.read(bar), lane.function().read(at)) == (ALL_ONES, ALL_ONES)
        lane.qtest.write(bar + 4, 0)
        assert lane.qtest.read(bar + 4) == ALL_ONES
    assert (lane.qtest.read(bar), lane.qtest.read(bar + 4)) == (FIXED, FREE)


def test_all_ones_can_be_of_one_region_only(lane: Lane, bar: int) -> None:
    (device,) = lane.devices
    with device.faults.all_ones(CONFIG):
        assert lane.function().read(device.config.register(SERIAL_NUMBER).offset) == ALL_ONES
        assert lane.qtest.read(bar) == FIXED


@pytest.mark.parametrize("times", [1, 3])
def test_a_register_gives_a_wrong_value_so_often(lane: Lane, bar: int, times: int) -> None:
    fault = lane.devices[0].faults.wrong_value(0, 0, 0xBAD, 4, times=times)
    assert [lane.qtest.read(bar) for _ in range(times + 1)] == [0xBAD] * times + [FIXED]
    assert (fault.happened, fault.is_over) == (times, True)


def test_a_register_gives_a_wrong_value_always_and_its_neighbours_do_not(lane: Lane, bar: int) -> None:
    lane.devices[0].faults.wrong_value(0, 1, 0x00, 1)
    assert [lane.qtest.read(bar) for _ in range(5)] == [0x11220044] * 5
    assert lane.qtest.read(bar + 4) == FREE


def test_a_wrong_value_of_configuration_space_reaches_software(lane: Lane) -> None:
    (device,) = lane.devices
    at = device.config.register("siov_total_sdis").offset
    device.faults.wrong_value(CONFIG, at, 0xBEEF, 2, times=1)
    assert [lane.function().read(at, 2) for _ in range(2)] == [0xBEEF, 16]


def test_an_answer_can_be_late(lane: Lane, bar: int) -> None:
    with lane.devices[0].faults.delay(0.05, 0):
        started = time.monotonic()
        assert lane.qtest.read(bar) == FIXED
        assert time.monotonic() - started >= 0.05


def test_an_answer_that_is_too_late_costs_the_device_and_not_qemu(own_lane: Lane) -> None:
    """QEMU 11.1 takes what follows the header of an answer that it awaits no more for the next message."""
    (device,), lane = own_lane.devices, own_lane
    bar = lane.board.place_bars(lane.function())[0]
    since = device.log.mark()
    device.faults.delay(0.2, 0, times=1)
    assert lane.qtest.read(bar) == ALL_ONES
    device.log.wait(lambda entry: entry.kind is Kind.READ and entry.region == 0, since=since)
    assert lane.function().read(0, 2) == 0xFFFF
    assert lane.board.function(0, 8).read(0, 2) == 0x1B36  # the root port is still there


def test_without_an_answer_all_ones_are_read_and_qemu_goes_on(lane: Lane, bar: int) -> None:
    (device,) = lane.devices
    device.faults.no_reply(0, times=1)
    assert lane.qtest.read(bar) == ALL_ONES
    assert lane.qtest.read(bar) == FIXED


def test_a_device_that_is_torn_out_leaves_qemu_alive(own_lane: Lane) -> None:
    (device,), lane = own_lane.devices, own_lane
    bar = lane.board.place_bars(lane.function())[0]
    since = device.log.mark()
    device.disconnect()
    device.log.wait(lambda entry: entry.kind is Kind.DISCONNECTED, since=since)
    assert lane.qtest.read(bar) == ALL_ONES
    assert lane.function().read(device.config.register(SERIAL_NUMBER).offset) == ALL_ONES
    assert lane.board.function(0, 8).read(0, 2) == 0x1B36  # the root port is still there


def test_a_models_mistake_is_raised_where_the_test_can_see_it(start: StartLane) -> None:
    device = function()
    device.bars[0].on_read("fixed", lambda _: 1 // 0)
    lane = start(device)
    lane.qtest.read(lane.board.place_bars(lane.function())[0])
    with pytest.raises(ModelFailed, match="device model Device failed: ZeroDivisionError"):
        lane.check()
    lane.check()  # once is enough
