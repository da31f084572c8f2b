# SPDX-License-Identifier: GPL-2.0-or-later
"""The SIOV device: SDIs, their doorbells, and what a function-level reset does to them."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest
from lane_helpers import StartLane, fresh

from harness.deadline import Deadline
from harness.device import device as device_module
from harness.device.capabilities import SIOV
from harness.device.log import Kind
from harness.device.siov import COMPLETION, DESCRIPTOR, DOORBELLS, IDENTIFICATION, MSIX, REGISTERS, Error, SiovDevice
from harness.machine.lane import Lane

SOURCE, DESTINATION, COMPLETED, QUEUE, MAILBOX = 0x100000, 0x200000, 0x300000, 0x400000, 0x500000
NOWHERE = 0x40000000
"""Above the machine's 64 MiB."""
DATA = bytes(range(256)) * 16


@dataclass
class Board:
    """The SIOV device with its BARs placed, and MSI-X vector `n` writing `0x1000 + n` to the mailbox's `n`th dword."""

    lane: Lane
    device: SiovDevice
    bars: dict[int, int]

    def register(self, name: str) -> int:
        return self.lane.qtest.read(self.bars[REGISTERS] + self.device.bars[REGISTERS].register(name).offset)

    def set(self, name: str, value: int) -> None:
        self.lane.qtest.write(self.bars[REGISTERS] + self.device.bars[REGISTERS].register(name).offset, value)

    def enable(self, sdi: int, *, enabled: bool = True) -> None:
        self.set("select", sdi)
        self.set("control", int(enabled))

    def status(self) -> int:
        return self.lane.function().read(self.device.config.find(SIOV) + 0xB, 1)

    def ring(self, sdi: int, *, source: int = SOURCE, length: int = len(DATA), vector: int = 0, tag: int = 7) -> None:
        self.lane.qtest.write_bytes(QUEUE, DESCRIPTOR.pack(source, DESTINATION, COMPLETED, length, vector, tag))
        self.lane.qtest.write(self.bars[DOORBELLS] + 4 * sdi, QUEUE >> 6)

    def completion(self) -> tuple[int, ...]:
        """Wait for the completion of the copy that was rung for."""
        self.device.log.wait(lambda entry: entry.kind is Kind.DMA_WRITE and entry.offset == COMPLETED)
        return COMPLETION.unpack(self.lane.qtest.read_bytes(COMPLETED, COMPLETION.size))

    def flr(self) -> None:
        at = self.device.config.register("device_control").offset
        self.lane.function().write(at, 0x8000, 2)


@pytest.fixture(scope="module")
def shared(start_shared: StartLane) -> Lane:
    """A QEMU with a device of 300 SDIs."""
    return start_shared(SiovDevice(total_sdis=300, first_sdi_offset=16, sdi_stride=3))


@pytest.fixture
def board(shared: Lane) -> Board:
    """The device with 300 SDIs, after a reset."""
    return placed(fresh(shared))


def placed(lane: Lane) -> Board:
    (device,) = lane.devices
    assert isinstance(device, SiovDevice)
    bars = lane.board.place_bars(lane.function())
    lane.qtest.write_bytes(SOURCE, DATA)
    lane.qtest.write_bytes(COMPLETED, bytes(COMPLETION.size))
    lane.qtest.write_bytes(MAILBOX, bytes(4 * device.vectors))
    for vector in range(device.vectors):
        for offset, value in enumerate((MAILBOX + 4 * vector, 0, 0x1000 + vector, 0)):
            lane.qtest.write(bars[MSIX] + 16 * vector + 4 * offset, value)
    lane.function().write(device.config.register("msix_control").offset, 0x8000, 2)
    return Board(lane, device, bars)


def test_it_says_what_it_is_and_how_many_sdis_it_has(board: Board) -> None:
    assert (board.register("identification"), board.register("total_sdis")) == (IDENTIFICATION, 300)
    assert board.register("enabled_sdis") == 0


def test_status_says_whether_any_sdi_is_enabled(board: Board) -> None:
    seen = [board.status()]
    for sdi, enabled in ((0, True), (299, True), (0, False), (299, False)):
        board.enable(sdi, enabled=enabled)
        seen.append(board.status())
    assert seen == [0, 1, 1, 1, 0]


def test_other_bits_of_status_stay_what_they_were(start: StartLane) -> None:
    board = placed(start(SiovDevice(siov_status=0xA4)))
    board.enable(1)
    assert board.status() == 0xA5
    board.flr()
    assert board.status() == 0xA4


def test_what_was_active_at_power_on_is_so_until_a_function_level_reset(start: StartLane) -> None:
    board = placed(start(SiovDevice(siov_status=1)))
    assert (board.status(), board.register("enabled_sdis")) == (1, 0)
    board.flr()
    assert board.status() == 0


@pytest.mark.parametrize("sdi", [0, 1, 255, 299])
def test_an_sdi_is_enabled_and_counted_and_the_others_are_not(board: Board, sdi: int) -> None:
    board.enable(sdi)
    assert (board.register("control"), board.register("enabled_sdis")) == (1, 1)
    board.set("select", (sdi + 1) % 300)
    assert board.register("control") == 0
    assert board.device.enabled == {sdi}


def test_the_routing_id_of_an_sdi_is_offset_and_stride_from_the_pf(board: Board) -> None:
    board.set("select", 5)
    assert board.register("routing_id") == 16 + 5 * 3


