# SPDX-License-Identifier: GPL-2.0-or-later
"""MSI-X: a vector is a write to memory, which here is RAM, so that it can be looked at."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from lane_helpers import StartLane

from harness.deadline import Deadline
from harness.device import capabilities
from harness.device.config_space import Bar, Identity
from harness.device.device import Device
from harness.machine.lane import Lane

VECTORS = 4
TABLE, PENDING = 0, 0x800
MAILBOX = 0x100000
ENABLE, MASK_ALL = 0x8000, 0x4000


@dataclass
class Interrupts:
    """A function with MSI-X whose vector `n` writes `0x1000 + n` to the `n`th dword of the mailbox."""

    lane: Lane
    device: Device
    table: int

    def control(self, value: int) -> None:
        self.lane.function().write(self.device.config.register("msix_control").offset, value, 2)

    def mask(self, vector: int, *, masked: bool) -> None:
        self.lane.qtest.write(self.table + 16 * vector + 12, int(masked))

    def pending(self) -> int:
        return self.lane.qtest.read(self.table + PENDING, 8)

    def mailbox(self, vector: int) -> int:
        return self.lane.qtest.read(MAILBOX + 4 * vector)

    def wait(self, vector: int) -> None:
        """Look until a vector has come; each look lets QEMU do what it has to."""
        deadline = Deadline(5.0, f"vector {vector}")
        while self.mailbox(vector) != 0x1000 + vector:
            deadline.check()


@pytest.fixture
def interrupts(start: StartLane) -> Interrupts:
    """MSI-X, set up and enabled, all vectors unmasked."""
    chain = [capabilities.express_endpoint(), capabilities.msix(VECTORS, table_bar=0, pba_bar=0, pba_offset=PENDING)]
    device = Device(Identity(0x1B36, 0x0ABC), chain, {0: Bar(0x1000)})
    lane = start(device)
    table = lane.board.place_bars(lane.function())[0] + TABLE
    made = Interrupts(lane, device, table)
    for vector in range(VECTORS):
        for offset, value in ((0, MAILBOX + 4 * vector), (4, 0), (8, 0x1000 + vector), (12, 0)):
            lane.qtest.write(table + 16 * vector + offset, value)
    made.control(ENABLE)
    return made


@pytest.mark.parametrize("vector", range(VECTORS))
def test_a_vector_writes_its_message(interrupts: Interrupts, vector: int) -> None:
    interrupts.device.interrupt(vector)
    interrupts.wait(vector)
    assert [interrupts.mailbox(other) for other in range(VECTORS) if other != vector] == [0] * (VECTORS - 1)


def test_before_it_is_enabled_a_vector_is_pending_and_comes_when_it_is(interrupts: Interrupts) -> None:
    interrupts.control(0)
    interrupts.device.interrupt(2)
    assert (interrupts.pending(), interrupts.mailbox(2)) == (0b100, 0)
    interrupts.control(ENABLE)
    interrupts.wait(2)
    assert interrupts.pending() == 0


def test_under_the_mask_of_all_a_vector_is_pending_and_comes_when_that_is_lifted(interrupts: Interrupts) -> None:
    interrupts.control(ENABLE | MASK_ALL)
    interrupts.device.interrupt(1)
    assert (interrupts.pending(), interrupts.mailbox(1)) == (0b010, 0)
    interrupts.control(ENABLE)
    interrupts.wait(1)
    assert interrupts.pending() == 0


def test_a_masked_vector_is_held_back_and_comes_once_when_it_is_unmasked(interrupts: Interrupts) -> None:
    interrupts.mask(3, masked=True)
    interrupts.device.interrupt(3)
    interrupts.device.interrupt(3)
    assert interrupts.mailbox(3) == 0
    interrupts.mask(3, masked=False)
    interrupts.wait(3)
    assert interrupts.pending() == 0


def test_without_bus_mastering_a_vector_is_pending_and_comes_when_it_is_enabled(interrupts: Interrupts) -> None:
    interrupts.lane.function().enable(2)
    interrupts.device.interrupt(0)
    assert (interrupts.pending(), interrupts.mailbox(0)) == (0b001, 0)
    interrupts.lane.function().enable(6)
    interrupts.wait(0)
    assert interrupts.pending() == 0


def test_a_vector_that_the_device_has_not_is_its_models_mistake(interrupts: Interrupts) -> None:
    with pytest.raises(ValueError, match="MSI-X vector 4: the device has 4"):
        interrupts.device.interrupt(VECTORS)
