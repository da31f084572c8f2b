# SPDX-License-Identifier: GPL-2.0-or-later
"""BARs: their sizes, and what reads and writes in them do."""

from __future__ import annotations

import pytest
from functions import SCRATCH, function
from lane_helpers import StartLane, fresh

from harness.device.config_space import Bar, Identity
from harness.device.device import Device
from harness.machine.lane import Lane

IDENTITY = Identity(0x1B36, 0x0ABC)


@pytest.fixture(scope="module")
def shared(start_shared: StartLane) -> Lane:
    """A QEMU with a function whose BAR 0 has registers of every kind."""
    return start_shared(function(chain=[]))


@pytest.fixture
def lane(shared: Lane) -> Lane:
    """The same, after a reset."""
    return fresh(shared)


@pytest.fixture
def bar(lane: Lane) -> int:
    """The address of BAR 0."""
    return lane.board.place_bars(lane.function())[0]


def test_each_bar_is_as_large_as_declared_whatever_is_beside_it(start: StartLane) -> None:
    bars = {0: Bar(0x1000), 1: Bar(0x4000), 2: Bar(0x100000), 3: Bar(0x10000), 5: Bar(0x1000)}
    seen = start(Device(IDENTITY, [], bars)).function()
    assert [seen.bar_size(index) for index in range(6)] == [0x1000, 0x4000, 0x100000, 0x10000, 0, 0x1000]


def test_a_bar_of_64_bits_can_be_placed_above_4_gib(start: StartLane) -> None:
    device = Device(IDENTITY, [], {2: Bar(0x1000, SCRATCH, width=64, prefetchable=True)})
    lane = start(device)
    port, seen = lane.board.function(0, 8), lane.function()
    assert seen.read(0x18) & 0xF == 0xC
    port.write(0x24, 0x0001_0001 | 0xFFF0_0000)  # prefetchable window, 64 bits, its low part
    port.write(0x28, 0x8)
    port.write(0x2C, 0x8)
    seen.place_bar(2, 0x8_0000_0000)
    seen.enable()
    assert lane.qtest.read(0x8_0000_0000) == 0x11223344


def test_an_io_bar_answers_at_its_ports(start: StartLane) -> None:
    device = Device(IDENTITY, [], {1: Bar(0x20, SCRATCH, kind="io")})
    lane = start(device)
    port, seen = lane.board.function(0, 8), lane.function()
    assert seen.read(0x14) & 1
    port.write(0x1C, 0xC0C0, 2)  # I/O window 0xc000 to 0xcfff
    port.enable(1)
    seen.write(0x14, 0xC000)
    seen.enable(1)
    assert lane.qtest.port_in(0xC000) == 0x11223344
    lane.qtest.port_out(0xC004, 0xCAFEF00D)
    assert device.bars[1]["free"] == 0xCAFEF00D


def test_a_bar_that_is_not_enabled_answers_to_nobody(lane: Lane, bar: int) -> None:
    (device,) = lane.devices
    lane.function().enable(0)
    assert lane.qtest.read(bar) != 0x11223344
    assert device.log.reads(0) == []
    lane.function().enable(2)
    assert lane.qtest.read(bar) == 0x11223344


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_a_register_is_read_with_any_width(lane: Lane, bar: int, size: int) -> None:
    assert lane.qtest.read(bar + 0x10, size) == 0x0123456789ABCDEF & (1 << 8 * size) - 1  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_a_register_is_written_with_any_width_and_nothing_beside_it(lane: Lane, bar: int, size: int) -> None:
    lane.qtest.write(bar + 0x10, 0, size)  # type: ignore[arg-type]
    rest = 0x0123456789ABCDEF >> 8 * size << 8 * size if size < 8 else 0
    assert lane.qtest.read(bar + 0x10, 8) == rest


@pytest.mark.parametrize(
    ("offset", "written", "holds"),
    [
        (0x00, 0, 0x11223344),
        (0x04, 0, 0),
        (0x08, 0, 0xAAAA0000),
        (0x0C, 0x5, 0xFA),
        (0x0C, 0, 0xFF),
        (0x0C, 0xF0, 0xFF),
    ],
)
def test_bits_are_read_only_or_writable_or_cleared_by_ones(
    lane: Lane, bar: int, offset: int, written: int, holds: int
) -> None:
    lane.qtest.write(bar + offset, written)
    assert lane.qtest.read(bar + offset) == holds


def test_where_no_register_is_zeros_are_read_and_writes_are_dropped(lane: Lane, bar: int) -> None:
    lane.qtest.write(bar + 0x800, 0xFFFFFFFF)
    assert lane.qtest.read(bar + 0x800) == 0


def test_a_write_has_happened_when_the_next_read_is_answered(lane: Lane, bar: int) -> None:
    """Memory writes are posted: QEMU wants no answer to them."""
    for value in range(200):
        lane.qtest.write(bar + 4, value)
        assert lane.qtest.read(bar + 4) == value


def test_the_log_tells_every_access_with_its_value(lane: Lane, bar: int) -> None:
    (device,) = lane.devices
    since = device.log.mark()
    lane.qtest.write(bar + 4, 0x99, 1)
    lane.qtest.read(bar + 4, 4)
    (write,) = device.log.writes(0, 4, since=since)
    (read,) = device.log.reads(0, 4, since=since)
    assert (write.offset, write.length, write.value) == (4, 1, 0x99)
    assert (read.offset, read.length, read.value) == (4, 4, 0x55667799)
    assert read.time >= write.time


def test_hooks_see_reads_and_writes_before_they_are_answered(start: StartLane) -> None:
    device = function(chain=[])
    lane = start(device)
    bar = lane.board.place_bars(lane.function())[0]
    seen: list[tuple[int, int]] = []
    device.bars[0].on_read("fixed", lambda _: len(seen) + 7)
    device.bars[0].on_write("free", lambda index, value: seen.append((index, value)))
    assert lane.qtest.read(bar) == 7
    lane.qtest.write(bar + 4, 0x1234)
    assert (lane.qtest.read(bar), seen) == (8, [(0, 0x1234)])
