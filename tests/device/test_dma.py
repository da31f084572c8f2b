# SPDX-License-Identifier: GPL-2.0-or-later
"""DMA by a Python device: QEMU reads and writes the machine's memory for it."""

from __future__ import annotations

import random
import threading

import pytest
from functions import function
from lane_helpers import StartLane, fresh

from harness.deadline import Deadline
from harness.device.device import Device, DmaError
from harness.errors import ModelFailed
from harness.machine.lane import Lane

RAM = 64 << 20
PLACE = 0x200000


@pytest.fixture(scope="module")
def shared(start_shared: StartLane) -> Lane:
    """A QEMU with a function that may do DMA."""
    return start_shared(function(chain=[]))


@pytest.fixture
def lane(shared: Lane) -> Lane:
    """The same, after a reset, and with nothing in the memory that is looked at."""
    made = fresh(shared)
    made.board.place_bars(made.function())
    made.qtest.write_bytes(PLACE - 0x1000, bytes(0x60000))
    return made


@pytest.fixture
def device(lane: Lane) -> Device:
    """The function."""
    return lane.devices[0]


@pytest.mark.parametrize(
    ("address", "count"), [(PLACE, 1), (PLACE + 3, 7), (PLACE + 0xFFE, 4), (PLACE, 4096), (PLACE + 1, 300_000)]
)
def test_memory_is_read_as_it_is(lane: Lane, device: Device, address: int, count: int) -> None:
    data = random.Random(count).randbytes(count)  # noqa: S311 - bytes that are not all alike
    lane.qtest.write_bytes(address, data)
    assert device.dma_read(address, count) == data


@pytest.mark.parametrize(
    ("address", "count"), [(PLACE, 1), (PLACE + 3, 7), (PLACE + 0xFFE, 4), (PLACE, 4096), (PLACE + 1, 300_000)]
)
def test_memory_is_written_and_nothing_beside_it(lane: Lane, device: Device, address: int, count: int) -> None:
    data = random.Random(count).randbytes(count)  # noqa: S311 - bytes that are not all alike
    device.dma_write(address, data)
    assert lane.qtest.read_bytes(address - 1, count + 2) == b"\0" + data + b"\0"


def test_more_than_one_message_takes_is_moved_in_several(device: Device) -> None:
    data = random.Random(3).randbytes((2 << 20) + 5)  # noqa: S311 - bytes that are not all alike
    device.dma_write(PLACE, data)
    assert device.dma_read(PLACE, len(data)) == data


@pytest.mark.parametrize("address", [RAM, 0xA00000000, (1 << 64) - 8])
def test_where_no_memory_is_dma_fails(device: Device, address: int) -> None:
    with pytest.raises(DmaError):
        device.dma_read(address, 8)
    with pytest.raises(DmaError):
        device.dma_write(address, bytes(8))


def test_memory_that_ends_within_is_not_enough(device: Device) -> None:
    with pytest.raises(DmaError):
        device.dma_read(RAM - 4, 8)


def test_without_bus_mastering_there_is_no_dma(lane: Lane, device: Device) -> None:
    lane.function().enable(2)
    with pytest.raises(DmaError, match="bus mastering is not enabled"):
        device.dma_read(PLACE, 4)


def test_dma_goes_on_while_software_reads_registers(start: StartLane) -> None:
    device = function(chain=[])
    lane = start(device)
    bar = lane.board.place_bars(lane.function())[0]
    done = threading.Event()
    device.bars[0].on_write("free", lambda *_: device.later(copy))

    def copy() -> None:
        for number in range(100):
            device.dma_write(PLACE + 4 * number, device.dma_read(PLACE - 4, 4))
        done.set()

    lane.qtest.write(PLACE - 4, 0xC0FFEE)
    lane.qtest.write(bar + 4, 1)
    deadline = Deadline(20.0, "a hundred copies")
    while not done.is_set():
        deadline.check()
        lane.check()
        assert lane.qtest.read(bar) == 0x11223344
    assert lane.qtest.read(PLACE + 4 * 99) == 0xC0FFEE


def test_dma_in_a_hook_is_refused_at_once_with_the_way_out(start: StartLane) -> None:
    device = function(chain=[])
    device.bars[0].on_write("free", lambda *_: device.dma_write(PLACE, b"x"))
    lane = start(device)
    bar = lane.board.place_bars(lane.function())[0]
    lane.qtest.write(bar + 4, 1)
    assert lane.qtest.read(bar) == 0x11223344
    with pytest.raises(ModelFailed, match=r"DMA in a hook would wait for QEMU.*Device\.later"):
        lane.check()