@pytest.mark.parametrize("sdi", [300, 0xFFFF])
def test_an_sdi_that_there_is_not_is_an_error_that_can_be_cleared(board: Board, sdi: int) -> None:
    board.enable(sdi)
    assert (board.register("error"), board.register("enabled_sdis"), board.status()) == (Error.NO_SUCH_SDI, 0, 0)
    board.set("error", Error.NO_SUCH_SDI)
    assert board.register("error") == 0


@pytest.mark.parametrize(("sdi", "vector"), [(0, 0), (299, 7)])
def test_a_doorbell_copies_memory_and_raises_its_vector(board: Board, sdi: int, vector: int) -> None:
    board.enable(sdi)
    board.ring(sdi, vector=vector, tag=0x1234)
    assert board.completion() == (0x1234, 0, len(DATA))
    assert board.lane.qtest.read_bytes(DESTINATION, len(DATA)) == DATA
    deadline = Deadline(5.0, f"vector {vector}")
    while board.lane.qtest.read(MAILBOX + 4 * vector) != 0x1000 + vector:
        deadline.check()
    board.set("select", sdi)
    assert board.register("completions") == 1


def test_the_doorbell_of_an_sdi_that_is_not_enabled_does_nothing_but_an_error(board: Board) -> None:
    board.enable(3)
    board.ring(4)
    assert board.register("error") == Error.NOT_ENABLED
    assert not [entry for entry in board.device.log if entry.kind is Kind.DMA_READ]


def test_a_source_that_is_not_there_is_told_in_the_completion(board: Board) -> None:
    board.enable(0)
    board.ring(0, source=NOWHERE, tag=9)
    assert board.completion() == (9, Error.DMA, 0)
    assert board.register("error") == Error.DMA


def test_a_copy_that_is_too_long_is_refused(board: Board) -> None:
    board.enable(0)
    board.ring(0, length=(1 << 20) + 1)
    assert board.completion()[1] == Error.TOO_LONG


def test_a_vector_that_there_is_not_is_refused(board: Board) -> None:
    board.enable(0)
    board.ring(0, vector=8)
    assert board.completion()[1] == Error.NO_SUCH_VECTOR
    assert not [entry for entry in board.device.log if entry.kind is Kind.INTERRUPT]


def test_a_function_level_reset_stops_all_sdis(board: Board) -> None:
    for sdi in (0, 7, 299):
        board.enable(sdi)
    board.flr()
    assert (board.status(), board.device.enabled) == (0, frozenset())
    board.lane.board.place_bars(board.lane.function())
    assert board.register("enabled_sdis") == 0
    board.ring(7)
    assert board.register("error") == Error.NOT_ENABLED


def test_doorbells_that_are_rung_while_memory_is_copied_cost_nothing(board: Board) -> None:
    """QEMU 11.1 loses what of an answer the socket does not take at once, which posted writes may have filled."""
    board.enable(0)
    board.ring(0, length=1 << 20)
    enough = Deadline(0.3, "")
    while not enough.expired:
        board.lane.qtest.write(board.bars[DOORBELLS], QUEUE >> 6)
    assert board.device.is_connected
    assert board.register("identification") == IDENTIFICATION
    assert board.completion() == (7, 0, 1 << 20)
    board.flr()


@pytest.mark.parametrize("stop", ["flr", "disable"])
def test_a_copy_that_is_under_way_is_stopped_within_a_message(board: Board, stop: str) -> None:
    board.enable(0)
    board.ring(0, length=1 << 20)
    board.device.log.wait(lambda entry: entry.kind is Kind.DMA_READ and entry.offset >= SOURCE + 0x20000)
    if stop == "flr":
        board.flr()
    else:
        board.enable(0, enabled=False)
    assert board.status() == 0
    since = board.device.log.mark()
    board.device.later(lambda: board.device.log.add(Kind.CONNECTED))  # stands behind the copy
    board.device.log.wait(lambda entry: entry.kind is Kind.CONNECTED, since=since)
    after = [entry for entry in board.device.log.entries(since=since) if entry.kind in (Kind.DMA_READ, Kind.DMA_WRITE)]
    assert len(after) <= 1
    assert board.lane.qtest.read_bytes(COMPLETED, COMPLETION.size) == bytes(COMPLETION.size)


def test_more_doorbells_than_a_device_can_keep_are_an_error(start: StartLane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "MOST_JOBS", 2)
    board = placed(start(SiovDevice()))
    board.enable(0)
    begun, go_on = threading.Event(), threading.Event()

    def busy() -> None:
        begun.set()
        go_on.wait(20)

    board.device.later(busy)
    assert begun.wait(20)
    for _ in range(4):
        board.ring(0)
    assert board.register("error") == Error.TOO_MANY
    go_on.set()
    board.completion()


def test_without_msix_a_copy_is_told_of_by_its_completion_alone(start: StartLane) -> None:
    device = SiovDevice(vectors=0)
    lane = start(device)
    lane.qtest.write_bytes(SOURCE, DATA)
    board = Board(lane, device, lane.board.place_bars(lane.function()))
    board.enable(1)
    board.ring(1, tag=3)
    assert board.completion() == (3, 0, len(DATA))


@pytest.mark.parametrize("total", [0, 1, 0xFFFF])
def test_there_can_be_any_number_of_sdis(start: StartLane, total: int) -> None:
    board = placed(start(SiovDevice(total_sdis=total)))
    assert board.register("total_sdis") == total
    board.enable(total - 1 if total else 0)
    assert board.register("enabled_sdis") == bool(total)
