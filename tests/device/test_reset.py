# SPDX-License-Identifier: GPL-2.0-or-later
"""What a reset leaves of a function's registers, and what of an access log."""

from __future__ import annotations

import pytest
from functions import everything, function
from lane_helpers import StartLane

from harness.device import capabilities
from harness.device.log import Kind
from harness.machine.lane import Lane

INITIATE_FLR = 0x8000
RESET_CONTROL = 0xCF9  # of the ICH9: 6 resets the machine


@pytest.fixture
def lane(start: StartLane) -> Lane:
    """A function with every capability, whose registers have been written to."""
    made = start(function())
    bar = made.board.place_bars(made.function())[0]
    made.qtest.write(bar + 0x04, 1)
    made.qtest.write(bar + 0x18, 0xFF)
    assert made.qtest.read(bar + 0x18) == 0xFF  # both have arrived
    return made


def flr(lane: Lane) -> None:
    at = lane.devices[0].config.register("device_control").offset
    lane.function().write(at, lane.function().read(at, 2) | INITIATE_FLR, 2)


def test_a_function_level_reset_takes_registers_back_but_for_sticky_bits(lane: Lane) -> None:
    (device,) = lane.devices
    assert (device.bars[0]["free"], device.bars[0]["kept"]) == (1, 0xFF)
    flr(lane)
    assert (device.bars[0]["free"], device.bars[0]["kept"]) == (0x55667788, 0xF1)
    assert device.config["command"] == 0


def test_the_bit_that_initiates_it_reads_as_zero(lane: Lane) -> None:
    flr(lane)
    assert lane.function().read(lane.devices[0].config.register("device_control").offset, 2) & INITIATE_FLR == 0


def test_a_function_without_it_takes_no_notice(start: StartLane) -> None:
    chain = [capabilities.express_endpoint(flr=False), *everything()[1:]]
    lane = start(function(chain=chain))
    bar = lane.board.place_bars(lane.function())[0]
    lane.qtest.write(bar + 4, 1)
    flr(lane)
    assert lane.qtest.read(bar + 4) == 1
    assert not [entry for entry in lane.devices[0].log if entry.kind is Kind.FLR]


def test_each_reset_is_in_the_log_as_what_it_was(lane: Lane) -> None:
    (device,) = lane.devices
    since = device.log.mark()
    flr(lane)
    assert [one.kind for one in device.log.entries(since=since) if one.kind in (Kind.FLR, Kind.RESET)] == [Kind.FLR]
    lane.qtest.port_out(RESET_CONTROL, 6, 1)
    device.log.wait(lambda entry: entry.kind is Kind.RESET, since=since)


def test_a_reset_of_the_machine_resets_the_device(lane: Lane) -> None:
    (device,) = lane.devices
    since = device.log.mark()
    lane.qtest.port_out(RESET_CONTROL, 6, 1)
    device.log.wait(lambda entry: entry.kind is Kind.RESET, since=since)
    assert device.bars[0]["free"] == 0x55667788


def test_a_model_is_told_which_reset_it_was(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Kind] = []
    monkeypatch.setattr(lane.devices[0], "on_reset", told.append)
    flr(lane)
    assert told == [Kind.FLR]
